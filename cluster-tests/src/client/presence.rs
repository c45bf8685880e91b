//! Tracking, watching and listing, written into the history.

use std::time::Duration;

use bytes::Bytes;
use waxwing::wire::v1::presence_client::PresenceClient;
use waxwing::wire::v1::request::Kind as RequestKind;
use waxwing::wire::v1::{
    ListRequest, PresenceEntry, PresenceEvent, TrackRequest, UntrackRequest, WatchRequest,
};

use super::{Client, ClientError, PATIENCE};
use crate::history::{Entry, Kind, Op, Presence, Told};

impl Client {
    /// The reference of what is listed now.
    pub async fn track(
        &mut self,
        of: &Presence,
        meta: &str,
        revision: u64,
    ) -> Result<String, ClientError> {
        let op = |reference: &str| Op::Track {
            of: of.clone(),
            meta: meta.to_owned(),
            revision,
            reference: reference.to_owned(),
        };
        self.record(Kind::Invoke, op(""));
        let Presence { topic, key, id } = of.clone();
        let meta = Bytes::copy_from_slice(meta.as_bytes());
        let request = TrackRequest { topic, key, id, meta, revision };
        match self.ask(RequestKind::Track(request)).await {
            Ok(reply) => {
                self.record(Kind::Ok, op(&reply.r#ref));
                Ok(reply.r#ref)
            }
            Err(error) => Err(self.failing(error, op(""))),
        }
    }

    /// It stays for `linger`, for another session to take over.
    pub async fn untrack(&mut self, of: &Presence, linger: Duration) -> Result<(), ClientError> {
        let linger_ms = u64::try_from(linger.as_millis()).unwrap_or(u64::MAX);
        let op = Op::Untrack { of: of.clone(), linger_ms };
        self.record(Kind::Invoke, op.clone());
        let Presence { topic, key, id } = of.clone();
        let linger = prost_types::Duration::try_from(linger).ok();
        let request = UntrackRequest { topic, key, id, linger };
        match self.ask(RequestKind::Untrack(request)).await {
            Ok(_) => {
                self.record(Kind::Ok, op);
                Ok(())
            }
            Err(error) => Err(self.failing(error, op)),
        }
    }

    /// A snapshot comes, then what changes.
    pub async fn watch(&mut self, topic: &str) -> Result<(), ClientError> {
        let op = Op::Watch { topic: topic.to_owned() };
        self.record(Kind::Invoke, op.clone());
        let request = WatchRequest { topic: topic.to_owned(), counts_only: false };
        self.ask(RequestKind::Watch(request)).await?;
        self.record(Kind::Ok, op);
        Ok(())
    }

    pub async fn unwatch(&mut self, topic: &str) -> Result<(), ClientError> {
        let op = Op::Unwatch { topic: topic.to_owned() };
        self.record(Kind::Invoke, op.clone());
        let request = WatchRequest { topic: topic.to_owned(), counts_only: false };
        self.ask(RequestKind::Unwatch(request)).await?;
        self.record(Kind::Ok, op);
        Ok(())
    }

    /// All that the node lists of a topic. Into a history it belongs only when nothing has happened for long.
    pub async fn list(&mut self, topic: &str) -> Result<Vec<Entry>, ClientError> {
        let mut client = PresenceClient::new(self.connection.clone());
        let mut entries = Vec::new();
        let mut page = String::new();
        loop {
            let request = ListRequest { topic: topic.to_owned(), page, ..ListRequest::default() };
            let asking = tokio::time::timeout(PATIENCE, client.list(request));
            let answer = asking.await.map_err(|_| ClientError::silent("a list"))?;
            let answer = answer.map_err(ClientError::Refused)?.into_inner();
            entries.extend(answer.entries.iter().map(entry));
            page = answer.next_page;
            if page.is_empty() {
                break;
            }
        }
        let op = Op::Listed { topic: topic.to_owned(), entries: entries.clone() };
        self.record(Kind::Event, op);
        Ok(entries)
    }

    /// A rejection says that it did not happen; of everything else nobody knows.
    fn failing(&self, error: ClientError, op: Op) -> ClientError {
        if matches!(error, ClientError::Rejected(_)) {
            self.record(Kind::Fail, op);
        }
        error
    }
}

pub(super) fn told(event: &PresenceEvent) -> Told {
    let all = |entries: &[PresenceEntry]| entries.iter().map(entry).collect();
    let count = event.count.unwrap_or_default();
    Told {
        topic: event.topic.clone(),
        snapshot: event.snapshot,
        more: event.more,
        reset: event.reset,
        joins: all(&event.joins),
        updates: all(&event.updates),
        leaves: all(&event.leaves),
        presences: count.presences,
        keys: count.keys,
    }
}

fn entry(entry: &PresenceEntry) -> Entry {
    Entry {
        key: entry.key.clone(),
        id: entry.id.clone(),
        reference: entry.r#ref.clone(),
        before: entry.prev_ref.clone(),
        first_of_key: entry.first_of_key,
        last_of_key: entry.last_of_key,
    }
}

/// The node's default where nothing is said.
pub(super) fn millis(linger: Option<&prost_types::Duration>) -> u64 {
    const DEFAULT_MS: u64 = 5_000;
    linger.map_or(DEFAULT_MS, |linger| {
        let (seconds, nanos) = (linger.seconds.max(0) as u64, linger.nanos.max(0) as u64);
        seconds * 1_000 + nanos / 1_000_000
    })
}
