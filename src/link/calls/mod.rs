//! What one member asks of another and has answered, on connections of their own: whatever must not wait behind messages.
//!
//! A connection begins as a link does, with the same greeting and the same limits for strangers; the setting `calls` in its proof keeps the
//! two apart. Then each call is one HTTP/2 request, from who dialed to who was dialed. A connection is made when somebody calls, by one
//! task, and lasts until it breaks or one of the two incarnations is over. As on links, what is said has no meaning here.

mod client;
mod server;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

pub(super) use client::call;
pub(super) use server::CallService;

use super::links::Shared;
use super::session::Credentials;
use crate::types::{Incarnation, NodeName};
use client::Way;

/// In the proof; its value is the version of what is called.
const SETTING: (&str, &str) = ("calls", "1");

const SERVICE_NAME: &str = "waxwing.peer.v1.Calls";
const GREET_PATH: &str = "/waxwing.peer.v1.Calls/Greet";
const CALL_PATH: &str = "/waxwing.peer.v1.Calls/Call";

/// Who answers. The caller has proved who it is, and is the member's incarnation of now.
#[async_trait]
pub trait CallHandler: Send + Sync + 'static {
    async fn answer(&self, from: NodeName, incarnation: Incarnation, payload: Bytes) -> Bytes;
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Uncalled {
    /// It never left.
    #[error("{0}")]
    NotSent(String),
    /// It may have arrived.
    #[error("{0}")]
    NoAnswer(String),
}

/// A node's calls, both ways.
#[derive(Default)]
pub(super) struct Calls {
    handler: OnceLock<Arc<dyn CallHandler>>,
    ways: Mutex<BTreeMap<NodeName, Way>>,
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

impl Calls {
    pub(super) fn answer_with(&self, handler: Arc<dyn CallHandler>) {
        let _ = self.handler.set(handler);
    }

    fn handler(&self) -> Option<&Arc<dyn CallHandler>> {
        self.handler.get()
    }
}

/// The node's own, for this kind of connection.
fn credentials(shared: &Shared) -> Arc<Credentials> {
    let settings = BTreeMap::from([(SETTING.0.to_owned(), SETTING.1.to_owned())]);
    Arc::new(Credentials { settings, ..(*shared.credentials()).clone() })
}
