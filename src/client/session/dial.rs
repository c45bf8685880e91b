//! ● One search for a node that takes the client: all known addresses in turn, then a pause, then again.

use std::collections::VecDeque;
use std::time::Duration;

use super::AttachmentId;
use crate::supervise::backoff::Backoff;
use crate::types::Time;

/// The longest that an address may take to accept a connection.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(2);
/// From hello to welcome.
pub(crate) const GREETING_MAX: Duration = Duration::from_secs(5);
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MOST: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Dial {
    /// Addresses not tried in this round.
    pub(crate) left: VecDeque<String>,
    /// Those that were, and what came of it.
    pub(crate) tried: Vec<(String, String)>,
    pub(crate) attempt: Option<Attempt>,
    pause: Backoff,
    wait_until: Option<Time>,
}

#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) id: AttachmentId,
    pub(crate) address: String,
    pub(crate) stage: Stage,
}

#[derive(Debug, Clone)]
pub(crate) enum Stage {
    Connecting {
        until: Time,
    },
    /// Connected, and waiting for the old node to have answered everything.
    Fencing {
        until: Time,
        /// The request whose answer stands behind all others; `None`: it has come.
        fence: Option<u64>,
        unanswered: bool,
    },
    Greeting {
        until: Time,
        hello: u64,
        overlap: bool,
    },
}

impl Dial {
    pub(crate) fn new(left: impl Into<VecDeque<String>>) -> Self {
        Self {
            left: left.into(),
            tried: Vec::new(),
            attempt: None,
            pause: Backoff::new(PAUSE_FIRST, PAUSE_MOST),
            wait_until: None,
        }
    }

    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.attempt.is_none() && self.wait_until.is_none_or(|until| until <= now)
    }

    pub(crate) fn begin(&mut self, id: AttachmentId, address: String, now: Time) {
        // The shell's own time limit comes first; this one is for a shell that hangs.
        let until = now + CONNECT_MAX + Duration::from_secs(1);
        self.wait_until = None;
        self.attempt = Some(Attempt { id, address, stage: Stage::Connecting { until } });
    }

    pub(crate) fn wait(&mut self, now: Time, random: u64) {
        self.wait_until = Some(now + self.pause.next(random));
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        match &self.attempt {
            Some(attempt) => Some(attempt.until()),
            None => self.wait_until,
        }
    }
}

impl Attempt {
    fn until(&self) -> Time {
        match self.stage {
            Stage::Connecting { until }
            | Stage::Fencing { until, .. }
            | Stage::Greeting { until, .. } => until,
        }
    }

    /// The end of a fence's time is not the attempt's.
    pub(crate) fn is_late(&self, now: Time) -> bool {
        !matches!(self.stage, Stage::Fencing { .. }) && self.until() <= now
    }
}

/// What nodes have named, from a place of chance on, then what was configured, each once; what `is_last` says goes to the end.
pub(crate) fn candidates<'a>(
    named: impl ExactSizeIterator<Item = &'a String> + Clone,
    configured: impl Iterator<Item = &'a String>,
    random: u64,
    is_last: impl Fn(&str) -> bool,
) -> VecDeque<String> {
    let from = (random % (named.len() as u64).max(1)) as usize;
    let turned = named.clone().skip(from).chain(named.take(from));
    let mut all = VecDeque::new();
    for address in turned.chain(configured) {
        if !all.contains(address) {
            all.push_back(address.clone());
        }
    }
    let last: Vec<_> = all.iter().filter(|address| is_last(address)).cloned().collect();
    all.retain(|address| !is_last(address));
    all.extend(last);
    all
}
