//! Members in one process, whose frames a wire carries, or doesn't.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::super::calls::{Carrier, Done, NotDone, Unreached};
use super::super::group::Group;
use super::super::seats::{Seen, Standing};
use super::super::store::{Changed, FILE, Store};
use super::super::tend::{Members, Tender};
use super::super::types::RaftMember;
use crate::control::model::{Change, Command, GroupId};
use crate::supervise::Clock;
use crate::types::{ClusterName, Time};

pub(super) const GROUP: GroupId = GroupId([7; 16]);

/// Carries between members by address, unless one of them is cut off.
#[derive(Debug, Clone, Default)]
pub(super) struct Wire(Arc<Mutex<Ends>>);

#[derive(Debug, Default)]
struct Ends {
    groups: BTreeMap<String, Group>,
    cut: BTreeSet<String>,
    seen: Vec<Seen>,
}

#[derive(Debug)]
struct End {
    wire: Wire,
    from: String,
}

impl Wire {
    fn find(&self, from: &str, to: &str) -> Option<Group> {
        let ends = self.0.lock();
        let is_cut = ends.cut.contains(from) || ends.cut.contains(to);
        ends.groups.get(to).filter(|_| !is_cut).cloned()
    }
}

#[async_trait]
impl Carrier for End {
    async fn carry(&self, to: &RaftMember, frame: Vec<u8>) -> Result<Vec<u8>, Unreached> {
        let Some(group) = self.wire.find(&self.from, &to.address) else {
            return Err(Unreached::NotSent("cut".to_owned()));
        };
        let reply = group.answer(&self.from, &frame).await;
        // The way back may be gone meanwhile.
        let back = self.wire.find(&self.from, &to.address);
        back.map(|_| reply).ok_or_else(|| Unreached::NoAnswer("cut".to_owned()))
    }
}

impl Members for Wire {
    fn seen(&self) -> Vec<Seen> {
        self.0.lock().seen.clone()
    }
}

/// Members `a`, `b`, ..: the id of each is its letter's place, from 1.
pub(super) struct World {
    wire: Wire,
    pub(super) clock: Clock,
    dir: Option<PathBuf>,
    pub(super) groups: BTreeMap<char, Group>,
}

pub(super) fn id_of(name: char) -> u64 {
    u64::from(name) - u64::from('a') + 1
}

pub(super) fn member(name: char) -> RaftMember {
    RaftMember { name: name.to_string(), incarnation: 1, address: name.to_string(), durable: true }
}

impl World {
    /// In memory, or in files below `dir`.
    pub(super) fn new(dir: Option<PathBuf>) -> Self {
        let (wire, clock) = (Wire::default(), Clock::new());
        Self { wire, clock, dir, groups: BTreeMap::new() }
    }

    /// A founded group of these.
    pub(super) async fn founded(names: &str, dir: Option<PathBuf>) -> Self {
        let mut world = Self::new(dir);
        for name in names.chars() {
            world.start(name).await;
        }
        let voters = names.chars().map(|name| (id_of(name), member(name))).collect();
        let first = names.chars().next().unwrap();
        world.groups[&first].initialize(voters).await.unwrap();
        world
    }

    pub(super) async fn start(&mut self, name: char) {
        let cluster = ClusterName::parse("test").unwrap();
        let mut store = match &self.dir {
            None => Store::in_memory(&cluster, id_of(name)).unwrap(),
            Some(dir) => {
                let dir = dir.join(name.to_string());
                std::fs::create_dir_all(&dir).unwrap();
                Store::open(&dir.join(FILE), &cluster, id_of(name)).unwrap()
            }
        };
        store.join(GROUP).unwrap();
        let end = End { wire: self.wire.clone(), from: name.to_string() };
        let group =
            Group::start(&mut store, Arc::new(end), self.clock, Changed::default()).await.unwrap();
        self.wire.0.lock().groups.insert(name.to_string(), group.clone());
        self.groups.insert(name, group);
        self.see(name, Standing::Ready);
    }

    pub(super) async fn kill(&mut self, name: char) {
        let group = self.groups.remove(&name).unwrap();
        self.wire.0.lock().groups.remove(&name.to_string());
        group.stop().await;
    }

    pub(super) fn see(&self, name: char, standing: Standing) {
        let mut ends = self.wire.0.lock();
        ends.seen.retain(|seen| seen.member.name != name.to_string());
        let id = Some(id_of(name));
        ends.seen.push(Seen { id, member: member(name), standing, since: Time::ZERO });
    }

    pub(super) fn cut(&self, names: &str) {
        self.wire.0.lock().cut = names.chars().map(String::from).collect();
    }

    pub(super) fn tender(&self, name: char) -> Tender {
        Tender::new(self.groups[&name].clone(), Arc::new(self.wire.clone()), self.clock)
    }

    /// Waits for it, and panics after a minute.
    pub(super) async fn until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        for _ in 0..6_000 {
            if is_so(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let reports: Vec<_> = self.groups.values().map(Group::report).collect();
        panic!("never: {what}: {reports:#?}");
    }

    /// The one of these that leads, and has a quorum.
    pub(super) async fn leader(&self, of: &str) -> char {
        let mut leader = None;
        let leads = |this: &Self| {
            leader = of.chars().find(|name| {
                let report = this.groups.get(name).map(Group::report);
                report.is_some_and(|report| report.leads && report.quorum)
            });
            leader.is_some()
        };
        self.until("a leader", leads).await;
        leader.unwrap()
    }

    pub(super) async fn propose(&self, at: char, change: Change) -> Result<Done, NotDone> {
        let command = Command { by: "test".into(), change };
        self.groups[&at].propose(vec![command]).await
    }

    /// One round of whoever leads.
    pub(super) async fn tend(&self, of: &str) {
        let leader = self.leader(of).await;
        self.tender(leader).once().await;
    }

    pub(super) async fn agree(&self, of: &str) {
        let same = |this: &Self| {
            let states: Vec<_> = of.chars().map(|name| this.groups[&name].copy().state()).collect();
            states.windows(2).all(|two| two[0] == two[1])
        };
        self.until("the same everywhere", same).await;
    }
}
