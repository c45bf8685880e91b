//! A tiny world in which every step is a choice: three nodes, two sessions, one presence that both want. Time stands still but where
//! the choice is that it passes. `walks` goes through it at random, `exhaustive` through all of it.
//!
//! What may not be: while no linger and none of P7's times has passed, nobody sees the presence leave, whatever is delivered when, twice or
//! never; nobody takes back what it has forgotten; and from every state, once all is delivered, all agree.

use std::time::Duration;

use super::super::*;
use super::{replica, topic, track};
use crate::types::{Replica, SessionId, Time};

pub(super) const NODES: usize = 3;
pub(super) const SESSIONS: usize = 2;
const LINGER: u64 = 5_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// A session attaches, and says again what it wants.
    Attach {
        session: usize,
        node: usize,
    },
    /// The same, through an attachment that isn't the latest: a connection that doesn't know of the other.
    Stale {
        session: usize,
        node: usize,
    },
    /// A node is told that a session is attached elsewhere.
    Moved {
        session: usize,
        node: usize,
    },
    /// A node's linger for an attachment that is gone is over.
    Lingers {
        session: usize,
        node: usize,
    },
    /// A node sends what it did last to another; what it had sent before and was not delivered is lost.
    Send {
        from: usize,
        to: usize,
    },
    /// What was sent arrives, for the first time or again.
    Deliver {
        from: usize,
        to: usize,
    },
    /// A node asks another for what it lacks of a replica, and gets it.
    Pull {
        to: usize,
        from: usize,
        of: usize,
    },
    /// The same, of an incarnation that is dead.
    PullDead {
        to: usize,
        from: usize,
    },
    /// The same, everything that there is of it.
    PullWhole {
        to: usize,
        from: usize,
        of: usize,
    },
    /// A node dies and starts again.
    Crash {
        node: usize,
    },
    /// A node hears nothing of another, or of its last incarnation.
    Down {
        at: usize,
        node: usize,
    },
    Up {
        at: usize,
        node: usize,
    },
    Forget {
        at: usize,
    },
    /// A node hands all over to another and is about to stop.
    Drain {
        from: usize,
        to: usize,
    },
    /// A linger's time passes for everybody.
    Pass,
}

#[derive(Debug)]
pub(super) struct Tiny {
    pub(super) nodes: Vec<Tracker>,
    plant: Option<Plant>,
    now: Time,
    /// Of each session: its epoch, where it attached last, where it was attached, and the last operation made for it.
    sessions: Vec<Client>,
    /// `told[from][to]`: how far, and what is on its way.
    told: Vec<Vec<u64>>,
    flying: Vec<Vec<Option<Delta>>>,
    dead: Vec<Replica>,
    forgotten: Vec<(usize, Replica)>,
    /// A leave would have its reason.
    excused: bool,
    incarnations: u64,
    pub(super) passes: usize,
    pub(super) crashes: usize,
}

#[derive(Debug, Clone, Default)]
struct Client {
    epoch: u64,
    node: Option<usize>,
    /// Epochs under which nodes know it.
    known: Vec<(usize, u64)>,
    latest: Option<Dot>,
}

fn id(session: usize) -> SessionId {
    super::session(session as u8 + 1)
}

fn owner(session: usize, epoch: u64) -> Owner {
    super::owner(session as u8 + 1, epoch, LINGER)
}

fn name(node: usize) -> String {
    char::from(b'a' + node as u8).to_string()
}

impl Tiny {
    pub(super) fn new(plant: Option<Plant>) -> Self {
        let replicas: Vec<Replica> = (0..NODES).map(|at| replica(&name(at), 1)).collect();
        let nodes = replicas.iter().map(|replica| Tracker::planted(replica.clone(), plant));
        let mut tiny = Self {
            nodes: nodes.collect(),
            plant,
            now: Time::from_millis(1_000_000),
            sessions: vec![Client::default(); SESSIONS],
            told: vec![vec![0; NODES]; NODES],
            flying: vec![vec![None; NODES]; NODES],
            dead: Vec::new(),
            forgotten: Vec::new(),
            excused: false,
            incarnations: 1,
            passes: 0,
            crashes: 0,
        };
        for at in 0..NODES {
            for other in &replicas {
                if *other != replicas[at] {
                    let _ = tiny.nodes[at].replica_up(other, tiny.now, &mut Diff::new());
                }
            }
        }
        tiny
    }

