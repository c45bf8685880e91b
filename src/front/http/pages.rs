//! What observers read.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::backend::Backend;
use super::error::ApiError;
use crate::broker::{Pass, bearer};

type Shared = State<Arc<dyn Backend>>;

const INDEX: &str = "\
This is a waxwing node: pub/sub and presence without a broker in the middle.

GET  /status                        everything about this node and its cluster, as JSON
GET  /metrics                       for Prometheus
GET  /healthz                       200 while the process lives
GET  /readyz                        200 while this node takes clients; 503 otherwise, with the reason for those who may observe
POST /v1/topics/{topic}/publish     the body is the payload; header Waxwing-Event; ?confirm=none|node|cluster
POST /v1/publish                    [{\"topic\",\"payload\"|\"payload_base64\",\"event\",\"headers\"}, ...]
GET  /v1/topics/{topic}/presence    who is there; ?key=&limit=&page=
GET  /v1/topics/{topic}/presence/count
PUT  /v1/topics/{topic}/presence/{key}/{id}    the body is the metadata; ?ttl=30s, and again before it is over
DELETE /v1/topics/{topic}/presence/{key}/{id}

curl -d hello localhost:7402/v1/topics/room:1/publish
";

pub(super) async fn index() -> &'static str {
    INDEX
}

pub(super) async fn status(State(backend): Shared, Extension(pass): Extension<Pass>) -> Response {
    if let Err(error) = pass.may_observe() {
        return ApiError::from(error).into_response();
    }
    let report = backend.status();
    match serde_json::to_vec_pretty(&report) {
        Ok(mut json) => {
            json.push(b'\n');
            ([(header::CONTENT_TYPE, "application/json")], json).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the report can't be written as JSON");
            let message = "the report can't be written";
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message, "see the log")
                .into_response()
        }
    }
}

pub(super) async fn metrics(
    State(backend): Shared,
    Extension(pass): Extension<Pass>,
) -> Result<Response, ApiError> {
    pass.may_observe()?;
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], backend.metrics()).into_response())
}

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Everybody is told whether; why not, who may look at the node.
pub(super) async fn readyz(
    State(backend): Shared,
    headers: HeaderMap,
) -> Result<&'static str, ApiError> {
    backend.ready().map(|()| "ready\n").map_err(|reason| {
        let shown = headers.get(header::AUTHORIZATION).and_then(|it| bearer(it.as_bytes()));
        let (reason, hint) = if backend.door().lets_observe("http", shown) {
            (reason, "see: waxwing status")
        } else {
            let reason = "this node takes no clients now".to_owned();
            (reason, "a key that may observe is told why: waxwing status")
        };
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", reason, hint)
    })
}

pub(super) async fn not_found() -> ApiError {
    let message = "there is nothing at this path";
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message, "GET / lists what there is")
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let takes = match uri.path().strip_prefix("/v1/topics/") {
        None => "POST",
        Some(path) if path.ends_with("/publish") => "POST",
        Some(path) if path.ends_with("/presence") || path.ends_with("/presence/count") => "GET",
        Some(path) if path.rsplitn(3, '/').nth(2).is_some_and(|it| it.ends_with("/presence")) => {
            "PUT and DELETE"
        }
        Some(_) => return not_found().await,
    };
    let message = match method {
        Method::GET | Method::HEAD => format!("this path takes {takes}"),
        _ => "this path does not take this method".to_owned(),
    };
    let hint = "GET / lists what there is";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message, hint)
}
