//! Who may see which leases, and a stream for each who watches them.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::hash::RandomState;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::{Request, Status};

use super::codec;
use super::following::{Following, News, Step};
use crate::broker::{BrokerError, Ending, GoAway, Outlet, Pass, Voice, Welcome};
use crate::control::model::LeaseKey;
use crate::control::part::{ControlHandle, LeasesSeen};
use crate::front::grpc::admin::Asker;
use crate::front::grpc::convert;

/// What changes within so long is told together.
const TOGETHER: Duration = Duration::from_millis(5);
/// A watcher who reads is told why the stream ends.
const END_TOLD_WITHIN: Duration = Duration::from_secs(1);

/// Which leases somebody may see.
pub(super) struct Sight {
    pub(super) pass: Pass,
    pub(super) namespace: Box<str>,
    /// Operators do, in any namespace.
    pub(super) sees_all: bool,
}

impl Sight {
    pub(super) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let asker = Asker::of(request)?;
        let pass = asker.pass();
        let sees_all = pass.may_observe().is_ok();
        let may = if sees_all {
            Ok(())
        } else if asker.namespace() == pass.namespace() {
            pass.may_lease_any()
        } else {
            Err(BrokerError::OtherNamespace)
        };
        may.map_err(|error| convert::status_of(&error))?;
        let namespace = asker.namespace().as_str().into();
        Ok(Self { pass: pass.clone(), namespace, sees_all })
    }

    pub(super) fn takes(&self, name: &str) -> bool {
        self.sees_all || self.pass.may_lease(name).is_ok()
    }
}

/// Streams of leases have words for nothing else.
#[derive(Debug)]
pub(super) struct WatcherVoice;

impl Voice for WatcherVoice {
    fn welcome(&self, _: &Welcome) -> Option<Bytes> {
        None
    }

    fn go_away(&self, _: &GoAway) -> Option<Bytes> {
        None
    }
}

/// One who watches leases.
pub(super) struct Watching {
    pub(super) control: ControlHandle,
    pub(super) sight: Sight,
    pub(super) prefix: String,
    /// Empty: all of the prefix.
    pub(super) name: String,
    pub(super) told: mpsc::Sender<Result<codec::Event, Status>>,
}

impl Watching {
    pub(super) async fn run(&self, outlet: &Outlet) {
        let ending: Ending = tokio::select! {
            () = self.follow() => return,
            ending = poll_fn(|cx| outlet.poll_ended(cx)) => ending,
        };
        if let Some(why) = convert::status_of_ending(&ending) {
            let _ = tokio::time::timeout(END_TOLD_WITHIN, self.told.send(Err(why))).await;
        }
    }

    /// Ends when nobody reads any longer.
    async fn follow(&self) {
        let mut changes = self.control.changes();
        let (mut seen, mut following) = (LeasesSeen::default(), Following::default());
        let marks = RandomState::new();
        loop {
            changes.mark_unchanged();
            let changed = self.control.leases_since(&mut seen, |key| self.concerns(key));
            match changed {
                Some(keys) => following.look_at(keys.into_iter().map(|key| key.name)),
                None => following.look_at_all(self.there()),
            }
            while let Some(step) = following.next() {
                let event = match step {
                    Step::Current => Some(codec::current()),
                    Step::Look(name) => self.event(&marks, &mut following, name),
                };
                if let Some(event) = event
                    && self.told.send(Ok(event)).await.is_err()
                {
                    return;
                }
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return;
                },
                () = self.told.closed() => return,
            }
            tokio::time::sleep(TOGETHER).await;
        }
    }

    fn event(
        &self,
        marks: &RandomState,
        following: &mut Following,
        name: Box<str>,
    ) -> Option<codec::Event> {
        let key = LeaseKey { namespace: self.sight.namespace.clone(), name };
        let now = self.control.look(|state| {
            let lease = state.lease(&key)?;
            Some((codec::mark(marks, lease), codec::info(&key, lease)))
        });
        following.judge(key.name.clone(), now).map(|news| match news {
            News::Held(info) => codec::held(info),
            News::Free => codec::free(&key.name),
        })
    }

    fn concerns(&self, key: &LeaseKey) -> bool {
        let is_asked = if self.name.is_empty() {
            key.name.starts_with(&self.prefix)
        } else {
            *key.name == *self.name
        };
        is_asked && *key.namespace == *self.sight.namespace && self.sight.takes(&key.name)
    }

    fn there(&self) -> BTreeSet<Box<str>> {
        let prefix = if self.name.is_empty() { &self.prefix } else { &self.name };
        self.control.look(|state| {
            let all = state.leases_in(&self.sight.namespace, prefix);
            all.filter(|(key, _)| self.concerns(key)).map(|(key, _)| key.name.clone()).collect()
        })
    }
}
