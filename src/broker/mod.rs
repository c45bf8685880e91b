//! The one door that all fronts use: sessions, rights, quotas. SKELETON: signatures that fronts and status rely on.

pub mod error;

use std::sync::Arc;

pub use error::BrokerError;

use crate::pubsub::Messages;
use crate::router::{Confirm, Published, Reach};
use crate::types::Namespace;

#[derive(Debug, Clone)]
pub struct Broker {
    _skeleton: Arc<()>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct SessionCounts {
    pub attached: u64,
    pub lingering: u64,
}

/// Tells a client where to go.
#[derive(Debug, Clone)]
pub struct GoAway {
    pub reason: String,
    pub grace: std::time::Duration,
    pub endpoints: Vec<String>,
}

#[allow(clippy::todo, clippy::unused_async, unused_variables, reason = "skeleton")]
impl Broker {
    /// A publish by somebody without a session (unary call, HTTP). The topic is checked here.
    pub async fn publish_once(
        &self,
        namespace: &Namespace,
        topic: &str,
        messages: Messages,
        reach: Reach,
        confirm: Confirm,
    ) -> Result<Published, BrokerError> {
        todo!()
    }

    pub fn session_counts(&self) -> SessionCounts {
        todo!()
    }

    /// From now on publishes are taken; until then they wait (P1: a node holds its clients' publishes until it is ready).
    pub fn set_ready(&self) {
        todo!()
    }

    /// From now on new sessions and new subscriptions of strangers are refused with `draining`; everybody attached is sent this, spread
    /// over a second.
    pub fn drain(&self, away: GoAway) {
        todo!()
    }

    /// Attachments still here.
    pub fn attached(&self) -> u64 {
        todo!()
    }

    /// Closes whatever is still attached, with this reason.
    pub fn close_all(&self, reason: &str) {
        todo!()
    }
}
