//! The keys that prove membership, and what a proof covers. ● Pure.
//!
//! A proof holds for one role, one cluster, one pair of nodes and incarnations, one pair of nonces and everything else that was
//! said: a proof replayed, reflected or taken from another greeting verifies nowhere. Comparison takes the same time wherever two
//! proofs differ.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::frame::{Challenge, Hello, Proof, ProofBytes};
use crate::config::Secret;
use crate::types::ClusterName;

const SALT: &[u8] = b"waxwing link 1";

/// Never shown.
#[derive(Clone)]
pub(super) struct Keys {
    /// The first proves, any verifies. Never empty.
    keys: Vec<[u8; 32]>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.keys.len())
    }
}

impl Keys {
    /// Without a secret the key follows from the cluster's name: that keeps clusters apart, and nobody out.
    pub(super) fn derive(cluster: &ClusterName, secrets: &[Secret]) -> Self {
        let derive = |kind: &str, material: &[u8]| {
            let mut key = [0; 32];
            let info = [kind.as_bytes(), cluster.as_str().as_bytes()];
            Hkdf::<Sha256>::new(Some(SALT), material)
                .expand_multi_info(&info, &mut key)
                .expect("32 bytes are a lawful length for HKDF-SHA256");
            key
        };
        let mut keys: Vec<_> =
            secrets.iter().map(|secret| derive("secret ", secret.expose())).collect();
        if keys.is_empty() {
            keys.push(derive("open ", cluster.as_str().as_bytes()));
        }
        Self { keys }
    }

    pub(super) fn prove(&self, transcript: &Transcript) -> ProofBytes {
        transcript.mac(&self.keys[0]).finalize().into_bytes().into()
    }

    pub(super) fn verify(&self, transcript: &Transcript, proof: &ProofBytes) -> bool {
        // Tries all keys whichever fits, so that time doesn't tell which one did.
        self.keys
            .iter()
            .map(|key| transcript.mac(key).verify_slice(proof).is_ok())
            .fold(false, |found, fits| found | fits)
    }
}

/// What a proof covers; fields are prefixed with their length, so that no two transcripts share their bytes.
pub(super) struct Transcript {
    bytes: Vec<u8>,
}

impl Transcript {
    /// The acceptor's proof: all of the hello and of the challenge.
    pub(super) fn of_acceptor(hello: &Hello, challenge: &Challenge) -> Self {
        let mut this = Self { bytes: Vec::with_capacity(512) };
        this.field(b"acceptor");
        this.greeting(hello, challenge);
        this
    }

    /// The dialer's proof: the same, and all of the proof frame.
    pub(super) fn of_dialer(hello: &Hello, challenge: &Challenge, proof: &Proof) -> Self {
        let mut this = Self { bytes: Vec::with_capacity(512) };
        this.field(b"dialer");
        this.greeting(hello, challenge);
        this.number(proof.incarnation.0);
        this.number(proof.attempt);
        this.number(proof.acceptor_incarnation.0);
        this.number(proof.settings.len() as u64);
        for (key, value) in &proof.settings {
            this.field(key.as_bytes());
            this.field(value.as_bytes());
        }
        this
    }

    fn greeting(&mut self, hello: &Hello, challenge: &Challenge) {
        self.field(hello.cluster.as_str().as_bytes());
        self.field(hello.from.as_str().as_bytes());
        self.field(hello.to.as_str().as_bytes());
        self.field(&hello.nonce);
        self.number(hello.version_min.into());
        self.number(hello.version_max.into());
        self.field(challenge.from.as_str().as_bytes());
        self.field(&challenge.nonce);
        self.number(challenge.incarnation.0);
        self.number(challenge.version.into());
    }

    fn field(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    fn number(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_be_bytes());
    }

    fn mac(&self, key: &[u8; 32]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
        mac.update(&self.bytes);
        mac
    }
}
