//! The settings, one entry each: name, meaning, type, bounds. `keys` says what is made from them.

use std::path::PathBuf;
use std::time::Duration;

use toml::Value as Toml;

use super::keys::Key;
use super::limits::{HEADERS_CEILING, KEY_LEN_CEILING, METADATA_CEILING, PAYLOAD_CEILING};
use super::value::{Value, Wrong, quoted, show_duration, show_size};
use super::{LogFormat, OnGap, StaleKeys, address};
use crate::types::{ClusterName, NodeName};

pub(super) const BOOL: &str = "BOOL";
pub(super) const ADDRESSES: &str = "ADDR";

/// In the order of the default file.
pub static KEYS: &[Key] = &[
    Key::new(
        "node",
        "name",
        "NAME",
        "This node's name, unique in its cluster; empty: the host's name.",
        |c, v| {
            match v {
                // As the default file has it. Elsewhere it is an unset variable of some script.
                Value::Text(text) if text.is_empty() => Ok(()),
                _ => NodeName::parse(v.text()?)
                    .map(|name| c.node.name = name)
                    .map_err(|bad| name_wrong(&bad.got)),
            }
        },
        |c| text(c.node.name.as_str()),
    )
    .flag_named("name")
    .blank(),
    Key::new(
        "node",
        "data_dir",
        "DIR",
        "Where the node keeps the highest incarnation it used; empty: in memory only.",
        |c, v| path(v).map(|it| c.node.data_dir = it),
        |c| shown_path(c.node.data_dir.as_ref()),
    )
    .flag_named("data-dir"),
    Key::new(
        "cluster",
        "name",
        "NAME",
        "The cluster's name; must be the same on all its nodes.",
        |c, v| {
            c.cluster.name =
                ClusterName::parse(v.text()?).map_err(|bad| name_wrong(&bad.got))?;
            Ok(())
        },
        |c| text(c.cluster.name.as_str()),
    ),
    Key::new(
        "cluster",
        "seeds",
        ADDRESSES,
        "Peer ports of some nodes to join; every address of a name is tried, oneself skipped.",
        |c, v| {
            c.cluster.seeds =
                v.list()?.iter().map(|seed| address::dial(seed)).collect::<Result<_, _>>()?;
            Ok(())
        },
        |c| Toml::Array(c.cluster.seeds.iter().map(|seed| text(seed)).collect()),
    )
    .flag_named("join"),
    Key::new(
        "cluster",
        "expect",
        "N",
        "How many nodes there will be: it waits for so many before it is ready, 5 s at most; 0: not told.",
        |c, v| v.count(0..=MEMBERS_MAX).map(|n| c.cluster.expect = to_usize(n)),
        |c| number(c.cluster.expect),
    )
    .flag_named("expect"),
    Key::new(
        "cluster",
        "secret_file",
        "FILE",
        "Cluster secrets, one a line: the first seals, all open. Nobody but the owner may read it. Or WAXWING_CLUSTER_SECRET.",
        |c, v| path(v).map(|it| c.cluster.secret_file = it),
        |c| shown_path(c.cluster.secret_file.as_ref()),
    )
    .flag_named("secret-file"),
    Key::new(
        "cluster",
        "gossip_interval",
        "TIME",
        "How often a node gossips: shorter notices a dead node sooner, and costs more.",
        |c, v| v.duration(MS_20..=Duration::from_secs(5)).map(|it| c.cluster.gossip_interval = it),
        |c| duration(c.cluster.gossip_interval),
    ),
    Key::new(
        "cluster",
        "forget_after",
        "TIME",
        "A down member is forgotten after so long.",
        |c, v| v.duration(Duration::from_secs(1)..=7 * DAY).map(|it| c.cluster.forget_after = it),
        |c| duration(c.cluster.forget_after),
    ),
    Key::new(
        "listen",
        "grpc",
        "IP:PORT",
        "Clients and the command line.",
        |c, v| address::listen(v.text()?).map(|it| c.listen.grpc = it),
        |c| text(&c.listen.grpc.to_string()),
    ),
    Key::new(
        "listen",
        "peer",
        "IP:PORT",
        "The other nodes: TCP links and UDP gossip.",
        |c, v| address::listen(v.text()?).map(|it| c.listen.peer = it),
        |c| text(&c.listen.peer.to_string()),
    ),
    Key::new(
        "listen",
        "http",
        "IP:PORT",
        "Status, metrics, health and JSON publish; empty: off.",
        |c, v| {
            let text = v.text()?;
            c.listen.http = if text.is_empty() { None } else { Some(address::listen(text)?) };
            Ok(())
        },
        |c| text(&c.listen.http.map(|address| address.to_string()).unwrap_or_default()),
    ),
    Key::new(
        "listen",
        "redis",
        "IP:PORT",
        "Redis clients' pub/sub; empty: off.",
        |c, v| {
            let text = v.text()?;
            c.listen.redis = if text.is_empty() { None } else { Some(address::listen(text)?) };
            Ok(())
        },
        |c| text(&c.listen.redis.map(|address| address.to_string()).unwrap_or_default()),
    ),
    Key::new(
        "advertise",
        "grpc",
        "HOST:PORT",
        "What clients are told; empty: where it listens.",
        |c, v| advertised(v).map(|it| c.advertise.grpc = it),
        |c| text(c.advertise.grpc.as_deref().unwrap_or_default()),
    )
    .blank(),
    Key::new(
        "advertise",
        "peer",
        "HOST:PORT",
        "What other nodes are told; empty: where it listens.",
        |c, v| advertised(v).map(|it| c.advertise.peer = it),
        |c| text(c.advertise.peer.as_deref().unwrap_or_default()),
    )
    .blank(),
    Key::new(
        "advertise",
        "http",
        "HOST:PORT",
        "What status shows; empty: where it listens.",
        |c, v| advertised(v).map(|it| c.advertise.http = it),
        |c| text(c.advertise.http.as_deref().unwrap_or_default()),
    )
    .blank(),
    Key::new(
        "tls",
        "cert",
        "FILE",
        "This node's certificate chain in PEM: with it every client port speaks TLS. `waxwing certs node` makes one.",
        |c, v| path(v).map(|it| c.tls.cert = it),
        |c| shown_path(c.tls.cert.as_ref()),
    )
    .live(),
    Key::new(
        "tls",
        "key",
        "FILE",
        "Its private key in PEM. Nobody but the owner may read it.",
        |c, v| path(v).map(|it| c.tls.key = it),
        |c| shown_path(c.tls.key.as_ref()),
    )
    .live(),
    Key::new(
        "tls",
        "client_ca",
        "FILE",
        "Who signs for clients: they must show a certificate then. Empty: none is asked for.",
        |c, v| path(v).map(|it| c.tls.client_ca = it),
        |c| shown_path(c.tls.client_ca.as_ref()),
    )
    .live(),
    Key::new(
        "tls",
        "peer_ca",
        "FILE",
        "Who signs for nodes: links are TLS both ways then, and each node's certificate must name it. The same on all nodes.",
        |c, v| path(v).map(|it| c.tls.peer_ca = it),
        |c| shown_path(c.tls.peer_ca.as_ref()),
    )
    .live(),
    Key::new(
        "security",
        "allow_plaintext",
        BOOL,
        "Ports may leave loopback without TLS.",
        |c, v| v.boolean().map(|it| c.security.allow_plaintext = it),
        |c| Toml::Boolean(c.security.allow_plaintext),
    )
    .flag_named("allow-plaintext"),
    Key::new(
        "security",
        "allow_anonymous",
        BOOL,
        "Client ports may leave loopback without keys.",
        |c, v| v.boolean().map(|it| c.security.allow_anonymous = it),
        |c| Toml::Boolean(c.security.allow_anonymous),
    )
    .flag_named("allow-anonymous"),
    Key::new(
        "security",
        "access_file",
        "FILE",
        "Who is let in: the keys of clients, hashed (waxwing key create). Nobody but the owner may read it; empty: nobody is asked for a key.",
        |c, v| path(v).map(|it| c.security.access_file = it),
        |c| shown_path(c.security.access_file.as_ref()),
    )
    .flag_named("access-file"),
    Key::new(
        "security",
        "control_keys",
        BOOL,
        "Clients show a key that the cluster agrees on (waxwing key create), also where this node has no access file; keys of that file are let in too.",
        |c, v| v.boolean().map(|it| c.security.control_keys = it),
        |c| Toml::Boolean(c.security.control_keys),
    )
    .flag_named("control-keys"),
    Key::new(
        "security",
        "stale_keys",
        "allow|refuse",
        "Keys that the cluster agrees on, where this node has had no leader for 10 s, so that they may have been revoked: let in by its copy, or nobody new by them.",
        |c, v| {
            c.security.stale_keys = match v.text()? {
                "allow" => StaleKeys::Allow,
                "refuse" => StaleKeys::Refuse,
                other => {
                    return Err(format!(
                        "is {}; must be \"allow\" or \"refuse\"",
                        quoted(other)
                    ));
                }
            };
            Ok(())
        },
        |c| {
            Toml::String(
                match c.security.stale_keys {
                    StaleKeys::Allow => "allow",
                    StaleKeys::Refuse => "refuse",
                }
                .to_owned(),
            )
        },
    ),
    Key::new(
        "redis",
        "on_gap",
        "ignore|disconnect",
        "What to do where something for a Redis client may have been lost; its protocol can't tell it.",
        |c, v| {
            c.redis.on_gap = match v.text()? {
                "ignore" => OnGap::Ignore,
                "disconnect" => OnGap::Disconnect,
                other => {
                    return Err(format!(
                        "is {}; must be \"ignore\" or \"disconnect\"",
                        quoted(other)
                    ));
                }
            };
            Ok(())
        },
        |c| {
            text(match c.redis.on_gap {
                OnGap::Ignore => "ignore",
                OnGap::Disconnect => "disconnect",
            })
        },
    ),
    Key::new(
        "redis",
        "output_hard",
        "SIZE",
        "Bytes that may wait for a Redis client; over it, it is disconnected.",
        |c, v| v.size(64 * KIB..=16 * GIB).map(|n| c.redis.output_hard = to_usize(n)),
        |c| size(c.redis.output_hard),
    ),
    Key::new(
        "redis",
        "output_soft",
        "SIZE [TIME]",
        "Bytes that may wait for a Redis client for no longer than this; then it is disconnected.",
        |c, v| {
            let (bytes, age) = v.size_and_age(64 * KIB..=16 * GIB, Duration::ZERO..=DAY)?;
            c.redis.output_soft = to_usize(bytes);
            c.redis.output_soft_for = age.unwrap_or(c.redis.output_soft_for);
            Ok(())
        },
        |c| {
            let bytes = show_size(c.redis.output_soft as u64);
            text(&format!("{bytes} {}", show_duration(c.redis.output_soft_for)))
        },
    ),
    Key::new(
        "redis",
        "password_file",
        "FILE",
        "The password that Redis clients must give, in one line; empty: none. Nobody but the owner may read it. Or WAXWING_REDIS_PASSWORD.",
        |c, v| path(v).map(|it| c.redis.password_file = it),
        |c| shown_path(c.redis.password_file.as_ref()),
    ),
    Key::new(
        "presence",
        "linger",
        "TIME",
        "How long a session and its presences outlive its last connection, unless its hello says otherwise.",
        |c, v| v.duration(Duration::ZERO..=DAY).map(|it| c.limits.linger = it),
        |c| duration(c.limits.linger),
    )
    .live(),
    Key::new(
        "presence",
        "diff_interval",
        "TIME",
        "Changes of a topic are joined for so long before its watchers are told.",
        |c, v| {
            v.duration(Duration::from_millis(5)..=Duration::from_secs(10))
                .map(|it| c.presence.diff_interval = it)
        },
        |c| duration(c.presence.diff_interval),
    ),
    Key::limit(
        "sessions",
        "N",
        "Attachments at once on this node; beside them, sessions that linger.",
        "the next one is refused with `too_many_sessions`; of the lingering ones, the namespace that has most loses the one that would end first.",
        |c, v| v.count(1..=10_000_000).map(|n| c.limits.sessions = to_usize(n)),
        |c| number(c.limits.sessions),
    ),
    Key::limit(
        "subscriptions",
        "N",
        "Subscriptions of one session.",
        "the next one is refused with `too_many_subscriptions`.",
        |c, v| v.count(1..=10_000_000).map(|n| c.limits.subscriptions = to_usize(n)),
        |c| number(c.limits.subscriptions),
    ),
    Key::limit(
        "patterns",
        "N",
        "Patterns among them.",
        "the next one is refused with `too_many_patterns`.",
        |c, v| v.count(0..=10_000_000).map(|n| c.limits.patterns = to_usize(n)),
        |c| number(c.limits.patterns),
    ),
    Key::limit(
        "topics",
        "N",
        "Topics with subscribers on this node.",
        "the next one is refused with `too_many_topics`.",
        |c, v| v.count(1..=1_000_000_000).map(|n| c.limits.topics = to_usize(n)),
        |c| number(c.limits.topics),
    ),
    Key::limit(
        "topic",
        "SIZE",
        "Length of a topic or pattern.",
        "refused with `topic_too_long`.",
        |c, v| v.size(1..=crate::types::topic::TOPIC_LEN_CEILING as u64).map(|n| c.limits.topic = to_usize(n)),
        |c| size(c.limits.topic),
    ),
    Key::limit(
        "payload",
        "SIZE",
        "Payload of one message.",
        "refused with `payload_too_large`.",
        |c, v| v.size(1..=PAYLOAD_CEILING as u64).map(|n| c.limits.payload = to_usize(n)),
        |c| size(c.limits.payload),
    ),
    Key::limit(
        "headers",
        "SIZE",
        "Event name and headers of one message together.",
        "refused with `headers_too_large`.",
        |c, v| v.size(0..=HEADERS_CEILING as u64).map(|n| c.limits.headers = to_usize(n)),
        |c| size(c.limits.headers),
    ),
    Key::limit(
        "presences",
        "N",
        "Presences that one session tracks.",
        "the next one is refused with `too_many_presences`.",
        |c, v| v.count(0..=10_000_000).map(|n| c.limits.presences = to_usize(n)),
        |c| number(c.limits.presences),
    ),
    Key::limit(
        "namespace_presences",
        "N",
        "Presences of one namespace in the cluster, as this node sees it.",
        "tracking a new one is refused with `namespace_full`.",
        |c, v| v.count(0..=1_000_000_000).map(|n| c.limits.namespace_presences = to_usize(n)),
        |c| number(c.limits.namespace_presences),
    ),
    Key::limit(
        "watches",
        "N",
        "Topics whose presence one session watches.",
        "the next one is refused with `too_many_watches`.",
        |c, v| v.count(0..=1_000_000).map(|n| c.limits.watches = to_usize(n)),
        |c| number(c.limits.watches),
    ),
    Key::limit(
        "key",
        "SIZE",
        "Length of a presence's key, and of its id.",
        "refused with `key_too_long` or `id_too_long`.",
        |c, v| v.size(1..=KEY_LEN_CEILING as u64).map(|n| c.limits.key = to_usize(n)),
        |c| size(c.limits.key),
    ),
    Key::limit(
        "metadata",
        "SIZE",
        "Metadata of one presence.",
        "refused with `metadata_too_large`.",
        |c, v| v.size(0..=METADATA_CEILING as u64).map(|n| c.limits.metadata = to_usize(n)),
        |c| size(c.limits.metadata),
    ),
    Key::limit(
        "presence_transfer",
        "SIZE",
        "Whole presence states that peers have begun to send, one from each.",
        "refused, counted, and asked for again.",
        |c, v| v.size(MIB..=1_024 * GIB).map(|n| c.limits.presence_transfer = to_usize(n)),
        |c| size(c.limits.presence_transfer),
    ),
    Key::limit(
        "mailbox",
        "SIZE",
        "Bytes waiting for one attachment.",
        "the newest are dropped until it is half empty; one gap stands in their place.",
        |c, v| v.size(64 * KIB..=16 * GIB).map(|n| c.limits.mailbox = to_usize(n)),
        |c| size(c.limits.mailbox),
    ),
    Key::limit(
        "mailbox_stall",
        "TIME",
        "An attachment may take nothing for so long while messages wait.",
        "it is closed, with the reason.",
        |c, v| v.duration(Duration::from_secs(1)..=DAY).map(|it| c.limits.mailbox_stall = it),
        |c| duration(c.limits.mailbox_stall),
    ),
    Key::limit(
        "link_window",
        "SIZE [TIME]",
        "Bytes kept for one peer until it has them, and for how long.",
        "the newest are dropped and counted, later all; the gap travels in their place.",
        |c, v| {
            let ages = Duration::from_secs(1)..=DAY;
            let (bytes, age) = v.size_and_age(64 * KIB..=64 * GIB, ages)?;
            c.limits.link_window = to_usize(bytes);
            c.limits.link_window_age = age.unwrap_or(c.limits.link_window_age);
            Ok(())
        },
        |c| {
            let bytes = show_size(c.limits.link_window as u64);
            text(&format!("{bytes} {}", show_duration(c.limits.link_window_age)))
        },
    ),
    Key::limit(
        "http_connections",
        "N",
        "Connections of the HTTP port at once.",
        "the next one is told so and closed.",
        |c, v| v.count(1..=1_000_000).map(|n| c.limits.http_connections = to_usize(n)),
        |c| number(c.limits.http_connections),
    ),
    Key::limit(
        "frame",
        "SIZE",
        "One gRPC message from a client.",
        "the stream ends with RESOURCE_EXHAUSTED.",
        |c, v| v.size(4 * KIB..=64 * MIB).map(|n| c.limits.frame = to_usize(n)),
        |c| size(c.limits.frame),
    ),
    Key::limit(
        "streams",
        "N",
        "Streams of one client connection.",
        "HTTP/2 refuses the next one.",
        |c, v| {
            c.limits.streams = u32::try_from(v.count(1..=1_000_000)?).unwrap_or(u32::MAX);
            Ok(())
        },
        |c| Toml::Integer(c.limits.streams.into()),
    ),
    Key::limit(
        "handshake",
        "TIME",
        "From connecting to the first request.",
        "the connection is closed.",
        |c, v| v.duration(MS_100..=Duration::from_secs(600)).map(|it| c.limits.handshake = it),
        |c| duration(c.limits.handshake),
    ),
    Key::limit(
        "idle",
        "TIME",
        "A client connection may answer no keepalive for so long.",
        "it is closed.",
        |c, v| v.duration(Duration::from_secs(1)..=DAY).map(|it| c.limits.idle = it),
        |c| duration(c.limits.idle),
    ),
    Key::limit(
        "linger_max",
        "TIME",
        "The longest linger that a hello may ask for.",
        "longer ones are cut to it.",
        |c, v| v.duration(Duration::ZERO..=DAY).map(|it| c.limits.linger_max = it),
        |c| duration(c.limits.linger_max),
    ),
    Key::limit(
        "confirm",
        "TIME",
        "How long a subscribe waits for members to confirm, and a publish for its confirmation.",
        "it is answered with the confirmations there are.",
        |c, v| v.duration(Duration::from_millis(10)..=Duration::from_secs(60)).map(|it| c.limits.confirm = it),
        |c| duration(c.limits.confirm),
    ),
    Key::limit(
        "gossip_message",
        "SIZE",
        "Content of one gossip datagram, inflated.",
        "dropped and counted.",
        |c, v| v.size(4 * KIB..=MIB).map(|n| c.limits.gossip_message = to_usize(n)),
        |c| size(c.limits.gossip_message),
    ),
    Key::limit(
        "members",
        "N",
        "Members of the cluster, down ones included.",
        "a further one is not let in.",
        |c, v| v.count(1..=MEMBERS_MAX).map(|n| c.limits.members = to_usize(n)),
        |c| number(c.limits.members),
    ),
    Key::new(
        "log",
        "format",
        "text|json",
        "For people, or one JSON object a line; to stderr.",
        |c, v| {
            c.log.format = match v.text()? {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                other => return Err(format!("is {}; must be \"text\" or \"json\"", quoted(other))),
            };
            Ok(())
        },
        |c| {
            text(match c.log.format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            })
        },
    ),
    Key::new(
        "log",
        "level",
        "LEVEL",
        "error, warn, info, debug or trace; or a filter, as \"info,waxwing::link=debug\". RUST_LOG holds where nothing says it.",
        |c, v| {
            let level = v.text()?;
            super::level::parse_level(level)?;
            c.log.level = level.to_owned();
            Ok(())
        },
        |c| text(&c.log.level),
    )
    .live(),
];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MEMBERS_MAX: u64 = 1_000;
const MS_20: Duration = Duration::from_millis(20);
const MS_100: Duration = Duration::from_millis(100);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn name_wrong(got: &str) -> Wrong {
    format!("is {}; must be 1 to 64 characters of a-z A-Z 0-9 . _ -", quoted(got))
}

fn path(value: &Value) -> Result<Option<PathBuf>, Wrong> {
    let text = value.text()?;
    if text.contains('\0') {
        return Err(format!("is {}; a path can't hold a zero byte", quoted(text)));
    }
    Ok((!text.is_empty()).then(|| text.into()))
}

fn advertised(value: &Value) -> Result<Option<String>, Wrong> {
    let text = value.text()?;
    if text.is_empty() { Ok(None) } else { address::advertise(text).map(Some) }
}

fn text(value: &str) -> Toml {
    Toml::String(value.to_owned())
}

fn shown_path(value: Option<&PathBuf>) -> Toml {
    text(&value.map(|path| path.to_string_lossy()).unwrap_or_default())
}

fn number(value: usize) -> Toml {
    Toml::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

fn size(value: usize) -> Toml {
    text(&show_size(value as u64))
}

fn duration(value: Duration) -> Toml {
    text(&show_duration(value))
}

/// The ranges above keep it within 64 bits.
fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
