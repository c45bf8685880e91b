//! Every limit: its default, its unit, and what happens at it. README and status show this table.

use std::time::Duration;

/// The largest payload and the largest headers that can be configured: a message of that size, in the form that links carry, must
/// stay within `link::FRAME_LEN_MAX`, or it would end every link that it is sent over.
pub const PAYLOAD_CEILING: usize = 6 << 20;
pub const HEADERS_CEILING: usize = 1 << 20;

/// The longest key or id, and the largest metadata, of a presence that can be configured: every node takes as much from its peers.
pub const KEY_LEN_CEILING: usize = 256;
pub const METADATA_CEILING: usize = 64 << 10;

/// Plain numbers; bytes unless said otherwise. SIGHUP replaces the whole struct (`Limits` is read through `LimitsHandle`). What is made
/// before keeps what it was made with: mailboxes `mailbox`, links `link_window` and `handshake`, the gRPC server `streams` and `idle`,
/// gossip `gossip_message` and `members`, presence `presence_transfer`; of the last five a new value waits for the next start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Attachments at once on this node. The next one is refused with `too_many_sessions`.
    pub sessions: usize,
    /// Subscriptions of one session. The next one is refused with `too_many_subscriptions`.
    pub subscriptions: usize,
    /// Patterns among them. Refused with `too_many_patterns`.
    pub patterns: usize,
    /// Topics with local subscribers on this node. Refused with `too_many_topics`.
    pub topics: usize,
    /// Length of a topic or pattern. Refused with `topic_too_long`.
    pub topic: usize,
    /// Payload of one message. Refused with `payload_too_large`.
    pub payload: usize,
    /// Event name and headers of one message together. Refused with `headers_too_large`.
    pub headers: usize,
    /// Presences that one session tracks. The next one is refused with `too_many_presences`.
    pub presences: usize,
    /// Presences of one namespace in the cluster, as this node sees it. Refused with `namespace_full`.
    pub namespace_presences: usize,
    /// Topics whose presence one session watches. Refused with `too_many_watches`.
    pub watches: usize,
    /// Length of a presence's key, and of its id. Refused with `key_too_long` or `id_too_long`.
    pub key: usize,
    /// Metadata of one presence. Refused with `metadata_too_large`.
    pub metadata: usize,
    /// Bytes held of whole presence states that peers have begun to send, one from each. What goes beyond is refused and asked for again.
    pub presence_transfer: usize,
    /// Bytes waiting for one attachment. The newest are dropped until it is half empty; one gap stands in their place.
    pub mailbox: usize,
    /// An attachment that takes nothing for so long while messages wait is closed.
    pub mailbox_stall: Duration,
    /// Bytes kept for one peer until it has them. The newest are dropped and counted; the gap travels in their place.
    pub link_window: usize,
    /// What has waited so long for its link is dropped as well.
    pub link_window_age: Duration,
    /// Connections of the HTTP port at once. The next one is told so and closed.
    pub http_connections: usize,
    /// One gRPC message from a client. The stream ends with RESOURCE_EXHAUSTED.
    pub frame: usize,
    /// Streams of one client connection. HTTP/2 refuses the next one.
    pub streams: u32,
    /// From connecting to the first request. The connection is closed.
    pub handshake: Duration,
    /// A client connection that answers no keepalive for so long is closed.
    pub idle: Duration,
    /// How long a session outlives its last attachment, unless its hello says otherwise.
    pub linger: Duration,
    /// The longest linger that a hello may ask for. Longer ones are cut to it.
    pub linger_max: Duration,
    /// How long a subscribe waits for members to confirm, and a publish for its confirmation.
    pub confirm: Duration,
    /// Bytes of one gossip datagram's content, inflated. Dropped and counted.
    pub gossip_message: usize,
    /// Members of the cluster, down ones included. A further one is not let in.
    pub members: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 100_000,
            subscriptions: 100_000,
            patterns: 10_000,
            topics: 10_000_000,
            topic: 1 << 10,
            payload: 1 << 20,
            headers: 16 << 10,
            presences: 100_000,
            namespace_presences: 10_000_000,
            watches: 10_000,
            key: KEY_LEN_CEILING,
            metadata: 4 << 10,
            presence_transfer: 1 << 30,
            mailbox: 8 << 20,
            mailbox_stall: Duration::from_secs(30),
            link_window: 64 << 20,
            link_window_age: Duration::from_secs(30),
            http_connections: 1_024,
            frame: 4 << 20,
            streams: 1_000,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            linger: Duration::from_secs(5),
            linger_max: Duration::from_secs(600),
            confirm: Duration::from_secs(1),
            gossip_message: 64 << 10,
            members: 256,
        }
    }
}

/// The limits in force; replaced as a whole by a reload. Reading is one uncontended lock and a reference count: read once a batch,
/// never once a message.
#[derive(Debug, Clone, Default)]
pub struct LimitsHandle(std::sync::Arc<parking_lot::RwLock<std::sync::Arc<Limits>>>);

impl LimitsHandle {
    pub fn new(limits: Limits) -> Self {
        Self(std::sync::Arc::new(parking_lot::RwLock::new(std::sync::Arc::new(limits))))
    }

    pub fn get(&self) -> std::sync::Arc<Limits> {
        self.0.read().clone()
    }

    pub fn set(&self, limits: Limits) {
        *self.0.write() = std::sync::Arc::new(limits);
    }
}
