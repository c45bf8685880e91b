//! What a run costs: processor time of the servers, of this generator, and of everybody else on the machine.

use std::time::Duration;

use cluster_tests::process::Process;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike as _;
use waxwing::supervise::Clock;
use waxwing::types::Time;

/// Ticks a second in /proc, on every Linux there is.
const TICKS: f64 = 100.0;

/// As many sockets as the system lets this process, and the servers it starts, have.
pub(crate) fn raise_file_limit() {
    // Where it can't be raised, connecting will say so.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Counters at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    at: Time,
    servers_s: f64,
    own_s: f64,
    machine_s: f64,
}

/// Between two readings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) wall_s: f64,
    pub(crate) servers_s: f64,
    pub(crate) own_s: f64,
    /// Of neither.
    pub(crate) others_s: f64,
}

impl Reading {
    pub(crate) fn take(clock: &Clock, servers: &[Process]) -> Self {
        Self {
            at: clock.now(),
            servers_s: servers.iter().map(|server| process_s(server.id())).sum(),
            own_s: getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
                (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
            }),
            machine_s: machine_s(),
        }
    }

    pub(crate) fn since(&self, earlier: &Self) -> Cost {
        let servers_s = self.servers_s - earlier.servers_s;
        let own_s = self.own_s - earlier.own_s;
        Cost {
            wall_s: (self.at - earlier.at).max(Duration::from_micros(1)).as_secs_f64(),
            servers_s,
            own_s,
            others_s: (self.machine_s - earlier.machine_s - servers_s - own_s).max(0.0),
        }
    }
}

/// utime and stime of /proc/PID/stat. Zero once it is gone, which the load notices.
fn process_s(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS
}

/// User, nice, system, irq and softirq time of all processors.
fn machine_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks = fields.enumerate().filter(|(i, _)| matches!(i, 0..=2 | 5..=6));
    ticks.filter_map(|(_, ticks)| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS
}

pub(crate) fn resident_bytes(servers: &[Process]) -> f64 {
    servers.iter().filter_map(Process::resident_bytes).sum::<u64>() as f64
}
