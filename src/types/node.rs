//! Who is who among nodes.

use std::fmt;
use std::sync::Arc;

pub const NAME_LEN_MAX: usize = 64;

/// The name of a node: 1 to 64 of `a-z A-Z 0-9 . _ -`, unique in its cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

/// The name of a cluster; the same rule as a node's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(Arc<str>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {got:?} must be 1 to {NAME_LEN_MAX} characters of a-z A-Z 0-9 . _ -")]
pub struct BadName {
    pub what: &'static str,
    pub got: String,
}

fn check(what: &'static str, text: &str) -> Result<Arc<str>, BadName> {
    let lawful = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > NAME_LEN_MAX || !text.chars().all(lawful) {
        let got = text.chars().take(NAME_LEN_MAX + 1).collect();
        return Err(BadName { what, got });
    }
    Ok(text.into())
}

impl NodeName {
    pub fn parse(text: &str) -> Result<Self, BadName> {
        check("node name", text).map(Self)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ClusterName {
    pub fn parse(text: &str) -> Result<Self, BadName> {
        check("cluster name", text).map(Self)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One start of a node. Rises with every start of a name, whatever the wall clock does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A node and its incarnation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica {
    pub name: NodeName,
    pub incarnation: Incarnation,
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.incarnation)
    }
}
