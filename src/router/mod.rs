//! Drives `pubsub` over links: the broadcast path. SKELETON: signatures that the broker relies on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::pubsub::Messages;
use crate::pubsub::mailbox::Mailbox;
use crate::types::{NodeName, Pattern, SessionId, Time, Topic, TopicHasher};

#[derive(Debug, Clone)]
pub struct RouterHandle {
    _skeleton: (),
}

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

/// What became of a publish. Message `i` has the number `first + i`; `id(first + i)` is its id.
#[derive(Debug)]
pub struct Published {
    pub first: u64,
    /// Members that put it into mailboxes, this node among them.
    pub members: u32,
    pub subscriptions: u64,
    pub unknown: u32,
    /// With `Confirm::Cluster`: one for each other live member.
    pub trace: Vec<PeerTrace>,
    pub local_subscriptions: u64,
    /// Some receiver is over half full and drains: the publishing session should await `RouterHandle::pace` once a socket read.
    pub slow: Option<Arc<Mailbox>>,
}

#[derive(Debug, Clone)]
pub struct PeerTrace {
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

/// Subscriptions that are announced but don't deliver yet.
#[derive(Debug)]
pub struct Subscribing {
    pub topics: Vec<Topic>,
    pub patterns: Vec<Pattern>,
    /// The version of this node's interest that has them all.
    pub version: u64,
}

/// How far an interest has been confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// Members, this node among them, whose publishes reach the subscription.
    pub confirmed: u32,
    pub members: u32,
    /// Live members that have not confirmed.
    pub missing: Vec<NodeName>,
}

/// What the cluster knows of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionKnown {
    pub known: bool,
    pub epoch: u64,
}

/// A session opened, moved or ended somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionMoved {
    pub session: SessionId,
    pub epoch: u64,
    /// The older attachment goes on receiving.
    pub overlap: bool,
    /// A bye ended it.
    pub ended: bool,
}

/// Asked by the router when a peer says where a session is now.
pub trait SessionDirectory: Send + Sync + 'static {
    /// Ends attachments of a lower epoch, and tells what this node knows of the session.
    fn moved(&self, moved: SessionMoved) -> SessionKnown;
}

#[allow(clippy::todo, clippy::unused_async, unused_variables, reason = "skeleton")]
impl RouterHandle {
    pub fn hasher(&self) -> &TopicHasher {
        todo!()
    }

    /// Once, before the first link: who answers for sessions.
    pub fn set_directory(&self, directory: Arc<dyn SessionDirectory>) {
        todo!()
    }

    pub fn open_mailbox(&self, session: SessionId) -> Arc<Mailbox> {
        todo!()
    }

    /// Ends all its subscriptions.
    pub fn close_mailbox(&self, mailbox: &Arc<Mailbox>) {
        todo!()
    }

    /// Announces interest in what the mailbox isn't subscribed to yet. Nothing is delivered before `activate`.
    pub fn subscribe(
        &self,
        mailbox: &Arc<Mailbox>,
        topics: Vec<Topic>,
        patterns: Vec<Pattern>,
    ) -> Subscribing {
        todo!()
    }

    /// Ends when every live member has confirmed, or after the confirm limit. Members that missed an earlier deadline are not waited
    /// for.
    pub async fn confirmed(&self, version: u64) -> Confirmed {
        todo!()
    }

    /// Puts `answer` (one whole gRPC message) into the mailbox and starts delivery right behind it. For members missing from
    /// `confirmed`, the mailbox gets a possible gap when they confirm.
    pub fn activate(
        &self,
        mailbox: &Arc<Mailbox>,
        subscribing: Subscribing,
        confirmed: &Confirmed,
        answer: Bytes,
    ) {
        todo!()
    }

    /// Nothing of these is delivered after it returns.
    pub fn unsubscribe(&self, mailbox: &Arc<Mailbox>, topics: &[Topic], patterns: &[Pattern]) {
        todo!()
    }

    /// Numbers the messages and hands them to local mailboxes and links, in one order for everybody. `now` feeds pacing.
    /// With `Confirm::Cluster` it ends when all interested members have answered or the confirm limit has passed; else at once.
    pub async fn publish(&self, publish: Publish, now: Time) -> Result<Published, PublishError> {
        todo!()
    }

    /// Ends when the slow receiver has drained below half, or after 5 ms.
    pub async fn pace(&self, slow: &Arc<Mailbox>) {
        todo!()
    }

    /// The id of a message of this node, 26 characters.
    pub fn message_id(&self, number: u64) -> String {
        todo!()
    }

    /// Tells all linked peers and gathers what they know; waits at most 300 ms for answers when `wait`, else for none.
    pub async fn session_moved(&self, moved: SessionMoved, wait: bool) -> SessionKnown {
        todo!()
    }

    /// Topics with local subscribers, in order of name, at most `limit`, and whether there are more.
    pub fn topics(
        &self,
        namespace: &crate::types::Namespace,
        prefix: &str,
        limit: usize,
    ) -> (Vec<TopicReport>, bool) {
        todo!()
    }

    pub fn describe_topic(&self, topic: &Topic) -> TopicReport {
        todo!()
    }

    pub fn report(&self) -> RouterReport {
        todo!()
    }

    /// Every live member's interest has been applied here and ours there.
    pub fn connected_to_all(&self) -> bool {
        todo!()
    }
}

#[derive(Debug, Clone, Default)]
pub struct TopicReport {
    pub topic: String,
    pub local_subscriptions: u64,
    /// Of other members, as they last announced.
    pub members: Vec<(NodeName, u64)>,
    pub patterns: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct RouterReport {
    pub topics: u64,
    pub subscriptions: u64,
    pub patterns: u64,
    pub published: u64,
    pub delivered: u64,
    pub forwarded: u64,
    pub dropped: u64,
    pub gaps: u64,
    pub mailboxes: u64,
    pub mailbox_bytes: u64,
    pub slow_mailboxes: u64,
}

#[derive(Debug)]
pub struct Router {
    _skeleton: (),
}

#[derive(Debug, Clone)]
pub struct RouterConfig {
    pub cluster: crate::types::ClusterName,
    pub name: NodeName,
}

#[allow(clippy::todo, clippy::new_ret_no_self, unused_variables, reason = "skeleton")]
impl Router {
    pub fn new(
        config: RouterConfig,
        membership: crate::membership::MembershipHandle,
        limits: crate::config::limits::LimitsHandle,
        supervisor: crate::supervise::Supervisor,
        clock: crate::supervise::Clock,
    ) -> RouterHandle {
        todo!()
    }
}

#[allow(clippy::todo, reason = "skeleton")]
impl RouterHandle {
    pub fn link_handler(&self) -> Arc<dyn crate::link::LinkHandler> {
        todo!()
    }
}
