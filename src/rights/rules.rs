//! ● What a key may do. Nothing is allowed that is not said; a denial beats every allowance, whatever form is asked for.
//!
//! A subscription by pattern is allowed where one allowance takes all of it, and no denial any of it: so no pattern reaches what its key
//! may not have by name. Watching presence is a way of listening: a denial of subscribing hits it too.

use super::cover::{covers, meets};
use crate::pubsub::pattern::matches;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    Publish,
    Subscribe,
    /// Tracking and watching.
    Presence,
    /// Holding leases and seeing them; patterns are of their names.
    Lease,
    /// Looking at the node: its status, members, figures. Topics don't matter.
    Observe,
    /// Ruling the node, and looking at it. Topics don't matter.
    Admin,
}

impl Right {
    /// As one who has it would say what it does.
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Publish => "publish to",
            Self::Subscribe => "subscribe to",
            Self::Presence => "see or take part in the presence of",
            Self::Lease => "hold or see the lease",
            Self::Observe => "observe",
            Self::Admin => "rule",
        }
    }
}

/// What somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask<'a> {
    Publish(&'a [u8]),
    Subscribe(&'a [u8]),
    SubscribePattern(&'a [u8]),
    Track(&'a [u8]),
    Watch(&'a [u8]),
    /// By its name.
    Lease(&'a [u8]),
    Observe,
    Admin,
}

/// A right, and over which topics.
pub type Said = (Right, Box<[u8]>);

/// Patterns over topics, by right.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    allow: Vec<Said>,
    deny: Vec<Said>,
}

impl Rules {
    /// Everything that topics and leases are for, and nothing of the node.
    pub fn all_topics() -> Self {
        let mut rules = Self::default();
        for right in [Right::Publish, Right::Subscribe, Right::Presence, Right::Lease] {
            rules.allow(right, b"*");
        }
        rules
    }

    pub fn allow(&mut self, right: Right, glob: &[u8]) {
        self.allow.push((right, glob.into()));
    }

    pub fn deny(&mut self, right: Right, glob: &[u8]) {
        self.deny.push((right, glob.into()));
    }

    /// What is allowed and what is denied, as it was said.
    pub fn said(&self) -> (&[Said], &[Said]) {
        (&self.allow, &self.deny)
    }

    /// Is anything of it allowed, whatever is denied?
    pub fn has_any(&self, right: Right) -> bool {
        self.allow.iter().any(|(of, _)| *of == right)
    }

    pub fn may(&self, ask: Ask<'_>) -> bool {
        let right = ask.right();
        let allows = |of: Right| of == right || (of, right) == (Right::Admin, Right::Observe);
        let allowed = self.allow.iter().any(|(of, glob)| allows(*of) && ask.is_covered_by(glob));
        let is_denied = |(of, glob): &Said| ask.is_hit_by(*of) && ask.meets(glob);
        allowed && !self.deny.iter().any(is_denied)
    }
}

impl Ask<'_> {
    pub const fn right(self) -> Right {
        match self {
            Self::Publish(_) => Right::Publish,
            Self::Subscribe(_) | Self::SubscribePattern(_) => Right::Subscribe,
            Self::Track(_) | Self::Watch(_) => Right::Presence,
            Self::Lease(_) => Right::Lease,
            Self::Observe => Right::Observe,
            Self::Admin => Right::Admin,
        }
    }

    fn is_hit_by(self, denied: Right) -> bool {
        denied == self.right() || matches!((self, denied), (Self::Watch(_), Right::Subscribe))
    }

    fn is_covered_by(self, glob: &[u8]) -> bool {
        match self {
            Self::SubscribePattern(asked) => covers(glob, asked),
            Self::Publish(topic)
            | Self::Subscribe(topic)
            | Self::Track(topic)
            | Self::Watch(topic)
            | Self::Lease(topic) => matches(glob, topic),
            Self::Observe | Self::Admin => true,
        }
    }

    fn meets(self, glob: &[u8]) -> bool {
        match self {
            Self::SubscribePattern(asked) => meets(glob, asked),
            other => other.is_covered_by(glob),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ask, Right, Rules};

    #[test]
    fn deny_beats_allow_and_silence_is_no() {
        let mut rules = Rules::default();
        for ask in [
            Ask::Publish(b"a"),
            Ask::Subscribe(b"a"),
            Ask::SubscribePattern(b"*"),
            Ask::Watch(b"a"),
            Ask::Lease(b"a"),
            Ask::Admin,
        ] {
            assert!(!rules.may(ask), "{ask:?}");
        }
        rules.allow(Right::Subscribe, b"room:*");
        rules.allow(Right::Presence, b"room:*");
        rules.allow(Right::Lease, b"job:*");
        rules.deny(Right::Lease, b"job:x");
        rules.allow(Right::Publish, b"room:1");
        rules.deny(Right::Subscribe, b"room:secret*");
        for (ask, may) in [
            (Ask::Publish(b"room:1"), true),
            (Ask::Publish(b"room:2"), false),
            (Ask::Subscribe(b"room:1"), true),
            (Ask::Subscribe(b"lobby"), false),
            (Ask::Subscribe(b"room:secret"), false),
            (Ask::Subscribe(b"room:secret:1"), false),
            (Ask::SubscribePattern(b"room:1*"), true),
            (Ask::SubscribePattern(b"room:*"), false),
            (Ask::SubscribePattern(b"room:?ecret"), false),
            (Ask::SubscribePattern(b"*"), false),
            (Ask::SubscribePattern(b"room:secret?"), false),
            (Ask::SubscribePattern(b"room:a*t"), true),
            (Ask::Track(b"room:1"), true),
            (Ask::Track(b"room:secret"), true),
            (Ask::Watch(b"room:1"), true),
            // Who may not hear the room may not see who is in it.
            (Ask::Watch(b"room:secret"), false),
            (Ask::Lease(b"job:1"), true),
            (Ask::Lease(b"job:x"), false),
            (Ask::Lease(b"room:1"), false),
            (Ask::Publish(b"job:1"), false),
            (Ask::Observe, false),
            (Ask::Admin, false),
        ] {
            assert_eq!(rules.may(ask), may, "{ask:?}");
        }
        rules.allow(Right::Observe, b"");
        assert!(rules.may(Ask::Observe) && !rules.may(Ask::Admin));
        rules.allow(Right::Admin, b"");
        assert!(rules.may(Ask::Admin));
        rules.deny(Right::Admin, b"");
        assert!(!rules.may(Ask::Admin));
    }
}
