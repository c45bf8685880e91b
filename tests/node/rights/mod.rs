//! Keys: one table of rights through every front, namespaces that never meet, keys that are taken back, strangers.

mod asking;
mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;
use waxwing::config::Config;
use waxwing::node::{Node, NodeHandle};
use waxwing::rights::Access;
use waxwing::rights::key::{KeyHash, RANDOM_LEN, make};
use waxwing::supervise::Clock;
use waxwing::telemetry::LogLevel;
use waxwing::wire::v1;

use crate::cluster::{Cluster, within};
use asking::{Ask, Session, Who, code, first_line, raw, words};

/// An access file, made entry by entry.
#[derive(Default)]
struct Keys {
    made: u8,
    entries: Vec<String>,
    /// What issuers name.
    files: BTreeMap<String, String>,
}

impl Keys {
    /// The key's text.
    fn add(&mut self, namespace: &str, rights: &str) -> String {
        self.made += 1;
        let (id, text) = make(&[self.made; RANDOM_LEN]);
        let hash = KeyHash::of(text.as_bytes());
        self.entries.push(format!(
            "[[key]]\nid = \"{id}\"\nnamespace = \"{namespace}\"\nhash = \"{hash}\"\n{rights}\n"
        ));
        text
    }

    fn access(&self) -> Arc<Access> {
        let files = |name: &str, _| self.files.get(name).cloned().ok_or_else(|| name.to_owned());
        Arc::new(Access::parse(&self.entries.concat(), &files).unwrap())
    }

    fn config(&self, name: &str) -> Config {
        let mut config = Config::for_test(name);
        config.security.access = Some(self.access());
        config
    }
}

const ALL: &str = "publish = [\"*\"]\nsubscribe = [\"*\"]\npresence = [\"*\"]";

async fn start(config: Config) -> Node {
    let node = Node::start(config, LogLevel::detached()).await.expect("it starts");
    let handle = node.handle();
    let ready = async {
        while handle.status().ready().is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the node is ready", ready).await;
    node
}

/// What is asked, and whether this key may.
const TABLE: &[(Ask, bool)] = &[
    (Ask::Publish("room:1"), true),
    (Ask::Publish("room:secret"), true),
    (Ask::Publish("room:mute"), false),
    (Ask::Publish("lobby"), false),
    (Ask::Subscribe("room:1"), true),
    (Ask::Subscribe("room:secret"), false),
    (Ask::Subscribe("room:secret:1"), false),
    (Ask::Subscribe("lobby"), false),
    (Ask::Pattern("room:1*"), true),
    (Ask::Pattern("room:a*t"), true),
    (Ask::Pattern("room:*"), false),
    (Ask::Pattern("room:?ecret"), false),
    (Ask::Pattern("*"), false),
    (Ask::Pattern("lobby*"), false),
    (Ask::Track("room:1"), true),
    (Ask::Track("room:secret"), true),
    (Ask::Track("room:ghost"), false),
    (Ask::Track("lobby"), false),
    (Ask::Watch("room:1"), true),
    (Ask::Watch("room:secret"), false),
    (Ask::Watch("room:ghost"), false),
    (Ask::Watch("lobby"), false),
];

const OF_TABLE: &str = "publish = [\"room:*\"]\nsubscribe = [\"room:*\"]\npresence = [\"room:*\"]\n\
    deny_publish = [\"room:mute\"]\ndeny_subscribe = [\"room:secret*\"]\ndeny_presence = [\"room:ghost\"]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_table_of_rights_holds_on_every_front() {
    let mut keys = tokens::keys();
    let key = keys.add("acme-1", OF_TABLE);
    let token = tokens::of_rights("acme-2", OF_TABLE);
    let node = start(keys.config("a")).await;
    for shown in [key, token] {
        table_holds(&Who::of(&shown), &node.handle()).await;
    }
}

