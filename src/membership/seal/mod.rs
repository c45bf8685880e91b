//! Sealing and opening datagrams: `version | key id | nonce | XChaCha20-Poly1305`. Pure: nonces are arguments.
//!
//! Invariant: nothing inside a datagram is looked at before its seal has been found whole, and what is checked before that (length,
//! version, key id) costs no cryptography.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;

use super::rejected::Rejected;
use crate::config::Secret;
use crate::types::ClusterName;

/// No datagram is longer, so that none is fragmented by IP on any usual network.
pub(super) const DATAGRAM_MAX: usize = 1_200;
pub(super) const NONCE_LEN: usize = 24;
const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 4;
const TAG_LEN: usize = 16;
const PREFIX_LEN: usize = 1 + KEY_ID_LEN + NONCE_LEN;
/// What sealing adds.
pub(super) const OVERHEAD: usize = PREFIX_LEN + TAG_LEN;

/// The first key seals, any of them opens. So a secret is changed by adding the new one behind the old on every node, then putting it
/// first, then taking the old one away.
pub(super) struct Keyring {
    keys: Vec<SealKey>,
    /// Version and cluster name: a datagram of another cluster doesn't open, even with the same secret.
    associated: Vec<u8>,
}

struct SealKey {
    id: [u8; KEY_ID_LEN],
    cipher: XChaCha20Poly1305,
}

/// A datagram whose outside is right.
pub(super) struct Sealed<'a> {
    id: [u8; KEY_ID_LEN],
    nonce: [u8; NONCE_LEN],
    content: &'a [u8],
}

impl Keyring {
    /// Without secrets the key comes from the cluster's name alone: it keeps clusters apart on one host, and nobody out.
    pub(super) fn new(cluster: &ClusterName, secrets: &[Secret]) -> Self {
        let mut associated = vec![VERSION];
        associated.extend_from_slice(cluster.as_str().as_bytes());
        let keys = if secrets.is_empty() {
            vec![SealKey::derive(b"waxwing gossip, no secret", cluster.as_str().as_bytes())]
        } else {
            secrets
                .iter()
                .map(|secret| SealKey::derive(b"waxwing gossip", secret.expose()))
                .collect()
        };
        Self { keys, associated }
    }

    /// `nonce` must be random: with 24 bytes, chance never makes one twice.
    pub(super) fn seal(&self, nonce: [u8; NONCE_LEN], plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.keys.first()?;
        let payload = Payload { msg: plain, aad: &self.associated };
        let content = key.cipher.encrypt(&XNonce::from(nonce), payload).ok()?;
        let mut datagram = Vec::with_capacity(PREFIX_LEN + content.len());
        datagram.push(VERSION);
        datagram.extend_from_slice(&key.id);
        datagram.extend_from_slice(&nonce);
        datagram.extend_from_slice(&content);
        Some(datagram)
    }

    /// The cheap checks.
    pub(super) fn inspect<'a>(&self, datagram: &'a [u8]) -> Result<Sealed<'a>, Rejected> {
        if datagram.len() <= OVERHEAD || datagram.len() > DATAGRAM_MAX {
            return Err(Rejected::Length);
        }
        let (version, rest) = datagram.split_first().ok_or(Rejected::Length)?;
        if *version != VERSION {
            return Err(Rejected::Version);
        }
        let (id, rest) = rest.split_first_chunk().ok_or(Rejected::Length)?;
        let (nonce, content) = rest.split_first_chunk().ok_or(Rejected::Length)?;
        if !self.keys.iter().any(|key| key.id == *id) {
            return Err(Rejected::Key);
        }
        Ok(Sealed { id: *id, nonce: *nonce, content })
    }

    pub(super) fn open(&self, sealed: &Sealed<'_>) -> Result<Vec<u8>, Rejected> {
        let nonce = XNonce::from(sealed.nonce);
        self.keys
            .iter()
            .filter(|key| key.id == sealed.id)
            .find_map(|key| {
                let payload = Payload { msg: sealed.content, aad: &self.associated };
                key.cipher.decrypt(&nonce, payload).ok()
            })
            .ok_or(Rejected::Seal)
    }
}

impl SealKey {
    fn derive(salt: &[u8], secret: &[u8]) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(salt), secret);
        let mut key = [0; 32];
        let mut id = [0; KEY_ID_LEN];
        // Expanding fails only for more than 255 blocks.
        let _ = hkdf.expand(b"seal v1", &mut key);
        let _ = hkdf.expand(b"key id v1", &mut id);
        Self { id, cipher: XChaCha20Poly1305::new(&Key::from(key)) }
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
