//! Nodes on loopback that have links and nothing else: a roster that tests write, a handler that records, a proxy that cuts.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::config::Secret;
use crate::link::{
    ContentItem, Direction, LinkConfig, LinkHandler, LinkInfo, LinkLimits, LinkReport, LinkSource,
    LinkState, Links, LinksHandle, Pace, Roster, VERSIONS,
};
use crate::membership::{
    Addresses, LinkEvidence, Load, Member, MemberState, Members, SharedMembers,
};
use crate::supervise::{Clock, Shutdown, Supervisor, Task};
use crate::types::{ClusterName, Incarnation, LinkEpoch, NodeName, Time};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn name(text: &str) -> NodeName {
    NodeName::parse(text).unwrap()
}

/// Polls until `condition` holds; then returns what it gave.
pub(super) async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(value) = condition() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// The membership that one node sees; a test writes it.
pub(super) struct TestRoster {
    view: watch::Sender<SharedMembers>,
    overrides: Mutex<BTreeMap<NodeName, SocketAddr>>,
    pub evidence: Mutex<Vec<(NodeName, Incarnation, LinkEvidence)>>,
}

impl TestRoster {
    pub(super) fn set(&self, member: Member) {
        self.view.send_modify(|members| {
            Arc::make_mut(members).by_name.insert(member.name.clone(), member);
        });
    }

    pub(super) fn forget(&self, peer: &str) {
        self.view.send_modify(|members| {
            Arc::make_mut(members).by_name.remove(&name(peer));
        });
    }

    pub(super) fn member(&self, of: &str) -> Member {
        self.view.borrow().get(&name(of)).unwrap().clone()
    }

    pub(super) fn dial_at(&self, peer: &str, address: SocketAddr) {
        self.overrides.lock().insert(name(peer), address);
    }

    pub(super) fn saw(&self, peer: &str, evidence: LinkEvidence) -> bool {
        self.evidence.lock().iter().any(|(of, _, saw)| of.as_str() == peer && *saw == evidence)
    }
}

impl Roster for TestRoster {
    fn me(&self) -> Member {
        self.view.borrow().me().unwrap().clone()
    }

    fn watch(&self) -> watch::Receiver<SharedMembers> {
        self.view.subscribe()
    }

    fn dial_address(&self, peer: &NodeName) -> Option<String> {
        let overridden = self.overrides.lock().get(peer).map(ToString::to_string);
        overridden.or_else(|| Some(self.view.borrow().get(peer)?.addresses.peer.clone()))
    }

    fn evidence(&self, peer: &NodeName, incarnation: Incarnation, evidence: LinkEvidence) {
        self.evidence.lock().push((peer.clone(), incarnation, evidence));
    }
}

/// What a handler was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Up { had_epoch: bool },
    Down,
    Control(Bytes),
    Content(Vec<Bytes>),
    Jump,
    Ping(Bytes),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub peer: NodeName,
    pub direction: Direction,
    pub epoch: LinkEpoch,
    pub event: Event,
}

/// Items that one link has yet to send.
#[derive(Default)]
pub(super) struct TestSource {
    control: Mutex<VecDeque<Bytes>>,
    content: Mutex<VecDeque<Bytes>>,
    waker: AtomicWaker,
    digest: Bytes,
}

impl TestSource {
    pub(super) fn control(&self, payload: impl Into<Bytes>) {
        self.control.lock().push_back(payload.into());
        self.waker.wake();
    }

    pub(super) fn content(&self, items: impl IntoIterator<Item = Bytes>) {
        self.content.lock().extend(items);
        self.waker.wake();
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.content.lock().iter().map(Bytes::len).sum()
    }
}

fn take(from: &Mutex<VecDeque<Bytes>>, bytes_max: usize, mut give: impl FnMut(Bytes)) {
    let mut from = from.lock();
    let mut bytes = 0;
    while bytes < bytes_max
        && let Some(item) = from.pop_front()
    {
        bytes += item.len();
        give(item);
    }
}

impl LinkSource for TestSource {
    fn take_control(&self, out: &mut Vec<Bytes>, bytes_max: usize) {
        take(&self.control, bytes_max, |payload| out.push(payload));
    }

    fn take_content(&self, out: &mut Vec<ContentItem>, bytes_max: usize) {
        take(&self.content, bytes_max, |bytes| out.push(ContentItem { bytes }));
    }

    fn ping(&self) -> Bytes {
        self.digest.clone()
    }

    fn register(&self, cx: &mut Context<'_>) {
        self.waker.register(cx.waker());
    }
}

