//! One publish: numbered, to local mailboxes and to the links of interested peers, and confirmed when that is asked for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use smallvec::SmallVec;

use super::lane::Lane;
use super::tickets::{Answer, Ticket};
use super::{Router, RouterHandle};
use crate::pubsub::batch::Head;
use crate::pubsub::mailbox::Pushed;
use crate::pubsub::registry::Targets;
use crate::pubsub::{Batch, Mailbox, Messages};
use crate::types::{NodeName, SessionId, Time, Topic};

/// What one publisher publishes to one topic in one go.
#[derive(Debug, Clone)]
pub struct Publish {
    pub topic: Topic,
    pub messages: Messages,
    /// This session's subscriptions are left out, wherever it is attached.
    pub exclude: Option<SessionId>,
    pub reach: Reach,
    pub confirm: Confirm,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Reach {
    #[default]
    Cluster,
    /// This node's subscribers alone.
    Here,
    /// One other node's subscribers alone.
    Node(NodeName),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Confirm {
    #[default]
    None,
    Node,
    Cluster,
}

/// What became of a publish. Message `i` has the number `first + i`.
#[derive(Debug)]
pub struct Published {
    pub first: u64,
    /// Members that put it into mailboxes, this node among them.
    pub members: u32,
    /// With `Confirm::Cluster` those that it was put to; else this node's, and what interested peers that are linked last announced.
    pub subscriptions: u64,
    /// Interested members that did not answer in time, or were not asked.
    pub unknown: u32,
    /// With `Confirm::Cluster`: this node first, then each other live member.
    pub trace: Vec<MemberTrace>,
    pub local_subscriptions: u64,
    /// Some receiver is over half full and drains: the publishing session should await `RouterHandle::pace` once a socket read.
    pub slow: Option<Arc<Mailbox>>,
}

#[derive(Debug, Clone)]
pub struct MemberTrace {
    pub node: NodeName,
    pub interested: bool,
    pub subscriptions: u64,
    /// None: not asked, or no answer in time.
    pub took: Option<Duration>,
}

#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum PublishError {
    /// Nothing was delivered.
    #[error("no member is called {0}")]
    UnknownNode(NodeName),
    /// Nothing was delivered.
    #[error("{0} is not reachable")]
    NotConnected(NodeName),
}

/// Payloads are copied out of a buffer that is more than twice as large, and by more than so much.
const SLACK_BYTES: usize = 4 * 1024;

/// Peers with interest, and the outboxes of those among them that something is kept for, in the same order.
type Wanted = (SmallVec<[Wanting; 8]>, SmallVec<[Arc<Mailbox>; 8]>);

/// A publish that stands in its place in everybody's order. Whatever is handed on after it comes behind it, whether its confirmation
/// is waited for or not.
#[derive(Debug)]
pub struct HandedOn {
    router: Arc<Router>,
    published: Published,
    waiting: Option<Waiting>,
}

/// Members that are asked how many got it.
#[derive(Debug)]
struct Waiting {
    wanting: SmallVec<[Wanting; 8]>,
    asked: Vec<NodeName>,
    ticket: Option<Ticket<u64>>,
    since: Time,
}

impl HandedOn {
    /// `Published::slow`, which is known by now.
    pub fn take_slow(&mut self) -> Option<Arc<Mailbox>> {
        self.published.slow.take()
    }

    /// With `Confirm::Cluster` it ends when all interested members have answered or the confirm limit has passed; else at once.
    pub async fn confirmed(self) -> Published {
        let Self { router, mut published, waiting } = self;
        let Some(Waiting { wanting, asked, ticket, since }) = waiting else { return published };
        let answers = match ticket {
            Some(ticket) => ticket.answers(&asked, router.limits.get().confirm).await,
            None => SmallVec::new(),
        };
        router.count_answers(&mut published, &wanting, &answers, since);
        published
    }
}

/// One peer that wants it.
#[derive(Debug)]
struct Wanting {
    lane: Arc<Lane>,
    announced: u64,
    /// It gets it, now or when it is linked again.
    kept: bool,
    /// It can answer.
    linked: bool,
}

impl Router {
    fn wanting(&self, topic: &Topic, reach: &Reach) -> Result<Wanted, PublishError> {
        let mut wanting = SmallVec::new();
        let mut outboxes = SmallVec::new();
        match reach {
            Reach::Here => {}
            Reach::Cluster => {
                for lane in self.lanes.read().iter() {
                    let announced = lane.interest.read().subscriptions(topic);
                    if announced == 0 {
                        continue;
                    }
                    let outbox = lane.outbox.read().clone();
                    let linked = lane.is_linked();
                    let kept = outbox.is_some();
                    wanting.push(Wanting { lane: lane.clone(), announced, kept, linked });
                    outboxes.extend(outbox);
                }
            }
            Reach::Node(name) => {
                let lane =
                    self.find_lane(name).ok_or_else(|| PublishError::UnknownNode(name.clone()))?;
                let outbox = lane.outbox.read().clone();
                let outbox = outbox
                    .filter(|_| lane.is_linked())
                    .ok_or_else(|| PublishError::NotConnected(name.clone()))?;
                let announced = lane.interest.read().subscriptions(topic);
                wanting.push(Wanting { lane, announced, kept: true, linked: true });
                outboxes.push(outbox);
            }
        }
        Ok((wanting, outboxes))
    }

