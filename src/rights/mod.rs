//! ● Who may do what: keys, what they may, and the file that says so. Plain data; the broker's door asks it.

pub mod access;
pub mod agreed;
pub mod bucket;
pub mod cover;
mod fault;
pub mod key;
pub mod quota;
pub mod rates;
pub mod rules;
pub mod said;
mod signing;
pub mod token;

pub use access::{Access, Grant, NotAdmitted, Who};
pub use quota::{Quota, Quotas};
pub use rules::{Ask, Right, Rules};
