//! Presence over real links: everybody lists the same, through failures of links and nodes, drains and restarts.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use waxwing::config::Config;
use waxwing::membership::MemberState;
use waxwing::node::NodeHandle;
use waxwing::presence::{Owner, Track, Untrack};
use waxwing::proxy::{Lane, Proxy, ProxyHandle};
use waxwing::replicator::{Listed, Update, UpdateKind, Watcher, Watching};
use waxwing::supervise::{Clock, Shutdown, Supervisor};
use waxwing::types::{Namespace, NodeName, SessionId, Topic};

use crate::cluster::{Cluster, within};

const LINGER: Duration = Duration::from_secs(5);

fn topic(node: &NodeHandle, name: &str) -> Topic {
    node.router().hasher().topic(&Namespace::default(), name, 1_024).unwrap()
}

fn owner(session: u8) -> Owner {
    Owner { session: SessionId([session; 16]), epoch: 1, linger: LINGER }
}

fn track(node: &NodeHandle, owner: &Owner, room: &str, keys: impl IntoIterator<Item = String>) {
    let topic = topic(node, room);
    let track = |key: String| Track {
        topic: topic.clone(),
        key: key.into(),
        id: None,
        meta: "{}".into(),
        revision: 1,
    };
    let tracks: Vec<Track> = keys.into_iter().map(track).collect();
    for result in node.replicator().track_all(owner, &tracks) {
        result.unwrap();
    }
}

fn count(node: &NodeHandle, room: &str) -> usize {
    node.replicator().count(&topic(node, room)).presences
}

fn keys(node: &NodeHandle, room: &str) -> Vec<String> {
    let page = node.replicator().list(&topic(node, room), &Default::default());
    page.entries.iter().map(|entry| entry.shown.key().to_owned()).collect()
}

/// Takes everything, and keeps the list and what happened to it.
#[derive(Default)]
struct Watch {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    snapshots: usize,
    list: BTreeMap<(String, String), String>,
    joins: usize,
    leaves: usize,
}

fn who(listed: &Listed) -> (String, String) {
    (listed.shown.key().to_owned(), listed.shown.id().to_owned())
}

impl Watcher for Watch {
    fn push(&self, update: &Arc<Update>) -> bool {
        let mut seen = self.seen.lock();
        match &update.kind {
            UpdateKind::Snapshot { entries, .. } => {
                seen.snapshots += 1;
                for entry in entries {
                    seen.list.insert(who(entry), entry.shown.reference().to_string());
                }
            }
            UpdateKind::Diff { joins, updates, leaves } => {
                seen.joins += joins.len();
                seen.leaves += leaves.len();
                for entry in joins.iter().chain(updates.iter().map(|(entry, _)| entry)) {
                    seen.list.insert(who(entry), entry.shown.reference().to_string());
                }
                for entry in leaves {
                    assert!(
                        seen.list.remove(&who(entry)).is_some(),
                        "{:?} was not there",
                        who(entry)
                    );
                }
            }
            UpdateKind::Count => panic!("nobody asked for counts alone"),
        }
        true
    }

    fn has_room(&self) -> bool {
        true
    }
}

