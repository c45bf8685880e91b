//! Certificates and handshakes as tables: who gets in, and what everybody else gets.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, KeyPair, SanType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::certificate::{Certificate, node_uri};
use super::issue::{Authority, Issued, Validity, authority};
use super::{ClientTls, Front, Material, Part, Pems, Tls};
use crate::net::Stream;
use crate::types::{ClusterName, NodeName};

const DAY_S: i64 = 86_400;
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    authority: Issued,
    foreign: Issued,
}

/// Making keys is what these tests would spend their time with.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let make = |name| authority(name, valid()).unwrap();
    World { authority: make("ours"), foreign: make("theirs") }
});

fn now() -> i64 {
    i64::try_from(crate::supervise::Clock::new().unix_ms() / 1_000).unwrap()
}

fn valid() -> Validity {
    Validity { unix_s: now(), days: 30 }
}

fn signer(issued: &Issued) -> Authority {
    Authority::read(&issued.cert, &issued.key).unwrap()
}

fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

fn cluster(name: &str) -> ClusterName {
    ClusterName::parse(name).unwrap()
}

fn for_node(name: &str) -> Issued {
    signer(&WORLD.authority).node(&cluster("c"), &node(name), &[], valid()).unwrap()
}

fn pems<'a>(own: &'a Issued, peer_ca: Option<&'a str>) -> Pems<'a> {
    Pems { cert: &own.cert, key: &own.key, client_ca: None, peer_ca }
}

/// As a node of this name has it.
fn tls(name: &str, own: &Issued, peer_ca: &Issued) -> Tls {
    let material = Material::judge(pems(own, Some(&peer_ca.cert)), &cluster("c"), &node(name));
    Tls::new(Arc::new(material.unwrap()))
}

/// As whoever made `own` has it, whether it is lawful or not: what a liar would show.
fn liar(own: &Issued, calls: &NodeName) -> rustls::ClientConfig {
    let lawful = tls("a", &for_node("a"), &WORLD.authority);
    let mut config = lawful.material().peer_dialer(calls).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let chain = super::certificate::ders(&own.cert).unwrap();
    let key = rustls::pki_types::pem::PemObject::from_pem_slice(own.key.as_bytes()).unwrap();
    let certified = rustls::sign::CertifiedKey::from_der(chain, key, &provider).unwrap();
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    config
}

#[test]
fn only_the_exact_name_of_a_node_counts() {
    let key = KeyPair::generate().unwrap();
    let named = |uris: &[&str]| {
        let mut params = CertificateParams::default();
        let uri = |uri: &&str| SanType::URI(Ia5String::try_from(*uri).unwrap());
        params.subject_alt_names = uris.iter().map(uri).collect();
        let made = params.self_signed(&key).unwrap();
        Certificate::read(made.der()).unwrap()
    };
    let right = node_uri(&cluster("c"), &node("a"));
    assert_eq!(right, "waxwing://cluster/c/node/a");
    assert!(named(&[&right]).is_node(&cluster("c"), &node("a")));
    for uris in [
        &[][..],
        &["waxwing://cluster/c/node/A"],
        &["waxwing://cluster/C/node/a"],
        &["WAXWING://cluster/c/node/a"],
        &["waxwing://cluster/c/node/a."],
        &["waxwing://cluster/c/node/a/"],
        &["waxwing://cluster/c/node/a\0"],
        &["waxwing://cluster/c/node/a\0.evil"],
        &["waxwing://cluster/c/node/*"],
        &["waxwing://cluster/c/node/"],
        &["waxwing://cluster/c/node/b"],
        &["waxwing://cluster/c/node/a/node/a"],
        &["waxwing://cluster/*/node/a"],
        &["waxwing://cluster/c/node/%61"],
        &["waxwing://cluster/c/node/a?"],
        &["http://waxwing://cluster/c/node/a"],
        &[" waxwing://cluster/c/node/a"],
        // More than one name is no name.
        &["waxwing://cluster/c/node/a", "waxwing://cluster/c/node/a"],
        &["waxwing://cluster/c/node/a", "waxwing://cluster/c/node/b"],
        &["waxwing://cluster/c/node/a", "http://elsewhere"],
    ] {
        assert!(!named(uris).is_node(&cluster("c"), &node("a")), "{uris:?}");
    }
}

