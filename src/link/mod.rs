//! One directed stream to each peer, and one from it. Frames have no meaning here.
//!
//! Each node dials each member and sends its content down that stream; control goes both ways. Reading order: `frame` and `proof`
//! (what is said), `session`, `sequence`, `window` and `epochs` (what follows from it; pure), `windows`, `outbox` and `stream` (one link
//! that runs, and what outlives it), `dialer`, `fence` and `acceptor` (how it comes to be), `board` (how it is doing). `calls` stand
//! apart: asks and answers between members, on connections of their own.

mod acceptor;
mod board;
mod calls;
mod codec;
mod deframer;
mod dialer;
mod epochs;
mod error;
mod fence;
mod frame;
mod guard;
mod links;
mod outbox;
mod proof;
mod roster;
#[cfg(any(test, fuzzing))]
pub(crate) mod rules;
mod sequence;
mod session;
mod stream;
#[cfg(test)]
mod tests;
mod window;
mod windows;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;

use crate::config::Secret;
use crate::config::limits::{HEADERS_CEILING, PAYLOAD_CEILING};
use crate::tls::Tls;
use crate::types::{ClusterName, Incarnation, LinkEpoch, NodeName};
pub use calls::{CallHandler, Uncalled};
pub use frame::{Refusal, RefusalCode};
pub use links::{Links, LinksHandle};
use links::{Shared, nonce};
pub use roster::Roster;

/// The longest frame that a proven peer may send. Longer ones end the link, so no source may give a payload or an item near it.
pub const FRAME_LEN_MAX: usize = 8 << 20;

/// The largest message with a topic, names, ids and tags around it, and room for what else stands in its frame.
const _: () = assert!(PAYLOAD_CEILING + HEADERS_CEILING + (512 << 10) < FRAME_LEN_MAX);

/// The versions of the link's protocol that this program speaks.
pub const VERSIONS: RangeInclusive<u32> = 1..=1;

const SERVICE_NAME: &str = "waxwing.peer.v1.Link";
const OPEN_PATH: &str = "/waxwing.peer.v1.Link/Open";

#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// Must agree.
    pub cluster: ClusterName,
    pub name: NodeName,
    /// The first proves, any verifies. Empty: anybody who knows the cluster's name gets in.
    pub secrets: Vec<Secret>,
    /// The ranges of two nodes must overlap.
    pub versions: RangeInclusive<u32>,
    /// Must agree, all of them.
    pub settings: BTreeMap<String, String>,
    pub limits: LinkLimits,
    /// None, or none for peers: links are in the clear.
    pub tls: Option<Tls>,
}

/// Bytes unless said otherwise.
#[derive(Debug, Clone)]
pub struct LinkLimits {
    /// From connecting to a link that is up. The connection is closed. Whoever dials waits no longer than `silence`.
    pub handshake: Duration,
    /// What anybody may send before the proof. The connection is closed.
    pub handshake_bytes: usize,
    /// A link on which nothing is heard for so long ends.
    pub silence: Duration,
    pub ping_every: Duration,
    pub backoff_first: Duration,
    /// Short: where a link comes and goes, a dial has to hit the time that it is there. Gossip says who isn't worth it.
    pub backoff_most: Duration,
    /// An acknowledgement waits at most so long, or for so much.
    pub ack_every: Duration,
    pub ack_bytes: usize,
    /// Taken from a source at once.
    pub chunk_bytes: usize,
    /// Content handed to HTTP/2 that it has not sent. The rest waits at the source.
    pub ahead_bytes: usize,
    /// Content that the peer has not acknowledged. The rest waits at the source.
    pub window_bytes: usize,
    /// What was not acknowledged for so long is given up.
    pub window_age: Duration,
    /// Connections of the peer port. The next one is closed.
    pub connections: usize,
    pub stream_window: u32,
    pub connection_window: u32,
    pub http2_frame: u32,
    /// Streams of one connection: a link needs one, calls one each. HTTP/2 refuses the next.
    pub http2_streams: u32,
    pub http2_headers: u32,
    /// Streams reset before they were looked at. The connection is closed.
    pub http2_resets: usize,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            handshake_bytes: 16 << 10,
            silence: Duration::from_secs(3),
            ping_every: Duration::from_secs(1),
            backoff_first: Duration::from_millis(25),
            backoff_most: Duration::from_millis(500),
            ack_every: Duration::from_millis(10),
            ack_bytes: 256 << 10,
            chunk_bytes: 64 << 10,
            ahead_bytes: 256 << 10,
            window_bytes: 64 << 20,
            window_age: Duration::from_secs(30),
            connections: 1_024,
            stream_window: 8 << 20,
            connection_window: 16 << 20,
            http2_frame: 1 << 20,
            http2_streams: 16,
            http2_headers: 8 << 10,
            http2_resets: 20,
        }
    }
}

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
    pub past: Past,
}

