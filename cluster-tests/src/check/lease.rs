//! Judges what holders of leases saw: is it what one lease with a TTL could have answered, every call taking effect at some moment between
//! its begin and its end?
//!
//! A call whose outcome is not known may have happened or not, at any time after its begin. All times are of one monotonic clock.

#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Promise, Violation};
use crate::history::{Kind, LeaseCall, LeaseWhat, Op, Record};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Ok,
    Refused,
    Unknown,
}

#[derive(Debug)]
struct Call {
    what: LeaseWhat,
    lease: String,
    holder: String,
    /// As the outcome has it, where that is known.
    token: u64,
    ttl_us: u64,
    begun: u64,
    /// Never, where its outcome is not known.
    ended: u64,
    outcome: Outcome,
}

impl Call {
    fn is(&self, what: LeaseWhat, outcome: Outcome) -> bool {
        self.what == what && self.outcome == outcome
    }

    /// It shows that its holder had the lease at some moment of it.
    fn proves_hold(&self) -> bool {
        self.outcome == Outcome::Ok && matches!(self.what, LeaseWhat::Acquire | LeaseWhat::Renew)
    }

    fn shown(&self) -> String {
        let Self { what, lease, holder, token, begun, outcome, .. } = self;
        format!("{what:?} {outcome:?} of {lease} by {holder}, token {token}, at {begun} us")
    }
}

/// One holder's time with a lease.
#[derive(Debug)]
struct Tenure<'a> {
    token: u64,
    holder: &'a str,
    /// When it was first known to be granted.
    known: u64,
    /// Acquisitions and renewals that were said yes to, by their begin.
    holds: Vec<&'a Call>,
}

pub(super) fn judge(history: &[Record]) -> Vec<Violation> {
    let calls = calls(history);
    let mut by_lease: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in &calls {
        by_lease.entry(&call.lease).or_default().push(call);
    }
    let mut found = one_holder(&calls);
    found.extend(tokens_rise(&calls));
    for of_lease in by_lease.values() {
        let tenures = tenures(of_lease);
        found.extend(kept(of_lease, &tenures));
        found.extend(fenced(of_lease, &tenures));
        found.extend(answers(of_lease, &tenures));
    }
    found
}

/// Calls with their outcomes, by their begin.
fn calls(history: &[Record]) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut open: HashMap<(&str, u64), usize> = HashMap::new();
    for record in history {
        let Op::Lease(told) = &record.op else { continue };
        let LeaseCall { call, what, lease, holder, token, ttl_ms } = told;
        if record.kind == Kind::Invoke {
            open.insert((&record.proc, *call), calls.len());
            calls.push(Call {
                what: *what,
                lease: lease.clone(),
                holder: holder.clone(),
                token: *token,
                ttl_us: ttl_ms * 1_000,
                begun: record.t_us,
                ended: u64::MAX,
                outcome: Outcome::Unknown,
            });
            continue;
        }
        let Some(at) = open.remove(&(record.proc.as_str(), *call)) else { continue };
        let call = &mut calls[at];
        call.outcome = match record.kind {
            Kind::Ok => Outcome::Ok,
            Kind::Fail => Outcome::Refused,
            Kind::Invoke | Kind::Info | Kind::Event => continue,
        };
        call.ended = record.t_us;
        call.token = *token;
    }
    calls
}

fn one_holder(calls: &[Call]) -> Vec<Violation> {
    let mut holders: HashMap<u64, (&str, &str)> = HashMap::new();
    let mut found = Vec::new();
    for call in calls.iter().filter(|call| call.proves_hold()) {
        let (lease, holder) = *holders.entry(call.token).or_insert((&call.lease, &call.holder));
        if (lease, holder) != (&call.lease, &call.holder) {
            let what = format!("{}, which is {holder}'s of {lease}", call.shown());
            found.push(Violation::new(Promise::OneHolder, what));
        }
    }
    found
}

