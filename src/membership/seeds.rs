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

/// Every address of every seed that the socket can send to, but one's own; each once. A seed that doesn't resolve now may do so at the
/// next try.
pub(super) async fn resolve(seeds: &[String], own: Own) -> Vec<SocketAddr> {
    let found = join_all(seeds.iter().map(|seed| resolve_one(seed))).await;
    let mut addresses: Vec<_> = found.into_iter().flatten().filter(|it| own.other(*it)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

async fn resolve_one(seed: &str) -> Vec<SocketAddr> {
    match tokio::time::timeout(RESOLVE_WITHIN, tokio::net::lookup_host(seed)).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            tracing::debug!(seed, %error, "a seed does not resolve");
            Vec::new()
        }
        Err(_) => {
            tracing::debug!(seed, "a seed does not resolve in time");
            Vec::new()
        }
    }
}

impl Own {
    fn other(&self, address: SocketAddr) -> bool {
        let any_own = self.bound.ip().is_unspecified()
            && address.port() == self.bound.port()
            && (address.ip().is_loopback() || address.ip().is_unspecified());
        let own = address == self.bound || address == self.advertised || any_own;
        !own && address.is_ipv4() == self.bound.is_ipv4()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
