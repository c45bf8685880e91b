//! Clients that flood a node with HTTP/2 that means nothing, that only begin to shake hands, or that speak no TLS where it is asked for:
//! each is cut off or read no further, and nobody else notices.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use waxwing::client::{Client, Events, Options};
use waxwing::config::Config;
use waxwing::tls::issue::authority;

use crate::cluster::{Cluster, publish, texts, within};
use crate::tls::{config, connector, valid};

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A node holds no more than that of anybody, the kernel's buffers at both ends included.
const TAKEN_MAX: usize = 32 << 20;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn literal(name: &[u8], value: &str) -> Vec<u8> {
    [name, &[value.len() as u8], value.as_bytes()].concat()
}

/// The head of a lawful call.
fn call(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    block.extend(literal(&[0x04], path));
    block.extend(literal(&[0x01], "localhost"));
    block.extend(literal(&[0x0f, 0x10], "application/grpc"));
    block.extend(literal(&[0x00, 2, b't', b'e'], "trailers"));
    block
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    /// The node reads no further.
    Held,
    /// So much, and it would take more.
    Taken(usize),
}

/// Says `first`, and then what `next` makes for each number, and reads nothing.
async fn flood(
    stream: &mut dyn Duplex,
    first: &[u8],
    next: impl Fn(u32) -> Vec<u8>,
    bytes_max: usize,
) -> End {
    let mut bytes = [PREFACE, first].concat();
    let (mut number, mut taken) = (0, 0);
    while taken < bytes_max {
        while bytes.len() < 16 << 10 {
            bytes.extend(next(number));
            number += 1;
        }
        match timeout(Duration::from_millis(700), stream.write_all(&bytes)).await {
            Err(_) => return End::Held,
            Ok(Err(_)) => return End::Closed,
            Ok(Ok(())) => taken += bytes.len(),
        }
        bytes.clear();
    }
    End::Taken(taken)
}

/// What a flood is, and whether it may be taken for ever: what costs the node nothing but its reading.
type Flood = (&'static str, Vec<u8>, Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>, bool);

fn floods() -> Vec<Flood> {
    let settings = frame(SETTINGS, 0, 0, &[]);
    let stream = |number: u32| 2 * number + 1;
    let check = "/grpc.health.v1.Health/Check";
    let open = "/waxwing.v1.Session/Open";
    let begun = [settings.clone(), frame(HEADERS, END_HEADERS, 1, &call(open))].concat();
    vec![
        (
            "rapid reset",
            settings.clone(),
            Box::new(move |number| {
                let mut both = frame(HEADERS, END_HEADERS, stream(number), &call(check));
                both.extend(frame(RST_STREAM, 0, stream(number), &8_u32.to_be_bytes()));
                both
            }),
            false,
        ),
        (
            "a head without end",
            [settings.clone(), frame(HEADERS, 0, 1, &call(check))].concat(),
            Box::new(|number| {
                let name = format!("x-{number}");
                let name = [&[0, name.len() as u8], name.as_bytes()].concat();
                frame(CONTINUATION, 0, 1, &literal(&name, "y"))
            }),
            false,
        ),
        (
            "empty continuations",
            [settings.clone(), frame(HEADERS, 0, 1, &call(check))].concat(),
            Box::new(|_| frame(CONTINUATION, 0, 1, &[])),
            false,
        ),
        ("settings", begun.clone(), Box::new(|_| frame(SETTINGS, 0, 0, &[])), false),
        ("pings", begun.clone(), Box::new(|_| frame(PING, 0, 0, &[7; 8])), false),
        (
            "answers that there is no window for",
            // SETTINGS_INITIAL_WINDOW_SIZE
            frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]),
            Box::new(move |number| {
                let mut both = frame(HEADERS, END_HEADERS, stream(number), &call(check));
                both.extend(frame(DATA, END_STREAM, stream(number), &[0; 5]));
                both
            }),
            false,
        ),
        (
            "streams without end",
            settings,
            Box::new(move |number| frame(HEADERS, END_HEADERS, stream(number), &call(open))),
            false,
        ),
        (
            "a window that overflows",
            begun.clone(),
            Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())),
            false,
        ),
        (
            "frames larger than may be",
            begun.clone(),
            Box::new(|_| frame(DATA, 0, 1, &vec![0; 2 << 20])),
            false,
        ),
        ("empty data", begun.clone(), Box::new(|_| frame(DATA, 0, 1, &[])), true),
        ("priorities", begun, Box::new(|_| frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 9])), true),
    ]
}

/// Small buffers at this end, so that a node that answers is soon not read.
async fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    within("it connects", socket.connect(address)).await.unwrap()
}

struct Bystander {
    client: Client,
    events: Events,
}

impl Bystander {
    async fn new(options: Options) -> Self {
        let (client, events) = within("it attaches", Client::connect(options)).await.unwrap();
        client.subscribe(["room"], [""; 0]).await.unwrap();
        Self { client, events }
    }

