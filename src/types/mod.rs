//! The vocabulary: names, identities, topics, time. Imports nothing of ours, reads no clock, does no IO.

pub mod epoch;
pub mod few;
pub mod namespace;
pub mod node;
pub mod session;
pub mod time;
pub mod topic;

pub use epoch::LinkEpoch;
pub use namespace::Namespace;
pub use node::{ClusterName, Incarnation, NodeName, Replica};
pub use session::{ResumeToken, SessionId, TokenBytes};
pub use time::Time;
pub use topic::{Pattern, Topic, TopicHasher};
