//! Namespaces and keys that the cluster agrees on: made at one node, and in force on all.

use std::time::Duration;

use tonic::{Code, Status};
use waxwing::config::{Config, StaleKeys};
use waxwing::node::NodeHandle;
use waxwing::supervise::Clock;
use waxwing::wire::v1;
use waxwing::wire::v1::control_client::ControlClient;

use super::asking::{Ask, Session, Shown, Who, code};
use super::{Keys, start};
use crate::cluster::{Cluster, within};

type Control = ControlClient<
    tonic::service::interceptor::InterceptedService<tonic::transport::Channel, Shown>,
>;

async fn control(who: &Who, node: &NodeHandle) -> Control {
    ControlClient::new(who.service(node).await)
}

fn rights() -> Option<v1::Rights> {
    let all = || vec!["*".to_owned()];
    Some(v1::Rights { publish: all(), subscribe: all(), presence: all(), ..v1::Rights::default() })
}

fn namespace(name: &str, sessions: u64) -> v1::CreateNamespaceRequest {
    let quota = Some(v1::Quota { sessions: Some(sessions), ..v1::Quota::default() });
    v1::CreateNamespaceRequest { name: name.to_owned(), quota }
}

fn key(namespace: &str) -> v1::CreateKeyRequest {
    v1::CreateKeyRequest {
        namespace: namespace.to_owned(),
        note: "for a test".to_owned(),
        expires: None,
        rights: rights(),
    }
}

