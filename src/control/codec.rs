//! The one place that knows how commands, entries and snapshots become bytes, on disk and between members.
//!
//! A frame is a head (what it is, in which format, how long, a checksum over all of it) and bincode. Whatever is not exactly what was
//! sealed is told apart before anything inside is believed: not ours, of another kind, of a newer format, or changed. Sealing the same
//! value gives the same bytes on every member. bincode knows no missing fields, so types in here never use serde's `skip_serializing_if`
//! or `default`; whatever changes of them is a new format of its kind.

use std::hash::Hasher as _;

use serde::Serialize;
use serde::de::DeserializeOwned;
use siphasher::sip::SipHasher24;

const MAGIC: [u8; 4] = *b"wxct";
const HEAD_LEN: usize = 4 + 1 + 2 + 4 + 8;
/// No frame is longer, and no length inside may claim more.
pub const FRAME_LEN_MAX: usize = 96 << 20;

/// What a frame holds. The number is part of the format and never given to another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Who a store is.
    Identity = 1,
    Vote = 2,
    /// How far the log is known to be committed.
    Committed = 3,
    /// How far the log was purged.
    Purged = 4,
    Entry = 5,
    /// What a snapshot is of.
    SnapshotMeta = 6,
    /// The whole state of the machine.
    State = 7,
    /// What one member asks of another.
    Call = 8,
    Reply = 9,
}

impl Kind {
    /// The newest format that this program writes, and reads.
    const fn format(self) -> u16 {
        match self {
            Self::Identity
            | Self::Vote
            | Self::Committed
            | Self::Purged
            | Self::Entry
            | Self::SnapshotMeta
            | Self::State
            | Self::Call
            | Self::Reply => 1,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Vote => "vote",
            Self::Committed => "committed position",
            Self::Purged => "purged position",
            Self::Entry => "log entry",
            Self::SnapshotMeta => "snapshot's description",
            Self::State => "state",
            Self::Call => "call",
            Self::Reply => "reply",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("this is no {0} of Waxwing's control")]
    Foreign(&'static str),
    #[error(
        "a {what} of format {found}, and this program knows {known} at most: a newer Waxwing wrote it"
    )]
    Newer { what: &'static str, found: u16, known: u16 },
    #[error("a {0} whose checksum does not fit: it was changed after it was written")]
    Corrupt(&'static str),
    #[error("a {what} that makes no sense: {why}")]
    Malformed { what: &'static str, why: String },
    #[error("a {what} of {len} bytes; at most {FRAME_LEN_MAX}")]
    TooLong { what: &'static str, len: usize },
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<FRAME_LEN_MAX>()
}

/// Over everything but itself. Not against forgers: those are met by whoever brings the bytes.
fn checksum(head: &[u8], payload: &[u8]) -> [u8; 8] {
    let mut hash = SipHasher24::new();
    hash.write(head);
    hash.write(payload);
    hash.finish().to_le_bytes()
}

pub fn seal(kind: Kind, value: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    let what = kind.as_str();
    let mut out = vec![0; HEAD_LEN];
    bincode::serde::encode_into_std_write(value, &mut out, config())
        .map_err(|error| CodecError::Malformed { what, why: error.to_string() })?;
    let len = out.len() - HEAD_LEN;
    let told = u32::try_from(len).ok().filter(|_| out.len() <= FRAME_LEN_MAX);
    let told = told.ok_or(CodecError::TooLong { what, len })?;
    let (head, payload) = out.split_at_mut(HEAD_LEN);
    head[..4].copy_from_slice(&MAGIC);
    head[4] = kind as u8;
    head[5..7].copy_from_slice(&kind.format().to_le_bytes());
    head[7..11].copy_from_slice(&told.to_le_bytes());
    let sum = checksum(&head[..11], payload);
    head[11..].copy_from_slice(&sum);
    Ok(out)
}

pub fn open<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, CodecError> {
    let what = kind.as_str();
    if bytes.len() > FRAME_LEN_MAX {
        return Err(CodecError::TooLong { what, len: bytes.len() });
    }
    let Some((head, payload)) = bytes.split_at_checked(HEAD_LEN) else {
        return Err(CodecError::Foreign(what));
    };
    if head[..4] != MAGIC {
        return Err(CodecError::Foreign(what));
    }
    // The checksum comes before the rest of the head is believed: a flipped bit there isn't another kind or a newer program.
    if head[11..] != checksum(&head[..11], payload) {
        return Err(CodecError::Corrupt(what));
    }
    if head[4] != kind as u8 {
        return Err(CodecError::Foreign(what));
    }
    let (found, known) = (u16::from_le_bytes([head[5], head[6]]), kind.format());
    if found > known {
        return Err(CodecError::Newer { what, found, known });
    }
    let malformed = |why: String| CodecError::Malformed { what, why };
    if found != known {
        return Err(malformed(format!("its format is {found}, which was never written")));
    }
    let told = u32::from_le_bytes([head[7], head[8], head[9], head[10]]);
    if usize::try_from(told) != Ok(payload.len()) {
        return Err(malformed(format!("{} bytes where it says {told}", payload.len())));
    }
    let (value, used) = bincode::serde::decode_from_slice(payload, config())
        .map_err(|error| malformed(error.to_string()))?;
    if used != payload.len() {
        return Err(malformed(format!("{} bytes too many", payload.len() - used)));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::{CodecError, HEAD_LEN, Kind, checksum, open, seal};

    fn resealed(mut frame: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        change(&mut frame);
        let sum = checksum(&frame[..11], &frame[HEAD_LEN..]);
        frame[11..HEAD_LEN].copy_from_slice(&sum);
        frame
    }

    #[test]
    fn what_was_sealed_opens_and_nothing_else_does() {
        let value = (7_u64, "text".to_owned(), vec![1_u8, 2, 3]);
        type Value = (u64, String, Vec<u8>);
        let frame = seal(Kind::Entry, &value).unwrap();
        assert_eq!(open::<Value>(Kind::Entry, &frame), Ok(value.clone()));
        assert_eq!(seal(Kind::Entry, &value), Ok(frame.clone()));
        for at in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            let told = open::<Value>(Kind::Entry, &flipped).unwrap_err();
            let expected = matches!(told, CodecError::Corrupt(_) | CodecError::Foreign(_));
            assert!(expected, "bit {at}: {told}");
        }
        for len in 0..frame.len() {
            assert!(open::<Value>(Kind::Entry, &frame[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn each_refusal_says_why() {
        let frame = seal(Kind::Entry, &"text").unwrap();
        let told = |bytes: &[u8]| open::<String>(Kind::Entry, bytes).unwrap_err();
        assert_eq!(open::<String>(Kind::Vote, &frame), Err(CodecError::Foreign("vote")));
        assert_eq!(told(b"SQLite format 3\0 and so on"), CodecError::Foreign("log entry"));
        let newer = resealed(frame.clone(), |frame| frame[5] = 2);
        assert_eq!(told(&newer), CodecError::Newer { what: "log entry", found: 2, known: 1 });
        let older = resealed(frame.clone(), |frame| frame[5] = 0);
        assert!(matches!(told(&older), CodecError::Malformed { .. }));
        let longer = resealed(frame.clone(), |frame| frame.push(0));
        assert!(matches!(told(&longer), CodecError::Malformed { .. }));
        let more = resealed(frame, |frame| {
            frame.push(0);
            frame[7] += 1;
        });
        assert!(matches!(told(&more), CodecError::Malformed { .. }));
    }
}
