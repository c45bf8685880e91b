//! Nodes on loopback that have links and nothing else, and a roster that tests write.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::recorder::Recorder;
use crate::config::Secret;
use crate::link::{
    Direction, LinkConfig, LinkLimits, LinkReport, LinkState, Links, LinksHandle, Roster, VERSIONS,
};
use crate::membership::{
    Addresses, LinkEvidence, Load, Member, MemberState, Members, SharedMembers,
};
use crate::net::Host;
use crate::supervise::{Clock, Shutdown, Supervisor, Task};
use crate::types::{ClusterName, Incarnation, NodeName, Time};

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
            tls: None,
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
        let told = Arc::new(Recorder::new(name, first));
        let shutdown = Shutdown::new();
        let supervisor = Supervisor::new(shutdown.clone());
        let links = Links::new(
            self.config,
            roster.clone(),
            Arc::new(Host),
            supervisor.clone(),
            Clock::new(),
            told.clone(),
            told.clone(),
        );
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
        control: None,
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
