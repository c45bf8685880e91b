//! Relations between settings, and protected mode: nobody gets in by default.

use std::net::SocketAddr;

use super::Config;
use super::address::is_loopback;
use super::fault::Faults;
use super::load::Origins;
use super::secrets::RECIPE;
use super::value::{show_duration, show_size};

/// Everything that is wrong with this configuration as a whole.
pub(super) fn judge(config: &Config, origins: &Origins, faults: &mut Faults) {
    let mut check = |lawful: bool, section: &str, name: &str, what: String| {
        if !lawful {
            faults.add(origins.of(section, name), &format!("{section}.{name}"), what);
        }
    };
    relations(config, &mut check);
    ports(config, &mut check);
    advertised(config, &mut check);
    access(config, &mut check);
    protected(config, &mut check);
}

/// Called with whether it is lawful, whose fault it is, and what is wrong.
type Check<'a> = dyn FnMut(bool, &str, &str, String) + 'a;

fn relations(config: &Config, check: &mut Check<'_>) {
    let limits = &config.limits;
    let size = |bytes: usize| show_size(bytes as u64);
    let largest = limits.payload + limits.headers + limits.topic;
    check(
        largest + FRAME_OVERHEAD <= limits.frame,
        "limits",
        "frame",
        format!(
            "{} can't hold the largest message: payload {}, headers {} and topic {}; raise it to {} or lower those",
            size(limits.frame),
            size(limits.payload),
            size(limits.headers),
            size(limits.topic),
            size(largest + FRAME_OVERHEAD),
        ),
    );
    // What is larger than an empty queue is dropped, every time.
    for (name, bytes) in [("mailbox", limits.mailbox), ("link_window", limits.link_window)] {
        check(
            largest + FRAME_OVERHEAD <= bytes,
            "limits",
            name,
            format!(
                "{} can't hold the largest message: payload {}, headers {} and topic {}; raise it to {} or lower those",
                size(bytes),
                size(limits.payload),
                size(limits.headers),
                size(limits.topic),
                size(largest + FRAME_OVERHEAD),
            ),
        );
    }
    check(
        largest + FRAME_OVERHEAD <= config.redis.output_hard,
        "redis",
        "output_hard",
        format!(
            "{} can't hold the largest message; raise it to {}",
            size(config.redis.output_hard),
            size(largest + FRAME_OVERHEAD),
        ),
    );
    check(
        config.redis.output_soft <= config.redis.output_hard,
        "redis",
        "output_soft",
        format!(
            "{} must be at most redis.output_hard ({})",
            size(config.redis.output_soft),
            size(config.redis.output_hard)
        ),
    );
    check(
        limits.patterns <= limits.subscriptions,
        "limits",
        "patterns",
        format!(
            "{} must be at most limits.subscriptions ({}), which counts patterns too",
            limits.patterns, limits.subscriptions
        ),
    );
    check(
        limits.linger <= limits.linger_max,
        "presence",
        "linger",
        format!(
            "{} must be at most limits.linger_max ({})",
            show_duration(limits.linger),
            show_duration(limits.linger_max)
        ),
    );
    check(
        config.cluster.expect <= limits.members,
        "cluster",
        "expect",
        format!("{} must be at most limits.members ({})", config.cluster.expect, limits.members),
    );
    check(
        10 * config.cluster.gossip_interval <= config.cluster.forget_after,
        "cluster",
        "forget_after",
        format!(
            "{} must be at least ten times cluster.gossip_interval ({}), or living members are forgotten",
            show_duration(config.cluster.forget_after),
            show_duration(config.cluster.gossip_interval)
        ),
    );
}

/// Names of fields, ids and lengths around the parts of one message.
const FRAME_OVERHEAD: usize = 1024;

fn ports(config: &Config, check: &mut Check<'_>) {
    let listeners = listeners(config);
    for (i, (name, address)) in listeners.iter().enumerate() {
        for (other, taken) in &listeners[..i] {
            check(
                !clash(*address, *taken),
                "listen",
                name,
                format!(
                    "{address} is taken by listen.{other} ({taken}); give it a port of its own"
                ),
            );
        }
    }
}

