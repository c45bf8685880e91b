//! Topics, subscriptions, mailboxes, interest: who gets a message on this node, and which peers want it.
//!
//! - **Order.** Per topic, batches enter all mailboxes and all links' outboxes one after another (a lock over the pushes). So all
//!   subscribers everywhere see one origin's messages on one topic in the same order, and what one publisher publishes stays in its
//!   order, across topics too.
//! - **Loss is never silent.** A mailbox over its limit drops the newest and puts one gap, with counts, in their place.
//! - **Everything is bounded**, in the bytes that are really pinned.
//!
//! No sockets, no tasks, no clock. A mailbox wakes its reader; that is all that happens here besides computing.

pub mod batch;
mod encode;
pub mod gap;
pub mod interest;
pub mod mailbox;
pub mod messages;
pub mod pattern;
pub mod registry;
pub mod resp;
mod subscribers;

pub use batch::{Batch, Origin};
pub use gap::{Gap, GapReason};
pub use mailbox::{Copies, DirectWriter, Mailbox};
pub use messages::{Messages, MessagesBuilder, Span};
pub use registry::Registry;
pub use resp::{PatternRun, Resp};
