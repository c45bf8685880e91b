//! `control init`: a group is founded by somebody's word.

use std::time::Duration;

use super::super::model::{GroupId, State};
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
    #[error("this node has no group whose copy could go on")]
    NoCopy,
    #[error("the group {0} has a quorum, and goes on by itself")]
    HasQuorum(GroupId),
    #[error("the group {0} is here, and was written to: nothing can take its place")]
    Written(GroupId),
    #[error("this is no whole backup: {0}")]
    BadBackup(String),
    #[error("{0}")]
    Failed(String),
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
        self.led().await
    }

    /// Founds a group that goes on from this member's copy, where most voters of its own are lost for good. What those had that this copy
    /// lacks is lost; no fencing token is given twice. Other members that are left of the old group join the new one.
    pub async fn init_from_copy(&self, by: &str) -> Result<GroupId, NotFounded> {
        let group = self.shared.group().ok_or(NotFounded::NoCopy)?;
        if group.report().quorum {
            return Err(NotFounded::HasQuorum(group.id()));
        }
        let state = (*group.copy().state()).clone();
        self.found_again(by, state).await
    }

    /// Founds a group that goes on from a backup, where nothing was written yet. Leases in it run out unless their holders renew them.
    pub async fn restore(&self, by: &str, backup: &[u8]) -> Result<GroupId, NotFounded> {
        let state = State::from_snapshot(backup)
            .map_err(|error| NotFounded::BadBackup(error.to_string()))?;
        let own = self.shared.group();
        let own = own.filter(|group| group.copy().look(State::is_written)).map(|group| group.id());
        let others = self.shared.roster.here();
        let mut others = others.iter().filter_map(|here| here.group).filter(|group| group.written);
        if let Some(group) = own.or_else(|| others.next().map(|group| group.id)) {
            return Err(NotFounded::Written(group));
        }
        self.found_again(by, state).await
    }

    async fn found_again(&self, by: &str, state: State) -> Result<GroupId, NotFounded> {
        let founded = self.shared.found_again(by, state).await;
        founded.map_err(|error| NotFounded::Failed(format!("{error:#}")))?;
        self.led().await
    }

    async fn led(&self) -> Result<GroupId, NotFounded> {
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
