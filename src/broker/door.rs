//! Who is let in, and what each may do: the one check that all fronts go through.
//!
//! A front hands in what its client showed and gets a `Pass`; without one nothing can be asked of the broker. Invariant: a namespace is
//! never a client's word where there are keys: it is the key's. Without keys a pass is a namespace and nothing else, and asking it costs
//! a look at an empty pointer.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

pub use super::tenant::Here;
use super::tenant::{Tenant, Tenants};
use super::{Broker, BrokerError, Ending, Shared, Table};
use crate::config::Limits;
use crate::config::limits::LimitsHandle;
use crate::metrics::names;
use crate::pubsub::Messages;
use crate::rights::{Access, Ask, Grant, NotAdmitted, Right};
use crate::supervise::Clock;
use crate::types::{Namespace, Time, Topic};

/// Cheap to clone.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

struct Inner {
    /// None: nobody is asked for a key. Which of the two it is a node keeps until it ends.
    access: Option<RwLock<Arc<Access>>>,
    tenants: Tenants,
    clock: Clock,
}

/// Somebody who was let in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pass {
    namespace: Namespace,
    /// None: nobody was asked for a key, and everybody may do everything.
    grant: Option<Arc<Grant>>,
    /// What its namespace has here. None: nobody was asked for a key.
    tenant: Option<Arc<Tenant>>,
}

impl PartialEq for Pass {
    fn eq(&self, other: &Self) -> bool {
        self.namespace == other.namespace && self.grant == other.grant
    }
}

impl Eq for Pass {}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("is_locked", &self.is_locked()).finish_non_exhaustive()
    }
}

impl Door {
    pub fn new(access: Option<Arc<Access>>, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            access: access.map(RwLock::new),
            tenants: Tenants::default(),
            clock,
        }))
    }

    pub(super) fn clock(&self) -> Clock {
        self.0.clock
    }

    /// Is everybody asked for a key?
    pub fn is_locked(&self) -> bool {
        self.0.access.is_some()
    }

    /// `said`: the namespace that the client named. With a key it may say no other than the key's.
    pub fn admit(
        &self,
        front: &'static str,
        shown: Option<&[u8]>,
        said: Option<Namespace>,
    ) -> Result<Pass, BrokerError> {
        let Some(access) = &self.0.access else {
            return Ok(Pass::open(said.unwrap_or_default()));
        };
        // Held until the quota is looked up: none is left behind by an older file.
        let access = access.read();
        let now_s = self.0.clock.unix_ms() / 1_000;
        let admitted = shown
            .ok_or(NotAdmitted::Missing)
            .and_then(|shown| access.admit(shown, now_s))
            .map_err(|why| (why.reason(), BrokerError::NotAdmitted(why)))
            .and_then(|grant| match said {
                Some(said) if said != grant.namespace => {
                    Err(("namespace", BrokerError::OtherNamespace))
                }
                _ => {
                    let now = self.0.clock.now();
                    let tenant = Some(self.0.tenants.of(&grant.namespace, &access, now));
                    Ok(Pass { namespace: grant.namespace.clone(), grant: Some(grant), tenant })
                }
            });
        admitted.map_err(|(reason, error)| {
            count_failure(front, reason);
            error
        })
    }
}

impl Door {
    /// May whoever shows this look at the node? A key that is none is counted, as where somebody asks to be let in; none at all is not.
    pub fn lets_observe(&self, front: &'static str, shown: Option<&[u8]>) -> bool {
        let (Some(access), Some(shown)) = (&self.0.access, shown) else { return !self.is_locked() };
        let now_s = self.0.clock.unix_ms() / 1_000;
        let grant = access.read().admit(shown, now_s);
        grant
            .map_err(|why| count_failure(front, why.reason()))
            .is_ok_and(|grant| grant.rules.may(Ask::Observe))
    }

    /// Would it be let in? Counted nowhere.
    pub fn knows(&self, shown: Option<&[u8]>) -> bool {
        let (Some(access), Some(shown)) = (&self.0.access, shown) else { return !self.is_locked() };
        let now_s = self.0.clock.unix_ms() / 1_000;
        access.read().admit(shown, now_s).is_ok()
    }
}

