//! The gRPC front: sessions, simple calls, admin, health and reflection on one port, with every limit of HTTP/2 set.

mod accept;
mod admin;
mod codec;
mod control;
mod convert;
mod decode;
mod pending;
mod presence;
mod pubsub;
mod reading;
#[cfg(any(test, fuzzing))]
pub(crate) mod rules;
mod session;
mod talk;
mod tracks;
mod writing;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tonic::server::NamedService;
use tonic::service::interceptor::InterceptedService;
use tonic::service::{Interceptor, Routes};
use tonic::transport::Server;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::util::{MapRequestLayer, MapResponseLayer};

use crate::broker::{Broker, Door};
use crate::config::Limits;
use crate::config::limits::LimitsHandle;
use crate::control::part::ControlHandle;
use crate::membership::MembershipHandle;
use crate::metrics::names;
use crate::net::Listener;
use crate::router::RouterHandle;
use crate::status::StatusHandle;
use crate::supervise::descriptors::Descriptors;
use crate::supervise::{Clock, SharedCommands, Shutdown, Supervisor};
use crate::tls::Tls;
use crate::wire::v1;
use accept::Caller;
use admin::AdminService;
use control::ControlService;
use presence::PresenceService;
use pubsub::PubSubService;
use session::SessionService;

/// As metrics and reports call it.
const FRONT: &str = "grpc";

/// What one call may take, streams but their beginning excepted.
const CALL_MAX: Duration = Duration::from_secs(60);

/// What a client may have under way to us: enough for a fast one far away, and a bound on what a hostile one can pin.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const HTTP2_FRAME_MAX: u32 = 1 << 20;
const HEADERS_MAX: u32 = 16 << 10;

/// Streams that a client resets before we have looked at them (CVE-2023-44487), and that we reset for its faults.
const PENDING_RESETS_MAX: usize = 20;
const ERROR_RESETS_MAX: usize = 256;

/// What one call of a stranger may be, and what a connection without a key is read of.
const STRANGER_BYTES_MAX: usize = 16 << 10;

/// How long clients have, once the node stops, to take what is still to be said to them.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// How often health is looked at.
const HEALTH_INTERVAL: Duration = Duration::from_millis(200);

/// What the front stands on.
pub struct GrpcDeps {
    pub broker: Broker,
    pub router: RouterHandle,
    pub status: StatusHandle,
    pub commands: SharedCommands,
    pub membership: MembershipHandle,
    pub limits: LimitsHandle,
    pub supervisor: Supervisor,
    pub clock: Clock,
    pub control: ControlHandle,
    /// None: in the clear.
    pub tls: Option<Tls>,
}

impl fmt::Debug for GrpcDeps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcDeps").field("broker", &self.broker).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub struct GrpcFront {
    deps: Arc<GrpcDeps>,
}

impl GrpcFront {
    pub fn new(deps: GrpcDeps) -> Self {
        Self { deps: Arc::new(deps) }
    }

    /// Serves until told to stop; then whoever is still attached is closed, and cut off where that takes too long.
    pub async fn run(self, listener: impl Into<Listener>, shutdown: Shutdown) {
        let Self { deps } = self;
        let (reporter, health) = tonic_health::server::health_reporter();
        let v1_reflection = reflection().build_v1().expect("our own descriptors are whole");
        let v1alpha_reflection =
            reflection().build_v1alpha().expect("our own descriptors are whole");
        let routes = Routes::new(SessionService { deps: deps.clone() })
            .add_service(PubSubService { deps: deps.clone() })
            .add_service(PresenceService { deps: deps.clone() })
            .add_service(admin(&deps))
            .add_service(control(&deps))
            // These two answer strangers too: an orchestrator's probe has no key, and the descriptors are public.
            .add_service(health.max_decoding_message_size(STRANGER_BYTES_MAX))
            .add_service(v1_reflection.max_decoding_message_size(STRANGER_BYTES_MAX))
            .add_service(v1alpha_reflection.max_decoding_message_size(STRANGER_BYTES_MAX))
            .prepare();

        let cut = Shutdown::new();
        let _cut_at_the_end = cut.clone().drop_guard();
        let connections = accept::connections(
            listener.into(),
            deps.tls.clone(),
            deps.limits.clone(),
            if deps.broker.door().is_locked() { STRANGER_BYTES_MAX } else { usize::MAX },
            cut.clone(),
            Descriptors::of_process(),
        );
        let limits = deps.limits.clone();
        let door = deps.broker.door().clone();
        let serve = server(&deps.limits.get())
            .layer(MapRequestLayer::new(move |request| note_request(request, &door)))
            .layer(MapResponseLayer::new(move |response| name_limit(response, &limits)))
            .serve_with_incoming_shutdown(routes, connections, shutdown.clone().cancelled_owned());
        let stop = async {
            shutdown.cancelled().await;
            deps.broker.close_all("the node stops");
            tokio::time::sleep(STOP_GRACE).await;
        };
        tokio::select! {
            served = Box::pin(serve) => {
                if let Err(error) = served {
                    tracing::error!(error = &error as &dyn std::error::Error, "serve gRPC");
                }
            }
            () = stop => {}
            () = watch_health(&deps, &reporter) => {}
        }
    }
}

