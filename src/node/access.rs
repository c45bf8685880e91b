//! Who is let in, from both sides: the access file, which SIGHUP reads again, and what the cluster agrees on, which changes by itself. This
//! is the one place that knows both, so neither overwrites the other.
//!
//! Keys that are agreed on are looked up as they are shown, so a new one costs nothing here. What was taken away makes the door look at
//! everybody again.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;

use crate::broker::Broker;
use crate::config::{SecurityConfig, StaleKeys};
use crate::control::model::{GroupId, State};
use crate::control::part::ControlHandle;
use crate::rights::Access;
use crate::rights::agreed::{Agreed, AgreedQuotas};
use crate::supervise::{Clock, Shutdown};
use crate::types::Time;

/// With `security.stale_keys = "refuse"`, keys that are agreed on count for so long after the leader was last there.
const STALE_AFTER: Duration = Duration::from_secs(10);
/// Many changes in a row are looked at together: looking costs as much as there are sessions.
const AT_MOST_EVERY: Duration = Duration::from_millis(100);
/// How often to see whether there is a leader.
const EVERY: Duration = Duration::from_millis(500);
/// A node learns what is agreed on within this, where there is anything to learn.
const LEARNT_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct AccessKeeper {
    broker: Broker,
    control: ControlHandle,
    clock: Clock,
    stale_keys: StaleKeys,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    /// What the file says. None: there is none.
    file: Option<Arc<Access>>,
    seen: Seen,
    quotas: AgreedQuotas,
    closed: bool,
    /// Keys that are agreed on have ids of chance: the file has the same ones where somebody put them there, or where this is another
    /// group's copy. None: to be looked at.
    overridden: Option<usize>,
}

/// How far the copy was when it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Seen {
    group: Option<GroupId>,
    revision: u64,
    keys: u64,
    namespaces: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Nothing,
    /// Keys were made, and nothing else: nobody who is here is the worse for it.
    Keys,
    /// Look at everybody.
    All,
}

impl Seen {
    fn of(state: &State) -> Self {
        Self {
            group: state.group(),
            revision: state.revision(),
            keys: state.key_count() as u64,
            namespaces: state.namespace_count() as u64,
        }
    }

    /// Each change is one revision; one that makes something is one thing more, one that takes away or alters is none.
    fn news(&self, now: &Self) -> News {
        if self == now {
            return News::Nothing;
        }
        // A group that is new, and has nothing yet, takes nothing away.
        let is_bare = |seen: &Self| seen.revision == 0;
        if is_bare(self) && is_bare(now) {
            return News::Keys;
        }
        let made = now.keys.checked_sub(self.keys);
        let changes = now.revision.checked_sub(self.revision);
        let is_same_place = self.group == now.group && self.namespaces == now.namespaces;
        if is_same_place && made.is_some() && made == changes {
            return News::Keys;
        }
        News::All
    }
}

/// What the door of a node is made of at its start. None: nobody is asked for a key.
pub(super) fn at_start(security: &SecurityConfig) -> Option<Arc<Access>> {
    let open = || security.control_keys.then(Arc::default);
    security.access.clone().or_else(open)
}

impl AccessKeeper {
    pub(super) fn new(
        security: &SecurityConfig,
        broker: Broker,
        control: ControlHandle,
        clock: Clock,
    ) -> Self {
        let held = Held {
            file: security.access.clone(),
            seen: Seen::default(),
            quotas: Vec::new(),
            // A node that has just started has seen no leader; what it has on its disk may be of any age.
            closed: security.stale_keys == StaleKeys::Refuse,
            overridden: None,
        };
        let stale_keys = security.stale_keys;
        let keeper = Self { broker, control, clock, stale_keys, held: Mutex::new(held) };
        keeper.set(&mut keeper.held.lock());
        keeper
    }

    pub(super) fn has_file(&self) -> bool {
        self.held.lock().file.is_some()
    }

    /// The file was read again. How many sessions that ended; None: this node has an open door, or had no file.
    pub(super) fn set_file(&self, file: Arc<Access>) -> Option<usize> {
        let mut held = self.held.lock();
        held.file.as_ref()?;
        held.file = Some(file);
        held.overridden = None;
        self.set(&mut held)
    }

