//! Why a datagram was dropped. Each reason is counted; none is answered.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::names;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rejected {
    /// Shorter or longer than any datagram of ours.
    Length,
    Version,
    /// Sealed with a key that this node doesn't have.
    Key,
    /// Too many from this source.
    Rate,
    /// The seal doesn't hold: forged, damaged, or of another cluster.
    Seal,
    Decode,
    /// Of this node's current run, come back.
    Reflected,
    /// Of an earlier run of this node, at its address.
    EarlierSelf,
    Replay,
    Clock,
    /// A piece that doesn't fit its message, or a message that was given up for want of pieces.
    Fragment,
    /// A message over the limit, as sent or inflated.
    Size,
    /// A message that chitchat must not see.
    Content,
    /// Gossip came faster than it could be taken.
    Overrun,
}

const ALL: [Rejected; 14] = [
    Rejected::Length,
    Rejected::Version,
    Rejected::Key,
    Rejected::Rate,
    Rejected::Seal,
    Rejected::Decode,
    Rejected::Reflected,
    Rejected::EarlierSelf,
    Rejected::Replay,
    Rejected::Clock,
    Rejected::Fragment,
    Rejected::Size,
    Rejected::Content,
    Rejected::Overrun,
];

impl Rejected {
    /// Nothing is wrong when it happens: a restart leaves such datagrams behind.
    pub(super) const fn is_harmless(self) -> bool {
        matches!(self, Self::EarlierSelf)
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Version => "version",
            Self::Key => "key",
            Self::Rate => "rate",
            Self::Seal => "seal",
            Self::Decode => "decode",
            Self::Reflected => "reflected",
            Self::EarlierSelf => "earlier_self",
            Self::Replay => "replay",
            Self::Clock => "clock",
            Self::Fragment => "fragment",
            Self::Size => "size",
            Self::Content => "content",
            Self::Overrun => "overrun",
        }
    }
}

/// This node's counts, beside the process-wide metric.
#[derive(Debug, Default)]
pub(super) struct Rejections {
    counts: [AtomicU64; ALL.len()],
}

impl Rejections {
    /// True where the count has reached a power of two: the log then tells of it, and a flood doesn't flood the log.
    pub(super) fn count(&self, why: Rejected) -> bool {
        metrics::counter!(names::GOSSIP_REJECTED, "reason" => why.as_str()).increment(1);
        (self.counts[why as usize].fetch_add(1, Ordering::Relaxed) + 1).is_power_of_two()
    }

    pub(super) fn get(&self, why: Rejected) -> u64 {
        self.counts[why as usize].load(Ordering::Relaxed)
    }

    /// The reasons that occurred.
    pub(super) fn all(&self) -> Vec<(&'static str, u64)> {
        ALL.into_iter()
            .map(|why| (why.as_str(), self.get(why)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}
