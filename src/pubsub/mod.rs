//! Topics, subscriptions, mailboxes, interest: who gets a message on this node, and which peers want it.
//!
//! SKELETON

pub mod mailbox;
pub mod messages;
pub use messages::{Messages, MessagesBuilder, Span};
