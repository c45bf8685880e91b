//! Takes datagrams off the socket and gives each message to whom it is for.
//!
//! Invariant: nothing is sent because of a datagram that did not open, and what is sent goes to the sealed sender's advertised address.

use std::sync::Arc;
use std::time::Duration;

use super::envelope::{Answer, Control, Kind, Sender};
use super::seal::DATAGRAM_MAX;
use super::shared::Shared;
use super::wire::Opened;
use crate::supervise::Shutdown;
use crate::types::{Incarnation, Replica};

/// A broken socket is tried again after a while, not in a hot loop.
const AFTER_ERROR: Duration = Duration::from_millis(50);

pub(super) async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = receive(&shared) => {}
    }
}

async fn receive(shared: &Shared) {
    // Longer datagrams are cut, and refused for being too long.
    let mut buffer = [0; DATAGRAM_MAX + 1];
    loop {
        match shared.wire.receive(&mut buffer).await {
            Ok((len, source)) => {
                if let Some(opened) = shared.wire.open(&buffer[..len], source) {
                    take(shared, opened).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "gossip could not be received");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}

async fn take(shared: &Shared, opened: Opened) {
    let Opened { sender, kind, body } = opened;
    refuse(shared, &sender).await;
    let taken = match kind {
        Kind::Gossip => {
            let (size, members) = (shared.config.message_max, shared.config.members_max);
            shared.inbox.put(sender.address, &body, size, members)
        }
        Kind::Control => match Control::decode(&body) {
            Ok(control) => {
                obey(shared, &sender, control).await;
                Ok(())
            }
            Err(why) => Err(why),
        },
    };
    if let Err(why) = taken {
        shared.wire.reject(why, sender.address);
    }
}

/// Notes that the sender lives, and tells it where it isn't let in.
async fn refuse(shared: &Shared, sender: &Sender) {
    if sender.incarnation.0 == 0 {
        return;
    }
    let now = shared.clock.now();
    let replica = Replica { name: sender.name.clone(), incarnation: sender.incarnation };
    let refusal = {
        let mut core = shared.core.lock();
        core.view.opened(&replica, sender.address, now);
        let started = core.me.replica.incarnation.0 > 0 && !core.left;
        let refusal = core.view.refusal(&replica, sender.address, &core.me, now);
        refusal.filter(|_| started && shared.wire.peers().lock().may_refuse(sender.address, now))
    };
    if let Some(why) = refusal {
        let refusal = Control::Refusal { incarnation: sender.incarnation.0, why };
        shared.wire.send_control(sender.address, &refusal).await;
    }
}

async fn obey(shared: &Shared, sender: &Sender, control: Control) {
    match control {
        Control::Liveness => {}
        Control::Query { nonce } => {
            let answer = answer(shared, sender);
            let answer = Control::Answer { nonce, answer };
            shared.wire.send_control(sender.address, &answer).await;
        }
        Control::Answer { nonce, answer } => shared.answered(nonce, &sender.name, answer),
        Control::Refusal { incarnation, why } => shared.refused(incarnation, why),
        Control::Farewell { incarnation } => {
            let replica =
                Replica { name: sender.name.clone(), incarnation: Incarnation(incarnation) };
            if incarnation == sender.incarnation.0 {
                let now = shared.clock.now();
                shared.core.lock().view.farewell(&replica, sender.address, now);
                shared.wake.notify_one();
            }
        }
    }
}

fn answer(shared: &Shared, sender: &Sender) -> Answer {
    let now = shared.clock.now();
    let members: Vec<_> = {
        let members = shared.members.borrow();
        let live = members.iter().filter(|member| member.state.is_live());
        live.map(|member| member.name.as_str().to_owned()).collect()
    };
    let core = shared.core.lock();
    // A node that is only starting has no name yet.
    if core.me.replica.incarnation.0 == 0 {
        return Answer { members, ..Answer::default() };
    }
    let (highest, holder) = core.view.holder(&sender.name, &core.me, now);
    Answer { highest: highest.0, holder, members }
}
