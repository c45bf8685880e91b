//! x

pub mod dev;
