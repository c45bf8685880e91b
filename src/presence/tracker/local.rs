//! What sessions of this node ask for.

use std::collections::HashMap;
use std::time::Duration;

use crate::types::{Replica, SessionId, Time};

use super::super::claim::check_name;
use super::super::order::visible;
use super::super::replica::{ADOPTION_TRAVELS, Life};
use super::super::sessions::{IDLE_KEPT, State};
use super::super::timers::Due;
use super::super::{
    Asked, Claim, Diff, Fields, Handed, NOBODY, Outcome, Owner, Shown, Track, TrackError, Tracked,
    Tracker, Untrack, Untracked,
};
use super::work::Work;
use super::{Slot, hash_of_name};

/// Clients count from 1; nobody gets here by counting.
const REVISION_MAX: u64 = 1 << 48;

/// How long a session that is handed over would have been held here.
#[derive(Debug, Clone, Copy)]
enum Held {
    /// Each of its claims for its linger.
    Since(Time),
    Until(Time),
}

impl Tracker {
    /// `unix_ms` is for people only: since when.
    pub fn track(
        &mut self,
        owner: &Owner,
        track: &Track,
        now: Time,
        unix_ms: u64,
        diff: &mut Diff,
    ) -> Result<Tracked, TrackError> {
        let default_id;
        let id = if let Some(id) = &track.id {
            &**id
        } else {
            default_id = owner.session.to_string();
            &*default_id
        };
        check_name(&track.key).map_err(TrackError::BadKey)?;
        check_name(id).map_err(TrackError::BadId)?;
        if track.revision > REVISION_MAX {
            return Err(TrackError::BadRevision);
        }
        let asked = self.now_asked(owner.epoch, 1);
        let session = self.sessions.admit(owner, now).ok_or(TrackError::Moved)?;
        let again = session.track_again(hash_of_name(&track.topic, &track.key, id));

        let fields = Fields {
            key: &track.key,
            id,
            meta: &track.meta,
            session: owner.session,
            epoch: owner.epoch,
            asked,
            number: 1,
            revision: track.revision.max(1),
            base: 0,
            since_ms: unix_ms,
            linger: owner.linger,
        };
        let found = self.set.find(&track.topic, &track.key, id);
        let before = found.and_then(|presence| self.view(presence));
        let (claim, mut outcome) = match found {
            None => (Some(fields), Outcome::Joined),
            Some(presence) => self.claim_anew(presence, track.revision, again, fields)?,
        };
        // Made from borrowed parts of other claims, so before anything changes.
        let claim = claim.map(|fields| Claim::new(&fields)).transpose();
        if let Some(claim) = claim.map_err(TrackError::BadKey)? {
            let presence = self.set.presence(&track.topic, &claim, None);
            self.mint(presence, claim, now);
            self.settle(now, diff);
        }
        let found = self.set.find(&track.topic, &track.key, id);
        let after = found.and_then(|presence| self.view(presence));
        let reference = |shown: &Option<Shown>| shown.as_ref().map(Shown::reference);
        if before.is_none() {
            outcome = Outcome::Joined;
        } else if reference(&before) != reference(&after) {
            outcome = Outcome::Updated;
        }
        // What this session has just claimed shows.
        let reference = reference(&after).ok_or(TrackError::NotOwner)?;
        Ok(Tracked { reference, outcome })
    }

    /// When something is asked for that the next operation but `next` will do.
    fn now_asked(&self, epoch: u64, next: u64) -> Asked {
        Asked { epoch, counter: self.replicas[self.me].counter + next }
    }

