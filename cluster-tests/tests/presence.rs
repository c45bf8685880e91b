//! Who is here, seen from every node, while nodes are killed, stopped, restarted and cut off.
//!
//! The figures of the design are told as measured; what is asserted leaves room for a debug build that shares two cores with other tests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster_tests::check::presence::{self as check, List, Name};
use cluster_tests::client::{Client as RawClient, PATIENCE};
use cluster_tests::cluster::{Cluster, Options};
use cluster_tests::watching::{Watcher, options};
use cluster_tests::{figures, gate};
use nix::sys::signal::Signal;
use waxwing::client::{Client, Track, Untrack};
use waxwing::types::Time;
use waxwing::wire::v1;
use waxwing::wire::v1::request::Kind as RequestKind;

const TOPIC: &str = "room:1";

fn key(prefix: &str, number: usize) -> String {
    format!("{prefix}{number:04}")
}

fn name(key: &str) -> Name {
    (key.to_owned(), "1".to_owned())
}

fn names(prefix: &str, count: usize) -> BTreeSet<Name> {
    (0..count).map(|number| name(&key(prefix, number))).collect()
}

/// A client of the product with so many presences.
async fn tracker(cluster: &Cluster, node: usize, prefix: &str, count: usize) -> Client {
    let (client, mut events) = Client::connect(options(cluster, node)).await.unwrap();
    let task = waxwing::supervise::Task::Client(prefix.to_owned());
    cluster.supervisor().spawn(task, async move { while events.next().await.is_some() {} });
    let track = |number| Track::new(TOPIC, key(prefix, number)).id("1").meta("{}");
    for answer in client.track_all((0..count).map(track).collect()).await.unwrap() {
        answer.unwrap();
    }
    client
}

/// A client that never comes back, with so many presences.
async fn mortal(
    cluster: &Cluster,
    node: usize,
    prefix: &str,
    count: usize,
    linger: Duration,
) -> RawClient {
    let address = cluster.node(node).ports.grpc.to_string();
    let hello = v1::Hello { linger: linger.try_into().ok(), ..v1::Hello::default() };
    let mut client =
        RawClient::attach(&address, prefix, 0, hello, cluster.recorder()).await.unwrap();
    for number in 0..count {
        let track = v1::TrackRequest {
            topic: TOPIC.to_owned(),
            key: key(prefix, number),
            id: "1".to_owned(),
            revision: 1,
            ..v1::TrackRequest::default()
        };
        client.ask(RequestKind::Track(track)).await.unwrap();
    }
    client
}

/// How many sessions a rolling restart has: few beside other tests, as many as one likes in a run of its own.
fn sessions() -> usize {
    let wanted = std::env::var("PRESENCE_SESSIONS").ok();
    wanted.and_then(|wanted| wanted.parse().ok()).unwrap_or(24)
}

async fn watchers(cluster: &Cluster, on: &[usize]) -> Vec<Watcher> {
    let mut all = Vec::new();
    for node in on {
        all.push(Watcher::start(cluster, *node, TOPIC).await);
    }
    all
}

/// Until all have a list that is as wanted; how long that took.
async fn eventually_lists(
    cluster: &Cluster,
    what: &str,
    within: Duration,
    watchers: &[Watcher],
    wanted: impl Fn(&List) -> Result<(), String>,
) -> Duration {
    let all = async || {
        for watcher in watchers {
            wanted(&watcher.list()).map_err(|why| format!("{}: {why}", watcher.name))?;
        }
        Ok(())
    };
    cluster.eventually(what, within, all).await.1
}

fn has(count: usize) -> impl Fn(&List) -> Result<(), String> {
    move |list| {
        if list.len() == count { Ok(()) } else { Err(format!("{} of {count}", list.len())) }
    }
}

/// The list as each node gives it to whoever asks, without what is a node's own.
async fn listed(cluster: &Cluster, node: usize) -> BTreeMap<String, Vec<(String, String)>> {
    let args = ["presence", "list", TOPIC, "--limit", "100000", "-o", "json"];
    let answer = cluster.cli(node, &args).await.expect_code(0).json();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let rows = answer["keys"].as_array().cloned().unwrap_or_default();
    let each = rows.iter().map(|row| {
        let metas = row["metas"].as_array().cloned().unwrap_or_default();
        (
            text(&row["key"]),
            metas.iter().map(|meta| (text(&meta["id"]), text(&meta["ref"]))).collect(),
        )
    });
    each.collect()
}

