//! What an operation changed, as watchers see it.

use crate::types::Topic;

use super::Shown;

/// One presence before and after. At least one of them is there, and where both are, their references differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub topic: Topic,
    pub before: Option<Shown>,
    pub after: Option<Shown>,
    /// Of a join: no other presence of its key showed at that moment.
    pub first_of_key: bool,
    /// Of a leave: no other presence of its key shows any more.
    pub last_of_key: bool,
}

/// The changes of one or more operations, in their order; at most one of each presence for each operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "watchers are told of what changed"]
pub struct Diff(pub Vec<Change>);

impl Diff {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