fn listeners(config: &Config) -> Vec<(&'static str, SocketAddr)> {
    let listen = &config.listen;
    let mut listeners = vec![("grpc", listen.grpc), ("peer", listen.peer)];
    listeners.extend(listen.http.map(|http| ("http", http)));
    listeners.extend(listen.redis.map(|redis| ("redis", redis)));
    listeners
}

fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let everywhere = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (everywhere || a.ip() == b.ip())
}

fn advertised(config: &Config, check: &mut Check<'_>) {
    let listen = &config.listen;
    let told = &config.advertise;
    for (name, address, told, whom) in [
        ("grpc", listen.grpc, &told.grpc, "clients"),
        ("peer", listen.peer, &told.peer, "other nodes"),
    ] {
        check(
            told.is_some() || !address.ip().is_unspecified(),
            "listen",
            name,
            match address.port() {
                0 => format!(
                    "{address} names neither address nor port to tell {whom}; name one of the two, or set advertise.{name}"
                ),
                port => format!(
                    "{address} is every address, and none of them could be found to tell {whom}; set advertise.{name} to HOST:{port}"
                ),
            },
        );
    }
}

/// Makes what a client port needs to be encrypted, and what lets in those who may come.
const TLS_RECIPE: &str =
    "waxwing certs ca && waxwing certs node NAME, then --tls-cert NAME.pem --tls-key NAME.key";
const PEER_RECIPE: &str = "the same, then --tls-peer-ca ca.pem on every node";
const KEYS_RECIPE: &str = "waxwing key create --file access.toml for each client, then --access-file access.toml (or, with no rights told apart, waxwing certs client NAME for each, then --tls-client-ca ca.pem)";

fn access(config: &Config, check: &mut Check<'_>) {
    check(
        !config.security.asks_for_keys() || config.redis.password.is_none(),
        "redis",
        "password_file",
        "is of no use beside security.access_file and security.control_keys: Redis clients show a key as their password; leave it out".to_owned(),
    );
}

fn protected(config: &Config, check: &mut Check<'_>) {
    let security = &config.security;
    let has_access = security.asks_for_keys();
    let has_tls = config.tls.cert.is_some();
    for (name, address) in listeners(config).iter().filter(|(name, _)| *name != "peer") {
        // A password is what Redis clients have for a key where there are none; a certificate is one for all.
        let has_keys = has_access
            || config.tls.client_ca.is_some()
            || *name == "redis" && config.redis.password.is_some();
        let missing = match (
            security.allow_plaintext || has_tls,
            security.allow_anonymous || has_keys,
        ) {
            (true, true) => continue,
            (false, true) => {
                format!("no TLS: {TLS_RECIPE}; or keep it on 127.0.0.1, or say --allow-plaintext")
            }
            (true, false) => {
                format!("no keys: {KEYS_RECIPE}; or keep it on 127.0.0.1, or say --allow-anonymous")
            }
            (false, false) => format!(
                "neither keys nor TLS: {TLS_RECIPE}; {KEYS_RECIPE}; or keep it on 127.0.0.1, or say --insecure (--allow-anonymous --allow-plaintext)"
            ),
        };
        check(
            is_loopback(address.ip()),
            "listen",
            name,
            format!("{address} is open to other hosts with {missing}"),
        );
    }
    let peer = config.listen.peer;
    let is_local = is_loopback(peer.ip());
    check(
        is_local || !config.cluster.secrets.is_empty(),
        "listen",
        "peer",
        format!(
            "{peer} is open to other hosts without a cluster secret, which --insecure does not waive; \
             make one and name it: {RECIPE}, then --secret-file gossip.keys on every node"
        ),
    );
    check(
        is_local || security.allow_plaintext || config.tls.peer_ca.is_some(),
        "listen",
        "peer",
        format!(
            "{peer} is open to other hosts without TLS between nodes: {TLS_RECIPE}; {PEER_RECIPE}; or say --allow-plaintext"
        ),
    );
}
