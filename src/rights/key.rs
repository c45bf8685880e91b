//! ● A key: the text that a client shows, and what is kept of it.
//!
//! `wx_ID_SECRET`: the id may be seen by anybody, and finds the entry; the secret is 256 bits of chance, so that one round of SHA-256 keeps
//! it as well as a slow hash would, and a connection costs no more.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "wx_";
const ID_LEN: usize = 10;
/// Lower case, and nothing that is taken for something else.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// What `make` takes of chance.
pub const RANDOM_LEN: usize = ID_LEN + 32;

/// No key is longer; signed tokens are told from keys by this, too.
pub const KEY_LEN_MAX: usize = 128;

const HASH_PREFIX: &str = "sha256:";

/// What is kept of a key. Nobody can go back from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    pub fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// For where it is kept. Whoever has it can't let himself in by it.
    pub const fn bytes(self) -> [u8; 32] {
        self.0
    }

    /// As it was kept.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As the file has it.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(HASH_PREFIX)?;
        if digits.len() != 64 || !digits.is_ascii() {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(hash))
    }

    /// Takes as long whether it fits or not.
    pub fn fits(&self, text: &[u8]) -> bool {
        use subtle::ConstantTimeEq as _;
        Self::of(text).0.ct_eq(&self.0).into()
    }
}

impl std::fmt::Display for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(HASH_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

/// A new key, its id and its text. `random` must come from a cryptographic source.
pub fn make(random: &[u8; RANDOM_LEN]) -> (String, String) {
    let (of_id, of_secret) = random.split_at(ID_LEN);
    let id: String =
        of_id.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
    let text = format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(of_secret));
    (id, text)
}

/// The id of what looks like a key.
pub fn id_of(text: &[u8]) -> Option<&str> {
    if text.len() > KEY_LEN_MAX {
        return None;
    }
    let (id, _) = std::str::from_utf8(text).ok()?.strip_prefix(PREFIX)?.split_once('_')?;
    is_id(id).then_some(id)
}

pub fn is_id(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::{KeyHash, RANDOM_LEN, id_of, make};

    #[test]
    fn a_key_is_found_by_its_id_and_known_by_its_hash() {
        let (id, text) = make(&[7; RANDOM_LEN]);
        assert_eq!(id_of(text.as_bytes()), Some(&*id));
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)));
        let hash = KeyHash::of(text.as_bytes());
        assert_eq!(KeyHash::parse(&hash.to_string()), Some(hash));
        assert!(hash.fits(text.as_bytes()) && !hash.fits(b"wx_x_y"));
        let mut other = [7; RANDOM_LEN];
        other[RANDOM_LEN - 1] = 8;
        assert!(!hash.fits(make(&other).1.as_bytes()));
        for wrong in ["", "wx_", "wx_a", "wx__x", "wx_a b_c", "xw_a_b", "eyJ.x.y"] {
            assert_eq!(id_of(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(id_of(&[b'a'; 8 << 10]), None);
        for wrong in ["", "sha256:", "sha256:zz", "md5:00", &"sha256:é".repeat(8)] {
            assert_eq!(KeyHash::parse(wrong), None, "{wrong}");
        }
        assert!(!format!("{hash:?}").contains(&hash.to_string()[7..]));
    }
}
