//! The real program against real nodes: namespaces, keys and the group, as operators meet them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use waxwing::config::Config;
use waxwing::node::{Node, NodeHandle};
use waxwing::supervise::Clock;
use waxwing::telemetry::LogLevel;

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{}", self.out))
    }

    /// Failed, and said so.
    #[track_caller]
    fn says(&self, code: i32, words: &str) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert!(self.err.contains(words), "wanted {words:?}: {}", self.err);
    }
}

/// The node goes on meanwhile, on other threads.
fn run(node: &NodeHandle, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waxwing"));
    command.args(args).args(["--node", &node.bound().grpc.to_string()]);
    command.env_clear().stdin(Stdio::null());
    let output = tokio::task::block_in_place(|| command.output()).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    Ran { code, out: text(output.stdout), err: text(output.stderr) }
}

async fn start(config: Config) -> Node {
    Node::start(config, LogLevel::detached()).await.expect("it starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_keys_and_copies_of_all_of_it() {
    let node = start(Config::for_test("a")).await;
    let a = node.handle();
    let waxwing = |line: &str| run(&a, &line.split(' ').collect::<Vec<_>>());
    let made = waxwing("namespace create acme --sessions 5 --publish-rate 5/s -o json").json();
    assert_eq!((&made["name"], &made["quota"]["sessions"]), (&json!("acme"), &json!(5)));
    assert_eq!(made["quota"]["publish_rate"], "5/s");
    waxwing("namespace create acme").says(1, "there is such a namespace");
    waxwing("namespace create a/b").says(64, "namespace");
    waxwing("namespace create shop --publish-rate fast").says(64, "a rate is as");
    waxwing("namespace update acme").says(64, "say what to change");
    waxwing("namespace update nobody --sessions 1").says(1, "there is no such namespace");
    let updated = waxwing("namespace update acme --sessions none --payload 64KiB -o json").json();
    let quota = &updated["quota"];
    assert_eq!(
        (&quota["sessions"], &quota["payload_bytes"], &quota["publish_rate"]),
        (&Value::Null, &json!(65_536), &json!("5/s"))
    );
    let table = waxwing("namespace list");
    assert!(table.out.contains("acme") && table.out.contains("64.0 KiB"), "{}", table.out);
    assert!(waxwing("namespace show acme").out.contains("publish rate   5/s"));

    waxwing("key create --publish *").says(1, "waxwing namespace create default");
    waxwing("key create -n acme").says(64, "may do nothing");
    let key =
        waxwing("key create -n acme --publish room:* --lease job:* --note chat --expires 90d");
    assert!(key.code == 0 && key.out.starts_with("wx_"), "{}{}", key.out, key.err);
    assert_eq!(key.out.lines().count(), 1);
    let listed = waxwing("key list -o json").json();
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    assert!(key.out.contains(&format!("wx_{id}_")) && listed[0]["lease"] == json!(["job:*"]));
    assert!(waxwing("key list").out.contains("publish room:*; lease job:*"));
    assert_eq!(waxwing("key list -n shop -o json").json(), json!([]));

    waxwing("namespace delete acme").says(1, "--contents");
    waxwing("namespace delete acme --contents").says(64, "say --yes");

    let status = waxwing("control status -o json").json();
    assert_eq!((&status["leader"], &status["quorum"]), (&json!("a"), &json!(true)));
    assert!(waxwing("control status").out.contains("leader   a, term"));
    waxwing("control init").says(1, "is in the group");
    waxwing("control init --from-copy").says(64, "say --yes");
    waxwing("control init --from-copy --yes").says(1, "has a quorum");
    let audit = waxwing("control audit -o json").json();
    let last = audit.as_array().unwrap().last().unwrap();
    assert!(last["what"].as_str().unwrap().starts_with("created the key"), "{audit}");
    assert!(last["by"].as_str().unwrap().starts_with("anonymous at"), "{audit}");

    let dir = tempfile::tempdir().unwrap();
    copies(&a, &dir.path().join("control.backup")).await;

    assert_eq!(waxwing(&format!("key revoke {id}")).code, 0);
    waxwing(&format!("key revoke {id}")).says(1, "there is no such key");
    assert_eq!(waxwing("namespace delete acme --contents").code, 0, "it has none");
    assert_eq!(waxwing("namespace list -o json").json(), json!([]));
}

async fn copies(from: &NodeHandle, file: &Path) {
    let file = file.to_str().unwrap();
    let saved = run(from, &["control", "backup", file]);
    assert_eq!(saved.code, 0, "{}", saved.err);
    run(from, &["control", "backup", file]).says(1, "is there already");
    run(from, &["control", "restore", file]).says(1, "was written to");
    let other = start(Config::for_test("b")).await;
    let other = other.handle();
    let broken = format!("{file}.broken");
    let mut bytes = std::fs::read(file).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&broken, &bytes).unwrap();
    run(&other, &["control", "restore", &broken]).says(1, "checksum");
    run(&other, &["control", "restore", "/dev/null"]).says(1, "is no backup");
    let restored = run(&other, &["control", "restore", file, "-o", "json"]).json();
    assert_eq!((&restored["namespaces"], &restored["keys"]), (&json!(1), &json!(1)));
    for what in [&["key", "list", "-o", "json"][..], &["namespace", "list", "-o", "json"]] {
        assert_eq!(run(&other, what).json(), run(from, what).json());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_a_change_fails_soon_and_says_what_still_works() {
    let mut config = Config::for_test("a");
    config.cluster.expect = 3;
    let node = start(config).await;
    let a = node.handle();
    let clock = Clock::new();
    let began = clock.now();
    let refused = run(&a, &["namespace", "create", "acme"]);
    assert!(clock.now() - began < Duration::from_secs(4));
    refused.says(1, "publish, subscribe and presence go on");
    refused.says(1, "waxwing control status");
    assert_eq!(run(&a, &["publish", "room:1", "hello"]).code, 0);
    let status = run(&a, &["control", "status"]);
    assert!(status.out.contains("group    none yet"), "{}", status.out);
    // Somebody says that there will be no more of them.
    let begun = run(&a, &["control", "init", "-o", "json"]).json();
    assert_eq!(begun["group"].as_str().unwrap().len(), 32);
    assert_eq!(run(&a, &["namespace", "create", "acme"]).code, 0);
}
