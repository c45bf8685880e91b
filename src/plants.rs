//! Bugs planted on purpose, one at a time in a process: whoever simulates nodes must find each of them, or proves nothing. Only with the
//! feature `plants`; without it nothing is planted, and the questions are constants. What a world of whole nodes has hardly a chance to meet
//! is planted in the models of its core: a hello answered too early, a snapshot applied in parts.

/// What is wrong with the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// What a gap has counted is delivered behind it.
    DeliveryAfterGap,
    /// A gap counts one too many.
    GapCountOffByOne,
    /// The last subscription to one topic ends the interest in all topics of its hash. (Hashes are cut short, so that some are equal.)
    InterestByTopic,
    /// No bug: hashes are cut short, as for the one before.
    EqualHashes,
    /// No bug: the digest of a peer's first snapshot is kept wrong, so that the peer's next word on it asks for another.
    InterestDiffers,
    /// What waits for its acknowledgement is dropped when the link goes down.
    WindowDroppedAtDown,
    /// The end of a session is not told to presence: what it tracked stays.
    EndUntold,
    /// A session that is attached elsewhere by now is told to presence as one that has ended.
    MoveEnds,
}

impl Plant {
    pub const ALL: [Self; 8] = [
        Self::DeliveryAfterGap,
        Self::GapCountOffByOne,
        Self::InterestByTopic,
        Self::EqualHashes,
        Self::InterestDiffers,
        Self::WindowDroppedAtDown,
        Self::EndUntold,
        Self::MoveEnds,
    ];

    /// As it is called on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeliveryAfterGap => "delivery-after-gap",
            Self::GapCountOffByOne => "gap-count-off-by-one",
            Self::InterestByTopic => "interest-by-topic",
            Self::EqualHashes => "equal-hashes",
            Self::InterestDiffers => "interest-differs",
            Self::WindowDroppedAtDown => "window-dropped-at-down",
            Self::EndUntold => "end-untold",
            Self::MoveEnds => "move-ends",
        }
    }
}

#[cfg(feature = "plants")]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Once, before the first node of the process starts.
#[cfg(feature = "plants")]
pub fn plant(plant: Plant) {
    PLANTED.store(plant as u8 + 1, std::sync::atomic::Ordering::Relaxed);
}

#[cfg(feature = "plants")]
pub(crate) fn is(plant: Plant) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == plant as u8 + 1
}

#[cfg(not(feature = "plants"))]
pub(crate) const fn is(_: Plant) -> bool {
    false
}
