//! Every metric's name and meaning, in one table, and the recorder that keeps them. Shells count; cores never do.
//!
//! Units are seconds and bytes, counters end in `_total`, and labels are only front, peer, reason, kind, limit, task, direction,
//! state, version: nothing that a client can make up.
//!
//! The recorder is the process's: where several nodes share one (tests do), the first installs it and all use it. Then counters are
//! of all of them, gauges are of the node that is asked, and the page says so.

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use parking_lot::Mutex;

#[cfg(test)]
mod tests;

pub mod names {
    pub const BUILD_INFO: &str = "waxwing_build_info";
    pub const MEMBERS: &str = "waxwing_members";
    pub const SESSIONS: &str = "waxwing_sessions";
    pub const SESSIONS_CLOSED: &str = "waxwing_sessions_closed_total";
    pub const TOPICS: &str = "waxwing_topics";
    pub const SUBSCRIPTIONS: &str = "waxwing_subscriptions";
    pub const MESSAGES_PUBLISHED: &str = "waxwing_messages_published_total";
    pub const MESSAGES_DELIVERED: &str = "waxwing_messages_delivered_total";
    pub const MESSAGES_FORWARDED: &str = "waxwing_messages_forwarded_total";
    pub const MESSAGES_DROPPED: &str = "waxwing_messages_dropped_total";
    pub const GAPS: &str = "waxwing_gaps_total";
    pub const MAILBOX_BYTES: &str = "waxwing_mailbox_bytes";
    pub const SLOW_SESSIONS: &str = "waxwing_slow_sessions";
    pub const SUBSCRIBE_CONFIRM: &str = "waxwing_subscribe_confirm_seconds";
    pub const SUBSCRIBE_UNCONFIRMED: &str = "waxwing_subscribe_unconfirmed_total";
    pub const PROBE: &str = "waxwing_probe_seconds";
    pub const LINK_UP: &str = "waxwing_link_up";
    pub const LINK_RTT: &str = "waxwing_link_rtt_seconds";
    pub const LINK_UNACKED_BYTES: &str = "waxwing_link_unacked_bytes";
    pub const LINK_RETRANSMITTED: &str = "waxwing_link_retransmitted_total";
    pub const LINK_RESUMES: &str = "waxwing_link_resumes_total";
    pub const LINK_WINDOW_EVICTIONS: &str = "waxwing_link_window_evictions_total";
    pub const LINK_RECONNECTS: &str = "waxwing_link_reconnects_total";
    pub const LINK_JUMPS: &str = "waxwing_link_jumps_total";
    pub const LINK_STALE: &str = "waxwing_link_stale_total";
    pub const LINK_SUPERSEDED: &str = "waxwing_link_superseded_total";
    pub const LINK_REFUSED: &str = "waxwing_link_refused_total";
    pub const LINK_BYTES: &str = "waxwing_link_bytes_total";
    pub const INTEREST_SNAPSHOTS: &str = "waxwing_interest_snapshots_total";
    pub const PRESENCES: &str = "waxwing_presences";
    pub const PRESENCES_ORPHANED: &str = "waxwing_presences_orphaned";
    pub const PRESENCE_CHANGES: &str = "waxwing_presence_changes_total";
    pub const PRESENCE_PROPAGATION: &str = "waxwing_presence_propagation_seconds";
    pub const PRESENCE_REPAIRS: &str = "waxwing_presence_repairs_total";
    pub const PRESENCE_REFUSED: &str = "waxwing_presence_refused_total";
    pub const CONTROL_QUORUM: &str = "waxwing_control_quorum";
    pub const CONTROL_APPLIED: &str = "waxwing_control_applied_index";
    pub const GOSSIP_REJECTED: &str = "waxwing_gossip_rejected_total";
    pub const LIMIT_REJECTIONS: &str = "waxwing_limit_rejections_total";
    pub const AUTH_FAILURES: &str = "waxwing_auth_failures_total";
    pub const TASK_RESTARTS: &str = "waxwing_task_restarts_total";
    pub const INSECURE: &str = "waxwing_insecure";
    pub const CERTIFICATE_EXPIRY: &str = "waxwing_certificate_expiry_timestamp_seconds";
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

const fn row(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind, labels, help }
}

