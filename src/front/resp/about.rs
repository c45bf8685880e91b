//! ● What clients ask of a server before they use it: `HELLO`, `INFO`, `COMMAND`, `CONFIG`, `CLUSTER`, `TIME`.
//!
//! Towards cluster clients the node asked owns every slot: each node takes every channel, so nobody is ever sent elsewhere.

use std::fmt::Write as _;

use super::command::{self, COMMANDS, Meaning, Spec};
use super::frame::Command;
use super::print::Printer;
use super::session::help;

/// The Redis whose pub/sub this is; clients look here for what they may use.
pub(super) const REDIS_VERSION: &str = "7.2.0";

const SLOTS: u16 = 16_384;

/// Of the node, at the moment of asking.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeAbout {
    pub(super) name: String,
    /// 40 hexadecimal digits.
    pub(super) id: String,
    pub(super) port: u16,
    pub(super) uptime_s: u64,
    pub(super) is_ready: bool,
}

/// What is going on, as far as it is the asker's business: on the node, or in its namespace there.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) clients: u64,
    pub(super) clients_max: u64,
    pub(super) channels: u64,
    pub(super) of_node: Option<OfNode>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct OfNode {
    pub(super) patterns: u64,
    pub(super) published: u64,
    pub(super) delivered: u64,
}

pub(super) fn hello(printer: &mut Printer<'_>, id: u64) {
    let proto = match printer.resp {
        crate::pubsub::Resp::Two => 2,
        crate::pubsub::Resp::Three => 3,
    };
    printer.map(7);
    printer.bulk(b"server");
    printer.bulk(b"redis");
    printer.bulk(b"version");
    printer.bulk(REDIS_VERSION.as_bytes());
    printer.bulk(b"proto");
    printer.integer(proto);
    printer.bulk(b"id");
    printer.integer(id);
    printer.bulk(b"mode");
    printer.bulk(b"standalone");
    printer.bulk(b"role");
    printer.bulk(b"master");
    printer.bulk(b"modules");
    printer.array(0);
}

pub(super) fn time(printer: &mut Printer<'_>, unix_us: u64) {
    printer.array(2);
    printer.bulk((unix_us / 1_000_000).to_string().as_bytes());
    printer.bulk((unix_us % 1_000_000).to_string().as_bytes());
}

pub(super) fn info(
    printer: &mut Printer<'_>,
    command: Command<'_>,
    node: &NodeAbout,
    figures: &Figures,
) {
    let mut stats = format!("pubsub_channels:{}\r\n", figures.channels);
    if let Some(OfNode { patterns, published, delivered }) = &figures.of_node {
        let _ = write!(
            stats,
            "pubsub_patterns:{patterns}\r\nwaxwing_messages_published:{published}\r\nwaxwing_messages_delivered:{delivered}\r\n"
        );
    }
    let sections: [(&str, &str, String); 6] = [
        (
            "server",
            "Server",
            format!(
                "redis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nwaxwing_version:{}\r\nwaxwing_node:{}\r\n\
                 os:{}\r\narch_bits:{}\r\nprocess_id:{}\r\nrun_id:{}\r\ntcp_port:{}\r\nuptime_in_seconds:{}\r\n\
                 uptime_in_days:{}\r\n",
                env!("CARGO_PKG_VERSION"),
                node.name,
                std::env::consts::OS,
                usize::BITS,
                std::process::id(),
                node.id,
                node.port,
                node.uptime_s,
                node.uptime_s / 86_400,
            ),
        ),
        (
            "clients",
            "Clients",
            format!(
                "connected_clients:{}\r\nmaxclients:{}\r\n",
                figures.clients, figures.clients_max
            ),
        ),
        (
            "persistence",
            "Persistence",
            // Clients wait for 0 before they send anything; a node that is not ready yet is what they mean by loading.
            format!("loading:{}\r\n", u8::from(!node.is_ready)),
        ),
        ("stats", "Stats", stats),
        (
            "replication",
            "Replication",
            format!("role:master\r\nconnected_slaves:0\r\nmaster_replid:{}\r\n", node.id),
        ),
        ("cluster", "Cluster", "cluster_enabled:0\r\n".to_owned()),
    ];
    let is_wanted = |name: &str| {
        command.len() == 1
            || command.from(1).any(|wanted| {
                [name, "all", "default", "everything"]
                    .iter()
                    .any(|one| wanted.eq_ignore_ascii_case(one.as_bytes()))
            })
    };
    let mut out = String::new();
    for (name, title, lines) in sections {
        if is_wanted(name) {
            let parted = if out.is_empty() { "" } else { "\r\n" };
            let _ = write!(out, "{parted}# {title}\r\n{lines}");
        }
    }
    printer.text(&out);
}

