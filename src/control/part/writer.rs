//! What waits to be written, joined: openraft writes an entry to disk at a time, so one entry takes all that came meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;

use super::super::model::bounds::COMMANDS_MAX;
use super::super::model::{Answer, Command, Refusal};
use super::super::raft::calls::NotDone;
use super::Shared;
use crate::supervise::Shutdown;
use crate::types::Time;

/// How soon to look for a leader again.
const AGAIN: Duration = Duration::from_millis(25);

/// Somebody's changes, and where to answer.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) commands: Vec<Command>,
    /// Without a leader or a quorum by then: given up.
    pub(super) until: Time,
    pub(super) reply: oneshot::Sender<Result<Vec<Answer>, NotDone>>,
}

pub(super) async fn run(shared: &Shared, shutdown: Shutdown) {
    // One writer: this task, or the one that takes its place.
    let mut asked = shared.asked.lock().await;
    let mut new = Vec::new();
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            tokio::select! {
                _ = asked.recv_many(&mut new, COMMANDS_MAX) => {}
                () = shutdown.cancelled() => break,
            }
        }
        waiting.extend(new.drain(..));
        // The rest waits in the channel, which has a bound.
        while waiting.len() < COMMANDS_MAX
            && let Ok(one) = asked.try_recv()
        {
            waiting.push_back(one);
        }
        tokio::select! {
            () = write_some(shared, &mut waiting) => {}
            () = shutdown.cancelled() => break,
        }
    }
    // Who asks from now on, or waits, is told so at once.
    asked.close();
    while asked.try_recv().is_ok() {}
}

/// One entry of those that wait longest.
async fn write_some(shared: &Shared, waiting: &mut VecDeque<Asked>) {
    // Who doesn't wait any more has not been written: its change is dropped.
    waiting.retain(|one| !one.reply.is_closed());
    let mut many = 0;
    let fits = |one: &&Asked| {
        many += one.commands.len();
        many <= COMMANDS_MAX
    };
    // A single one that is too long for an entry is refused as such.
    let mut taken = waiting.iter().take_while(fits).count().max(1).min(waiting.len());
    while taken > 0 {
        let commands = waiting.iter().take(taken).flat_map(|one| one.commands.clone()).collect();
        match write(shared, commands).await {
            Err(NotDone::TooMuch(_)) if taken > 1 => taken /= 2,
            Err(why @ (NotDone::NoLeader | NotDone::NoQuorum)) => {
                // Nothing was written. Those whose time is over are told so, the others wait on.
                let now = shared.clock.now();
                for one in std::mem::take(waiting) {
                    if one.until <= now {
                        let _ = one.reply.send(Err(why.clone()));
                    } else {
                        waiting.push_back(one);
                    }
                }
                if !waiting.is_empty() {
                    tokio::time::sleep(AGAIN).await;
                }
                return;
            }
            Err(why) => {
                for one in waiting.drain(..taken) {
                    let _ = one.reply.send(Err(why.clone()));
                }
                return;
            }
            Ok(answers) => {
                let mut answers = answers.into_iter();
                for one in waiting.drain(..taken) {
                    let own: Vec<Answer> = answers.by_ref().take(one.commands.len()).collect();
                    let is_whole = own.len() == one.commands.len();
                    let missing = || NotDone::Unknown("too few answers".to_owned());
                    let _ = one.reply.send(is_whole.then_some(own).ok_or_else(missing));
                }
                return;
            }
        }
    }
}

async fn write(shared: &Shared, commands: Vec<Command>) -> Result<Vec<Answer>, NotDone> {
    match shared.group() {
        Some(group) => {
            let answers = group.propose(commands).await?.answers.0;
            // A group that has just begun: its first command is on its way.
            let is_founded =
                answers.iter().any(|answer| *answer != Answer::Refused(Refusal::NotFounded));
            if is_founded || answers.is_empty() { Ok(answers) } else { Err(NotDone::NoLeader) }
        }
        None => Err(NotDone::NoLeader),
    }
}