    async fn goes_on(&mut self, during: &str) {
        for _ in 0..3 {
            publish(&self.client, "room", during).await;
            assert_eq!(texts(&mut self.events, 1).await, [during]);
        }
    }
}

async fn withstands(stream: &mut dyn Duplex, flood_: Flood, bystander: &mut Bystander) {
    let (what, first, next, is_free) = flood_;
    let most = if is_free { 1 << 20 } else { TAKEN_MAX };
    let (end, ()) = tokio::join!(flood(stream, &first, next, most), bystander.goes_on(what));
    match end {
        End::Closed | End::Held => {}
        End::Taken(taken) => assert!(is_free, "{what}: {taken} bytes were taken"),
    }
    bystander.goes_on(what).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_http2_cost_nobody_else() {
    let cluster = Cluster::start(&["a"]).await;
    let bound = cluster.node("a").bound();
    let mut bystander = Bystander::new(Options::new([bound.grpc.to_string()])).await;
    for flood in floods() {
        withstands(&mut connect(bound.grpc).await, flood, &mut bystander).await;
    }
    // A stranger at the peer port says 16 KiB at the most, of whatever kind.
    for (what, first, next, _) in floods() {
        let end = flood(&mut connect(bound.peer).await, &first, next, TAKEN_MAX).await;
        assert_eq!(end, End::Closed, "{what}");
    }
    bystander.goes_on("after all of them").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_http2_within_tls_cost_nobody_else() {
    let ca = authority("test", valid()).unwrap();
    let mut cluster = Cluster::empty();
    cluster.add_with(config(&ca, "a")).await;
    let (mut bystander, bound) = bystander(&ca, &cluster).await;
    for flood in floods() {
        let tcp = connect(bound.grpc).await;
        let host = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let mut tls = within("hands are shaken", connector(&ca).connect(host, tcp)).await.unwrap();
        withstands(&mut tls, flood, &mut bystander).await;
    }
}

async fn bystander(
    ca: &waxwing::tls::issue::Issued,
    cluster: &Cluster,
) -> (Bystander, waxwing::node::Bound) {
    let bound = cluster.node("a").bound();
    let mut options = Options::new([bound.grpc.to_string()]);
    options.tls = Some(waxwing::client::ClientTls::new(&ca.cert, None).unwrap());
    (Bystander::new(options).await, bound)
}

/// The first flight of a lawful client.
fn client_hello(ca: &waxwing::tls::issue::Issued) -> Vec<u8> {
    let host = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let config = connector(ca).config().clone();
    let mut client = rustls::ClientConnection::new(config, host).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_come_to_nothing_are_let_go_at_every_port() {
    let ca = authority("test", valid()).unwrap();
    let mut cluster = Cluster::empty();
    let mut config: Config = config(&ca, "a");
    config.limits.handshake = Duration::from_secs(1);
    cluster.add_with(config).await;
    let (mut bystander, bound) = bystander(&ca, &cluster).await;
    let hello = client_hello(&ca);
    let mut large = [&[0x16, 3, 1, 0x40, 0][..], &[1, 0, 0xff, 0xff]].concat();
    large.resize(64 << 10, 0);
    let ports = [("gRPC", bound.grpc), ("peer", bound.peer)].into_iter().chain(
        [("HTTP", bound.http), ("Redis", bound.redis)].map(|(name, port)| (name, port.unwrap())),
    );
    let mut all = Vec::new();
    for (name, port) in ports {
        for (what, said, pause) in [
            ("nothing", &[][..], Duration::ZERO),
            ("noise", &[0xa5; 64 << 10], Duration::ZERO),
            ("half a hello", &hello[..hello.len() / 2], Duration::ZERO),
            ("a hello and no more", &hello, Duration::ZERO),
            ("a message that never ends", &large, Duration::ZERO),
            // A byte now and then must not keep it open: far longer than it may take.
            ("a hello byte by byte", &hello, Duration::from_millis(100)),
        ] {
            all.push(async move {
                let (mut read, mut write) = connect(port).await.into_split();
                let say = async {
                    if pause.is_zero() {
                        let _ = write.write_all(said).await;
                    } else {
                        for byte in said {
                            tokio::time::sleep(pause).await;
                            if write.write_all(&[*byte]).await.is_err() {
                                break;
                            }
                        }
                    }
                    std::future::pending::<()>().await;
                };
                let mut rest = Vec::new();
                let hear = timeout(Duration::from_secs(12), read.read_to_end(&mut rest));
                tokio::select! {
                    end = hear => assert!(end.is_ok(), "{what} at the {name} port: still open"),
                    () = say => {}
                }
                // At most what a lawful handshake is answered with.
                assert!(rest.len() < 8 << 10, "{what} at the {name} port: {} bytes", rest.len());
            });
        }
    }
    let all = futures_util::future::join_all(all);
    tokio::join!(all, bystander.goes_on("meanwhile"));
    bystander.goes_on("afterwards").await;
}
