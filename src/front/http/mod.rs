//! HTTP/1.1: status, metrics and health for observers; JSON publish for clients that can't hold a stream.
//!
//! Everything a stranger can make grow has a bound: connections, time to send a head or a body, the sizes of both, time to read an
//! answer. Every answer that is not a page is JSON, errors too. It is not for browsers: no CORS, and a publish with an Origin is
//! refused, so that no web page can publish through its reader's own machine.

mod backend;
mod body;
mod error;
mod pages;
mod presence;
mod publish;
mod server;
mod stall;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;

use crate::broker::Broker;
use crate::config::limits::LimitsHandle;
use crate::metrics::Exporter;
use crate::router::RouterHandle;
use crate::status::StatusHandle;
use crate::supervise::{Shutdown, Supervisor};
use crate::tls::Tls;

use backend::{Backend, NodeBackend};

pub(super) const FRONT: &str = "http";

/// Request line and header lines of one request.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Header lines of one request.
const HEADERS_MAX: usize = 100;
/// Messages of one `POST /v1/publish`.
const ITEMS_MAX: usize = 1_000;
/// From the whole request to the answer. Long enough for a node that holds publishes until it is ready.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long requests in progress may go on after the node was told to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct HttpDeps {
    pub status: StatusHandle,
    pub broker: Broker,
    pub router: RouterHandle,
    pub limits: LimitsHandle,
    pub supervisor: Supervisor,
    pub exporter: Arc<Exporter>,
    /// None: in the clear.
    pub tls: Option<Tls>,
}

#[derive(Debug)]
pub struct HttpFront {
    supervisor: Supervisor,
    limits: LimitsHandle,
    tls: Option<Tls>,
    backend: Arc<dyn Backend>,
}

impl HttpFront {
    pub fn new(deps: HttpDeps) -> Self {
        let HttpDeps { status, broker, router, limits, supervisor, exporter, tls } = deps;
        let backend =
            Arc::new(NodeBackend { status, broker, router, limits: limits.clone(), exporter });
        Self { supervisor, limits, tls, backend }
    }

    /// Serves until `shutdown`, then lets requests in progress end. `listener` is bound already, so that a port in use is an error of
    /// the start and not of this task.
    pub async fn run(self, listener: TcpListener, shutdown: Shutdown) {
        let routes = routes(self.backend.clone());
        let Self { supervisor, limits, tls, .. } = &self;
        let is_locked = self.backend.door().is_locked();
        server::run(supervisor, limits, is_locked, tls.as_ref(), routes, listener, shutdown).await;
    }
}

fn routes(backend: Arc<dyn Backend>) -> Router {
    use axum::routing::{get, post};
    Router::new()
        .route("/", get(pages::index))
        .route("/status", get(pages::status))
        .route("/metrics", get(pages::metrics))
        .route("/healthz", get(pages::healthz))
        .route("/readyz", get(pages::readyz))
        .route("/v1/publish", post(publish::many))
        .route(
            "/v1/topics/{*rest}",
            post(publish::one).get(presence::get).put(presence::put).delete(presence::delete),
        )
        .fallback(pages::not_found)
        .method_not_allowed_fallback(pages::method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(backend.clone(), server::guard))
        .with_state(backend)
}
