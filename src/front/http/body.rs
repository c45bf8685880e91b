//! Reads a request's body within bounds of size and time.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;

use super::error::ApiError;
use crate::metrics::names;

/// A sender of too much is heard out for a little while: one that gets the answer while it still writes would see a broken
/// connection instead.
const HEAR_OUT: Duration = Duration::from_secs(1);
const HEAR_OUT_BYTES_MAX: usize = 16 << 20;

/// The bound of a body, and the limit of the configuration that sets it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub bytes_max: usize,
    pub limit: &'static str,
    pub within: Duration,
}

pub(super) async fn read(mut body: Body, bound: Bound) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(bound.within, collect(&mut body, bound.bytes_max)).await {
        Err(_) => {
            let message = format!("the body did not arrive within {} s", bound.within.as_secs());
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message, ""))
        }
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(Fault::TooLarge)) => {
            let _ = tokio::time::timeout(HEAR_OUT, discard(&mut body)).await;
            metrics::counter!(names::LIMIT_REJECTIONS, "limit" => bound.limit).increment(1);
            let message = format!("the body is larger than the limit of {} bytes", bound.bytes_max);
            let hint = format!("the limit is limits.{}", bound.limit);
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message, hint))
        }
        Ok(Err(Fault::Broken)) => {
            Err(ApiError::bad_request("bad_body", "the body broke off or is malformed", ""))
        }
    }
}

enum Fault {
    TooLarge,
    Broken,
}

async fn collect(body: &mut Body, bytes_max: usize) -> Result<Bytes, Fault> {
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Fault::TooLarge);
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Fault::Broken)?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > bytes_max {
            return Err(Fault::TooLarge);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

async fn discard(body: &mut Body) {
    let mut seen = 0;
    while let Some(Ok(frame)) = body.frame().await {
        seen += frame.data_ref().map_or(0, Bytes::len);
        if seen > HEAR_OUT_BYTES_MAX {
            return;
        }
    }
}
