//! Real nodes in one process, on ports of the kernel's choice, talking over real sockets.

#![allow(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod cluster;
mod departure;
mod dev;
mod floods;
mod holders;
mod leases;
mod messages;
mod operating;
mod presence;
mod redis;
mod rights;
mod secrets;
mod start;
mod tls;
