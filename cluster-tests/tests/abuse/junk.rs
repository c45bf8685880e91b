//! Bytes from strangers: on every port, over TCP and UDP.

use std::net::SocketAddr;
use std::time::Duration;

use cluster_tests::client::PATIENCE;
use cluster_tests::cluster::{Cluster, Options};
use cluster_tests::{gate, witness::Witness};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use waxwing::metrics::names;

/// Bytes without a pattern; the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Writes it all, however the far end takes it, and reads what comes back until that closes or says nothing for a moment.
async fn offer(address: SocketAddr, junk: &[u8]) -> usize {
    let Ok(mut stream) = TcpStream::connect(address).await else { return 0 };
    let _ = timeout(Duration::from_secs(1), stream.write_all(junk)).await;
    let (mut total, mut buffer) = (0, vec![0; 64 << 10]);
    while let Ok(Ok(read @ 1..)) =
        timeout(Duration::from_millis(200), stream.read(&mut buffer)).await
    {
        total += read;
    }
    total
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_bytes_on_every_port_cost_nobody_else() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let cluster = Cluster::start(2, Options::default()).await;
    let mut witness = Witness::start(&cluster, 1, 0).await;
    let ports = cluster.node(0).ports;
    let with_preface = |rest: &[u8]| [PREFACE, rest].concat();
    let junk: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("one byte", vec![0]),
        ("noise", noise(1, 256 << 10)),
        ("zeros", vec![0; 256 << 10]),
        ("a line without end", vec![b'A'; 256 << 10]),
        ("HTTP/1", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("HTTP/1 with endless headers", {
            let mut text = b"GET /status HTTP/1.1\r\n".to_vec();
            (0..20_000).for_each(|i| text.extend(format!("x-{i}: y\r\n").bytes()));
            text
        }),
        ("HTTP/1 with two lengths", {
            b"POST /v1/publish HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"
                .to_vec()
        }),
        ("Redis", b"*1000000000\r\n$-5\r\nPING\r\n".to_vec()),
        ("TLS", [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &noise(2, 500)].concat()),
        ("HTTP/2 and noise", with_preface(&noise(3, 64 << 10))),
        ("HTTP/2 and a giant frame", with_preface(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])),
        ("HTTP/2 and DATA on no stream", with_preface(&[0, 0, 4, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4])),
        ("HTTP/2 and a flood of settings", {
            with_preface(&[0, 0, 0, 4, 0, 0, 0, 0, 0].repeat(5_000))
        }),
        ("HTTP/2 and a flood of pings", {
            with_preface(&[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8].repeat(5_000))
        }),
    ];
    for (name, bytes) in &junk {
        for address in [ports.grpc, ports.peer, ports.http] {
            offer(address, bytes).await;
        }
        witness.sees_nothing(&cluster, name).await;
    }
    // Many at once.
    let offers = (0..100).map(|seed| {
        let address = [ports.grpc, ports.peer, ports.http][seed as usize % 3];
        async move { offer(address, &noise(seed, 16 << 10)).await }
    });
    let all = futures_util::future::join_all(offers);
    tokio::join!(all, witness.sees_nothing(&cluster, "a hundred at once"));
    witness.tell("abuse.junk.slowest_round");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_datagrams_get_no_answer_and_are_counted() {
    const DATAGRAMS: u32 = 500;
    let secret = Some("a secret that strangers do not know".to_owned());
    let cluster = Cluster::start(2, Options { secret, ..Options::default() }).await;
    let mut witness = Witness::start(&cluster, 1, 0).await;
    let rejected = async || cluster.metrics(0).await.sum(names::GOSSIP_REJECTED, &[]);
    let before = rejected().await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.connect(cluster.node(0).ports.peer).await.unwrap();
    for number in 0..DATAGRAMS {
        let length = [0, 1, 16, 41, 100, 1_200, 9_000, 65_507][number as usize % 8];
        let mut bytes = noise(u64::from(number), length);
        if let (Some(first), true) = (bytes.first_mut(), number % 2 == 0) {
            // What may be a lawful version.
            *first = 1;
        }
        let _ = stranger.send(&bytes).await;
        if number % 50 == 0 {
            witness.sees_nothing(&cluster, "junk datagrams").await;
        }
    }
    // Some may have been dropped by the system where the socket was full.
    cluster
        .eventually("they are counted", PATIENCE, async || {
            let count = rejected().await - before;
            (count > f64::from(DATAGRAMS / 4)).then_some(()).ok_or_else(|| format!("{count}"))
        })
        .await;
    let mut buffer = [0; 64];
    let answer = stranger.try_recv(&mut buffer);
    assert!(answer.is_err(), "a stranger got an answer of {answer:?} bytes");
    cluster.eventually_all_see("nobody was lost", PATIENCE, &["a", "b"]).await;
}

