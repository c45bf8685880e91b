//! Every metric's name, in one table. Shells count; cores never do.
//!
//! Units are seconds and bytes, counters end in `_total`, and labels are only front, peer, reason, kind, limit, task, direction,
//! state: nothing that a client can make up.

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
    pub const LINK_RECONNECTS: &str = "waxwing_link_reconnects_total";
    pub const LINK_REFUSED: &str = "waxwing_link_refused_total";
    pub const LINK_BYTES: &str = "waxwing_link_bytes_total";
    pub const INTEREST_SNAPSHOTS: &str = "waxwing_interest_snapshots_total";
    pub const GOSSIP_REJECTED: &str = "waxwing_gossip_rejected_total";
    pub const LIMIT_REJECTIONS: &str = "waxwing_limit_rejections_total";
    pub const AUTH_FAILURES: &str = "waxwing_auth_failures_total";
    pub const TASK_RESTARTS: &str = "waxwing_task_restarts_total";
    pub const INSECURE: &str = "waxwing_insecure";
}
