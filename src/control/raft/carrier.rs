//! Calls between members over the links' connections for calls.

use async_trait::async_trait;
use bytes::Bytes;

use super::calls::{Carrier, Unreached};
use super::types::RaftMember;
use crate::link::{LinksHandle, Uncalled};
use crate::types::NodeName;

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
