//! What the log says of a node by itself: at its start where it listens and for whom, and again and again that it is insecure.

use std::sync::Arc;
use std::time::Duration;

use super::Parts;
use crate::config::Config;

const INSECURE_INTERVAL: Duration = Duration::from_secs(3_600);

/// One line for each port.
pub(super) fn started(parts: &Parts) {
    let config = &parts.config;
    let told = &parts.addresses;
    let bound = parts.bound;
    tracing::info!(
        name = %config.node.name,
        cluster = %config.cluster.name,
        version = env!("CARGO_PKG_VERSION"),
        seeds = config.cluster.seeds.join(","),
        "starting"
    );
    tracing::info!(listen = %bound.grpc, advertise = told.grpc, "gRPC for clients and the command line");
    tracing::info!(listen = %bound.peer, advertise = told.peer, "links (TCP) and gossip (UDP) for other nodes");
    match bound.http {
        Some(listen) => {
            tracing::info!(%listen, advertise = told.http, "HTTP for status, metrics, health")
        }
        None => tracing::info!("HTTP is off"),
    }
    match bound.redis {
        Some(listen) => tracing::info!(%listen, "Redis clients' pub/sub"),
        None => tracing::info!("the Redis port is off"),
    }
    if config.security.access.as_ref().is_some_and(|access| access.is_empty()) {
        tracing::warn!(
            "nobody is let in by the access file, which has no key and no issuer; make one with: waxwing key create --file FILE"
        );
    }
    if config.node.data_dir.is_none() {
        tracing::info!(
            "no data directory: the incarnation and what control agrees on are kept in memory only"
        );
    }
}

/// What is open, if anything is.
pub(super) fn insecure(config: &Config) -> Option<&'static str> {
    match (config.security.allow_plaintext, config.security.allow_anonymous) {
        (true, true) => Some("clients may connect from anywhere, without TLS and without keys"),
        (true, false) => Some("clients may connect from anywhere without TLS"),
        (false, true) => Some("clients may connect from anywhere without keys"),
        (false, false) => None,
    }
}

/// Says it at once and every hour.
pub(super) async fn repeat_insecure(parts: Arc<Parts>, what: &'static str) {
    loop {
        tracing::warn!("insecure: {what}");
        tokio::select! {
            () = tokio::time::sleep(INSECURE_INTERVAL) => {}
            () = parts.supervisor.shutdown().cancelled() => return,
        }
    }
}
