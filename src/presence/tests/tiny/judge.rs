//! What must hold in the end, and telling states apart.

use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

use super::super::topic;
use super::*;

impl Tiny {
    pub(in super::super) fn is_up(&self, at: usize, node: usize) -> bool {
        self.nodes[at].is_up(self.nodes[node].me())
    }

    pub(super) fn sync(&mut self) -> Result<(), String> {
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
    pub(in super::super) fn agree(mut self) -> Result<(), String> {
        for at in 0..NODES {
            for node in (0..NODES).filter(|node| *node != at) {
                self.step(Step::Up { at, node })?;
            }
        }
        self.sync()?;
        for session in 0..SESSIONS {
            let node = self.sessions[session].node.unwrap_or(session);
            self.step(Step::Attach { session, node })?;
            self.sync()?;
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
                return Err(format!("at the end {}: {report:?}\n{}", name(at), self.brief()));
            }
        }
        Ok(())
    }

    /// Who claims what under which numbers, and how far everybody is: a line for each node.
    pub(in super::super) fn brief(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let _ = write!(text, "   {}:", node.me());
            for row in node.rows() {
                let Answer::Whole(whole) = node.whole(&row.replica, self.now) else { continue };
                for Entry { counter, claim, .. } in &whole.adds {
                    let because = whole.removes.iter().find(|one| one.counter == *counter);
                    let (session, epoch, number) =
                        (claim.session().0[0], claim.epoch(), claim.number());
                    let of = &row.replica;
                    let _ = write!(text, " <{of}:{counter} s{session} e{epoch} n{number}");
                    if let Some(Dot { replica, counter }) =
                        because.and_then(|one| one.because.as_ref())
                    {
                        let _ = write!(text, " waits for {replica}:{counter}");
                    }
                    text.push('>');
                }
                let _ = write!(text, " {}={}", row.replica, row.counter);
            }
            text.push('\n');
        }
        text
    }
}

/// All that decides what can happen next.
impl Hash for Tiny {
    fn hash<H: Hasher>(&self, hash: &mut H) {
        (&self.prints, self.now, &self.sessions, &self.told).hash(hash);
        for delta in self.flying.iter().flatten().flatten() {
            (&delta.replica, delta.from, delta.to).hash(hash);
            delta.adds.iter().for_each(|add| add.counter.hash(hash));
            for removal in &delta.removes {
                (removal.counter, &removal.because).hash(hash);
            }
        }
        let flies = |delta: &Option<Arc<Delta>>| delta.is_some();
        self.flying.iter().flatten().map(flies).collect::<Vec<_>>().hash(hash);
        (&self.dead, &self.forgotten, self.excused).hash(hash);
    }
}
