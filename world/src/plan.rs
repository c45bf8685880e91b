//! What will happen in a world: a pure function of its seed.

use std::collections::BTreeSet;
use std::time::Duration;

use cluster_tests::chance::Chance;

/// The cluster has formed by then, and faults begin.
pub(crate) const FAULTS_FROM: Duration = Duration::from_secs(4);
const FAULTS_FOR_MS: usize = 16_000;
/// The last fault ends before.
pub(crate) const FAULTS_UNTIL: Duration = Duration::from_secs(22);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All faults end; then everything must be as if they had not been.
    Safety,
    /// First the faults of a minority stay as they are, and the rest must go on without it.
    Liveness,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) mode: Mode,
    pub(crate) nodes: usize,
    /// The nodes that must go on in liveness mode: a majority.
    pub(crate) core: BTreeSet<usize>,
    pub(crate) small_windows: bool,
    pub(crate) small_mailboxes: bool,
    pub(crate) loss_percent: usize,
    pub(crate) twice_percent: usize,
    pub(crate) latency_max: Duration,
    /// What a node knows of a peer's interest differs at first from what the peer says, so that it has to be asked for again.
    pub(crate) interest_differs: bool,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) at: Duration,
    pub(crate) what: Action,
}

/// Pairs are of nodes, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Every connection between the two breaks; they may make new ones at once.
    Cut(usize, usize),
    /// As `Cut`, but only the first knows of it: the second still reads, until it is told of a newer link or takes the silence for the end.
    HalfOpen(usize, usize),
    Part(usize, usize),
    Join(usize, usize),
    /// Only the way from the first to the second.
    PartOneWay(usize, usize),
    JoinOneWay(usize, usize),
    /// What is sent waits, and arrives in a burst when it is released.
    Hold(usize, usize),
    Release(usize, usize),
    Slow(usize, usize, Duration),
    Crash(usize),
    Restart(usize),
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let nodes = *chance.pick(&[2, 3, 3, 3, 4, 5]);
        let mode = if nodes > 2 && chance.one_in(4) { Mode::Liveness } else { Mode::Safety };
        let mut order: Vec<usize> = (0..nodes).collect();
        chance.shuffle(&mut order);
        let core = order.into_iter().take(nodes / 2 + 1).collect();
        let (loss_percent, twice_percent) =
            if chance.one_in(3) { (chance.below(20), chance.below(20)) } else { (0, 0) };
        let mut plan = Self {
            mode,
            nodes,
            core,
            small_windows: chance.one_in(3),
            small_mailboxes: chance.one_in(5),
            loss_percent,
            twice_percent,
            latency_max: chance.ms(5..60),
            interest_differs: false,
            steps: Vec::new(),
        };
        for _ in 0..chance.within(3..12) {
            plan.add_fault(&mut chance);
        }
        plan.steps.sort_by_key(|step| step.at);
        plan.interest_differs = chance.one_in(10);
        plan
    }

    fn add_fault(&mut self, chance: &mut Chance) {
        let from = FAULTS_FROM + chance.ms(0..FAULTS_FOR_MS);
        // Most are short; some outlast every detection.
        let lasts = if chance.one_in(3) { chance.ms(2_000..9_000) } else { chance.ms(30..1_500) };
        let until = (from + lasts).min(FAULTS_UNTIL);
        let a = chance.below(self.nodes);
        let b = (a + chance.within(1..self.nodes)) % self.nodes;
        match chance.below(10) {
            0..=2 => {
                let mut at = from;
                for _ in 0..chance.within(1..8) {
                    // By the time and not drawn: so a seed's other faults are what they were.
                    let half = at.as_millis().is_multiple_of(3);
                    let cut = if half { Action::HalfOpen(a, b) } else { Action::Cut(a, b) };
                    self.step(at, cut);
                    at = (at + chance.ms(20..900)).min(FAULTS_UNTIL);
                }
            }
            3 => self.during(from, until, Action::Part(a, b), Action::Join(a, b)),
            4 => self.isolate_swizzled(chance, from, until, a),
            5 => self.during(from, until, Action::PartOneWay(a, b), Action::JoinOneWay(a, b)),
            6 => self.during(from, until, Action::Hold(a, b), Action::Release(a, b)),
            7 => {
                // Some stall: what was sent meanwhile comes when its link has long been given up and another made.
                let (slow, until) = if chance.one_in(3) {
                    (chance.ms(5_000..9_000), from + chance.ms(50..500))
                } else {
                    (chance.ms(50..700), until)
                };
                let quick = self.latency_max;
                self.during(from, until, Action::Slow(a, b, slow), Action::Slow(a, b, quick));
            }
            _ => self.during(from, until, Action::Crash(a), Action::Restart(a)),
        }
    }

    /// One node's ways are stopped one after another, and opened again in another order.
    fn isolate_swizzled(&mut self, chance: &mut Chance, from: Duration, until: Duration, a: usize) {
        let mut others: Vec<usize> = (0..self.nodes).filter(|other| *other != a).collect();
        for (i, other) in others.iter().enumerate() {
            self.step(from + Duration::from_millis(200) * i as u32, Action::Part(a, *other));
        }
        chance.shuffle(&mut others);
        for (i, other) in others.iter().enumerate() {
            let at = until + Duration::from_millis(200) * i as u32;
            self.step(at, Action::Join(a, *other));
        }
    }

    fn during(&mut self, from: Duration, until: Duration, begin: Action, end: Action) {
        self.step(from, begin);
        self.step(until, end);
    }

    fn step(&mut self, at: Duration, what: Action) {
        self.steps.push(Step { at, what });
    }
}

impl Action {
    /// Whom it concerns.
    pub(crate) fn nodes(&self) -> Vec<usize> {
        match *self {
            Self::Cut(a, b)
            | Self::HalfOpen(a, b)
            | Self::Part(a, b)
            | Self::Join(a, b)
            | Self::PartOneWay(a, b)
            | Self::JoinOneWay(a, b)
            | Self::Hold(a, b)
            | Self::Release(a, b)
            | Self::Slow(a, b, _) => vec![a, b],
            Self::Crash(a) | Self::Restart(a) => vec![a],
        }
    }

    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Cut(..) => "cut",
            Self::HalfOpen(..) => "half_open",
            Self::Part(..) => "partition",
            Self::PartOneWay(..) => "one_way",
            Self::Hold(..) => "hold",
            Self::Slow(..) => "slow",
            Self::Crash(_) => "crash",
            Self::Join(..) | Self::JoinOneWay(..) | Self::Release(..) | Self::Restart(_) => "end",
        }
    }
}
