//! A TCP proxy that cuts and holds what it carries.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::world::Node;
use crate::supervise::{Supervisor, Task};

/// Stands before a node's peer port.
pub(super) struct Proxy {
    pub address: SocketAddr,
    /// Connections of an older number are cut.
    life: watch::Sender<u64>,
    /// Nothing is carried while it is set.
    held: watch::Sender<bool>,
}

impl Proxy {
    pub(super) async fn before(node: &Node, tasks: &Supervisor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let to = node.address;
        let (life, held) = (watch::Sender::new(0), watch::Sender::new(false));
        let (life_seen, held_seen) = (life.subscribe(), held.subscribe());
        let inner = tasks.clone();
        tasks.spawn(Task::Client("proxy".into()), async move {
            let stopped = inner.shutdown().clone();
            let accept = async {
                loop {
                    let (near, _) = listener.accept().await.unwrap();
                    let Ok(far) = TcpStream::connect(to).await else { continue };
                    let (near_read, near_write) = near.into_split();
                    let (far_read, far_write) = far.into_split();
                    let mut life = life_seen.clone();
                    life.mark_unchanged();
                    let held = held_seen.clone();
                    inner.spawn(Task::Client("proxied".into()), async move {
                        tokio::select! {
                            () = carry(near_read, far_write, held.clone()) => {}
                            () = carry(far_read, near_write, held) => {}
                            _ = life.changed() => {}
                        }
                    });
                }
            };
            tokio::select! {
                () = accept => {}
                () = stopped.cancelled() => {}
            }
        });
        Self { address, life, held }
    }

    pub(super) fn cut(&self) {
        self.life.send_modify(|life| *life += 1);
    }

    pub(super) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut held: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        if held.wait_for(|held| !held).await.is_err() {
            return;
        }
        match from.read(&mut buffer).await {
            Ok(read @ 1..) => {
                if held.wait_for(|held| !held).await.is_err() {
                    return;
                }
                if to.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
            Ok(0) | Err(_) => return,
        }
    }
}
