//! `control init`: a group is founded by somebody's word.

use std::time::Duration;

use super::super::model::GroupId;
use super::ControlHandle;

/// A founding has so long: the view must settle, and the others must answer.
const FOUNDED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Why there is no new group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFounded {
    #[error("this node is in the group {0} already")]
    HasGroup(GroupId),
    #[error("the group {0} is there already, and this node will be seated by it")]
    OthersHave(GroupId),
    #[error("the group was begun, and has no leader yet: most of its voters don't answer")]
    NoLeader,
}

impl ControlHandle {
    /// Founds a group with those who are here. Ends when it has a leader.
    pub async fn init(&self) -> Result<GroupId, NotFounded> {
        if let Some(group) = self.shared.group() {
            return Err(NotFounded::HasGroup(group.id()));
        }
        let others = self.shared.roster.here();
        if let Some(group) = others.iter().filter(|here| !here.me).find_map(|here| here.group) {
            return Err(NotFounded::OthersHave(group.id));
        }
        self.ask_init();
        let led = async {
            loop {
                let report = self.report().group;
                if let Some(report) = report.filter(|report| report.leader.is_some()) {
                    return report.group;
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::time::timeout(FOUNDED_WITHIN, led).await.map_err(|_| NotFounded::NoLeader)
    }
}