pub(super) fn command(printer: &mut Printer<'_>, word: &str, command: Command<'_>) {
    match word {
        "" => {
            printer.array(COMMANDS.len());
            COMMANDS.iter().for_each(|spec| command_info(printer, spec));
        }
        "count" => printer.integer(COMMANDS.len() as u64),
        "info" if command.len() == 2 => self::command(printer, "", command),
        "info" => {
            printer.array(command.len() - 2);
            for name in command.from(2) {
                match command::meaning(name) {
                    Meaning::Known(spec) => command_info(printer, spec),
                    Meaning::Elsewhere { .. } | Meaning::Unknown => printer.null(),
                }
            }
        }
        "list" if command.len() == 2 => {
            printer.array(COMMANDS.len());
            COMMANDS.iter().for_each(|spec| printer.bulk(spec.name.as_bytes()));
        }
        "list" => printer.error("ERR syntax error"),
        "docs" => {
            let asked: Vec<&Spec> = if command.len() == 2 {
                COMMANDS.iter().collect()
            } else {
                let known = command.from(2).filter_map(|name| match command::meaning(name) {
                    Meaning::Known(spec) => Some(spec),
                    Meaning::Elsewhere { .. } | Meaning::Unknown => None,
                });
                known.collect()
            };
            printer.map(asked.len());
            for spec in asked {
                printer.bulk(spec.name.as_bytes());
                printer.map(3);
                for (key, value) in
                    [("summary", spec.summary), ("since", spec.since), ("group", spec.group)]
                {
                    printer.bulk(key.as_bytes());
                    printer.bulk(value.as_bytes());
                }
            }
        }
        _ => help(
            printer,
            &[
                "COMMAND [<subcommand> [<arg> [value] [opt] ...]]. Subcommands are:",
                "COUNT",
                "DOCS [<command-name> ...]",
                "INFO [<command-name> ...]",
                "LIST",
                "HELP",
            ],
        ),
    }
}

fn command_info(printer: &mut Printer<'_>, spec: &Spec) {
    printer.array(10);
    printer.bulk(spec.name.as_bytes());
    arity(printer, spec.arity);
    flags(printer, spec);
    // No argument is a key.
    (0..3).for_each(|_| printer.integer(0));
    printer.set(1);
    printer.bulk(format!("@{}", spec.group).as_bytes());
    printer.array(0);
    printer.array(0);
    printer.array(spec.subcommands.len());
    for subcommand in spec.subcommands {
        printer.array(10);
        printer.bulk(format!("{}|{}", spec.name, subcommand.name).as_bytes());
        arity(printer, subcommand.arity);
        flags(printer, spec);
        (0..3).for_each(|_| printer.integer(0));
        printer.set(1);
        printer.bulk(format!("@{}", spec.group).as_bytes());
        (0..3).for_each(|_| printer.array(0));
    }
}

fn flags(printer: &mut Printer<'_>, spec: &Spec) {
    printer.set(spec.flags.len());
    for flag in spec.flags {
        printer.simple(flag);
    }
}

fn arity(printer: &mut Printer<'_>, arity: i8) {
    if arity < 0 {
        printer.out.push(b':');
        printer.out.extend_from_slice(arity.to_string().as_bytes());
        printer.out.extend_from_slice(b"\r\n");
    } else {
        printer.integer(arity.unsigned_abs().into());
    }
}

