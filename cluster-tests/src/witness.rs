//! Two clients who would notice if something that is done to others cost them anything.

use std::time::Duration;

use crate::client::{Client, Got};
use crate::cluster::Cluster;
use crate::figures;

const TOPIC: &str = "witness";
const MESSAGES: usize = 20;
/// For all the messages of one round. They need milliseconds; a debug build on a busy machine gets a lot more.
const ROUND_MAX: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct Witness {
    publisher: Client,
    subscriber: Client,
    slowest: Duration,
}

impl Witness {
    /// Publishes on node `from`, subscribes on node `to`.
    pub async fn start(cluster: &Cluster, from: usize, to: usize) -> Self {
        let mut subscriber = cluster.client(to, "witness-subscriber").await;
        subscriber.subscribe_everywhere(&[TOPIC], &[]).await.expect("subscribe the witness");
        let publisher = cluster.client(from, "witness-publisher").await;
        Self { publisher, subscriber, slowest: Duration::ZERO }
    }

    /// Panics when messages don't get through in time, in order and without a gap.
    pub async fn sees_nothing(&mut self, cluster: &Cluster, during: &str) {
        let start = cluster.clock().now();
        for _ in 0..MESSAGES {
            self.publisher.publish(TOPIC).await.unwrap_or_else(|error| panic!("{during}: {error}"));
        }
        for _ in 0..MESSAGES {
            match self.subscriber.event(ROUND_MAX).await {
                Ok(Got::Message(_)) => {}
                other => panic!("{during}: the witness got {other:?}"),
            }
        }
        let took = cluster.clock().now().since(start);
        assert!(took < ROUND_MAX, "{during}: {MESSAGES} messages took {took:?}");
        self.slowest = self.slowest.max(took);
    }

    pub fn tell(&self, name: &str) {
        figures::tell_time(name, self.slowest);
    }
}
