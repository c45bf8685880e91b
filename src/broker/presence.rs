//! Presence as attachments ask for it: judged here, done by the replicator.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::error::BadKey;
use super::seat::{Seat, Watch};
use super::tenant::WatchPlace;
use super::{Attachment, BrokerError, Pass, Shared, Voice};
use crate::config::Limits;
use crate::presence::{Outcome, Owner, Track, TrackError, Tracked, Untrack};
use crate::pubsub::mailbox::Mailbox;
use crate::replicator::{Update, Watcher, Watching};
use crate::types::{Namespace, Topic};

/// What a client says of a presence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrackAsk {
    pub topic: String,
    pub key: String,
    /// Empty: the session's id.
    pub id: String,
    pub meta: Bytes,
    /// 0: the node numbers.
    pub revision: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UntrackAsk {
    pub topic: String,
    pub key: String,
    /// Empty: the session's id.
    pub id: String,
    /// Some: it stays for so long, for another session to take over.
    pub linger: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Track,
    /// Of what this session tracks already.
    Update,
}

/// The reference of what is listed then.
pub type TrackAnswer = Result<String, BrokerError>;

/// A watch that has been judged, and not begun: its answer comes first.
#[derive(Debug)]
pub struct WatchAsked {
    topic: Topic,
    counts_only: bool,
    /// It is being watched so already.
    is_old: bool,
    /// Of one that is new.
    place: Option<WatchPlace>,
}

impl Attachment {
    /// In the order asked; each is judged by itself.
    pub fn track(&self, verb: Verb, asks: Vec<TrackAsk>) -> Vec<TrackAnswer> {
        let count = asks.len();
        let answers = match self.seat.may_ask() {
            Err(error) => vec![Err(error); count],
            Ok(()) => self.shared.track(&self.seat, verb, asks),
        };
        answers.iter().filter_map(|answer| answer.as_ref().err()).for_each(BrokerError::count);
        answers
    }

    /// What isn't tracked is no error: it isn't afterwards either.
    pub fn untrack(&self, ask: &UntrackAsk) -> Result<(), BrokerError> {
        self.seat.may_ask()?;
        let limits = self.shared.limits.get();
        let namespace = self.seat.card.pass.namespace();
        let topic = self.shared.topic(namespace, &ask.topic, &limits);
        let judged = topic.and_then(|topic| {
            check_key(&ask.key, &ask.id, &limits)?;
            Ok(topic)
        });
        let topic = judged.inspect_err(BrokerError::count)?;
        let untrack = Untrack {
            topic,
            key: ask.key.as_str().into(),
            id: (!ask.id.is_empty()).then(|| ask.id.as_str().into()),
            release: ask.linger.filter(|it| !it.is_zero()).map(|it| it.min(limits.linger_max)),
        };
        // What wasn't there isn't there now either.
        let _ = self.shared.replicator.untrack(self.seat.session, &untrack);
        Ok(())
    }

    /// Judges a watch; `begin_watch` begins it, once it has been answered.
    pub fn watch(&self, topic: &str, counts_only: bool) -> Result<WatchAsked, BrokerError> {
        self.seat.may_ask()?;
        let limits = self.shared.limits.get();
        self.judge_watch(topic, counts_only, &limits).inspect_err(BrokerError::count)
    }

    fn judge_watch(
        &self,
        topic: &str,
        counts_only: bool,
        limits: &Limits,
    ) -> Result<WatchAsked, BrokerError> {
        let pass = &self.seat.card.pass;
        let topic = self.shared.topic(pass.namespace(), topic, limits)?;
        pass.may_watch(&topic)?;
        let watches = self.seat.watches.lock();
        let old = watches.get(&topic);
        if old.is_none() && watches.len() >= limits.watches {
            return Err(BrokerError::TooManyWatches { max: limits.watches });
        }
        let is_old = old.is_some_and(|watch| watch.counts_only == counts_only);
        let tenant = pass.tenant().filter(|_| old.is_none());
        let place = tenant.map(|tenant| tenant.watch()).transpose()?;
        Ok(WatchAsked { topic, counts_only, is_old, place })
    }

