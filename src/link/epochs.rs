//! The acceptor's memory of epochs: who may begin a new one. ● Pure.

use std::collections::BTreeMap;

use super::frame::{Refusal, RefusalCode};
use crate::types::{Incarnation, LinkEpoch, NodeName};

/// The newest epoch of each peer's link to this node. A row stays while the peer is a member.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    newest: BTreeMap<NodeName, LinkEpoch>,
}

/// What the membership says at this moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// This node's own incarnation.
    pub own: Incarnation,
    /// The peer's, if it is a member.
    pub peer: Option<Incarnation>,
}

impl Epochs {
    /// Begins `epoch`, if it is newer than every other of that peer and between two incarnations that both are current. Returns
    /// whether these two incarnations had an epoch before.
    pub(super) fn claim(
        &mut self,
        peer: &NodeName,
        epoch: LinkEpoch,
        known: Known,
    ) -> Result<bool, Refusal> {
        let stale = |reason| Err(Refusal::new(RefusalCode::StaleIncarnation, reason));
        let LinkEpoch { sender, receiver, attempt } = epoch;
        match known.peer {
            None => {
                let reason = format!("{peer} is not known as a member here (yet)");
                return Err(Refusal::new(RefusalCode::NotAMember, reason));
            }
            Some(current) if sender < current => {
                return stale(format!(
                    "incarnation {sender} of {peer} has been followed by {current}"
                ));
            }
            Some(current) if sender > current => {
                let reason = format!("incarnation {sender} of {peer} is not known here (yet)");
                return Err(Refusal::new(RefusalCode::NotAMember, reason));
            }
            Some(_) => {}
        }
        if receiver != known.own {
            return stale(format!("incarnation {receiver} has been followed by {}", known.own));
        }
        let before = self.newest.get(peer);
        if let Some(last) = before
            && last.sender == sender
            && last.attempt >= attempt
        {
            return stale(format!("attempt {attempt} comes after attempt {}", last.attempt));
        }
        let had_epoch =
            before.is_some_and(|last| (last.sender, last.receiver) == (sender, receiver));
        self.newest.insert(peer.clone(), epoch);
        Ok(had_epoch)
    }

    /// Forgets peers that are no longer members.
    pub(super) fn retain(&mut self, member: impl Fn(&NodeName) -> bool) {
        self.newest.retain(|peer, _| member(peer));
    }
}
