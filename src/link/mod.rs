//! One directed stream to each peer, and one from it. Frames have no meaning here.
//!
//! SKELETON: signatures that the router relies on; bodies to be written.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;

use crate::types::{Incarnation, LinkEpoch, NodeName};

/// Which of the two directed links between this node and a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// This node dialed: its content goes down, the peer's control comes up.
    Out,
    /// The peer dialed: its content comes down, this node's control goes up.
    In,
}

/// One link in one life.
#[derive(Debug, Clone)]
pub struct LinkInfo {
    pub peer: NodeName,
    pub incarnation: Incarnation,
    pub direction: Direction,
    pub epoch: LinkEpoch,
    /// These two incarnations had a link in this direction before.
    pub had_epoch: bool,
}

/// One numbered piece of content, encoded once and shared by all links that carry it.
#[derive(Debug, Clone)]
pub struct ContentItem {
    pub bytes: Bytes,
}

/// What a link sends, pulled by the link when it can write. One source serves one link in one life.
pub trait LinkSource: Send + Sync + 'static {
    /// Appends control payloads, oldest first, until about `bytes_max`. They go before any content.
    fn take_control(&self, out: &mut Vec<Bytes>, bytes_max: usize);
    /// Appends content until about `bytes_max`. The link numbers the items in this order. Never called for `Direction::In`.
    fn take_content(&self, out: &mut Vec<ContentItem>, bytes_max: usize);
    /// Control bytes for the next ping (sent every second each way).
    fn ping(&self) -> Bytes;
    /// Keeps the waker; it is woken once when `take_control` or `take_content` has something again. Called *before* the takes, so
    /// that nothing is missed in between.
    fn register(&self, cx: &mut Context<'_>);
}

/// What to do after handing on content.
pub enum Pace {
    ReadOn,
    /// Await this before reading on: receivers are to drain, or the content is still being handed on.
    Wait(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ReadOn => "ReadOn",
            Self::Wait(_) => "Wait",
        })
    }
}

/// Who gives frames their meaning. Called from the link's own tasks; must not block.
pub trait LinkHandler: Send + Sync + 'static {
    /// The link is up: what it is to send comes from the source returned. For `Direction::In` the reader of the older epoch has
    /// ended before this is called, and none of its frames follow.
    fn up(&self, link: &LinkInfo) -> Arc<dyn LinkSource>;
    /// No frame of this epoch follows.
    fn down(&self, link: &LinkInfo);
    /// `Err`: the frame is nonsense; the link is closed with this reason and counted.
    fn control(&self, link: &LinkInfo, payload: Bytes) -> Result<(), String>;
    /// Items in sequence (for `Direction::In` only). Acknowledged when this returns.
    fn content(&self, link: &LinkInfo, items: Vec<Bytes>) -> Result<Pace, String>;
    /// Content numbers were skipped: loss between these two.
    fn jump(&self, link: &LinkInfo);
    /// The control bytes of a ping.
    fn ping(&self, link: &LinkInfo, payload: Bytes) -> Result<(), String>;
}

/// How one directed link is doing, for status.
#[derive(Debug, Clone)]
pub struct LinkReport {
    pub peer: NodeName,
    pub direction: Direction,
    pub state: LinkState,
    pub rtt: Option<std::time::Duration>,
    /// Content handed to the transport and not yet acknowledged.
    pub unacked_bytes: u64,
    pub lag: Option<std::time::Duration>,
    pub reconnects: u64,
    /// The last refusal or failure, in words.
    pub problem: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    Connecting,
    Up,
    Down,
    Refused,
}

#[derive(Debug, Clone)]
pub struct LinksHandle {
    #[allow(dead_code, reason = "skeleton")]
    shared: Arc<()>,
}

#[allow(clippy::todo, reason = "skeleton")]
impl LinksHandle {
    pub fn report(&self) -> Vec<LinkReport> {
        todo!()
    }

    /// Up in both directions with this incarnation.
    pub fn connected(&self, _peer: &NodeName, _incarnation: Incarnation) -> bool {
        todo!()
    }

    /// From now on the first proves membership, all are accepted. Links that are up stay.
    pub fn set_secrets(&self, _secrets: &[crate::config::Secret]) {
        todo!()
    }
}

#[derive(Debug)]
pub struct Links {
    _skeleton: (),
}

#[derive(Debug, Clone)]
pub struct LinkConfig {
    pub cluster: crate::types::ClusterName,
    pub name: NodeName,
    pub secrets: Vec<crate::config::Secret>,
    pub versions: std::ops::RangeInclusive<u32>,
    pub settings: std::collections::BTreeMap<String, String>,
    pub limits: LinkLimits,
}

pub const VERSIONS: std::ops::RangeInclusive<u32> = 1..=1;

#[derive(Debug, Clone, Default)]
pub struct LinkLimits {}

pub trait Roster: Send + Sync + 'static {}

impl Roster for crate::membership::MembershipHandle {}

#[allow(clippy::todo, clippy::unused_async, unused_variables, reason = "skeleton")]
impl Links {
    pub fn new(
        config: LinkConfig,
        roster: Arc<dyn Roster>,
        supervisor: crate::supervise::Supervisor,
        clock: crate::supervise::Clock,
        handler: Arc<dyn LinkHandler>,
    ) -> Self {
        todo!()
    }

    pub fn handle(&self) -> LinksHandle {
        todo!()
    }

    pub async fn run(
        self,
        listener: tokio::net::TcpListener,
        shutdown: crate::supervise::Shutdown,
    ) {
        todo!()
    }
}
