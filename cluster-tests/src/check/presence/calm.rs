//! When nothing was done to the nodes that could be seen: silence between two, silence of one, deaths.

use std::collections::{BTreeMap, BTreeSet};

use super::asked::{OPEN, Span};
use crate::history::{Op, Record};

#[derive(Debug, Default)]
pub(super) struct Calm {
    /// Whom it concerned; nobody named: everybody. What began and ended in one moment is nothing: connections break, and are made again.
    silences: Vec<(BTreeSet<String>, Span)>,
    deaths: Vec<(String, Span)>,
}

impl Calm {
    pub(super) fn of(history: &[Record]) -> Self {
        let mut calm = Self::default();
        let mut running: BTreeMap<BTreeSet<String>, (u64, u32)> = BTreeMap::new();
        for record in history {
            let Op::Fault { begin, nodes, death, .. } = &record.op else { continue };
            let at = record.t_us;
            let whom: BTreeSet<String> = nodes.iter().cloned().collect();
            match (begin, death) {
                (true, true) => {
                    let dead = nodes.iter().cloned();
                    calm.deaths.extend(dead.map(|node| (node, Span { from: at, until: OPEN })));
                }
                (false, true) => {
                    for (_, span) in calm.deaths.iter_mut().filter(|(node, _)| nodes.contains(node))
                    {
                        span.until = span.until.min(at);
                    }
                }
                (true, false) => {
                    running.entry(whom).or_insert((at, 0)).1 += 1;
                }
                (false, false) if whom.is_empty() => {
                    for (whom, (from, _)) in std::mem::take(&mut running) {
                        calm.silences.push((whom, Span { from, until: at }));
                    }
                }
                (false, false) => {
                    if let Some((from, depth)) = running.get_mut(&whom) {
                        *depth -= 1;
                        if *depth == 0 {
                            calm.silences.push((whom.clone(), Span { from: *from, until: at }));
                            running.remove(&whom);
                        }
                    }
                }
            }
        }
        for (whom, (from, _)) in running {
            calm.silences.push((whom, Span { from, until: OPEN }));
        }
        calm
    }

    fn silent(&self, then: Span) -> impl Iterator<Item = &BTreeSet<String>> {
        let during = move |span: &Span| span.until > span.from && meet(*span, then);
        self.silences.iter().filter(move |(_, span)| during(span)).map(|(whom, _)| whom)
    }

    /// The two could hear each other all that time, as far as nothing was done to them.
    pub(super) fn between(&self, a: &str, b: &str, then: Span) -> bool {
        !self.silent(then).any(|whom| {
            whom.iter().all(|node| node == a || node == b) && (a != b || whom.len() < 2)
        })
    }

    pub(super) fn died(&self, node: &str, then: Span) -> bool {
        self.deaths.iter().any(|(dead, span)| dead == node && meet(*span, then))
    }

    /// It was started again after this moment.
    pub(super) fn born(&self, node: &str, then: Span) -> bool {
        let born = |span: &Span| then.from <= span.until && span.until <= then.until;
        self.deaths.iter().any(|(dead, span)| dead == node && born(span))
    }

    /// Nothing at all was done.
    pub(super) fn everywhere(&self, then: Span) -> bool {
        self.silent(then).next().is_none() && !self.deaths.iter().any(|(_, span)| meet(*span, then))
    }
}

const fn meet(a: Span, b: Span) -> bool {
    a.from <= b.until && b.from <= a.until
}
