//! Each fault against an echoing target.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::AbortHandle;

use super::{Lane, Proxy, ProxyHandle, datagrams, stream};
use crate::supervise::{Clock, Shutdown, Supervisor, Task};

/// No condition waited for here takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for what must not come to have come, were it to come.
const SILENCE: Duration = Duration::from_millis(150);

struct World {
    supervisor: Supervisor,
    clock: Clock,
    target: SocketAddr,
    datagrams: UdpSocket,
    echo: AbortHandle,
    proxy: ProxyHandle,
}

/// Sends back what it reads, and an end for an end.
async fn echo(listener: TcpListener) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((mut socket, _)) = listener.accept().await {
        connections.spawn(async move {
            let (mut reader, mut writer) = socket.split();
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
            let _ = writer.shutdown().await;
        });
    }
}

impl World {
    async fn start() -> Self {
        let supervisor = Supervisor::new(Shutdown::new());
        let clock = Clock::new();
        let (listener, datagrams) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            if let Ok(datagrams) = UdpSocket::bind(addr).await {
                break (listener, datagrams);
            }
        };
        let target = listener.local_addr().unwrap();
        let echo = spawn_echo(listener);
        let proxy = Proxy::start(&supervisor, clock, target).unwrap();
        Self { supervisor, clock, target, datagrams, echo, proxy }
    }

    async fn connect(&self) -> TcpStream {
        within(TcpStream::connect(self.proxy.addr())).await.unwrap()
    }

    async fn send(&self, datagrams: impl IntoIterator<Item = u16>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for number in datagrams {
            socket.send_to(&number.to_be_bytes(), self.proxy.addr()).await.unwrap();
        }
    }

    async fn receive(&self) -> u16 {
        let mut bytes = [0; 2];
        within(self.datagrams.recv_from(&mut bytes)).await.unwrap();
        u16::from_be_bytes(bytes)
    }

    async fn eventually(&self, what: &str, condition: impl Fn(&ProxyHandle) -> bool) {
        let wait = async {
            while !condition(&self.proxy) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("never: {what}; {:?}", self.proxy.report());
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.supervisor.shutdown().cancel();
        self.echo.abort();
    }
}

