//! What clients want, as the judge knows it: which session has which presence, and since when nobody has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use waxwing::presence::{Owner, Track, Untrack};
use waxwing::types::{SessionId, Topic};

/// One of the few presences of the world.
pub(crate) type Name = usize;

#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) revision: u64,
    pub(crate) meta: u64,
    /// Another session has tracked it since: this one isn't told, and doesn't count as having it.
    pub(crate) lost: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) session: SessionId,
    pub(crate) epoch: u64,
    pub(crate) linger: u64,
    /// Where it is attached, as it believes.
    pub(crate) node: Option<usize>,
    /// Since when it is not.
    pub(crate) broken_at: u64,
    pub(crate) wishes: BTreeMap<Name, Wish>,
    /// What it gave up. Said again after each welcome: it may have overtaken the news of that.
    pub(crate) given_up: BTreeSet<Name>,
}

impl Client {
    pub(crate) fn new(number: usize, linger: u64) -> Self {
        let session = SessionId([u8::try_from(number).unwrap() + 1; 16]);
        let wishes = BTreeMap::new();
        Self {
            session,
            epoch: 0,
            linger,
            node: None,
            broken_at: 0,
            wishes,
            given_up: BTreeSet::new(),
        }
    }

    pub(crate) fn owner(&self) -> Owner {
        let linger = Duration::from_millis(self.linger);
        Owner { session: self.session, epoch: self.epoch, linger }
    }
}

pub(crate) fn key(name: Name) -> String {
    format!("user{}", name / 2)
}

pub(crate) fn id(name: Name) -> String {
    format!("tab{}", name % 2)
}

pub(crate) fn name(key: &str, id: &str) -> Name {
    let number =
        |text: &str| text.trim_start_matches(char::is_alphabetic).parse::<usize>().unwrap();
    number(key) * 2 + number(id)
}

pub(crate) fn track(topic: &Topic, name: Name, wish: &Wish) -> Track {
    Track {
        topic: topic.clone(),
        key: key(name).into(),
        id: Some(id(name).into()),
        meta: bytes::Bytes::from(wish.meta.to_string()),
        revision: wish.revision,
    }
}

pub(crate) fn untrack(topic: &Topic, name: Name, release: Option<u64>) -> Untrack {
    Untrack {
        topic: topic.clone(),
        key: key(name).into(),
        id: Some(id(name).into()),
        release: release.map(Duration::from_millis),
    }
}

/// What is known of one presence from the clients' side.
#[derive(Debug, Clone, Default)]
pub(crate) struct Truth {
    /// Somebody who had it gave it up, or may have: a leave has its reason.
    pub(crate) dropped_at: u64,
    /// Somebody had it last at that time.
    pub(crate) had_at: u64,
    /// Since when somebody has it without a break.
    pub(crate) held_since: Option<u64>,
    /// Nodes that held it, and until when.
    pub(crate) nodes: BTreeMap<usize, u64>,
}

/// Sessions that have a presence now: attached to a node that lives, or back before long.
pub(crate) fn holders(
    clients: &[Client],
    alive: &BTreeSet<usize>,
    now: u64,
    name: Name,
) -> Vec<usize> {
    let holds = |client: &Client| {
        client.wishes.get(&name).is_some_and(|wish| !wish.lost)
            && match client.node {
                Some(node) => alive.contains(&node),
                // Half its linger: the other half is for what the news need on their way.
                None => now < client.broken_at + client.linger / 2,
            }
    };
    (0..clients.len()).filter(|at| holds(&clients[*at])).collect()
}
