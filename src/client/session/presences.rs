//! ● What the client tracks and watches, what the user has asked of it, and what an attachment has been asked.
//!
//! After every welcome all of it is asked again. A session that was resumed asks by *update*: where another session has taken a
//! presence over meanwhile it must not be taken back, and where the node lacks it, it is tracked. Revisions are numbered here, for
//! ever upwards, so that whatever is asked again is recognised.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{AttachmentId, Reply, Request, Ticket, next_id};
use crate::client::message::ServerError;
use crate::client::presence::{Track, Untrack};

/// What the user asks about presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PresenceAsk {
    Track(Vec<Track>),
    Update(Vec<Track>),
    Untrack(Untrack),
    Watch { topic: String, counts_only: bool },
    Unwatch { topic: String },
}

/// For each thing asked the reference (empty but for tracks), or why it was refused.
pub(crate) type PresenceAnswers = Vec<Result<String, ServerError>>;

#[derive(Debug, Default)]
pub(crate) struct Presences {
    own: HashMap<Name, Own, foldhash::fast::RandomState>,
    /// By topic: only counts?
    watches: BTreeMap<String, bool>,
    revisions: u64,
    asks: BTreeMap<Ticket, Ask>,
    /// By request id.
    sent: HashMap<u64, Sent, foldhash::fast::FixedState>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Name {
    topic: String,
    key: String,
    id: String,
}

#[derive(Debug, Clone)]
struct Own {
    track: Arc<Track>,
    revision: u64,
}

#[derive(Debug)]
struct Ask {
    things: Vec<Thing>,
    answers: Vec<Option<Result<String, ServerError>>>,
    left: usize,
    sent_to: Option<AttachmentId>,
}

#[derive(Debug, Clone)]
enum Thing {
    Track { update: bool, own: Own, is_new: bool },
    Untrack(Untrack),
    Watch { topic: String, counts_only: bool, is_new: bool },
    Unwatch { topic: String },
}

#[derive(Debug)]
struct Sent {
    to: AttachmentId,
    what: What,
}

#[derive(Debug)]
enum What {
    Thing {
        ticket: Ticket,
        at: usize,
    },
    /// By update: if it isn't tracked, it shall be.
    Again {
        name: Name,
        revision: u64,
        update: bool,
    },
    WatchAgain {
        topic: String,
    },
}

/// What an answer means.
#[derive(Debug)]
pub(crate) enum PresenceAnswered {
    /// It is none to a request of these.
    NotMine(Reply),
    /// More is to come.
    Nothing,
    Ask {
        ticket: Ticket,
        answers: PresenceAnswers,
    },
    /// No longer tracked, or watched.
    Refused {
        topic: String,
        error: ServerError,
    },
    /// Ask this of the same attachment.
    Then(Request),
    /// What comes of this topic from here on begins with a snapshot.
    Watching {
        topic: String,
        then: Option<(Ticket, PresenceAnswers)>,
    },
}

impl Presences {
    pub(crate) fn is_busy(&self) -> bool {
        !self.asks.is_empty() || !self.sent.is_empty()
    }

    pub(crate) fn ask(&mut self, ticket: Ticket, ask: PresenceAsk) {
        let things: Vec<Thing> = match ask {
            PresenceAsk::Track(tracks) => self.tracks(tracks, false),
            PresenceAsk::Update(tracks) => self.tracks(tracks, true),
            PresenceAsk::Untrack(untrack) => {
                self.own.remove(&Name::of(&untrack.topic, &untrack.key, &untrack.id));
                vec![Thing::Untrack(untrack)]
            }
            PresenceAsk::Watch { topic, counts_only } => {
                let is_new = self.watches.insert(topic.clone(), counts_only).is_none();
                vec![Thing::Watch { topic, counts_only, is_new }]
            }
            PresenceAsk::Unwatch { topic } => {
                self.watches.remove(&topic);
                vec![Thing::Unwatch { topic }]
            }
        };
        let left = things.len();
        let answers = vec![None; left];
        self.asks.insert(ticket, Ask { things, answers, left, sent_to: None });
    }