    /// How a session claims what there are claims of already; `again`: after it untracked. `None`: it need not.
    fn claim_anew<'a>(
        &'a self,
        presence: u32,
        revision: u64,
        again: bool,
        fields: Fields<'a>,
    ) -> Result<(Option<Fields<'a>>, Outcome), TrackError> {
        let order = self.order();
        let shows = order.best(visible(&self.set, presence));
        let Some(prior) = shows.or_else(|| order.best(self.set.claims(presence))) else {
            return Ok((Some(fields), Outcome::Joined));
        };
        let content = match shows {
            Some(winner) => order.content(winner, visible(&self.set, presence)),
            None => prior,
        };
        let (prior, content) = (prior.1, &content.1.claim);
        let known = self.set.claims(presence).map(|(_, slot)| slot.claim.revision());
        let highest_revision = known.max().unwrap_or(0);
        let mut claim = Fields { number: self.highest_number(presence) + 1, ..fields };
        if shows.is_some() {
            claim.since_ms = prior.claim.since_ms();
        }
        let same_meta = content.meta() == fields.meta;

        if prior.claim.session() != fields.session {
            // Another session's: the visible revision goes on, and this client counts from its own beginning.
            claim.revision =
                if same_meta { content.revision() } else { highest_revision.saturating_add(1) };
            claim.base = claim.revision.cast_signed().wrapping_sub(revision.cast_signed());
            return Ok((Some(claim), Outcome::Adopted));
        }
        if prior.claim.epoch() > fields.epoch {
            return Err(TrackError::Moved);
        }
        claim.base = content.base();
        claim.revision = match revision {
            0 if same_meta => content.revision(),
            0 => content.revision().saturating_add(1),
            given => content.base().saturating_add_unsigned(given).max(1).cast_unsigned(),
        };
        let mut outcome = Outcome::Adopted;
        if claim.revision < content.revision() {
            claim = Fields { revision: content.revision(), meta: content.meta(), ..claim };
            outcome = Outcome::Ignored;
        }
        if prior.replica == self.me && prior.claim.epoch() == fields.epoch {
            // Its own already, and no change of hands.
            claim.number = prior.claim.number();
            let asked = std::mem::replace(&mut claim.asked, prior.claim.asked());
            let the_same = claim == prior.claim.fields();
            if the_same && outcome == Outcome::Adopted {
                outcome = Outcome::Unchanged;
            }
            let stands = claim.asked.epoch == asked.epoch && !again;
            if the_same && stands {
                return Ok((None, outcome));
            }
            if !stands {
                claim.asked = asked;
            }
        }
        Ok((Some(claim), outcome))
    }

    /// As `track`, of something that this session tracks already.
    pub fn update(
        &mut self,
        owner: &Owner,
        track: &Track,
        now: Time,
        diff: &mut Diff,
    ) -> Result<Tracked, TrackError> {
        let default_id = owner.session.to_string();
        let id = track.id.as_deref().unwrap_or(&default_id);
        let found = self.set.find(&track.topic, &track.key, id);
        let presence = found.ok_or(TrackError::NotTracked)?;
        let winner = self.order().best(visible(&self.set, presence));
        let (_, winner) = winner.ok_or(TrackError::NotTracked)?;
        if winner.claim.session() != owner.session {
            return Err(TrackError::NotOwner);
        }
        let (asked, presence) = (winner.claim.asked(), self.hash_of(presence));
        let known = self.sessions.get(owner.session);
        if known.is_some_and(|session| session.has_untracked(presence, asked)) {
            return Err(TrackError::NotTracked);
        }
        let since_ms = winner.claim.since_ms();
        self.track(owner, track, now, since_ms, diff)
    }

    pub fn untrack(
        &mut self,
        session: SessionId,
        untrack: &Untrack,
        now: Time,
        diff: &mut Diff,
    ) -> Untracked {
        let default_id = session.to_string();
        let id = untrack.id.as_deref().unwrap_or(&default_id);
        let epoch = self.sessions.get(session).map_or(0, |known| known.epoch);
        let at = self.now_asked(epoch, 0);
        let presence = hash_of_name(&untrack.topic, &untrack.key, id);
        self.sessions.remember_untracked(session, presence, at);
        let found = self.set.find(&untrack.topic, &untrack.key, id);
        let own = found.and_then(|presence| self.claim_of(presence, self.me));
        let Some(slot) = own.filter(|slot| {
            let slot = &self.set.slots[*slot];
            slot.claim.session() == session
        }) else {
            return Untracked::Nothing;
        };
        match untrack.release {
            Some(time) if !time.is_zero() => self.release(slot, now + time, time, now),
            _ => {
                let asked = self.set.slots[slot].claim.asked();
                self.given_up.insert(slot, at.max(asked));
                self.end(slot, now);
            }
        }
        self.settle(now, diff);
        Untracked::Done
    }

    /// From now on it is nobody's, so that its owner, attached elsewhere, doesn't adopt what it gave up.
    fn release(&mut self, slot: u32, until: Time, linger: Duration, now: Time) {
        let Slot { presence, claim, .. } = &self.set.slots[slot];
        let (presence, claim) = (*presence, claim.clone());
        let number = self.highest_number(presence) + 1;
        let fields = Fields { session: NOBODY, epoch: 0, number, linger, ..claim.fields() };
        self.mint(presence, claim.renewed(&fields), now);
        if let Some(slot) = self.claim_of(presence, self.me) {
            self.set.slots[slot].released = true;
            self.released.insert(slot, until);
            self.timers.set(until, Due::Claim(slot));
        }
    }

    /// After every welcome: what the session has anywhere is adopted, what arrives later too.
    pub fn attached(&mut self, owner: &Owner, now: Time, diff: &mut Diff) {
        let has_claims = self.set.owner_head(owner.session).is_some();
        if owner.epoch <= 1 && !has_claims {
            // Its first attachment: there can't be anything of it elsewhere.
            return;
        }
        if self.sessions.admit(owner, now).is_some() {
            self.timers.set(now + IDLE_KEPT, Due::Session(owner.session));
            if has_claims {
                self.work.push_back(Work::Adopt { session: owner.session });
                self.proceed(now, diff);
            }
        }
    }

    /// The session is attached elsewhere, at this epoch: what isn't taken over there within its linger goes.
    pub fn moved(&mut self, session: SessionId, epoch: u64, now: Time) {
        let Some(known) = self.sessions.get_mut(session) else { return };
        if known.epoch >= epoch || known.state == State::Ended {
            return;
        }
        known.epoch = epoch;
        known.expires = None;
        known.state = State::Moved { since: now };
        if known.holds == 0 {
            self.sessions.remove(session);
        } else {
            self.timers.set(now + ADOPTION_TRAVELS, Due::Session(session));
        }
    }

    /// Its attachment here is over for good. Of a session that is attached elsewhere by now, or held for somebody after a drain,
    /// nothing ends: that has its own time.
    pub fn ended(&mut self, session: SessionId, now: Time, diff: &mut Diff) {
        let Some(known) = self.sessions.get_mut(session) else { return };
        if !matches!(known.state, State::Attached { .. }) {
            return;
        }
        if known.holds == 0 {
            self.sessions.remove(session);
            return;
        }
        known.state = State::Ended;
        self.work.push_back(Work::End { session });
        self.proceed(now, diff);
    }

    /// The session ends then, unless it is attached, moved or given another time before.
    pub fn expire(&mut self, session: SessionId, at: Time) {
        if let Some(known) = self.sessions.get_mut(session) {
            known.expires = Some(at);
            self.timers.set(at, Due::Session(session));
        }
    }

    /// The epoch under which somebody who has no attachments asks here: what it holds here it goes on with; what it has elsewhere it takes
    /// over, and no node that had it before takes that back.
    pub fn epoch_here(&self, session: SessionId) -> u64 {
        let known = self.sessions.get(session);
        let highest = self.set.owned_by(session).map(|(_, slot)| slot.claim.epoch()).max();
        match known {
            Some(known)
                if known.holds > 0
                    && matches!(known.state, State::Attached { .. })
                    && highest.is_none_or(|highest| highest <= known.epoch) =>
            {
                known.epoch
            }
            _ => highest.max(known.map(|known| known.epoch)).map_or(1, |it| it.saturating_add(1)),
        }
    }

    /// How many presences of this shard the session holds here.
    pub fn tracked_by(&self, session: SessionId) -> usize {
        self.sessions.get(session).map_or(0, |session| session.holds)
    }

    /// When claims of a session that has moved go.
    pub(super) fn moved_until(since: Time, linger: Duration) -> Time {
        // The new node's claims need their time on the way also where there is no linger.
        since + linger.max(ADOPTION_TRAVELS)
    }

    /// Everything that this node's sessions hold, for another node to adopt. From now on they count as moved.
    ///
    /// `lingering`: sessions without an attachment, and when they end. What has run of a time already is not given again.
    pub fn hand_over(&mut self, lingering: &HashMap<SessionId, Time>, now: Time) -> Vec<Handed> {
        let mut handed = Vec::new();
        // Of each session, until when it would have been held here. `None`: for a linger from now on.
        let mut held: HashMap<SessionId, Held> = HashMap::new();
        for slot in self.replicas[self.me].dots.iter() {
            let slot = &self.set.slots[slot];
            let session = slot.claim.session();
            let Some(known) = self.sessions.get_mut(session) else { continue };
            if known.state == State::Ended {
                continue;
            }
            let held = *held.entry(session).or_insert_with(|| match known.state {
                State::Moved { since } => Held::Since(since),
                _ => known
                    .expires
                    .or_else(|| lingering.get(&session).copied())
                    .map_or(Held::Since(now), Held::Until),
            });
            if !matches!(known.state, State::Moved { .. }) {
                known.state = State::Moved { since: now };
                known.expires = None;
                self.timers.set(now + ADOPTION_TRAVELS, Due::Session(session));
            }
            let (topic, claim) = (self.set.topic(slot.presence).clone(), slot.claim.clone());
            let until = match held {
                Held::Since(since) => since + claim.linger(),
                Held::Until(until) => until,
            };
            handed.push(Handed { topic, remaining: until.since(now), claim });
        }
        handed
    }

    /// What another node hands over.
    pub fn adopt(&mut self, handed: Vec<Handed>, now: Time, diff: &mut Diff) {
        for Handed { topic, claim, remaining } in handed {
            let session = claim.session();
            self.sessions.hold(session, claim.epoch(), claim.linger(), now + remaining);
            let Some(known) = self.sessions.get(session) else { continue };
            let (epoch, linger) = match known.state {
                State::Attached { .. } => (known.epoch, known.linger),
                State::Held => (claim.epoch(), claim.linger()),
                State::Moved { .. } | State::Ended => continue,
            };
            if let Some(until) = known.expires {
                self.timers.set(until, Due::Session(session));
            }
            let presence = self.set.presence(&topic, &claim, None);
            let shows = self.order().best(visible(&self.set, presence));
            let outdone = shows.is_some_and(|(_, shows)| {
                let (shows, handed) = (&shows.claim, &claim);
                let newer = (shows.epoch(), shows.number()) > (handed.epoch(), handed.number());
                if shows.session() == session { newer } else { shows.number() > handed.number() }
            });
            if outdone {
                // Somebody has it since. A session that holds nothing needs no record.
                self.set.drop_if_empty(presence);
                if known.holds == 0 && known.state == State::Held {
                    self.sessions.remove(session);
                }
                continue;
            }
            let number = self.highest_number(presence).max(claim.number()) + 1;
            let fields = Fields { epoch, linger, number, ..claim.fields() };
            self.mint(presence, claim.renewed(&fields), now);
        }
        self.settle(now, diff);
    }

    /// This node goes on under a new incarnation: everything it holds is minted again, and nothing that shows changes.
    pub fn reincarnate(&mut self, me: &Replica, now: Time, diff: &mut Diff) {
        let old = self.me;
        if self.replicas[old].replica == *me {
            return;
        }
        let slots: Vec<u32> = self.replicas[old].dots.iter().collect();
        self.me = self.replicas.insert(me, Life::Up);
        for id in slots {
            let slot = &self.set.slots[id];
            let (presence, claim) = (slot.presence, slot.claim.clone());
            let released = self.released.get(&id).copied();
            // Under the same number: of one name the later incarnation wins, and what has lost goes on losing.
            self.mint(presence, claim, now);
            if let Some(until) = released
                && let Some(slot) = self.claim_of(presence, self.me)
            {
                self.set.slots[slot].released = true;
                self.released.insert(slot, until);
                self.timers.set(until, Due::Claim(slot));
            }
            if let Some(slot) = self.claim_of(presence, self.me) {
                self.set.slots[slot].ending = self.set.slots[id].ending;
                if let Some(at) = self.given_up.remove(&id) {
                    self.given_up.insert(slot, at);
                }
            }
            // The session holds it once, not twice.
            self.lets_go(self.set.slots[id].claim.session());
            self.take(id);
        }
        self.replicas.set_floor(&self.replicas[old].replica.clone());
        self.replicas.remove(old);
        self.settle(now, diff);
    }
}
