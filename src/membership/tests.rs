//! Several nodes in one process, on real sockets of loopback.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;

use super::envelope::{Envelope, Kind, Piece, Sender};
use super::*;
use crate::supervise::{Clock, Shutdown, Supervisor};
use crate::types::ClusterName;

/// Long enough for a machine that does much else; nothing waits for so long when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct Node {
    name: NodeName,
    address: SocketAddr,
    handle: MembershipHandle,
    supervisor: Supervisor,
}

struct Setting {
    name: &'static str,
    address: Option<SocketAddr>,
    seeds: Vec<SocketAddr>,
    secret: Option<&'static str>,
    dial: Vec<(&'static str, SocketAddr)>,
    forget_after: Duration,
    incarnations: Option<Arc<dyn IncarnationStore>>,
}

fn node(name: &'static str) -> Setting {
    Setting {
        name,
        address: None,
        seeds: Vec::new(),
        secret: Some("secret"),
        dial: Vec::new(),
        forget_after: Duration::from_secs(600),
        incarnations: None,
    }
}

/// So long, and so hard to compress, that one message with five rows needs several datagrams.
fn long_version(name: &str) -> String {
    use sha2::Digest;
    let mut digest = sha2::Sha256::digest(name);
    let mut text = String::new();
    while text.len() < 900 {
        digest = sha2::Sha256::digest(digest);
        digest.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
    }
    text
}

fn name(text: &str) -> NodeName {
    NodeName::parse(text).unwrap()
}

async fn bind() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

impl Setting {
    fn seeds(mut self, seeds: &[SocketAddr]) -> Self {
        self.seeds = seeds.to_vec();
        self
    }

    async fn try_start(self) -> Result<Node, MembershipError> {
        let socket = match self.address {
            None => bind().await,
            Some(address) => {
                let bound = eventually("the address is free again", || async move {
                    UdpSocket::bind(address).await.ok()
                });
                bound.await
            }
        };
        let address = socket.local_addr().unwrap();
        let config = MembershipConfig {
            name: name(self.name),
            cluster: ClusterName::parse("test").unwrap(),
            seeds: self.seeds.iter().map(ToString::to_string).collect(),
            secrets: self.secret.iter().map(|it| Secret::new(it.as_bytes().to_vec())).collect(),
            dial: self.dial.iter().map(|(of, to)| (name(of), *to)).collect(),
            gossip_interval: Duration::from_millis(200),
            forget_after: self.forget_after,
            advertised: Addresses {
                grpc: "127.0.0.1:1".to_owned(),
                peer: address.to_string(),
                http: String::new(),
            },
            version: long_version(self.name),
            members_max: 16,
            message_max: 64 << 10,
            incarnations: self.incarnations,
        };
        let supervisor = Supervisor::new(Shutdown::new());
        let membership = Membership::start(config, socket, &supervisor, Clock::new())
            .await
            .inspect_err(|_| {
                supervisor.shutdown().cancel();
            })?;
        membership.handle().set_state(MemberState::Ready);
        Ok(Node { name: name(self.name), address, handle: membership.handle(), supervisor })
    }

    async fn start(self) -> Node {
        self.try_start().await.unwrap()
    }
}

impl Node {
    /// As by SIGKILL: no farewell, and the socket is closed.
    async fn kill(self) -> SocketAddr {
        self.supervisor.shutdown().cancel();
        self.supervisor.all_ended().await;
        self.address
    }

    /// `name:state@incarnation`; without the incarnation of others.
    fn sees(&self) -> String {
        let members = self.handle.members();
        let rows = members.iter().map(|member| format!("{} {}", member.name, member.state));
        rows.collect::<Vec<_>>().join(", ")
    }

    fn member(&self, of: &Node) -> Option<Member> {
        self.handle.members().get(&of.name).cloned()
    }

    fn rejected(&self, reason: &str) -> u64 {
        let all = self.handle.gossip_rejected();
        all.iter().find(|(why, _)| *why == reason).map_or(0, |(_, count)| *count)
    }