/// Over all names: a token that was known before another one's acquisition began is lower.
fn tokens_rise(calls: &[Call]) -> Vec<Violation> {
    // By token: when it may have been granted at the earliest, and when it was known.
    let mut granted: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    // Since when an acquisition of a holder may have been granted unheard.
    let mut unheard: HashMap<(&str, &str), u64> = HashMap::new();
    for call in calls.iter().filter(|call| call.what == LeaseWhat::Acquire) {
        let key = (call.lease.as_str(), call.holder.as_str());
        match call.outcome {
            Outcome::Unknown => {
                unheard.entry(key).or_insert(call.begun);
            }
            Outcome::Ok => {
                let begun = unheard.get(&key).copied().unwrap_or(call.begun);
                let (earliest, known) = granted.entry(call.token).or_insert((begun, call.ended));
                *earliest = (*earliest).min(begun);
                *known = (*known).min(call.ended);
            }
            Outcome::Refused => {}
        }
    }
    let mut known: Vec<(u64, u64)> = granted.iter().map(|(token, (_, at))| (*at, *token)).collect();
    known.sort_unstable();
    // The highest that was known by then.
    let mut highest = 0;
    for (_, token) in &mut known {
        highest = highest.max(*token);
        *token = highest;
    }
    let mut found = Vec::new();
    for (token, (earliest, _)) in &granted {
        let before = known.partition_point(|(at, _)| at < earliest);
        let highest = before.checked_sub(1).map_or(0, |last| known[last].1);
        if highest >= *token {
            let what =
                format!("token {token} was given at {earliest} us or later, and {highest} before");
            found.push(Violation::new(Promise::TokensRise, what));
        }
    }
    found
}

/// By token. Whoever has a token that is another's is judged elsewhere.
fn tenures<'a>(calls: &[&'a Call]) -> Vec<Tenure<'a>> {
    let mut tenures: BTreeMap<u64, Tenure<'_>> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.proves_hold()) {
        let tenure = tenures.entry(call.token).or_insert_with(|| Tenure {
            token: call.token,
            holder: &call.holder,
            known: u64::MAX,
            holds: Vec::new(),
        });
        tenure.known = tenure.known.min(call.ended);
        tenure.holds.push(call);
    }
    tenures.into_values().collect()
}

/// When it was first begun to be given back.
fn given_back(calls: &[&Call], token: u64) -> u64 {
    let releases = calls.iter().filter(|call| {
        call.what == LeaseWhat::Release && call.outcome != Outcome::Refused && call.token == token
    });
    releases.map(|call| call.begun).min().unwrap_or(u64::MAX)
}

/// Until when a holder's own count goes, as far as it was said yes to in calls that began before `at`.
fn counted(tenure: &Tenure<'_>, at: u64) -> Option<u64> {
    let holds = tenure.holds.iter().filter(|call| call.begun < at);
    holds.map(|call| call.begun + call.ttl_us).max()
}

