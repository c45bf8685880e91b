//! ● What the client is subscribed to, what the user has asked for, and what an attachment has been asked.
//!
//! The user's asks are answered once, in the end: one whose attachment breaks is asked again of the next, which changes nothing if the
//! first had done it already.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{AttachmentId, Reply, Request, Ticket, next_id};
use crate::client::message::{ServerError, TopicResult};

/// Names of one subscribe request when all are asked again. A frame of a million names would be one that no node takes.
const NAMES_PER_REQUEST: usize = 1_000;
const BYTES_PER_REQUEST: usize = 64 << 10;

#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    topics: BTreeSet<String>,
    patterns: BTreeSet<String>,
    asks: BTreeMap<Ticket, Ask>,
    /// By request id.
    sent: HashMap<u64, Sent>,
}

#[derive(Debug)]
struct Ask {
    unsubscribe: bool,
    topics: Vec<String>,
    patterns: Vec<String>,
    /// Names that were not subscribed before: refused, they are not after.
    new: Vec<(Kind, String)>,
    sent_to: Option<AttachmentId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Topic,
    Pattern,
}

#[derive(Debug)]
struct Sent {
    to: AttachmentId,
    what: What,
}

#[derive(Debug)]
enum What {
    Ask(Ticket),
    Again { topics: Vec<String>, patterns: Vec<String> },
}

#[derive(Debug)]
pub(crate) enum Answered {
    Ask {
        ticket: Ticket,
        result: Result<Vec<TopicResult>, ServerError>,
    },
    /// No longer subscribed. Without a name: none of the request is, until the next attachment.
    Again {
        refused: Vec<(Option<String>, ServerError)>,
    },
    /// Nobody asked, or it has been answered before.
    Unasked(Option<ServerError>),
}

impl Subscriptions {
    pub(crate) fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.patterns.is_empty()
    }

    pub(crate) fn is_busy(&self) -> bool {
        !self.asks.is_empty() || !self.sent.is_empty()
    }

    pub(crate) fn ask(
        &mut self,
        ticket: Ticket,
        unsubscribe: bool,
        topics: Vec<String>,
        patterns: Vec<String>,
    ) {
        let mut new = Vec::new();
        for (kind, names) in [(Kind::Topic, &topics), (Kind::Pattern, &patterns)] {
            let set = self.set(kind);
            for name in names {
                if unsubscribe {
                    set.remove(name);
                } else if set.insert(name.clone()) {
                    new.push((kind, name.clone()));
                }
            }
        }
        self.asks.insert(ticket, Ask { unsubscribe, topics, patterns, new, sent_to: None });
    }

    /// Requests for all asks that no living attachment has been asked.
    pub(crate) fn unsent(&mut self, to: AttachmentId, ids: &mut u64) -> Vec<Request> {
        let mut requests = Vec::new();
        for (&ticket, ask) in self.asks.iter_mut().filter(|(_, ask)| ask.sent_to.is_none()) {
            ask.sent_to = Some(to);
            let id = next_id(ids);
            self.sent.insert(id, Sent { to, what: What::Ask(ticket) });
            let (topics, patterns) = (ask.topics.clone(), ask.patterns.clone());
            requests.push(if ask.unsubscribe {
                Request::Unsubscribe { id, topics, patterns }
            } else {
                Request::Subscribe { id, topics, patterns }
            });
        }
        requests
    }

    /// Requests for all that is subscribed, for an attachment that is new. Asks are not forgotten: they go to it as well, after these.
    pub(crate) fn again(&mut self, to: AttachmentId, ids: &mut u64) -> Vec<Request> {
        for ask in self.asks.values_mut() {
            ask.sent_to = None;
        }
        let mut requests = Vec::new();
        let topics = chunks(&self.topics).into_iter().map(|topics| (topics, Vec::new()));
        let patterns = chunks(&self.patterns).into_iter().map(|patterns| (Vec::new(), patterns));
        for (topics, patterns) in topics.chain(patterns) {
            let id = next_id(ids);
            let what = What::Again { topics: topics.clone(), patterns: patterns.clone() };
            self.sent.insert(id, Sent { to, what });
            requests.push(Request::Subscribe { id, topics, patterns });
        }
        requests
    }

    pub(crate) fn answered(&mut self, reply: Reply) -> Answered {
        let Some(Sent { what, .. }) = self.sent.remove(&reply.id) else {
            return Answered::Unasked(reply.error);
        };
        match what {
            What::Ask(ticket) => {
                let Some(ask) = self.asks.remove(&ticket) else {
                    return Answered::Unasked(None);
                };
                // A set, since both lists may have 100,000 names.
                let refused: HashSet<&str> = reply
                    .topics
                    .iter()
                    .filter(|result| result.error.is_some())
                    .map(|result| result.topic.as_str())
                    .collect();
                for (kind, name) in &ask.new {
                    if reply.error.is_some() || refused.contains(name.as_str()) {
                        self.set(*kind).remove(name);
                    }
                }
                let result = match reply.error {
                    Some(error) => Err(error),
                    None => Ok(reply.topics),
                };
                Answered::Ask { ticket, result }
            }
            What::Again { topics, .. } => {
                if let Some(error) = reply.error {
                    return Answered::Again { refused: vec![(None, error)] };
                }
                let kind = if topics.is_empty() { Kind::Pattern } else { Kind::Topic };
                let mut refused = Vec::new();
                for result in reply.topics {
                    if let Some(error) = result.error {
                        self.set(kind).remove(&result.topic);
                        refused.push((Some(result.topic), error));
                    }
                }
                Answered::Again { refused }
            }
        }
    }

    pub(crate) fn awaits(&self, attachment: AttachmentId) -> bool {
        self.sent.values().any(|sent| sent.to == attachment)
    }

    /// Names that this attachment has been asked for and not answered.
    pub(crate) fn unconfirmed(&self, to: AttachmentId) -> Vec<String> {
        let mut names = Vec::new();
        for sent in self.sent.values().filter(|sent| sent.to == to) {
            let (topics, patterns) = match &sent.what {
                What::Again { topics, patterns } => (topics, patterns),
                What::Ask(ticket) => match self.asks.get(ticket) {
                    Some(ask) => (&ask.topics, &ask.patterns),
                    None => continue,
                },
            };
            names.extend(topics.iter().chain(patterns).cloned());
        }
        names
    }

    /// The attachment is gone: whatever it did not answer is to be asked again.
    pub(crate) fn lost(&mut self, attachment: AttachmentId) {
        self.sent.retain(|_, sent| sent.to != attachment);
        for ask in self.asks.values_mut().filter(|ask| ask.sent_to == Some(attachment)) {
            ask.sent_to = None;
        }
    }

    fn set(&mut self, kind: Kind) -> &mut BTreeSet<String> {
        match kind {
            Kind::Topic => &mut self.topics,
            Kind::Pattern => &mut self.patterns,
        }
    }
}

fn chunks(names: &BTreeSet<String>) -> Vec<Vec<String>> {
    let mut chunks: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for name in names {
        bytes += name.len();
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < NAMES_PER_REQUEST && bytes <= BYTES_PER_REQUEST => {
                chunk.push(name.clone());
            }
            _ => {
                bytes = name.len();
                chunks.push(vec![name.clone()]);
            }
        }
    }
    chunks
}