/// What clients look for, as it truly is here.
const SETTINGS: &[(&str, &str)] = &[
    ("appendonly", "no"),
    ("databases", "16"),
    ("replica-read-only", "yes"),
    ("save", ""),
    ("slave-read-only", "yes"),
    ("timeout", "0"),
];

pub(super) fn config(printer: &mut Printer<'_>, word: &str, command: Command<'_>) {
    if word != "get" {
        let lines = &["CONFIG <subcommand> [<arg> ...]. Subcommands are:", "GET <pattern>", "HELP"];
        return help(printer, lines);
    }
    let found: Vec<_> = SETTINGS
        .iter()
        .filter(|(name, _)| {
            command.from(2).any(|glob| {
                crate::pubsub::pattern::matches(&glob.to_ascii_lowercase(), name.as_bytes())
            })
        })
        .collect();
    printer.map(found.len());
    for (name, value) in found {
        printer.bulk(name.as_bytes());
        printer.bulk(value.as_bytes());
    }
}

pub(super) fn cluster(
    printer: &mut Printer<'_>,
    word: &str,
    command: Command<'_>,
    node: &NodeAbout,
    (host, port): (String, u16),
) {
    let last = u64::from(SLOTS - 1);
    match word {
        "info" => printer.text(&format!(
            "cluster_enabled:1\r\ncluster_state:ok\r\ncluster_slots_assigned:{SLOTS}\r\ncluster_slots_ok:{SLOTS}\r\n\
             cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:1\r\ncluster_size:1\r\n\
             cluster_current_epoch:1\r\ncluster_my_epoch:1\r\n"
        )),
        "myid" => printer.bulk(node.id.as_bytes()),
        "keyslot" => printer.integer(key_slot(command.get(2)).into()),
        "nodes" => printer.text(&format!(
            "{} {host}:{port}@{port} myself,master - 0 0 1 connected 0-{last}\n",
            node.id
        )),
        "slots" => {
            printer.array(1);
            printer.array(3);
            printer.integer(0);
            printer.integer(last);
            printer.array(4);
            printer.bulk(host.as_bytes());
            printer.integer(port.into());
            printer.bulk(node.id.as_bytes());
            printer.array(0);
        }
        "shards" => {
            printer.array(1);
            printer.map(2);
            printer.bulk(b"slots");
            printer.array(2);
            printer.integer(0);
            printer.integer(last);
            printer.bulk(b"nodes");
            printer.array(1);
            printer.map(7);
            printer.bulk(b"id");
            printer.bulk(node.id.as_bytes());
            printer.bulk(b"port");
            printer.integer(port.into());
            printer.bulk(b"ip");
            printer.bulk(host.as_bytes());
            printer.bulk(b"endpoint");
            printer.bulk(host.as_bytes());
            printer.bulk(b"role");
            printer.bulk(b"master");
            printer.bulk(b"replication-offset");
            printer.integer(0);
            printer.bulk(b"health");
            printer.bulk(b"online");
        }
        _ => help(
            printer,
            &[
                "CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
                "INFO",
                "KEYSLOT <key>",
                "MYID",
                "NODES",
                "SHARDS",
                "SLOTS",
                "HELP",
            ],
        ),
    }
}

/// CRC16 (XMODEM) of the key, or of what stands between its first braces, by Redis's rule.
fn key_slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    let mut crc: u16 = 0;
    for byte in tag.unwrap_or(key) {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
        }
    }
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::key_slot;

    #[test]
    fn slots_are_those_of_redis() {
        for (key, slot) in [
            ("foo", 12_182),
            ("123456789", 12_739),
            ("{user1000}.following", 3_443),
            ("user1000", 3_443),
            ("foo{}{bar}", 8_363),
            ("", 0),
        ] {
            assert_eq!(key_slot(key.as_bytes()), slot, "{key}");
        }
    }
}
