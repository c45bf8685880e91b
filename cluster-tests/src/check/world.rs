//! A history sorted by who did what, so that each checker reads only its own part.

use std::collections::{BTreeMap, HashMap};

use crate::history::{Kind, Numbered, Op, Record};

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) publishes: Vec<Published>,
    /// By publisher and number.
    pub(super) by_number: HashMap<(String, u64), usize>,
    /// By client name: what all its attachments did together.
    pub(super) subscribers: BTreeMap<String, Subscriber>,
    /// By node and publisher: where in the history somebody attached there got a higher number than anybody had before, and that number.
    reached: HashMap<(String, String), Vec<(usize, u64)>>,
}

#[derive(Debug)]
pub(super) struct Published {
    pub(super) message: Numbered,
    /// The node it was published on.
    pub(super) origin: String,
    pub(super) invoked: usize,
    /// Where in the history its outcome stands.
    pub(super) outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok(usize),
    Fail,
    /// Never told.
    Unknown,
}

#[derive(Debug, Default)]
pub(super) struct Subscriber {
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) stream: Vec<Seen>,
}

/// Places in the history at which a subscription began and ended.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) name: String,
    pub(super) is_pattern: bool,
    pub(super) attachment: u32,
    pub(super) node: String,
    pub(super) asked: usize,
    /// Acknowledged by every live member, or not at all.
    pub(super) everywhere: Option<usize>,
    pub(super) unasked: Option<usize>,
    pub(super) ended: Option<usize>,
    /// The attachment's stream ended; the client knows that what was still to come does not.
    pub(super) cut_off: Option<usize>,
}

#[derive(Debug)]
pub(super) enum Seen {
    Message { attachment: u32, message: Numbered, origin: String },
    Gap(Gap),
}

#[derive(Debug)]
pub(super) struct Gap {
    pub(super) attachment: u32,
    pub(super) topics: Vec<String>,
    pub(super) origin: String,
    pub(super) missing: Option<u64>,
    pub(super) certain: bool,
    /// The client came back without what the node kept for it: what its attachment before did not get may be missing.
    pub(super) reconnected: bool,
    /// Where in the history it stands.
    pub(super) told: usize,
}

impl Seen {
    pub(super) const fn attachment(&self) -> u32 {
        match self {
            Self::Gap(gap) => gap.attachment,
            Self::Message { attachment, .. } => *attachment,
        }
    }

    pub(super) const fn gap(&self) -> Option<&Gap> {
        match self {
            Self::Gap(gap) => Some(gap),
            Self::Message { .. } => None,
        }
    }
}

impl Gap {
    pub(super) fn covers(&self, published: &Published) -> bool {
        self.is_about(&published.message.topic, &published.origin)
    }

    pub(super) fn is_about(&self, topic: &str, origin: &str) -> bool {
        (self.topics.is_empty() || self.topics.iter().any(|one| one == topic))
            && (self.origin.is_empty() || self.origin == origin)
    }
}

impl World {
    pub(super) fn of(history: &[Record]) -> Self {
        let mut world = Self::default();
        for (at, record) in history.iter().enumerate() {
            world.add(at, record);
        }
        world
    }

    fn add(&mut self, at: usize, record: &Record) {
        match &record.op {
            Op::Publish(message) => self.publish(at, record, message),
            Op::Subscribe { topics, patterns, everywhere } => {
                let subscriber = self.subscriber(record);
                match record.kind {
                    Kind::Invoke => {
                        subscriber.ask(at, record, topics, false);
                        subscriber.ask(at, record, patterns, true);
                    }
                    Kind::Ok if *everywhere => {
                        let acknowledged = |subscription: &mut Subscription| {
                            subscription.everywhere.get_or_insert(at);
                        };
                        subscriber.each(record.attachment, topics, patterns, acknowledged);
                    }
                    Kind::Ok | Kind::Fail | Kind::Info | Kind::Event => {}
                }
            }
            Op::Unsubscribe { topics, patterns } => {
                let invoked = record.kind == Kind::Invoke;
                let end = |subscription: &mut Subscription| {
                    let place =
                        if invoked { &mut subscription.unasked } else { &mut subscription.ended };
                    place.get_or_insert(at);
                };
                self.subscriber(record).each(record.attachment, topics, patterns, end);
            }
            Op::Message { message, origin, .. } => {
                let (attachment, message, origin) =
                    (record.attachment, message.clone(), origin.clone());
                self.reach(at, &record.node, &message);
                self.subscriber(record).stream.push(Seen::Message { attachment, message, origin });
            }
            Op::Gap { topics, origin, missing, certain, reason } => {
                let gap = Gap {
                    attachment: record.attachment,
                    topics: topics.clone(),
                    origin: origin.clone(),
                    missing: *missing,
                    certain: *certain,
                    reconnected: reason == "RECONNECTED",
                    told: at,
                };
                self.subscriber(record).stream.push(Seen::Gap(gap));
            }
            Op::Ended { .. } => {
                let of_it = |one: &&mut Subscription| one.attachment == record.attachment;
                let subscriptions = &mut self.subscriber(record).subscriptions;
                for subscription in subscriptions.iter_mut().filter(of_it) {
                    subscription.cut_off.get_or_insert(at);
                }
            }
            // Faults, and what presence is judged by.
            _ => {}
        }
    }

