//! A tenant.

use std::fmt;
use std::sync::Arc;

use super::node::BadName;

pub const NAMESPACE_LEN_MAX: usize = 64;

/// Behind a tenant's name: where the sharded channels of its Redis clients live. In Redis too they are apart from the others, whatever
/// their names. No tenant's name has a slash, so nobody can speak of it.
const SHARDED: &str = "/shard";

/// A tenant's name: 1 to 64 of `a-z A-Z 0-9 . _ -`; or the place of its sharded channels. Topics of different namespaces never meet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// A tenant's.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        match super::NodeName::parse(text) {
            Ok(_) => Ok(Self(text.into())),
            Err(bad) => Err(BadName { what: "namespace", ..bad }),
        }
    }

    /// As nodes tell each other: a tenant's, or that of its sharded channels.
    pub fn parse_told(text: &str) -> Result<Self, BadName> {
        match text.strip_suffix(SHARDED) {
            Some(tenant) => Ok(Self::parse(tenant)?.sharded()),
            None => Self::parse(text),
        }
    }

    /// Of the Redis front's sharded channels of this tenant.
    pub fn sharded(&self) -> Self {
        if self.is_sharded() { self.clone() } else { Self(format!("{}{SHARDED}", self.0).into()) }
    }

    pub fn is_sharded(&self) -> bool {
        self.0.ends_with(SHARDED)
    }

    /// Is it this tenant's, its sharded channels included?
    pub fn is_of(&self, tenant: &Self) -> bool {
        Arc::ptr_eq(&self.0, &tenant.0)
            || self.0.strip_suffix(SHARDED).unwrap_or(&self.0) == &*tenant.0
    }

    /// Whose it is: itself, but for sharded channels.
    pub fn tenant(&self) -> Self {
        self.0.strip_suffix(SHARDED).map_or_else(|| self.clone(), |tenant| Self(tenant.into()))
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

#[cfg(test)]
mod tests {
    use super::Namespace;

    #[test]
    fn sharded_channels_are_a_tenants_own_and_nobody_can_name_them() {
        let of = |text| Namespace::parse(text).unwrap();
        let (acme, shop) = (of("acme"), of("shop"));
        assert!(Namespace::parse("acme/shard").is_err());
        assert!(Namespace::parse_told("acme/shard/shard").is_err());
        assert!(Namespace::parse_told("/shard").is_err());
        assert_eq!(Namespace::parse_told("acme/shard").unwrap(), acme.sharded());
        assert_eq!(Namespace::parse_told("acme").unwrap(), acme);
        assert!(acme.sharded().is_sharded() && !acme.is_sharded());
        assert_eq!((acme.sharded().tenant(), acme.tenant()), (acme.clone(), acme.clone()));
        for (one, of, yes) in [
            (acme.clone(), &acme, true),
            (acme.sharded(), &acme, true),
            (shop.sharded(), &acme, false),
            (shop, &acme, false),
            (Namespace::parse("acme.shard").unwrap(), &acme, false),
        ] {
            assert_eq!(one.is_of(of), yes, "{one} of {of}");
        }
    }
}
