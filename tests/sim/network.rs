//! Messages between nodes: late, lost, doubled, out of order, or cut off.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use waxwing::presence::{Delta, Handed, Row, Want};
use waxwing::types::{Replica, SessionId};

use crate::chance::Chance;

#[derive(Debug, Clone)]
pub(crate) enum Message {
    /// "I live": who, and since when nobody is heard of is judged by the receiver.
    Beat(Replica),
    Delta(Delta),
    Rows(Vec<Row>),
    Wants(Vec<Want>),
    Moved(SessionId, u64),
    Adopt(Vec<Handed>),
    /// "Your incarnation is forgotten here."
    Forgotten(Replica),
}

#[derive(Debug, Clone)]
pub(crate) enum Event {
    Deliver {
        from: usize,
        to: usize,
        message: Message,
    },
    /// A node's turn: deadlines, deltas.
    Turn(usize),
    /// A node compares with a peer.
    Compare(usize),
    /// A client does something.
    Act,
    Fault,
    /// A fault ends.
    Heal(Healing),
    /// An attachment that broke lingers no longer.
    Linger {
        node: usize,
        incarnation: u64,
        session: usize,
        epoch: u64,
    },
    /// A client whose attachment broke comes back.
    Return {
        session: usize,
        epoch: u64,
    },
    /// Drained: it stops.
    Stop {
        node: usize,
        incarnation: u64,
    },
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Healing {
    Cut(usize, usize),
    Restart(usize),
}

#[derive(Debug)]
pub(crate) struct Network {
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    order: u64,
    /// `cut[from][to]`: nothing gets through.
    pub(crate) cut: Vec<Vec<bool>>,
    /// When the last cut between two ended, in either direction; now, while there is one.
    pub(crate) cut_until: Vec<Vec<u64>>,
    pub(crate) loss_percent: u64,
    pub(crate) delay_max: u64,
}

impl Network {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            queue: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            order: 0,
            cut: vec![vec![false; nodes]; nodes],
            cut_until: vec![vec![0; nodes]; nodes],
            loss_percent: 0,
            delay_max: 30,
        }
    }

    pub(crate) fn at(&mut self, time: u64, event: Event) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.order += 1;
        self.queue.push(Reverse((time, self.order, place)));
    }

    pub(crate) fn next(&mut self) -> Option<(u64, Event)> {
        let Reverse((time, _, place)) = self.queue.pop()?;
        self.free.push(place);
        Some((time, self.events[place].take()?))
    }

    pub(crate) fn send(
        &mut self,
        now: u64,
        chance: &mut Chance,
        from: usize,
        to: usize,
        message: Message,
    ) {
        if self.cut[from][to] || chance.percent(self.loss_percent) {
            return;
        }
        if chance.percent(3) {
            self.deliver(now, chance, Event::Deliver { from, to, message: message.clone() });
        }
        self.deliver(now, chance, Event::Deliver { from, to, message });
    }

    fn deliver(&mut self, now: u64, chance: &mut Chance, event: Event) {
        let slow = if chance.percent(5) { 5 } else { 1 };
        self.at(now + 1 + chance.below(self.delay_max * slow), event);
    }

    pub(crate) fn set_cut(&mut self, now: u64, from: usize, to: usize, cut: bool) {
        self.cut[from][to] = cut;
        if !cut {
            self.cut_until[from][to] = now;
        }
    }

    /// Nothing was cut between two since then, in either direction.
    pub(crate) fn whole_since(&self, one: usize, other: usize, since: u64) -> bool {
        !self.cut[one][other]
            && !self.cut[other][one]
            && self.cut_until[one][other] <= since
            && self.cut_until[other][one] <= since
    }
}
