//! From joining to ready: once connected to every member seen, or after some seconds of trying, so that a partition or a dead seed never
//! keeps a node from its clients.
//!
//! Until then the broker holds what clients publish, so that nothing is published past a subscriber that this node hasn't heard of yet.

use std::sync::Arc;
use std::time::Duration;

use super::Parts;
use super::drain::Departure;
use crate::membership::{MemberState, Members};

/// How long a node tries to be connected to everybody before it serves its clients nonetheless.
const TRYING_TIME_MAX: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// ● What is seen while joining.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// It was told of others.
    has_seeds: bool,
    /// How many nodes there will be; 0: not told.
    expect: usize,
    /// Live members, oneself among them.
    live: usize,
    /// Interest is applied both ways with all of them.
    connected: bool,
    tried: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ready,
    /// Ready all the same, and people should know.
    TriedEnough,
    NotYet,
}

impl Seen {
    const fn verdict(self) -> Verdict {
        let at_least = if self.has_seeds { 2 } else { 1 };
        if self.connected && self.live >= at_least && self.live >= self.expect {
            Verdict::Ready
        } else if self.tried.as_micros() >= TRYING_TIME_MAX.as_micros() {
            Verdict::TriedEnough
        } else {
            Verdict::NotYet
        }
    }
}

/// Makes the node ready, then waits for its end.
pub(super) async fn run(parts: Arc<Parts>, departure: Arc<Departure>) {
    let began = parts.clock.now();
    let mut view = parts.membership.watch();
    loop {
        // Cloned, not borrowed: the router looks at the members too, and a change that waits between two looks would stop both.
        let members = view.borrow_and_update().clone();
        let seen = Seen {
            has_seeds: !parts.config.cluster.seeds.is_empty(),
            expect: parts.config.cluster.expect,
            live: 1 + members.live_peers().count(),
            connected: parts.router.connected_to_all(),
            tried: parts.clock.now() - began,
        };
        match seen.verdict() {
            Verdict::Ready => {
                let took_ms = seen.tried.as_millis();
                become_ready(&parts, &departure);
                tracing::info!(members = seen.live, took_ms, "ready");
                break;
            }
            Verdict::TriedEnough => {
                become_ready(&parts, &departure);
                let missing = missing(&parts, &parts.membership.members());
                if seen.has_seeds && seen.live == 1 {
                    tracing::warn!(
                        expected = seen.expect,
                        "ready alone: no other member was found within {TRYING_TIME_MAX:?}; it goes on trying"
                    );
                    break;
                }
                tracing::warn!(
                    members = seen.live,
                    expected = seen.expect,
                    not_linked = missing,
                    "ready, though not connected to every member after {TRYING_TIME_MAX:?}; it goes on trying"
                );
                break;
            }
            Verdict::NotYet => {}
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = parts.supervisor.shutdown().cancelled() => return,
        }
        if departure.has_begun() {
            break;
        }
    }
    parts.supervisor.shutdown().cancelled().await;
}

fn become_ready(parts: &Parts, departure: &Departure) {
    departure.unless_begun(|| {
        // The broker first: whoever sees the row may publish at once.
        parts.broker.set_ready();
        parts.membership.set_state(MemberState::Ready);
    });
}

fn missing(parts: &Parts, members: &Members) -> String {
    let names: Vec<&str> = members
        .live_peers()
        .filter(|member| !parts.links.connected(&member.name, member.incarnation))
        .map(|member| member.name.as_str())
        .collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Seen, Verdict};

    fn check(has_seeds: bool, expect: usize, live: usize, connected: bool, ms: u64) -> Verdict {
        let tried = Duration::from_millis(ms);
        Seen { has_seeds, expect, live, connected, tried }.verdict()
    }

    #[test]
    fn a_node_that_knows_of_nobody_is_ready_at_once() {
        assert_eq!(check(false, 0, 1, true, 0), Verdict::Ready);
        assert_eq!(check(false, 1, 1, true, 0), Verdict::Ready);
    }

    #[test]
    fn with_seeds_it_waits_for_another_and_for_the_connection() {
        assert_eq!(check(true, 0, 1, true, 0), Verdict::NotYet);
        assert_eq!(check(true, 0, 2, false, 0), Verdict::NotYet);
        assert_eq!(check(true, 0, 2, true, 0), Verdict::Ready);
    }

    #[test]
    fn it_waits_for_as_many_as_are_expected() {
        assert_eq!(check(true, 3, 2, true, 4_999), Verdict::NotYet);
        assert_eq!(check(false, 3, 1, true, 4_999), Verdict::NotYet);
        assert_eq!(check(true, 3, 3, true, 10), Verdict::Ready);
    }

    #[test]
    fn nothing_keeps_it_from_its_clients_for_longer_than_five_seconds() {
        assert_eq!(check(true, 0, 1, true, 5_000), Verdict::TriedEnough);
        assert_eq!(check(true, 5, 2, false, 5_000), Verdict::TriedEnough);
        assert_eq!(check(true, 0, 2, true, 9_000), Verdict::Ready);
    }
}
