//! Publishing, numbered for the history or plain.

use bytes::Bytes;
use waxwing::wire::v1::request::Kind as RequestKind;
use waxwing::wire::v1::{Confirm, PublishRequest, PublishResponse, Reply, Request};

use super::{Client, ClientError};
use crate::history::{Kind, Numbered, Op};

impl Client {
    /// One numbered message, confirmed by this node.
    pub async fn publish(&mut self, topic: &str) -> Result<PublishResponse, ClientError> {
        self.publish_numbered(topic, Confirm::Node).await
    }

    /// One numbered message. `confirm`: by this node or by the cluster.
    pub async fn publish_numbered(
        &mut self,
        topic: &str,
        confirm: Confirm,
    ) -> Result<PublishResponse, ClientError> {
        let (id, request) = self.numbered(topic, 0, confirm);
        self.send_frame(vec![request]).await?;
        published(self.reply(id).await?)
    }

    /// One frame of numbered messages that nobody confirms, one to each of `topics`, each of `size` bytes at least.
    pub async fn publish_frame(&mut self, topics: &[&str], size: usize) -> Result<(), ClientError> {
        let requests =
            topics.iter().map(|topic| self.numbered(topic, size, Confirm::None).1).collect();
        self.send_frame(requests).await
    }

    /// Ends when the node has taken everything that was published before: a confirmed publish to a topic that nobody has.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        let topic = format!("flush:{}", self.publisher());
        let request = PublishRequest {
            topic,
            text: "flush".to_owned(),
            confirm: Confirm::Node.into(),
            ..PublishRequest::default()
        };
        self.publish_request(request).await?;
        Ok(())
    }

    /// True when everything that this attachment published, to whatever topic, has been put into every mailbox on the nodes that are
    /// interested in `topic`: links and mailboxes keep the order.
    pub async fn all_handed_over(&mut self, topic: &str) -> Result<bool, ClientError> {
        let request = PublishRequest {
            topic: topic.to_owned(),
            text: "barrier".to_owned(),
            confirm: Confirm::Cluster.into(),
            ..PublishRequest::default()
        };
        Ok(self.publish_request(request).await?.unknown == 0)
    }

    /// One message of this text, not numbered, confirmed by the node.
    pub async fn publish_once(
        &mut self,
        topic: &str,
        text: &str,
    ) -> Result<PublishResponse, ClientError> {
        self.publish_request(PublishRequest {
            topic: topic.to_owned(),
            text: text.to_owned(),
            confirm: Confirm::Node.into(),
            ..PublishRequest::default()
        })
        .await
    }

    /// Not numbered; must ask for a confirmation.
    pub async fn publish_request(
        &mut self,
        request: PublishRequest,
    ) -> Result<PublishResponse, ClientError> {
        let id = self.send(RequestKind::Publish(request)).await?;
        published(self.reply(id).await?)
    }

    fn numbered(&mut self, topic: &str, size: usize, confirm: Confirm) -> (u64, Request) {
        let id = self.take_id();
        let message =
            Numbered { topic: topic.to_owned(), publisher: self.publisher(), seq: self.next_seq };
        self.next_seq += 1;
        let request = PublishRequest {
            topic: topic.to_owned(),
            payload: Bytes::from(message.payload(size)),
            confirm: confirm.into(),
            ..PublishRequest::default()
        };
        self.record(Kind::Invoke, Op::Publish(message.clone()));
        self.open.insert(id, message);
        (id, Request { id, kind: Some(RequestKind::Publish(request)) })
    }

    /// A publish that succeeded tells that every earlier one did which was not refused: an attachment's requests are taken in order.
    pub(super) fn take_reply(&mut self, reply: Reply) {
        if reply.error.is_some() {
            if let Some(message) = self.open.remove(&reply.id) {
                self.record(Kind::Fail, Op::Publish(message));
            }
        } else if reply.publish.is_some() {
            let later = self.open.split_off(&(reply.id + 1));
            for (_, message) in std::mem::replace(&mut self.open, later) {
                self.record(Kind::Ok, Op::Publish(message));
            }
        }
        if reply.id != 0 {
            self.replies.insert(reply.id, reply);
        }
    }
}

fn published(reply: Reply) -> Result<PublishResponse, ClientError> {
    match (reply.error, reply.publish) {
        (Some(error), _) => Err(ClientError::Rejected(error)),
        (None, Some(response)) => Ok(response),
        (None, None) => Err(ClientError::Unexpected("a reply without a publish".to_owned())),
    }
}
