//! ● Leases: who may have one, and what the word of sessions and members does to it.
//!
//! Invariants: a lease has one holder; each holder after another has a higher token; what is said of an older epoch, token or beat than
//! the lease's changes nothing; a lease of an attached session never ends but by its session, its release, or its namespace.

use super::bounds::{LEASES_MAX, LEASES_PER_NAMESPACE_MAX, TTL_MS_MAX, TTL_MS_MIN};
use super::command::{Acquire, Answer, Bound, Due, Refusal, SessionReport, SessionWord};
use super::facts::{Held, Lease, LeaseKey, MemberAt, Owner, OwnerId, judge_lease, judge_note};
use super::state::{Doing, State, weigh_lease};

impl State {
    /// Whoever holds it gets the same token again: asking twice does no harm.
    pub(super) fn acquire(
        &mut self,
        ask: &Acquire,
        doing: &mut Doing<'_>,
    ) -> Result<Answer, Refusal> {
        judge_acquire(ask).map_err(Refusal::Unlawful)?;
        let held = match &ask.owner {
            Owner::Session { .. } => Held::Attached,
            Owner::Alone { .. } => Held::Runs,
        };
        let there = self.leases.get(&ask.lease);
        let lease = match there {
            Some(there) if there.owner.id() != ask.owner.id() => {
                return Err(Refusal::Held { token: there.token });
            }
            Some(there) => {
                if let (Owner::Session { epoch: known, .. }, Owner::Session { epoch, .. }) =
                    (&there.owner, &ask.owner)
                    && epoch < known
                {
                    return Err(Refusal::OldEpoch { epoch: *known });
                }
                Lease {
                    owner: ask.owner.clone(),
                    token: there.token,
                    beat: there.beat + 1,
                    held,
                    ttl_ms: ask.ttl_ms,
                    note: ask.note.clone(),
                    since_ms: there.since_ms,
                }
            }
            None => {
                self.room_for_lease(&ask.lease)?;
                Lease {
                    owner: ask.owner.clone(),
                    token: self.next_token,
                    beat: 0,
                    held,
                    ttl_ms: ask.ttl_ms,
                    note: ask.note.clone(),
                    since_ms: doing.at_ms,
                }
            }
        };
        let old = there.map_or(0, |there| weigh_lease(&ask.lease, there));
        self.room(weigh_lease(&ask.lease, &lease), old)?;
        if old == 0 {
            self.next_token += 1;
        }
        self.written = true;
        let granted = Answer::Granted { token: lease.token, beat: lease.beat };
        self.put_lease(&ask.lease, lease, doing);
        Ok(granted)
    }

    fn room_for_lease(&self, key: &LeaseKey) -> Result<(), Refusal> {
        let of_namespace = self.index.contents(&key.namespace).leases;
        for (bound, there, max) in [
            (Bound::Leases, self.leases.len() as u64, LEASES_MAX as u64),
            (Bound::LeasesOfNamespace, of_namespace, LEASES_PER_NAMESPACE_MAX as u64),
            (Bound::Tokens, self.next_token, u64::MAX),
        ] {
            if there >= max {
                return Err(Refusal::TooMany { bound, max });
            }
        }
        Ok(())
    }

    pub(super) fn renew(
        &mut self,
        key: &LeaseKey,
        owner: OwnerId,
        token: u64,
        ttl_ms: Option<u64>,
        doing: &mut Doing<'_>,
    ) -> Result<Answer, Refusal> {
        if let Some(ttl_ms) = ttl_ms {
            judge_ttl(ttl_ms).map_err(Refusal::Unlawful)?;
        }
        let lease = self.leases.get_mut(key);
        let lease = lease.filter(|lease| lease.token == token && lease.owner.id() == owner);
        let lease = lease.ok_or(Refusal::NotHeld)?;
        lease.ttl_ms = ttl_ms.unwrap_or(lease.ttl_ms);
        lease.beat += 1;
        doing.touched.leases.insert(key.clone());
        Ok(Answer::Granted { token, beat: lease.beat })
    }

    pub(super) fn release(
        &mut self,
        key: &LeaseKey,
        owner: OwnerId,
        token: u64,
        doing: &mut Doing<'_>,
    ) -> Result<Answer, Refusal> {
        let lease = self.leases.get(key);
        if lease.is_none_or(|lease| lease.token != token || lease.owner.id() != owner) {
            return Err(Refusal::NotHeld);
        }
        self.take_lease(key, doing);
        Ok(Answer::Changed { leases: 1 })
    }

