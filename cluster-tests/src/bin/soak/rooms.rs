//! Who is where: owners and watchers on every node, moved by whatever is done to nodes, and a list from each node at the end.

use std::sync::PoisonError;
use std::time::Duration;

use cluster_tests::chance::Chance;
use cluster_tests::client::{Client, ClientError};
use cluster_tests::rooms::{self, Door, Owner, Stage, Watcher};
use waxwing::types::Time;
use waxwing::wire::v1::Hello;

use crate::load::Round;
use crate::place::NODES;

/// After the last fault: a node that was stopped is noticed, sessions come back, a linger ends.
const GONE_AFTER: Duration = Duration::from_secs(12);

pub(crate) async fn own(round: Round, node: usize, i: usize, chance: Chance) {
    let who = format!("o{}-{node}-{i}", round.number);
    Owner::new(who, node, 30..600, chance).run(&round).await;
}

pub(crate) async fn watch(round: Round, node: usize, chance: Chance) {
    Watcher::new(format!("w{}-{node}", round.number), node, 100, chance).run(&round).await;
}

/// When whatever was done has had its effect.
pub(crate) async fn list(round: &Round, healed: Time) {
    let past = round.recorder.clock().now().since(healed);
    tokio::time::sleep(GONE_AFTER.saturating_sub(past)).await;
    rooms::list_everywhere(round).await.into_iter().for_each(|why| round.trouble(why));
}

impl Door for Round {
    fn nodes(&self) -> usize {
        NODES
    }

    fn stage(&self, _: usize) -> Stage {
        match (self.is_over(), self.is_listed()) {
            (false, _) => Stage::Busy,
            (true, false) => Stage::Still,
            (true, true) => Stage::Over,
        }
    }

    async fn attach(
        &self,
        node: usize,
        who: &str,
        attachment: u32,
        hello: Hello,
    ) -> Result<Client, ClientError> {
        Client::attach(&self.address(node), who, attachment, hello, &self.recorder).await
    }

    /// A soak has no marks: it compares lists.
    fn did(&self, _: &str, _: &str) {}

    fn trouble(&self, what: String) {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }
}
