//! What is wrong with the membership as this node sees it, for status. Pure.

use std::net::SocketAddr;

use super::envelope::Refusal;
use super::view::Conflict;
use super::wire::Skew;
use crate::types::{NodeName, Time};

/// Seeds are given, and nobody was found.
pub const SEEDS_UNREACHABLE: &str = "seeds_unreachable";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub code: &'static str,
    pub message: String,
    pub hint: String,
    pub since: Time,
}

#[derive(Debug)]
pub(super) struct Findings<'a> {
    pub(super) conflicts: &'a [Conflict],
    pub(super) left_out: &'a [NodeName],
    pub(super) members_max: usize,
    pub(super) isolated: Option<&'a str>,
    pub(super) skewed: &'a [Skew],
    /// Where datagrams come from lately that no key of this node opens.
    pub(super) unknown_key: Option<SocketAddr>,
    /// The seeds that stay silent while nobody else is known.
    pub(super) unanswered: Option<&'a str>,
    pub(super) not_stored: Option<&'a str>,
}

/// A problem that was there before keeps its `since`.
pub(super) fn list(found: &Findings<'_>, before: &[Problem], now: Time) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut tell = |code: &'static str, message: String, hint: &str| {
        let known = before.iter().find(|old| old.code == code && old.message == message);
        let since = known.map_or(now, |old| old.since);
        problems.push(Problem { code, message, hint: hint.to_owned(), since });
    };
    for Conflict { name, holder, claimant } in found.conflicts {
        tell(
            "name_in_use",
            format!("name `{name}` is in use by {holder}, and a node at {claimant} has it too"),
            "give each node a name of its own",
        );
    }
    for name in found.left_out {
        let max = found.members_max;
        tell(
            "too_many_members",
            format!("`{name}` is not let in: there are {max} members already"),
            "raise limits.members on every node",
        );
    }
    if let Some(why) = found.isolated {
        let hint = "check that this node's peer port is reachable from the others, TCP and UDP";
        tell("isolated", why.to_owned(), hint);
    }
    for Skew { name, ahead_ms, .. } in found.skewed {
        // Whole tens of seconds: a text that changes all the time would be a new problem all the time.
        let tens = ahead_ms.unsigned_abs() / 10_000 * 10;
        let side = if *ahead_ms > 0 { "ahead of" } else { "behind" };
        tell(
            "clock_skew",
            format!(
                "the clock of `{name}` is over {tens} s {side} this node's; its gossip is dropped"
            ),
            "synchronise the clocks of all nodes (NTP)",
        );
    }
    if let Some(source) = found.unknown_key {
        tell(
            "unknown_key",
            format!(
                "gossip from {source} is dropped: it is sealed with another secret or cluster name"
            ),
            "if that is a node of this cluster, give it the same cluster.secret and cluster.name",
        );
    }
    if let Some(seeds) = found.unanswered {
        tell(
            SEEDS_UNREACHABLE,
            format!("this node is alone: no answer from its seeds {seeds}"),
            "check that their peer addresses are right, run and can be reached by UDP; a node with another \
             cluster.secret or cluster.name stays silent",
        );
    }
    if let Some(why) = found.not_stored {
        tell(
            "incarnation_not_stored",
            format!("this node's incarnation could not be kept on disk: {why}"),
            "check the data directory",
        );
    }
    problems
}

/// Why this node is not let in.
pub(super) fn refused(name: &NodeName, refusal: Refusal) -> String {
    match refusal {
        Refusal::NameInUse(holder) => {
            format!("not let in: name `{name}` is in use by {}", holder.address)
        }
        Refusal::Floor(floor) => {
            format!("not let in: incarnations of `{name}` up to {floor} are gone")
        }
        Refusal::Full { max } => format!("not let in: there are {max} members already"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Findings<'static> {
        Findings {
            conflicts: &[],
            left_out: &[],
            members_max: 3,
            isolated: None,
            skewed: &[],
            unknown_key: None,
            unanswered: None,
            not_stored: None,
        }
    }

    #[test]
    fn a_problem_keeps_its_age_and_goes_when_it_is_over() {
        let isolated = Findings { isolated: Some("why"), ..nothing() };
        let first = list(&isolated, &[], Time::from_millis(5));
        let second = list(&isolated, &first, Time::from_millis(9));
        assert_eq!(first, second);
        let other = Findings { isolated: Some("else"), ..nothing() };
        assert_eq!(list(&other, &first, Time::from_millis(9))[0].since, Time::from_millis(9));
        assert!(list(&nothing(), &first, Time::from_millis(9)).is_empty());
    }
}
