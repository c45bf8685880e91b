//! Keys: one table of rights through every front, and who may look at nodes and rule them.

mod agreed;
mod apart;
pub(crate) mod asking;
mod quotas;
mod redis;
mod strangers;
mod taken_back;
mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tonic::Code;
use waxwing::config::Config;
use waxwing::node::{Node, NodeHandle};
use waxwing::rights::Access;
use waxwing::rights::key::{KeyHash, RANDOM_LEN, make};
use waxwing::telemetry::LogLevel;
use waxwing::wire::v1;

use crate::cluster::within;
use asking::{Ask, Session, Who, first_line, words};

/// An access file, made entry by entry.
#[derive(Default)]
pub(crate) struct Keys {
    made: u8,
    entries: Vec<String>,
    /// What issuers name.
    files: BTreeMap<String, String>,
}

impl Keys {
    /// The key's text.
    pub(crate) fn add(&mut self, namespace: &str, rights: &str) -> String {
        self.made += 1;
        let (id, text) = make(&[self.made; RANDOM_LEN]);
        let hash = KeyHash::of(text.as_bytes());
        self.entries.push(format!(
            "[[key]]\nid = \"{id}\"\nnamespace = \"{namespace}\"\nhash = \"{hash}\"\n{rights}\n"
        ));
        text
    }

    pub(crate) fn access(&self) -> Arc<Access> {
        let files = |name: &str, _| self.files.get(name).cloned().ok_or_else(|| name.to_owned());
        Arc::new(Access::parse(&self.entries.concat(), &files).unwrap())
    }

    pub(crate) fn config(&self, name: &str) -> Config {
        let mut config = Config::for_test(name);
        config.security.access = Some(self.access());
        config
    }
}

const ALL: &str = "publish = [\"*\"]\nsubscribe = [\"*\"]\npresence = [\"*\"]";

pub(crate) async fn start(config: Config) -> Node {
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
