//! ● The whole state as bytes, and back: what is not a state that `apply` can have made is refused.

use super::bounds::{
    AUDIT_LINES_MAX, FACTS_BYTES_MAX, KEYS_MAX, LEASES_MAX, LEASES_PER_NAMESPACE_MAX,
    NAMESPACES_MAX,
};
use super::state::{Index, State};
use crate::control::codec::{CodecError, Kind, open, seal};

impl State {
    /// The same state gives the same bytes on every member.
    pub fn to_snapshot(&self) -> Result<Vec<u8>, CodecError> {
        seal(Kind::State, self)
    }

    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut state: Self = open(Kind::State, bytes)?;
        state.index = Index::of(&state);
        state.judge().map_err(|why| CodecError::Malformed {
            what: Kind::State.as_str(),
            why: why.to_owned(),
        })?;
        Ok(state)
    }

    fn judge(&self) -> Result<(), &'static str> {
        let is_sane = |sane: bool, why| if sane { Ok(()) } else { Err(why) };
        let of_namespace = self.index.contents.values().map(|contents| contents.leases).max();
        is_sane(self.namespaces.len() <= NAMESPACES_MAX, "more namespaces than there may be")?;
        is_sane(self.keys.len() <= KEYS_MAX, "more keys than there may be")?;
        is_sane(self.leases.len() <= LEASES_MAX, "more leases than there may be")?;
        is_sane(
            of_namespace.unwrap_or_default() <= LEASES_PER_NAMESPACE_MAX as u64,
            "more leases of a namespace than there may be",
        )?;
        is_sane(self.index.bytes <= FACTS_BYTES_MAX, "more bytes than there may be")?;
        is_sane(self.audit.len() <= AUDIT_LINES_MAX, "more audit lines than there may be")?;
        let highest = self.leases.values().map(|lease| lease.token).max();
        is_sane(highest.is_none_or(|token| token < self.next_token), "a token from later")?;
        is_sane(
            self.group.is_some() || (self.leases.is_empty() && self.revision == 0),
            "facts without a group",
        )
    }
}
