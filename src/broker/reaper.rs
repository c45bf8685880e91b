//! What time does to sessions: lingers and overlaps end, who has to go is told, who takes nothing is let go.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::endpoints::{self, Random};
use super::seat::Seat;
use super::sessions::Input;
use super::{Ending, GoAway, Shared, obey};
use crate::pubsub::mailbox::Closed;
use crate::supervise::Shutdown;
use crate::types::Time;
use std::sync::atomic::Ordering;

const TICK: Duration = Duration::from_millis(100);

/// What looks at every attachment is done once in so many ticks.
const TICKS_PER_ROUND: u32 = 10;

/// Ends with the broker, or when told to.
pub(super) async fn run(shared: Weak<Shared>, shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for n in 0_u32.. {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let Some(shared) = shared.upgrade() else {
            // Nothing is left to be reaped; an end would only be followed by a new start.
            shutdown.cancelled().await;
            return;
        };
        shared.pass(n % TICKS_PER_ROUND == 0);
    }
}

impl Shared {
    fn pass(&self, round: bool) {
        let limits = self.limits.get();
        let now = self.clock.now();
        let mut table = self.table.lock();
        let outputs = table.handle(Input::Tick { lingering_max: limits.sessions }, now);
        let affected = table.affected(&outputs);
        self.tell_replicator(&outputs);
        for session in table.writers.take_over(now) {
            self.replicator.ended(session);
        }
        let leaving = table.take_farewells(now);
        let expired = table.take_expired(now);
        let seats: Vec<_> =
            if round { table.seats.values().cloned().collect() } else { Vec::new() };
        let away = table.away.clone();
        drop(table);

        obey(affected);
        for seat in expired {
            seat.end(Ending::Expired);
        }
        if let Some(away) = away {
            let mut random = Random::new();
            for seat in leaving {
                self.say_farewell(&seat, &away, &mut random);
            }
        }
        if round {
            // The router closes the mailbox of whoever takes nothing; a client that doesn't read has no writer to notice it.
            for seat in seats {
                match seat.mailbox.closed() {
                    None => {}
                    Some(Closed::Overflow) => seat.end(Ending::OutputLimit),
                    Some(_) => seat.end(Ending::Stalled(limits.mailbox_stall)),
                }
            }
            self.topics.store(self.router.report().topics, Ordering::Relaxed);
        }
    }

    fn say_farewell(&self, seat: &Seat, away: &GoAway, random: &mut Random) {
        let mut away = away.clone();
        if away.endpoints.is_empty() {
            away.endpoints = endpoints::others(&self.membership.members(), random);
        } else {
            random.shuffle(&mut away.endpoints);
        }
        match seat.voice.go_away(&away) {
            Some(said) => {
                seat.mailbox.push_event(said);
            }
            None => seat.end(Ending::NodeCloses(away.reason)),
        }
    }
}

impl super::Table {
    /// Those whose pass is over.
    fn take_expired(&mut self, now: Time) -> Vec<Arc<Seat>> {
        let mut expired = Vec::new();
        while let Some(&(at, id)) = self.expiries.first()
            && at <= now
        {
            self.expiries.remove(&(at, id));
            expired.extend(self.seats.get(&id).cloned());
        }
        expired
    }

    /// Those whose time has come. Who isn't welcomed yet is told a little later: a welcome comes first.
    fn take_farewells(&mut self, now: Time) -> Vec<Arc<Seat>> {
        let mut leaving = Vec::new();
        while let Some(&(at, id)) = self.farewells.first()
            && at <= now
        {
            self.farewells.remove(&(at, id));
            match self.seats.get(&id) {
                Some(seat) if seat.is_welcomed() => leaving.push(seat.clone()),
                Some(_) => {
                    self.farewells.insert((now + TICK, id));
                }
                None => {}
            }
        }
        leaving
    }
}