/// Records everything, in order.
#[derive(Default)]
pub(super) struct Recorder {
    name: String,
    pub told: Mutex<Vec<Told>>,
    sources: Mutex<BTreeMap<(NodeName, bool), Arc<TestSource>>>,
    /// What every source has from its beginning.
    first: (Vec<Bytes>, Vec<Bytes>),
    slow: AtomicBool,
}

impl Recorder {
    fn tell(&self, link: &LinkInfo, event: Event) {
        let LinkInfo { peer, direction, epoch, .. } = link.clone();
        self.told.lock().push(Told { peer, direction, epoch, event });
    }

    /// What the link to (`Out`) or from (`In`) a peer sends from, in its present life.
    pub(super) fn source(&self, peer: &str, direction: Direction) -> Option<Arc<TestSource>> {
        self.sources.lock().get(&(name(peer), direction == Direction::Out)).cloned()
    }

    pub(super) fn be_slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::Relaxed);
    }

    /// Everything that one directed link said, life after life.
    pub(super) fn of(&self, peer: &str, direction: Direction) -> Vec<Told> {
        let told = self.told.lock();
        let of = told.iter().filter(|t| t.peer.as_str() == peer && t.direction == direction);
        of.cloned().collect()
    }

    pub(super) fn items(&self, peer: &str) -> Vec<Bytes> {
        let mut items = Vec::new();
        for told in self.told.lock().iter().filter(|told| told.peer.as_str() == peer) {
            if let Event::Content(some) = &told.event {
                items.extend_from_slice(some);
            }
        }
        items
    }

    pub(super) fn count(&self, peer: &str, direction: Direction, event: &Event) -> usize {
        self.of(peer, direction).iter().filter(|told| told.event == *event).count()
    }

    /// In every life: up, then frames, then down; one life after another, each of a newer epoch.
    pub(super) fn check_lives(&self) {
        let mut open = BTreeMap::<(NodeName, bool), LinkEpoch>::new();
        let mut last = BTreeMap::<(NodeName, bool), LinkEpoch>::new();
        for told in self.told.lock().iter() {
            let key = (told.peer.clone(), told.direction == Direction::Out);
            match told.event {
                Event::Up { .. } => {
                    assert_eq!(open.insert(key.clone(), told.epoch), None, "{told:?}");
                    if let Some(last) = last.insert(key, told.epoch) {
                        assert!(
                            last.attempt < told.epoch.attempt || last.sender != told.epoch.sender
                        );
                    }
                }
                Event::Down => assert_eq!(open.remove(&key), Some(told.epoch), "{told:?}"),
                _ => assert_eq!(open.get(&key), Some(&told.epoch), "{told:?}"),
            }
        }
    }
}

impl LinkHandler for Recorder {
    fn up(&self, link: &LinkInfo) -> Arc<dyn LinkSource> {
        self.tell(link, Event::Up { had_epoch: link.had_epoch });
        let digest = format!("digest of {}", self.name).into();
        let source = Arc::new(TestSource { digest, ..TestSource::default() });
        let (control, content) = self.first.clone();
        source.control.lock().extend(control);
        source.content.lock().extend(content);
        let key = (link.peer.clone(), link.direction == Direction::Out);
        self.sources.lock().insert(key, source.clone());
        source
    }

    fn down(&self, link: &LinkInfo) {
        self.tell(link, Event::Down);
    }

    fn control(&self, link: &LinkInfo, payload: Bytes) -> Result<(), String> {
        if payload == "nonsense" {
            return Err("the router can't read it".to_owned());
        }
        self.tell(link, Event::Control(payload));
        Ok(())
    }

    fn content(&self, link: &LinkInfo, items: Vec<Bytes>) -> Result<Pace, String> {
        self.tell(link, Event::Content(items));
        Ok(if self.slow.load(Ordering::Relaxed) { Pace::Slow } else { Pace::ReadOn })
    }

    fn jump(&self, link: &LinkInfo) {
        self.tell(link, Event::Jump);
    }

    fn ping(&self, link: &LinkInfo, payload: Bytes) -> Result<(), String> {
        self.tell(link, Event::Ping(payload));
        Ok(())
    }
}

pub(super) struct Node {
    pub address: SocketAddr,
    pub roster: Arc<TestRoster>,
    pub told: Arc<Recorder>,
    pub links: LinksHandle,
    pub supervisor: Supervisor,
    shutdown: Shutdown,
}

/// Changes before a node starts.
#[derive(Clone)]
pub(super) struct Plan {
    pub config: LinkConfig,
    pub incarnation: u64,
    /// What every source has from its beginning.
    pub control: Vec<Bytes>,
    pub content: Vec<Bytes>,
}

