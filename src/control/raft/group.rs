//! A member's part in its group: openraft running over a store and a network, what others call it for, and proposals.
//!
//! openraft's own tasks are its own: they end with `stop`, or when the store fails, which `report` tells. A member whose store has failed
//! takes no part any more, and its copy stays as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::error::{ClientWriteError, InitializeError, RaftError};
use openraft::raft::AppendEntriesResponse;
use openraft::storage::Snapshot;
use openraft::{Config, Raft, SnapshotPolicy};
use parking_lot::Mutex;

use super::calls::{Ask, Call, Carrier, Done, NotDone, Refused, Reply, SnapshotPart, Unreached};
use super::network::{Failed, Network};
use super::seats::{Seats, Step};
use super::store::{Changed, CopyHandle, Store};
use super::types::{Ballot, RaftId, RaftMember, TypeConfig};
use crate::control::codec::{FRAME_LEN_MAX, Kind, open, seal};
use crate::control::model::bounds::COMMANDS_MAX;
use crate::control::model::{Batch, Command, GroupId, State};
use crate::supervise::Clock;

const HEARTBEAT_MS: u64 = 100;
const ELECTION_MS: (u64, u64) = (500, 1_000);
/// A leader that no majority has answered for so long has none.
const QUORUM_SILENCE_MS: u64 = 1_000;
/// Longer than it takes to elect another.
const LEADER_SILENCE_MS: u64 = 2_000;
/// A proposal that isn't applied by then may be so later.
const PROPOSE_MAX: Duration = Duration::from_secs(3);
/// For the leader's own limit to come first.
const FORWARD_MAX: Duration = Duration::from_millis(3_500);
/// Whoever asked sees what it did in its own copy, unless that is far behind.
const APPLIED_MAX: Duration = Duration::from_secs(1);
/// A learner that lacks more doesn't vote yet.
const BEHIND_MAX: u64 = 100;
/// A vote from further ahead was made up: nobody has elected so often.
const TERMS_AHEAD_MAX: u64 = 1 << 40;

/// Of one entry: a frame takes several.
const ENTRY_BYTES_MAX: usize = 512 << 10;
const SNAPSHOT_EVERY: u64 = 2_000;
const LOG_KEPT: u64 = 500;

#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    #[error("this store has joined no group")]
    NoGroup,
    #[error("openraft: {0}")]
    Raft(String),
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Group {
    shared: Arc<Shared>,
}

struct Shared {
    raft: Raft<TypeConfig>,
    network: Network,
    copy: CopyHandle,
    clock: Clock,
    /// When whoever leads was last heard, by this clock, in milliseconds and one more; 0: never.
    heard: AtomicU64,
    /// A snapshot that comes: one at a time.
    incoming: Mutex<Option<Incoming>>,
}

struct Incoming {
    from: RaftId,
    vote: Ballot,
    snapshot_id: String,
    bytes: Vec<u8>,
}

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupReport {
    pub id: RaftId,
    pub group: GroupId,
    pub term: u64,
    pub leader: Option<RaftMember>,
    pub leads: bool,
    /// As far as this member can know: a leader from who answers it, another from hearing its leader.
    pub quorum: bool,
    pub voter: bool,
    pub applied: u64,
    /// Why it takes no part any more.
    pub stopped: Option<String>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("group", &self.shared.network.group).finish_non_exhaustive()
    }
}

fn config() -> Config {
    Config {
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MS.0,
        election_timeout_max: ELECTION_MS.1,
        install_snapshot_timeout: 60_000,
        max_payload_entries: 64,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
        max_in_snapshot_log_to_keep: LOG_KEPT,
        replication_lag_threshold: 2 * SNAPSHOT_EVERY,
        purge_batch_size: 64,
        ..Config::default()
    }
}

impl Group {
    /// Takes part, with a store that has joined a group. `changed`: wakes those who follow the copy.
    pub async fn start(
        store: &mut Store,
        carrier: Arc<dyn Carrier>,
        clock: Clock,
        changed: Changed,
    ) -> Result<Self, GroupError> {
        let me = store.identity().raft_id;
        let group = store.identity().group.ok_or(GroupError::NoGroup)?;
        let network = Network { carrier, group, me };
        let (log, machine, copy) = store.split(changed);
        let config = config().validate().map_err(|error| GroupError::Raft(error.to_string()))?;
        let raft = Raft::new(me, Arc::new(config), network.clone(), log, machine).await;
        let raft = raft.map_err(|error| GroupError::Raft(error.to_string()))?;
        let incoming = Mutex::new(None);
        Ok(Self {
            shared: Arc::new(Shared {
                raft,
                network,
                copy,
                clock,
                heard: AtomicU64::new(0),
                incoming,
            }),
        })
    }

