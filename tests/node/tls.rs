//! Nodes with TLS on every port: their clients and each other.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use waxwing::client::{Client, ClientTls, Options};
use waxwing::config::Config;
use waxwing::link::Direction;
use waxwing::tls::issue::{Authority, Issued, Validity, authority};
use waxwing::tls::{Material, Pems};
use waxwing::types::{ClusterName, NodeName};

use crate::cluster::{Cluster, publish, texts, within};

pub(crate) fn valid() -> Validity {
    let unix_s = waxwing::supervise::Clock::new().unix_ms() / 1_000;
    Validity { unix_s: i64::try_from(unix_s).unwrap(), days: 30 }
}

pub(crate) fn config(ca: &Issued, name: &str) -> Config {
    let mut config = Config::for_test(name);
    let signer = Authority::read(&ca.cert, &ca.key).unwrap();
    let (cluster, node) = (&config.cluster.name, &config.node.name);
    let own = signer.node(cluster, node, &[], valid()).unwrap();
    config.tls.material = Some(Arc::new(judge(&own, ca, cluster, node)));
    config
}

fn judge(own: &Issued, ca: &Issued, cluster: &ClusterName, node: &NodeName) -> Material {
    let peer_ca = Some(ca.cert.as_str());
    let pems = Pems { cert: &own.cert, key: &own.key, client_ca: None, peer_ca };
    Material::judge(pems, cluster, node).unwrap()
}

/// Believes that authority, and shows no certificate.
pub(crate) fn connector(ca: &Issued) -> TlsConnector {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.cert.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config).into()
}

/// Speaks TLS to a port of the node; which protocol, the caller knows.
async fn dial(ca: &Issued, port: std::net::SocketAddr) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(port).await.unwrap();
    let host = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    within("hands are shaken", connector(ca).connect(host, tcp)).await.unwrap()
}