impl Plan {
    pub(super) fn new(node: &str) -> Self {
        let limits = LinkLimits {
            silence: Duration::from_secs(2),
            ping_every: Duration::from_millis(100),
            backoff_most: Duration::from_millis(200),
            ..LinkLimits::default()
        };
        let config = LinkConfig {
            cluster: ClusterName::parse("test").unwrap(),
            name: name(node),
            secrets: vec![Secret::new(b"the secret".to_vec())],
            versions: VERSIONS,
            settings: BTreeMap::new(),
            limits,
        };
        Self { config, incarnation: 1, control: Vec::new(), content: Vec::new() }
    }

    pub(super) async fn start(self) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let me = member(&self.config.name, self.incarnation, address, true);
        let members = Members { by_name: BTreeMap::from([(me.name.clone(), me)]) };
        let roster = Arc::new(TestRoster {
            view: watch::Sender::new(Arc::new(members)),
            overrides: Mutex::default(),
            evidence: Mutex::default(),
        });
        let name = self.config.name.to_string();
        let first = (self.control, self.content);
        let told = Arc::new(Recorder { name, first, ..Recorder::default() });
        let shutdown = Shutdown::new();
        let supervisor = Supervisor::new(shutdown.clone());
        let links =
            Links::new(self.config, roster.clone(), supervisor.clone(), Clock::new(), told.clone());
        let handle = links.handle();
        supervisor.spawn(Task::LinkAcceptor, links.run(listener, shutdown.clone()));
        Node { address, roster, told, links: handle, supervisor, shutdown }
    }
}

pub(super) fn member(name: &NodeName, incarnation: u64, address: SocketAddr, me: bool) -> Member {
    Member {
        name: name.clone(),
        incarnation: Incarnation(incarnation),
        addresses: Addresses { peer: address.to_string(), ..Addresses::default() },
        version: "0.1.0".to_owned(),
        state: MemberState::Ready,
        load: Load::default(),
        me,
        since: Time::ZERO,
        problem: None,
    }
}

impl Node {
    pub(super) fn name(&self) -> NodeName {
        self.roster.me().name
    }

    /// Tells this node that the other is a member.
    pub(super) fn meet(&self, other: &Self) {
        self.roster.set(Member { me: false, ..other.roster.me() });
    }

    pub(super) fn connected(&self, other: &Self) -> bool {
        let other = other.roster.me();
        self.links.connected(&other.name, other.incarnation)
    }

    pub(super) fn row(&self, peer: &str, direction: Direction) -> LinkReport {
        self.find_row(peer, direction).unwrap()
    }

    fn find_row(&self, peer: &str, direction: Direction) -> Option<LinkReport> {
        let mut report = self.links.report().into_iter();
        report.find(|row| row.peer.as_str() == peer && row.direction == direction)
    }

    /// Waits for a row to be refused, and returns its problem.
    pub(super) async fn refused(&self, peer: &str, direction: Direction) -> String {
        eventually("a refusal is shown", || {
            let row = self.find_row(peer, direction)?;
            (row.state == LinkState::Refused).then(|| row.problem.unwrap())
        })
        .await
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.supervisor.all_ended()).await;
        assert!(ended.is_ok(), "tasks that don't end: {:?}", self.supervisor.report());
        assert_eq!(self.supervisor.fatal(), None);
        self.told.check_lives();
    }
}

/// Starts these nodes; all know each other and are connected.
pub(super) async fn mesh<const N: usize>(names: [&str; N]) -> [Node; N] {
    let nodes = start(names.map(Plan::new)).await;
    connected(&nodes).await;
    nodes
}

/// Starts these nodes; all know each other.
pub(super) async fn start<const N: usize>(plans: [Plan; N]) -> [Node; N] {
    let mut nodes = Vec::new();
    for plan in plans {
        nodes.push(plan.start().await);
    }
    for node in &nodes {
        for other in nodes.iter().filter(|other| other.name() != node.name()) {
            node.meet(other);
        }
    }
    nodes.try_into().unwrap_or_else(|_| panic!("as many as planned"))
}

pub(super) async fn connected(nodes: &[Node]) {
    eventually("every pair is connected", || {
        let pairs = nodes.iter().flat_map(|a| nodes.iter().map(move |b| (a, b)));
        pairs.filter(|(a, b)| a.name() != b.name()).all(|(a, b)| a.connected(b)).then_some(())
    })
    .await;
}

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
                if to.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
            Ok(0) | Err(_) => return,
        }
    }
}