async fn table_holds(who: &Who, node: &NodeHandle) {
    let mut session = Session::open(who, node, v1::Hello::default()).await.unwrap();
    let mut judged = 0;
    for (ask, may) in TABLE {
        let expected = if *may { Ok(()) } else { Err("forbidden".to_owned()) };
        assert_eq!(session.ask(*ask).await, expected, "{ask:?} in a session");
        for (front, verdicts) in [
            ("calls", who.ask_calls(node, *ask).await),
            ("HTTP", who.ask_http(node, *ask).await),
            ("Redis", who.ask_redis(node, *ask).await),
        ] {
            for verdict in verdicts.into_iter().flatten() {
                judged += 1;
                assert_eq!(verdict, expected, "{ask:?} by {front}");
            }
        }
    }
    assert!(judged > 60, "{judged}");
    // Who comes back has the rights of the key it comes back with.
    let v1::Welcome { resume_token, epoch, .. } = session.welcome.clone();
    drop(session);
    let hello = v1::Hello { resume_token, epoch, ..Default::default() };
    let mut session = Session::open(who, node, hello).await.unwrap();
    assert!(session.welcome.resumed);
    for (ask, may) in TABLE {
        let expected = if *may { Ok(()) } else { Err("forbidden".to_owned()) };
        assert_eq!(session.ask(*ask).await, expected, "{ask:?} in a resumed session");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_looked_at_and_ruled_by_those_who_may() {
    let mut keys = Keys::default();
    let (plain, observer, ruler) = (
        keys.add("default", ALL),
        keys.add("default", "observe = true"),
        keys.add("default", "admin = true"),
    );
    let node = start(keys.config("a")).await;
    let node = node.handle();
    for (key, may_observe, may_rule) in [
        (None, false, false),
        (Some(&plain), false, false),
        (Some(&observer), true, false),
        (Some(&ruler), true, true),
    ] {
        let who = Who { key: key.cloned(), namespace: None };
        let mut admin = v1::admin_client::AdminClient::new(who.service(&node).await);
        let verdicts = [
            (admin.status(v1::StatusRequest {}).await.map(drop), may_observe),
            (admin.members(v1::MembersRequest {}).await.map(drop), may_observe),
            (admin.list_sessions(v1::ListSessionsRequest::default()).await.map(drop), may_observe),
            (admin.list_topics(v1::ListTopicsRequest::default()).await.map(drop), may_observe),
            (
                admin
                    .describe_topic(v1::DescribeTopicRequest { topic: "t".into() })
                    .await
                    .map(drop),
                may_observe,
            ),
            (
                admin
                    .set_log_level(v1::SetLogLevelRequest { level: "?!".into(), for_time: None })
                    .await
                    .map(drop),
                may_rule,
            ),
            (
                admin.kill_session(v1::KillSessionRequest { id: "0".repeat(32) }).await.map(drop),
                may_rule,
            ),
            (
                admin
                    .describe_session(v1::DescribeSessionRequest { id: "x".into() })
                    .await
                    .map(drop),
                may_observe,
            ),
            (admin.join(v1::JoinRequest { seeds: vec![] }).await.map(drop), may_rule),
            (
                admin.drain(v1::DrainRequest { node: "z".into(), grace: None }).await.map(drop),
                may_rule,
            ),
            (admin.leave(v1::LeaveRequest { node: "z".into() }).await.map(drop), may_rule),
        ];
        for (i, (verdict, may)) in verdicts.into_iter().enumerate() {
            let refused = matches!(
                &verdict,
                Err(status) if matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated)
            );
            assert_eq!(!refused, may, "call {i} of {key:?}: {verdict:?}");
        }
        for (path, open) in
            [("/status", false), ("/metrics", false), ("/healthz", true), ("/readyz", true)]
        {
            let (status, _) = who.http(&node, "GET", path, "").await;
            assert_eq!(status == 200, open || may_observe, "{path} of {key:?}: {status}");
        }
        if key.is_some() {
            for (command, may) in [("LIST", may_observe), ("KILL", may_rule)] {
                let mut redis = who.redis(&node).await.unwrap();
                let mut said = vec!["CLIENT", command];
                if command == "KILL" {
                    said.extend(["ID", "999"]);
                }
                redis.write_all(&words(&said)).await.unwrap();
                let told = first_line(&mut redis).await;
                assert_eq!(
                    !told.starts_with("-NOPERM"),
                    may,
                    "CLIENT {command} of {key:?}: {told}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_told_so_on_every_front_and_probes_are_answered() {
    let mut keys = Keys::default();
    let key = keys.add("acme", ALL);
    let past = keys.add("acme", &format!("{ALL}\nexpires = 2020-01-01T00:00:00Z"));
    let node = start(keys.config("a")).await;
    let node = node.handle();
    let wrong = Who::of(&format!("{}x", &key[..key.len() - 1]));
    let of_shop = Who { key: Some(key.clone()), namespace: Some("shop") };
    for (who, expected) in [
        (Who::default(), "unauthenticated"),
        (Who::of(""), "unauthenticated"),
        (wrong, "unauthenticated"),
        (Who::of(&past), "key_expired"),
        (of_shop, "other_namespace"),
    ] {
        let refused = Session::open(&who, &node, v1::Hello::default()).await.map(drop);
        assert_eq!(code(&refused.unwrap_err()), expected, "{who:?}");
        for ask in [Ask::Publish("t"), Ask::Subscribe("t"), Ask::Track("t"), Ask::Watch("t")] {
            let verdicts = [who.ask_calls(&node, ask).await, who.ask_http(&node, ask).await];
            for verdict in verdicts.into_iter().flatten().flatten() {
                assert_eq!(verdict, Err(expected.to_owned()), "{ask:?} {who:?}");
            }
        }
        let told = who.redis(&node).await.map(drop).unwrap_err();
        assert!(told.starts_with("-WRONGPASS"), "{told}");
    }
    let mut stranger = raw(node.bound().redis.unwrap(), b"PUBLISH t x\r\n").await;
    assert_eq!(first_line(&mut stranger).await, "-NOAUTH Authentication required.");
    // An orchestrator's probe has no key.
    let endpoint = format!("http://{}", node.bound().grpc);
    let channel =
        tonic::transport::Endpoint::from_shared(endpoint).unwrap().connect().await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let serving = health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    assert_eq!(serving.into_inner().status, 1);
    assert_eq!(Who::of(&key).ask_http(&node, Ask::Publish("t")).await, Some(vec![Ok(()), Ok(())]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_crosses_between_namespaces() {
    let mut keys = Keys::default();
    let (acme, shop) = (Who::of(&keys.add("acme", ALL)), Who::of(&keys.add("shop", ALL)));
    let mut cluster = Cluster::empty();
    cluster.add_with(keys.config("a")).await;
    let mut b = keys.config("b");
    b.cluster.seeds = vec![cluster.node("a").bound().peer.to_string()];
    cluster.add_with(b).await;
    cluster.converged(&["a", "b"]).await;
    let (a, b) = (cluster.node("a"), cluster.node("b"));

    // The same names on both sides, by name and by pattern, on both nodes.
    let mut of_shop = Session::open(&shop, &b, v1::Hello::default()).await.unwrap();
    assert_eq!(of_shop.ask(Ask::Subscribe("room")).await, Ok(()));
    assert_eq!(of_shop.ask(Ask::Pattern("*")).await, Ok(()));
    let mut redis = shop.redis(&b).await.unwrap();
    redis.write_all(&words(&["HELLO", "3"])).await.unwrap();
    redis.write_all(&words(&["SSUBSCRIBE", "room"])).await.unwrap();
    let mut of_acme = Session::open(&acme, &a, v1::Hello::default()).await.unwrap();
    assert_eq!(of_acme.ask(Ask::Track("room")).await, Ok(()));
    for node in [&a, &b] {
        for topic in ["room", "other"] {
            let (status, told) = acme
                .http(node, "POST", &format!("/v1/topics/{topic}/publish?confirm=cluster"), "acme")
                .await;
            assert!(status == 200 && told.contains("\"subscriptions\":0"), "{told}");
        }
        let mut sharded = acme.redis(node).await.unwrap();
        sharded.write_all(&words(&["SPUBLISH", "room", "acme"])).await.unwrap();
        assert_eq!(first_line(&mut sharded).await, ":0");
        sharded.write_all(&words(&["PUBSUB", "CHANNELS"])).await.unwrap();
        assert_eq!(first_line(&mut sharded).await, "*0");
        sharded.write_all(&words(&["PUBSUB", "SHARDCHANNELS"])).await.unwrap();
        assert_eq!(first_line(&mut sharded).await, "*0");
        sharded.write_all(&words(&["PUBSUB", "NUMPAT"])).await.unwrap();
        assert_eq!(first_line(&mut sharded).await, ":0");
    }
    let (_, told) = shop.http(&b, "POST", "/v1/topics/room/publish?confirm=cluster", "shop").await;
    assert!(told.contains("\"subscriptions\":1"), "{told}");
    assert_eq!(of_shop.texts_until("shop").await, ["shop"]);
    let mut sharded = shop.redis(&a).await.unwrap();
    sharded.write_all(&words(&["SPUBLISH", "room", "x"])).await.unwrap();
    assert_eq!(first_line(&mut sharded).await, ":1");

    for (who, there) in [(&acme, "\"presences\":1"), (&shop, "\"presences\":0")] {
        let (_, told) = who.http(&a, "GET", "/v1/topics/room/presence/count", "").await;
        assert!(told.contains(there), "{told}");
    }
    // A token says nothing in another namespace.
    let v1::Welcome { resume_token, epoch, session_id, .. } = of_acme.welcome.clone();
    let hello = v1::Hello { resume_token, epoch, ..Default::default() };
    let thief = Session::open(&shop, &a, hello).await.unwrap();
    assert!(!thief.welcome.resumed && thief.welcome.session_id != session_id);
    assert_eq!(of_acme.ask(Ask::Publish("room")).await, Ok(()));
}

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
async fn a_namespace_has_what_its_quota_says_and_its_neighbour_the_same() {
    let mut keys = Keys::default();
    keys.entries.push(
        "[[namespace]]\nname = \"acme-*\"\nsessions = 3\nsubscriptions = 3\ntopics = 2\npresences = 2\npayload = 10\n\
         patterns = false\n[[namespace]]\nname = \"slow\"\npublish_rate = 1\npublish_burst = 5\n\
         [[namespace]]\nname = \"narrow\"\npublish_bytes = 10\npublish_bytes_burst = 100\n"
            .to_owned(),
    );
    let tenants = ["acme-1", "acme-2"].map(|name| Who::of(&keys.add(name, ALL)));
    let slow = Who::of(&keys.add("slow", ALL));
    let narrow = Who::of(&keys.add("narrow", ALL));
    let node = start(keys.config("a")).await;
    let node = node.handle();
    let refused = |limit: &str| Err(limit.to_owned());
    // The second has as much as the first, whatever that one took.
    let mut open = Vec::new();
    for who in &tenants {
        let mut session = Session::open(who, &node, v1::Hello::default()).await.unwrap();
        for (ask, verdict) in [
            (Ask::Pattern("a*"), refused("too_many_patterns")),
            (Ask::Subscribe("a"), Ok(())),
            (Ask::Subscribe("b"), Ok(())),
            (Ask::Subscribe("b"), Ok(())),
            (Ask::Subscribe("c"), refused("namespace_topics")),
            (Ask::Track("a"), Ok(())),
            (Ask::Track("b"), Ok(())),
            (Ask::Track("c"), refused("namespace_full")),
            (Ask::Publish("a"), Ok(())),
        ] {
            assert_eq!(session.ask(ask).await, verdict, "{ask:?}");
        }
        let mut second = Session::open(who, &node, v1::Hello::default()).await.unwrap();
        assert_eq!(second.ask(Ask::Subscribe("a")).await, Ok(()));
        assert_eq!(second.ask(Ask::Subscribe("b")).await, refused("namespace_subscriptions"));
        let (status, told) = who.http(&node, "POST", "/v1/topics/a/publish", "eleven bytes").await;
        assert!(status == 413 && told.contains("payload_too_large"), "{status} {told}");
        let third = who.redis(&node).await.unwrap();
        let fourth = Session::open(who, &node, v1::Hello::default()).await.map(drop);
        assert_eq!(code(&fourth.unwrap_err()), "namespace_sessions");
        open.push((session, second, third));
    }
    // What is given back may be had again, however often and however it ended.
    drop(open);
    for i in 0..30 {
        let again = async {
            loop {
                if let Ok(mut session) =
                    Session::open(&tenants[0], &node, v1::Hello::default()).await
                    && session.ask(Ask::Subscribe("c")).await.is_ok()
                    && session.ask(Ask::Subscribe("d")).await.is_ok()
                    && let Ok(redis) = tenants[0].redis(&node).await
                {
                    if i % 2 == 0 {
                        session.bye().await;
                    }
                    return drop(redis);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within("places are given back", again).await;
    }

    // A rate is the namespace's, by whichever front and session it publishes.
    let mut session = Session::open(&slow, &node, v1::Hello::default()).await.unwrap();
    let mut taken = 0;
    while session.ask(Ask::Publish("t")).await.is_ok() {
        taken += 1;
    }
    assert!((5..20).contains(&taken), "{taken}");
    assert_eq!(session.ask(Ask::Publish("t")).await, refused("namespace_publish_rate"));
    let (status, told) = slow.http(&node, "POST", "/v1/topics/t/publish", "").await;
    assert!(status == 429 && told.contains("retry-after"), "{status} {told}");
    let told = slow.ask_redis(&node, Ask::Publish("t")).await.unwrap();
    assert!(
        told[0].as_ref().unwrap_err().starts_with("ERR the namespace publishes faster"),
        "{told:?}"
    );
    let body = "x".repeat(200);
    let (first, _) = narrow.http(&node, "POST", "/v1/topics/t/publish", &body).await;
    let (second, told) = narrow.http(&node, "POST", "/v1/topics/t/publish", &body).await;
    assert_eq!((first, second), (200, 429), "{told}");
    assert!(told.contains("namespace_publish_bytes"), "{told}");
    // The file is read again: what it says now holds for who is here.
    keys.entries[0] = keys.entries[0].replace("publish_rate = 1\npublish_burst = 5\n", "");
    assert_eq!(node.broker().set_access(&keys.access()), Some(0));
    assert_eq!(session.ask(Ask::Publish("t")).await, Ok(()));
    // No namespace is listed any longer, and then one is that has somebody here.
    let had = keys.entries.remove(0);
    assert_eq!(node.broker().set_access(&keys.access()), Some(0));
    assert_eq!(session.ask(Ask::Pattern("t*")).await, Ok(()));
    assert_eq!(session.ask(Ask::Subscribe("t")).await, Ok(()));
    let less = had.replace("\"slow\"", "\"slow\"\nsubscriptions = 2\npublish_rate = 1");
    keys.entries.insert(0, less);
    assert_eq!(node.broker().set_access(&keys.access()), Some(0));
    assert_eq!(session.ask(Ask::Subscribe("u")).await, refused("namespace_subscriptions"));
    // One goes at the most: what was owed before is owed still.
    let _ = session.ask(Ask::Publish("t")).await;
    assert_eq!(session.ask(Ask::Publish("t")).await, refused("namespace_publish_rate"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_hold_nothing_for_long() {
    let mut keys = Keys::default();
    let who = Who::of(&keys.add("default", ALL));
    let mut config = keys.config("a");
    config.limits.handshake = Duration::from_millis(500);
    let node = start(config).await;
    let node = node.handle();
    // HTTP/2 in order, and one lawful request after another that shows no key: a PING is never answered for ever.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let ping = b"\0\0\x08\x06\0\0\0\0\0waxwings";
    let clock = Clock::new();
    let began = clock.now();
    for port in [node.bound().grpc, node.bound().http.unwrap(), node.bound().redis.unwrap()] {
        let begin: &[u8] = if port == node.bound().grpc { preface } else { b"" };
        let mut io = raw(port, begin).await;
        let (mut read, mut write) = io.split();
        let talk = async {
            while write.write_all(ping).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut heard = Vec::new();
        let hear = async { read.read_to_end(&mut heard).await };
        within("it is put out", async { tokio::join!(talk, hear) }).await.1.ok();
    }
    assert!(clock.now() - began < Duration::from_secs(10));
    // Who has a key may say much in its first breath.
    let mut pubsub = v1::pub_sub_client::PubSubClient::new(who.service(&node).await);
    let payload = vec![b'x'; 1 << 20];
    let publish =
        v1::PublishRequest { topic: "t".into(), payload: payload.into(), ..Default::default() };
    within("it is taken", pubsub.publish(publish)).await.unwrap();
}
