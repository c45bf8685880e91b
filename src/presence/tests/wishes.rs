//! One session that moves about, tracks and untracks, while news travel as they like: in the end what it said last is true everywhere.

use super::super::Plant;
use super::*;

const LINGER: u64 = 5_000;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The session attaches at a node, which adopts what it knows to be the session's.
    Attach(usize),
    /// At the node it attached to last.
    Track,
    /// There, once it has heard what the session has elsewhere.
    Untrack,
    /// A node hears that the session is attached elsewhere.
    Moved(usize),
    /// One node gets what it lacks of a replica from another.
    Pull { to: usize, from: usize, of: usize },
    /// The same, everything that there is of it.
    Whole { to: usize, from: usize, of: usize },
}

/// From a seed.
fn random(state: &mut u64, below: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize % below
}

fn step(state: &mut u64) -> Step {
    let node = random(state, 3);
    let (other, of) = ((node + 1 + random(state, 2)) % 3, random(state, 3));
    match random(state, 12) {
        0 | 1 => Step::Attach(node),
        2 | 3 => Step::Track,
        4 => Step::Untrack,
        5 => Step::Moved(node),
        6 => Step::Whole { to: node, from: other, of },
        _ => Step::Pull { to: node, from: other, of },
    }
}

struct World {
    nodes: Nodes,
    names: Vec<Replica>,
    epoch: u64,
    at: Option<usize>,
    revision: u64,
    /// What the session said last: it has the presence.
    wanted: bool,
}

impl World {
    fn owner(&self) -> Owner {
        owner(1, self.epoch, LINGER)
    }

    fn moved(&mut self, node: usize) {
        let epoch = self.epoch;
        if self.at.is_some_and(|at| at != node) {
            self.nodes.on(node, |node, now, _| node.moved(session(1), epoch, now));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Attach(node) => {
                self.epoch += 1;
                self.at = Some(node);
                let owner = self.owner();
                self.nodes.on(node, |node, now, diff| node.attached(&owner, now, diff));
            }
            Step::Track => {
                let (Some(at), owner) = (self.at, self.owner()) else { return };
                self.revision += 1;
                self.nodes.track(at, &owner, &track("ann", "1", "x", self.revision));
                self.wanted = true;
            }
            Step::Untrack => {
                let Some(at) = self.at else { return };
                (0..3).filter(|from| *from != at).for_each(|from| self.nodes.pull_all(at, from));
                let gone = untrack("ann", "1", 0);
                self.nodes.on(at, |node, now, diff| node.untrack(session(1), &gone, now, diff));
                self.wanted = false;
            }
            Step::Moved(node) => self.moved(node),
            Step::Pull { to, from, of } => {
                if of != to {
                    self.nodes.pull(to, from, &self.names[of]);
                }
            }
            Step::Whole { to, from, of } => {
                let answer = self.nodes.all[from].whole(&self.names[of], self.nodes.now);
                if let Answer::Whole(whole) = answer
                    && of != to
                {
                    let source = self.names[from].name.clone();
                    let merge = |node: &mut Tracker, now, diff: &mut Diff| {
                        node.merge(&source, whole, now, diff)
                    };
                    self.nodes.on(to, merge).unwrap();
                }
            }
        }
    }

    /// All is delivered, every node hears where the session is, and what it left behind has had its linger: then what it said last is true.
    fn judge(mut self) -> Result<(), String> {
        self.nodes.sync();
        (0..3).for_each(|node| self.moved(node));
        for _ in 0..3 {
            self.nodes.sync();
            self.nodes.sleep(LINGER + 1_000);
        }
        self.nodes.sync();
        let expected: &[&str] = if self.wanted { &["ann/1=x"] } else { &[] };
        for at in 0..3 {
            if self.nodes.list(at) != expected {
                return Err(format!("at {at} {:?}, not {expected:?}", self.nodes.list(at)));
            }
            if self.nodes.all[at].report().claims != expected.len() {
                return Err(format!("at {at} {:?}", self.nodes.all[at].report()));
            }
        }
        Ok(())
    }
}

fn walk(seed: u64, plant: Option<Plant>) -> Result<(), String> {
    let nodes = Nodes::planted(3, plant);
    let names = nodes.all.iter().map(|node| node.me().clone()).collect();
    let mut world = World { nodes, names, epoch: 0, at: None, revision: 0, wanted: false };
    let mut state = seed;
    random(&mut state, 1);
    let length = 3 + random(&mut state, 22);
    let steps: Vec<Step> = (0..length).map(|_| step(&mut state)).collect();
    for step in &steps {
        world.step(*step);
    }
    world.judge().map_err(|wrong| format!("{wrong}, after {steps:?}"))
}

#[test]
fn what_a_session_said_last_is_true() {
    let (from, count) = match std::env::var("SEED") {
        Ok(seed) => (seed.parse().unwrap(), 1),
        Err(_) => (0, std::env::var("WAXWING_WALKS").map_or(2_000, |walks| walks.parse().unwrap())),
    };
    for seed in from..from + count {
        if let Err(wrong) = walk(seed, None) {
            panic!(
                "seed {seed}: {wrong}\nrepeat it: SEED={seed} cargo test --lib what_a_session_said"
            );
        }
    }
}
