//! What a key or a token may do, as options of the commands that make them.

use clap::Args;

use crate::rights::said::RightsSaid;

#[derive(Debug, Args)]
pub(super) struct RightsArgs {
    /// Topics that it may publish to, by patterns such as '*' or 'room:*'.
    #[arg(long, value_name = "PATTERN", num_args = 1..)]
    publish: Vec<String>,
    /// Topics that it may subscribe to, and patterns within them.
    #[arg(long, value_name = "PATTERN", num_args = 1..)]
    subscribe: Vec<String>,
    /// Topics whose presence it may see and take part in.
    #[arg(long, value_name = "PATTERN", num_args = 1..)]
    presence: Vec<String>,
    /// Leases that it may hold and see, by patterns of their names.
    #[arg(long, value_name = "PATTERN", num_args = 1..)]
    lease: Vec<String>,
    /// Topics that it may not publish to, whatever else is said.
    #[arg(long, value_name = "PATTERN", num_args = 1..)]
    deny_publish: Vec<String>,
    /// Topics that it may not subscribe to: neither by name, nor by pattern, nor by watching them.
    #[arg(long, value_name = "PATTERN", num_args = 1..)]
    deny_subscribe: Vec<String>,
    /// Topics whose presence it may neither see nor take part in.
    #[arg(long, value_name = "PATTERN", num_args = 1..)]
    deny_presence: Vec<String>,
    /// Leases that it may neither hold nor see.
    #[arg(long, value_name = "PATTERN", num_args = 1..)]
    deny_lease: Vec<String>,
}

impl RightsArgs {
    /// It opens neither topics nor leases.
    pub(super) const fn is_nothing(&self) -> bool {
        self.publish.is_empty()
            && self.subscribe.is_empty()
            && self.presence.is_empty()
            && self.lease.is_empty()
    }

    pub(super) fn said(&self) -> RightsSaid {
        RightsSaid {
            publish: self.publish.clone(),
            subscribe: self.subscribe.clone(),
            presence: self.presence.clone(),
            lease: self.lease.clone(),
            deny_publish: self.deny_publish.clone(),
            deny_subscribe: self.deny_subscribe.clone(),
            deny_presence: self.deny_presence.clone(),
            deny_lease: self.deny_lease.clone(),
            ..RightsSaid::default()
        }
    }
}
