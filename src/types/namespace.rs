//! A tenant.

use std::fmt;
use std::sync::Arc;

use super::node::BadName;

pub const NAMESPACE_LEN_MAX: usize = 64;

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
