//! Leaving in good order, once: whoever asks again watches the departure that runs.
//!
//! `steps` decides; this carries it out. It ends with the node's shutdown, whatever happens on the way.

mod steps;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::Parts;
use crate::broker::GoAway;
use crate::link::Direction;
use crate::membership::MemberState;
use crate::replicator::HandedOver;
use crate::supervise::{DrainStep, Task};
use crate::types::NodeName;
use steps::{Action, Seen, Steps};

/// Of a drain that a signal asks for.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// Longer ones are cut to it: nobody waits so long for a client, and what is told is kept for whoever watches later.
const GRACE_MAX: Duration = Duration::from_secs(3_600);
/// How often a waiting step looks again.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Three gossip rounds, and much more than that.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(20);
/// How long those who watch have to pass the last step on, before their connections close too.
const LAST_WORD_TIME: Duration = Duration::from_millis(500);

/// The node's one departure, begun or not.
#[derive(Debug)]
pub(super) struct Departure {
    parts: Arc<Parts>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug, Clone)]
struct Running {
    progress: watch::Receiver<Progress>,
    hurry: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Progress {
    steps: Vec<DrainStep>,
    over: bool,
}

impl Departure {
    pub(super) fn new(parts: Arc<Parts>) -> Self {
        Self { parts, running: Mutex::default() }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.running.lock().is_some()
    }

    /// Runs `change` unless the departure has begun; it doesn't begin meanwhile.
    pub(super) fn unless_begun(&self, change: impl FnOnce()) -> bool {
        let running = self.running.lock();
        if running.is_none() {
            change();
        }
        running.is_none()
    }

    /// Begins to drain, or joins whoever did. Every step is told, the first ones too. Ends when the node is about to close; when `steps`
    /// is closed, earlier: the drain goes on.
    pub(super) async fn drain(&self, grace: Duration, steps: mpsc::Sender<DrainStep>) {
        let progress = self.begin(grace, false);
        follow(progress, steps).await;
    }

    /// As `drain`, with nobody watching.
    pub(super) fn begin_drain(&self, grace: Duration) {
        self.begin(grace, false);
    }

    /// Departs at once; a drain that runs is cut short. Ends when the members have been told.
    pub(super) async fn leave(&self) {
        let mut progress = self.begin(Duration::ZERO, true);
        // An error: the departure is over, and more than that isn't asked.
        let _ = progress.wait_for(|progress| progress.over).await;
    }

    fn begin(&self, grace: Duration, hurry: bool) -> watch::Receiver<Progress> {
        let mut running = self.running.lock();
        if let Some(running) = &*running {
            running.hurry.send_modify(|now| *now |= hurry);
            return running.progress.clone();
        }
        let grace = grace.min(GRACE_MAX);
        let (told, progress) = watch::channel(Progress::default());
        let (hurry, hurried) = watch::channel(hurry);
        let task = depart(self.parts.clone(), grace, told, hurried);
        self.parts.supervisor.spawn(Task::Departure, task);
        *running = Some(Running { progress: progress.clone(), hurry });
        progress
    }
}

async fn follow(mut progress: watch::Receiver<Progress>, steps: mpsc::Sender<DrainStep>) {
    let mut told = 0;
    loop {
        let (news, over) = {
            let progress = progress.borrow_and_update();
            (progress.steps[told..].to_vec(), progress.over)
        };
        told += news.len();
        for step in news {
            if steps.send(step).await.is_err() {
                return;
            }
        }
        if over || progress.changed().await.is_err() {
            return;
        }
    }
}

async fn depart(
    parts: Arc<Parts>,
    grace: Duration,
    told: watch::Sender<Progress>,
    mut hurried: watch::Receiver<bool>,
) {
    let mut steps = Steps::new(grace, parts.clock.now());
    loop {
        let hurry = *hurried.borrow_and_update();
        let action = steps.next(look(&parts, hurry), parts.clock.now());
        tell(&told, steps.take_told());
        match action {
            Action::Announce => parts.membership.set_state(MemberState::Draining),
            Action::TellClients => parts.broker.drain(GoAway {
                reason: "this node is draining".to_owned(),
                grace,
                endpoints: others(&parts).collect(),
            }),
            Action::Wait => {
                tokio::select! {
                    () = tokio::time::sleep(LOOK_INTERVAL) => {}
                    // It can't close: the departure holds a sender as long as the node lives.
                    _ = hurried.changed() => {}
                    () = parts.supervisor.shutdown().cancelled() => return,
                }
            }
            Action::HandOver(within) => {
                let handed = tokio::select! {
                    handed = parts.replicator.hand_over(parts.broker.lingering(), within) => handed,
                    _ = hurried.wait_for(|hurried| *hurried) => HandedOver::default(),
                    () = parts.supervisor.shutdown().cancelled() => return,
                };
                steps.handed_over(handed.entries, handed.to.as_ref().map(NodeName::as_str));
            }
            Action::CloseAttachments => parts.broker.close_all("this node has drained"),
            Action::Leave => {
                let told = tokio::time::timeout(LEAVE_TIME_MAX, parts.membership.leave()).await;
                if told.is_err() {
                    tracing::warn!("the members could not be told in time; they will notice");
                }
            }
            Action::Close => break,
        }
    }
    parts.broker.close_all("this node has left");
    told.send_modify(|progress| progress.over = true);
    // The departure itself keeps one receiver; others are watchers that haven't passed on the last step.
    let heard = async {
        while told.receiver_count() > 1 {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    let _ = tokio::time::timeout(LAST_WORD_TIME, heard).await;
    parts.supervisor.shutdown().cancel();
}

fn tell(told: &watch::Sender<Progress>, steps: Vec<DrainStep>) {
    if steps.is_empty() {
        return;
    }
    for step in &steps {
        tracing::info!(step = step.step, done = step.done, "{}", step.detail);
    }
    told.send_modify(|progress| progress.steps.extend(steps));
}

fn look(parts: &Parts, hurry: bool) -> Seen {
    let members = parts.membership.members();
    let live = |link: &&crate::link::LinkReport| {
        link.direction == Direction::Out
            && members.get(&link.peer).is_some_and(|member| member.state.is_live())
    };
    let links = parts.links.report();
    let others = others(parts).count();
    Seen {
        attached: parts.broker.attached(),
        others,
        unacked_bytes: parts.router.queued_for_links()
            + links.iter().filter(live).map(|link| link.unacked_bytes).sum::<u64>(),
        behind: parts.replicator.behind(),
        has_seat: others > 0 && parts.control.has_seat_to_give(),
        hurry,
    }
}

/// Where clients may go.
fn others(parts: &Parts) -> impl Iterator<Item = String> {
    let members = parts.membership.members();
    let others: Vec<String> = members
        .live_peers()
        .filter(|member| member.state == MemberState::Ready)
        .map(|member| member.addresses.grpc.clone())
        .collect();
    others.into_iter()
}