    fn codes(&self) -> Vec<&'static str> {
        self.handle.problems().iter().map(|problem| problem.code).collect()
    }
}

async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let wait = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// Waits until every node sees this; otherwise fails with what each sees.
async fn all_see(nodes: &[&Node], expected: &str) {
    let holds = async {
        while nodes.iter().any(|node| node.sees() != expected) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, holds).await.is_err() {
        let seen: Vec<_> = nodes.iter().map(|node| (&node.name, node.sees())).collect();
        panic!("not all see {expected:?}: {seen:#?}");
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    eventually(what, || std::future::ready(holds().then_some(()))).await;
}

async fn three() -> (Node, Node, Node) {
    let a = node("a").start().await;
    let (b, c) =
        tokio::join!(node("b").seeds(&[a.address]).start(), node("c").seeds(&[a.address]).start());
    all_see(&[&a, &b, &c], "a ready, b ready, c ready").await;
    (a, b, c)
}

#[tokio::test]
async fn five_meet_whoever_starts_first() {
    // Every node has the last one, which starts at the end, as its only seed; so nobody answers the first four.
    let last = bind().await;
    let seed = last.local_addr().unwrap();
    drop(last);
    let start = |it: Setting| it.seeds(&[seed]).start();
    let (a, b, c, d) =
        tokio::join!(start(node("a")), start(node("b")), start(node("c")), start(node("d")));
    let e = Setting { address: Some(seed), ..node("e") }.seeds(&[seed]).start().await;
    all_see(&[&a, &b, &c, &d, &e], "a ready, b ready, c ready, d ready, e ready").await;
    let seen = a.member(&e).unwrap();
    assert_eq!(seen.incarnation, e.handle.me().incarnation);
    assert_eq!(seen.addresses, e.handle.me().addresses);
    assert_eq!(seen.version, long_version("e"));
    assert!(a.handle.isolated().is_none() && a.handle.problems().is_empty());
}

#[tokio::test]
async fn one_that_stops_is_down_and_comes_back_as_another_incarnation() {
    let (a, b, c) = three().await;
    let before = a.member(&c).unwrap().incarnation;
    let replica = a.member(&c).unwrap().replica();
    let address = c.kill().await;
    all_see(&[&a, &b], "a ready, b ready, c down").await;
    // Silence alone is no proof.
    assert!(!a.handle.confirmed_dead(&replica));
    let c = Setting { address: Some(address), ..node("c") }.seeds(&[b.address]).start().await;
    all_see(&[&a, &b, &c], "a ready, b ready, c ready").await;
    assert!(c.handle.me().incarnation > before);
    assert!(a.handle.confirmed_dead(&replica));
    assert_eq!(a.member(&c).unwrap().incarnation, c.handle.me().incarnation);
    // The others tell c of the run before, which has the address of this one. It gossips to it for as long as it counts as down.
    let old = replica.incarnation;
    until("c knows of its earlier run", || {
        c.handle.shared.core.lock().view.all_addresses().any(|(_, it)| it == address)
    })
    .await;
    c.handle.shared.wire.send_control(address, &Control::Liveness).await;
    let mut insider = Insider { of: ("c", address, old), ..Insider::new().await };
    insider.send(address, Kind::Control, b"", 0).await;
    until("what the earlier run sent is dropped", || c.rejected("earlier_self") == 1).await;
    assert_eq!([&a, &b, &c].map(|node| node.rejected("reflected")), [0; 3]);
}

#[tokio::test]
async fn links_make_death_certain_and_early() {
    let (a, b, c) = three().await;
    let replica = a.member(&c).unwrap().replica();
    let mut a_view = a.handle.watch();
    c.kill().await;
    let refused = async {
        a.handle.evidence(&replica.name, replica.incarnation, LinkEvidence::Ended);
        loop {
            a.handle.evidence(&replica.name, replica.incarnation, LinkEvidence::Refused);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let down = a_view.wait_for(|members| {
        members.get(&replica.name).is_some_and(|member| member.state == MemberState::Down)
    });
    tokio::select! {
        down = down => drop(down.unwrap()),
        () = refused => {}
        () = tokio::time::sleep(PATIENCE) => panic!("never down"),
    }
    assert!(a.handle.confirmed_dead(&replica));
    all_see(&[&a, &b], "a ready, b ready, c down").await;
}

#[tokio::test]
async fn one_that_leaves_is_gone_and_not_down() {
    let (a, b, c) = three().await;
    let mut views = [a.handle.watch(), b.handle.watch()];
    c.handle.leave().await;
    all_see(&[&a, &b], "a ready, b ready").await;
    for view in &mut views {
        let down = |member: &Member| member.state == MemberState::Down;
        assert!(!view.borrow_and_update().iter().any(down));
    }
    assert_eq!(c.handle.me().state, MemberState::Leaving);
    // Another one may have the name at once, at another address too.
    let c = node("c").seeds(&[a.address]).start().await;
    all_see(&[&a, &b, &c], "a ready, b ready, c ready").await;
}

#[tokio::test]
async fn a_member_down_for_long_is_forgotten() {
    let forget_after = Duration::from_secs(1);
    let a = Setting { forget_after, ..node("a") }.start().await;
    let b = Setting { forget_after, ..node("b") }.seeds(&[a.address]).start().await;
    all_see(&[&a, &b], "a ready, b ready").await;
    let gone = a.member(&b).unwrap().replica();
    b.kill().await;
    all_see(&[&a], "a ready").await;
    assert!(a.handle.confirmed_dead(&gone));
}

#[tokio::test]
async fn a_name_in_use_is_refused_from_another_address() {
    let (a, b, c) = three().await;
    let error = node("b").seeds(&[a.address]).try_start().await.unwrap_err().to_string();
    let expected = format!("name `b` is in use by {}, seen 0.", b.address);
    assert!(error.starts_with(&expected), "{error}");
    // One that could ask nobody is found out when it gossips.
    let newcomer = node("b").start().await;
    let joined = newcomer.handle.join(vec![c.address.to_string()]).await.unwrap_err();
    assert!(joined.to_string().contains("is in use by"), "{joined}");
    until("both sides say so", || {
        let newcomer_knows = newcomer.handle.isolated().is_some_and(|why| why.contains("in use"));
        newcomer_knows
            && [&a, &b, &c, &newcomer].iter().all(|node| node.codes().contains(&"name_in_use"))
    })
    .await;
    for node in [&a, &c] {
        let shown = node.member(&b).unwrap();
        assert_eq!(shown.addresses.peer, b.address.to_string());
        assert_eq!(shown.incarnation, b.handle.me().incarnation);
    }
    assert!(b.handle.isolated().is_none());
    // When the holder is gone, the newcomer has the name.
    let old = b.kill().await;
    until("the newcomer is let in", || {
        [&a, &c].iter().all(|node| {
            node.member(&newcomer).is_some_and(|member| {
                member.state == MemberState::Ready && member.addresses.peer != old.to_string()
            })
        })
    })
    .await;
    until("no problem is left", || [&a, &c, &newcomer].iter().all(|node| node.codes().is_empty()))
        .await;
}

#[tokio::test]
async fn a_higher_incarnation_of_oneself_makes_one_rise() {
    #[derive(Debug)]
    struct Fixed(parking_lot::Mutex<u64>);
    impl IncarnationStore for Fixed {
        fn highest(&self) -> Incarnation {
            Incarnation(*self.0.lock())
        }
        fn store(&self, incarnation: Incarnation) -> std::io::Result<()> {
            *self.0.lock() = incarnation.0;
            Ok(())
        }
    }
    let ahead = 1 << 50;
    let a = node("a").start().await;
    let store: Arc<dyn IncarnationStore> = Arc::new(Fixed(parking_lot::Mutex::new(ahead)));
    let b = Setting { incarnations: Some(store), ..node("b") }.seeds(&[a.address]).start().await;
    assert_eq!(b.handle.me().incarnation, Incarnation(ahead + 1));
    all_see(&[&a, &b], "a ready, b ready").await;
    let address = b.kill().await;
    // Its disk is lost, and it asks nobody: it starts far below.
    let b = Setting { address: Some(address), ..node("b") }.start().await;
    assert!(b.handle.me().incarnation < Incarnation(ahead));
    b.handle.join(vec![a.address.to_string()]).await.unwrap();
    until("it has risen", || b.handle.me().incarnation > Incarnation(ahead + 1)).await;
    let risen = b.handle.me().incarnation;
    until("and is seen so", || a.member(&b).is_some_and(|member| member.incarnation == risen))
        .await;
    all_see(&[&a, &b], "a ready, b ready").await;
}

#[tokio::test]
async fn strangers_get_nothing() {
    let (a, _b, _c) = three().await;
    let stranger = bind().await;
    let sealed = |cluster: &str, secret: &str| {
        let cluster = ClusterName::parse(cluster).unwrap();
        let ring = Keyring::new(&cluster, &[Secret::new(secret.as_bytes().to_vec())]);
        ring.seal([1; 24], &[1; 100]).unwrap()
    };
    let plain_chitchat = [0x53, 0xb0, 0, 0, 0, 0, 4, 0, b't', b'e', b's', b't'];
    for (datagram, reason) in [
        (vec![7; 10], "length"),
        (vec![1; 1_201], "length"),
        (vec![1; 9_000], "length"),
        (plain_chitchat.repeat(20), "version"),
        (vec![1; 400], "key"),
        (sealed("test", "another"), "key"),
        (sealed("other", "secret"), "seal"),
        // The right key, but nothing of ours inside.
        (sealed("test", "secret"), "decode"),
    ] {
        let before = a.rejected(reason);
        stranger.send_to(&datagram, a.address).await.unwrap();
        until(reason, || a.rejected(reason) == before + 1).await;
    }
    let nothing = stranger.try_recv(&mut [0; 9]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(a.sees(), "a ready, b ready, c ready");
}

/// What a member with a bug, or one that lies, can send: it has the key.
struct Insider {
    socket: UdpSocket,
    ring: Keyring,
    sequence: u64,
    of: (&'static str, SocketAddr, Incarnation),
}

impl Insider {
    async fn new() -> Self {
        let cluster = ClusterName::parse("test").unwrap();
        let ring = Keyring::new(&cluster, &[Secret::new(b"secret".to_vec())]);
        let socket = bind().await;
        let of = ("insider", socket.local_addr().unwrap(), Incarnation(1));
        Self { socket, ring, sequence: 0, of }
    }

    async fn send(&mut self, to: SocketAddr, kind: Kind, body: &[u8], late_ms: u64) {
        self.sequence += 1;
        let (of, address, incarnation) = self.of;
        let envelope = Envelope {
            sender: Sender { name: name(of), incarnation, boot: 1, address },
            unix_ms: Clock::new().unix_ms() - late_ms,
            sequence: self.sequence,
            heard_ms: None,
            piece: Piece { message: 1, index: 0, count: 1 },
            kind,
        };
        let nonce = [u8::try_from(self.sequence).unwrap(); 24];
        let datagram = self.ring.seal(nonce, &envelope.encode(body).unwrap()).unwrap();
        self.socket.send_to(&datagram, to).await.unwrap();
    }
}

#[tokio::test]
async fn nonsense_under_a_good_seal_is_dropped_and_does_no_harm() {
    let (a, b, c) = three().await;
    let mut insider = Insider::new().await;
    // chitchat would panic on this one's key.
    let mut key = vec![0x53, 0xb0, 0, 2, 2, 0, 0];
    let node = chitchat::ChitchatId::new("b", 1, insider.socket.local_addr().unwrap());
    key.push(0);
    chitchat::Serializable::serialize(&node, &mut key);
    key.extend([0; 16]);
    key.push(1);
    chitchat::Serializable::serialize("é", &mut key);
    chitchat::Serializable::serialize("", &mut key);
    key.extend([1, 0, 0, 0, 0, 0, 0, 0, 0]);
    let len = u16::try_from(key.len() - 7).unwrap().to_le_bytes();
    key[5..7].copy_from_slice(&len);
    key.push(0);
    for (kind, body, late_ms, reason) in [
        (Kind::Control, &b""[..], 0, "decode"),
        (Kind::Control, &[1, 99], 0, "decode"),
        (Kind::Gossip, b"", 0, "content"),
        (Kind::Gossip, b"junk", 0, "content"),
        (Kind::Gossip, &key, 0, "content"),
        (Kind::Gossip, b"late", 45_000, "clock"),
    ] {
        let before = a.rejected(reason);
        insider.send(a.address, kind, body, late_ms).await;
        until(reason, || a.rejected(reason) == before + 1).await;
    }
    until("the wrong clock is told of", || {
        a.handle.problems().iter().any(|problem| {
            problem.code == "clock_skew"
                && problem.message.starts_with("the clock of `insider` is over 40 s behind")
        })
    })
    .await;
    b.handle.set_state(MemberState::Draining);
    all_see(&[&a, &b, &c], "a ready, b draining, c ready").await;
}

#[tokio::test]
async fn links_that_all_fail_isolate_a_node() {
    let (a, b, c) = three().await;
    let tell = |evidence: LinkEvidence| {
        for peer in [&b, &c] {
            a.handle.evidence(&peer.name, peer.handle.me().incarnation, evidence);
        }
    };
    tell(LinkEvidence::Ended);
    until("it is isolated", || {
        a.handle.isolated().is_some_and(|why| why.contains("links to all 2 live members fail"))
    })
    .await;
    tell(LinkEvidence::Up);
    until("it is well again", || a.handle.isolated().is_none() && a.codes().is_empty()).await;
}

#[tokio::test]
async fn another_secret_keeps_nodes_apart_until_it_is_given() {
    let a = node("a").start().await;
    let b = Setting { secret: Some("another"), ..node("b") }.seeds(&[a.address]).start().await;
    until("the seed says why", || a.codes().contains(&"unknown_key")).await;
    until("the one that is alone says so", || b.codes().contains(&SEEDS_UNREACHABLE)).await;
    let problem = b.handle.problems().remove(0);
    assert!(problem.message.contains(&a.address.to_string()), "{}", problem.message);
    all_see(&[&a], "a ready").await;
    all_see(&[&b], "b ready").await;
    let secrets = ["secret", "another"].map(|it| Secret::new(it.as_bytes().to_vec()));
    b.handle.set_secrets(&secrets);
    all_see(&[&a, &b], "a ready, b ready").await;
    until("all is well", || a.codes().is_empty() && b.codes().is_empty()).await;
}

/// Passes datagrams on to one address, and keeps a copy of the last; answers go nowhere.
async fn relay(to: SocketAddr, supervisor: &Supervisor) -> (SocketAddr, watch::Receiver<Vec<u8>>) {
    let socket = bind().await;
    let address = socket.local_addr().unwrap();
    let (copy, copies) = watch::channel(Vec::new());
    let shutdown = supervisor.shutdown().clone();
    supervisor.spawn(crate::supervise::Task::Client("relay".to_owned()), async move {
        let mut buffer = [0; 2_000];
        while let Some(Ok((len, _))) =
            shutdown.run_until_cancelled(socket.recv_from(&mut buffer)).await
        {
            let _ = socket.send_to(&buffer[..len], to).await;
            copy.send_replace(buffer[..len].to_vec());
        }
    });
    (address, copies)
}

#[tokio::test]
async fn what_is_for_a_member_goes_where_dial_says() {
    let supervisor = Supervisor::new(Shutdown::new());
    let b = node("b").start().await;
    let (proxy, mut copies) = relay(b.address, &supervisor).await;
    let a = Setting { dial: vec![("b", proxy)], ..node("a") }.seeds(&[b.address]).start().await;
    all_see(&[&a, &b], "a ready, b ready").await;
    assert_eq!(a.handle.dial_address(&b.name), Some(proxy.to_string()));
    assert_eq!(b.handle.dial_address(&a.name), Some(a.address.to_string()));
    copies.wait_for(|copy| !copy.is_empty()).await.unwrap();
    // What was captured on the way can't be used again, from wherever.
    let captured = copies.borrow_and_update().clone();
    let before = b.rejected("replay");
    let thief = bind().await;
    thief.send_to(&captured, b.address).await.unwrap();
    until("it is refused", || b.rejected("replay") > before).await;
    thief.send_to(&captured, a.address).await.unwrap();
    until("its sender refuses it too", || a.rejected("reflected") > 0).await;
    assert!(thief.try_recv(&mut [0; 9]).is_err());
    // Nothing goes past the proxy: without it, b hears nothing of a.
    supervisor.shutdown().cancel();
    all_see(&[&b], "a down, b ready").await;
}

#[tokio::test]
async fn one_that_isn_t_heard_knows_it() {
    let relays = Supervisor::new(Shutdown::new());
    let a = node("a").start().await;
    let b = node("b").seeds(&[a.address]).start().await;
    let (to_a, _) = relay(a.address, &relays).await;
    let (to_b, _) = relay(b.address, &relays).await;
    let c = Setting { dial: vec![("a", to_a), ("b", to_b)], ..node("c") };
    let c = c.seeds(&[a.address]).start().await;
    all_see(&[&a, &b, &c], "a ready, b ready, c ready").await;
    // From now on c sends in vain, and goes on hearing the others.
    relays.shutdown().cancel();
    until("it is isolated", || {
        c.handle.isolated().is_some_and(|why| why.contains("don't hear this node"))
    })
    .await;
    assert!(c.codes().contains(&"isolated"));
    // To the others it is only silent.
    all_see(&[&a, &b], "a ready, b ready, c down").await;
    assert!(a.handle.isolated().is_none() && b.handle.isolated().is_none());
}

#[tokio::test]
async fn members_can_be_joined_later() {
    let (a, b, c) = three().await;
    let lone = node("lone").start().await;
    all_see(&[&lone], "lone ready").await;
    let nowhere = lone.handle.join(vec![lone.address.to_string()]).await.unwrap_err();
    assert!(nowhere.to_string().contains("own"), "{nowhere}");
    let seen = lone.handle.join(vec![b.address.to_string()]).await.unwrap();
    assert_eq!(seen, [name("a"), name("b"), name("c"), name("lone")]);
    all_see(&[&a, &b, &c, &lone], "a ready, b ready, c ready, lone ready").await;
}

#[tokio::test]
async fn nobody_there_is_an_error_that_says_so() {
    let a = node("a").start().await;
    let hole = bind().await;
    let seed = hole.local_addr().unwrap();
    let error = a.handle.join(vec![seed.to_string()]).await.unwrap_err().to_string();
    assert!(error.contains(&seed.to_string()) && error.contains("no answer"), "{error}");
}

#[tokio::test]
async fn states_and_load_reach_everybody() {
    let (a, b, c) = three().await;
    b.handle.set_load(Load { sessions: 12_345, presences: 7 });
    b.handle.set_state(MemberState::Draining);
    all_see(&[&a, &b, &c], "a ready, b draining, c ready").await;
    let coarse = Load { sessions: 12_300, presences: 7 };
    until("the load is seen", || {
        [&a, &b, &c].iter().all(|node| node.member(&b).is_some_and(|it| it.load == coarse))
    })
    .await;
    b.handle.set_state(MemberState::Down);
    assert_eq!(b.handle.me().state, MemberState::Draining);
}

#[tokio::test]
async fn gossip_that_dies_is_healed_and_nobody_notices() {
    let (a, b, c) = three().await;
    let incarnation = b.handle.me().incarnation;
    let mut view = a.handle.watch();
    view.mark_unchanged();
    b.handle.shared.inbox.break_for_test();
    // It works on: a change of its row arrives.
    b.handle.set_state(MemberState::Draining);
    all_see(&[&a, &b, &c], "a ready, b draining, c ready").await;
    b.handle.shared.inbox.break_for_test();
    b.handle.set_state(MemberState::Ready);
    all_see(&[&a, &b, &c], "a ready, b ready, c ready").await;
    assert_eq!(a.member(&b).unwrap().incarnation, incarnation);
}