    /// A snapshot comes at the next tick, then what changes.
    pub fn begin_watch(&self, asked: WatchAsked) {
        let WatchAsked { topic, counts_only, is_old, mut place } = asked;
        if is_old {
            return;
        }
        let replicator = &self.shared.replicator;
        let mut watches = self.seat.watches.lock();
        if self.seat.closed().is_cancelled() {
            return;
        }
        if let Some(old) = watches.remove(&topic) {
            replicator.unwatch(&old.id);
            place = old.place.or(place);
        }
        let (mailbox, voice) = (self.seat.mailbox.clone(), self.seat.voice);
        let watcher = Arc::new(SeatWatcher { mailbox, voice });
        let id = replicator.watch(&topic, Watching { counts_only }, watcher);
        watches.insert(topic, Watch { id, counts_only, place });
    }

    pub fn unwatch(&self, topic: &str) -> Result<(), BrokerError> {
        self.seat.may_ask()?;
        let limits = self.shared.limits.get();
        let topic = self
            .shared
            .topic(self.seat.card.pass.namespace(), topic, &limits)
            .inspect_err(BrokerError::count)?;
        if let Some(watch) = self.seat.watches.lock().remove(&topic) {
            self.shared.replicator.unwatch(&watch.id);
        }
        Ok(())
    }
}

impl Shared {
    pub(super) fn topic(
        &self,
        namespace: &Namespace,
        topic: &str,
        limits: &Limits,
    ) -> Result<Topic, BrokerError> {
        Ok(self.router.hasher().topic(namespace, topic, limits.topic)?)
    }

    fn track(&self, seat: &Seat, verb: Verb, asks: Vec<TrackAsk>) -> Vec<TrackAnswer> {
        let limits = seat.card.pass.limits(&self.limits);
        let mut answers: Vec<Option<TrackAnswer>> = Vec::with_capacity(asks.len());
        let mut tracks = Vec::with_capacity(asks.len());
        // One frame is mostly about one topic: it is neither hashed nor allocated again.
        let mut last: Option<Topic> = None;
        for ask in asks {
            let judged = self.judge(&seat.card.pass, ask, &mut last, &limits);
            answers.push(judged.map_or_else(
                |error| Some(Err(error)),
                |track| {
                    tracks.push(track);
                    None
                },
            ));
        }
        let owner = self.owner(seat);
        let mut done = self.track_judged(&owner, verb, &tracks, &limits).into_iter();
        let each = answers.into_iter().map(|answer| answer.or_else(|| done.next()));
        each.map(|answer| answer.unwrap_or(Err(BrokerError::NotTracked))).collect()
    }

    /// Asks of one owner that make sense, within the limits.
    pub(super) fn track_judged(
        &self,
        owner: &Owner,
        verb: Verb,
        mut tracks: &[Track],
        limits: &Limits,
    ) -> Vec<TrackAnswer> {
        let replicator = &self.replicator;
        let convert = |done: Vec<Result<Tracked, TrackError>>| done.into_iter().map(answer_of);
        if verb == Verb::Update {
            return convert(replicator.update_all(owner, tracks)).collect();
        }
        let mut answers: Vec<TrackAnswer> = Vec::with_capacity(tracks.len());
        while !tracks.is_empty() {
            // How many of them are new nobody knows yet; so many may be.
            let (room, full) = self.presence_room(owner, tracks, limits);
            if room > 0 {
                let (now, rest) = tracks.split_at(room.min(tracks.len()));
                answers.extend(convert(replicator.track_all(owner, now)));
                tracks = rest;
                continue;
            }
            // What is tracked already may change, also where nothing new may come.
            let done = convert(replicator.update_all(owner, tracks));
            answers.extend(done.map(|answer| match answer {
                Err(BrokerError::NotTracked | BrokerError::NotOwner) => Err(full.clone()),
                answer => answer,
            }));
            break;
        }
        answers
    }

