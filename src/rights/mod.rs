//! ● Who may do what, and how much of it: what keys, tokens and quotas are decided by. Nothing uses it yet.

pub mod bucket;
pub mod cover;
pub mod rules;
