//! The listening side: open, or truly shut, so that a dialer's connect is refused by the kernel and not accepted and closed.
//!
//! Shut by a cut, and while the target itself refuses: a killed node must look killed through the proxy as well.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::{Shared, stream};
use crate::supervise::{Supervisor, Task};

/// How often a target that refuses is asked again.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);
/// How long to wait after a failure to accept or to listen, so that a full table of files doesn't make this task spin.
const PAUSE: Duration = Duration::from_millis(20);
const BACKLOG: i32 = 1_024;

/// Bound and not listening: connecting to it is refused. More than one may be bound to a number, of which one may listen.
pub(super) fn bind(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

pub(super) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = bind(addr)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// `_place` keeps the port's number while the door is shut.
pub(super) async fn run(
    supervisor: Supervisor,
    shared: Arc<Shared>,
    _place: Socket,
    first: TcpListener,
) {
    let mut faults = shared.faults.subscribe();
    let mut listener = Some(first);
    let mut target_refuses = false;
    let mut cuts = 0;
    // Connections whose target end ended: the target may be gone. One waiting word is enough.
    let (ended, mut endings) = mpsc::channel::<()>(1);
    loop {
        let (cut, cuts_now) = {
            let faults = faults.borrow_and_update();
            (faults.connections_cut(), faults.connection_cuts())
        };
        if cut || target_refuses || cuts != cuts_now {
            // Also closes those that the kernel has accepted for us already.
            listener = None;
        }
        cuts = cuts_now;
        if !cut && !target_refuses && listener.is_none() {
            match listen(shared.addr) {
                Ok(open) => listener = Some(open),
                Err(error) => {
                    tracing::warn!(%error, addr = %shared.addr, "a proxy can't listen again yet");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            _ = faults.changed() => {}
            Some(()) = endings.recv() => target_refuses = refuses(shared.target).await,
            () = tokio::time::sleep(PROBE_INTERVAL), if target_refuses => {
                target_refuses = refuses(shared.target).await;
            }
            accepted = accept(listener.as_ref()), if listener.is_some() => match accepted {
                Ok(client) => {
                    let task = Task::Client(format!("proxy {} connection", shared.addr));
                    let run = stream::run(shared.clone(), client, cuts, ended.clone());
                    supervisor.spawn(task, run);
                }
                Err(error) => {
                    tracing::debug!(%error, "a proxy can't accept");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(client, _)| client),
        None => std::future::pending().await,
    }
}

/// Only a refusal counts: a target that is slow or frozen is left to whoever dials it.
async fn refuses(target: SocketAddr) -> bool {
    let tried = tokio::time::timeout(PROBE_INTERVAL, TcpStream::connect(target)).await;
    matches!(tried, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
}