#[test]
fn what_is_no_certificate_is_an_error() {
    for bytes in [&b""[..], b"junk", &[0x30; 4000], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]] {
        assert!(Certificate::read(bytes).is_err());
    }
    let der = super::certificate::ders(&WORLD.authority.cert).unwrap();
    let longer = [&der[0][..], b"x"].concat();
    assert!(Certificate::read(&longer).is_err());
    for end in 0..der[0].len() {
        assert!(Certificate::read(&der[0][..end]).is_err());
    }
    for text in ["", "junk", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
        assert!(Certificate::read_pem(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_nodes_files_are_judged_whole() {
    let world = &*WORLD;
    let signer = signer(&world.authority);
    let own = for_node("a");
    let other = for_node("b");
    let client = signer.client("a", valid()).unwrap();
    let long_ago = Validity { unix_s: now() - 100 * DAY_S, days: 10 };
    let expired = signer.node(&cluster("c"), &node("a"), &[], long_ago).unwrap();
    let in_time = Validity { unix_s: now() + 10 * DAY_S, days: 10 };
    let early = signer.node(&cluster("c"), &node("a"), &[], in_time).unwrap();
    let elsewhere = signer.node(&cluster("d"), &node("a"), &[], valid()).unwrap();
    let check = |pems: Pems<'_>, wanted: &[(Part, &str)]| {
        let wrong = match Material::judge(pems, &cluster("c"), &node("a")) {
            Ok(_) => Vec::new(),
            Err(wrong) => wrong,
        };
        assert_eq!(wrong.len(), wanted.len(), "{wrong:?}");
        for (wrong, (part, says)) in wrong.iter().zip(wanted) {
            assert_eq!(wrong.part, *part, "{wrong:?}");
            assert!(wrong.what.contains(says), "{wrong:?}");
            assert!(!wrong.what.contains("PRIVATE"), "{wrong:?}");
        }
    };
    let ca = Some(world.authority.cert.as_str());
    check(pems(&own, None), &[]);
    check(pems(&own, ca), &[]);
    check(Pems { client_ca: ca, ..pems(&own, ca) }, &[]);
    // To its clients a node need not be a node.
    check(pems(&elsewhere, None), &[]);
    check(Pems { key: &other.key, ..pems(&own, ca) }, &[(Part::Key, "is not the key of")]);
    check(pems(&other, ca), &[(Part::Cert, "is that of node b of cluster c")]);
    check(pems(&elsewhere, ca), &[(Part::Cert, "is that of node a of cluster d")]);
    check(pems(&client, ca), &[(Part::Cert, "is not made for answering")]);
    check(pems(&expired, ca), &[(Part::Cert, "has expired")]);
    check(pems(&early, ca), &[(Part::Cert, "is not valid before")]);
    check(pems(&own, Some(&world.foreign.cert)), &[(Part::Cert, "not signed by that authority")]);
    check(
        Pems { cert: "", key: "no key", client_ca: Some("x"), peer_ca: Some("") },
        &[
            (Part::Cert, "no certificate"),
            (Part::Cert, "no certificate"),
            (Part::Key, "no private key"),
            (Part::ClientCa, "no certificate"),
            (Part::PeerCa, "no certificate"),
        ],
    );
}

/// What came of a call from `caller`, who means to reach `calls`, to a node with this certificate.
async fn call(caller: rustls::ClientConfig, acceptor: &Tls) -> Result<NodeName, String> {
    let (near, far) = duplex(1 << 20);
    let (mut accepted, name) = acceptor.accept_peer(Stream::Other(Box::new(far))).unwrap();
    let dialing = async {
        let server = rustls::pki_types::ServerName::try_from("waxwing.invalid").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(caller));
        let mut stream =
            connector.connect(server, near).await.map_err(|e| format!("dialer: {e}"))?;
        stream.write_all(b"hello").await.map_err(|e| format!("dialer: {e}"))?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.map_err(|e| format!("dialer: {e}"))?;
        Ok(())
    };
    // It closes when it is done.
    let accepting = async move {
        let mut heard = [0; 5];
        accepted.read_exact(&mut heard).await.map_err(|e| format!("acceptor: {e}"))?;
        accepted.write_all(&heard).await.map_err(|e| format!("acceptor: {e}"))?;
        accepted.flush().await.map_err(|e| format!("acceptor: {e}"))?;
        Ok::<_, String>(name.get().cloned())
    };
    let both = async { tokio::join!(dialing, accepting) };
    let (dialed, accepted) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    let name: Option<NodeName> = accepted?;
    dialed.map(|()| name.unwrap())
}

#[tokio::test]
async fn peers_take_each_other_and_nobody_else() {
    let world = &*WORLD;
    let (ours, theirs) = (signer(&world.authority), signer(&world.foreign));
    let a = for_node("a");
    let b = tls("b", &for_node("b"), &world.authority);
    let dialer =
        |calls| tls("a", &a, &world.authority).material().peer_dialer(&node(calls)).unwrap();
    assert_eq!(call(dialer("b"), &b).await, Ok(node("a")));

    // It is not the node that was wanted.
    let refused = call(dialer("x"), &b).await.unwrap_err();
    assert!(refused.contains("acceptor"), "{refused}");

    let long_ago = Validity { unix_s: now() - 100 * DAY_S, days: 10 };
    for (what, shown) in [
        ("another authority's", theirs.node(&cluster("c"), &node("a"), &[], valid())),
        ("another cluster's", ours.node(&cluster("d"), &node("a"), &[], valid())),
        ("a client's", ours.client("a", valid())),
        ("an expired one", ours.node(&cluster("c"), &node("a"), &[], long_ago)),
    ] {
        let refused = call(liar(&shown.unwrap(), &node("b")), &b).await.unwrap_err();
        assert!(refused.contains("acceptor: "), "{what}: {refused}");
    }
    let mut without = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .dangerous()
    .with_custom_certificate_verifier(Arc::new(TakesAll))
    .with_no_client_auth();
    without.alpn_protocols = dialer("b").alpn_protocols;
    assert!(call(without, &b).await.unwrap_err().contains("acceptor: "));
    // A client's protocol at the peer port.
    let mut as_client = dialer("b");
    as_client.alpn_protocols = vec![b"h2".to_vec()];
    assert!(call(as_client, &b).await.is_err());
}

/// A caller that doesn't care whom it talks to.
#[derive(Debug)]
struct TakesAll;

impl rustls::client::danger::ServerCertVerifier for TakesAll {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[tokio::test]
async fn a_stranger_costs_no_more_than_a_handshake() {
    let b = tls("b", &for_node("b"), &WORLD.authority);
    let mut endless = vec![0x16, 0x03, 0x01, 0x40, 0x00];
    endless.extend(std::iter::repeat_n(0, 40 << 10));
    // Handshake messages of the largest announced size, never whole.
    let mut large = Vec::new();
    for _ in 0..8 {
        large.extend([0x16, 0x03, 0x01, 0x10, 0x00]);
        if large.len() == 5 {
            large.extend([0x01, 0x00, 0xff, 0xff]);
            large.extend(std::iter::repeat_n(0, 0x1000 - 4));
        } else {
            large.extend(std::iter::repeat_n(0, 0x1000));
        }
    }
    for junk in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0; 100], endless, large] {
        for front in [None, Some(Front::Grpc)] {
            let (mut near, far) = duplex(64 << 10);
            let far = Stream::Other(Box::new(far));
            let mut accepted = match front {
                None => b.accept_peer(far).unwrap().0,
                Some(front) => b.accept(front, far),
            };
            near.write_all(&junk).await.unwrap();
            let read = tokio::time::timeout(PATIENCE, accepted.read_u8()).await.unwrap();
            assert!(read.is_err());
            assert!(accepted.write_all(b"x").await.is_err(), "a failed one stays so");
        }
    }
}

