//! Bugs planted on purpose, one at a time: the tests that judge the core must find each of them, or they prove nothing.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// A claim that lost is withdrawn without naming its successor.
    NoBecause,
    /// A claim whose linger runs is not withdrawn when another node takes it over; it goes when the linger ends, naming nobody.
    LingerNotCancelled,
    /// What a third node has of a forgotten incarnation is accepted.
    ForgottenTaken,
    /// An interval that begins behind what is known is applied.
    GapApplied,
    /// Claims that wait to be removed are left out of answers.
    WaitingLeftOut,
    /// Within one session the claim number counts before the epoch.
    ClaimBeforeEpoch,
}

impl Plant {
    pub const ALL: [Self; 6] = [
        Self::NoBecause,
        Self::LingerNotCancelled,
        Self::ForgottenTaken,
        Self::GapApplied,
        Self::WaitingLeftOut,
        Self::ClaimBeforeEpoch,
    ];
}