pub const TABLE: &[Metric] = {
    use Kind::{Counter, Gauge, Histogram};
    use names as n;
    &[
        row(n::BUILD_INFO, Gauge, &["version"], "Always 1; the label says which build this is."),
        row(n::MEMBERS, Gauge, &["state"], "Members by state, this node among them."),
        row(n::SESSIONS, Gauge, &["front"], "Sessions with an attachment."),
        row(n::SESSIONS_CLOSED, Counter, &["front", "reason"], "Attachments that ended."),
        row(n::TOPICS, Gauge, &[], "Topics with subscribers on this node."),
        row(
            n::SUBSCRIPTIONS,
            Gauge,
            &["kind"],
            "Subscriptions on this node, to a topic or a pattern.",
        ),
        row(n::MESSAGES_PUBLISHED, Counter, &["front"], "Messages taken from publishers here."),
        row(n::MESSAGES_DELIVERED, Counter, &["front"], "Messages put into mailboxes here."),
        row(
            n::MESSAGES_FORWARDED,
            Counter,
            &["peer"],
            "Messages sent to a peer, probes among them.",
        ),
        row(n::MESSAGES_DROPPED, Counter, &["reason"], "Messages not delivered; each is in a gap."),
        row(n::GAPS, Counter, &["reason"], "Gaps reported to subscribers."),
        row(n::MAILBOX_BYTES, Gauge, &[], "Bytes waiting in all mailboxes."),
        row(n::SLOW_SESSIONS, Gauge, &[], "Sessions whose mailbox is over half full."),
        row(n::SUBSCRIBE_CONFIRM, Histogram, &[], "Seconds until a subscribe was confirmed."),
        row(
            n::SUBSCRIBE_UNCONFIRMED,
            Counter,
            &[],
            "Subscribes answered before every live member had confirmed.",
        ),
        row(
            n::PROBE,
            Histogram,
            &["peer"],
            "Seconds from publishing a probe to a peer until its confirmation was here.",
        ),
        row(n::LINK_UP, Gauge, &["peer"], "1 while the links to and from the peer are both up."),
        row(n::LINK_RTT, Gauge, &["peer"], "Seconds of the last ping's round trip."),
        row(n::LINK_UNACKED_BYTES, Gauge, &["peer"], "Bytes sent and not yet acknowledged."),
        row(
            n::LINK_RETRANSMITTED,
            Counter,
            &["peer"],
            "Batches written again, after a link was cut before they arrived.",
        ),
        row(
            n::LINK_RESUMES,
            Counter,
            &["kind"],
            "Links to peers that came up, by what the one before had left: nothing, unacknowledged, lost, or new.",
        ),
        row(
            n::LINK_WINDOW_EVICTIONS,
            Counter,
            &["peer", "reason"],
            "Batches written and given up before they were acknowledged: too old (age), or the peer had told its subscribers (lost).",
        ),
        row(n::LINK_RECONNECTS, Counter, &["peer"], "Times that a link came up again."),
        row(
            n::LINK_JUMPS,
            Counter,
            &["peer"],
            "Times that a peer's content skipped numbers, which it never should, or was cut off while it was handed on.",
        ),
        row(
            n::LINK_STALE,
            Counter,
            &["peer"],
            "Frames of an older link that came when a newer one had begun, and were dropped.",
        ),
        row(
            n::LINK_SUPERSEDED,
            Counter,
            &["peer"],
            "Links from the peer that were still read when a newer one began. What they still had to say, if anything, is dropped and sent again.",
        ),
        row(n::LINK_REFUSED, Counter, &["reason"], "Hellos refused, here or by the far end."),
        row(n::LINK_BYTES, Counter, &["peer", "direction"], "Bytes over links."),
        row(
            n::INTEREST_SNAPSHOTS,
            Counter,
            &["reason"],
            "Whole interests sent; one a link-up is normal.",
        ),
        row(n::PRESENCES, Gauge, &[], "Presences shown here, whichever node owns them."),
        row(n::PRESENCES_ORPHANED, Gauge, &[], "Presences shown whose node is down."),
        row(n::PRESENCE_CHANGES, Counter, &["kind"], "Joins, leaves and updates seen here."),
        row(
            n::PRESENCE_PROPAGATION,
            Histogram,
            &[],
            "Seconds from a change here until a peer's word that it has it; sampled.",
        ),
        row(
            n::PRESENCE_REPAIRS,
            Counter,
            &["kind"],
            "What was missed and asked for, come as an interval or as a whole.",
        ),
        row(
            n::PRESENCE_REFUSED,
            Counter,
            &["reason"],
            "What a peer sent of presence and was not taken.",
        ),
        row(n::GOSSIP_REJECTED, Counter, &["reason"], "Datagrams dropped unanswered."),
        row(
            n::CONTROL_QUORUM,
            Gauge,
            &[],
            "1 while namespaces, keys and leases can be changed, as far as this node knows.",
        ),
        row(
            n::CONTROL_APPLIED,
            Gauge,
            &[],
            "Of the last entry of control that this node has applied.",
        ),
        row(n::LIMIT_REJECTIONS, Counter, &["limit"], "Requests refused at a limit."),
        row(n::AUTH_FAILURES, Counter, &["front", "reason"], "Credentials refused."),
        row(n::TASK_RESTARTS, Counter, &["task"], "Tasks started again after they ended."),
        row(n::INSECURE, Gauge, &[], "1 while clients may come without TLS or without keys."),
        row(
            n::CERTIFICATE_EXPIRY,
            Gauge,
            &["front"],
            "When the certificate that a port shows expires, in seconds since 1970.",
        ),
    ]
};

