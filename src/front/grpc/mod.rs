//! SKELETON

use crate::broker::Broker;
use crate::config::limits::LimitsHandle;
use crate::membership::MembershipHandle;
use crate::router::RouterHandle;
use crate::status::StatusHandle;
use crate::supervise::{Clock, SharedCommands, Shutdown, Supervisor};

#[allow(missing_debug_implementations, reason = "skeleton")]
pub struct GrpcDeps {
    pub broker: Broker,
    pub router: RouterHandle,
    pub status: StatusHandle,
    pub commands: SharedCommands,
    pub membership: MembershipHandle,
    pub limits: LimitsHandle,
    pub supervisor: Supervisor,
    pub clock: Clock,
}

#[derive(Debug)]
pub struct GrpcFront {
    _skeleton: (),
}

#[allow(
    clippy::todo,
    clippy::unused_async,
    clippy::needless_pass_by_value,
    unused_variables,
    reason = "skeleton"
)]
impl GrpcFront {
    pub fn new(deps: GrpcDeps) -> Self {
        todo!()
    }

    pub async fn run(self, listener: tokio::net::TcpListener, shutdown: Shutdown) {
        todo!()
    }
}
