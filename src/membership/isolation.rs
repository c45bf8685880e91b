//! Is this node cut off, though it may not look so from here? Pure.
//!
//! Mere silence of the others never counts: both sides of a partition go on. What counts is to hear that one isn't heard, or that every
//! link fails to members whose gossip arrives.

use std::time::Duration;

/// A peer whose datagrams have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    /// Since its first datagram, of this run of it.
    pub(super) known_for: Duration,
    /// Since its last.
    pub(super) ago: Duration,
    /// How long ago it had opened one of ours, when it wrote its last; none: never.
    pub(super) heard_us: Option<Duration>,
}

/// `links`: of each live peer, for how long every try to link to it has failed; none where a link is up, or nothing is known.
pub(super) fn judge(
    peers: &[Heard],
    links: &[Option<Duration>],
    detection: Duration,
) -> Option<String> {
    let fresh: Vec<_> = peers.iter().filter(|peer| peer.ago < detection).collect();
    let deaf = fresh
        .iter()
        .filter(|peer| match peer.heard_us {
            Some(ago) => ago >= detection,
            // It knows our address, since it wrote to it; so it has had time to hear us.
            None => peer.known_for >= detection,
        })
        .count();
    if deaf * 2 > fresh.len() {
        return Some(format!("{deaf} of the {} members heard don't hear this node", fresh.len()));
    }
    let failing = |link: &Option<Duration>| link.is_some_and(|failing| failing >= detection);
    if !links.is_empty() && links.iter().all(failing) {
        return Some(format!(
            "links to all {} live members fail, though their gossip arrives",
            links.len()
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const DETECTION: Duration = Duration::from_secs(3);

    fn heard(known_for: u64, ago: u64, heard_us: Option<u64>) -> Heard {
        Heard {
            known_for: Duration::from_millis(known_for),
            ago: Duration::from_millis(ago),
            heard_us: heard_us.map(Duration::from_millis),
        }
    }

    #[test]
    fn who_is_isolated() {
        let hears_us = heard(60_000, 100, Some(200));
        let deaf = heard(60_000, 100, Some(3_000));
        let never = heard(60_000, 100, None);
        let new = heard(500, 100, None);
        let silent = heard(60_000, 3_000, Some(3_000));
        for (what, peers, expected) in [
            ("alone", vec![], false),
            ("well", vec![hears_us; 4], false),
            ("its only peer is deaf", vec![deaf], true),
            ("never heard", vec![never], true),
            ("just met", vec![new], false),
            ("everybody silent", vec![silent; 4], false),
            ("one of four deaf", vec![hears_us, hears_us, hears_us, deaf], false),
            ("half deaf", vec![hears_us, hears_us, deaf, deaf], false),
            ("most deaf", vec![hears_us, never, deaf, deaf], true),
            ("deaf or silent", vec![silent, silent, silent, deaf], true),
        ] {
            assert_eq!(judge(&peers, &[], DETECTION).is_some(), expected, "{what}");
        }
    }

    #[test]
    fn when_links_fail() {
        let secs = |secs| Some(Duration::from_secs(secs));
        for (what, links, expected) in [
            ("no peers", vec![], false),
            ("all up", vec![None, None], false),
            ("all fail", vec![secs(3), secs(9)], true),
            ("one is up", vec![secs(3), None], false),
            ("not for long", vec![secs(3), secs(1)], false),
        ] {
            assert_eq!(judge(&[], &links, DETECTION).is_some(), expected, "{what}");
        }
    }
}
