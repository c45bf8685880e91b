//! ● What is compared: loads by name, and the figures that tell.

use std::time::Duration;

use crate::load::Load;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    #[value(name = "1x1")]
    OneToOne,
    #[value(name = "1x100")]
    OneTo100,
    #[value(name = "1x1000")]
    OneTo1000,
    Latency,
    Fanout,
    Idle,
    #[value(name = "cross-1x1")]
    Cross,
    CrossLatency,
}

impl Mode {
    pub(crate) const ALL: [Self; 8] = [
        Self::OneToOne,
        Self::OneTo100,
        Self::OneTo1000,
        Self::Latency,
        Self::Fanout,
        Self::Idle,
        Self::Cross,
        Self::CrossLatency,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::OneToOne => "1x1",
            Self::OneTo100 => "1x100",
            Self::OneTo1000 => "1x1000",
            Self::Latency => "latency",
            Self::Fanout => "fanout",
            Self::Idle => "idle",
            Self::Cross => "cross-1x1",
            Self::CrossLatency => "cross-latency",
        }
    }

    /// Publisher and subscribers on different nodes of three.
    pub(crate) const fn is_across(self) -> bool {
        matches!(self, Self::Cross | Self::CrossLatency)
    }

    pub(crate) const fn load(self, connections: usize) -> Load {
        match self {
            Self::OneToOne | Self::Cross => Load::Throughput { subscribers: 1 },
            Self::OneTo100 => Load::Throughput { subscribers: 100 },
            Self::OneTo1000 => Load::Throughput { subscribers: 1000 },
            Self::Latency => Load::Latency { subscribers: 10, rate: 5_000 },
            Self::CrossLatency => Load::Latency { subscribers: 1, rate: 200 },
            Self::Fanout => Load::Fanout { subscribers: connections },
            Self::Idle => Load::Idle { connections },
        }
    }

    /// Quantiles of few messages say nothing: at a low rate it takes longer.
    pub(crate) const fn duration(self, given: Duration) -> Duration {
        match self {
            Self::CrossLatency => given.saturating_mul(2),
            Self::Idle => Duration::from_secs(1),
            _ => given,
        }
    }

    pub(crate) const fn figures(self) -> &'static [&'static str] {
        match self {
            Self::OneToOne | Self::OneTo100 | Self::OneTo1000 | Self::Cross => &[
                "deliveries_per_s",
                "cpu_us_per_delivery",
                "server_cores",
                "generator_cores",
                "others_cores",
            ],
            Self::Latency | Self::CrossLatency => &[
                "p50_us",
                "p99_us",
                "p999_us",
                "cpu_us_per_delivery",
                "server_cores",
                "others_cores",
            ],
            Self::Fanout => &[
                "last_ms",
                "last_ms_best",
                "last_ms_worst",
                "cpu_us_per_delivery",
                "rss_bytes_per_connection",
                "open_cpu_us",
                "others_cores",
            ],
            Self::Idle => &[
                "rss_bytes_per_connection",
                "open_cpu_us",
                "opened_per_s",
                "idle_server_cores",
                "others_cores",
            ],
        }
    }
}