/// Opens one as soon as the node knows its key.
async fn opened(who: &Who, node: &NodeHandle) -> Session {
    within("its key is known", async {
        loop {
            match Session::open(who, node, v1::Hello::default()).await {
                Ok(session) => return session,
                Err(status) if status.code() == Code::Unauthenticated => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(status) => panic!("{status:?}"),
            }
        }
    })
    .await
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.expect_err("it is refused");
    (status.code(), code(&status))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_is_told_holds_on_all_and_without_a_quorum_the_rest_goes_on() {
    let mut keys = Keys::default();
    let admin = Who::of(&keys.add("default", "admin = true"));
    let plain = Who::of(&keys.add("default", super::ALL));
    let mut cluster = Cluster::empty();
    for name in ["a", "b", "c"] {
        let mut config = keys.config(name);
        config.cluster.expect = 3;
        config.security.stale_keys = StaleKeys::Refuse;
        if name != "a" {
            config.cluster.seeds = vec![cluster.node("a").bound().peer.to_string()];
        }
        cluster.add_with(config).await;
    }
    cluster.converged(&["a", "b", "c"]).await;
    cluster.eventually("a leader is known to all", |node| node.control().is_led()).await;
    let [a, b, c] = ["a", "b", "c"].map(|name| cluster.node(name));

    let mut at_a = control(&admin, &a).await;
    let mut at_b = control(&admin, &b).await;
    let made = at_a.create_namespace(namespace("acme", 2)).await.unwrap().into_inner();
    assert_eq!((&*made.name, made.quota.unwrap().sessions), ("acme", Some(2)));
    let twice = at_a.create_namespace(namespace("acme", 2)).await;
    assert_eq!(refused(twice), (Code::AlreadyExists, "namespace_exists".to_owned()));
    within("the other node has it", async {
        while at_b
            .list_namespaces(v1::ListNamespacesRequest {})
            .await
            .unwrap()
            .into_inner()
            .namespaces
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let unlisted = at_b.create_key(key("shop")).await;
    assert_eq!(refused(unlisted), (Code::NotFound, "no_namespace".to_owned()));
    let mut of_plain = control(&plain, &a).await;
    let not_theirs = of_plain.create_key(key("acme")).await;
    assert_eq!(refused(not_theirs).0, Code::PermissionDenied);

    let made = at_b.create_key(key("acme")).await.unwrap().into_inner();
    let (id, who) = (made.key.unwrap().id, Who::of(&made.text));
    let mut sessions = vec![opened(&who, &a).await, opened(&who, &c).await];
    for session in &mut sessions {
        assert_eq!(session.ask(Ask::Track("room")).await, Ok(()));
        assert_eq!(session.ask(Ask::Publish("room")).await, Ok(()));
    }
    let _second = opened(&who, &c).await;
    let third = Session::open(&who, &c, v1::Hello::default()).await;
    assert_eq!(
        refused(third.map(drop)),
        (Code::ResourceExhausted, "namespace_sessions".to_owned())
    );
    // A key of the file is in no namespace that is listed, and is let in as before.
    let mut stays = opened(&plain, &a).await;

    let clock = Clock::new();
    let began = clock.now();
    at_b.revoke_key(v1::RevokeKeyRequest { id: id.clone() }).await.unwrap();
    for session in &mut sessions {
        let status = session.end().await;
        assert_eq!((status.code(), code(&status)), (Code::Unauthenticated, "revoked".to_owned()));
    }
    let took = clock.now() - began;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(stays.ask(Ask::Publish("room")).await, Ok(()));
    let again = at_a.revoke_key(v1::RevokeKeyRequest { id }).await;
    assert_eq!(refused(again), (Code::NotFound, "no_key".to_owned()));

    let status = at_a.control_status(v1::ControlStatusRequest {}).await.unwrap().into_inner();
    assert!(status.written && status.quorum && !status.leader.is_empty(), "{status:?}");
    let roles: Vec<_> = status.members.iter().map(|one| (&*one.role, &*one.state)).collect();
    assert_eq!(roles, [("leader", "ready"), ("voter", "ready"), ("voter", "ready")]);
    let audit = at_a.list_audit(v1::ListAuditRequest { limit: 2 }).await.unwrap().into_inner();
    let lines: Vec<_> = audit.lines.iter().map(|line| &*line.what).collect();
    assert!(lines[0].starts_with("created the key ") && lines[1].starts_with("revoked the key "));
    assert!(audit.lines[1].by.starts_with("key "), "{audit:?}");

    let stays_agreed = at_a.create_key(key("acme")).await.unwrap().into_inner().text;
    for name in ["b", "c"] {
        cluster.kill(name).await;
    }
    // What is asked before anybody has noticed may be done when they come back, and is told so.
    cluster.eventually("it is noticed", |node| !node.control().is_led()).await;
    let began = clock.now();
    let answer = at_a.create_namespace(namespace("shop", 1)).await;
    assert_eq!(refused(answer), (Code::Unavailable, "no_quorum".to_owned()));
    let took = clock.now() - began;
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(plain.http(&a, "POST", "/v1/topics/room/publish", "").await.0, 200);
    let mut by_copy = opened(&Who::of(&stays_agreed), &a).await;
    assert_eq!(by_copy.ask(Ask::Publish("room")).await, Ok(()));
    // By then it may have been revoked elsewhere, and this node can't know.
    cluster
        .eventually("control's keys open no more", |node| node.broker().door().report().is_closed)
        .await;
    let late = Session::open(&Who::of(&stays_agreed), &a, v1::Hello::default()).await;
    assert_eq!(refused(late.map(drop)).0, Code::Unauthenticated);
    assert_eq!(by_copy.ask(Ask::Publish("room")).await, Ok(()), "whoever is here stays");
    drop(opened(&plain, &a).await);
    let problems = a.status().report().problems;
    assert!(problems.iter().any(|problem| problem.code == "stale_keys"), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_without_a_file_opens_to_keys_of_control_alone_and_a_backup_brings_them_back() {
    let locked = |name: &str| {
        let mut config = Config::for_test(name);
        config.security.control_keys = true;
        config
    };
    let node = start(locked("a")).await;
    let a = node.handle();
    let nobody = Who::default();
    let problems = || a.status().report().problems;
    assert!(problems().iter().any(|problem| problem.code == "no_keys"), "{:?}", problems());
    let out = Session::open(&nobody, &a, v1::Hello::default()).await;
    assert_eq!(refused(out.map(drop)).0, Code::Unauthenticated);
    let mut shut = control(&nobody, &a).await;
    let out = shut.create_key(key("")).await;
    assert_eq!(refused(out).0, Code::Unauthenticated);

    // As one whose door is open would make it.
    let opens = start(Config::for_test("z")).await;
    let mut at_z = control(&nobody, &opens.handle()).await;
    let ruler = v1::CreateKeyRequest {
        rights: Some(v1::Rights { admin: true, ..v1::Rights::default() }),
        ..key("")
    };
    let admin = at_z.create_key(ruler).await.unwrap().into_inner();
    assert!(admin.text.starts_with("wx_"));
    let mut parts = at_z.backup_control(v1::BackupControlRequest {}).await.unwrap().into_inner();
    let mut backup = Vec::new();
    while let Some(part) = parts.message().await.unwrap() {
        backup.push(part);
    }
    for refuses in ["nothing", "half"] {
        let said = match refuses {
            "nothing" => Vec::new(),
            _ => vec![v1::BackupPart { data: backup[0].data.slice(..backup[0].data.len() / 2) }],
        };
        let answer = at_z.restore_control(tokio_stream::iter(said)).await;
        assert_eq!(refused(answer), (Code::InvalidArgument, "bad_backup".to_owned()));
    }
    let written = at_z.restore_control(tokio_stream::iter(backup.clone())).await;
    assert_eq!(refused(written), (Code::FailedPrecondition, "written".to_owned()));
    let audit = at_z.list_audit(v1::ListAuditRequest::default()).await.unwrap().into_inner();
    assert!(audit.lines.last().unwrap().by.starts_with("anonymous at 127.0.0.1:"), "{audit:?}");

    // It is brought into a node whose door was never opened by anybody, by its own hand.
    let whole: Vec<u8> = backup.iter().flat_map(|part| part.data.to_vec()).collect();
    within("the facts are there", a.control().restore("a test", &whole)).await.unwrap();
    let admin = Who::of(&admin.text);
    let mut at_a = control(&admin, &a).await;
    let list = within("the key opens", async {
        loop {
            if let Ok(list) = at_a.list_keys(v1::ListKeysRequest::default()).await {
                return list.into_inner();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(list.keys.len(), 1);
    assert!(!problems().iter().any(|problem| problem.code == "no_keys"), "{:?}", problems());

    let bad = |name: &str, rate: &str| {
        let quota = Some(v1::Quota { publish_rate: Some(rate.to_owned()), ..Default::default() });
        v1::CreateNamespaceRequest { name: name.to_owned(), quota }
    };
    for (name, rate) in
        [("_waxwing", "1/s"), ("", "1/s"), ("a b", "1/s"), ("fine", "0/s"), ("fine", "x")]
    {
        let answer = at_a.create_namespace(bad(name, rate)).await;
        assert_eq!(refused(answer).0, Code::InvalidArgument, "{name:?} {rate}");
    }
    let made = at_a.create_namespace(bad("acme-*", "5/s burst 7")).await.unwrap().into_inner();
    assert_eq!(made.quota.unwrap().publish_rate.as_deref(), Some("5/s burst 7"));
    let update = v1::UpdateNamespaceRequest {
        name: "acme-*".to_owned(),
        quota: None,
        revision: made.revision + 1,
    };
    let answer = at_a.update_namespace(update.clone()).await;
    assert_eq!(refused(answer), (Code::FailedPrecondition, "other_revision".to_owned()));
    let update = v1::UpdateNamespaceRequest { revision: made.revision, ..update };
    let updated = at_a.update_namespace(update).await.unwrap().into_inner();
    assert_eq!(updated.quota.unwrap().publish_rate.as_deref(), Some("100000/s"));
    let in_use = v1::CreateNamespaceRequest { name: "acme-1".to_owned(), quota: None };
    at_a.create_namespace(in_use).await.unwrap();
    let of_acme = at_a.create_key(key("acme-1")).await.unwrap().into_inner().text;
    let mut session = opened(&Who::of(&of_acme), &a).await;
    let delete = |contents| v1::DeleteNamespaceRequest { name: "acme-1".to_owned(), contents };
    let answer = at_a.delete_namespace(delete(false)).await;
    assert_eq!(refused(answer), (Code::FailedPrecondition, "namespace_in_use".to_owned()));
    at_a.delete_namespace(delete(true)).await.unwrap();
    assert_eq!(code(&session.end().await), "revoked");
    let over = v1::CreateKeyRequest {
        expires: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        ..key("acme-2")
    };
    assert_eq!(refused(at_a.create_key(over).await).0, Code::InvalidArgument);
    let nothing = v1::CreateKeyRequest { rights: None, ..key("acme-2") };
    assert_eq!(refused(at_a.create_key(nothing).await).0, Code::InvalidArgument);
}
