//! Questions to peers that wait for answers: how many got a publish, who knows a session.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::types::{NodeName, Time};

/// One peer's answer and when it came. None: there will be no answer.
pub(super) type Answer<A> = (NodeName, Option<(A, Time)>);

#[derive(Debug)]
struct Open<A> {
    waiting: SmallVec<[NodeName; 8]>,
    answers: SmallVec<[Answer<A>; 8]>,
    done: Option<oneshot::Sender<()>>,
}

/// All questions of one kind. Each is bounded in time by its asker, who takes it away.
#[derive(Debug)]
pub(super) struct Tickets<A> {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Open<A>>>,
}

impl<A> Default for Tickets<A> {
    fn default() -> Self {
        Self { next: AtomicU64::new(1), open: Mutex::default() }
    }
}

/// Takes the question away when dropped.
#[derive(Debug)]
pub(super) struct Ticket<A> {
    pub(super) number: u64,
    tickets: Arc<Tickets<A>>,
}

impl<A> Tickets<A> {
    /// Asked of nobody yet.
    pub(super) fn issue(self: &Arc<Self>) -> Ticket<A> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(
            number,
            Open { waiting: SmallVec::new(), answers: SmallVec::new(), done: None },
        );
        Ticket { number, tickets: self.clone() }
    }

    pub(super) fn answer(&self, ticket: u64, peer: &NodeName, answer: A, now: Time) {
        if let Some(open) = self.open.lock().get_mut(&ticket) {
            open.settle(peer, Some((answer, now)));
        }
    }

    /// The peer can't answer any more.
    pub(super) fn gone(&self, peer: &NodeName) {
        for open in self.open.lock().values_mut() {
            if open.waiting.contains(peer) {
                open.settle(peer, None);
            }
        }
    }
}

impl<A> Open<A> {
    fn settle(&mut self, peer: &NodeName, answer: Option<(A, Time)>) {
        if self.answers.iter().any(|(name, _)| name == peer) {
            return;
        }
        self.waiting.retain(|name| name != peer);
        self.answers.push((peer.clone(), answer));
        if self.waiting.is_empty()
            && let Some(done) = self.done.take()
        {
            let _ = done.send(());
        }
    }
}

impl<A> Ticket<A> {
    /// Who was asked. An answer may have come already.
    pub(super) async fn answers(
        self,
        asked: &[NodeName],
        wait: Duration,
    ) -> SmallVec<[Answer<A>; 8]> {
        let done = {
            let mut all = self.tickets.open.lock();
            all.get_mut(&self.number).and_then(|open| {
                open.waiting = asked
                    .iter()
                    .filter(|name| open.answers.iter().all(|(answered, _)| answered != *name))
                    .cloned()
                    .collect();
                if open.waiting.is_empty() {
                    return None;
                }
                let (send, receive) = oneshot::channel();
                open.done = Some(send);
                Some(receive)
            })
        };
        if let Some(done) = done {
            let _ = tokio::time::timeout(wait, done).await;
        }
        let open = self.tickets.open.lock().remove(&self.number);
        open.map_or_else(SmallVec::new, |open| open.answers)
    }
}

impl<A> Drop for Ticket<A> {
    fn drop(&mut self) {
        self.tickets.open.lock().remove(&self.number);
    }
}
