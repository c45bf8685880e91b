//! The accept loop and one task a connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::backend::Backend;
use super::error::ApiError;
use super::stall::StallGuard;
use super::{HEAD_BYTES_MAX, HEADERS_MAX, STOP_WITHIN};
use crate::broker::{Door, Pass, bearer};
use crate::config::limits::LimitsHandle;
use crate::metrics::names;
use crate::net;
use crate::supervise::backoff::Backoff;
use crate::supervise::descriptors::Descriptors;
use crate::supervise::{Shutdown, Supervisor, Task};
use crate::tls::{Front, Tls};
use crate::types::Namespace;

/// What hyper holds of a connection. Heads between `HEAD_BYTES_MAX` and this get an answer in JSON, longer ones hyper's bare 431.
const BUFFER_BYTES_MAX: usize = 64 << 10;

pub(super) async fn run(
    supervisor: &Supervisor,
    limits: &LimitsHandle,
    is_locked: bool,
    tls: Option<&Tls>,
    routes: Router,
    listener: TcpListener,
    shutdown: Shutdown,
) {
    let open = TaskTracker::new();
    // Before it has shown a key, nobody has more.
    let buffer = if is_locked { HEAD_BYTES_MAX } else { BUFFER_BYTES_MAX };
    let descriptors = Descriptors::of_process();
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if net::is_the_clients(&error) => continue,
            // Out of descriptors or memory: those who are connected go on; the others wait in the kernel's queue.
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "no connection can be accepted on the HTTP port for now");
                }
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep(backoff.next(u64::from(std::process::id()))) => {}
                }
                continue;
            }
        };
        if std::mem::replace(&mut failing, false) {
            tracing::info!("connections are accepted on the HTTP port again");
        }
        backoff.reset();
        let max = limits.get().http_connections;
        if open.len() >= max {
            turn_away(&stream, tls, "http_connections", &format!("its {max} HTTP connections"));
            continue;
        }
        let Some(descriptor) = descriptors.take_reserved(open.len()) else {
            if descriptors.is_to_be_told() {
                tracing::warn!(%from, "clients have all file descriptors that are theirs; refused on the HTTP port: raise `ulimit -n`");
            }
            turn_away(&stream, tls, "descriptors", "no file descriptors left for clients");
            continue;
        };
        let (routes, limits, tls) = (routes.clone(), limits.clone(), tls.cloned());
        let (shutdown, token) = (shutdown.clone(), open.token());
        supervisor.spawn(Task::Session(format!("{} {from}", super::FRONT)), async move {
            let _open = (token, descriptor);
            connection(stream, from, tls.as_ref(), routes, (&limits, buffer), shutdown).await;
        });
    }
    drop(listener);
    open.close();
    let _ = tokio::time::timeout(STOP_WITHIN, open.wait()).await;
}

/// Says why in one write without waiting; who does not get it sees a closed connection. So does who would have to be greeted first.
fn turn_away(stream: &TcpStream, tls: Option<&Tls>, limit: &'static str, has: &str) {
    metrics::counter!(names::LIMIT_REJECTIONS, "limit" => limit).increment(1);
    if tls.is_some() {
        return;
    }
    let body = format!(
        "{{\"error\":{{\"code\":\"too_many_connections\",\"message\":\"this node has {has}\",\
         \"hint\":\"try again, or another node\"}}}}"
    );
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\nretry-after: 1\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.try_write((head + &body).as_bytes());
}

async fn connection(
    stream: TcpStream,
    from: SocketAddr,
    tls: Option<&Tls>,
    routes: Router,
    (limits, buffer): (&LimitsHandle, usize),
    shutdown: Shutdown,
) {
    let limits = limits.get();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%from, %error, "a connection was gone at once");
        return;
    }
    let stream = net::Stream::from(stream);
    // The time for the first head is the time for the handshake, too.
    let stream = match tls {
        Some(tls) => tls.accept(Front::Http, stream),
        None => stream,
    };
    let io = StallGuard::new(TokioIo::new(stream), limits.idle);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        routes.clone().oneshot(request.map(Body::new))
    });
    let serve = http1::Builder::new()
        .timer(TokioTimer::new())
        // Runs from the end of the last request too, so it closes idle connections.
        .header_read_timeout(limits.handshake)
        .max_buf_size(buffer)
        .max_headers(HEADERS_MAX)
        .serve_connection(io, service);
    tokio::pin!(serve);
    let ended = tokio::select! {
        ended = serve.as_mut() => ended,
        () = shutdown.cancelled() => {
            serve.as_mut().graceful_shutdown();
            match tokio::time::timeout(STOP_WITHIN, serve).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%from, %error, "a connection ended badly");
    }
}

/// What holds for every path: bounds of the head, nothing for browsers, nothing cached.
pub(super) async fn guard(
    State(backend): State<Arc<dyn Backend>>,
    mut request: Request,
    next: Next,
) -> Response {
    let judged = judge(&request).and_then(|()| admit(backend.door(), &request));
    let mut response = match judged {
        Ok(pass) => {
            request.extensions_mut().insert(pass);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Who asks. Whether this process lives and takes clients everybody may ask: orchestrators have no key.
fn admit(door: &Door, request: &Request) -> Result<Pass, ApiError> {
    if let "/" | "/healthz" | "/readyz" = request.uri().path() {
        return Ok(Pass::open(Namespace::default()));
    }
    let headers = request.headers();
    let said = headers.get("waxwing-namespace").map(|value| {
        let bad = |message: String| ApiError::bad_request("bad_namespace", message, "");
        let text = value.to_str().map_err(|_| bad("the namespace is not ASCII".to_owned()))?;
        Namespace::parse(text).map_err(|error| bad(error.to_string()))
    });
    let shown = headers.get(header::AUTHORIZATION).and_then(|shown| bearer(shown.as_bytes()));
    Ok(door.admit(super::FRONT, shown, said.transpose()?)?)
}

fn judge(request: &Request) -> Result<(), ApiError> {
    let uri = request.uri().path_and_query().map_or(0, |uri| uri.as_str().len());
    if uri > HEAD_BYTES_MAX / 2 {
        let message = format!("path and query are longer than {} bytes", HEAD_BYTES_MAX / 2);
        let hint = "POST /v1/publish takes topics in its body";
        return Err(ApiError::new(StatusCode::URI_TOO_LONG, "uri_too_long", message, hint));
    }
    let lines = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    if uri + lines.sum::<usize>() > HEAD_BYTES_MAX {
        let message = format!("the headers are longer than {HEAD_BYTES_MAX} bytes");
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(ApiError::new(status, "headers_too_large", message, ""));
    }
    let changes = [Method::POST, Method::PUT, Method::DELETE].contains(request.method());
    if changes && request.headers().contains_key(header::ORIGIN) {
        let message = "publishing and tracking from a web page are refused";
        let hint = "do it from your server";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "cross_origin", message, hint));
    }
    Ok(())
}
