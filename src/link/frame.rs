//! What travels on a link, as plain values. ● Pure.
//!
//! Names and sizes have been checked where a frame was decoded (`codec`); nobody checks them again.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::types::{ClusterName, Incarnation, NodeName};

pub(super) const NONCE_LEN: usize = 32;
pub(super) const PROOF_LEN: usize = 32;

pub(super) type Nonce = [u8; NONCE_LEN];
pub(super) type ProofBytes = [u8; PROOF_LEN];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    Hello(Hello),
    Challenge(Challenge),
    Proof(Proof),
    Accepted(Accepted),
    Refused(Refusal),
    Ping { sent_us: u64, control: Bytes, state: Bytes },
    Pong { sent_us: u64 },
    Ack { upto: u64 },
    Control(Bytes),
    State(Bytes),
    Content { first: u64, items: Vec<Bytes> },
}

impl Frame {
    /// For reasons that people read.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Challenge(_) => "challenge",
            Self::Proof(_) => "proof",
            Self::Accepted(_) => "accepted",
            Self::Refused(_) => "refused",
            Self::Ping { .. } => "ping",
            Self::Pong { .. } => "pong",
            Self::Ack { .. } => "ack",
            Self::Control(_) => "control",
            Self::State(_) => "state",
            Self::Content { .. } => "content",
        }
    }
}

/// Dialer to acceptor, first. Claims; proves nothing yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub cluster: ClusterName,
    pub from: NodeName,
    pub to: NodeName,
    pub nonce: Nonce,
    pub version_min: u32,
    pub version_max: u32,
}

/// Acceptor to dialer: its own nonce, and the proof that it knows a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    pub from: NodeName,
    pub nonce: Nonce,
    pub proof: ProofBytes,
    pub incarnation: Incarnation,
    pub version: u32,
}

/// Dialer to acceptor: the proof that it knows a secret, over everything said so far and everything in this frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proof {
    pub proof: ProofBytes,
    pub incarnation: Incarnation,
    pub attempt: u64,
    pub settings: BTreeMap<String, String>,
    pub acceptor_incarnation: Incarnation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted {
    /// The next content number that is expected.
    pub position: u64,
    /// These two incarnations had a link before.
    pub had_epoch: bool,
    /// How often everything was declared lost since they met.
    pub lost: u64,
}

/// Why there is no link, for both ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: RefusalCode,
    /// For people; short, and without control characters.
    pub reason: String,
}

impl Refusal {
    pub(super) fn new(code: RefusalCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.reason)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    WrongCluster,
    WrongSecret,
    Version,
    Settings,
    WrongNode,
    StaleIncarnation,
    NotAMember,
    /// A code that only a newer version knows.
    Other,
}

impl RefusalCode {
    const ALL: [Self; 8] = [
        Self::WrongCluster,
        Self::WrongSecret,
        Self::Version,
        Self::Settings,
        Self::WrongNode,
        Self::StaleIncarnation,
        Self::NotAMember,
        Self::Other,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WrongCluster => "wrong_cluster",
            Self::WrongSecret => "wrong_secret",
            Self::Version => "version",
            Self::Settings => "settings",
            Self::WrongNode => "wrong_node",
            Self::StaleIncarnation => "stale_incarnation",
            Self::NotAMember => "not_a_member",
            Self::Other => "other",
        }
    }

    pub(super) fn parse(text: &str) -> Self {
        Self::ALL.into_iter().find(|code| code.as_str() == text).unwrap_or(Self::Other)
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
