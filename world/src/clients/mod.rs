//! The clients of a world: they publish, listen, and are in rooms all the time, come back when their node fails, and at the end say whether
//! everything works.

mod publisher;
mod rooms;
mod subscriber;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use cluster_tests::client::{Client, ClientError};
use cluster_tests::history::Recorder;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tonic::transport::Endpoint;
use waxwing::wire::v1::Hello;

use crate::network::SimulatedNetwork;
use crate::plan::Plan;
use cluster_tests::chance::Chance;

const TOPICS: usize = 6;
/// Between two tries to attach.
const AGAIN: Duration = Duration::from_millis(150);

/// How far the world has come; only the nemesis moves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Faults,
    /// Those on the core must be able to subscribe, and hear each other.
    Core,
    /// Faults are over; nobody publishes, and everything settles.
    Settle,
    /// As `Core`, for everybody.
    Final,
    /// Nobody has changed anything for long: who is where is asked of every node.
    Quiet,
    Over,
}

/// What all clients share with the nemesis.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) phase: Cell<Phase>,
    /// By client: the phases that it has done its part of.
    pub(crate) done: RefCell<BTreeMap<String, Phase>>,
    /// What it could not do.
    pub(crate) failures: RefCell<Vec<String>>,
    /// Who takes part in `Core`.
    core: Vec<usize>,
    addresses: Vec<String>,
    nodes: usize,
}

pub(crate) type SharedStage = Rc<Stage>;

impl Stage {
    pub(crate) fn new(plan: &Plan, addresses: Vec<String>) -> SharedStage {
        Rc::new(Self {
            phase: Cell::new(Phase::Faults),
            done: RefCell::default(),
            failures: RefCell::default(),
            core: plan.core.iter().copied().collect(),
            addresses,
            nodes: plan.nodes,
        })
    }

    fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Whether a client of this node has a part in this phase.
    fn takes_part(&self, node: usize, phase: Phase) -> bool {
        phase == Phase::Final || (phase == Phase::Core && self.core.contains(&node))
    }

    fn did(&self, who: &str, phase: Phase) {
        self.done.borrow_mut().insert(who.to_owned(), phase);
    }

    fn failed(&self, what: String) {
        self.failures.borrow_mut().push(what);
    }

    pub(crate) fn all_done(&self, phase: Phase) -> bool {
        let taking_part = (0..self.nodes).filter(|node| self.takes_part(*node, phase));
        let names = taking_part.flat_map(|node| {
            [subscriber_name, publisher_name, rooms::owner_name, rooms::watcher_name]
                .map(|name| name(node))
        });
        let lister = (phase == Phase::Quiet).then(|| rooms::LISTER.to_owned());
        let done = self.done.borrow();
        names.chain(lister).all(|name| done.get(&name).is_some_and(|did| *did >= phase))
    }

    /// Whoever listens in this phase has subscribed.
    fn all_listen(&self, phase: Phase) -> bool {
        let listening = (0..self.nodes).filter(|node| self.takes_part(*node, phase));
        let done = self.done.borrow();
        listening
            .map(|node| format!("{} listens", subscriber_name(node)))
            .all(|name| done.get(&name).is_some_and(|did| *did >= phase))
    }
}

fn subscriber_name(node: usize) -> String {
    format!("s{node}")
}

fn publisher_name(node: usize) -> String {
    format!("p{node}")
}

fn topic(i: usize) -> String {
    format!("t{i}")
}

/// What every publisher publishes to in this phase.
fn marker_topic(phase: Phase) -> String {
    format!("marker:{phase:?}").to_lowercase()
}

#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) stage: SharedStage,
    pub(crate) network: SimulatedNetwork,
    pub(crate) recorder: Recorder,
}

impl Place {
    /// One try.
    async fn attach(
        &self,
        node: usize,
        who: &str,
        attachment: u32,
        hello: Hello,
    ) -> Result<Client, ClientError> {
        let address = self.stage.addresses[node].clone();
        let network = self.network.clone();
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(Duration::from_secs(2));
        let connector = tower::service_fn(move |_| {
            let (network, address) = (network.clone(), address.clone());
            async move { network.dial(&address).await.map(TokioIo::new) }
        });
        let channel = endpoint.connect_with_connector(connector).await?;
        Client::over(channel, who, attachment, hello, &self.recorder).await
    }
}

/// A subscriber, a publisher, an owner and a watcher for each node. Ends when the world is over.
pub(crate) async fn run(place: Place, mut chance: Chance) -> turmoil::Result {
    let mut all = JoinSet::new();
    for node in 0..place.stage.nodes {
        all.spawn_local(subscriber::run(place.clone(), node, chance.fork()));
        all.spawn_local(publisher::run(place.clone(), node, chance.fork()));
        all.spawn_local(rooms::own(place.clone(), node, chance.fork()));
        all.spawn_local(rooms::watch(place.clone(), node, chance.fork()));
    }
    all.spawn_local(rooms::list(place));
    while let Some(ended) = all.join_next().await {
        ended?;
    }
    Ok(())
}