/// Upper bounds of histograms, in seconds: from a hop on loopback to a wait that somebody notices.
const BUCKETS_S: [f64; 15] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

/// A gauge that nobody sets any more (a link to a member long gone) leaves the page after so long.
const GAUGE_IDLE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Recorder {
    /// None: somebody else's recorder was there first, and ours gets nothing.
    handle: Option<PrometheusHandle>,
    exporters: AtomicUsize,
    /// Refreshing gauges and rendering them is one step, so that two nodes of one process don't mix theirs.
    scrape: Mutex<()>,
}

static RECORDER: OnceLock<Recorder> = OnceLock::new();

/// One node's way to the page of metrics.
#[derive(Debug)]
pub struct Exporter {
    recorder: &'static Recorder,
}

impl Exporter {
    /// Installs the process's recorder, or joins the one installed before.
    pub fn install() -> Self {
        let recorder = RECORDER.get_or_init(|| Recorder {
            handle: install_recorder(),
            exporters: AtomicUsize::new(0),
            scrape: Mutex::new(()),
        });
        recorder.exporters.fetch_add(1, Ordering::Relaxed);
        Self { recorder }
    }

    /// The page in Prometheus' text format. `refresh` sets the gauges.
    pub fn render(&self, refresh: impl FnOnce()) -> String {
        let _one_at_a_time = self.recorder.scrape.lock();
        refresh();
        let mut page = String::new();
        let nodes = self.recorder.exporters.load(Ordering::Relaxed);
        if nodes > 1 {
            let _ = writeln!(
                page,
                "# {nodes} nodes share this process: counters are of all of them, gauges of the one asked."
            );
        }
        match &self.recorder.handle {
            Some(handle) => page.push_str(&handle.render()),
            None => {
                page.push_str("# Another recorder of this process has the counters and gauges.\n")
            }
        }
        add_unused(&mut page);
        add_process(&mut page);
        page
    }

    /// Folds what histograms have gathered; without it they grow until somebody asks for the page.
    pub fn upkeep(&self) {
        if let Some(handle) = &self.recorder.handle {
            handle.run_upkeep();
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.recorder.exporters.fetch_sub(1, Ordering::Relaxed);
    }
}

fn install_recorder() -> Option<PrometheusHandle> {
    let recorder = PrometheusBuilder::new()
        .idle_timeout(MetricKindMask::GAUGE, Some(GAUGE_IDLE))
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS_S)
        .expect("the list of buckets is not empty")
        .build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another metrics recorder is installed; /metrics shows the process alone");
        return None;
    }
    for metric in TABLE {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
        if metric.kind == Kind::Counter && metric.labels.is_empty() {
            metrics::counter!(metric.name).increment(0);
        }
    }
    Some(handle)
}

/// What has no value yet is still on the page, so that a reader finds everything there is.
fn add_unused(page: &mut String) {
    for metric in TABLE {
        if !page.contains(&format!("# TYPE {} ", metric.name)) {
            add_head(page, metric.name, metric.kind, metric.help);
        }
    }
}

fn add_head(page: &mut String, name: &str, kind: Kind, help: &str) {
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
}

/// The conventional `process_*`, where this system tells them.
fn add_process(page: &mut String) {
    let process = metrics_process::collector::collect();
    let count = |n: Option<u64>| n.map(|n| n as f64);
    let rows = [
        (
            "process_cpu_seconds_total",
            Kind::Counter,
            process.cpu_seconds_total,
            "User and system CPU time.",
        ),
        ("process_open_fds", Kind::Gauge, count(process.open_fds), "Open file descriptors."),
        (
            "process_max_fds",
            Kind::Gauge,
            count(process.max_fds),
            "The limit of open file descriptors.",
        ),
        (
            "process_virtual_memory_bytes",
            Kind::Gauge,
            count(process.virtual_memory_bytes),
            "Virtual memory.",
        ),
        (
            "process_resident_memory_bytes",
            Kind::Gauge,
            count(process.resident_memory_bytes),
            "Resident memory.",
        ),
        (
            "process_start_time_seconds",
            Kind::Gauge,
            count(process.start_time_seconds),
            "Start, since 1970.",
        ),
        ("process_threads", Kind::Gauge, count(process.threads), "Threads."),
    ];
    for (name, kind, value, help) in rows {
        if let Some(value) = value {
            add_head(page, name, kind, help);
            let _ = writeln!(page, "{name} {value}");
        }
    }
}
