//! What a bench asks of a node beside its load.

use std::time::Duration;

use http::HeaderMap;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;

use crate::wire::v1;
use crate::wire::v1::admin_client::AdminClient;

const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub(super) struct Node {
    admin: AdminClient<Channel>,
    metadata: HeaderMap,
}

impl Node {
    /// On a connection of its own, so that the load is not in its way.
    pub(super) fn new(channel: Channel, metadata: HeaderMap) -> Self {
        Self { admin: AdminClient::new(channel), metadata }
    }

    /// The document of `/status`. `None`: the node doesn't tell.
    pub(super) async fn status(&self) -> Option<serde_json::Value> {
        let mut request = tonic::Request::new(v1::StatusRequest {});
        *request.metadata_mut() = MetadataMap::from_headers(self.metadata.clone());
        let mut admin = self.admin.clone();
        let response = tokio::time::timeout(TIMEOUT, admin.status(request)).await.ok()?.ok()?;
        serde_json::from_str(&response.into_inner().json).ok()
    }
}