async fn client(ca: &Issued, cluster: &Cluster, node: &str) -> (Client, waxwing::client::Events) {
    let mut options = Options::new([cluster.node(node).bound().grpc.to_string()]);
    options.tls = Some(ClientTls::new(&ca.cert, None).unwrap());
    within("a client attaches", Client::connect(options)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_port_speaks_tls_and_nothing_else() {
    let ca = authority("test", valid()).unwrap();
    let mut cluster = Cluster::empty();
    cluster.add_with(config(&ca, "a")).await;
    let mut b = config(&ca, "b");
    b.cluster.seeds = vec![cluster.node("a").bound().peer.to_string()];
    cluster.add_with(b).await;
    cluster.converged(&["a", "b"]).await;

    // gRPC, across nodes.
    let (subscriber, mut events) = client(&ca, &cluster, "a").await;
    subscriber.subscribe(["room"], [""; 0]).await.unwrap();
    let (publisher, _) = client(&ca, &cluster, "b").await;
    assert_eq!(publish(&publisher, "room", "sealed").await.subscriptions, 1);
    assert_eq!(texts(&mut events, 1).await, ["sealed"]);

    // Redis: from a command that fits into one record to what needs many.
    let redis = cluster.node("b").bound().redis.unwrap();
    let mut reader = dial(&ca, redis).await;
    reader.write_all(b"SUBSCRIBE room\r\n").await.unwrap();
    let mut told = [0; b"*3\r\n$9\r\nsubscribe\r\n$4\r\nroom\r\n:1\r\n".len()];
    within("a subscription is acknowledged", reader.read_exact(&mut told)).await.unwrap();
    let mut writer = dial(&ca, redis).await;
    let sizes = [0, 1, 1 << 10, 16 << 10, (16 << 10) + 1, 64 << 10, 500_000, 1 << 20];
    let mut asked = Vec::new();
    let mut expected = Vec::new();
    for size in sizes {
        let payload = vec![b'p'; size];
        asked.extend(format!("*3\r\n$7\r\nPUBLISH\r\n$4\r\nroom\r\n${size}\r\n").into_bytes());
        asked.extend(&payload);
        asked.extend(b"\r\n");
        expected.extend(format!("*3\r\n$7\r\nmessage\r\n$4\r\nroom\r\n${size}\r\n").into_bytes());
        expected.extend(&payload);
        expected.extend(b"\r\n");
    }
    let talk = async {
        writer.write_all(&asked).await.unwrap();
        writer.flush().await.unwrap();
        let mut answers = vec![0; b":2\r\n".len() * sizes.len()];
        writer.read_exact(&mut answers).await.unwrap();
        assert_eq!(answers, b":2\r\n".repeat(sizes.len()));
    };
    let mut got = vec![0; expected.len()];
    let hear = within("all messages arrive", reader.read_exact(&mut got));
    let (_, heard) = tokio::join!(within("all publishes are answered", talk), hear);
    heard.unwrap();
    assert!(got == expected, "the bytes differ");
    writer.write_all(b"QUIT\r\n").await.unwrap();
    let mut rest = Vec::new();
    within("it is closed in order", writer.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"+OK\r\n");

    // HTTP.
    let mut http = dial(&ca, cluster.node("a").bound().http.unwrap()).await;
    http.write_all(b"GET /status HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut page = String::new();
    within("a page comes", http.read_to_string(&mut page)).await.unwrap();
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("certificate_expires"), "{page}");

    // In the clear nobody is answered but by an alert.
    let bound = cluster.node("a").bound();
    for (port, said) in [
        (bound.grpc, &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..]),
        (bound.peer, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
        (bound.http.unwrap(), b"GET /status HTTP/1.1\r\nhost: a\r\n\r\n"),
        (bound.redis.unwrap(), b"PING\r\n"),
    ] {
        let mut stranger = TcpStream::connect(port).await.unwrap();
        stranger.write_all(said).await.unwrap();
        let mut rest = Vec::new();
        let _ = within("a stranger is closed", stranger.read_to_end(&mut rest)).await;
        assert!(rest.len() <= 7 && rest.first().is_none_or(|byte| *byte == 0x15), "{rest:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_foreign_certificate_gets_no_link() {
    let ca = authority("test", valid()).unwrap();
    let foreign = authority("foreign", valid()).unwrap();
    let mut cluster = Cluster::empty();
    cluster.add_with(config(&ca, "a")).await;
    let mut b = config(&foreign, "b");
    b.cluster.seeds = vec![cluster.node("a").bound().peer.to_string()];
    cluster.add_with(b).await;
    // Gossip has its own secret; links want certificates, in both directions.
    cluster
        .eventually("both say why there is no link", |node| {
            let mut links = node.links().report().into_iter();
            links.any(|link| {
                link.direction == Direction::Out
                    && link.problem.as_ref().is_some_and(|why| why.starts_with("TLS: "))
            })
        })
        .await;
    let b = NodeName::parse("b").unwrap();
    let incarnation = cluster.node("b").membership().me().incarnation;
    assert!(!cluster.node("a").links().connected(&b, incarnation));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_replaced_without_a_stop() {
    let ca = authority("test", valid()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let write = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let new = place("new");
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(&new, place(name)).unwrap();
    };
    let mut config = config(&ca, "a");
    let signer = Authority::read(&ca.cert, &ca.key).unwrap();
    let make = |days| {
        let validity = Validity { days, ..valid() };
        signer.node(&config.cluster.name, &config.node.name, &[], validity).unwrap()
    };
    let (first, second) = (make(10), make(20));
    write("a.pem", &first.cert);
    write("a.key", &first.key);
    config.tls.cert = Some(place("a.pem"));
    config.tls.key = Some(place("a.key"));
    config.tls = config.reload_tls().unwrap();
    let node = waxwing::node::Node::start(config, waxwing::telemetry::LogLevel::detached());
    let node = node.await.unwrap();
    let handle = node.handle();
    let looked = async {
        let before = handle.status().report().node.certificate_expires;
        let port = handle.bound().redis.unwrap();
        let mut old = dial(&ca, port).await;
        // First the certificate alone: its key is not there yet, and nothing changes.
        write("a.pem", &second.cert);
        write("a.key", &second.key);
        let changed = async {
            while handle.status().report().node.certificate_expires == before {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        within("the new certificate is taken", changed).await;
        let new = dial(&ca, port).await;
        let shown = |stream: &TlsStream<TcpStream>| {
            stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
        };
        assert_ne!(shown(&old), shown(&new));
        // Who was there goes on.
        old.write_all(b"PING\r\n").await.unwrap();
        let mut pong = [0; 7];
        within("an answer", old.read_exact(&mut pong)).await.unwrap();
        assert_eq!(&pong, b"+PONG\r\n");
        handle.supervisor().shutdown().cancel();
    };
    let (ran, ()) =
        within("it ends", async { tokio::join!(Box::pin(node.run()), Box::pin(looked)) }).await;
    ran.unwrap();
}