/// Whatever shows that a tenure is over comes after its holder's own count of the TTL, or after it was given back.
fn kept(calls: &[&Call], tenures: &[Tenure<'_>]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut early = |tenure: &Tenure<'_>, call: &Call| {
        if given_back(calls, tenure.token) < call.ended {
            return;
        }
        if let Some(until) = counted(tenure, call.ended).filter(|until| call.ended < *until) {
            let what = format!(
                "{}, ended at {} us, where {} counts on token {} until {until} us",
                call.shown(),
                call.ended,
                tenure.holder,
                tenure.token
            );
            found.push(Violation::new(Promise::LeaseKept, what));
        }
    };
    for pair in tenures.windows(2) {
        let [before, after] = pair else { continue };
        // The first of them that was known says so.
        let first = after.holds.iter().min_by_key(|call| call.ended);
        first.into_iter().for_each(|call| early(before, call));
    }
    let by_token: BTreeMap<u64, &Tenure<'_>> =
        tenures.iter().map(|tenure| (tenure.token, tenure)).collect();
    for call in calls {
        let is_own = matches!(call.what, LeaseWhat::Renew | LeaseWhat::Release);
        if is_own
            && call.outcome == Outcome::Refused
            && let Some(tenure) = by_token.get(&call.token)
            && tenure.holder == call.holder
        {
            early(tenure, call);
        }
    }
    found
}

/// What carries a token and was said yes to did not begin after a higher one of the same name was known.
fn fenced(calls: &[&Call], tenures: &[Tenure<'_>]) -> Vec<Violation> {
    let mut known: Vec<(u64, u64)> = tenures.iter().map(|one| (one.known, one.token)).collect();
    known.sort_unstable();
    let mut found = Vec::new();
    for call in calls.iter().filter(|call| call.outcome == Outcome::Ok) {
        let before = known.iter().take_while(|(at, _)| *at < call.begun);
        let highest = before.map(|(_, token)| *token).max().unwrap_or_default();
        if highest > call.token {
            let what = format!("{}, after {highest} was given", call.shown());
            found.push(Violation::new(Promise::Fenced, what));
        }
    }
    let mut writes: Vec<&&Call> =
        calls.iter().filter(|call| call.is(LeaseWhat::Write, Outcome::Ok)).collect();
    writes.sort_unstable_by_key(|call| call.ended);
    let mut highest = 0;
    for call in writes {
        if call.token < highest && fresh(calls, highest) < call.begun {
            let what = format!("{}, after a write with {highest}", call.shown());
            found.push(Violation::new(Promise::Fenced, what));
        }
        highest = highest.max(call.token);
    }
    found
}

/// When the first write with this token had been taken.
fn fresh(calls: &[&Call], token: u64) -> u64 {
    let writes = calls.iter().filter(|call| call.is(LeaseWhat::Write, Outcome::Ok));
    writes.filter(|call| call.token == token).map(|call| call.ended).min().unwrap_or(u64::MAX)
}

fn answers(calls: &[&Call], tenures: &[Tenure<'_>]) -> Vec<Violation> {
    let by_token: BTreeMap<u64, &Tenure<'_>> =
        tenures.iter().map(|tenure| (tenure.token, tenure)).collect();
    // By token: when it had been given back for certain.
    let mut released: BTreeMap<u64, u64> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.is(LeaseWhat::Release, Outcome::Ok)) {
        let at = released.entry(call.token).or_insert(u64::MAX);
        *at = (*at).min(call.ended);
    }
    let mut found = Vec::new();
    let mut wrong = |call: &Call, why: &str| {
        let what = format!("{}: {why}", call.shown());
        found.push(Violation::new(Promise::LeaseAnswers, what));
    };
    // Acquisitions that may have been granted unheard.
    let unheard: BTreeSet<(u64, &str)> = calls
        .iter()
        .filter(|call| call.is(LeaseWhat::Acquire, Outcome::Unknown))
        .map(|call| (call.begun, call.holder.as_str()))
        .collect();
    for call in calls {
        let is_over = |token: u64| released.get(&token).is_some_and(|at| *at < call.begun);
        if call.outcome == Outcome::Ok && call.what != LeaseWhat::Write {
            if is_over(call.token) {
                wrong(call, "it had been given back");
            }
            let is_known = by_token.contains_key(&call.token);
            if call.what == LeaseWhat::Release && !is_known {
                wrong(call, "nobody had this token");
            }
        }
        if !call.is(LeaseWhat::Acquire, Outcome::Refused) || call.token == 0 {
            continue;
        }
        match by_token.get(&call.token) {
            Some(tenure) => {
                if is_over(call.token) {
                    wrong(call, "that holder had given it back");
                }
                if tenure.holder == call.holder {
                    wrong(call, "that holder is who asked");
                }
                let begun = tenure.holds.iter().map(|hold| hold.begun).min().unwrap_or(0);
                let early =
                    unheard.iter().any(|(at, holder)| *at < call.ended && *holder == tenure.holder);
                if call.ended < begun && !early {
                    wrong(call, "that holder had not asked yet");
                }
            }
            None => {
                // Somebody whose answer got lost.
                let may_be =
                    unheard.iter().any(|(at, holder)| *at < call.ended && *holder != call.holder);
                if !may_be {
                    wrong(call, "nobody had this token");
                }
            }
        }
        let later = tenures.iter().find(|one| one.token > call.token && one.known < call.begun);
        if let Some(later) = later {
            wrong(call, &format!("{} had been given before", later.token));
        }
    }
    found
}