#[tokio::test]
async fn clients_check_the_node_and_are_asked_for_a_certificate() {
    let world = &*WORLD;
    let own = for_node("a");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client_ca = Some(world.authority.cert.as_str());
    let open = Material::judge(pems(&own, None), &cluster("c"), &node("a")).unwrap();
    let asking = Pems { client_ca, ..pems(&own, None) };
    let asking = Material::judge(asking, &cluster("c"), &node("a")).unwrap();
    assert!(asking.asks_clients() && !open.asks_clients());
    let tls = Tls::new(Arc::new(open));
    let ours = signer(&world.authority).client("one", valid()).unwrap();
    let theirs = signer(&world.foreign).client("one", valid()).unwrap();
    let trusting = |ca: &Issued, own: Option<&Issued>| {
        ClientTls::new(&ca.cert, own.map(|own| (own.cert.as_str(), own.key.as_str()))).unwrap()
    };
    // A client hears that its certificate is refused when it first reads.
    let call = async |client: ClientTls, host: &str| {
        let accepting = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = tls.accept(Front::Grpc, stream.into());
            let _ = stream.write_all(b"x").await;
            let _ = stream.flush().await;
            let _ = stream.read_u8().await;
        };
        let calling = async {
            let mut stream = client.connect(host, port).await.ok()?;
            stream.read_u8().await.ok()
        };
        tokio::join!(accepting, calling).1.is_some()
    };
    assert!(call(trusting(&world.authority, None), "localhost").await);
    assert!(call(trusting(&world.authority, Some(&ours)), "127.0.0.1").await);
    assert!(!call(trusting(&world.foreign, None), "localhost").await);
    // Reading the files again holds from the next handshake on.
    tls.set(Arc::new(asking));
    assert!(!call(trusting(&world.authority, None), "localhost").await);
    assert!(!call(trusting(&world.authority, Some(&theirs)), "localhost").await);
    assert!(call(trusting(&world.authority, Some(&ours)), "localhost").await);

    assert!(ClientTls::new("junk", None).is_err());
    let mixed = ClientTls::new(&world.authority.cert, Some((&ours.cert, &theirs.key)));
    assert!(mixed.is_err());
}