    /// The group begins, with these as its voters at once. Asked twice it has begun.
    pub async fn initialize(&self, voters: BTreeMap<RaftId, RaftMember>) -> Result<(), GroupError> {
        match self.shared.raft.initialize(voters).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(GroupError::Raft(error.to_string())),
        }
    }

    pub fn id(&self) -> GroupId {
        self.shared.network.group
    }

    pub async fn stop(&self) {
        let _ = self.shared.raft.shutdown().await;
    }

    pub fn copy(&self) -> &CopyHandle {
        &self.shared.copy
    }

    pub fn report(&self) -> GroupReport {
        let metrics = self.shared.raft.metrics().borrow().clone();
        let me = self.shared.network.me;
        let membership = metrics.membership_config.membership();
        let leader = metrics.current_leader;
        let leads = leader == Some(me);
        let answered = metrics.millis_since_quorum_ack;
        GroupReport {
            id: me,
            group: self.shared.network.group,
            term: metrics.current_term,
            leader: leader.and_then(|id| membership.get_node(&id).cloned()),
            leads,
            quorum: if leads {
                answered.is_some_and(|ms| ms <= QUORUM_SILENCE_MS)
            } else {
                // One that doesn't vote never doubts whom it followed last.
                leader.is_some() && self.has_heard()
            },
            voter: membership.voter_ids().any(|id| id == me),
            applied: self.shared.copy.applied(),
            stopped: metrics.running_state.err().map(|error| error.to_string()),
        }
    }

    /// Has whoever leads said anything lately?
    fn has_heard(&self) -> bool {
        let heard = self.shared.heard.load(Ordering::Relaxed);
        heard > 0 && self.now_ms() < heard + LEADER_SILENCE_MS
    }

    fn now_ms(&self) -> u64 {
        self.shared.clock.now().as_micros() / 1_000
    }

    /// Everything applied so far goes into a snapshot, and out of the log. `true` when it has.
    #[cfg(test)]
    pub(super) async fn compact(&self) -> bool {
        let metrics = self.shared.raft.metrics().borrow().clone();
        let Some(applied) = metrics.last_applied else { return false };
        if metrics.purged == Some(applied) {
            return true;
        }
        if metrics.snapshot == Some(applied) {
            self.shared.raft.trigger().purge_log(applied.index).await.unwrap();
        } else {
            self.shared.raft.trigger().snapshot().await.unwrap();
        }
        false
    }

    #[cfg(test)]
    pub(super) fn has_snapshot(&self) -> bool {
        self.shared.raft.metrics().borrow().snapshot.is_some()
    }

    /// As this member knows them; `behind` where it leads only.
    pub fn seats(&self) -> Seats {
        let metrics = self.shared.raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        let last = metrics.last_log_index.unwrap_or_default();
        let is_behind = |at: Option<u64>| at.is_none_or(|at| at + BEHIND_MAX < last);
        let replication = metrics.replication.iter().flatten();
        let behind = replication
            .filter(|(_, at)| is_behind(at.as_ref().map(|at| at.index)))
            .map(|(id, _)| *id);
        let uncommitted = metrics.membership_config.log_id().map(|at| at.index)
            > metrics.last_applied.map(|at| at.index);
        Seats {
            members: membership.nodes().map(|(id, member)| (*id, member.clone())).collect(),
            voters: membership.voter_ids().collect(),
            changing: membership.get_joint_config().len() > 1 || uncommitted,
            behind: behind.collect(),
        }
    }

    /// One change of the seats, by whoever leads.
    pub async fn reseat(&self, step: Step) -> Result<(), GroupError> {
        use openraft::ChangeMembers::{RemoveNodes, ReplaceAllVoters, SetNodes};
        let raft = &self.shared.raft;
        let changed = async {
            match step {
                Step::AddLearner(id, member) => raft.add_learner(id, member, false).await,
                Step::Update(id, member) => {
                    raft.change_membership(SetNodes(BTreeMap::from([(id, member)])), true).await
                }
                Step::SetVoters(voters) => {
                    raft.change_membership(ReplaceAllVoters(voters), true).await
                }
                Step::Remove(id) => {
                    raft.change_membership(RemoveNodes(BTreeSet::from([id])), true).await
                }
            }
        };
        match tokio::time::timeout(PROPOSE_MAX, changed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(GroupError::Raft(error.to_string())),
            Err(_) => Err(GroupError::Raft("it takes too long".to_owned())),
        }
    }

    /// One entry, by the leader, wherever it is. When it returns, this member has applied it too, unless it is far behind.
    pub async fn propose(&self, commands: Vec<Command>) -> Result<Done, NotDone> {
        judge(&commands)?;
        let report = self.report();
        if let Some(why) = report.stopped {
            return Err(NotDone::Stopped(why));
        }
        if report.leads {
            return self.propose_here(commands).await;
        }
        let shared = &self.shared;
        let leader = shared.raft.metrics().borrow().current_leader;
        let (Some(id), Some(member)) = (leader, report.leader) else {
            return Err(NotDone::NoLeader);
        };
        let called = shared.network.call(id, &member, Ask::Propose(commands), FORWARD_MAX).await;
        let done = match called {
            Ok(Reply::Proposed(proposed)) => proposed?,
            // Whoever refuses has done nothing: it leads no more, or is another by now.
            Err(Failed::Unreached(Unreached::NotSent(_)) | Failed::Refused(_)) => {
                return Err(NotDone::NoLeader);
            }
            Ok(_) => return Err(NotDone::Unknown(Failed::Other.to_string())),
            Err(error) => return Err(NotDone::Unknown(error.to_string())),
        };
        let mut applied = shared.copy.watch();
        let waiting = applied.wait_for(|index| *index >= done.index);
        let _ = tokio::time::timeout(APPLIED_MAX, waiting).await;
        Ok(done)
    }

    async fn propose_here(&self, commands: Vec<Command>) -> Result<Done, NotDone> {
        judge(&commands)?;
        if !self.report().quorum {
            return Err(NotDone::NoQuorum);
        }
        let batch = Batch { at_ms: self.shared.clock.unix_ms(), commands };
        let write = self.shared.raft.client_write(batch);
        match tokio::time::timeout(PROPOSE_MAX, write).await {
            Ok(Ok(done)) => Ok(Done { index: done.log_id.index, answers: done.data }),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                Err(NotDone::NoLeader)
            }
            Ok(Err(error)) => Err(NotDone::Unknown(error.to_string())),
            Err(_) => Err(NotDone::Unknown("no quorum has answered in time".to_owned())),
        }
    }

    /// A frame of another member, and the answer to it.
    /// `caller`: the name of whoever sent it, as he has proved.
    pub async fn answer(&self, caller: &str, frame: &[u8]) -> Vec<u8> {
        let reply = match open::<Call>(Kind::Call, frame) {
            Ok(call) if !self.may_be(call.from, caller) => Reply::Refused(Refused::OtherMember),
            Ok(call) => self.answer_call(call).await.unwrap_or_else(Reply::Refused),
            Err(error) => Reply::Refused(Refused::Nonsense(error.to_string())),
        };
        // A reply is small, but for answers, which are as many as commands are allowed.
        seal(Kind::Reply, &reply).unwrap_or_default()
    }

    /// Has the member of this id this name? One that is not known here may come from a configuration that isn't, either.
    fn may_be(&self, id: RaftId, caller: &str) -> bool {
        let metrics = self.shared.raft.metrics();
        let metrics = metrics.borrow();
        let node = metrics.membership_config.membership().get_node(&id);
        node.is_none_or(|node| node.name == caller)
    }

    async fn answer_call(&self, call: Call) -> Result<Reply, Refused> {
        let Call { group, from, to, ask } = call;
        let Network { group: mine, me, .. } = self.shared.network;
        if group != mine {
            return Err(Refused::OtherGroup(mine));
        }
        if to != me {
            return Err(Refused::OtherMember);
        }
        let raft = &self.shared.raft;
        let stopped = |error: String| Refused::Stopped(error);
        match ask {
            Ask::Append(rpc) => {
                self.judge_term(&rpc.vote)?;
                let appended = raft.append_entries(rpc).await;
                if matches!(appended, Ok(ref told) if !matches!(told, AppendEntriesResponse::HigherVote(_)))
                {
                    self.shared.heard.store(self.now_ms() + 1, Ordering::Relaxed);
                }
                appended.map(Reply::Append).map_err(|error| stopped(error.to_string()))
            }
            Ask::Vote(rpc) => {
                self.judge_term(&rpc.vote)?;
                let voted = raft.vote(rpc).await;
                voted.map(Reply::Vote).map_err(|error| stopped(error.to_string()))
            }
            Ask::Part(part) => {
                self.judge_term(&part.vote)?;
                let Some((vote, snapshot)) = self.assemble(from, part)? else {
                    return Ok(Reply::Part);
                };
                let installed = raft.install_full_snapshot(vote, snapshot).await;
                installed.map(Reply::Installed).map_err(|error| stopped(error.to_string()))
            }
            Ask::Propose(commands) => {
                // Never passed on again: two members that take each other for the leader would do so for ever.
                let proposed = if self.report().leads {
                    self.propose_here(commands).await
                } else {
                    Err(NotDone::NoLeader)
                };
                Ok(Reply::Proposed(proposed))
            }
        }
    }

    fn judge_term(&self, vote: &Ballot) -> Result<(), Refused> {
        let mine = self.shared.raft.metrics().borrow().current_term;
        if vote.leader_id.term > mine.saturating_add(TERMS_AHEAD_MAX) {
            let told = format!("the term {} after {mine}", vote.leader_id.term);
            return Err(Refused::Nonsense(told));
        }
        Ok(())
    }

    /// The whole snapshot with its last part, once it is known to be one.
    fn assemble(
        &self,
        from: RaftId,
        part: SnapshotPart,
    ) -> Result<Option<(Ballot, Snapshot<TypeConfig>)>, Refused> {
        let mut slot = self.shared.incoming.lock();
        let SnapshotPart { vote, meta, offset, bytes, done } = part;
        let snapshot_id = meta.snapshot_id.clone();
        let begins = offset == 0;
        let mut incoming = match slot.take() {
            Some(incoming)
                if !begins
                    && incoming.from == from
                    && incoming.vote == vote
                    && incoming.snapshot_id == snapshot_id
                    && incoming.bytes.len() as u64 == offset =>
            {
                incoming
            }
            _ if begins => Incoming { from, vote, snapshot_id, bytes: Vec::new() },
            _ => return Err(Refused::Nonsense("a part that doesn't follow".to_owned())),
        };
        if incoming.bytes.len() + bytes.len() > FRAME_LEN_MAX {
            return Err(Refused::Nonsense("a snapshot that is too long".to_owned()));
        }
        incoming.bytes.extend_from_slice(&bytes);
        if !done {
            *slot = Some(incoming);
            return Ok(None);
        }
        drop(slot);
        // openraft would stop for good at one that can't be installed.
        State::from_snapshot(&incoming.bytes)
            .map_err(|error| Refused::Nonsense(error.to_string()))?;
        let snapshot = Box::new(Cursor::new(incoming.bytes));
        Ok(Some((vote, Snapshot { meta, snapshot })))
    }
}

/// Of which group a call is, and for which id: a call by which a member without a group comes to one.
pub fn asked_of(frame: &[u8]) -> Option<(GroupId, RaftId)> {
    let call = open::<Call>(Kind::Call, frame).ok()?;
    (!matches!(call.ask, Ask::Propose(_))).then_some((call.group, call.to))
}

/// The answer of a member that can't answer.
pub fn refusal(why: &str) -> Vec<u8> {
    seal(Kind::Reply, &Reply::Refused(Refused::Nonsense(why.to_owned()))).unwrap_or_default()
}

/// Entries stay small: many of them are sent at once.
fn judge(commands: &[Command]) -> Result<(), NotDone> {
    if commands.len() > COMMANDS_MAX {
        return Err(NotDone::TooMuch(format!("{} commands at once", commands.len())));
    }
    // Once more when it is written: an ask is rare, and small.
    match seal(Kind::Entry, &commands) {
        Ok(bytes) if bytes.len() <= ENTRY_BYTES_MAX => Ok(()),
        Ok(bytes) => Err(NotDone::TooMuch(format!("{} bytes at once", bytes.len()))),
        Err(error) => Err(NotDone::TooMuch(error.to_string())),
    }
}
