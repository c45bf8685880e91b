//! The closed list of tasks.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::types::NodeName;

/// What runs in the background of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Task {
    Membership,
    GossipReceiver,
    LinkAcceptor,
    /// A caller of the peer port who has not proved who it is.
    LinkGreeting,
    LinkDialer(NodeName),
    /// The HTTP/2 side of a dialed link.
    LinkConnection(NodeName),
    /// The connection that calls to a member go over.
    LinkCalls(NodeName),
    /// What a link's far end sends, for one link in either direction.
    LinkReader(NodeName),
    InterestAnnouncer,
    /// Looks for the topics that a peer asks for, and tells them.
    NamesTold,
    /// Presence: ticks of watched topics, members, deadlines.
    Replicator,
    /// Founds, tends and leaves the group that agrees.
    Control,
    /// Writes what is asked of control.
    ControlWriter,
    /// Tells control what became of sessions that hold leases.
    ControlReports,
    /// Lets in, and puts out, by the keys that control agrees on.
    ControlAccess,
    FrontGrpc,
    FrontHttp,
    FrontRedis,
    /// Meets Redis clients, on a thread of its own.
    RedisGreeter,
    /// One client connection's stream; the label says which.
    Session(String),
    /// A Redis client's connection; there are very many, so it has no text of its own.
    RedisClient(SocketAddr),
    SessionReaper,
    Probe,
    LoadReport,
    /// From joining to ready.
    Readiness,
    /// Draining and leaving; its end is the node's.
    Departure,
    /// Says again what people should not forget.
    Notices,
    /// Sets the log level back after its time.
    LogLevel,
    /// Ends the node with the process that started it.
    ParentWatch,
    /// A client inside this process: the command line, a bench, a test.
    Client(String),
}

/// What to do when a task ends though nobody asked it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExit {
    /// Start it again, after a backoff when it failed.
    Restart { first: Duration, most: Duration },
    /// The node can't do its job without it: stop the node, with this as the reason.
    StopNode,
    /// It has done its work, or took only its own client with it.
    Forget,
}

impl Task {
    pub const fn on_exit(&self) -> OnExit {
        match self {
            Self::Membership
            | Self::GossipReceiver
            | Self::LinkDialer(_)
            | Self::InterestAnnouncer
            | Self::Replicator
            | Self::Control
            | Self::ControlWriter
            | Self::ControlReports
            | Self::ControlAccess
            | Self::Probe
            | Self::SessionReaper
            | Self::LoadReport
            | Self::Readiness
            | Self::Notices => {
                OnExit::Restart { first: Duration::from_millis(100), most: Duration::from_secs(5) }
            }
            Self::LinkAcceptor
            | Self::FrontGrpc
            | Self::FrontHttp
            | Self::FrontRedis
            | Self::RedisGreeter
            | Self::Departure
            | Self::ParentWatch => OnExit::StopNode,
            Self::LinkGreeting
            | Self::LinkConnection(_)
            | Self::LinkCalls(_)
            | Self::LinkReader(_)
            | Self::NamesTold
            | Self::Session(_)
            | Self::RedisClient(_)
            | Self::LogLevel
            | Self::Client(_) => OnExit::Forget,
        }
    }

    /// For metrics: the same for every task of a kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Membership => "membership",
            Self::GossipReceiver => "gossip-receiver",
            Self::LinkAcceptor => "link-acceptor",
            Self::LinkGreeting => "link-greeting",
            Self::LinkDialer(_) => "link-dialer",
            Self::LinkConnection(_) => "link-connection",
            Self::LinkCalls(_) => "link-calls",
            Self::LinkReader(_) => "link-reader",
            Self::InterestAnnouncer => "interest-announcer",
            Self::NamesTold => "names-told",
            Self::Replicator => "replicator",
            Self::Control => "control",
            Self::ControlWriter => "control-writer",
            Self::ControlReports => "control-reports",
            Self::ControlAccess => "control-access",
            Self::FrontGrpc => "front-grpc",
            Self::FrontHttp => "front-http",
            Self::FrontRedis => "front-redis",
            Self::RedisGreeter => "redis-greeter",
            Self::Session(_) | Self::RedisClient(_) => "session",
            Self::SessionReaper => "session-reaper",
            Self::Probe => "probe",
            Self::LoadReport => "load-report",
            Self::Readiness => "readiness",
            Self::Departure => "departure",
            Self::Notices => "notices",
            Self::LogLevel => "log-level",
            Self::ParentWatch => "parent-watch",
            Self::Client(_) => "client",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkDialer(peer)
            | Self::LinkConnection(peer)
            | Self::LinkCalls(peer)
            | Self::LinkReader(peer) => {
                write!(f, "{} {peer}", self.kind())
            }
            Self::RedisClient(from) => write!(f, "{} redis {from}", self.kind()),
            Self::Session(label) | Self::Client(label) => write!(f, "{} {label}", self.kind()),
            _ => f.write_str(self.kind()),
        }
    }
}