    /// What could happen next.
    pub(super) fn choices(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let pairs = (0..NODES).flat_map(|one| (0..NODES).map(move |other| (one, other)));
        let pairs: Vec<_> = pairs.filter(|(one, other)| one != other).collect();
        for session in 0..SESSIONS {
            for node in 0..NODES {
                steps.push(Step::Attach { session, node });
                let client = &self.sessions[session];
                if client.known.iter().any(|(at, epoch)| *at == node && *epoch < client.epoch) {
                    steps.push(Step::Stale { session, node });
                    steps.push(Step::Moved { session, node });
                    steps.push(Step::Lingers { session, node });
                }
            }
        }
        for (from, to) in pairs {
            if self.nodes[from].own_counter() > self.told[from][to] {
                steps.push(Step::Send { from, to });
            }
            if self.flying[from][to].is_some() {
                steps.push(Step::Deliver { from, to });
            }
            for of in (0..NODES).filter(|of| *of != to) {
                let replica = self.nodes[of].me();
                let has = |at: usize| self.nodes[at].counter_of(replica).unwrap_or(0);
                if has(from) > has(to) {
                    steps.push(Step::Pull { to, from, of });
                    steps.push(Step::PullWhole { to, from, of });
                }
            }
            if !self.dead.is_empty() {
                steps.push(Step::PullDead { to, from });
            }
            steps.push(Step::Down { at: from, node: to });
            steps.push(Step::Up { at: from, node: to });
            steps.push(Step::Drain { from, to });
        }
        for node in 0..NODES {
            steps.push(Step::Crash { node });
            if !self.dead.is_empty() {
                steps.push(Step::Forget { at: node });
            }
        }
        steps.push(Step::Pass);
        steps
    }

    fn on<R>(
        &mut self,
        at: usize,
        act: impl FnOnce(&mut Tracker, Time, &mut Diff) -> R,
    ) -> Result<R, String> {
        let mut diff = Diff::new();
        let result = act(&mut self.nodes[at], self.now, &mut diff);
        while self.nodes[at].next_deadline().is_some_and(|due| due <= self.now) {
            self.nodes[at].tick(self.now, &mut diff);
        }
        self.nodes[at].check()?;
        let left = diff.0.iter().any(|change| change.after.is_none());
        if left && !self.excused {
            if std::env::var("SEED").is_ok() {
                println!("{}", self.brief());
            }
            return Err(format!("it leaves at {}", name(at)));
        }
        for (at, replica) in &self.forgotten {
            if self.nodes[*at].rows().iter().any(|row| row.replica == *replica) {
                return Err(format!("{} took {replica} back", name(*at)));
            }
        }
        Ok(result)
    }

    fn wish(&mut self, session: usize, node: usize, epoch: u64) -> Result<(), String> {
        let owner = owner(session, epoch);
        self.on(node, |node, now, diff| node.attached(&owner, now, diff))?;
        let wish = track("ann", "1", "", 1);
        let tracked = self.on(node, |node, now, diff| node.track(&owner, &wish, now, 7, diff))?;
        if tracked.is_ok() {
            self.claimed(session, node);
        }
        Ok(())
    }

    fn claimed(&mut self, session: usize, node: usize) {
        let (replica, counter) = (self.nodes[node].me().clone(), self.nodes[node].own_counter());
        self.sessions[session].latest = Some(Dot { replica, counter });
    }

    pub(super) fn step(&mut self, step: Step) -> Result<(), String> {
        let result = self.do_step(step);
        if std::env::var("SEED").is_ok() {
            println!("{step:?} {result:?}\n{}", self.brief());
        }
        result
    }

