//! Who is where in a world: an owner and a watcher for each node, and at the end a list from each.

use cluster_tests::chance::Chance;
use cluster_tests::client::{Client, ClientError};
use cluster_tests::rooms::{self, Door, Owner, Stage, Watcher};
use waxwing::wire::v1::Hello;

use super::{AGAIN, Phase, Place};

pub(super) const LISTER: &str = "lister";

pub(super) fn owner_name(node: usize) -> String {
    format!("o{node}")
}

pub(super) fn watcher_name(node: usize) -> String {
    format!("w{node}")
}

pub(super) async fn own(place: Place, node: usize, chance: Chance) {
    Owner::new(owner_name(node), node, 40..500, chance).run(&place).await;
}

pub(super) async fn watch(place: Place, node: usize, chance: Chance) {
    Watcher::new(watcher_name(node), node, 60, chance).run(&place).await;
}

/// When all are quiet.
pub(super) async fn list(place: Place) {
    while place.stage.phase() < Phase::Quiet {
        tokio::time::sleep(AGAIN).await;
    }
    for why in rooms::list_everywhere(&place).await {
        place.stage.failed(why);
    }
    place.stage.did(LISTER, Phase::Quiet);
}

impl Door for Place {
    fn nodes(&self) -> usize {
        self.stage.nodes
    }

    fn stage(&self, home: usize) -> Stage {
        let phase = self.stage.phase();
        match phase {
            Phase::Faults => Stage::Busy,
            Phase::Core | Phase::Final if self.stage.takes_part(home, phase) => {
                let taking_part =
                    (0..self.stage.nodes).filter(|node| self.stage.takes_part(*node, phase));
                Stage::Show { mark: mark(phase), owners: taking_part.count() }
            }
            Phase::Core | Phase::Settle | Phase::Final | Phase::Quiet => Stage::Still,
            Phase::Over => Stage::Over,
        }
    }

    async fn attach(
        &self,
        node: usize,
        who: &str,
        attachment: u32,
        hello: Hello,
    ) -> Result<Client, ClientError> {
        Self::attach(self, node, who, attachment, hello).await
    }

    fn did(&self, who: &str, shown: &str) {
        let phase = [Phase::Core, Phase::Final].into_iter().find(|phase| mark(*phase) == shown);
        phase.into_iter().for_each(|phase| self.stage.did(who, phase));
    }

    fn trouble(&self, what: String) {
        self.stage.failed(format!("{what} after the faults"));
    }
}

fn mark(phase: Phase) -> String {
    format!("{phase:?}").to_lowercase()
}
