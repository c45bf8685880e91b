//! What readers get: the one presence that several claims show as.

use std::fmt;

use siphasher::sip::SipHasher13;
use std::hash::Hasher;

use crate::types::{NodeName, SessionId, Time, Topic};

use super::Claim;

/// Which state of which presence: a hash of (namespace, topic, key, id, revision, metadata), so the same on all nodes whoever
/// holds the claim. Shown as 11 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference(pub u64);

impl Reference {
    pub(super) fn of(topic: &Topic, claim: &Claim) -> Self {
        let mut hash = SipHasher13::new_with_keys(topic.hash64(), 0x7761_7877_696e_6721);
        for part in [claim.key().as_bytes(), claim.id().as_bytes(), claim.meta()] {
            hash.write_u64(part.len() as u64);
            hash.write(part);
        }
        hash.write_u64(claim.revision());
        Self(hash.finish())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = u128::from(self.0) << 2;
        (0..11).rev().try_for_each(|at| {
            let digit = DIGITS[((bits >> (6 * at)) & 63) as usize];
            write!(f, "{}", char::from(digit))
        })
    }
}

/// One presence as it shows. Immutable; cloning copies two pointers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub(super) claim: Claim,
    pub(super) node: NodeName,
    pub(super) session: SessionId,
    pub(super) since_ms: u64,
    pub(super) reference: Reference,
    pub(super) leaves_at: Option<Time>,
}

impl Shown {
    pub fn key(&self) -> &str {
        self.claim.key()
    }

    pub fn id(&self) -> &str {
        self.claim.id()
    }

    pub fn meta(&self) -> &[u8] {
        self.claim.meta()
    }

    pub fn revision(&self) -> u64 {
        self.claim.revision()
    }

    pub fn reference(&self) -> Reference {
        self.reference
    }

    /// Unix milliseconds; when the presence was first tracked.
    pub fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// The node that holds the claim which shows.
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// The owner; [`super::NOBODY`] where it was released and nobody has adopted it yet.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Its node is down, and its linger runs.
    pub fn orphaned(&self) -> bool {
        self.leaves_at.is_some()
    }

    /// When it leaves, unless somebody takes it over: of an orphan.
    pub fn leaves_at(&self) -> Option<Time> {
        self.leaves_at
    }
}

/// Of one topic. Kept, so that asking costs one look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    pub presences: usize,
    pub keys: usize,
}

/// Of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// That show.
    pub presences: usize,
    pub keys: usize,
    pub topics: usize,
    /// Presences that show though their node is down.
    pub orphaned: usize,
    /// Claims withdrawn in favour of one that is not known here yet.
    pub waiting: usize,
    /// All claims that are kept, hidden and outdone ones too.
    pub claims: usize,
    /// Among them, of this node's sessions.
    pub own: usize,
}
