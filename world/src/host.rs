//! A node as a host of the world, and what the world knows of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use waxwing::config::{Config, ListenConfig, Secret};
use waxwing::membership::MemberState;
use waxwing::node::{Node, NodeHandle, Surroundings};
use waxwing::supervise::Clock;
use waxwing::telemetry::LogLevel;

use crate::network::SimulatedNetwork;
use crate::plan::Plan;
use crate::switchboard::Switchboard;

pub(crate) const GRPC: u16 = 7400;
const PEER: u16 = 7401;
/// What the world's wall clock says at its beginning.
const EPOCH_MS: u64 = 1_700_000_000_000;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a node said of itself when it was last asked; nothing, while it is down.
#[derive(Debug, Default)]
pub(crate) struct Sighting {
    /// Why it isn't ready.
    pub(crate) problem: Option<String>,
    /// Ready members that it is linked with both ways, itself among them.
    pub(crate) connected: Vec<String>,
    /// Each has the other's interest.
    pub(crate) knows_interests: bool,
}

impl Sighting {
    pub(crate) fn is_settled(&self, nodes: usize) -> bool {
        self.problem.is_none() && self.connected.len() == nodes && self.knows_interests
    }
}

pub(crate) type Sightings = Rc<RefCell<BTreeMap<String, Sighting>>>;

/// Names also sort as their addresses do.
pub(crate) fn name(node: usize) -> String {
    format!("n{node}")
}

pub(crate) fn config(plan: &Plan, node: usize, addresses: &[std::net::IpAddr]) -> Config {
    let mut config = Config::for_test(&name(node));
    let any = |port| ([0, 0, 0, 0], port).into();
    config.listen = ListenConfig { grpc: any(GRPC), peer: any(PEER), http: None, redis: None };
    config.advertise.grpc = Some(format!("{}:{GRPC}", addresses[node]));
    config.advertise.peer = Some(format!("{}:{PEER}", addresses[node]));
    let others = addresses.iter().enumerate().filter(|(other, _)| *other != node);
    config.cluster.seeds = others.map(|(_, address)| format!("{address}:{PEER}")).collect();
    config.cluster.secrets = vec![Secret::new(b"the secret of this world".to_vec())];
    if plan.small_windows {
        config.limits.link_window = 4 << 10;
        config.limits.link_window_age = Duration::from_secs(4);
    }
    if plan.small_mailboxes {
        config.limits.mailbox = 16 << 10;
    }
    config
}

/// Runs until the host crashes.
pub(crate) async fn run(
    config: Config,
    switchboard: Switchboard,
    sightings: Sightings,
) -> turmoil::Result {
    let name = config.node.name.as_str().to_owned();
    let near = turmoil::lookup(name.as_str());
    let since = turmoil::sim_elapsed().unwrap_or_default();
    let surroundings = Surroundings {
        network: Arc::new(SimulatedNetwork { near, switchboard }),
        clock: Clock::at(EPOCH_MS + u64::try_from(since.as_millis())?),
    };
    let node = Node::start_in(config, LogLevel::detached(), surroundings)
        .await
        .map_err(|error| format!("{name} does not start: {error:#}"))?;
    let handle = node.handle();
    loop {
        sightings.borrow_mut().insert(name.clone(), look(&name, &handle));
        if handle.supervisor().shutdown().is_cancelled() {
            return Err(format!("{name} has stopped: {:?}", handle.supervisor().fatal()).into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn look(name: &str, node: &NodeHandle) -> Sighting {
    let members = node.membership().members();
    let with = |member: &&waxwing::membership::Member| {
        member.state == MemberState::Ready
            && (member.name.as_str() == name
                || node.links().connected(&member.name, member.incarnation))
    };
    let connected = members.iter().filter(with).map(|member| member.name.as_str().to_owned());
    Sighting {
        problem: node.status().ready().err(),
        connected: connected.collect(),
        knows_interests: node.router().connected_to_all(),
    }
}
