//! Datagrams, towards the target only: each is given its fate when it arrives, and waits in order of when it is due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;

use super::chance::{Dice, Odds};
use super::faults::LaneFaults;
use super::{Lane, Shared, add};
use crate::types::Time;

/// At the limit the newest are dropped, and counted.
pub(super) const WAITING_MAX: usize = 4_096;
const DATAGRAM_SIZE_MAX: usize = 64 << 10;
/// How late a reordered datagram may be.
const LATE_MAX_US: u64 = 30_000;
/// After a failed read; refusals of the target don't come here, so it is something that lasts.
const PAUSE: Duration = Duration::from_millis(20);

struct Chances {
    loss: Dice,
    duplication: Dice,
    reordering: Dice,
}

impl Chances {
    const fn new() -> Self {
        let never = Odds::NEVER;
        Self { loss: Dice::new(never), duplication: Dice::new(never), reordering: Dice::new(never) }
    }

    fn set(&mut self, faults: &LaneFaults) {
        self.loss.set(faults.loss);
        self.duplication.set(faults.duplication);
        self.reordering.set(faults.reordering);
    }
}

pub(super) async fn run(shared: Arc<Shared>, inlet: UdpSocket, outlet: UdpSocket) {
    let counters = &shared.counters;
    let mut faults = shared.faults.subscribe();
    let mut chances = Chances::new();
    let mut waiting: BTreeMap<(Time, u64), Vec<u8>> = BTreeMap::new();
    let mut number = 0;
    let mut cuts = 0;
    // A delay that was shortened must not make datagrams overtake each other; only reordering may.
    let mut last_due = Time::ZERO;
    let mut buffer = vec![0; DATAGRAM_SIZE_MAX];
    loop {
        let lane = faults.borrow_and_update().lane(Lane::Datagrams).clone();
        chances.set(&lane);
        if lane.cuts != cuts {
            cuts = lane.cuts;
            add(&counters.datagrams_dropped, waiting.len() as u64);
            waiting.clear();
        }
        let next = if lane.still() { None } else { waiting.first_key_value() };
        let due = next.map(|((due, _), _)| *due);
        tokio::select! {
            () = shared.stop.cancelled() => return,
            _ = faults.changed() => {}
            () = reached(&shared, due), if due.is_some() => {
                if let Some((_, datagram)) = waiting.pop_first() {
                    match outlet.send_to(&datagram, shared.target).await {
                        Ok(_) => add(&counters.datagrams, 1),
                        // As a network does: nobody is told.
                        Err(_) => add(&counters.datagrams_dropped, 1),
                    }
                }
            }
            read = inlet.recv_from(&mut buffer) => {
                let Ok((size, _)) = read else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                // Faults set before this datagram was read concern it, whichever branch of the select came first.
                let lane = faults.borrow().lane(Lane::Datagrams).clone();
                chances.set(&lane);
                if lane.cut || lane.half_open || waiting.len() >= WAITING_MAX || chances.loss.hits() {
                    add(&counters.datagrams_dropped, 1);
                    continue;
                }
                let mut due = last_due.max(shared.clock.now() + lane.delay);
                last_due = due;
                if chances.reordering.hits() {
                    add(&counters.datagrams_late, 1);
                    due = due + Duration::from_micros(chances.reordering.up_to(LATE_MAX_US));
                }
                if chances.duplication.hits() {
                    add(&counters.datagrams_doubled, 1);
                    waiting.insert((due, number), buffer[..size].to_vec());
                    number += 1;
                }
                waiting.insert((due, number), buffer[..size].to_vec());
                number += 1;
            }
        }
    }
}

async fn reached(shared: &Shared, due: Option<Time>) {
    let Some(due) = due else { return std::future::pending().await };
    let wait = due.since(shared.clock.now());
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}
