//! What the tasks and the handles of one node's membership share.
//!
//! Lock order: `core`, then any lock inside `wire`. None is held across an await.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

use super::config::MembershipConfig;
use super::envelope::{Answer, Control, INCARNATION_MAX, Refusal};
use super::gossip::{Inbox, Saved};
use super::isolation;
use super::member::{MemberState, SharedMembers};
use super::problems::{self, Findings, Problem, SEEDS_UNREACHABLE};
use super::row::{self, Facts};
use super::seeds::{Lookup, Own};
use super::view::{Me, Row, View};
use super::wire::Wire;
use super::{Load, seeds};
use crate::supervise::Clock;
use crate::types::{Incarnation, NodeName, Time};

/// A refusal holds for so long; whoever refuses says so once a second.
const REFUSED_FOR: Duration = Duration::from_secs(4);
/// When to ask again one that hasn't answered.
const ASK_AGAIN: Duration = Duration::from_millis(250);
const ASKED_MAX: usize = 256;
/// Seeds have so long to answer before their silence is a problem.
const ALONE_FOR: Duration = Duration::from_secs(3);
const TELL_ALONE_EVERY: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: MembershipConfig,
    pub(super) clock: Clock,
    pub(super) wire: Arc<Wire>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) own: Own,
    pub(super) core: Mutex<Core>,
    pub(super) members: watch::Sender<SharedMembers>,
    /// The row has changed, or something else can't wait for the next tick.
    pub(super) wake: Notify,
    /// Look for seeds now.
    pub(super) seek: Notify,
    asked: Mutex<HashMap<u64, Asked>>,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) me: Me,
    pub(super) view: View,
    pub(super) seeds: Vec<String>,
    pub(super) load: Load,
    load_published: Option<Time>,
    pub(super) isolated: Option<String>,
    pub(super) problems: Vec<Problem>,
    refused: Option<(Refusal, Time)>,
    /// Somebody knows of an incarnation of this node that is as high as its own, or higher.
    outrun: Option<Incarnation>,
    pub(super) left: bool,
    pub(super) saved: Option<Saved>,
    pub(super) not_stored: Option<String>,
    /// What became of the seeds' names at the last look.
    lookups: Vec<Lookup>,
    /// Since when no other member is known, not even one that is down.
    alone_since: Option<Time>,
    told_alone: Option<Time>,
}

impl Core {
    /// Nonsense is no reason to rise: there must be room above.
    pub(super) fn outrun_by(&mut self, other: Incarnation) {
        if other.0 < INCARNATION_MAX {
            self.outrun = self.outrun.max(Some(other));
        }
    }

    /// Says in the log that no seed answers: once, then rarely.
    fn tell_alone(&mut self, now: Time) {
        let problem = self.problems.iter().find(|problem| problem.code == SEEDS_UNREACHABLE);
        let Some(Problem { message, hint, .. }) = problem else {
            if self.alone_since.is_none() {
                self.told_alone = None;
            }
            return;
        };
        if self.told_alone.is_none_or(|at| now.since(at) >= TELL_ALONE_EVERY) {
            self.told_alone = Some(now);
            tracing::warn!(hint, "{message}");
        }
    }
}

#[derive(Debug)]
struct Asked {
    address: SocketAddr,
    reply: mpsc::Sender<Reply>,
}

/// What one seed answered.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) asked: SocketAddr,
    pub(super) name: NodeName,
    pub(super) answer: Answer,
}

/// What a tick asks of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    Left,
    /// Start anew above this incarnation.
    Reincarnate(Incarnation),
}

impl Shared {
    pub(super) fn new(
        config: MembershipConfig,
        clock: Clock,
        wire: Wire,
        own: Own,
        me: Me,
        view: View,
    ) -> Self {
        let seeds = config.seeds.clone();
        let core = Core {
            me,
            view,
            seeds,
            load: Load::default(),
            load_published: None,
            isolated: None,
            problems: Vec::new(),
            refused: None,
            outrun: None,
            left: false,
            saved: None,
            not_stored: None,
            lookups: Vec::new(),
            alone_since: None,
            told_alone: None,
        };
        Self {
            config,
            clock,
            wire: Arc::new(wire),
            inbox: Arc::default(),
            own,
            core: Mutex::new(core),
            members: watch::Sender::default(),
            wake: Notify::new(),
            seek: Notify::new(),
            asked: Mutex::default(),
        }
    }

    /// What this node says of itself now.
    pub(super) fn own_facts(&self) -> Facts {
        let now = self.clock.now();
        let mut core = self.core.lock();
        let coarse = row::quantised(core.load);
        let due = core.load_published.is_none_or(|at| now.since(at) >= row::LOAD_EVERY);
        if due && coarse != core.me.facts.load {
            core.me.facts.load = coarse;
            core.load_published = Some(now);
        }
        core.me.facts.clone()
    }