    fn tracks(&mut self, tracks: Vec<Track>, update: bool) -> Vec<Thing> {
        let mut things = Vec::with_capacity(tracks.len());
        for track in tracks {
            let name = Name::of(&track.topic, &track.key, &track.id);
            let known = self.own.get(&name);
            let is_new = known.is_none();
            let own = match known {
                // The same again is the same revision.
                Some(own) if own.track.meta == track.meta => own.clone(),
                _ => {
                    self.revisions += 1;
                    Own { track: Arc::new(track), revision: self.revisions }
                }
            };
            // What was never tracked can't be updated: the node says so, and nothing is kept.
            if !(update && is_new) {
                self.own.insert(name, own.clone());
            }
            things.push(Thing::Track { update, own, is_new });
        }
        things
    }

    /// Requests for all asks that no living attachment has been asked.
    pub(crate) fn unsent(&mut self, to: AttachmentId, ids: &mut u64) -> Vec<Request> {
        let mut requests = Vec::new();
        for (&ticket, ask) in self.asks.iter_mut().filter(|(_, ask)| ask.sent_to.is_none()) {
            ask.sent_to = Some(to);
            for (at, thing) in ask.things.iter().enumerate() {
                if ask.answers[at].is_some() {
                    continue;
                }
                let id = next_id(ids);
                self.sent.insert(id, Sent { to, what: What::Thing { ticket, at } });
                requests.push(thing.request(id));
            }
        }
        requests
    }

    /// Requests for all that is tracked and watched, for an attachment that is new. Asks go to it as well, after these.
    pub(crate) fn again(&mut self, to: AttachmentId, resumed: bool, ids: &mut u64) -> Vec<Request> {
        for ask in self.asks.values_mut() {
            ask.sent_to = None;
        }
        let mut requests = Vec::with_capacity(self.own.len() + self.watches.len());
        // In an order that is the same every time.
        let mut own: Vec<_> = self.own.iter().collect();
        own.sort_unstable_by_key(|(name, _)| *name);
        for (name, own) in own {
            let id = next_id(ids);
            let what = What::Again { name: name.clone(), revision: own.revision, update: resumed };
            self.sent.insert(id, Sent { to, what });
            requests.push(own.request(id, resumed));
        }
        for (topic, &counts_only) in &self.watches {
            let id = next_id(ids);
            self.sent.insert(id, Sent { to, what: What::WatchAgain { topic: topic.clone() } });
            requests.push(Request::Watch { id, topic: topic.clone(), counts_only });
        }
        requests
    }

    /// The snapshot again, since something of it was lost on the way to the user.
    pub(crate) fn watch_again(
        &mut self,
        to: AttachmentId,
        topic: &str,
        ids: &mut u64,
    ) -> Vec<Request> {
        let Some(&counts_only) = self.watches.get(topic) else { return Vec::new() };
        let (first, second) = (next_id(ids), next_id(ids));
        let topic = topic.to_owned();
        self.sent.insert(second, Sent { to, what: What::WatchAgain { topic: topic.clone() } });
        vec![
            Request::Unwatch { id: first, topic: topic.clone() },
            Request::Watch { id: second, topic, counts_only },
        ]
    }