/// What has become of the content of older links between the same two incarnations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// One of the two ends knows of none. What was left is dropped.
    Unknown,
    /// It goes on: what has not arrived comes first.
    Kept,
    /// `Direction::Out`: the peer has declared it lost, so it was dropped. Not all of its subscribers need have been told.
    Declared,
}

/// One numbered piece of content, encoded once and shared by all links that carry it.
#[derive(Debug, Clone)]
pub struct ContentItem {
    pub bytes: Bytes,
    /// What it pins until it is acknowledged, as `LinkSource::released` counts it.
    pub cost: usize,
}

/// What a link sends, pulled by the link when it can write. One source serves one link in one life.
pub trait LinkSource: Send + Sync + 'static {
    /// Appends control payloads, oldest first, until about `bytes_max`. They go before any content.
    fn take_control(&self, out: &mut Vec<Bytes>, bytes_max: usize);
    /// Appends content until about `bytes_max`. The link numbers the items in this order. Never called for `Direction::In`.
    fn take_content(&self, out: &mut Vec<ContentItem>, bytes_max: usize);
    /// Content that was taken pins so much less: it has arrived, or was given up.
    fn released(&self, _cost: usize) {}
    /// An item that stands for one that was given up after it had been written: the peer hands it on in its place if that never came.
    fn summary(&self, item: &Bytes) -> Bytes {
        item.clone()
    }
    /// `Direction::In`: since the last link, whatever the peer might still send was declared lost. It is not to be sent any more.
    fn all_lost(&self) -> bool {
        false
    }
    /// Control bytes for the next ping (sent every second each way).
    fn ping(&self) -> Bytes;
    /// Keeps the waker; it is woken once when `take_control` or `take_content` has something again. Called *before* the takes, so
    /// that nothing is missed in between.
    fn register(&self, cx: &mut Context<'_>);
}

/// What is awaited before reading on.
pub type Pause = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What to do after handing on content.
pub enum Pace {
    ReadOn,
    /// Receivers are to drain, or the content is still being handed on. At most a few milliseconds.
    Wait(Pause),
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
    /// Content numbers were skipped, or content was cut off while it was handed on: loss at this place.
    fn jump(&self, link: &LinkInfo);
    /// The control bytes of a ping.
    fn ping(&self, link: &LinkInfo, payload: Bytes) -> Result<(), String>;
}

/// State that a link sends, pulled when it can write: after all control and before content, unnumbered. One source serves one link in one
/// life, in either direction.
pub trait StateSource: Send + Sync + 'static {
    /// Appends payloads, oldest first, until about `bytes_max`.
    fn take_state(&self, out: &mut Vec<Bytes>, bytes_max: usize);
    /// State bytes for the next ping.
    fn ping(&self) -> Bytes;
    /// As `LinkSource::register`, for `take_state`.
    fn register(&self, cx: &mut Context<'_>);
}

/// Who gives state frames their meaning. Called from the link's own tasks, as `LinkHandler`; must not block.
pub trait StateHandler: Send + Sync + 'static {
    fn up(&self, link: &LinkInfo) -> Arc<dyn StateSource>;
    /// No frame of this epoch follows.
    fn down(&self, link: &LinkInfo);
    /// `Err`: the frame is nonsense; the link is closed with this reason and counted.
    fn state(&self, link: &LinkInfo, payload: Bytes) -> Result<Pace, String>;
    /// The state bytes of a ping.
    fn ping(&self, link: &LinkInfo, payload: Bytes) -> Result<(), String>;
}

/// How one directed link is doing, for status.
#[derive(Debug, Clone)]
pub struct LinkReport {
    pub peer: NodeName,
    pub direction: Direction,
    pub state: LinkState,
    pub rtt: Option<Duration>,
    /// Content handed to the transport and not yet acknowledged, on this link or an older one.
    pub unacked_bytes: u64,
    pub lag: Option<Duration>,
    /// Items written again.
    pub retransmitted: u64,
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
