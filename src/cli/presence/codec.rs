//! The presence service as plain calls; generated types end here.

use std::time::Duration;

use anyhow::Context as _;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::super::Globals;
use super::super::codec::plain;
use super::super::connect::{Credentials, connect, timed_out};
use crate::client::{PresenceCount, PresenceEntry};
use crate::wire::v1;
use crate::wire::v1::presence_client::PresenceClient;

/// 10,000 entries with metadata of the largest kind.
const ANSWER_LEN_MAX: usize = 256 << 20;

/// Entries of one call: an answer of these stays small, also with large metadata.
const PAGE: usize = 1_000;

/// The presence service of one node.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Looker {
    client: PresenceClient<InterceptedService<Channel, Credentials>>,
    timeout: Duration,
    address: String,
}

/// Of a topic, as far as it was asked for.
#[derive(Debug, Default)]
pub(in crate::cli) struct Listing {
    pub(in crate::cli) entries: Vec<PresenceEntry>,
    pub(in crate::cli) count: PresenceCount,
    pub(in crate::cli) more: bool,
}

impl Looker {
    pub(in crate::cli) async fn connect(globals: &Globals) -> anyhow::Result<Self> {
        let connection = connect(globals).await?;
        let credentials = Credentials::of(globals)?;
        let client = PresenceClient::with_interceptor(connection.channel, credentials)
            .max_decoding_message_size(ANSWER_LEN_MAX);
        Ok(Self { client, timeout: globals.timeout, address: connection.address })
    }

    /// Page by page, until there are `limit` or no more.
    pub(in crate::cli) async fn list(
        &self,
        topic: &str,
        key: &str,
        limit: usize,
    ) -> anyhow::Result<Listing> {
        let mut listing = Listing::default();
        let mut page = String::new();
        loop {
            let request = v1::ListRequest {
                topic: topic.to_owned(),
                key: key.to_owned(),
                limit: PAGE.min(limit - listing.entries.len()) as u32,
                page,
            };
            let mut client = self.client.clone();
            let answer = self.within(client.list(request)).await.context("list presence")?;
            listing.entries.extend(answer.entries.into_iter().map(PresenceEntry::from));
            listing.count = count_of(answer.count.unwrap_or_default());
            page = answer.next_page;
            if page.is_empty() || listing.entries.len() >= limit {
                listing.more = !page.is_empty();
                return Ok(listing);
            }
        }
    }

    pub(in crate::cli) async fn count(&self, topic: &str) -> anyhow::Result<PresenceCount> {
        let mut client = self.client.clone();
        let request = v1::CountRequest { topic: topic.to_owned() };
        Ok(count_of(self.within(client.count(request)).await.context("count presence")?))
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> anyhow::Result<T> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(answer) => Ok(answer.map_err(plain)?.into_inner()),
            Err(_) => anyhow::bail!("{}: {}", self.address, timed_out(self.timeout)),
        }
    }
}

fn count_of(count: v1::CountResponse) -> PresenceCount {
    PresenceCount { presences: count.presences, keys: count.keys }
}