    pub(crate) fn answered(&mut self, reply: Reply, ids: &mut u64) -> PresenceAnswered {
        let Some(Sent { to, what }) = self.sent.remove(&reply.id) else {
            return PresenceAnswered::NotMine(reply);
        };
        let Reply { error, reference, .. } = reply;
        match what {
            What::WatchAgain { topic } => match error {
                None => PresenceAnswered::Watching { topic, then: None },
                Some(error) => {
                    self.watches.remove(&topic);
                    PresenceAnswered::Refused { topic, error }
                }
            },
            What::Again { name, revision, update } => {
                let Some(error) = error else { return PresenceAnswered::Nothing };
                // Tracked otherwise meanwhile, or not at all: there is an ask of its own about it.
                let Some(own) = self.own.get(&name).filter(|own| own.revision == revision) else {
                    return PresenceAnswered::Nothing;
                };
                if update && error.code == "not_tracked" {
                    let id = next_id(ids);
                    let request = own.request(id, false);
                    let what = What::Again { name, revision, update: false };
                    self.sent.insert(id, Sent { to, what });
                    return PresenceAnswered::Then(request);
                }
                let topic = name.topic.clone();
                self.own.remove(&name);
                PresenceAnswered::Refused { topic, error }
            }
            What::Thing { ticket, at } => self.thing_answered(ticket, at, error, reference),
        }
    }

    fn thing_answered(
        &mut self,
        ticket: Ticket,
        at: usize,
        error: Option<ServerError>,
        reference: String,
    ) -> PresenceAnswered {
        let Some(ask) = self.asks.get_mut(&ticket) else { return PresenceAnswered::Nothing };
        let watching = match &ask.things[at] {
            Thing::Track { own, is_new, .. } => {
                let gone = error.as_ref().is_some_and(|error| {
                    *is_new || matches!(error.code.as_str(), "not_tracked" | "not_owner")
                });
                if gone {
                    let name = Name::of(&own.track.topic, &own.track.key, &own.track.id);
                    if self.own.get(&name).is_some_and(|now| now.revision == own.revision) {
                        self.own.remove(&name);
                    }
                }
                None
            }
            Thing::Watch { topic, is_new, .. } => {
                if error.is_some() && *is_new {
                    self.watches.remove(topic);
                }
                error.is_none().then(|| topic.clone())
            }
            Thing::Untrack(_) | Thing::Unwatch { .. } => None,
        };
        if ask.answers[at].replace(error.map_or(Ok(reference), Err)).is_none() {
            ask.left -= 1;
        }
        let done = if ask.left == 0 {
            let ask = self.asks.remove(&ticket);
            ask.map(|ask| (ticket, ask.answers.into_iter().flatten().collect()))
        } else {
            None
        };
        match (watching, done) {
            (Some(topic), then) => PresenceAnswered::Watching { topic, then },
            (None, Some((ticket, answers))) => PresenceAnswered::Ask { ticket, answers },
            (None, None) => PresenceAnswered::Nothing,
        }
    }

    pub(crate) fn awaits(&self, attachment: AttachmentId) -> bool {
        self.sent.values().any(|sent| sent.to == attachment)
    }

    /// The attachment is gone: whatever it did not answer is to be asked again.
    pub(crate) fn lost(&mut self, attachment: AttachmentId) {
        self.sent.retain(|_, sent| sent.to != attachment);
        for ask in self.asks.values_mut().filter(|ask| ask.sent_to == Some(attachment)) {
            ask.sent_to = None;
        }
    }
}

impl Name {
    fn of(topic: &str, key: &str, id: &str) -> Self {
        Self { topic: topic.to_owned(), key: key.to_owned(), id: id.to_owned() }
    }
}

impl Own {
    fn request(&self, id: u64, update: bool) -> Request {
        Request::Track { id, update, track: self.track.clone(), revision: self.revision }
    }
}

impl Thing {
    fn request(&self, id: u64) -> Request {
        match self {
            Self::Track { update, own, .. } => own.request(id, *update),
            Self::Untrack(untrack) => Request::Untrack { id, untrack: untrack.clone() },
            Self::Watch { topic, counts_only, .. } => {
                Request::Watch { id, topic: topic.clone(), counts_only: *counts_only }
            }
            Self::Unwatch { topic } => Request::Unwatch { id, topic: topic.clone() },
        }
    }
}
