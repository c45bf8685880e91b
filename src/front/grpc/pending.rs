//! What a session has asked and not yet been told: subscribes and publishes that wait for members to confirm, and replies that wait
//! to be put into the mailbox together.
//!
//! Whatever the session waits for, it waits through here, so that what is pending goes on meanwhile. Subscribes are answered in
//! the order asked: a second subscribe to a topic must not be told "subscribed" before the first one delivers.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};

use super::codec::{self, Events, Names, PublishFlags};
use super::tracks::Gathering;
use crate::broker::{Asked, Attachment, BrokerError};
use crate::pubsub::mailbox::Mailbox;
use crate::router::{Confirm, Confirmed, HandedOn, Published, RouterHandle};

/// So many may wait for confirmation; then nothing more is read.
const PENDING_MAX: usize = 1_024;

/// And so many bytes of the names in pending subscribes: each request may have megabytes of them.
const PENDING_NAMES_MAX: usize = 4 << 20;

/// Replies are put into the mailbox when there are so many bytes of them, or when nothing else is to be done.
const EVENTS_BYTES_MAX: usize = 64 << 10;

pub(super) struct Pending {
    pub(super) attachment: Attachment,
    pub(super) events: Events,
    /// Of the read that is being dealt with.
    pub(super) tracks: Gathering,
    router: RouterHandle,
    subscribes: FuturesOrdered<Pin<Box<dyn Future<Output = Subscribe> + Send>>>,
    /// Of pending subscribes.
    names_bytes: usize,
    publishes: FuturesUnordered<Pin<Box<dyn Future<Output = PublishOutcome> + Send>>>,
    /// Of this read something was refused, since the namespace publishes too fast.
    pub(super) over_rate: bool,
    /// The mailbox said that it is full: there must be room before more replies are caused.
    is_full: bool,
    /// A receiver of ours is over half full, and drains.
    slow: Option<Arc<Mailbox>>,
}

struct Subscribe {
    id: u64,
    names: Names,
    asked: Asked,
    confirmed: Confirmed,
}

/// Whom a run's replies are for.
pub(super) struct Asker {
    pub(super) ids: Vec<u64>,
    pub(super) flags: PublishFlags,
}

type PublishOutcome = (Asker, Published);

/// The attachment has ended: nothing more is to be done for it.
#[derive(Debug)]
pub(super) struct Ended;

impl Pending {
    pub(super) fn new(attachment: Attachment, router: RouterHandle) -> Self {
        Self {
            attachment,
            events: Events::default(),
            tracks: Gathering::default(),
            router,
            subscribes: FuturesOrdered::new(),
            names_bytes: 0,
            publishes: FuturesUnordered::new(),
            over_rate: false,
            is_full: false,
            slow: None,
        }
    }

    /// Awaits `future`; meanwhile what is pending goes on.
    pub(super) async fn wait<F: Future>(&mut self, future: F) -> Result<F::Output, Ended> {
        let mut future = pin!(future);
        let mut closed = pin!(self.attachment.closed().clone().cancelled_owned());
        poll_fn(|cx| {
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            if closed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Ended));
            }
            self.poll(cx);
            Poll::Pending
        })
        .await
    }

    /// Deals with all that is ready by now.
    pub(super) async fn go_on(&mut self) {
        poll_fn(|cx| {
            self.poll(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Ends when no subscribe is pending.
    pub(super) async fn subscribes_done(&mut self) -> Result<(), Ended> {
        self.wait_until(|this| this.subscribes.is_empty()).await
    }

    pub(super) async fn all_done(&mut self) -> Result<(), Ended> {
        self.wait_until(|this| this.subscribes.is_empty() && this.publishes.is_empty()).await
    }

    /// Ends when one more may be pending and more replies may be caused.
    pub(super) async fn room(&mut self) -> Result<(), Ended> {
        if self.events.len() >= EVENTS_BYTES_MAX {
            self.flush();
        }
        if self.is_full {
            let room = self.attachment.room();
            self.wait(room).await?;
            self.is_full = false;
        }
        if !self.takes_more() {
            self.wait_until(Self::takes_more).await?;
        }
        Ok(())
    }

    fn takes_more(&self) -> bool {
        self.subscribes.len() + self.publishes.len() < PENDING_MAX
            && self.names_bytes < PENDING_NAMES_MAX
    }

    async fn wait_until(&mut self, mut is_true: impl FnMut(&Self) -> bool) -> Result<(), Ended> {
        let mut closed = pin!(self.attachment.closed().clone().cancelled_owned());
        poll_fn(|cx| {
            self.poll(cx);
            if is_true(self) {
                return Poll::Ready(Ok(()));
            }
            closed.as_mut().poll(cx).map(|()| Err(Ended))
        })
        .await
    }

    /// Paces the session, once a read, if one of its receivers asked for it.
    pub(super) async fn pace(&mut self) -> Result<(), Ended> {
        if let Some(slow) = self.slow.take() {
            let pace = self.attachment.pace(slow);
            self.wait(pace).await?;
        }
        Ok(())
    }

    /// Puts the replies so far into the mailbox.
    pub(super) fn flush(&mut self) {
        if let Some(frame) = self.events.take()
            && !self.attachment.push(frame)
        {
            self.is_full = true;
        }
    }

    pub(super) fn subscribe(&mut self, id: u64, names: Names, asked: Asked) {
        self.names_bytes += names.bytes();
        let confirmed = self.attachment.confirmed(asked);
        self.subscribes.push_back(Box::pin(async move {
            let (asked, confirmed) = confirmed.await;
            Subscribe { id, names, asked, confirmed }
        }));
    }

    /// A publish that stands in its place; its members are waited for on the side.
    pub(super) fn confirm(&mut self, asker: Asker, handed_on: HandedOn) {
        self.publishes.push(Box::pin(async move { (asker, handed_on.confirmed().await) }));
    }

    pub(super) fn published(&mut self, asker: &Asker, published: &Published) {
        if asker.flags.confirm != Confirm::None {
            for (number, id) in (published.first..).zip(&asker.ids) {
                if *id != 0 {
                    let message_id = self.router.message_id(number);
                    self.events.published(*id, message_id, published, asker.flags.trace);
                }
            }
        }
    }

    /// A receiver asked to be spared a little; once a read is enough.
    pub(super) fn note_slow(&mut self, slow: Option<Arc<Mailbox>>) {
        if slow.is_some() {
            self.slow = slow;
        }
    }

    /// Each request that has an id is told; those without are told together.
    pub(super) fn refuse(&mut self, ids: &[u64], error: &BrokerError) {
        let mut nameless = ids.is_empty();
        for id in ids {
            if *id == 0 {
                nameless = true;
            } else {
                self.events.refused(*id, error);
            }
        }
        if nameless {
            self.events.refused(0, error);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(subscribe)) = self.subscribes.poll_next_unpin(cx) {
            self.subscribed(subscribe);
        }
        while let Poll::Ready(Some((asker, published))) = self.publishes.poll_next_unpin(cx) {
            self.published(&asker, &published);
        }
        self.flush();
    }

    fn subscribed(&mut self, subscribe: Subscribe) {
        let Subscribe { id, names, asked, confirmed } = subscribe;
        self.names_bytes -= names.bytes();
        let reconnected = self.attachment.take_gap_due();
        let answer = codec::subscribed(id, &names, &asked.results, &confirmed, reconnected);
        self.attachment.activate(asked, &confirmed, answer);
        self.is_full |= !self.attachment.has_room();
    }
}
