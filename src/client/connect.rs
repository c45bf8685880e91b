//! Connections and the streams on them.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use hyper_util::rt::TokioIo;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::ServiceExt;
use tower_service::Service;

use super::message::ClientError;
use super::reader::Reader;
use crate::tls::ClientTls;
use crate::wire::frames::{FrameBody, FrameSource};

const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// What one stream, and one connection, may be sent ahead of what has been read.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;
/// So that a run of 256 KiB comes as one HTTP/2 frame.
const FRAME_SIZE: u32 = 1 << 20;

/// How long to sleep when nothing is due.
pub(crate) const IDLE: Duration = Duration::from_secs(3600);

pub(crate) const OPEN_PATH: &str = "/waxwing.v1.Session/Open";

/// `host:port`, or a URI with a scheme.
pub(crate) fn endpoint(address: &str, timeout: Duration) -> Result<Endpoint, ClientError> {
    let uri =
        if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(uri).map_err(|err| ClientError::BadAddress {
        address: address.to_owned(),
        reason: reason(&err),
    })?;
    if endpoint.uri().port().is_none() {
        return Err(ClientError::BadAddress {
            address: address.to_owned(),
            reason: "expected host:port".to_owned(),
        });
    }
    Ok(endpoint
        .connect_timeout(timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE))
}

/// Connects; with `tls`, to a node that has proved who it is.
pub(crate) async fn channel(
    endpoint: &Endpoint,
    tls: Option<&ClientTls>,
) -> Result<Channel, tonic::transport::Error> {
    let Some(tls) = tls else { return endpoint.connect().await };
    let tls = tls.clone();
    let connector = tower::service_fn(move |uri: Uri| {
        let tls = tls.clone();
        async move {
            let port = uri.port_u16().unwrap_or_default();
            let stream = tls.connect(uri.host().unwrap_or_default(), port).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    endpoint.connect_with_connector(connector).await
}

/// Metadata that goes with every call.
pub(crate) fn metadata(namespace: &str, key: Option<&str>) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    let bad = |what: &str| ClientError::BadAddress {
        address: what.to_owned(),
        reason: "not fit for an HTTP header".to_owned(),
    };
    if !namespace.is_empty() {
        let value = HeaderValue::from_str(namespace).map_err(|_| bad(namespace))?;
        headers.insert("waxwing-namespace", value);
    }
    if let Some(key) = key {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| bad("the key"))?;
        value.set_sensitive(true);
        headers.insert(http::header::AUTHORIZATION, value);
    }
    Ok(headers)
}

/// Opens a session stream. What `source` gives is written as it is.
pub(crate) async fn open<S: FrameSource + Unpin>(
    mut channel: Channel,
    metadata: &HeaderMap,
    source: S,
) -> Result<Reader, Status> {
    let mut request = Request::new(Body::new(FrameBody::request(source)));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = PathAndQuery::from_static(OPEN_PATH).into();
    let headers = request.headers_mut();
    headers.clone_from(metadata);
    headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let broken = |err: tonic::transport::Error| Status::unavailable(reason(&err));
    let response = channel.ready().await.map_err(broken)?.call(request).await.map_err(broken)?;
    let status = Status::from_header_map(response.headers());
    if let Some(status) = status.filter(|status| status.code() != Code::Ok) {
        return Err(status);
    }
    if response.status() != http::StatusCode::OK {
        let message = format!("HTTP status {}: is this a gRPC port?", response.status());
        return Err(Status::unavailable(message));
    }
    Ok(Reader::new(response.into_body()))
}

/// What an error comes from in the end: "connection refused", not four layers of "transport error".
pub(crate) fn reason(err: &(dyn Error + 'static)) -> String {
    let mut cause = err;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    match cause.downcast_ref::<io::Error>() {
        Some(err) if is_out_of_files(err) => TOO_MANY_FILES.to_owned(),
        Some(err) if err.raw_os_error().is_some() => err.kind().to_string(),
        _ => cause.to_string(),
    }
}

/// What `reason` says where this process, not the node, has no file descriptors left.
pub(crate) const TOO_MANY_FILES: &str = "this process has too many open files";

/// EMFILE and ENFILE, which have no kind of their own.
fn is_out_of_files(err: &io::Error) -> bool {
    matches!(err.raw_os_error(), Some(23 | 24))
}

/// A status in words for people.
pub(crate) fn status_reason(status: &Status) -> String {
    match status.message() {
        "" => status.code().to_string(),
        message => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{TOO_MANY_FILES, reason};

    #[test]
    fn why_no_connection_was_made() {
        for (number, said) in [(24, TOO_MANY_FILES), (111, "connection refused")] {
            assert_eq!(reason(&io::Error::from_raw_os_error(number)), said);
        }
    }
}
