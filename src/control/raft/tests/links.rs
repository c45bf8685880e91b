//! A group over real connections on loopback: three nodes' peer ports, and what their links carry of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::super::carrier::LinkCarrier;
use super::super::group::Group;
use super::super::store::{Changed, Store};
use super::super::types::RaftMember;
use super::world::{GROUP, id_of};
use crate::config::Secret;
use crate::control::model::{Change, Command};
use crate::link::{
    CallHandler, LinkConfig, LinkHandler, LinkInfo, LinkLimits, LinkSource, Links, Pace, Roster,
    StateHandler, StateSource, VERSIONS,
};
use crate::membership::{
    Addresses, LinkEvidence, Load, Member, MemberState, Members, SharedMembers,
};
use crate::net::Host;
use crate::supervise::{Clock, Shutdown, Supervisor, Task};
use crate::types::{ClusterName, Incarnation, NodeName, Time};

/// Links that carry nothing but calls.
struct Nothing;

impl LinkSource for Nothing {
    fn take_control(&self, _out: &mut Vec<Bytes>, _bytes_max: usize) {}
    fn take_content(&self, _out: &mut Vec<crate::link::ContentItem>, _bytes_max: usize) {}
    fn ping(&self) -> Bytes {
        Bytes::new()
    }
    fn register(&self, _cx: &mut std::task::Context<'_>) {}
}

impl StateSource for Nothing {
    fn take_state(&self, _out: &mut Vec<Bytes>, _bytes_max: usize) {}
    fn ping(&self) -> Bytes {
        Bytes::new()
    }
    fn register(&self, _cx: &mut std::task::Context<'_>) {}
}

impl LinkHandler for Nothing {
    fn up(&self, _link: &LinkInfo) -> Arc<dyn LinkSource> {
        Arc::new(Self)
    }
    fn down(&self, _link: &LinkInfo) {}
    fn control(&self, _link: &LinkInfo, _payload: Bytes) -> Result<(), String> {
        Ok(())
    }
    fn content(&self, _link: &LinkInfo, _items: Vec<Bytes>) -> Result<Pace, String> {
        Ok(Pace::ReadOn)
    }
    fn jump(&self, _link: &LinkInfo) {}
    fn ping(&self, _link: &LinkInfo, _payload: Bytes) -> Result<(), String> {
        Ok(())
    }
}

impl StateHandler for Nothing {
    fn up(&self, _link: &LinkInfo) -> Arc<dyn StateSource> {
        Arc::new(Self)
    }
    fn down(&self, _link: &LinkInfo) {}
    fn state(&self, _link: &LinkInfo, _payload: Bytes) -> Result<Pace, String> {
        Ok(Pace::ReadOn)
    }
    fn ping(&self, _link: &LinkInfo, _payload: Bytes) -> Result<(), String> {
        Ok(())
    }
}

struct Door(Group);

#[async_trait]
impl CallHandler for Door {
    async fn answer(&self, from: NodeName, _incarnation: Incarnation, payload: Bytes) -> Bytes {
        self.0.answer(from.as_str(), &payload).await.into()
    }
}

struct Fixed {
    view: watch::Sender<SharedMembers>,
}

impl Roster for Fixed {
    fn me(&self) -> Member {
        self.view.borrow().me().unwrap().clone()
    }
    fn watch(&self) -> watch::Receiver<SharedMembers> {
        self.view.subscribe()
    }
    fn dial_address(&self, peer: &NodeName) -> Option<String> {
        Some(self.view.borrow().get(peer)?.addresses.peer.clone())
    }
    fn evidence(&self, _peer: &NodeName, _incarnation: Incarnation, _evidence: LinkEvidence) {}
}

fn name(letter: char) -> NodeName {
    NodeName::parse(&letter.to_string()).unwrap()
}

fn member(letter: char, address: &str, me: bool) -> Member {
    Member {
        name: name(letter),
        incarnation: Incarnation(1),
        addresses: Addresses { peer: address.to_owned(), ..Addresses::default() },
        version: "0.1.0".to_owned(),
        state: MemberState::Ready,
        load: Load::default(),
        control: None,
        me,
        since: Time::ZERO,
        problem: None,
    }
}

#[tokio::test]
async fn three_nodes_agree_over_their_peer_ports() {
    let shutdown = Shutdown::new();
    let supervisor = Supervisor::new(shutdown.clone());
    let mut listeners = BTreeMap::new();
    for letter in "abc".chars() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        listeners.insert(letter, (listener, address));
    }
    let addresses: BTreeMap<char, String> =
        listeners.iter().map(|(letter, (_, address))| (*letter, address.clone())).collect();
    let mut groups = BTreeMap::new();
    for (letter, (listener, _)) in listeners {
        let all = addresses
            .iter()
            .map(|(other, address)| (name(*other), member(*other, address, *other == letter)));
        let members = Members { by_name: all.collect() };
        let config = LinkConfig {
            cluster: ClusterName::parse("test").unwrap(),
            name: name(letter),
            secrets: vec![Secret::new(b"the secret".to_vec())],
            versions: VERSIONS,
            settings: BTreeMap::new(),
            limits: LinkLimits::default(),
            tls: None,
        };
        let roster = Arc::new(Fixed { view: watch::Sender::new(Arc::new(members)) });
        let links = Links::new(
            config,
            roster,
            Arc::new(Host),
            supervisor.clone(),
            Clock::new(),
            Arc::new(Nothing),
            Arc::new(Nothing),
        );
        let handle = links.handle();
        supervisor.spawn(Task::LinkAcceptor, links.run(listener, shutdown.clone()));
        let links = handle.clone();
        let cluster = ClusterName::parse("test").unwrap();
        let mut store = Store::in_memory(&cluster, id_of(letter)).unwrap();
        store.join(GROUP).unwrap();
        let carrier = Arc::new(LinkCarrier(handle));
        let started = Group::start(&mut store, carrier, Clock::new(), Changed::default());
        let group = started.await.unwrap();
        links.answer_calls(Arc::new(Door(group.clone())));
        groups.insert(letter, group);
    }
    let voters = addresses.iter().map(|(letter, address)| {
        let member = RaftMember {
            name: letter.to_string(),
            incarnation: 1,
            address: address.clone(),
            durable: false,
        };
        (id_of(*letter), member)
    });
    groups[&'a'].initialize(voters.collect()).await.unwrap();
    let agree = async {
        while !groups.values().all(|group| group.report().quorum) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for (turn, group) in groups.values().enumerate() {
            let change = match turn {
                0 => Change::Found { group: GROUP, at_s: 1 },
                _ => Change::CreateNamespace {
                    name: format!("n{turn}").into(),
                    quota: crate::control::model::facts::QuotaFacts::default(),
                },
            };
            let command = Command { by: "test".into(), change };
            let done = group.propose(vec![command]).await.unwrap();
            assert!(group.copy().applied() >= done.index);
        }
        while !groups.values().all(|group| group.copy().look(|state| state.revision() == 2)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), agree).await.expect("they agree");
    for group in groups.values() {
        group.stop().await;
    }
    shutdown.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(10), supervisor.all_ended()).await;
    assert!(ended.is_ok(), "{:?}", supervisor.report());
}