    fn do_step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Attach { session, node } => {
                let client = &mut self.sessions[session];
                client.epoch += 1;
                client.node = Some(node);
                client.known.retain(|(at, _)| *at != node);
                client.known.push((node, client.epoch));
                let epoch = client.epoch;
                self.wish(session, node, epoch)
            }
            Step::Stale { session, node } => {
                let known = self.sessions[session].known.iter().find(|(at, _)| *at == node);
                let Some((_, epoch)) = known.copied() else { return Ok(()) };
                let latest = self.sessions[session].latest.clone();
                self.wish(session, node, epoch)?;
                // The latest attachment's claim is the one that has to stand.
                self.sessions[session].latest = latest;
                Ok(())
            }
            Step::Moved { session, node } => {
                let epoch = self.sessions[session].epoch;
                self.on(node, |node, now, _| node.moved(id(session), epoch, now))
            }
            Step::Lingers { session, node } => {
                self.sessions[session].known.retain(|(at, _)| *at != node);
                // Where the node knows who has it now, its going must not be seen. Where it doesn't, a linger has passed.
                let knows = self.sessions[session].latest.as_ref().is_some_and(|dot| {
                    self.nodes[node].counter_of(&dot.replica).unwrap_or(u64::MAX) >= dot.counter
                });
                // Nor where that claim is what shows there: it has outdone the others.
                let me = self.nodes[node].me().name.clone();
                let shown = self.nodes[node].snapshot(&topic("room"));
                let shows = |one: &Shown| *one.node() == me && one.session() == id(session);
                self.excused |= !knows || shown.iter().any(shows);
                self.on(node, |node, now, diff| node.ended(id(session), now, diff))?;
                // A connection that didn't know of its successor claimed above it, and is over: if nobody claims above that in
                // turn, it has been given up.
                let me = self.nodes[node].me().clone();
                let holds = |row: &Row| row.replica == me && row.digest != 0;
                self.excused |= self.nodes[node].rows().iter().any(holds);
                Ok(())
            }
            Step::Send { from, to } => {
                let me = self.nodes[from].me().clone();
                let answer = self.nodes[from].interval(&me, self.told[from][to], 100, self.now);
                if let Answer::Interval(delta) | Answer::Whole(delta) = answer {
                    self.told[from][to] = delta.to;
                    self.flying[from][to] = Some(delta);
                }
                Ok(())
            }
            Step::Deliver { from, to } => {
                let Some(delta) = self.flying[from][to].clone() else { return Ok(()) };
                self.merge(from, to, delta)
            }
            Step::Pull { to, from, of } => {
                let replica = self.nodes[of].me().clone();
                self.pull(to, from, &replica)
            }
            Step::PullDead { to, from } => {
                for replica in self.dead.clone() {
                    self.pull(to, from, &replica)?;
                }
                Ok(())
            }
            Step::PullWhole { to, from, of } => {
                let replica = self.nodes[of].me().clone();
                match self.nodes[from].whole(&replica, self.now) {
                    Answer::Whole(delta) => self.merge(from, to, delta),
                    _ => Ok(()),
                }
            }
            Step::Crash { node } => {
                self.crashes += 1;
                self.incarnations += 1;
                self.dead.push(self.nodes[node].me().clone());
                let me = replica(&name(node), self.incarnations);
                self.nodes[node] = Tracker::planted(me, self.plant);
                self.forgotten.retain(|(at, _)| *at != node);
                for other in (0..NODES).filter(|other| *other != node) {
                    let (old, new) =
                        (self.dead[self.dead.len() - 1].clone(), self.nodes[node].me().clone());
                    let them = self.nodes[other].me().clone();
                    self.on(other, |node, now, diff| node.replica_down(&old, now, now, diff))?;
                    self.on(other, |node, now, diff| node.replica_up(&new, now, diff))?;
                    self.on(node, |node, now, diff| node.replica_up(&them, now, diff))?;
                    self.told[node][other] = 0;
                    self.told[other][node] = 0;
                    self.flying[node][other] = None;
                    self.flying[other][node] = None;
                }
                // It takes clients once it has caught up.
                for from in (0..NODES).filter(|from| *from != node) {
                    for row in self.nodes[from].rows() {
                        self.pull(node, from, &row.replica)?;
                    }
                }
                for client in &mut self.sessions {
                    client.known.retain(|(at, _)| *at != node);
                    if client.node == Some(node) {
                        client.node = None;
                    }
                }
                Ok(())
            }
            Step::Down { at, node } => {
                let replica = self.nodes[node].me().clone();
                self.on(at, |node, now, diff| node.replica_down(&replica, now, now, diff))
            }
            Step::Up { at, node } => {
                let replica = self.nodes[node].me().clone();
                self.on(at, |node, now, diff| node.replica_up(&replica, now, diff))?;
                Ok(())
            }
            Step::Forget { at } => {
                self.excused = true;
                for replica in self.dead.clone() {
                    if replica.name != self.nodes[at].me().name {
                        self.forgotten.push((at, replica.clone()));
                        self.on(at, |node, now, diff| node.forget(&replica, now, diff))?;
                    }
                }
                Ok(())
            }
            Step::Drain { from, to } => {
                let handed = self.on(from, |node, now, _| node.hand_over(now))?;
                let sessions: Vec<_> = handed.iter().map(|one| one.claim.session()).collect();
                self.on(to, |node, now, diff| node.adopt(handed, now, diff))?;
                for session in 0..SESSIONS {
                    // Only where it was handed over from its latest attachment.
                    if sessions.contains(&id(session)) && self.sessions[session].node == Some(from)
                    {
                        self.sessions[session].node = None;
                        self.claimed(session, to);
                        let epoch = self.sessions[session].epoch;
                        // What it was attached under there has come to an end.
                        self.sessions[session]
                            .known
                            .retain(|(at, known)| *at != from && *known < epoch);
                    }
                }
                Ok(())
            }
            Step::Pass => {
                self.excused = true;
                self.passes += 1;
                self.now = self.now + Duration::from_millis(LINGER + 1_000);
                (0..NODES).try_for_each(|at| self.on(at, |_, _, _| ()))
            }
        }
    }

    fn merge(&mut self, from: usize, to: usize, delta: Delta) -> Result<(), String> {
        let source = self.nodes[from].me().name.clone();
        // A gap or a forgotten replica is refused; what else is, would be found below.
        self.on(to, |node, now, diff| drop(node.merge(&source, delta, now, diff)))
    }

    fn pull(&mut self, to: usize, from: usize, of: &Replica) -> Result<(), String> {
        if of == self.nodes[to].me() {
            return Ok(());
        }
        let have = self.nodes[to].counter_of(of).unwrap_or(0);
        match self.nodes[from].interval(of, have, 100, self.now) {
            Answer::Interval(delta) | Answer::Whole(delta) => self.merge(from, to, delta),
            Answer::UpToDate | Answer::Unknown => Ok(()),
        }
    }

    fn sync(&mut self) -> Result<(), String> {
        for _ in 0..3 {
            for to in 0..NODES {
                for from in (0..NODES).filter(|from| *from != to) {
                    for row in self.nodes[from].rows() {
                        self.pull(to, from, &row.replica)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Faults end, all is delivered, the sessions say once more what they want, and time passes: now all must agree.
    pub(super) fn agree(mut self) -> Result<(), String> {
        for at in 0..NODES {
            for node in (0..NODES).filter(|node| *node != at) {
                self.step(Step::Up { at, node })?;
            }
        }
        self.sync()?;
        for session in 0..SESSIONS {
            let node = self.sessions[session].node.unwrap_or(session);
            self.step(Step::Attach { session, node })?;
            // Attachments of old that nobody has ended yet end now.
            for old in 0..NODES {
                if self.sessions[session].known.iter().any(|(at, _)| *at == old && *at != node) {
                    self.sync()?;
                    self.step(Step::Lingers { session, node: old })?;
                }
            }
        }
        self.sync()?;
        for _ in 0..3 {
            self.step(Step::Pass)?;
            self.sync()?;
        }
        let list = |at: usize| {
            let shown = self.nodes[at].snapshot(&topic("room")).into_iter();
            let what = |one: Shown| (one.reference(), one.node().clone(), one.session());
            shown.map(what).collect::<Vec<_>>()
        };
        let first = list(0);
        if first.len() != 1 {
            return Err(format!("at the end {first:?} is there"));
        }
        for at in 1..NODES {
            if list(at) != first {
                return Err(format!(
                    "at the end {} has {:?}, and a has {first:?}",
                    name(at),
                    list(at)
                ));
            }
        }
        for at in 0..NODES {
            let report = self.nodes[at].report();
            if report.waiting > 0 || report.claims != 1 {
                return Err(format!(
                    "at the end {}: {report:?}\n{}",
                    name(at),
                    self.text().replace("\\n", "\n")
                ));
            }
        }
        Ok(())
    }

    fn brief(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            text += &format!("   {}:", node.me());
            for part in node
                .dump()
                .replace("meta: [], ", "")
                .split('[')
                .filter(|part| part.contains("Fields"))
            {
                let word = |what: &str| {
                    part.split(what)
                        .nth(1)
                        .map_or("?", |rest| rest.split([',', ' ', '}']).next().unwrap())
                };
                let wait = part
                    .split("} ")
                    .nth(1)
                    .unwrap_or_default()
                    .split(']')
                    .next()
                    .unwrap_or_default();
                text += &format!(
                    " <{} s{} e{} n{} {}>",
                    part.split(' ').next().unwrap(),
                    &word("session: "),
                    word("epoch: "),
                    word("number: "),
                    wait
                );
            }
            text += &format!(
                "  {}",
                node.rows()
                    .iter()
                    .map(|row| format!("{}={}", row.replica, row.counter))
                    .collect::<Vec<_>>()
                    .join(",")
            );
            text += "\n";
        }
        text
    }

    /// All of it, for telling states apart.
    pub(super) fn text(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(Tracker::dump).collect();
        format!(
            "{nodes:?} {:?} {:?} {:?} {:?} {:?} {}",
            self.sessions, self.told, self.flying, self.dead, self.forgotten, self.excused
        )
    }
}
