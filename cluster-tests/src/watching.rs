//! A watcher of presence that goes on wherever its client goes, and keeps what it was told.

use std::sync::{Arc, Mutex, PoisonError};

use waxwing::client::{Client, Event, Options};
use waxwing::supervise::Task;

use crate::check::presence::{self, List, Seen, Sighting};
use crate::cluster::Cluster;

#[derive(Debug)]
pub struct Watcher {
    pub name: String,
    pub client: Client,
    seen: Arc<Mutex<Vec<Sighting>>>,
}

impl Watcher {
    /// On node `i` at first.
    pub async fn start(cluster: &Cluster, i: usize, topic: &str) -> Self {
        let (client, mut events) = Client::connect(options(cluster, i)).await.expect("it attaches");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (kept, clock) = (Arc::clone(&seen), cluster.clock());
        let name = format!("watcher on {}", cluster.node(i).name);
        cluster.supervisor().spawn(Task::Client(name.clone()), async move {
            while let Some(event) = events.next().await {
                let what = match event {
                    Event::Presence(event) => Seen::Event(event),
                    Event::Moved { .. } | Event::Reconnected { .. } => Seen::Elsewhere,
                    _ => continue,
                };
                let sighting = Sighting { at: clock.now(), what };
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(sighting);
            }
        });
        client.watch(topic).await.expect("it watches");
        Self { name, client, seen }
    }

    pub fn history(&self) -> Vec<Sighting> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn list(&self) -> List {
        presence::list(&self.history())
    }

    pub fn keys(&self) -> Vec<String> {
        self.list().into_keys().map(|(key, _)| key).collect()
    }
}

/// A client of the product that prefers node `i` and knows the others.
pub fn options(cluster: &Cluster, i: usize) -> Options {
    let n = cluster.len();
    Options::new((0..n).map(|k| cluster.node((i + k) % n).ports.grpc.to_string()))
}
