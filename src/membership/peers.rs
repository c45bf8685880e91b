//! Who has spoken to this node, by advertised address: when it was last heard, and when it last heard us. Pure.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::envelope::Sender;
use super::isolation::Heard;
use crate::types::{NodeName, Time};

#[derive(Debug)]
pub(super) struct Peers {
    by_address: HashMap<SocketAddr, Peer>,
    max: usize,
}

#[derive(Debug, Clone)]
struct Peer {
    name: NodeName,
    boot: u64,
    first: Time,
    last: Time,
    heard_us: Option<Duration>,
    refused: Option<Time>,
}

/// To be refused once a second is enough.
const REFUSE_EVERY: Duration = Duration::from_secs(1);

impl Peers {
    pub(super) fn new(max: usize) -> Self {
        Self { by_address: HashMap::new(), max }
    }

    /// A datagram of this sender opened; `heard_ms` is what it said of ours.
    pub(super) fn opened(&mut self, sender: &Sender, heard_ms: Option<u32>, now: Time) {
        if self.by_address.len() >= self.max && !self.by_address.contains_key(&sender.address) {
            let stalest = self.by_address.iter().min_by_key(|(_, peer)| peer.last);
            if let Some(stalest) = stalest.map(|(address, _)| *address) {
                self.by_address.remove(&stalest);
            }
        }
        let heard_us = heard_ms.map(|ms| Duration::from_millis(ms.into()));
        let new = Peer {
            name: sender.name.clone(),
            boot: sender.boot,
            first: now,
            last: now,
            heard_us,
            refused: None,
        };
        let peer = self.by_address.entry(sender.address).or_insert_with(|| new.clone());
        if peer.boot != sender.boot || peer.name != sender.name {
            *peer = new;
        }
        peer.last = now;
        peer.heard_us = heard_us;
    }

    /// For the header of what is sent there.
    pub(super) fn heard_ms(&self, address: SocketAddr, now: Time) -> Option<u32> {
        let ago = now.since(self.by_address.get(&address)?.last);
        Some(u32::try_from(ago.as_millis()).unwrap_or(u32::MAX))
    }

    pub(super) fn heard(&self, address: SocketAddr, now: Time) -> Option<Heard> {
        let peer = self.by_address.get(&address)?;
        Some(Heard {
            known_for: now.since(peer.first),
            ago: now.since(peer.last),
            heard_us: peer.heard_us,
        })
    }

    /// May a refusal be sent there now?
    pub(super) fn may_refuse(&mut self, address: SocketAddr, now: Time) -> bool {
        let Some(peer) = self.by_address.get_mut(&address) else { return false };
        if peer.refused.is_some_and(|at| now.since(at) < REFUSE_EVERY) {
            return false;
        }
        peer.refused = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Incarnation;

    fn sender(port: u16, boot: u64) -> Sender {
        Sender {
            name: NodeName::parse("a").unwrap(),
            incarnation: Incarnation(1),
            boot,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }

    #[test]
    fn a_new_run_at_an_address_starts_anew() {
        let mut peers = Peers::new(8);
        let at = Time::from_millis;
        peers.opened(&sender(1, 1), None, at(1_000));
        peers.opened(&sender(1, 1), Some(7), at(9_000));
        let heard = peers.heard(sender(1, 1).address, at(9_500)).unwrap();
        assert_eq!(heard.known_for, Duration::from_millis(8_500));
        assert_eq!((heard.ago.as_millis(), heard.heard_us.unwrap().as_millis()), (500, 7));
        peers.opened(&sender(1, 2), None, at(10_000));
        let heard = peers.heard(sender(1, 2).address, at(10_000)).unwrap();
        assert_eq!((heard.known_for, heard.heard_us), (Duration::ZERO, None));
        assert_eq!(peers.heard_ms(sender(1, 2).address, at(10_250)), Some(250));
        assert_eq!(peers.heard_ms(sender(9, 2).address, at(10_250)), None);
    }

    #[test]
    fn the_table_is_bounded_and_refusals_are_rare() {
        let mut peers = Peers::new(8);
        for port in 1..100 {
            peers.opened(&sender(port, 1), None, Time::from_millis(port.into()));
        }
        assert_eq!(peers.by_address.len(), 8);
        let last = sender(99, 1).address;
        assert!(!peers.may_refuse(sender(1, 1).address, Time::ZERO));
        let at = [1_000, 1_500, 2_000].map(|ms| peers.may_refuse(last, Time::from_millis(ms)));
        assert_eq!(at, [true, false, true]);
    }
}
