//! Topics and patterns. A value of these types has been checked; nobody checks it again.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use siphasher::sip::SipHasher24;

use super::{ClusterName, Namespace};
use crate::plants::{self, Plant};

/// The longest topic or pattern that any setting allows, in bytes.
pub const TOPIC_LEN_CEILING: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTopic {
    #[error("a topic must not be empty")]
    Empty,
    #[error("a topic of {len} bytes is longer than the limit of {max}")]
    TooLong { len: usize, max: usize },
    #[error("a topic must not have control characters (found U+{0:04X})")]
    Control(u32),
}

/// Makes topics of one cluster: the hash of a topic is the same on all its nodes.
#[derive(Debug, Clone)]
pub struct TopicHasher {
    key: (u64, u64),
}

impl TopicHasher {
    pub fn new(cluster: &ClusterName) -> Self {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(cluster.as_str());
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| digest[at + i]));
        Self { key: (word(0), word(8)) }
    }

    pub fn hash(&self, namespace: &Namespace, name: &[u8]) -> u64 {
        let mut hash = SipHasher24::new_with_keys(self.key.0, self.key.1);
        hash.write_u64(namespace.as_str().len() as u64);
        hash.write(namespace.as_str().as_bytes());
        hash.write(name);
        hash.finish()
    }

    /// A topic as gRPC and HTTP take it: text without control characters, at most `len_max` bytes.
    pub fn topic(
        &self,
        namespace: &Namespace,
        name: &str,
        len_max: usize,
    ) -> Result<Topic, BadTopic> {
        if let Some(control) = name.chars().find(|c| c.is_control()) {
            return Err(BadTopic::Control(control.into()));
        }
        if name.is_empty() {
            return Err(BadTopic::Empty);
        }
        self.binary_topic(namespace, name.as_bytes(), len_max)
    }

    /// A topic of any bytes, or of none, as the Redis front and peers have them.
    pub fn binary_topic(
        &self,
        namespace: &Namespace,
        name: &[u8],
        len_max: usize,
    ) -> Result<Topic, BadTopic> {
        if name.len() > len_max {
            return Err(BadTopic::TooLong { len: name.len(), max: len_max });
        }
        let hash = self.hash(namespace, name);
        let is_text = !name.is_empty() && std::str::from_utf8(name).is_ok();
        let inner = Inner { namespace: namespace.clone(), name: name.into(), hash, is_text };
        Ok(Topic(Arc::new(inner)))
    }
}

/// A name in a namespace, with its hash. Cheap to clone.
#[derive(Clone)]
pub struct Topic(Arc<Inner>);

struct Inner {
    namespace: Namespace,
    name: Box<[u8]>,
    hash: u64,
    is_text: bool,
}

impl Topic {
    pub fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    pub fn name(&self) -> &[u8] {
        &self.0.name
    }

    /// False: only fronts that speak bytes can carry it.
    pub fn is_text(&self) -> bool {
        self.0.is_text
    }

    /// `None`: not text.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0.name).ok()
    }

    /// Keyed by the cluster's name; equal topics have equal hashes on all nodes, different ones nearly always differ.
    pub fn hash64(&self) -> u64 {
        self.0.hash
    }

    /// What nodes tell each other of interest in it.
    pub fn interest_hash(&self) -> u64 {
        if plants::is(Plant::EqualHashes) || plants::is(Plant::InterestByTopic) {
            return self.0.hash & 1;
        }
        self.0.hash
    }
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash
                && self.0.name == other.0.name
                && self.0.namespace == other.0.namespace)
    }
}

impl Eq for Topic {}

impl Hash for Topic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.0.name))
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.namespace, self)
    }
}

/// A glob over the topics of a namespace. `pubsub::pattern` matches it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern {
    pub namespace: Namespace,
    pub glob: Arc<[u8]>,
}

impl Pattern {
    /// The rule of a text topic, with the same limit.
    pub fn parse(namespace: &Namespace, glob: &str, len_max: usize) -> Result<Self, BadTopic> {
        if let Some(control) = glob.chars().find(|c| c.is_control()) {
            return Err(BadTopic::Control(control.into()));
        }
        if glob.is_empty() {
            return Err(BadTopic::Empty);
        }
        Self::binary(namespace, glob.as_bytes(), len_max)
    }

    /// A pattern of any bytes, as the Redis front has them.
    pub fn binary(namespace: &Namespace, glob: &[u8], len_max: usize) -> Result<Self, BadTopic> {
        if glob.len() > len_max {
            return Err(BadTopic::TooLong { len: glob.len(), max: len_max });
        }
        Ok(Self { namespace: namespace.clone(), glob: glob.into() })
    }
}