#[expect(clippy::disallowed_methods, reason = "stands for another process")]
fn spawn_echo(listener: TcpListener) -> AbortHandle {
    tokio::spawn(echo(listener)).abort_handle()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

async fn echoes(socket: &mut TcpStream, text: &str) {
    within(socket.write_all(text.as_bytes())).await.unwrap();
    let mut back = vec![0; text.len()];
    within(socket.read_exact(&mut back)).await.unwrap();
    assert_eq!(back, text.as_bytes());
}

async fn is_silent(socket: &mut TcpStream) {
    let mut byte = [0];
    let read = tokio::time::timeout(SILENCE, socket.read(&mut byte)).await;
    assert!(read.is_err(), "{read:?} came though nothing was to come");
}

async fn read_error(socket: &mut TcpStream) -> io::ErrorKind {
    let mut byte = [0];
    within(socket.read(&mut byte)).await.expect_err("an error").kind()
}

async fn refused(addr: SocketAddr) -> bool {
    match within(TcpStream::connect(addr)).await {
        Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        Ok(_) => false,
    }
}

#[tokio::test]
async fn without_faults_all_passes_in_order_and_is_counted() {
    let world = World::start().await;
    let mut socket = world.connect().await;
    let sent: Vec<u8> = (0..3 << 20).map(|i| (i % 251) as u8).collect();
    let mut back = vec![0; sent.len()];
    let (mut reader, mut writer) = socket.split();
    let (wrote, read) =
        within(async { tokio::join!(writer.write_all(&sent), reader.read_exact(&mut back)) }).await;
    wrote.unwrap();
    read.unwrap();
    assert!(back == sent, "the bytes differ");
    let report = world.proxy.report();
    assert_eq!(report.connections, 1);
    assert_eq!((report.bytes_there, report.bytes_back), (3 << 20, 3 << 20));

    world.send(0..100).await;
    for number in 0..100 {
        assert_eq!(world.receive().await, number);
    }
    world.eventually("all counted", |proxy| proxy.report().datagrams == 100).await;
}

#[tokio::test]
async fn an_end_is_passed_on_each_way() {
    let world = World::start().await;
    let mut socket = world.connect().await;
    within(socket.write_all(b"last words")).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut back = String::new();
    within(socket.read_to_string(&mut back)).await.unwrap();
    assert_eq!(back, "last words");
}

#[tokio::test]
async fn a_cut_resets_and_refuses_until_it_is_healed() {
    let world = World::start().await;
    let mut socket = world.connect().await;
    echoes(&mut socket, "before").await;
    world.proxy.cut();
    assert!(world.proxy.is_cut());
    assert_eq!(read_error(&mut socket).await, io::ErrorKind::ConnectionReset);
    world.eventually("the reset is counted", |proxy| proxy.report().resets == 1).await;
    assert!(refused(world.proxy.addr()).await);
    world.send([1]).await;
    world.eventually("the datagram is lost", |p| p.report().datagrams_dropped == 1).await;

    world.proxy.heal();
    assert!(!world.proxy.is_cut());
    let mut socket = connect_again(world.proxy.addr()).await;
    echoes(&mut socket, "after").await;
    world.send([2]).await;
    assert_eq!(world.receive().await, 2);
}

/// The door opens a moment after the heal.
async fn connect_again(addr: SocketAddr) -> TcpStream {
    within(async {
        loop {
            if let Ok(socket) = TcpStream::connect(addr).await {
                return socket;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_cut_healed_at_once_still_resets() {
    let world = World::start().await;
    let mut socket = world.connect().await;
    echoes(&mut socket, "before").await;
    world.proxy.cut();
    world.proxy.heal();
    assert_eq!(read_error(&mut socket).await, io::ErrorKind::ConnectionReset);
    echoes(&mut connect_again(world.proxy.addr()).await, "after").await;
}

#[tokio::test]
async fn a_cut_that_finds_waiting_bytes_hits_data() {
    let world = World::start().await;
    let mut socket = world.connect().await;
    world.proxy.only(&[Lane::Back]).hold();
    within(socket.write_all(b"held on the way back")).await.unwrap();
    world.eventually("it went there", |proxy| proxy.report().bytes_there == 20).await;
    is_silent(&mut socket).await;
    world.proxy.cut();
    assert_eq!(read_error(&mut socket).await, io::ErrorKind::ConnectionReset);
    world.eventually("the cut hit data", |proxy| proxy.report().cuts_hitting_data == 1).await;
}

#[tokio::test]
async fn half_open_keeps_connections_and_moves_nothing() {
    let world = World::start().await;
    let mut socket = world.connect().await;
    echoes(&mut socket, "before").await;
    world.proxy.half_open();
    within(socket.write_all(b"into the void")).await.unwrap();
    is_silent(&mut socket).await;
    let mut other = world.connect().await;
    is_silent(&mut other).await;
    world.send([1]).await;
    world.eventually("the datagram is lost", |p| p.report().datagrams_dropped == 1).await;
    assert_eq!(world.proxy.report().bytes_there, 6);

    world.proxy.heal();
    let mut back = [0; 13];
    within(socket.read_exact(&mut back)).await.unwrap();
    assert_eq!(&back, b"into the void");
}

#[tokio::test]
async fn a_delay_is_at_least_as_long_as_asked_each_way() {
    let world = World::start().await;
    let delay = Duration::from_millis(60);
    let mut socket = world.connect().await;
    world.proxy.delay(delay);
    let asked_at = world.clock.now();
    echoes(&mut socket, "there and back").await;
    assert!(world.clock.now() - asked_at >= 2 * delay);

    let asked_at = world.clock.now();
    world.send([7, 8]).await;
    assert_eq!((world.receive().await, world.receive().await), (7, 8));
    assert!(world.clock.now() - asked_at >= delay);

    world.proxy.only(&[Lane::There, Lane::Datagrams]).delay(Duration::ZERO);
    let asked_at = world.clock.now();
    echoes(&mut socket, "back only").await;
    assert!(world.clock.now() - asked_at >= delay);
}

#[tokio::test]
async fn what_is_held_comes_whole_and_in_order_on_release() {
    let world = World::start().await;
    let mut socket = world.connect().await;
    world.proxy.hold();
    within(socket.write_all(b"one two ")).await.unwrap();
    within(socket.write_all(b"three")).await.unwrap();
    world.send(0..50).await;
    is_silent(&mut socket).await;
    assert_eq!(world.proxy.report().bytes_there, 0);
    assert_eq!(world.proxy.report().datagrams, 0);

    world.proxy.release();
    let mut back = [0; 13];
    within(socket.read_exact(&mut back)).await.unwrap();
    assert_eq!(&back, b"one two three");
    for number in 0..50 {
        assert_eq!(world.receive().await, number);
    }
}

#[tokio::test]
async fn holding_is_bounded_for_connections_and_datagrams() {
    let world = World::start().await;
    world.proxy.hold();
    let mut socket = world.connect().await;
    // More than the proxy and the kernel's buffers take together: the sender is stopped, not the proxy's memory filled.
    let flood = vec![0; stream::WAITING_MAX + (64 << 20)];
    let flooding = tokio::time::timeout(Duration::from_millis(500), socket.write_all(&flood)).await;
    assert!(flooding.is_err(), "all of it was taken in");

    let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    within(async {
        while world.proxy.report().datagrams_dropped == 0 {
            for _ in 0..64 {
                sender.send_to(b"x", world.proxy.addr()).await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.proxy.release();
    world
        .eventually("what was held is sent", |proxy| {
            proxy.report().datagrams >= datagrams::WAITING_MAX as u64
        })
        .await;
}

#[tokio::test]
async fn lost_doubled_and_late_datagrams_follow_their_seeds() {
    let world = World::start().await;
    world.proxy.datagram_loss(0.5, 42);
    let first = survivors(&world).await;
    assert!((20..=80).contains(&first.len()), "{} of 100 at 0.5", first.len());
    world.proxy.heal();
    world.proxy.datagram_loss(0.5, 42);
    assert_eq!(survivors(&world).await, first, "the same seed loses others");

    world.proxy.heal();
    world.proxy.datagram_duplication(1.0, 1);
    world.send([5, 6]).await;
    let mut got = [0; 4];
    for number in &mut got {
        *number = world.receive().await;
    }
    assert_eq!(got, [5, 5, 6, 6]);
    assert_eq!(world.proxy.report().datagrams_doubled, 2);

    world.proxy.heal();
    world.proxy.datagram_reordering(0.5, 3);
    world.send(0..100).await;
    let mut got = Vec::new();
    for _ in 0..100 {
        got.push(world.receive().await);
    }
    assert!(!got.is_sorted(), "nothing was overtaken");
    assert_eq!(got.iter().copied().collect::<BTreeSet<_>>(), (0..100).collect());
    assert!(world.proxy.report().datagrams_late > 20);
}

/// Which of a hundred datagrams arrive.
async fn survivors(world: &World) -> BTreeSet<u16> {
    let seen = |proxy: &ProxyHandle| proxy.report().datagrams + proxy.report().datagrams_dropped;
    let (before, passed) = (seen(&world.proxy), world.proxy.report().datagrams);
    world.send(0..100).await;
    world.eventually("all hundred were judged", |proxy| seen(proxy) == before + 100).await;
    let mut got = BTreeSet::new();
    for _ in passed..world.proxy.report().datagrams {
        got.insert(world.receive().await);
    }
    got
}

#[tokio::test]
async fn faults_on_one_lane_leave_the_others_alone() {
    let world = World::start().await;
    let mut socket = world.connect().await;
    world.proxy.only(&[Lane::Datagrams]).cut();
    echoes(&mut socket, "streams go on").await;
    world.proxy.heal();
    world.proxy.only(&[Lane::There]).cut();
    assert_eq!(read_error(&mut socket).await, io::ErrorKind::ConnectionReset);
    world.send([1]).await;
    assert_eq!(world.receive().await, 1);
}

#[tokio::test]
async fn where_the_target_refuses_the_proxy_does_and_opens_again_with_it() {
    let world = World::start().await;
    let mut socket = world.connect().await;
    echoes(&mut socket, "alive").await;
    world.echo.abort();
    // The echo's connections end with it; what they say then is not the matter here.
    let _ = within(socket.read(&mut [0])).await;
    within(async {
        while !refused(world.proxy.addr()).await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;

    let again = TcpListener::bind(world.target).await.unwrap();
    let echo = spawn_echo(again);
    echoes(&mut connect_again(world.proxy.addr()).await, "back").await;
    echo.abort();
}

#[tokio::test]
async fn stop_closes_the_port_and_what_is_open() {
    let world = World::start().await;
    let mut socket = world.connect().await;
    echoes(&mut socket, "open").await;
    world.proxy.stop();
    assert_eq!(within(socket.read(&mut [0])).await.unwrap_or(0), 0);
    let gone = async {
        while world
            .supervisor
            .report()
            .iter()
            .any(|row| row.kind == Task::Client(String::new()).kind())
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(gone).await;
    assert!(refused(world.proxy.addr()).await);
}
