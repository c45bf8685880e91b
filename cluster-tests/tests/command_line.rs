//! The command line against running nodes, and against none.

use std::time::Duration;

use cluster_tests::cli;
use cluster_tests::client::PATIENCE;
use cluster_tests::cluster::{Cluster, Options};
use cluster_tests::ports::Ports;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_and_waiting() {
    let cluster = Cluster::start(3, Options::default()).await;

    let members = cluster.cli(1, &["members", "-o", "json"]).await.expect_code(0).json();
    let members = members.as_array().expect("a list");
    let names: Vec<&str> = members.iter().filter_map(|member| member["name"].as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    for (i, member) in members.iter().enumerate() {
        assert_eq!(member["state"], "ready", "{member}");
        let grpc = cluster.node(i).ports.grpc.to_string();
        assert!(member["addresses"].to_string().contains(&grpc), "{member}");
    }
    let table = cluster.cli(1, &["members"]).await.expect_code(0);
    let heads: Vec<&str> =
        table.stdout.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(heads[..3], ["NAME", "STATE", "ADDRESS"], "{table:?}");
    assert_eq!(table.stdout.lines().count(), 4, "{table:?}");

    let status = cluster.cli(0, &["status", "-o", "json"]).await.expect_code(0).json();
    assert_eq!(status["node"]["name"], "a");
    let _ = cluster.cli(0, &["wait", "--members", "3"]).await.expect_code(0);
    let _ = cluster.cli(0, &["wait", "--ready"]).await.expect_code(0);
    let _ = cluster.cli(0, &["wait", "--converged"]).await.expect_code(0);
    let late = cluster.cli(0, &["--timeout", "500ms", "wait", "--members", "4"]).await;
    let _ = late.expect_code(1);
    let _ = cluster.cli(0, &["health"]).await.expect_code(0);
    let _ = cluster.cli(0, &["health", "--ready"]).await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publish_and_subscribe() {
    let cluster = Cluster::start(2, Options::default()).await;
    let subscribe = cluster.cli(0, &["subscribe", "room:1", "--count", "2", "-o", "json"]);
    let publish = async {
        cluster
            .eventually("somebody is there", PATIENCE, async || {
                let args = ["publish", "room:1", "hi", "--confirm", "cluster", "-o", "json"];
                let output = cluster.cli(1, &args).await.expect_code(0);
                let reached = output.json()["subscriptions"].as_u64();
                (reached == Some(1)).then_some(()).ok_or_else(|| format!("{output:?}"))
            })
            .await;
        let traced = cluster.cli(1, &["publish", "room:1", "again", "--trace"]).await;
        traced.expect_code(0)
    };
    let (subscribed, traced) = tokio::join!(subscribe, publish);
    let subscribed = subscribed.expect_code(0);
    let lines: Vec<serde_json::Value> =
        subscribed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{subscribed:?}");
    assert!(lines.iter().all(|line| line["topic"] == "room:1"), "{subscribed:?}");
    assert!(subscribed.stderr.contains("2/2 members"), "{subscribed:?}");
    assert!(traced.stdout.contains('a'), "{traced:?}");

    let _ = cluster.cli(0, &["topics", "list"]).await.expect_code(0);
    let mut client = cluster.client(0, "listed").await;
    client.subscribe_everywhere(&["listed:topic"], &[]).await.unwrap();
    let topics = cluster.cli(0, &["topics", "list", "listed:"]).await.expect_code(0);
    assert!(topics.stdout.contains("listed:topic"), "{topics:?}");
    let info =
        cluster.cli(1, &["topics", "info", "listed:topic", "-o", "json"]).await.expect_code(0);
    assert_eq!(info.json()["subscriptions"], 1, "{info:?}");

    let sessions = cluster.cli(0, &["sessions", "list"]).await.expect_code(0);
    let id = client.welcome.session_id.clone();
    assert!(sessions.stdout.contains(&id), "{sessions:?}");
    let _ = cluster.cli(0, &["sessions", "info", &id]).await.expect_code(0);
    let _ = cluster.cli(0, &["sessions", "kill", &id]).await.expect_code(0);
    let ended = client.event(PATIENCE).await.unwrap_err();
    assert!(!ended.is_silence(), "{ended}");
    let unknown = cluster.cli(0, &["sessions", "kill", &id]).await.expect_code(1);
    assert!(unknown.stderr.contains(&id), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_joined_nobody_are_joined_by_hand() {
    // A single node each.
    let name = Some(format!("by-hand-{}", std::process::id()));
    let options = Options { cluster_name: name, ..Options::default() };
    let first = Cluster::start(1, options.clone()).await;
    let second = Options { node_name: Some("z".to_owned()), ..options };
    let second = Cluster::launch(1, second).await;
    let seed = first.node(0).ports.peer.to_string();
    let _ = second.cli(0, &["join", &seed]).await.expect_code(0);
    first
        .eventually("they see each other", Duration::from_secs(15), async || {
            for node in [first.node(0), second.node(0)] {
                let seen = node.status().await.map_err(|error| error.to_string())?;
                if seen.ready() != ["a", "z"] {
                    return Err(format!("{:?}", seen.members()));
                }
            }
            Ok(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_get_the_exit_code_of_usage() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let unknown_key = file("unknown.toml", "[limits]\npayloat = \"1MiB\"\n");
    let wrong_type = file("type.toml", "[limits]\npayload = \"a lot\"\n[log]\nlevel = 7\n");
    let not_toml = file("not.toml", "limits = [\n");
    let cases: [(&[&str], &str); 11] = [
        (&["start", "--no-such-flag"], "--no-such-flag"),
        (&["frobnicate"], "frobnicate"),
        (&["start", "--listen-grpc", "not an address"], "not an address"),
        (&["start", "--name", "with space"], "with space"),
        (&["start", "--config", &unknown_key], "payload"),
        (&["check-config", &unknown_key], "payloat"),
        (&["check-config", &wrong_type], "log.level"),
        (&["check-config", &not_toml], "not.toml"),
        (&["check-config", "/no/such/file.toml"], "/no/such/file.toml"),
        (&["publish"], "TOPIC"),
        (&["start", "--listen-grpc", "0.0.0.0:0"], "insecure"),
    ];
    for (args, told) in cases {
        let output = cli::run(args).await;
        assert_eq!(output.code, Some(64), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
        let stderr = output.stderr.to_lowercase();
        assert!(
            stderr.contains(&told.to_lowercase()),
            "{args:?} tells nothing of {told}: {output:?}"
        );
    }
    // All faults at once.
    let both = cli::run(&["check-config", &wrong_type]).await;
    assert!(both.stderr.contains("limits.payload"), "{both:?}");
    let sound = file("sound.toml", "[node]\nname = \"a\"\n");
    let _ = cli::run(&["check-config", &sound]).await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_there_gets_a_hint() {
    let address = Ports::reserve().grpc.to_string();
    for command in [&["members"][..], &["publish", "t", "x"], &["health"], &["drain", "--self"]] {
        let mut args = vec!["--node", address.as_str(), "--timeout", "2s"];
        args.extend_from_slice(command);
        let output = cli::run(&args).await.expect_code(1);
        assert!(output.stdout.is_empty(), "{output:?}");
        assert!(output.stderr.contains(&address), "{output:?}");
        assert!(output.stderr.contains("hint:"), "{output:?}");
    }
}