    pub(super) fn expire(&mut self, due: &[Due], doing: &mut Doing<'_>) -> Result<Answer, Refusal> {
        let mut leases = 0;
        for Due { lease: key, token, beat } in due {
            let is_over = self.leases.get(key).is_some_and(|lease| {
                lease.token == *token && lease.beat == *beat && lease.held == Held::Runs
            });
            if is_over {
                self.take_lease(key, doing);
                leases += 1;
            }
        }
        Ok(Answer::Changed { leases })
    }

    pub(super) fn sessions(
        &mut self,
        reports: &[SessionReport],
        doing: &mut Doing<'_>,
    ) -> Result<Answer, Refusal> {
        let mut leases = 0;
        for report in reports {
            super::facts::judge_member(&report.at).map_err(Refusal::Unlawful)?;
        }
        for report in reports {
            let of_it = self.index.leases_of.get(&report.session);
            for key in of_it.into_iter().flatten().cloned().collect::<Vec<_>>() {
                leases += u64::from(self.hear(&key, report, doing));
            }
        }
        Ok(Answer::Changed { leases })
    }

    /// What a report says of one lease of its session. Is it news?
    fn hear(&mut self, key: &LeaseKey, report: &SessionReport, doing: &mut Doing<'_>) -> bool {
        let Some(lease) = self.leases.get(key) else { return false };
        let Owner::Session { epoch, at, .. } = &lease.owner else { return false };
        // Of two members at one epoch only the one where the session came first can speak of it; it may have another incarnation by now.
        let is_same = report.at.name == at.name && report.at.incarnation >= at.incarnation;
        if report.epoch < *epoch || (report.epoch == *epoch && !is_same) {
            return false;
        }
        let held = match report.what {
            SessionWord::Attached => Held::Attached,
            SessionWord::Lost => Held::Runs,
            SessionWord::Ended => {
                self.take_lease(key, doing);
                return true;
            }
        };
        if report.epoch == *epoch && report.at == *at && lease.held == held {
            return false;
        }
        let mut lease = lease.clone();
        lease.owner =
            Owner::Session { id: report.session, epoch: report.epoch, at: report.at.clone() };
        lease.held = held;
        lease.beat += 1;
        self.put_lease(key, lease, doing);
        true
    }

    pub(super) fn member_lost(&mut self, lost: &MemberAt, doing: &mut Doing<'_>) -> Answer {
        let mut leases = 0;
        for (key, lease) in &mut self.leases {
            let Owner::Session { at, .. } = &lease.owner else { continue };
            let was_there = at.name == lost.name && at.incarnation <= lost.incarnation;
            if was_there && lease.held == Held::Attached {
                lease.held = Held::Runs;
                lease.beat += 1;
                leases += 1;
                doing.touched.leases.insert(key.clone());
            }
        }
        Answer::Changed { leases }
    }
}

impl State {
    /// Of one namespace, those whose name begins so, by name.
    pub fn leases_in<'a>(
        &'a self,
        namespace: &'a str,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a LeaseKey, &'a Lease)> {
        let first = LeaseKey { namespace: namespace.into(), name: prefix.into() };
        self.leases.range(first..).take_while(move |(key, _)| {
            *key.namespace == *namespace && key.name.starts_with(prefix)
        })
    }
}

impl Acquire {
    /// Can it be granted at all? Asked before it is proposed, too, so that whoever asks what is senseless needs no quorum to hear so.
    pub fn judge(&self) -> Result<(), Refusal> {
        judge_acquire(self).map_err(Refusal::Unlawful)
    }
}

/// As `Acquire::judge`, of a lease's time alone.
pub fn lawful_ttl(ttl_ms: u64) -> Result<(), Refusal> {
    judge_ttl(ttl_ms).map_err(Refusal::Unlawful)
}

/// As `Acquire::judge`, of a lease's name alone.
pub fn lawful_lease(key: &LeaseKey) -> Result<(), Refusal> {
    judge_lease(key).map_err(Refusal::Unlawful)
}

fn judge_ttl(ttl_ms: u64) -> Result<(), String> {
    if !(TTL_MS_MIN..=TTL_MS_MAX).contains(&ttl_ms) {
        return Err(format!("a lease's time must be {TTL_MS_MIN} to {TTL_MS_MAX} ms"));
    }
    Ok(())
}

fn judge_acquire(ask: &Acquire) -> Result<(), String> {
    judge_lease(&ask.lease)?;
    judge_note(&ask.note)?;
    judge_ttl(ask.ttl_ms)?;
    match &ask.owner {
        Owner::Session { at, .. } => super::facts::judge_member(at),
        Owner::Alone { .. } => Ok(()),
    }
}
