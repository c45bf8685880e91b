//! Keys that are taken back, changed, or over.

use std::time::{Duration, UNIX_EPOCH};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;
use waxwing::supervise::Clock;
use waxwing::wire::v1;

use super::asking::{Ask, Session, Who, code, first_line, words};
use super::{ALL, Keys, start};
use crate::cluster::{Cluster, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_taken_back_or_over_ends_what_it_had_opened() {
    let mut keys = Keys::default();
    let (stays, goes) = (Who::of(&keys.add("default", ALL)), Who::of(&keys.add("default", ALL)));
    let changes = Who::of(&keys.add("default", ALL));
    let node = start(keys.config("a")).await;
    let node = node.handle();
    let soon = UNIX_EPOCH + Duration::from_millis(Clock::new().unix_ms() + 3_000);
    let ends = format!("{ALL}\nexpires = {}", humantime::format_rfc3339_seconds(soon));
    let ends = Who::of(&keys.add("default", &ends));
    assert_eq!(node.broker().set_access(&keys.access()), Some(0));
    let mut open = Vec::new();
    for who in [&stays, &goes, &changes, &ends] {
        let mut session = Session::open(who, &node, v1::Hello::default()).await.unwrap();
        assert_eq!(session.ask(Ask::Track("room")).await, Ok(()));
        open.push((session, who.redis(&node).await.unwrap()));
    }
    let [
        (mut stay, mut stay_redis),
        (mut go, mut go_redis),
        (mut change, _change_redis),
        (mut end, mut end_redis),
    ] = <[_; 4]>::try_from(open).ok().unwrap();
    let count = async || stays.http(&node, "GET", "/v1/topics/room/presence/count", "").await.1;
    assert!(count().await.contains("\"presences\":4"));
    // A lingering one has no stream to be ended.
    let mut lingering = Session::open(&goes, &node, v1::Hello::default()).await.unwrap();
    assert_eq!(lingering.ask(Ask::Track("room")).await, Ok(()));
    drop(lingering);
    within("it lingers", async {
        while node.broker().session_counts().lingering == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;

    let clock = Clock::new();
    let began = clock.now();
    keys.entries.remove(1);
    keys.entries[1] = keys.entries[1].replace("publish = [\"*\"]", "publish = [\"a\"]");
    assert_eq!(node.broker().set_access(&keys.access()), Some(5));
    for session in [&mut go, &mut change] {
        let status = session.end().await;
        assert_eq!((status.code(), code(&status)), (Code::Unauthenticated, "revoked".to_owned()));
    }
    let mut rest = Vec::new();
    let _ = within("it is closed", go_redis.read_to_end(&mut rest)).await;
    assert!(clock.now() - began < Duration::from_secs(1));
    assert!(count().await.contains("\"presences\":2"), "{}", count().await);
    assert!(goes.redis(&node).await.is_err());
    assert_eq!(stay.ask(Ask::Publish("room")).await, Ok(()));
    stay_redis.write_all(&words(&["PUBLISH", "room", "x"])).await.unwrap();
    assert!(first_line(&mut stay_redis).await.starts_with(':'));

    let status = end.end().await;
    assert_eq!((status.code(), code(&status)), (Code::Unauthenticated, "expired".to_owned()));
    let _ = within("it is closed", end_redis.read_to_end(&mut rest)).await;
    assert!(ends.redis(&node).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presences_without_a_session_go_with_their_key() {
    let mut keys = Keys::default();
    let (stays, goes) = (Who::of(&keys.add("default", ALL)), Who::of(&keys.add("default", ALL)));
    let node = start(keys.config("a")).await;
    let node = node.handle();
    // A second ahead at the least, whatever the fraction of this one.
    let soon = UNIX_EPOCH + Duration::from_millis(Clock::new().unix_ms() + 2_000);
    let ends = format!("{ALL}\nexpires = {}", humantime::format_rfc3339_seconds(soon));
    let ends = Who::of(&keys.add("default", &ends));
    assert_eq!(node.broker().set_access(&keys.access()), Some(0));
    let put = async |who: &Who, key: &str| {
        let path = format!("/v1/topics/room/presence/{key}/i?ttl=1h");
        let (status, told) = who.http(&node, "PUT", &path, "").await;
        assert_eq!(status, 200, "{told}");
    };
    for (who, key) in [(&stays, "s"), (&goes, "g"), (&goes, "taken-over"), (&ends, "e")] {
        put(who, key).await;
    }
    put(&stays, "taken-over").await;
    put(&goes, "deleted").await;
    stays.http(&node, "DELETE", "/v1/topics/room/presence/deleted/i", "").await;
    let there = async || {
        let (_, told) = stays.http(&node, "GET", "/v1/topics/room/presence", "").await;
        ["s", "g", "taken-over", "deleted", "e"]
            .into_iter()
            .filter(|key| told.contains(&format!("\"key\":\"{key}\"")))
            .collect::<Vec<_>>()
    };
    assert_eq!(there().await, ["s", "g", "taken-over", "e"]);
    keys.entries.remove(1);
    assert_eq!(node.broker().set_access(&keys.access()), Some(0));
    assert_eq!(there().await, ["s", "taken-over", "e"]);
    within("the time of its key is over", async {
        while there().await != ["s", "taken-over"] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_renewed_on_another_node_by_another_key_outlives_the_first() {
    let mut keys = Keys::default();
    let (stays, goes) = (Who::of(&keys.add("default", ALL)), Who::of(&keys.add("default", ALL)));
    let mut cluster = Cluster::empty();
    cluster.add_with(keys.config("a")).await;
    let mut config = keys.config("b");
    config.cluster.seeds = vec![cluster.node("a").bound().peer.to_string()];
    cluster.add_with(config).await;
    cluster.converged(&["a", "b"]).await;
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    let of = async |owner: &str| {
        within("both know whose it is", async {
            for node in [&a, &b] {
                let wanted = format!("\"node\":\"{owner}\"");
                while !stays.http(node, "GET", LIST, "").await.1.contains(&wanted) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        })
        .await;
    };
    let entry = format!("{LIST}/k/i?ttl=1h");
    assert_eq!(goes.http(&b, "PUT", &entry, "").await.0, 200);
    of("b").await;
    assert_eq!(stays.http(&a, "PUT", &entry, "").await.0, 200);
    of("a").await;
    keys.entries.remove(1);
    for node in [&b, &a] {
        assert_eq!(node.broker().set_access(&keys.access()), Some(0));
    }
    // A mark behind whatever that has done: what ends is told before it.
    assert_eq!(stays.http(&b, "PUT", &format!("{LIST}/mark/i?ttl=1h"), "").await.0, 200);
    of("b").await;
    of("a").await;
}

const LIST: &str = "/v1/topics/room/presence";
