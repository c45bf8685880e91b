//! What each step does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::{topic, track};
use super::*;

impl Tiny {
    pub(super) fn on<R>(
        &mut self,
        at: usize,
        act: impl FnOnce(&mut Tracker, Time, &mut Diff) -> R,
    ) -> Result<R, String> {
        let mut diff = Diff::new();
        let node = Arc::make_mut(&mut self.nodes[at]);
        let result = act(node, self.now, &mut diff);
        while node.next_deadline().is_some_and(|due| due <= self.now) {
            node.tick(self.now, &mut diff);
        }
        node.check()?;
        self.prints[at] = node.fingerprint();
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

    pub(in super::super) fn step(&mut self, step: Step) -> Result<(), String> {
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
                    self.flying[from][to] = Some(Arc::new(delta));
                }
                Ok(())
            }
            Step::Deliver { from, to } => {
                let Some(delta) = self.flying[from][to].clone() else { return Ok(()) };
                self.merge(from, to, Delta::clone(&delta))
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
                self.nodes[node] = Arc::new(Tracker::planted(me, self.plant));
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
                let handed = self.on(from, |node, now, _| node.hand_over(&HashMap::new(), now))?;
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
                let before = self.excused;
                let connected: Vec<bool> = (0..NODES).map(|at| self.sees_holder(at)).collect();
                let settled = connected.iter().all(|connected| *connected) && self.is_synced();
                self.passes += 1;
                self.now = self.now + Duration::from_millis(LINGER + 1_000);
                for (at, connected) in connected.into_iter().enumerate() {
                    // What shows there is a claim of a session that is attached, at a node that is up: time alone takes nothing away.
                    self.excused = before || !connected;
                    self.on(at, |_, _, _| ())?;
                }
                self.excused = before || !settled;
                Ok(())
            }
        }
    }

    /// What shows there is the latest claim of a session that is attached to a node which is up, as seen from there; and it shows at that
    /// node as well, so that nobody has taken it over without those here knowing.
    fn sees_holder(&self, at: usize) -> bool {
        let shows = |at: usize| self.nodes[at].snapshot(&topic("room")).into_iter().next();
        let Some(shown) = shows(at).filter(|shown| !shown.orphaned()) else { return false };
        let holder = self.nodes.iter().position(|node| node.me().name == *shown.node());
        let same =
            |other: &Shown| (other.node(), other.session()) == (shown.node(), shown.session());
        if !holder.and_then(shows).as_ref().is_some_and(same) {
            return false;
        }
        let holds = |session: usize, client: &Client| {
            client.node.is_some_and(|node| name(node) == shown.node().as_str())
                && shown.session() == id(session)
                && client.latest.as_ref().is_some_and(|dot| {
                    self.nodes[at].counter_of(&dot.replica).is_some_and(|have| have >= dot.counter)
                })
        };
        self.sessions.iter().enumerate().any(|(session, client)| holds(session, client))
    }

    fn is_synced(&self) -> bool {
        let rows = self.nodes[0].rows();
        self.nodes.iter().all(|node| node.rows() == rows)
    }

    fn merge(&mut self, from: usize, to: usize, delta: Delta) -> Result<(), String> {
        let source = self.nodes[from].me().name.clone();
        // A gap or a forgotten replica is refused; what else is, would be found below.
        self.on(to, |node, now, diff| drop(node.merge(&source, delta, now, diff)))
    }

    pub(super) fn pull(&mut self, to: usize, from: usize, of: &Replica) -> Result<(), String> {
        if of == self.nodes[to].me() {
            return Ok(());
        }
        let have = self.nodes[to].counter_of(of).unwrap_or(0);
        match self.nodes[from].interval(of, have, 100, self.now) {
            Answer::Interval(delta) | Answer::Whole(delta) => self.merge(from, to, delta),
            Answer::UpToDate | Answer::Unknown => Ok(()),
        }
    }
}
