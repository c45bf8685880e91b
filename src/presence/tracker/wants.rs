//! Two nodes compare how far they are with each replica, and the one that is behind asks.

use crate::types::{NodeName, Time};

use super::super::replica::Life;
use super::super::{Plant, Row, Tracker, Want};

/// That peer was ahead of this node with one replica.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Lack {
    /// So far it was.
    counter: u64,
}

impl Tracker {
    /// What to ask that peer for, given its rows.
    ///
    /// A replica that is up sends its own deltas to everybody, and what a third node has of it first is mostly on its way here too:
    /// only what is lacking still at the next comparison is asked for.
    pub fn wants(&mut self, rows: &[Row], peer: &NodeName, now: Time) -> Vec<Want> {
        self.note_what_it_knows(rows, peer);
        let mut wants = Vec::new();
        for row in rows {
            if row.replica == *self.me() || self.replicas.is_forgotten(&row.replica) {
                if self.plant == Some(Plant::ForgottenTaken) && row.replica.name != self.me().name {
                    wants.push(Want { replica: row.replica.clone(), from: 0, whole: true });
                }
                continue;
            }
            let Some(id) = self.know(&row.replica, now) else { continue };
            let lack = (row.replica.clone(), peer.clone());
            if self.awaits_whole(id, now) {
                continue;
            }
            let known = &self.replicas[id];
            let (have, up) = (known.counter, known.life == Life::Up);
            if row.counter > have {
                let before = self.lacking.insert(lack, Lack { counter: row.counter });
                let still = before.is_some_and(|before| before.counter > have);
                if !up || still {
                    let replica = row.replica.clone();
                    wants.push(Want { replica, from: have, whole: false });
                }
                continue;
            }
            self.lacking.remove(&lack);
            // Only the origin knows better what it did.
            let differs = row.counter == have && row.settled && row.digest != known.digest;
            if differs && row.replica.name == *peer {
                self.replicas[id].repairing = true;
                wants.push(Want { replica: row.replica.clone(), from: 0, whole: true });
            }
        }
        wants
    }

    fn note_what_it_knows(&mut self, rows: &[Row], peer: &NodeName) {
        let its = rows.iter().find(|row| row.replica.name == *peer);
        let ours = rows.iter().find(|row| row.replica == *self.me());
        if let (Some(its), Some(ours)) = (its, ours)
            && let Some(id) = self.replicas.find(&its.replica)
        {
            self.replicas[id].knew = Some((its.counter, ours.counter));
        }
    }
}