    /// How many of `tracks` may all be new, and what refuses those behind them.
    fn presence_room(
        &self,
        owner: &Owner,
        tracks: &[Track],
        limits: &Limits,
    ) -> (usize, BrokerError) {
        let session = limits.presences.saturating_sub(self.replicator.tracked_by(owner.session));
        let namespace =
            tracks.first().map_or(0, |track| self.replicator.presences_in(track.topic.namespace()));
        let namespace = limits.namespace_presences.saturating_sub(namespace);
        if session <= namespace {
            (session, BrokerError::TooManyPresences { max: limits.presences })
        } else {
            (namespace, BrokerError::NamespaceFull { max: limits.namespace_presences })
        }
    }

    pub(super) fn judge(
        &self,
        pass: &Pass,
        ask: TrackAsk,
        last: &mut Option<Topic>,
        limits: &Limits,
    ) -> Result<Track, BrokerError> {
        let TrackAsk { topic, key, id, meta, revision } = ask;
        let topic = match last {
            Some(last) if last.name() == topic.as_bytes() => last.clone(),
            _ => {
                let topic = self.topic(pass.namespace(), &topic, limits)?;
                pass.may_track(&topic)?;
                last.insert(topic).clone()
            }
        };
        check_key(&key, &id, limits)?;
        if meta.len() > limits.metadata {
            return Err(BrokerError::MetadataTooLarge { size: meta.len(), max: limits.metadata });
        }
        let id = (!id.is_empty()).then(|| id.into_boxed_str());
        Ok(Track { topic, key: key.into_boxed_str(), id, meta, revision })
    }

    /// The session as the replicator knows it; tells it of one that was made here and now.
    fn owner(&self, seat: &Seat) -> Owner {
        let owner = seat.owner();
        if !seat.owns.swap(true, Ordering::Relaxed) {
            self.replicator.attached(&owner);
        }
        owner
    }
}

impl Seat {
    /// Its watches end with it.
    pub(super) fn take_watches(&self) -> Vec<crate::replicator::WatchId> {
        self.watches.lock().drain().map(|(_, watch)| watch.id).collect()
    }
}

pub(super) fn answer_of(done: Result<Tracked, TrackError>) -> TrackAnswer {
    match done {
        Ok(Tracked { reference, outcome: Outcome::Ignored }) => {
            Err(BrokerError::OlderRevision { reference: reference.to_string() })
        }
        Ok(Tracked { reference, .. }) => Ok(reference.to_string()),
        Err(TrackError::NotTracked) => Err(BrokerError::NotTracked),
        Err(TrackError::NotOwner) => Err(BrokerError::NotOwner),
        Err(TrackError::Moved) => Err(BrokerError::Superseded),
        Err(error) => Err(BrokerError::Invalid(error.to_string())),
    }
}

pub(super) fn check_key(key: &str, id: &str, limits: &Limits) -> Result<(), BadKey> {
    let max = limits.key;
    let control = |text: &str| text.chars().find(|c| c.is_control()).map(u32::from);
    if key.is_empty() {
        Err(BadKey::Empty)
    } else if key.len() > max {
        Err(BadKey::KeyTooLong { len: key.len(), max })
    } else if id.len() > max {
        Err(BadKey::IdTooLong { len: id.len(), max })
    } else if let Some(found) = control(key) {
        Err(BadKey::KeyControl(found))
    } else if let Some(found) = control(id) {
        Err(BadKey::IdControl(found))
    } else {
        Ok(())
    }
}

/// What a watched topic's ticks are put into.
struct SeatWatcher {
    mailbox: Arc<Mailbox>,
    voice: &'static dyn Voice,
}

impl Watcher for SeatWatcher {
    fn push(&self, update: &Arc<Update>) -> bool {
        if !self.mailbox.has_room() {
            return false;
        }
        if let Some(said) = self.voice.presence(update) {
            self.mailbox.push_event(said);
        }
        true
    }

    fn has_room(&self) -> bool {
        self.mailbox.has_room()
    }
}
