//! The one place that knows how the insides of an envelope become bytes: a version byte, then bincode with a bound on what it may
//! allocate.

use serde::Serialize;
use serde::de::DeserializeOwned;

const VERSION: u8 = 1;
/// No length inside may claim more.
const CLAIM_MAX: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CodecError {
    #[error("format {0} is unknown")]
    Version(u8),
    #[error("malformed: {0}")]
    Malformed(String),
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<CLAIM_MAX>()
}

pub(super) fn encode(value: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    let mut out = vec![VERSION];
    bincode::serde::encode_into_std_write(value, &mut out, config())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    Ok(out)
}

/// The value, and the bytes after it.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
    let (version, bytes) =
        bytes.split_first().ok_or_else(|| CodecError::Malformed("empty".to_owned()))?;
    if *version != VERSION {
        return Err(CodecError::Version(*version));
    }
    let (value, used) = bincode::serde::decode_from_slice(bytes, config())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    Ok((value, bytes.get(used..).unwrap_or_default()))
}
