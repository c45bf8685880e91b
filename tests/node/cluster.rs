//! Starts nodes, ends them in every way there is, and waits for what must become true of them.

use std::collections::BTreeMap;
use std::time::Duration;

use waxwing::client::{Client, Confirm, Event, Events, Options, Outcome, Publish, Published};
use waxwing::config::Config;
use waxwing::membership::MemberState;
use waxwing::node::{Node, NodeHandle};
use waxwing::telemetry::LogLevel;

/// No condition waited for here takes longer, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    nodes: BTreeMap<String, Node>,
}

impl Cluster {
    /// All at once; the later ones know the first. Ends when each is connected to each.
    pub(crate) async fn start(names: &[&str]) -> Self {
        let mut cluster = Self { nodes: BTreeMap::new() };
        for name in names {
            cluster.add(name).await;
        }
        cluster.converged(names).await;
        cluster
    }

    /// Starts one more, or one again that has ended; it knows all the others.
    pub(crate) async fn add(&mut self, name: &str) {
        let mut config = Config::for_test(name);
        let seeds = self.nodes.values().map(|node| node.handle().bound().peer.to_string());
        config.cluster.seeds = seeds.collect();
        let node = Node::start(config, LogLevel::detached()).await.expect("it starts");
        self.nodes.insert(name.to_owned(), node);
    }

    pub(crate) fn node(&self, name: &str) -> NodeHandle {
        self.nodes[name].handle()
    }

    /// Ends it as a kill does: nobody is told.
    pub(crate) async fn kill(&mut self, name: &str) {
        let node = self.nodes.remove(name).expect("a node of this cluster");
        let handle = node.handle();
        drop(node);
        within("a killed node's tasks end", handle.ended()).await;
    }

    /// Starts one of this configuration.
    pub(crate) async fn add_with(&mut self, config: Config) {
        let name = config.node.name.to_string();
        let node = Node::start(config, LogLevel::detached()).await.expect("it starts");
        self.nodes.insert(name, node);
    }

    pub(crate) const fn empty() -> Self {
        Self { nodes: BTreeMap::new() }
    }

    /// Takes it out of what is waited for, and leaves it running.
    pub(crate) fn forget(&mut self, name: &str) -> Node {
        self.nodes.remove(name).expect("a node of this cluster")
    }

    /// Each of these sees exactly these live, ready, and connected with itself.
    pub(crate) async fn converged(&self, names: &[&str]) {
        self.eventually(&format!("{names:?} see each other, and nobody else"), |node| {
            let members = node.membership().members();
            let ready = members.iter().filter(|member| member.state == MemberState::Ready);
            let mut seen: Vec<&str> = ready.map(|member| member.name.as_str()).collect();
            seen.sort_unstable();
            let mut wanted = names.to_vec();
            wanted.sort_unstable();
            seen == wanted && node.router().connected_to_all() && node.status().ready().is_ok()
        })
        .await;
    }

    /// Until `condition` holds of every node. When it doesn't in time, all of them say how they are.
    pub(crate) async fn eventually(&self, what: &str, condition: impl Fn(&NodeHandle) -> bool) {
        let holds = async {
            while !self.nodes.values().all(|node| condition(&node.handle())) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, holds).await.is_ok() {
            return;
        }
        let mut told = String::new();
        for (name, node) in &self.nodes {
            let report = node.handle().status().report();
            told.push_str(&format!("\n{name}: {}", serde_json::to_string_pretty(&report).unwrap()));
        }
        panic!("never: {what}{told}");
    }

    /// Attached to this node first.
    pub(crate) async fn client(&self, name: &str) -> (Client, Events) {
        let options = Options::new([self.node(name).bound().grpc.to_string()]);
        within("a client attaches", Client::connect(options)).await.expect("it attaches")
    }

    /// A client of this node that is subscribed to the topic, at every member.
    pub(crate) async fn subscriber(&self, name: &str, topic: &str) -> (Client, Events) {
        let (client, events) = self.client(name).await;
        let results = within("a subscribe is answered", client.subscribe([topic], [""; 0])).await;
        let results = results.expect("it subscribes");
        assert_eq!(results.len(), 1);
        assert_eq!(results[0].error, None);
        assert_eq!(results[0].confirmed, results[0].members, "not all members confirmed");
        (client, events)
    }
}

/// Publishes and waits for every member's word.
pub(crate) async fn publish(client: &Client, topic: &str, text: &str) -> Published {
    let publish = Publish::new(topic, text.as_bytes()).confirm(Confirm::Cluster);
    match within("a publish is confirmed", client.publish(publish)).await.expect("it publishes") {
        Outcome::Confirmed(published) => published,
        other => panic!("a publish with confirmation is {other:?}"),
    }
}

/// The next messages, as text; anything that tells of loss is a failure, what tells of moving is passed over.
pub(crate) async fn texts(events: &mut Events, count: usize) -> Vec<String> {
    let mut got = Vec::new();
    while got.len() < count {
        let event = within(&format!("message {} of {count}", got.len()), events.next()).await;
        match event.expect("the client lives") {
            Event::Messages(batch) => got.extend(
                batch.messages().map(|message| String::from_utf8_lossy(message.payload()).into()),
            ),
            Event::Moved { .. } => {}
            other => panic!("{other:?} among messages, after {got:?}"),
        }
    }
    got
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("never: {what}"),
    }
}
