//! A claim: what one replica says about one presence. Immutable, one allocation, cheap to clone.

use std::fmt;
use std::time::Duration;

use triomphe::ThinArc;

use crate::types::SessionId;

use super::KEY_LEN_MAX;
use super::name::Name;

/// When a session asked for something last. Within an attachment all that it asks for goes through one replica: the next operation of that
/// one tells what came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Asked {
    pub epoch: u64,
    pub counter: u64,
}

/// All of a claim in the open, to make one from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a> {
    pub key: &'a str,
    pub id: &'a str,
    pub meta: &'a [u8],
    /// The session that owns it.
    pub session: SessionId,
    /// Of the attachment under which it was claimed.
    pub epoch: u64,
    /// By its session; what a node adopts by itself keeps it.
    pub asked: Asked,
    /// Rises with every change of hands.
    pub number: u64,
    /// As all nodes see it.
    pub revision: u64,
    /// The visible revision = base + the number that the owner's client counts by itself.
    pub base: i64,
    /// Unix milliseconds; when the presence was first tracked.
    pub since_ms: u64,
    pub linger: Duration,
}

#[derive(Debug, PartialEq, Eq)]
struct Fixed {
    session: SessionId,
    epoch: u64,
    asked: Asked,
    number: u64,
    revision: u64,
    base: i64,
    since_ms: u64,
    linger_ms: u32,
    key_len: u16,
    id_len: u16,
}

/// The fixed part, then key, id and metadata, in one allocation.
#[derive(Clone, PartialEq, Eq)]
pub struct Claim(ThinArc<Fixed, u8>);

/// Why the fields that somebody sent are no claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("must not be empty")]
    Empty,
    #[error("is longer than {KEY_LEN_MAX} bytes")]
    TooLong,
    #[error("must not have control characters")]
    Control,
}

/// What a key or an id must be.
pub(super) fn check_name(text: &str) -> Result<(), BadName> {
    if text.is_empty() {
        return Err(BadName::Empty);
    }
    if text.len() > KEY_LEN_MAX {
        return Err(BadName::TooLong);
    }
    if text.chars().any(char::is_control) {
        return Err(BadName::Control);
    }
    Ok(())
}

impl Claim {
    /// Lingers are kept in whole milliseconds, at most `u32::MAX` of them.
    pub fn new(fields: &Fields<'_>) -> Result<Self, BadName> {
        check_name(fields.key)?;
        check_name(fields.id)?;
        let len = |text: &str| u16::try_from(text.len()).map_err(|_| BadName::TooLong);
        let fixed = Fixed {
            session: fields.session,
            epoch: fields.epoch,
            asked: fields.asked,
            number: fields.number,
            revision: fields.revision,
            base: fields.base,
            since_ms: fields.since_ms,
            linger_ms: u32::try_from(fields.linger.as_millis()).unwrap_or(u32::MAX),
            key_len: len(fields.key)?,
            id_len: len(fields.id)?,
        };
        let mut tail = Vec::with_capacity(fields.key.len() + fields.id.len() + fields.meta.len());
        tail.extend_from_slice(fields.key.as_bytes());
        tail.extend_from_slice(fields.id.as_bytes());
        tail.extend_from_slice(fields.meta);
        Ok(Self(ThinArc::from_header_and_slice(fixed, &tail)))
    }

    /// As this one, but for what `fields` say differently; key and id must be the same.
    pub(super) fn renewed(&self, fields: &Fields<'_>) -> Self {
        Self::new(fields).unwrap_or_else(|_| self.clone())
    }

    /// The same claim in the open.
    pub fn fields(&self) -> Fields<'_> {
        Fields {
            key: self.key(),
            id: self.id(),
            meta: self.meta(),
            session: self.session(),
            epoch: self.epoch(),
            asked: self.asked(),
            number: self.number(),
            revision: self.revision(),
            base: self.base(),
            since_ms: self.since_ms(),
            linger: self.linger(),
        }
    }

    fn fixed(&self) -> &Fixed {
        &self.0.header.header
    }

    fn key_bytes(&self) -> &[u8] {
        &self.0.slice[..self.fixed().key_len.into()]
    }

    fn id_bytes(&self) -> &[u8] {
        let start = usize::from(self.fixed().key_len);
        &self.0.slice[start..start + usize::from(self.fixed().id_len)]
    }

    pub(super) fn name(&self) -> Name<'_> {
        Name { key: self.key_bytes(), id: self.id_bytes() }
    }

    pub fn key(&self) -> &str {
        std::str::from_utf8(self.key_bytes()).unwrap_or_default()
    }

    pub fn id(&self) -> &str {
        std::str::from_utf8(self.id_bytes()).unwrap_or_default()
    }

    pub fn meta(&self) -> &[u8] {
        &self.0.slice[usize::from(self.fixed().key_len) + usize::from(self.fixed().id_len)..]
    }

    pub fn session(&self) -> SessionId {
        self.fixed().session
    }

    pub fn epoch(&self) -> u64 {
        self.fixed().epoch
    }

    pub fn asked(&self) -> Asked {
        self.fixed().asked
    }

    pub fn number(&self) -> u64 {
        self.fixed().number
    }

    pub fn revision(&self) -> u64 {
        self.fixed().revision
    }

    /// As its owner's client counts by itself.
    pub fn own_revision(&self) -> i64 {
        self.revision().cast_signed().wrapping_sub(self.base())
    }

    pub fn base(&self) -> i64 {
        self.fixed().base
    }

    pub fn since_ms(&self) -> u64 {
        self.fixed().since_ms
    }

    pub fn linger(&self) -> Duration {
        Duration::from_millis(self.fixed().linger_ms.into())
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fields().fmt(f)
    }
}
