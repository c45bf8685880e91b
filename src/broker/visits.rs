//! Presence for those without a session: lists, counts, and entries that live as long as their writer renews them.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::presence::{TrackAsk, Verb};
use super::writers::Put;
use super::{BadKey, Broker, BrokerError, Pass};
use crate::config::Limits;
use crate::presence::{Count, Owner, Track, shard_of};
use crate::replicator::{Listed, Page, PageToken, Query};
use crate::router::SessionMoved;
use crate::types::{SessionId, Topic};

const PAGE_BYTES_MAX: usize = 3 << 20;

impl Broker {
    /// Who is there, page by page.
    pub fn presence_list(
        &self,
        pass: &Pass,
        topic: &str,
        query: &Query,
    ) -> Result<Page, BrokerError> {
        let topic = self.presence_topic(pass, topic)?;
        let mut page = self.shared.replicator.list(&topic, query);
        bound_page(&mut page);
        Ok(page)
    }

    pub fn presence_count(&self, pass: &Pass, topic: &str) -> Result<Count, BrokerError> {
        let topic = self.presence_topic(pass, topic)?;
        Ok(self.shared.replicator.count(&topic))
    }

    /// An entry without a session, which goes when its writer hasn't renewed it for so long. The writer may do so on any node.
    pub async fn presence_put(
        &self,
        pass: &Pass,
        ask: TrackAsk,
        ttl: Duration,
    ) -> Result<String, BrokerError> {
        let put = self.presence_judged(pass, ask);
        let (track, limits) = put.inspect_err(BrokerError::count)?;
        self.until_ready().await;
        let shared = &self.shared;
        if self.is_draining() {
            return Err(BrokerError::Draining);
        }
        let id = track.id.as_deref().unwrap_or_default();
        let session = SessionId::of_writer(&track.topic, &track.key, id);
        let linger = ttl.min(limits.linger_max);
        // What it had put elsewhere ends there without being missed: it is this node's from now on.
        let epoch = shared.replicator.epoch_here(session, &track.topic);
        let (owner, shard) = (Owner { session, epoch, linger }, shard_of(&track.topic));
        let answer = shared.track_judged(&owner, Verb::Track, &[track], &limits).pop();
        let reference = answer.unwrap_or(Err(BrokerError::NotTracked));
        let reference = reference.inspect_err(BrokerError::count)?;
        shared.replicator.expire(session, ttl);
        if pass.is_keyed() {
            let until = shared.clock.now() + ttl;
            let mut table = shared.table.lock();
            if let Err(refused) = shared.check_again(pass).inspect_err(BrokerError::count) {
                table.writers.forget(session);
                shared.replicator.ended(session);
                return Err(refused);
            }
            let pass_ends = pass.ends(shared.clock);
            table.writers.put(session, Put { shard, pass: pass.clone(), until, pass_ends });
            table.writers.look(|session, shard| shared.replicator.is_tracking(session, shard));
        }
        Ok(reference)
    }

    /// Ends an entry of `presence_put`, whichever node has it.
    pub async fn presence_delete(
        &self,
        pass: &Pass,
        topic: &str,
        key: &str,
        id: &str,
    ) -> Result<(), BrokerError> {
        let ask = TrackAsk {
            topic: topic.to_owned(),
            key: key.to_owned(),
            id: id.to_owned(),
            ..TrackAsk::default()
        };
        let (track, _) = self.presence_judged(pass, ask).inspect_err(BrokerError::count)?;
        let session = SessionId::of_writer(&track.topic, key, id);
        {
            let mut table = self.shared.table.lock();
            table.writers.forget(session);
            self.shared.replicator.ended(session);
        }
        // Whichever epoch it has there: no node's table has such a session.
        let moved = SessionMoved { session, epoch: 0, overlap: false, ended: true };
        self.shared.router.session_moved(moved, true).await;
        Ok(())
    }

    fn presence_judged(
        &self,
        pass: &Pass,
        ask: TrackAsk,
    ) -> Result<(Track, Arc<Limits>), BrokerError> {
        let limits = pass.limits(&self.shared.limits);
        if ask.id.is_empty() {
            return Err(BadKey::IdEmpty.into());
        }
        let track = self.shared.judge(pass, ask, &mut None, &limits)?;
        Ok((track, limits))
    }

    fn presence_topic(&self, pass: &Pass, topic: &str) -> Result<Topic, BrokerError> {
        let limits = self.shared.limits.get();
        let topic = self.shared.topic(pass.namespace(), topic, &limits);
        let may = topic.and_then(|topic| pass.may_watch(&topic).map(|()| topic));
        may.inspect_err(BrokerError::count)
    }
}

/// Cuts a page of large entries short: clients' libraries take 4 MiB.
fn bound_page(page: &mut Page) {
    let mut bytes = 0;
    let fits = page.entries.iter().take_while(|entry| {
        let shown = &entry.shown;
        bytes += shown.key().len() + shown.id().len() + shown.meta().len() + 128;
        bytes <= PAGE_BYTES_MAX
    });
    // One always fits.
    let fits = fits.count().max(1);
    if fits < page.entries.len() {
        page.entries.truncate(fits);
        page.next = page.entries.last().map(|Listed { shown, .. }| PageToken {
            key: shown.key().to_owned(),
            id: shown.id().to_owned(),
        });
    }
}

/// A page's place, as clients hand it back.
pub fn page_text(page: &PageToken) -> String {
    let PageToken { key, id } = page;
    // The key has no control characters.
    URL_SAFE_NO_PAD.encode(format!("{key}\0{id}"))
}

/// `None`: no node has ever named it.
pub fn parse_page(text: &str) -> Option<PageToken> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (key, id) = std::str::from_utf8(&bytes).ok()?.split_once('\0')?;
    Some(PageToken { key: key.to_owned(), id: id.to_owned() })
}
