//! Finds the addresses behind seeds, anew at every try: names move.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;

const RESOLVE_WITHIN: Duration = Duration::from_secs(2);

/// Where this node itself is found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    pub(super) bound: SocketAddr,
    pub(super) advertised: SocketAddr,
}

/// What became of one seed's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lookup {
    pub(super) seed: String,
    /// Those that the socket can send to, but one's own.
    pub(super) addresses: Vec<SocketAddr>,
    /// Why there is nobody to ask, when there should be: a seed that is this node itself is none to blame.
    pub(super) failed: Option<String>,
}

/// Every address of every seed that the socket can send to, but one's own; each once. A seed that doesn't resolve now may do so at the
/// next try.
pub(super) async fn resolve(seeds: &[String], own: Own) -> Vec<SocketAddr> {
    addresses(&look_up(seeds, own).await)
}

pub(super) async fn look_up(seeds: &[String], own: Own) -> Vec<Lookup> {
    join_all(seeds.iter().map(|seed| look_up_one(seed, own))).await
}

pub(super) fn addresses(lookups: &[Lookup]) -> Vec<SocketAddr> {
    let mut addresses: Vec<_> =
        lookups.iter().flat_map(|lookup| lookup.addresses.iter().copied()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

async fn look_up_one(seed: &str, own: Own) -> Lookup {
    let looked_up = tokio::time::timeout(RESOLVE_WITHIN, tokio::net::lookup_host(seed)).await;
    let (addresses, failed) = match looked_up {
        Ok(Ok(found)) => {
            let found: Vec<_> = found.collect();
            let others: Vec<_> = found.iter().copied().filter(|it| own.other(*it)).collect();
            let wrong = others.is_empty() && !found.iter().any(|it| own.is(*it));
            let why = "has no address of the peer listener's family";
            (others, wrong.then(|| why.to_owned()))
        }
        Ok(Err(error)) => (Vec::new(), Some(error.to_string())),
        Err(_) => (Vec::new(), Some(format!("not looked up within {RESOLVE_WITHIN:?}"))),
    };
    if let Some(why) = &failed {
        tracing::debug!(seed, why, "a seed does not resolve");
    }
    Lookup { seed: seed.to_owned(), addresses, failed }
}

/// The seeds of which nobody was heard, in words; `None`: there is none but this node itself, or one was heard.
pub(super) fn unanswered(lookups: &[Lookup], heard: impl Fn(SocketAddr) -> bool) -> Option<String> {
    const SHOWN: usize = 5;
    let asked: Vec<_> = lookups
        .iter()
        .filter(|lookup| lookup.failed.is_some() || !lookup.addresses.is_empty())
        .collect();
    if asked.is_empty() || asked.iter().any(|it| it.addresses.iter().any(|at| heard(*at))) {
        return None;
    }
    let mut names: Vec<_> = asked
        .iter()
        .take(SHOWN)
        .map(|Lookup { seed, failed, .. }| match failed {
            Some(why) => format!("{seed} ({why})"),
            None => seed.clone(),
        })
        .collect();
    if asked.len() > SHOWN {
        names.push(format!("{} more", asked.len() - SHOWN));
    }
    Some(names.join(", "))
}

impl Own {
    /// What is sent there comes back.
    pub(super) fn is(&self, address: SocketAddr) -> bool {
        let any_own = self.bound.ip().is_unspecified()
            && address.port() == self.bound.port()
            && (address.ip().is_loopback() || address.ip().is_unspecified());
        address == self.bound || address == self.advertised || any_own
    }

    fn other(&self, address: SocketAddr) -> bool {
        !self.is(address) && address.is_ipv4() == self.bound.is_ipv4()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_that_stay_silent_are_named() {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let seed = |seed: &str, addresses: &[SocketAddr], failed: Option<&str>| Lookup {
            seed: seed.to_owned(),
            addresses: addresses.to_vec(),
            failed: failed.map(str::to_owned),
        };
        let (own, b) = (seed("own:1", &[], None), seed("b:2", &[at(2)], None));
        let lost = seed("lost:3", &[], Some("no such name"));
        for (lookups, heard, expected) in [
            (vec![], None, None),
            (vec![own.clone()], None, None),
            (vec![own, b.clone()], None, Some("b:2")),
            (vec![b.clone(), lost.clone()], None, Some("b:2, lost:3 (no such name)")),
            (vec![b.clone(), lost], Some(at(2)), None),
            (vec![b; 7], None, Some("b:2, b:2, b:2, b:2, b:2, 2 more")),
        ] {
            let told = unanswered(&lookups, |address| Some(address) == heard);
            assert_eq!(told.as_deref(), expected);
        }
    }

    #[tokio::test]
    async fn each_address_once_and_oneself_never() {
        let seeds = |seeds: &[&str]| seeds.iter().map(|&seed| seed.to_owned()).collect::<Vec<_>>();
        let own = Own {
            advertised: "10.0.0.5:7401".parse().unwrap(),
            bound: "0.0.0.0:7401".parse().unwrap(),
        };
        for (given, expected) in [
            (seeds(&[]), vec![]),
            (seeds(&["127.0.0.1:7411", "127.0.0.1:7411"]), vec!["127.0.0.1:7411"]),
            (seeds(&["10.0.0.5:7401", "127.0.0.1:7401", "10.0.0.6:7401"]), vec!["10.0.0.6:7401"]),
            (seeds(&["no port", "127.0.0.1:99999", ""]), vec![]),
            (seeds(&["[::1]:7401"]), vec![]),
        ] {
            let expected: Vec<SocketAddr> =
                expected.into_iter().map(|address| address.parse().unwrap()).collect();
            assert_eq!(resolve(&given, own).await, expected, "{given:?}");
        }
    }
}