/// Who asks is known before any of its methods is reached; each asks for the right it needs.
fn admin(
    deps: &Arc<GrpcDeps>,
) -> InterceptedService<v1::admin_server::AdminServer<AdminService>, impl Interceptor + Clone + use<>>
{
    let service = v1::admin_server::AdminServer::new(AdminService { deps: deps.clone() })
        .max_decoding_message_size(deps.limits.get().frame);
    InterceptedService::new(service, asked_for(deps))
}

/// As `admin`.
fn control(
    deps: &Arc<GrpcDeps>,
) -> InterceptedService<
    v1::control_server::ControlServer<ControlService>,
    impl Interceptor + Clone + use<>,
> {
    let service = v1::control_server::ControlServer::new(ControlService::new(deps.clone()))
        .max_decoding_message_size(deps.limits.get().frame);
    InterceptedService::new(service, asked_for(deps))
}

fn asked_for(deps: &Arc<GrpcDeps>) -> impl Interceptor + Clone + use<> {
    let door = deps.broker.door().clone();
    move |mut request: tonic::Request<()>| {
        let asker = admin::Asker::admit(&door, request.metadata().as_ref())?;
        request.extensions_mut().insert(asker);
        Ok(request)
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Some of tonic's and h2's own limits are off; none is left as it was.
fn server(limits: &Limits) -> Server {
    let ping = (limits.idle / 3).max(Duration::from_secs(1));
    Server::builder()
        .timeout(CALL_MAX)
        .max_concurrent_streams(limits.streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(HTTP2_FRAME_MAX)
        .http2_max_header_list_size(HEADERS_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(ERROR_RESETS_MAX))
        .http2_keepalive_interval(Some(ping))
        .http2_keepalive_timeout(Some(limits.idle.saturating_sub(ping)))
}

/// The connection has shown that it speaks our protocol; where there are keys, that somebody with a key is at its other end.
fn note_request(
    request: http::Request<tonic::body::Body>,
    door: &Door,
) -> http::Request<tonic::body::Body> {
    if let Some(caller) = request.extensions().get::<Caller>()
        && !caller.is_known()
        && (!door.is_locked() || convert::is_known(door, request.headers()))
    {
        caller.note_known();
    }
    request
}

/// tonic refuses a message that is too large as `OUT_OF_RANGE`, in words that name no limit; nothing else here has that code.
fn name_limit(
    response: http::Response<tonic::body::Body>,
    limits: &LimitsHandle,
) -> http::Response<tonic::body::Body> {
    match Status::from_header_map(response.headers()) {
        Some(refused) if refused.code() == Code::OutOfRange => {
            count_limit("frame");
            let larger = format!(
                "the message is larger than limits.frame, {} bytes; split it, or raise limits.frame",
                limits.get().frame
            );
            convert::status(Code::ResourceExhausted, "frame_too_large", larger).into_http()
        }
        _ => response,
    }
}

/// `grpc.health.v1` says what `/readyz` says, of the node and of each service. Never ends.
async fn watch_health(deps: &GrpcDeps, reporter: &HealthReporter) {
    let services = [
        "",
        SessionService::NAME,
        PubSubService::NAME,
        PresenceService::NAME,
        v1::admin_server::AdminServer::<AdminService>::NAME,
        v1::control_server::ControlServer::<ControlService>::NAME,
    ];
    let mut said = None;
    let mut ticks = tokio::time::interval(HEALTH_INTERVAL);
    loop {
        ticks.tick().await;
        let is_serving = deps.status.ready().is_ok() && !deps.broker.is_draining();
        if said == Some(is_serving) {
            continue;
        }
        said = Some(is_serving);
        let serving = if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in services {
            reporter.set_service_status(service, serving).await;
        }
    }
}

fn count_limit(limit: &'static str) {
    metrics::counter!(names::LIMIT_REJECTIONS, "limit" => limit).increment(1);
}
