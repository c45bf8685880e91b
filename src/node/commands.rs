//! What fronts may ask of the whole node.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::drain::Departure;
use super::log_level::LogLevels;
use crate::membership::MembershipHandle;
use crate::supervise::{DrainStep, NodeCommands};
use crate::types::NodeName;

#[derive(Debug)]
pub(super) struct Commands {
    pub(super) membership: MembershipHandle,
    pub(super) departure: Arc<Departure>,
    pub(super) log: LogLevels,
}

#[async_trait]
impl NodeCommands for Commands {
    async fn join(&self, seeds: Vec<String>) -> Result<Vec<NodeName>, String> {
        self.membership.join(seeds).await.map_err(|error| format!("{error:#}"))
    }

    async fn drain(&self, grace: Duration, steps: mpsc::Sender<DrainStep>) -> Result<(), String> {
        self.departure.drain(grace, steps).await;
        Ok(())
    }

    async fn leave(&self) -> Result<(), String> {
        self.departure.leave().await;
        Ok(())
    }

    fn set_log_level(&self, level: &str, for_time: Option<Duration>) -> Result<String, String> {
        self.log.set(level, for_time)
    }
}