    /// Folds what chitchat knows into the view, and tells of it where it has changed.
    pub(super) fn fold(&self, rows: &[Row], saved: Saved) -> Next {
        let now = self.clock.now();
        let mut core = self.core.lock();
        let core = &mut *core;
        core.saved = Some(saved);
        let folded = core.view.tick(now, &core.me, rows);
        self.wire.set_routes(core.view.all_addresses());
        let before = self.live_peers();
        let changed = self.members.send_if_modified(|members| {
            let changed = **members != *folded.members;
            *members = folded.members.clone();
            changed
        });
        if changed && before > 0 && self.live_peers() == 0 {
            self.seek.notify_one();
        }
        core.refused = core.refused.filter(|(_, at)| now.since(*at) < REFUSED_FOR);
        core.isolated = core
            .refused
            .map(|(refusal, _)| problems::refused(&core.me.replica.name, refusal))
            .or_else(|| self.judge_isolation(&core.view, now));
        let unanswered = self.unanswered(core, folded.members.iter().count() == 1, now);
        let findings = Findings {
            conflicts: &folded.conflicts,
            left_out: &folded.left_out,
            members_max: self.config.members_max,
            isolated: core.isolated.as_deref(),
            skewed: &self.wire.skewed(),
            unknown_key: self.wire.unknown_key(),
            unanswered: unanswered.as_deref(),
            not_stored: core.not_stored.as_deref(),
        };
        let problems = problems::list(&findings, &core.problems, now);
        core.problems = problems;
        core.tell_alone(now);
        if core.left {
            return Next::Left;
        }
        match core.outrun.take().max(folded.outrun) {
            Some(other) if other >= core.me.replica.incarnation => Next::Reincarnate(other),
            _ => Next::GoOn,
        }
    }

    /// The seeds that stay silent, while nobody else is known.
    fn unanswered(&self, core: &mut Core, alone: bool, now: Time) -> Option<String> {
        if !alone || core.left || core.me.facts.state == MemberState::Leaving {
            core.alone_since = None;
            return None;
        }
        let since = *core.alone_since.get_or_insert(now);
        if now.since(since) < ALONE_FOR {
            return None;
        }
        let peers = self.wire.peers().lock();
        let heard = |address| peers.heard(address, now).is_some_and(|it| it.ago < ALONE_FOR);
        seeds::unanswered(&core.lookups, heard)
    }

    fn live_peers(&self) -> usize {
        self.members.borrow().live_peers().count()
    }

    fn judge_isolation(&self, view: &View, now: Time) -> Option<String> {
        // One that was asleep reads news from before it slept.
        if view.muted(now) {
            return None;
        }
        let sights: Vec<_> = view.sights(now).collect();
        let peers = self.wire.peers().lock();
        // One that calls this node down, and so seems down from here, may still be heard.
        let heard: Vec<_> =
            sights.iter().filter_map(|sight| peers.heard(sight.address, now)).collect();
        drop(peers);
        let links: Vec<_> =
            sights.iter().filter(|sight| sight.live).map(|sight| sight.failing).collect();
        isolation::judge(&heard, &links, view.timing().detection)
    }

    /// Asks all of these who they are and what they know of this node's name; ends when `enough` have answered.
    pub(super) async fn ask(
        &self,
        addresses: &[SocketAddr],
        within: Duration,
        enough: usize,
    ) -> Vec<Reply> {
        let (reply, mut replies) = mpsc::channel(ASKED_MAX);
        let asked: Vec<_> = addresses
            .iter()
            .take(ASKED_MAX)
            .filter_map(|address| Some((getrandom::u64().ok()?, *address)))
            .collect();
        self.asked.lock().extend(
            asked.iter().map(|(nonce, address)| {
                (*nonce, Asked { address: *address, reply: reply.clone() })
            }),
        );
        let mut got: Vec<Reply> = Vec::new();
        let asking = async {
            let mut again = tokio::time::interval(ASK_AGAIN);
            while got.len() < enough.min(asked.len()) {
                tokio::select! {
                    Some(reply) = replies.recv() => {
                        if got.iter().all(|earlier| earlier.asked != reply.asked) {
                            got.push(reply);
                        }
                    }
                    _ = again.tick() => {
                        for (nonce, address) in &asked {
                            if got.iter().all(|reply| reply.asked != *address) {
                                let query = Control::Query { nonce: *nonce };
                                self.wire.send_control(*address, &query).await;
                            }
                        }
                    }
                }
            }
        };
        let _ = tokio::time::timeout(within, asking).await;
        let mut all = self.asked.lock();
        asked.iter().for_each(|(nonce, _)| drop(all.remove(nonce)));
        drop(all);
        got
    }

    pub(super) fn answered(&self, nonce: u64, name: &NodeName, answer: Answer) {
        if let Some(asked) = self.asked.lock().get(&nonce) {
            let reply = Reply { asked: asked.address, name: name.clone(), answer };
            // Full: it has been answered often enough.
            let _ = asked.reply.try_send(reply);
        }
    }

    pub(super) fn refused(&self, incarnation: u64, refusal: Refusal) {
        let now = self.clock.now();
        let mut core = self.core.lock();
        // What was said of an earlier run of this name at this address is no longer true.
        if core.me.replica.incarnation.0 != incarnation || core.left {
            return;
        }
        match refusal {
            Refusal::Floor(floor) => core.outrun_by(Incarnation(floor)),
            Refusal::NameInUse(_) | Refusal::Full { .. } => core.refused = Some((refusal, now)),
        }
        self.wake.notify_one();
    }

    /// Looks the seeds up and remembers what became of their names.
    pub(super) async fn look_up_seeds(&self, seeds: &[String]) -> Vec<SocketAddr> {
        let lookups = seeds::look_up(seeds, self.own).await;
        let found = seeds::addresses(&lookups);
        self.core.lock().lookups = lookups;
        found
    }

    pub(super) async fn resolve(&self, seeds: &[String]) -> Vec<SocketAddr> {
        seeds::resolve(seeds, self.own).await
    }
}