    /// Looks at the copy, and at the clock: `led` is when a leader was last there.
    fn look(&self, led: Option<Time>) {
        let is_led = led.is_some_and(|at| self.clock.now().since(at) < STALE_AFTER);
        let closed = self.stale_keys == StaleKeys::Refuse && !is_led;
        let mut held = self.held.lock();
        let now = self.control.look(Seen::of);
        let news = held.seen.news(&now);
        if news == News::All || held.closed != closed {
            if held.closed != closed && closed {
                tracing::warn!(
                    "no leader of control for 10 s: keys that are agreed on let nobody in until there is one (security.stale_keys)"
                );
            } else if held.closed != closed {
                tracing::info!("control has a leader: keys that are agreed on let in");
            }
            held.closed = closed;
            if let Some(ended) = self.set(&mut held).filter(|ended| *ended > 0) {
                tracing::info!(sessions = ended, "sessions ended whose keys are gone");
            }
        } else if news == News::Keys {
            held.seen = now;
        }
    }

    fn set(&self, held: &mut Held) -> Option<usize> {
        let group = held.seen.group;
        let before = (group, held.seen.revision, held.seen.namespaces);
        let (seen, quotas) = self.control.look(|state| {
            let seen = Seen::of(state);
            let is_same = before == (seen.group, seen.revision, seen.namespaces);
            (seen, (!is_same).then(|| quotas(state)))
        });
        // One that is taken away may be one of those.
        if seen.group != group || held.overridden.is_some_and(|some| some > 0) {
            held.overridden = None;
        }
        held.seen = seen;
        if let Some(quotas) = quotas {
            held.quotas = quotas;
        }
        let file = held.file.clone().unwrap_or_default();
        let overridden = held.overridden.unwrap_or_else(|| file.overridden_of(&self.control));
        held.overridden = Some(overridden);
        let access = file.beside(Agreed {
            keys: Arc::new(self.control.clone()),
            quotas: held.quotas.clone(),
            closed: held.closed,
            overridden,
        });
        self.broker.set_access(&Arc::new(access))
    }

    /// Until the shutdown.
    pub(super) async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let mut changes = self.control.changes();
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (began, mut led, mut said) = (self.clock.now(), None, false);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = changes.changed() => {}
                () = shutdown.cancelled() => return,
            }
            if self.control.is_led() {
                led = Some(self.clock.now());
            }
            self.look(led);
            let nobody = self.broker.door().report().lets_nobody_in();
            let has_learnt = led.is_some() || self.clock.now().since(began) > LEARNT_AFTER;
            if nobody && has_learnt && !said {
                tracing::error!("nobody is let in: {NOBODY}");
            }
            said = nobody && (said || has_learnt);
            tokio::select! {
                () = tokio::time::sleep(AT_MOST_EVERY) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}

/// What to do where there is no key anywhere.
const NOBODY: &str = "there is no key, neither in an access file nor agreed on; make the first into a file: waxwing key create --admin --file access.toml, and start this node anew with --access-file access.toml";

fn quotas(state: &State) -> AgreedQuotas {
    let quota = |(name, entry): (&str, &crate::control::model::facts::NamespaceEntry)| {
        (name.into(), Arc::new(entry.quota.quota()))
    };
    state.namespaces().map(quota).collect()
}

#[cfg(test)]
mod tests {
    use super::{News, Seen};
    use crate::control::model::GroupId;

    #[test]
    fn only_what_takes_away_is_looked_at() {
        let at = |revision, keys, namespaces| Seen { group: None, revision, keys, namespaces };
        let founded = Seen { group: Some(GroupId([1; 16])), ..at(0, 0, 0) };
        assert_eq!(at(0, 0, 0).news(&founded), News::Keys);
        assert_eq!(founded.news(&Seen { group: Some(GroupId([2; 16])), ..at(9, 1, 0) }), News::All);
        let before = at(10, 5, 2);
        for (now, news) in [
            (at(10, 5, 2), News::Nothing),
            (at(11, 6, 2), News::Keys),
            (at(14, 9, 2), News::Keys),
            // A key revoked; one made and another revoked; a namespace made, changed, and deleted with its keys.
            (at(11, 4, 2), News::All),
            (at(12, 5, 2), News::All),
            (at(11, 5, 3), News::All),
            (at(11, 5, 2), News::All),
            (at(11, 1, 1), News::All),
            // Another copy altogether.
            (at(3, 5, 2), News::All),
            (at(8, 3, 2), News::All),
            (
                Seen { group: Some(crate::control::model::GroupId([1; 16])), ..at(11, 6, 2) },
                News::All,
            ),
        ] {
            assert_eq!(before.news(&now), news, "{now:?}");
        }
    }
}