/// Whom the door can let in, for status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DoorReport {
    pub is_locked: bool,
    /// Of the access file: keys, and whose tokens are believed.
    pub keys: usize,
    pub issuers: usize,
    /// Keys that the cluster agrees on.
    pub agreed_keys: usize,
    /// Of those, how many have the id of one in the file, which is meant on this node.
    pub overridden: usize,
    /// Nobody new is let in by those: this member is out of touch.
    pub is_closed: bool,
}

impl DoorReport {
    /// Nobody can be let in at all.
    pub const fn lets_nobody_in(&self) -> bool {
        self.is_locked && self.keys == 0 && self.issuers == 0 && self.agreed_keys == 0
    }
}

impl Door {
    pub fn report(&self) -> DoorReport {
        let Some(access) = &self.0.access else { return DoorReport::default() };
        let access = access.read().clone();
        DoorReport {
            is_locked: true,
            keys: access.keys(),
            issuers: access.issuers(),
            agreed_keys: access.agreed_keys(),
            overridden: access.overridden(),
            is_closed: access.is_closed(),
        }
    }

    /// Has this node's own file a key of this id? Then it is not looked for elsewhere.
    pub fn has_own_key(&self, id: &str) -> bool {
        self.0.access.as_ref().is_some_and(|access| access.read().says(id))
    }
}

impl Pass {
    /// Of whoever comes to a door that is open. For tests of what stands behind it.
    pub fn open(namespace: Namespace) -> Self {
        Self { namespace, grant: None, tenant: None }
    }

    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// As whom, for people.
    pub fn who(&self) -> Option<String> {
        self.grant.as_ref().map(|grant| grant.who.to_string())
    }

    /// Was its owner asked for a key?
    pub(super) const fn is_keyed(&self) -> bool {
        self.grant.is_some()
    }

    /// When it is over.
    pub(super) fn ends(&self, clock: Clock) -> Option<Time> {
        let ends_ms = self.grant.as_ref()?.ends_s?.saturating_mul(1_000);
        let left = ends_ms.saturating_sub(clock.unix_ms());
        Some(clock.now() + std::time::Duration::from_millis(left.min(ENDS_MS_MAX)))
    }

    pub fn may_observe(&self) -> Result<(), BrokerError> {
        self.may(Ask::Observe)
    }

    pub fn may_rule(&self) -> Result<(), BrokerError> {
        self.may(Ask::Admin)
    }

    /// May it hold and see the lease of this name in its own namespace?
    pub fn may_lease(&self, name: &str) -> Result<(), BrokerError> {
        self.may(Ask::Lease(name.as_bytes()))
    }

    /// Is there any lease that it may hold?
    pub fn may_lease_any(&self) -> Result<(), BrokerError> {
        match &self.grant {
            Some(grant) if !grant.rules.has_any(Right::Lease) => {
                Err(BrokerError::Forbidden(Right::Lease))
            }
            _ => Ok(()),
        }
    }

    /// May it know that there is such a topic?
    pub fn may_know(&self, name: &[u8]) -> bool {
        self.may(Ask::Subscribe(name)).is_ok() || self.may(Ask::Publish(name)).is_ok()
    }

    /// May it, and may its namespace do so now? Who may has paid for it.
    pub(super) fn may_publish(
        &self,
        topic: &Topic,
        messages: &Messages,
        now: Time,
    ) -> Result<(), BrokerError> {
        self.may_in(topic.namespace(), Ask::Publish(topic.name()))?;
        self.tenant.as_ref().map_or(Ok(()), |tenant| tenant.publish(messages, now))
    }

    /// The node's, or what the namespace's quota leaves of them.
    pub(super) fn limits(&self, of_node: &LimitsHandle) -> Arc<Limits> {
        match &self.tenant {
            None => of_node.get(),
            Some(tenant) => tenant.limits(of_node.get()),
        }
    }

    /// What its namespace has on this node. Nobody counts it where nobody was asked for a key.
    pub fn here(&self) -> Here {
        self.tenant.as_ref().map(|tenant| tenant.here()).unwrap_or_default()
    }

    /// For what costs as much as the namespace has: of one namespace one does it at a time. Held until dropped.
    pub async fn turn_to_look(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        match &self.tenant {
            None => None,
            Some(tenant) => Some(tenant.look.lock().await),
        }
    }

    pub(super) fn tenant(&self) -> Option<&Arc<Tenant>> {
        self.tenant.as_ref()
    }

    pub(super) fn may_subscribe(&self, topic: &Topic) -> Result<(), BrokerError> {
        self.may_in(topic.namespace(), Ask::Subscribe(topic.name()))
    }