#[track_caller]
fn expect_nothing_wrong(watchers: &[Watcher], judge: impl Fn(&Watcher) -> Vec<String>) {
    for watcher in watchers {
        let wrong = judge(watcher);
        let shown = wrong.len().min(10);
        assert!(
            wrong.is_empty(),
            "{}: {} wrong: {:#?}",
            watcher.name,
            wrong.len(),
            &wrong[..shown]
        );
    }
}

fn alternates(watcher: &Watcher) -> Vec<String> {
    check::alternation(&watcher.history())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_come_to_list_the_same() {
    let cluster = Cluster::start(3, Options::default()).await;
    let watchers = watchers(&cluster, &[0, 1, 2]).await;
    let mut clients = Vec::new();
    for node in 0..3 {
        clients.push(tracker(&cluster, node, ["x", "y", "z"][node], 50).await);
    }
    // Each changes some and lets others go; one takes over what is another's.
    for (client, prefix) in clients.iter().zip(["x", "y", "z"]) {
        for number in 0..20 {
            let track = Track::new(TOPIC, key(prefix, number)).id("1").meta("\"changed\"");
            client.update(track).await.unwrap();
        }
        for number in 20..30 {
            client.untrack(Untrack::new(TOPIC, key(prefix, number)).id("1")).await.unwrap();
        }
    }
    clients[0].track(Track::new(TOPIC, "y0000").id("1").meta("\"taken\"")).await.unwrap();
    let took = eventually_lists(&cluster, "all see 120", PATIENCE, &watchers, has(120)).await;
    figures::tell_time("presence.converged", took);
    let same = async || {
        let lists =
            [listed(&cluster, 0).await, listed(&cluster, 1).await, listed(&cluster, 2).await];
        let equal = lists[0].len() == 120 && lists.windows(2).all(|pair| pair[0] == pair[1]);
        equal.then_some(()).ok_or_else(|| format!("{:?}", lists.map(|list| list.len())))
    };
    cluster.eventually("all list the same", PATIENCE, same).await;
    let lists: Vec<List> = watchers.iter().map(Watcher::list).collect();
    cluster
        .eventually("watchers have the same", PATIENCE, async || {
            let lists: Vec<List> = watchers.iter().map(Watcher::list).collect();
            let equal = lists.windows(2).all(|pair| pair[0] == pair[1]);
            equal.then_some(()).ok_or_else(|| "they differ".to_owned())
        })
        .await;
    assert_eq!(lists[0].len(), 120);
    expect_nothing_wrong(&watchers, alternates);
}

/// Kills node a with presences of clients that die with it.
async fn kill9(linger: Duration, figure: &str, most: Duration) {
    const COUNT: usize = 1_000;
    let _quiet = gate::measuring().await;
    let cluster = Cluster::start(3, Options::default()).await;
    let watchers = watchers(&cluster, &[1, 2]).await;
    let _lives = tracker(&cluster, 1, "lives", 20).await;
    let dies = mortal(&cluster, 0, "dies", COUNT, linger).await;
    eventually_lists(&cluster, "all are seen", PATIENCE, &watchers, has(COUNT + 20)).await;

    let killed = cluster.clock().now();
    cluster.kill9(0);
    let took = eventually_lists(&cluster, "they have left", most, &watchers, has(20)).await;
    figures::tell_time(figure, took);
    drop(dies);
    let dead: BTreeMap<Name, Time> =
        names("dies", COUNT).into_iter().map(|name| (name, killed)).collect();
    // Nor do they come back with the node.
    cluster.restart(0);
    cluster.eventually_all_see("it is back", PATIENCE * 3, &["a", "b", "c"]).await;
    let there = async || {
        let count = listed(&cluster, 0).await.len();
        (count == 20).then_some(()).ok_or_else(|| format!("{count} of 20"))
    };
    cluster.eventually("the node that is back lists the living", PATIENCE, there).await;
    expect_nothing_wrong(&watchers, alternates);
    expect_nothing_wrong(&watchers, |watcher| {
        check::one_leave_each(&watcher.history(), &names("dies", COUNT), killed)
    });
    expect_nothing_wrong(&watchers, |watcher| check::no_ghosts(&watcher.history(), &dead, most));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_with_its_clients_without_linger_one_leave_each_soon() {
    kill9(Duration::ZERO, "presence.kill9.linger_0", Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_with_its_clients_one_leave_each_after_the_linger() {
    kill9(Duration::from_secs(5), "presence.kill9.linger_5s", Duration::from_secs(12)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_its_clients_come_back_elsewhere_nobody_sees_it() {
    let _quiet = gate::measuring().await;
    let cluster = Cluster::start(3, Options::default()).await;
    let watchers = watchers(&cluster, &[1, 2]).await;
    let mut clients = Vec::new();
    for number in 0..10 {
        clients.push(tracker(&cluster, 0, &format!("c{number}-"), 20).await);
    }
    eventually_lists(&cluster, "all are seen", PATIENCE, &watchers, has(200)).await;
    let killed = cluster.clock().now();
    cluster.kill9(0);
    let back = async || {
        let lost = clients.iter().filter(|client| client.node().is_none()).count();
        (lost == 0).then_some(()).ok_or_else(|| format!("{lost} are not back"))
    };
    let (_, took) = cluster.eventually("all are back", PATIENCE, back).await;
    figures::tell_time("presence.kill9.clients_back", took);
    // Long past everything that could have made them leave.
    let late = async || {
        let past = cluster.clock().now().since(killed);
        (past > Duration::from_secs(9)).then_some(()).ok_or_else(|| format!("{past:?}"))
    };
    cluster.eventually("the lingers are over", PATIENCE * 2, late).await;
    eventually_lists(&cluster, "all are there", PATIENCE, &watchers, has(200)).await;
    expect_nothing_wrong(&watchers, alternates);
    expect_nothing_wrong(&watchers, |watcher| {
        let history = watcher.history();
        let since: Vec<_> = history
            .iter()
            .position(|sighting| sighting.at >= killed)
            .map_or_else(Vec::new, |from| history[from..].to_vec());
        since.iter().map(|sighting| format!("an event: {sighting:?}")).collect()
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_is_not_seen_by_watchers_that_move_too() {
    let clients_wanted = sessions();
    let _quiet = gate::measuring().await;
    let cluster = Cluster::start(3, Options::default()).await;
    let mut clients = Vec::new();
    for number in 0..clients_wanted {
        clients.push(tracker(&cluster, number % 3, &format!("c{number:02}-"), 2).await);
    }
    let watchers = watchers(&cluster, &[0, 1, 2]).await;
    eventually_lists(&cluster, "all are seen", PATIENCE, &watchers, has(2 * clients_wanted)).await;
    for node in 0..3 {
        cluster.node(node).signal(Signal::SIGTERM);
        let (status, took) = cluster.node(node).exit(Duration::from_secs(40)).await.unwrap();
        assert_eq!(status.code(), Some(0), "{status}");
        figures::tell_time("presence.rolling.exit", took);
        cluster.restart(node);
        let all = ["a", "b", "c"];
        cluster.eventually_all_see("it is back", PATIENCE * 3, &all).await;
    }
    let there = async || {
        let lost = clients.iter().filter(|client| client.node().is_none()).count();
        (lost == 0).then_some(()).ok_or_else(|| format!("{lost} are not back"))
    };
    cluster.eventually("all clients are attached", PATIENCE, there).await;
    eventually_lists(&cluster, "all are there", PATIENCE, &watchers, has(2 * clients_wanted)).await;
    for node in 0..3 {
        assert_eq!(listed(&cluster, node).await.len(), 2 * clients_wanted, "node {node}");
    }
    expect_nothing_wrong(&watchers, alternates);
    expect_nothing_wrong(&watchers, |watcher| {
        check::stillness(&from_full(watcher, 2 * clients_wanted))
    });
}

/// From where the list was first complete, as if it had been a snapshot.
fn from_full(watcher: &Watcher, count: usize) -> Vec<check::Sighting> {
    let history = watcher.history();
    let full = (1..=history.len()).find(|upto| check::list(&history[..*upto]).len() == count);
    let full = full.expect("it was complete once");
    let joins = check::list(&history[..full]).into_iter().map(|((key, id), reference)| {
        waxwing::client::PresenceEntry { key, id, reference, ..Default::default() }
    });
    let snapshot = waxwing::client::PresenceEvent {
        snapshot: true,
        joins: joins.collect(),
        ..Default::default()
    };
    let at = history[full - 1].at;
    let first = check::Sighting { at, what: check::Seen::Event(snapshot) };
    std::iter::once(first).chain(history[full..].iter().cloned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_for_ten_seconds_leaves_no_ghosts_and_takes_nobody_with_it() {
    let _quiet = gate::measuring().await;
    let cluster = Cluster::start(3, Options::default()).await;
    let watchers = watchers(&cluster, &[0, 2]).await;
    let _lives = tracker(&cluster, 0, "lives", 20).await;
    let stopped = mortal(&cluster, 1, "stops", 20, Duration::from_secs(2)).await;
    eventually_lists(&cluster, "all are seen", PATIENCE, &watchers, has(40)).await;
    cluster.sigstop(1);
    let gone = Duration::from_secs(20);
    let took = eventually_lists(&cluster, "its own are gone", gone, &watchers, has(20)).await;
    figures::tell_time("presence.sigstop.left", took);
    // Ten seconds of a node, not of this process.
    let until = cluster.clock().now() + Duration::from_secs(10).saturating_sub(took);
    let late =
        async || (cluster.clock().now() >= until).then_some(()).ok_or_else(|| "not yet".to_owned());
    cluster.eventually("ten seconds", PATIENCE * 2, late).await;
    cluster.sigcont(1);
    // Its client was attached all the time, so they are there again.
    eventually_lists(&cluster, "they are back", PATIENCE * 2, &watchers, has(40)).await;
    drop(stopped);
    eventually_lists(&cluster, "they have gone", PATIENCE * 2, &watchers, has(20)).await;
    for node in 0..3 {
        let same = async || {
            let count = listed(&cluster, node).await.len();
            (count == 20).then_some(()).ok_or_else(|| format!("{count} of 20"))
        };
        cluster.eventually("every node lists the same", PATIENCE, same).await;
    }
    expect_nothing_wrong(&watchers, alternates);
    expect_nothing_wrong(&watchers, |watcher| {
        check::no_false_leaves(&watcher.history(), &names("lives", 20))
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_of_a_partition_go_on_and_agree_when_it_heals() {
    let cluster = Cluster::start(3, Options::proxied()).await;
    let watchers = watchers(&cluster, &[0, 1, 2]).await;
    let here = tracker(&cluster, 0, "here", 20).await;
    let there = tracker(&cluster, 1, "there", 20).await;
    eventually_lists(&cluster, "all are seen", PATIENCE, &watchers, has(40)).await;
    for proxy in cluster.mesh().around(0) {
        proxy.cut();
    }
    // Both sides change while they don't hear each other.
    for number in 0..10 {
        here.untrack(Untrack::new(TOPIC, key("here", number)).id("1")).await.unwrap();
        there.untrack(Untrack::new(TOPIC, key("there", number)).id("1")).await.unwrap();
        here.track(Track::new(TOPIC, key("newhere", number)).id("1")).await.unwrap();
        there.track(Track::new(TOPIC, key("newthere", number)).id("1")).await.unwrap();
    }
    let apart = async || {
        let sides = [listed(&cluster, 0).await, listed(&cluster, 1).await];
        let told = sides[0].contains_key("newhere0009") && !sides[0].contains_key("newthere0009");
        let other = sides[1].contains_key("newthere0009") && !sides[1].contains_key("newhere0009");
        (told && other).then_some(()).ok_or_else(|| "not apart".to_owned())
    };
    cluster.eventually("each side goes on alone", PATIENCE, apart).await;
    for proxy in cluster.mesh().all() {
        proxy.heal();
    }
    let healed = cluster.clock().now();
    eventually_lists(&cluster, "all see all again", PATIENCE * 3, &watchers, has(40)).await;
    let lists = async || {
        let lists =
            [listed(&cluster, 0).await, listed(&cluster, 1).await, listed(&cluster, 2).await];
        let equal = lists[0].len() == 40 && lists.windows(2).all(|pair| pair[0] == pair[1]);
        equal.then_some(()).ok_or_else(|| format!("{:?}", lists.map(|list| list.len())))
    };
    cluster.eventually("all list the same", PATIENCE * 2, lists).await;
    figures::tell_time("presence.partition.healed", cluster.clock().now().since(healed));
    expect_nothing_wrong(&watchers, alternates);
}
