//! What a front may ask of the whole node. `node` does it; fronts get the handle.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::types::NodeName;

#[async_trait]
pub trait NodeCommands: Send + Sync + 'static {
    /// Gossips to these seeds at once; the names of the members then seen, oneself among them.
    async fn join(&self, seeds: Vec<String>) -> Result<Vec<NodeName>, String>;
    /// Stops taking clients, hands over those it has, then stops the node. Each step is told as it begins. A second call watches the
    /// drain that runs.
    async fn drain(&self, grace: Duration, steps: mpsc::Sender<DrainStep>) -> Result<(), String>;
    /// Departs at once: tells the members, closes what is attached, stops the node.
    async fn leave(&self) -> Result<(), String>;
    /// Back to what it was after `for_time`, when given. The level before.
    fn set_log_level(&self, level: &str, for_time: Option<Duration>) -> Result<String, String>;
}

#[derive(Debug, Clone)]
pub struct DrainStep {
    pub step: &'static str,
    pub detail: String,
    pub done: bool,
}

pub type SharedCommands = Arc<dyn NodeCommands>;