    pub(super) fn may_subscribe_pattern(
        &self,
        namespace: &Namespace,
        glob: &[u8],
    ) -> Result<(), BrokerError> {
        self.may_in(namespace, Ask::SubscribePattern(glob))
    }

    pub(super) fn may_track(&self, topic: &Topic) -> Result<(), BrokerError> {
        self.may_in(topic.namespace(), Ask::Track(topic.name()))
    }

    pub(super) fn may_watch(&self, topic: &Topic) -> Result<(), BrokerError> {
        self.may_in(topic.namespace(), Ask::Watch(topic.name()))
    }

    /// The front has made the topic; in whose namespace is looked at again here.
    fn may_in(&self, namespace: &Namespace, ask: Ask<'_>) -> Result<(), BrokerError> {
        if self.grant.is_some() && !namespace.is_of(&self.namespace) {
            return Err(BrokerError::OtherNamespace);
        }
        self.may(ask)
    }

    fn may(&self, ask: Ask<'_>) -> Result<(), BrokerError> {
        match &self.grant {
            Some(grant) if !grant.rules.may(ask) => Err(BrokerError::Forbidden(ask.right())),
            _ => Ok(()),
        }
    }

    fn is_upheld_by(&self, access: &Access) -> bool {
        self.grant.as_ref().is_none_or(|grant| access.upholds(grant))
    }
}

fn count_failure(front: &'static str, reason: &'static str) {
    metrics::counter!(names::AUTH_FAILURES, "front" => front, "reason" => reason).increment(1);
}

/// Ten years: nothing here runs for longer.
const ENDS_MS_MAX: u64 = 10 * 365 * 24 * 3_600 * 1_000;

/// The key of an `Authorization` header; None: it is of no kind that has one.
pub fn bearer(header: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, key) = header.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| key.trim_ascii())
}

impl BrokerError {
    /// What a key may not do, in words.
    pub(super) const fn forbidden(right: Right) -> &'static str {
        match right {
            Right::Publish => "this key may not publish to that topic",
            Right::Subscribe => "this key may not subscribe to that",
            Right::Presence => "this key may not see or change that topic's presence",
            Right::Lease => "this key may not hold or see that lease",
            Right::Observe => "this key may not observe nodes",
            Right::Admin => "this key may not rule nodes",
        }
    }
}

impl Broker {
    pub fn door(&self) -> &Door {
        &self.shared.door
    }

    /// From now on these are let in. Whoever is here by what they no longer say is put out, and what such sessions own ends with them.
    /// How many sessions that was; `None`: this node has an open door, until its end.
    pub fn set_access(&self, access: &Arc<Access>) -> Option<usize> {
        let shared = &self.shared;
        let held = shared.door.0.access.as_ref()?;
        // Nobody waits for more than the exchange: what was held is taken apart behind the lock, and all are judged without one.
        let before = std::mem::replace(&mut *held.write(), access.clone());
        drop(before);
        shared.door.0.tenants.renew(access);
        // Whoever was admitted by the old ones has a seat by now, or looks at the door again before it is welcomed.
        let (mut seats, mut sessions, mut writers) = {
            let table = shared.table.lock();
            let seats: Vec<_> = table.seats.values().cloned().collect();
            let sessions: Vec<_> =
                table.cards.iter().map(|(id, card)| (*id, card.clone())).collect();
            let writers: Vec<_> =
                table.writers.all().map(|(id, pass)| (id, pass.clone())).collect();
            (seats, sessions, writers)
        };
        seats.retain(|seat| !seat.card.pass.is_upheld_by(access));
        sessions.retain(|(_, card)| !card.pass.is_upheld_by(access));
        writers.retain(|(_, pass)| !pass.is_upheld_by(access));
        for seat in seats {
            seat.end(Ending::Revoked);
        }
        for (session, card) in &sessions {
            // Peers are not told: their own files say the same, or will. It may have come back by another key meanwhile.
            let is_same =
                |table: &Table| table.cards.get(session).is_some_and(|now| Arc::ptr_eq(now, card));
            let _ = shared.decide_if(super::Input::Kill { session: *session }, is_same);
        }
        for (session, pass) in writers {
            let mut table = shared.table.lock();
            if table.writers.pass_of(session) == Some(&pass) {
                table.writers.forget(session);
                shared.replicator.ended(session);
            }
        }
        Some(sessions.len())
    }
}

