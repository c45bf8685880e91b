//! A node that must not outlive the process that started it: `dev` holds the other end of its standard input, and whatever ends
//! `dev`, a kill -9 too, closes that end.

use std::io;
use std::os::fd::AsFd;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// Standard input, if it is a pipe. It is read by the runtime's poll and not by a blocking thread, which would keep the process from
/// ending.
pub(super) fn pipe() -> io::Result<Receiver> {
    Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)
}

/// Ends when the other end is closed.
pub(super) async fn ended(mut pipe: Receiver) {
    let mut ignored = [0; 64];
    while !matches!(pipe.read(&mut ignored).await, Ok(0) | Err(_)) {}
}
