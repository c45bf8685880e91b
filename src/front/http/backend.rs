//! What this front needs of the node, as one trait: the real node, or a made-up one in tests.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::broker::{Broker, BrokerError, Door, Pass, TrackAsk};
use crate::config::Limits;
use crate::config::limits::LimitsHandle;
use crate::metrics::Exporter;
use crate::presence::Count;
use crate::pubsub::Messages;
use crate::replicator::{Page, Query};
use crate::router::{Confirm, Reach, RouterHandle};
use crate::status::{StatusHandle, StatusReport};

/// What became of messages published to one topic in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Receipt {
    /// One for each message.
    pub ids: Vec<String>,
    pub members: u32,
    pub subscriptions: u64,
    pub unknown: u32,
}

#[async_trait]
pub(super) trait Backend: std::fmt::Debug + Send + Sync + 'static {
    fn status(&self) -> StatusReport;
    fn ready(&self) -> Result<(), String>;
    fn metrics(&self) -> String;
    fn limits(&self) -> Arc<Limits>;
    fn door(&self) -> &Door;
    async fn publish(
        &self,
        pass: &Pass,
        topic: &str,
        messages: Messages,
        confirm: Confirm,
    ) -> Result<Receipt, BrokerError>;
    fn presence_list(&self, pass: &Pass, topic: &str, query: &Query) -> Result<Page, BrokerError>;
    fn presence_count(&self, pass: &Pass, topic: &str) -> Result<Count, BrokerError>;
    /// The reference.
    async fn presence_put(
        &self,
        pass: &Pass,
        ask: TrackAsk,
        ttl: Duration,
    ) -> Result<String, BrokerError>;
    async fn presence_delete(
        &self,
        pass: &Pass,
        topic: &str,
        key: &str,
        id: &str,
    ) -> Result<(), BrokerError>;
}

#[derive(Debug)]
pub(super) struct NodeBackend {
    pub status: StatusHandle,
    pub broker: Broker,
    pub router: RouterHandle,
    pub limits: LimitsHandle,
    pub exporter: Arc<Exporter>,
}

#[async_trait]
impl Backend for NodeBackend {
    fn status(&self) -> StatusReport {
        self.status.report()
    }

    fn ready(&self) -> Result<(), String> {
        self.status.ready()
    }

    fn metrics(&self) -> String {
        self.exporter.render(|| self.status.set_gauges())
    }

    fn limits(&self) -> Arc<Limits> {
        self.limits.get()
    }

    fn door(&self) -> &Door {
        self.broker.door()
    }

    async fn publish(
        &self,
        pass: &Pass,
        topic: &str,
        messages: Messages,
        confirm: Confirm,
    ) -> Result<Receipt, BrokerError> {
        let count = messages.len() as u64;
        self.status.count_published_by_http(count);
        let published = self
            .broker
            .publish_once(pass, topic, messages, Reach::Cluster, confirm)
            .await
            .inspect_err(|_| self.status.uncount_published_by_http(count))?;
        if let Some(slow) = &published.slow {
            self.router.pace(slow).await;
        }
        Ok(Receipt {
            ids: (0..count).map(|i| self.router.message_id(published.first + i)).collect(),
            members: published.members,
            subscriptions: published.subscriptions,
            unknown: published.unknown,
        })
    }

    fn presence_list(&self, pass: &Pass, topic: &str, query: &Query) -> Result<Page, BrokerError> {
        self.broker.presence_list(pass, topic, query)
    }

    fn presence_count(&self, pass: &Pass, topic: &str) -> Result<Count, BrokerError> {
        self.broker.presence_count(pass, topic)
    }

    async fn presence_put(
        &self,
        pass: &Pass,
        ask: TrackAsk,
        ttl: Duration,
    ) -> Result<String, BrokerError> {
        self.broker.presence_put(pass, ask, ttl).await
    }

    async fn presence_delete(
        &self,
        pass: &Pass,
        topic: &str,
        key: &str,
        id: &str,
    ) -> Result<(), BrokerError> {
        self.broker.presence_delete(pass, topic, key, id).await
    }
}