impl Broker {
    /// Whoever waits long after the door: would it be let in now?
    pub fn admits_still(&self, pass: &Pass) -> Result<(), BrokerError> {
        let clock = self.shared.door.0.clock;
        if pass.ends(clock).is_some_and(|end| end <= clock.now()) {
            return Err(BrokerError::NotAdmitted(NotAdmitted::Expired));
        }
        self.shared.check_again(pass)
    }
}

impl Shared {
    /// The keys may have been read again between the door and the seat.
    pub(super) fn check_again(&self, pass: &Pass) -> Result<(), BrokerError> {
        let Some(access) = &self.door.0.access else { return Ok(()) };
        let upheld = pass.grant.is_some() && pass.is_upheld_by(&access.read());
        if upheld { Ok(()) } else { Err(BrokerError::NotAdmitted(NotAdmitted::Unknown)) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Door, Pass};
    use crate::broker::BrokerError;
    use crate::rights::key::{KeyHash, RANDOM_LEN, make};
    use crate::rights::{Access, NotAdmitted, Right};
    use crate::supervise::Clock;
    use crate::types::{ClusterName, Namespace, TopicHasher};

    fn locked(more: &str) -> (Door, String) {
        let (id, text) = make(&[3; RANDOM_LEN]);
        let hash = KeyHash::of(text.as_bytes());
        let file =
            format!("[[key]]\nid = \"{id}\"\nhash = \"{hash}\"\nnamespace = \"acme\"\n{more}");
        (
            Door::new(
                Some(Access::parse(&file, &|_, _| Err(String::new())).unwrap().into()),
                Clock::new(),
            ),
            text,
        )
    }

    #[test]
    fn the_namespace_is_the_keys_and_topics_of_others_are_refused() {
        let (door, key) = locked("publish = [\"*\"]");
        let shop = Namespace::parse("shop").unwrap();
        let acme = Namespace::parse("acme").unwrap();
        let admit = |shown: Option<&str>, said: Option<&Namespace>| {
            door.admit("grpc", shown.map(str::as_bytes), said.cloned())
        };
        assert_eq!(admit(None, None), Err(BrokerError::NotAdmitted(NotAdmitted::Missing)));
        assert_eq!(
            admit(Some("x"), Some(&acme)),
            Err(BrokerError::NotAdmitted(NotAdmitted::Unknown))
        );
        assert_eq!(admit(Some(&key), Some(&shop)), Err(BrokerError::OtherNamespace));
        assert_eq!(admit(Some(&key), Some(&acme)), admit(Some(&key), None));
        let pass = admit(Some(&key), None).unwrap();
        assert_eq!(pass.namespace(), &acme);
        let hasher = TopicHasher::new(&ClusterName::parse("c").unwrap());
        let topic = |namespace: &Namespace| hasher.topic(namespace, "t", 10).unwrap();
        let may_publish = |topic: &_| {
            let message = crate::pubsub::Messages::single(bytes::Bytes::new());
            pass.may_publish(topic, &message, crate::types::Time::ZERO)
        };
        assert_eq!(may_publish(&topic(&acme)), Ok(()));
        assert_eq!(may_publish(&topic(&acme.sharded())), Ok(()));
        assert_eq!(may_publish(&topic(&shop)), Err(BrokerError::OtherNamespace));
        assert_eq!(
            pass.may_subscribe(&topic(&acme)),
            Err(BrokerError::Forbidden(Right::Subscribe))
        );
        assert_eq!(pass.may_observe(), Err(BrokerError::Forbidden(Right::Observe)));
    }

    #[test]
    fn bearers_are_told_from_others() {
        for (header, key) in [
            ("Bearer wx_a_b", Some("wx_a_b")),
            ("bearer  x ", Some("x")),
            ("Bearer ", Some("")),
            ("Bearer", None),
            ("Basic eDp5", None),
            ("", None),
        ] {
            assert_eq!(super::bearer(header.as_bytes()), key.map(str::as_bytes), "{header}");
        }
    }

    #[test]
    fn an_open_door_asks_nobody() {
        let door = Door::new(None, Clock::new());
        let pass = door.admit("grpc", Some(b"whatever"), None).unwrap();
        assert_eq!(pass, Pass::open(Namespace::default()));
        assert!(pass.may_rule().is_ok() && pass.may_know(b"t"));
    }
}
