//! Pieces of the wire in the shape in which tests look at them.

use std::collections::HashMap;

use bytes::Bytes;
use tonic::transport::{Channel, Endpoint};
use waxwing::wire::v1::gap::Reason;
use waxwing::wire::v1::session_client::SessionClient;
use waxwing::wire::v1::{self, Batch, GoAway, PresenceEvent, Welcome};

use super::{ClientError, PATIENCE};

/// A frame of many messages is larger than tonic's default allows.
const FRAME_BYTES_MAX: usize = 64 << 20;

pub type Gap = v1::Gap;

#[derive(Debug, Clone)]
pub enum Got {
    Message(Message),
    Gap(Gap),
    GoAway(GoAway),
    Presence(PresenceEvent),
    /// A second one; there must be none.
    Welcome(Welcome),
}

/// One message with what its batch said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub origin: String,
    pub id: String,
    pub event: String,
    pub headers: HashMap<String, String>,
    pub payload: Bytes,
}

impl Message {
    pub(super) fn all_of(batch: Batch) -> impl Iterator<Item = Self> {
        let Batch { topic, origin, messages } = batch;
        messages.into_iter().map(move |message| Self {
            topic: topic.clone(),
            origin: origin.clone(),
            id: message.id,
            event: message.event,
            headers: message.headers,
            payload: message.payload,
        })
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap_or("(no text)")
    }
}

pub(super) fn session(connection: Channel) -> SessionClient<Channel> {
    SessionClient::new(connection).max_decoding_message_size(FRAME_BYTES_MAX)
}

/// A connection of its own, so that clients don't share flow control.
pub(crate) async fn channel(node: &str) -> Result<Channel, ClientError> {
    let endpoint = Endpoint::from_shared(format!("http://{node}"))?.connect_timeout(PATIENCE);
    Ok(endpoint.connect().await?)
}

pub const fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Unspecified => "UNSPECIFIED",
        Reason::SlowSubscriber => "SLOW_SUBSCRIBER",
        Reason::Link => "LINK",
        Reason::MemberLost => "MEMBER_LOST",
        Reason::Reconnected => "RECONNECTED",
    }
}
