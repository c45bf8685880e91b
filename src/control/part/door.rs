//! What other members ask of this node's group; and how a node without one comes to it.

use std::sync::Weak;

use async_trait::async_trait;
use bytes::Bytes;

use super::super::raft::group::{asked_of, refusal};
use super::Shared;
use crate::link::CallHandler;
use crate::types::{Incarnation, NodeName};

/// It must not keep the store open: links keep it, and are kept by what it leads to.
pub(super) struct Door(pub(super) Weak<Shared>);

#[async_trait]
impl CallHandler for Door {
    async fn answer(&self, from: NodeName, _incarnation: Incarnation, payload: Bytes) -> Bytes {
        let Some(shared) = self.0.upgrade() else {
            return refusal("this node has ended").into();
        };
        if let Some(group) = shared.group() {
            return group.answer(from.as_str(), &payload).await.into();
        }
        // The first group that calls a store without one is its own from then on. What is no call of a group, or not for this id, is not.
        let Some((id, me)) = asked_of(&payload) else { return refusal("no group here").into() };
        match shared.join(id, me).await {
            Ok(Some(group)) => {
                tracing::info!(group = %id, by = %from, "control: this node has joined a group");
                group.answer(from.as_str(), &payload).await.into()
            }
            Ok(None) => refusal("it is for another member").into(),
            Err(error) => {
                tracing::error!(%error, "control: this node could not join a group");
                refusal("it could not join").into()
            }
        }
    }
}
