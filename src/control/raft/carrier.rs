//! Calls between members over the links' connections for calls.

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;

use super::calls::{Carrier, Unreached};
use super::group::Group;
use super::types::RaftMember;
use crate::link::{CallHandler, LinksHandle, Uncalled};
use crate::types::{Incarnation, NodeName};

/// The way out. Who is called is found by name: the membership knows where he is now.
#[derive(Debug)]
pub struct LinkCarrier(pub LinksHandle);

#[async_trait]
impl Carrier for LinkCarrier {
    async fn carry(&self, to: &RaftMember, frame: Vec<u8>) -> Result<Vec<u8>, Unreached> {
        let name = NodeName::parse(&to.name).map_err(|bad| Unreached::NotSent(bad.to_string()))?;
        match self.0.call(&name, Bytes::from(frame)).await {
            Ok(reply) => Ok(reply.to_vec()),
            Err(Uncalled::NotSent(why)) => Err(Unreached::NotSent(why)),
            Err(Uncalled::NoAnswer(why)) => Err(Unreached::NoAnswer(why)),
        }
    }
}

/// The way in: to the group that this node takes part in, if it does.
#[derive(Debug, Default)]
pub struct GroupDoor(RwLock<Option<Group>>);

impl GroupDoor {
    pub fn set(&self, group: Option<Group>) {
        *self.0.write() = group;
    }
}

#[async_trait]
impl CallHandler for GroupDoor {
    async fn answer(&self, from: NodeName, _incarnation: Incarnation, payload: Bytes) -> Bytes {
        let group = self.0.read().clone();
        match group {
            Some(group) => group.answer(from.as_str(), &payload).await.into(),
            // Nothing makes sense of it, and the caller tries again.
            None => Bytes::new(),
        }
    }
}