async fn watch(node: &NodeHandle, room: &str) -> Arc<Watch> {
    let watch = Arc::new(Watch::default());
    let _id = node.replicator().watch(&topic(node, room), Watching::default(), watch.clone());
    within("a snapshot", async {
        while watch.seen.lock().snapshots == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    watch
}

/// Nodes with a proxy on the way from each to each.
struct Proxied {
    cluster: Cluster,
    proxies: BTreeMap<(String, String), ProxyHandle>,
    supervisor: Supervisor,
}

/// A port that is free for TCP and UDP just now.
fn free_port() -> SocketAddr {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = udp.local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

impl Proxied {
    async fn start(names: &[&str]) -> Self {
        let supervisor = Supervisor::new(Shutdown::new());
        let ports: BTreeMap<&str, SocketAddr> =
            names.iter().map(|name| (*name, free_port())).collect();
        let mut proxies = BTreeMap::new();
        for from in names {
            for to in names.iter().filter(|to| *to != from) {
                let proxy = Proxy::start(&supervisor, Clock::new(), ports[to]).unwrap();
                proxies.insert(((*from).to_owned(), (*to).to_owned()), proxy);
            }
        }
        let mut cluster = Cluster::empty();
        for name in names {
            let mut config = Config::for_test(name);
            config.listen.peer = ports[name];
            let others = names.iter().filter(|other| *other != name);
            config.cluster.seeds = others.clone().map(|other| ports[other].to_string()).collect();
            let proxy = |other: &&str| {
                let proxy = &proxies[&((*name).to_owned(), (*other).to_owned())];
                (NodeName::parse(other).unwrap(), proxy.addr())
            };
            config.cluster.dial = others.map(proxy).collect();
            cluster.add_with(config).await;
        }
        cluster.converged(names).await;
        Self { cluster, proxies, supervisor }
    }

    /// The connections that `from` dials to `to`; gossip goes on.
    fn connections(&self, from: &str, to: &str) -> ProxyHandle {
        self.proxies[&(from.to_owned(), to.to_owned())].only(&[Lane::There, Lane::Back])
    }
}

impl Drop for Proxied {
    fn drop(&mut self) {
        self.supervisor.shutdown().cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_list_the_same_and_watchers_are_told_once() {
    let cluster = Cluster::start(&["a", "b", "c"]).await;
    let on_c = watch(&cluster.node("c"), "room").await;
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        let keys = (0..300).map(|n| format!("{name}{n:03}"));
        track(&cluster.node(name), &owner(number as u8), "room", keys);
    }
    cluster.eventually("all list 900", |node| count(node, "room") == 900).await;
    cluster.node("a").replicator().ended(owner(0).session);
    let b = cluster.node("b");
    let gone = Untrack { topic: topic(&b, "room"), key: "b000".into(), id: None, release: None };
    let _done = b.replicator().untrack(owner(1).session, &gone);
    cluster.eventually("all list 599", |node| count(node, "room") == 599).await;
    let expected = keys(&b, "room");
    cluster.eventually("the same ones", |node| keys(node, "room") == expected).await;
    within("the watcher has the list", async {
        while on_c.seen.lock().list.len() != 599 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let seen = on_c.seen.lock();
    assert_eq!((seen.snapshots, seen.joins - seen.leaves), (1, 599));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_newcomer_lists_everything() {
    let mut cluster = Cluster::start(&["a", "b"]).await;
    let a = cluster.node("a");
    for room in 0..100 {
        track(&a, &owner(1), &format!("room{room}"), (0..120).map(|n| format!("key{n}")));
    }
    cluster.add("c").await;
    cluster.converged(&["a", "b", "c"]).await;
    cluster
        .eventually("12,000 everywhere", |node| node.replicator().report().presences == 12_000)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_while_a_link_is_cut_is_there_when_it_is_back() {
    let it = Proxied::start(&["a", "b"]).await;
    let (a, b) = (it.cluster.node("a"), it.cluster.node("b"));
    track(&a, &owner(1), "room", (0..50).map(|n| format!("old{n}")));
    it.cluster.eventually("both list 50", |node| count(node, "room") == 50).await;
    let watch = watch(&b, "room").await;
    it.connections("a", "b").cut();
    it.connections("b", "a").cut();
    track(&a, &owner(2), "room", (0..50).map(|n| format!("new{n}")));
    a.replicator().ended(owner(1).session);
    track(&b, &owner(3), "room", ["b's".to_owned()]);
    it.connections("a", "b").heal();
    it.connections("b", "a").heal();
    it.cluster.eventually("both list 51", |node| count(node, "room") == 51).await;
    within("the watcher has the list", async {
        while watch.seen.lock().list.len() != 51 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_link_of_two_is_enough() {
    let it = Proxied::start(&["a", "b"]).await;
    // Nothing that a dials gets through; b's link to a carries both ways.
    it.connections("a", "b").cut();
    let (a, b) = (it.cluster.node("a"), it.cluster.node("b"));
    track(&a, &owner(1), "room", ["from a".to_owned()]);
    track(&b, &owner(2), "room", ["from b".to_owned()]);
    it.cluster.eventually("both list both", |node| count(node, "room") == 2).await;
    a.replicator().ended(owner(1).session);
    it.cluster.eventually("both list one", |node| keys(node, "room") == ["from b"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_node_passes_on_what_two_cannot_tell_each_other() {
    let it = Proxied::start(&["a", "b", "c"]).await;
    for (one, other) in [("a", "c"), ("c", "a")] {
        it.connections(one, other).cut();
    }
    track(&it.cluster.node("a"), &owner(1), "room", (0..100).map(|n| format!("key{n}")));
    it.cluster.eventually("c lists what a has", |node| count(node, "room") == 100).await;
    it.cluster.node("a").replicator().ended(owner(1).session);
    it.cluster.eventually("and lists it no more", |node| count(node, "room") == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presences_of_a_killed_node_leave_once_and_those_of_its_next_start_come() {
    let mut cluster = Cluster::start(&["a", "b", "c"]).await;
    let no_linger = Owner { linger: Duration::ZERO, ..owner(1) };
    track(&cluster.node("b"), &no_linger, "room", (0..100).map(|n| format!("key{n}")));
    cluster.eventually("all list 100", |node| count(node, "room") == 100).await;
    let on_a = watch(&cluster.node("a"), "room").await;
    cluster.kill("b").await;
    cluster.eventually("they are gone", |node| count(node, "room") == 0).await;
    cluster.add("b").await;
    cluster.converged(&["a", "b", "c"]).await;
    assert_eq!(count(&cluster.node("b"), "room"), 0);
    track(&cluster.node("b"), &owner(2), "room", ["again".to_owned()]);
    cluster.eventually("the new one is there", |node| keys(node, "room") == ["again"]).await;
    within("the watcher has the list", async {
        while on_a.seen.lock().list.len() != 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let seen = on_a.seen.lock();
    assert_eq!((seen.snapshots, seen.joins, seen.leaves), (1, 1, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_hands_presences_over_and_nobody_sees_it() {
    let mut cluster = Cluster::start(&["a", "b", "c"]).await;
    track(&cluster.node("b"), &owner(1), "room", (0..2_000).map(|n| format!("key{n}")));
    cluster.eventually("all list 2,000", |node| count(node, "room") == 2_000).await;
    let watches =
        [watch(&cluster.node("a"), "room").await, watch(&cluster.node("c"), "room").await];
    let before = watches[0].seen.lock().list.clone();

    let draining = cluster.forget("b");
    let handle = draining.handle();
    within("it drains", handle.drain(Duration::from_secs(20))).await;
    within("it ends", handle.ended()).await;
    drop(draining);
    cluster.converged(&["a", "c"]).await;
    // Their session comes back, on the other one of the two.
    for name in ["a", "c"] {
        let node = cluster.node(name);
        let all = node.replicator().list(&topic(&node, "room"), &Default::default());
        assert!(all.entries.iter().all(|entry| entry.shown.node().as_str() != "b"));
    }
    cluster.node("c").replicator().attached(&Owner { epoch: 2, ..owner(1) });
    cluster
        .eventually("c owns them all", |node| {
            let page = node.replicator().list(&topic(node, "room"), &Default::default());
            page.entries.iter().all(|entry| entry.shown.node().as_str() == "c")
                && count(node, "room") == 2_000
        })
        .await;
    for watch in watches {
        let seen = watch.seen.lock();
        assert_eq!((seen.joins, seen.leaves), (0, 0));
        assert_eq!(seen.list, before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_how_many_there_are() {
    let cluster = Cluster::start(&["a", "b"]).await;
    track(&cluster.node("a"), &owner(1), "room", (0..10).map(|n| format!("key{n}")));
    cluster
        .eventually("both report ten", |node| {
            let presence = node.status().report().presence;
            (presence.presences, presence.keys, presence.orphaned) == (10, 10, 0)
        })
        .await;
    cluster
        .eventually("and members tell of whom they are", |node| {
            let members = node.membership().members();
            let of_a = members.iter().find(|member| member.name.as_str() == "a");
            of_a.is_some_and(|a| a.load.presences == 10 && a.state == MemberState::Ready)
        })
        .await;
}
