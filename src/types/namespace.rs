//! A tenant.

use std::fmt;
use std::sync::Arc;

use super::node::BadName;

pub const NAMESPACE_LEN_MAX: usize = 64;

/// Where the sharded channels of Redis clients live: in Redis too they are apart from the others, whatever their names.
const SHARDED: &str = "default.shard";

/// A tenant's name: 1 to 64 of `a-z A-Z 0-9 . _ -`. Topics of different namespaces never meet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Arc<str>);

impl Namespace {
    pub fn parse(text: &str) -> Result<Self, BadName> {
        match super::NodeName::parse(text) {
            Ok(_) => Ok(Self(text.into())),
            Err(bad) => Err(BadName { what: "namespace", ..bad }),
        }
    }

    /// Of the Redis front's sharded channels; its other channels are in the default namespace.
    pub fn sharded() -> Self {
        Self(SHARDED.into())
    }

    pub fn is_sharded(&self) -> bool {
        &*self.0 == SHARDED
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self("default".into())
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