/// A datagram of a member, heard on the way and sent again from elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replayed_datagrams_get_no_answer_and_are_counted() {
    const REPLAYS: u32 = 100;
    let listener = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let secret = Some("a secret that strangers do not know".to_owned());
    let mut cluster =
        Cluster::start(1, Options { secret: secret.clone(), ..Options::default() }).await;
    // Node b gossips to a seed that is the listener.
    let seed = listener.local_addr().unwrap().to_string();
    cluster.add(&Options { secret, seeds: vec![seed], ..Options::default() });
    let mut heard = vec![0; 65_536];
    let (length, _) = timeout(PATIENCE, listener.recv_from(&mut heard)).await.unwrap().unwrap();
    heard.truncate(length);

    let rejected = async || cluster.metrics(0).await.sum(names::GOSSIP_REJECTED, &[]);
    let before = rejected().await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.connect(cluster.node(0).ports.peer).await.unwrap();
    for _ in 0..REPLAYS {
        stranger.send(&heard).await.unwrap();
    }
    cluster
        .eventually("replays are counted", PATIENCE, async || {
            let count = rejected().await - before;
            // One of them may have been the first.
            (count >= f64::from(REPLAYS / 2)).then_some(()).ok_or_else(|| format!("{count}"))
        })
        .await;
    let mut buffer = [0; 64];
    assert!(stranger.try_recv(&mut buffer).is_err(), "a stranger got an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_connects_and_says_nothing_is_closed() {
    let options = Options::with_flags(&["--limits-handshake", "1s"]);
    let cluster = Cluster::start(2, options).await;
    let ports = cluster.node(0).ports;
    let silent =
        [("client port", ports.grpc), ("peer port", ports.peer)].map(async |(name, port)| {
            let mut stream = TcpStream::connect(port).await.unwrap();
            let start = cluster.clock().now();
            let mut all = Vec::new();
            let end = timeout(PATIENCE, stream.read_to_end(&mut all)).await;
            assert!(end.is_ok(), "the {name} is still open after {PATIENCE:?}");
            let took = cluster.clock().now().since(start);
            assert!(took > Duration::from_millis(500), "the {name} was closed after {took:?}");
        });
    futures_util::future::join_all(silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepting_survives_without_descriptors() {
    const CLIENTS: usize = 400;
    let _alone = gate::flooding().await;
    let options = Options { descriptors: Some(200), ..Options::default() };
    let cluster = Cluster::start(1, options).await;
    let mut before = cluster.client(0, "before").await;
    before.subscribe_everywhere(&["t"], &[]).await.unwrap();
    let address = cluster.node(0).ports.grpc;
    let mut crowd = Vec::new();
    for _ in 0..CLIENTS {
        // The system takes some that the node can't.
        if let Ok(Ok(mut stream)) =
            timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
            crowd.push(stream);
        }
    }
    assert!(crowd.len() > 200, "only {} connected", crowd.len());
    // Who was there is served all the while.
    before.publish_once("t", "during").await.unwrap();
    assert_eq!(before.message().await.unwrap().text(), "during");
    drop(crowd);
    cluster
        .eventually("new clients are served", Duration::from_secs(20), async || {
            let client = cluster.try_client(0, "after").await;
            client.map(drop).map_err(|error| error.to_string())
        })
        .await;
    before.publish_once("t", "after").await.unwrap();
    assert_eq!(before.message().await.unwrap().text(), "after");
    let log = cluster.node(0).log_text();
    assert!(log.len() < 1 << 20, "the log has {} bytes", log.len());
}