    fn reach(&mut self, at: usize, node: &str, message: &Numbered) {
        let key = (node.to_owned(), message.publisher.clone());
        let steps = self.reached.entry(key).or_default();
        if steps.last().is_none_or(|(_, seq)| *seq < message.seq) {
            steps.push((at, message.seq));
        }
    }

    /// Somebody on this node had got this message, or a later one of its publisher, before this place: it isn't on its way there any more.
    pub(super) fn had_passed(&self, message: &Numbered, node: &str, before: usize) -> bool {
        let steps = self.reached.get(&(node.to_owned(), message.publisher.clone()));
        let steps = steps.map(Vec::as_slice).unwrap_or_default();
        let seen = steps.partition_point(|(at, _)| *at < before);
        seen.checked_sub(1).is_some_and(|last| steps[last].1 >= message.seq)
    }

    fn subscriber(&mut self, record: &Record) -> &mut Subscriber {
        self.subscribers.entry(record.proc.clone()).or_default()
    }

    fn publish(&mut self, at: usize, record: &Record, message: &Numbered) {
        let key = (message.publisher.clone(), message.seq);
        let index = *self.by_number.entry(key).or_insert_with(|| {
            self.publishes.push(Published {
                message: message.clone(),
                origin: record.node.clone(),
                invoked: at,
                outcome: Outcome::Unknown,
            });
            self.publishes.len() - 1
        });
        match record.kind {
            Kind::Ok => self.publishes[index].outcome = Outcome::Ok(at),
            Kind::Fail => self.publishes[index].outcome = Outcome::Fail,
            Kind::Invoke | Kind::Info | Kind::Event => {}
        }
    }
}

impl Subscriber {
    fn ask(&mut self, at: usize, record: &Record, names: &[String], is_pattern: bool) {
        let attachment = record.attachment;
        for name in names {
            // Asked for again while it holds: nothing new.
            let holds = |subscription: &Subscription| {
                subscription.is(attachment, name, is_pattern) && subscription.unasked.is_none()
            };
            if self.subscriptions.iter().any(holds) {
                continue;
            }
            self.subscriptions.push(Subscription {
                name: name.clone(),
                is_pattern,
                attachment,
                node: record.node.clone(),
                asked: at,
                everywhere: None,
                unasked: None,
                ended: None,
                cut_off: None,
            });
        }
    }

    /// The attachment that this gap was told to had asked for the topic of that message before.
    pub(super) fn had_asked_for(&self, published: &Published, gap: &Gap) -> bool {
        self.subscriptions.iter().any(|one| {
            one.attachment == gap.attachment
                && one.asked < gap.told
                && one.matches(&published.message.topic)
        })
    }

    fn each(
        &mut self,
        attachment: u32,
        topics: &[String],
        patterns: &[String],
        mut change: impl FnMut(&mut Subscription),
    ) {
        for subscription in &mut self.subscriptions {
            let names = if subscription.is_pattern { patterns } else { topics };
            let meant = subscription.attachment == attachment && subscription.ended.is_none();
            if meant && names.contains(&subscription.name) {
                change(subscription);
            }
        }
    }
}

impl Subscription {
    fn is(&self, attachment: u32, name: &str, is_pattern: bool) -> bool {
        self.attachment == attachment && self.is_pattern == is_pattern && self.name == name
    }

    pub(super) fn matches(&self, topic: &str) -> bool {
        if self.is_pattern { super::glob::matches(&self.name, topic) } else { self.name == topic }
    }
}
