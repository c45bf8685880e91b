//! A client's identity: a secret token that only the client keeps, and the id that anybody may see.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Namespace, Topic};

/// Secret, 128 bits. Never logged, never sent to a peer.
#[derive(Clone, PartialEq, Eq)]
pub struct ResumeToken([u8; 16]);

impl ResumeToken {
    /// `bytes` must come from a cryptographic source of randomness, or from a client.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The same on every node, so that any of them can verify a resume; nobody can go back from it to the token.
    pub fn session_id(&self, namespace: &Namespace) -> SessionId {
        let mut hash = Sha256::new();
        hash.update((namespace.as_str().len() as u64).to_le_bytes());
        hash.update(namespace.as_str());
        hash.update(self.0);
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        SessionId(id)
    }
}

impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeToken(secret)")
    }
}

/// What may be a resume token, on its way between the wire and whoever judges it. Not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TokenBytes(pub Bytes);

impl fmt::Debug for TokenBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenBytes({} bytes)", self.0.len())
    }
}

/// Shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    /// Of whoever writes one presence without a session: the same on every node, and no session's that has a token.
    pub fn of_writer(topic: &Topic, key: &str, id: &str) -> Self {
        let mut hash = Sha256::new();
        let namespace = topic.namespace().as_str().as_bytes();
        for part in [b"writer".as_slice(), namespace, topic.name(), key.as_bytes(), id.as_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        Self(bytes)
    }

    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        let mut id = [0; 16];
        for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(id))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
