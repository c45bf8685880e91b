//! One life of one directed link.

use super::Incarnation;

/// Frames of an older epoch are dropped. Ordered within one pair of incarnations by `attempt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkEpoch {
    pub sender: Incarnation,
    pub receiver: Incarnation,
    /// Rises with every hello of this sender's incarnation to this receiver.
    pub attempt: u64,
}
