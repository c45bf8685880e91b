//! `{"error":{"code","message","hint"}}` with the status code that says the same.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::broker::BrokerError;
use crate::router::PublishError;

#[derive(Debug, Clone)]
pub(super) struct ApiError {
    pub status: StatusCode,
    pub body: ErrorBody,
}

#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub(super) struct ErrorBody {
    /// Stable, for programs.
    pub code: &'static str,
    pub message: String,
    pub hint: String,
}

impl ApiError {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { status, body: ErrorBody { code, message: message.into(), hint: hint.into() } }
    }

    pub(super) fn bad_request(
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message, hint)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response =
            (self.status, Json(serde_json::json!({ "error": self.body }))).into_response();
        let headers = response.headers_mut();
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // What is left of the request was not read, so nothing can follow it.
        if matches!(
            self.status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNAUTHORIZED
        ) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<BrokerError> for ApiError {
    fn from(error: BrokerError) -> Self {
        let status = match &error {
            BrokerError::Topic(_)
            | BrokerError::Key(_)
            | BrokerError::BadToken(_)
            | BrokerError::Invalid(_) => StatusCode::BAD_REQUEST,
            BrokerError::PayloadTooLarge { .. } | BrokerError::MetadataTooLarge { .. } => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            BrokerError::HeadersTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            BrokerError::TooManySubscriptions { .. }
            | BrokerError::TooManyPatterns { .. }
            | BrokerError::TooManySessions { .. }
            | BrokerError::TooManyTopics { .. }
            | BrokerError::TooManyPresences { .. }
            | BrokerError::NamespaceFull { .. }
            | BrokerError::TooManyWatches { .. }
            | BrokerError::Quota { .. }
            | BrokerError::Rate { .. } => StatusCode::TOO_MANY_REQUESTS,
            BrokerError::Superseded
            | BrokerError::NotOwner
            | BrokerError::OlderRevision { .. }
            | BrokerError::NotHere(_) => StatusCode::CONFLICT,
            BrokerError::NotAdmitted(_) => StatusCode::UNAUTHORIZED,
            BrokerError::OtherNamespace | BrokerError::Forbidden(_) => StatusCode::FORBIDDEN,
            BrokerError::NotTracked
            | BrokerError::Publish(PublishError::UnknownNode(_))
            | BrokerError::UnknownSession(_) => StatusCode::NOT_FOUND,
            BrokerError::Publish(PublishError::NotConnected(_)) | BrokerError::Draining => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Self::new(status, error.code(), error.to_string(), error.hint())
    }
}