    async fn hand_on(
        self: &Arc<Self>,
        publish: Publish,
        now: Time,
    ) -> Result<HandedOn, PublishError> {
        let Publish { topic, messages, exclude, mut reach, confirm } = publish;
        if reach == Reach::Cluster {
            self.took_publish.store(true, Ordering::Release);
        }
        if matches!(&reach, Reach::Node(name) if *name == self.config.name) {
            reach = Reach::Here;
        }
        let (wanting, outboxes) = self.wanting(&topic, &reach)?;
        let ticket = (confirm == Confirm::Cluster
            && wanting.iter().any(|one| one.kept && one.linked))
        .then(|| self.deliveries.issue());
        let pinned = messages.buffer().len() > 2 * messages.payload_bytes() + SLACK_BYTES;
        let messages = if pinned { messages.copied() } else { messages };
        let number = ticket.as_ref().map_or(0, |ticket| ticket.number);
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        let origin = self.origin.read().clone();
        let time_ms = self.clock.unix_ms();
        let targets = Targets { local: !matches!(reach, Reach::Node(_)), outboxes: &outboxes };
        let (first, delivery) = self
            .registry
            .publish(&topic, count, now, targets, |first| {
                let topic = topic.clone();
                let head = Head { topic, first, count, time_ms, exclude, ticket: number };
                Batch::local(head, messages, origin)
            })
            .await;
        self.published.fetch_add(count.into(), Ordering::Relaxed);

        let local = delivery.mailboxes;
        let mut published = Published {
            first,
            members: u32::from(local > 0),
            subscriptions: local,
            unknown: 0,
            trace: Vec::new(),
            local_subscriptions: local,
            slow: delivery.slow,
        };
        let mut said = delivery.outboxes.iter();
        let mut asked = Vec::new();
        for one in &wanting {
            let pushed = if one.kept {
                said.next().copied().unwrap_or(Pushed::Closed)
            } else {
                Pushed::Closed
            };
            match pushed {
                // Without a link nobody can say in time whether it arrives.
                Pushed::Queued | Pushed::Slow if one.linked => asked.push(one.lane.name.clone()),
                // It gets it later, or a gap in its place, or nothing is kept for it.
                Pushed::Queued | Pushed::Slow | Pushed::Dropped | Pushed::Closed => {}
            }
            if confirm != Confirm::Cluster {
                published.unknown += 1;
                // Where there is no link, nobody gets it; a gap tells them when they come back.
                published.subscriptions += if one.linked { one.announced } else { 0 };
            }
        }
        if confirm == Confirm::Cluster && targets.local {
            published.trace.push(MemberTrace {
                node: self.config.name.clone(),
                interested: local > 0,
                subscriptions: local,
                took: (local > 0).then(|| self.clock.now() - now),
            });
        }
        let waiting =
            (confirm == Confirm::Cluster).then(|| Waiting { wanting, asked, ticket, since: now });
        Ok(HandedOn { router: self.clone(), published, waiting })
    }

    fn count_answers(
        &self,
        published: &mut Published,
        wanting: &[Wanting],
        answers: &[Answer<u64>],
        now: Time,
    ) {
        for member in self.membership.members().live_peers() {
            let interested = wanting.iter().any(|one| one.lane.name == member.name);
            let answer = answers
                .iter()
                .find(|(name, _)| *name == member.name)
                .and_then(|(_, answer)| *answer);
            published.trace.push(MemberTrace {
                node: member.name.clone(),
                interested,
                subscriptions: answer.map_or(0, |(subscriptions, _)| subscriptions),
                took: answer.map(|(_, at)| at - now),
            });
        }
        for one in wanting {
            match answers.iter().find(|(name, _)| *name == one.lane.name) {
                Some((_, Some((subscriptions, _)))) => {
                    published.members += u32::from(*subscriptions > 0);
                    published.subscriptions += subscriptions;
                }
                Some((_, None)) | None => published.unknown += 1,
            }
        }
    }
}

impl RouterHandle {
    /// Numbers the messages and hands them to local mailboxes and links, in one order for everybody. `now` feeds pacing.
    /// With `Confirm::Cluster` it ends when all interested members have answered or the confirm limit has passed; else at once.
    pub async fn publish(&self, publish: Publish, now: Time) -> Result<Published, PublishError> {
        Ok(self.hand_on(publish, now).await?.confirmed().await)
    }

    /// The first half of `publish`: when it ends, what is handed on next comes behind it.
    pub async fn hand_on(&self, publish: Publish, now: Time) -> Result<HandedOn, PublishError> {
        self.0.hand_on(publish, now).await
    }
}
