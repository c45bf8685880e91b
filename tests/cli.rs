//! The real program: what it prints where, and with which exit code. Nodes are played by a service that answers as one would.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use waxwing::wire::v1;
use waxwing::wire::v1::admin_server::{Admin, AdminServer};

/// Runs the program with nothing of ours in its environment.
fn waxwing(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waxwing"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn ran(output: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ran {
        code: output.status.code().expect("an exit code"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

fn run(args: &[&str]) -> Ran {
    ran(waxwing(args).output().expect("run"))
}

#[test]
fn help_and_version_are_data() {
    for (args, says) in [
        (vec!["--help"], "Usage: waxwing"),
        (vec!["help"], "Usage: waxwing"),
        (vec!["start", "--help"], "WAXWING_LIMITS_PAYLOAD"),
        (vec!["start", "-h"], "waxwing start --name a"),
        (vec!["drain", "--help"], "waxwing drain b --wait"),
        (vec!["--version"], "waxwing 0."),
    ] {
        let ran = run(&args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
        assert!(ran.out.contains(says), "{args:?}: {}", ran.out);
    }
    assert!(!run(&["start", "--help"]).out.contains("--dial"), "--dial is hidden");
}

#[test]
fn wrong_usage_is_64_and_talk() {
    for (args, says) in [
        (vec!["nonsense"], "unrecognized subcommand"),
        (vec!["member"], "members"),
        (vec!["members", "--wtch"], "--watch"),
        (vec!["start", "--limits-paylod", "1"], "--limits-payload"),
        (vec!["drain", "b", "--self"], "cannot be used with"),
        (vec!["members", "--node", "a:b"], "the port must be 1 to 65535"),
        (vec!["start", "--threads", "0"], "must be 1 to 1024"),
        (vec!["subscribe", "room:1", "--count", "0"], "0 is not in 1.."),
        (vec!["log-level", "inof"], "did you mean info?"),
        (vec![], "Usage: waxwing"),
    ] {
        let ran = run(&args);
        assert_eq!((ran.code, ran.out.as_str()), (64, ""), "{args:?}: {}", ran.err);
        assert!(ran.err.contains(says), "{args:?}: {}", ran.err);
    }
}

#[test]
fn the_default_file_passes_and_a_bad_one_names_its_lines() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("waxwing.toml");
    let file = path.to_str().expect("text");

    let default = run(&["config", "default"]);
    assert_eq!(default.code, 0);
    std::fs::write(&path, &default.out).expect("write");
    let good = run(&["check-config", file]);
    assert_eq!((good.code, good.out.as_str()), (0, ""), "{}", good.err);
    let keyless = run(&["check-config", file, "--control-keys"]);
    assert!(keyless.code == 0 && keyless.err.contains("nobody can make the first one"));
    let quiet = run(&["check-config", file, "-q"]);
    assert_eq!((quiet.code, quiet.out + &quiet.err), (0, String::new()));

    std::fs::write(&path, "[limits]\npayloda = 1\nidle = 30\n[listen]\ngrpc = \"0.0.0.0:7400\"\n")
        .expect("write");
    for args in [["check-config", file], ["start", "--config"]] {
        let mut command = waxwing(&args);
        if args[0] == "start" {
            command.arg(file);
        }
        let bad = ran(command.env("WAXWING_LIMITS_STREAMS", "0").output().expect("run"));
        assert_eq!((bad.code, bad.out.as_str()), (64, ""), "{}", bad.err);
        for says in [
            "error: 4 faults",
            &format!("{file}:2: limits.payloda: is unknown; did you mean limits.payload?"),
            &format!("{file}:3: limits.idle: has no unit; write \"30s\""),
            &format!("{file}:5: listen.grpc: 0.0.0.0:7400 is open to other hosts"),
            "WAXWING_LIMITS_STREAMS: limits.streams: is 0; must be 1 to 1000000",
        ] {
            assert!(bad.err.contains(says), "wanted {says}\n{}", bad.err);
        }
    }
}

#[test]
fn settings_are_shown_with_their_origins_and_without_secrets() {
    let dir = tempfile::tempdir().expect("a directory");
    let keys = dir.path().join("gossip.keys");
    std::fs::write(&keys, "canary-canary-canary\n").expect("write");
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let show = |args: &[&str]| {
        let mut command = waxwing(&["config", "show", "--name", "n1", "--secret-file"]);
        command.arg(&keys).args(args).env("WAXWING_LIMITS_IDLE", "7s");
        ran(command.output().expect("run"))
    };
    let table = show(&[]);
    assert_eq!(table.code, 0, "{}", table.err);
    assert!(!format!("{}{}", table.out, table.err).contains("canary"));
    let json: serde_json::Value = serde_json::from_str(&show(&["-o", "json"]).out).expect("JSON");
    let of =
        |key: &str| json.as_array().unwrap().iter().find(|row| row["key"] == key).unwrap().clone();
    assert_eq!(
        of("node.name"),
        serde_json::json!({"key": "node.name", "value": "n1", "from": "--name"})
    );
    assert_eq!(of("limits.idle")["from"], "WAXWING_LIMITS_IDLE");
    assert_eq!(of("limits.payload")["from"], "default");

    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let open = show(&[]);
    assert_eq!(open.code, 64);
    assert!(open.err.contains("chmod 600") && !open.err.contains("canary"), "{}", open.err);
}

#[test]
fn certificates_are_made_shown_and_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().to_str().expect("text");
    let certs = |args: &[&str]| run(&[&["certs"], args, &["--dir", place]].concat());
    let early = certs(&["node", "a"]);
    assert_eq!(early.code, 64);
    assert!(early.err.contains("make an authority first: waxwing certs ca"), "{}", early.err);
    assert_eq!(certs(&["ca"]).code, 0);
    let made = certs(&["node", "a", "--cluster", "prod", "--host", "a.example.com", "10.0.0.5"]);
    assert_eq!((made.code, made.out.as_str()), (0, ""), "{}", made.err);
    assert_eq!(certs(&["client", "backend"]).code, 0);
    for (file, mode) in
        [("ca.key", 0o600), ("a.key", 0o600), ("backend.key", 0o600), ("a.pem", 0o644)]
    {
        let found = std::fs::metadata(dir.path().join(file)).expect(file).permissions().mode();
        assert_eq!(found & 0o777, mode, "{file}");
    }
    let again = certs(&["node", "a"]);
    assert_eq!(again.code, 64);
    assert!(again.err.contains("--replace"), "{}", again.err);
    assert_eq!(certs(&["ca"]).code, 64, "an authority is not made anew by mistake");
    assert_eq!(certs(&["client", "ca"]).code, 64);

    let file = |name: &str| format!("{place}/{name}");
    let shown = run(&[
        "certs",
        "show",
        &file("a.pem"),
        &file("backend.pem"),
        &file("ca.pem"),
        "-o",
        "json",
    ]);
    let shown: serde_json::Value = serde_json::from_str(&shown.out).expect("JSON");
    let for_what = |i: usize| shown[i]["purposes"].to_string();
    assert_eq!(shown[0]["node"], "prod/a");
    assert_eq!(
        shown[0]["hosts"].to_string(),
        r#"["localhost","127.0.0.1","::1","a.example.com","10.0.0.5"]"#
    );
    assert_eq!(for_what(0), r#"["answering","calling"]"#);
    assert_eq!((for_what(1), shown[1]["node"].is_null()), (r#"["calling"]"#.to_owned(), true));
    assert_eq!(for_what(2), r#"["authority"]"#);
    // The last day is whole until the second after it was made.
    assert!(matches!(shown[0]["days_left"].as_i64(), Some(364 | 365)));
    assert!(run(&["certs", "show", &file("a.key")]).err.contains("holds no certificate"));

    // A renewal is for what the one before was for, but for what is said.
    let hosts_of = |name: &str| {
        let shown = run(&["certs", "show", &file(name), "-o", "json"]);
        let shown: serde_json::Value = serde_json::from_str(&shown.out).expect("JSON");
        (shown[0]["node"].clone(), shown[0]["hosts"].to_string(), shown[0]["days_left"].clone())
    };
    let before = hosts_of("a.pem");
    let renewed = certs(&["node", "a", "--replace"]);
    assert_eq!(renewed.code, 0, "{}", renewed.err);
    assert!(renewed.err.contains("for a.example.com, 10.0.0.5, as the one"), "{}", renewed.err);
    assert!(renewed.err.contains("of the cluster prod, as the one"), "{}", renewed.err);
    // Days are counted from the second at which one looks.
    let after = hosts_of("a.pem");
    assert_eq!((after.0, after.1), (before.0, before.1));
    assert_eq!(certs(&["node", "b", "--host", "b.example.com", "c", "--days", "9"]).code, 0);
    let moved = certs(&["node", "b", "--replace", "--host", "c", "d", "--cluster", "test"]);
    assert!(moved.err.contains("no longer for b.example.com\n"), "{}", moved.err);
    assert!(moved.err.contains("of the cluster test, no longer of waxwing"), "{}", moved.err);
    assert!(moved.err.contains("valid for 9 days"), "{}", moved.err);
    let (node, hosts, left) = hosts_of("b.pem");
    assert_eq!(
        (node, hosts),
        ("test/b".into(), r#"["localhost","127.0.0.1","::1","c","d"]"#.to_owned())
    );
    assert!(matches!(left.as_i64(), Some(8 | 9)), "{left}");
    std::fs::write(file("b.pem"), "nothing").expect("write");
    let lost = certs(&["node", "b", "--replace"]);
    assert!(lost.code == 1 && lost.err.contains("can't be taken over"), "{}", lost.err);

    // What they are for: a node on every address, with nothing waived but keys.
    let start = |more: &[&str]| {
        let (cert, key, ca, secret) =
            (file("a.pem"), file("a.key"), file("ca.pem"), file("gossip.keys"));
        let open = [
            "check-config",
            "--name",
            "a",
            "--cluster-name",
            "prod",
            "--listen-grpc",
            "0.0.0.0:7400",
            "--listen-peer",
            "0.0.0.0:7401",
            "--advertise-grpc",
            "10.0.0.5:7400",
            "--advertise-peer",
            "10.0.0.5:7401",
        ];
        let locks = [
            "--tls-cert",
            &cert,
            "--tls-key",
            &key,
            "--tls-peer-ca",
            &ca,
            "--secret-file",
            &secret,
        ];
        run(&[&open[..], &locks, more].concat())
    };
    std::fs::write(file("gossip.keys"), "a secret of sixteen and more").expect("write");
    std::fs::set_permissions(file("gossip.keys"), std::fs::Permissions::from_mode(0o600))
        .expect("chmod");
    let refused = start(&[]);
    assert_eq!(refused.code, 64);
    assert!(refused.err.contains("with no keys: "), "{}", refused.err);
    let fine = start(&["--allow-anonymous"]);
    assert_eq!(fine.code, 0, "{}", fine.err);
    let fine = start(&["--tls-client-ca", &file("ca.pem")]);
    assert_eq!(fine.code, 0, "{}", fine.err);
    let other = start(&["--allow-anonymous", "--cluster-name", "test"]);
    assert!(other.err.contains("cannot be used multiple times"), "{}", other.err);
    std::fs::set_permissions(file("a.key"), std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let open = start(&["--allow-anonymous"]);
    assert!(open.err.contains("can be read by others"), "{}", open.err);
}

#[test]
fn keys_are_made_listed_and_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("access.toml");
    let place = file.to_str().unwrap();
    let key = |args: &[&str]| run(&[&["key"], args, &["--file", place]].concat());
    assert_eq!(key(&["create"]).code, 64, "a key that may do nothing is a mistake");
    let made = key(&[
        "create",
        "-n",
        "acme",
        "--publish",
        "room:*",
        "a\"b",
        "--note",
        "chat = 1",
        "--expires",
        "90d",
    ]);
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(made.out.starts_with("wx_") && made.out.lines().count() == 1, "{}", made.out);
    let operator = key(&["create", "--admin"]);
    assert_ne!(made.out, operator.out);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    // The secret itself may hold the character that ends the prefix and the id.
    let secret = |ran: &Ran| ran.out.trim().splitn(3, '_').nth(2).unwrap().to_owned();
    assert!(!text.contains(&secret(&made)) && !text.contains(&secret(&operator)), "{text}");

    let listed = key(&["list", "-o", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    let row = &rows[0];
    let id = row["id"].as_str().unwrap();
    assert!(made.out.contains(&format!("wx_{id}_")));
    assert_eq!(row["namespace"], "acme");
    assert_eq!(row["publish"], serde_json::json!(["room:*", "a\"b"]));
    assert_eq!((&row["note"], &row["expired"]), (&"chat = 1".into(), &false.into()));
    assert!(rows[1]["admin"].as_bool().unwrap());
    assert!(key(&["list"]).out.contains("publish room:* a\"b"), "{}", key(&["list"]).out);

    assert_eq!(key(&["remove", "nobody"]).code, 1);
    let removed = key(&["remove", id]);
    assert_eq!(removed.code, 0, "{}", removed.err);
    let rows: serde_json::Value = serde_json::from_str(&key(&["list", "-o", "json"]).out).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert!(rows[0]["admin"].as_bool().unwrap());
    std::fs::write(&file, format!("{text}[[key]]\nid = \"x\"\n")).unwrap();
    let broken = key(&["create", "--admin"]);
    assert!(broken.code == 1 && broken.err.contains("access.toml:"), "{}", broken.err);
    let start = ["check-config", "--access-file", place];
    assert!(run(&start).err.contains("access.toml:"), "{}", run(&start).err);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(key(&["list"]).err.contains("can be read by others"));
}

#[test]
fn keys_that_are_made_at_once_are_all_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("access.toml");
    let place = file.to_str().unwrap();
    let create = || {
        let args = ["key", "create", "--subscribe", "*", "--file", place];
        waxwing(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let made: Vec<_> = (0..8).map(|_| create()).collect();
    let made: Vec<_> = made.into_iter().map(|one| ran(one.wait_with_output().unwrap())).collect();
    assert!(made.iter().all(|one| one.code == 0), "{}", made[0].err);
    let listed = run(&["key", "list", "-o", "json", "--file", place]);
    let rows: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 8);
    let entries: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(entries.len(), 1, "nothing is left beside it: {entries:?}");
}

#[test]
fn a_key_that_leaves_the_host_in_the_clear_is_warned_of() {
    let status = |node: &str, more: &[&str]| {
        let args = [&["status", "--timeout", "10ms", "--node", node], more].concat();
        ran(waxwing(&args).env("WAXWING_KEY", "wx_a_canary").output().unwrap())
    };
    // No address of loopback to whoever reads it, and nobody listens there; nothing leaves this host.
    let far = status("0.0.0.0:1", &[]);
    assert!(far.err.contains("0.0.0.0:1 in the clear"), "{}", far.err);
    assert_eq!(far.err.matches("in the clear").count(), 1);
    let near = status("127.0.0.1:1", &[]);
    let quiet = status("0.0.0.0:1", &["-q"]);
    let keyless = run(&["status", "--timeout", "10ms", "--node", "0.0.0.0:1"]);
    for ran in [near, quiet, keyless] {
        assert!(!ran.err.contains("in the clear"), "{}", ran.err);
    }
}

#[test]
fn tokens_are_minted_and_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let secret = file("app.secret", "canary canary canary canary canary\n");
    let other = file("other.secret", "another, which is of no use to anybody\n");
    let access = file(
        "access.toml",
        "[[issuer]]\nname = \"app\"\nkid = \"1\"\nalgorithm = \"HS256\"\nsecret_file = \"app.secret\"\n\
         audience = \"waxwing\"\nnamespaces = [\"acme-*\"]\n",
    );
    let mint_in = |namespace: &str, secret: &str, more: &[&str]| {
        let words = ["token", "mint", "--issuer", "app", "--sign-with", secret, "-n", namespace];
        run(&[&words, more].concat())
    };
    let mint = |secret: &str, more: &[&str]| mint_in("acme-1", secret, more);
    assert_eq!(mint(&secret, &[]).code, 64, "a token that may do nothing is a mistake");
    let good = mint(&secret, &["--kid", "1", "--subscribe", "room:*", "--subject", "alice"]);
    assert_eq!((good.code, good.out.lines().count()), (0, 1), "{}", good.err);
    let look = |token: &str, more: &[&str]| {
        let token = file("token", token);
        run(&[&["token", "inspect", &token], more].concat())
    };
    let seen = look(&good.out, &["--file", &access, "-o", "json"]);
    assert_eq!(seen.code, 0, "{}", seen.err);
    let seen: serde_json::Value = serde_json::from_str(&seen.out).unwrap();
    assert_eq!(seen["header"]["alg"], "HS256");
    assert_eq!(seen["claims"]["subscribe"], serde_json::json!(["room:*"]));
    assert_eq!((&seen["claims"]["sub"], &seen["believed"]), (&"alice".into(), &true.into()));
    let unverified = look(&good.out, &[]);
    assert_eq!(unverified.code, 0);
    assert!(unverified.err.contains("nothing of this was verified"), "{}", unverified.err);
    for bad in [
        mint(&other, &["--kid", "1", "--subscribe", "*"]).out,
        mint(&secret, &["--subscribe", "*"]).out,
        mint(&secret, &["--kid", "1", "--subscribe", "*", "--audience", "other"]).out,
        mint_in("shop", &secret, &["--kid", "1", "--subscribe", "*"]).out,
        "one.two.three".to_owned(),
        String::new(),
    ] {
        let seen = look(&bad, &["--file", &access]);
        assert_eq!(seen.code, 1, "{bad}{}", seen.out);
        assert!(!seen.err.contains("canary"), "{}", seen.err);
    }
    let short = file("short.secret", "canary\n");
    let refused = mint(&short, &["--subscribe", "*"]);
    assert!(refused.code == 1 && !refused.err.contains("canary"), "{}", refused.err);
    // A file that names a secret that others can read, or none, lets nobody in.
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let start = run(&["check-config", "--access-file", &access]);
    assert!(start.code == 64 && start.err.contains("can be read by others"), "{}", start.err);
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run(&["completions", shell]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{shell}");
        assert!(ran.out.contains("check-config"), "{shell}");
    }
    assert_eq!(run(&["completions", "tcsh"]).code, 64);
}

#[test]
fn an_unknown_node_is_1_says_what_was_tried_and_gives_a_hint() {
    let port = free_port();
    for command in [vec!["members"], vec!["status"], vec!["health"], vec!["leave", "--self"]] {
        let nodes = format!("127.0.0.1:{port},localhost:{port}");
        let ran = run(&[command.as_slice(), &["--node", &nodes]].concat());
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{command:?}");
        for says in [
            &format!("127.0.0.1:{port}: connection refused"),
            &format!("localhost:{port}: connection refused"),
            "hint: is it running? try: waxwing dev",
        ] {
            assert!(ran.err.contains(says), "{}", ran.err);
        }
    }
    let waited =
        run(&["wait", "--ready", "--timeout", "200ms", "--node", &format!("127.0.0.1:{port}")]);
    assert_eq!(waited.code, 1);
    assert!(waited.err.contains("not as wanted after 200ms"), "{}", waited.err);
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let mut child = waxwing(&["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run");
    drop(child.stdout.take());
    let ran = ran(child.wait_with_output().expect("wait"));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn colours_only_where_they_are_wanted() {
    let nodes = Nodes::start();
    let escapes = |args: &[&str]| nodes.run(args).out.contains('\u{1b}');
    assert!(!escapes(&["members"]));
    assert!(escapes(&["members", "--color", "always"]));
    assert!(!escapes(&["members", "--color", "never"]));
}

#[test]
fn a_node_is_looked_at() {
    let nodes = Nodes::start();
    let members = nodes.run(&["members"]);
    assert_eq!(members.code, 0, "{}", members.err);
    assert!(members.out.starts_with("NAME  STATE"), "{}", members.out);
    assert!(members.out.contains("a *") && !members.out.contains('\u{7}'), "{}", members.out);
    let json: serde_json::Value =
        serde_json::from_str(&nodes.run(&["members", "-o", "json"]).out).expect("JSON");
    assert_eq!((&json[1]["name"], &json[1]["state"]), (&"b".into(), &"ready".into()));
    assert_eq!(json[1]["addresses"]["grpc"], nodes.addresses[1].to_string());

    let status = nodes.run(&["status"]);
    assert!(
        status.out.contains("cluster   test: 2 live members, 2 ready, converged"),
        "{}",
        status.out
    );
    assert_eq!(nodes.run(&["wait", "--members", "2", "--converged", "--ready"]).code, 0);
    let waited = nodes.run(&["wait", "--members", "3", "--timeout", "300ms"]);
    assert_eq!(waited.code, 1);
    assert!(waited.err.contains("2 of 3 members"), "{}", waited.err);

    assert_eq!(nodes.run(&["health"]).code, 0);
    assert_eq!(nodes.run(&["health", "--ready"]).code, 0);
    let topics = nodes.run(&["topics", "list", "room:"]);
    assert!(topics.out.contains("room:1") && topics.out.contains("1,204"), "{}", topics.out);
    assert!(topics.err.contains("there are more"), "{}", topics.err);
    assert!(nodes.run(&["sessions", "list", "--slow"]).out.contains("8.0 MiB"));
    let unknown = nodes.run(&["sessions", "info", "zz"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("no session zz"), "{}", unknown.err);
}

#[test]
fn watching_gives_what_was_asked_for() {
    let nodes = Nodes::start();
    let watched = |args: &[&str]| {
        let mut child = nodes.command(args).stdout(Stdio::piped()).spawn().expect("run");
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let lines: Vec<String> = lines.take(2).map(|line| line.expect("a line")).collect();
        child.kill().expect("kill");
        child.wait().expect("wait");
        lines
    };
    let json = |args: &[&str]| -> Vec<serde_json::Value> {
        watched(args).iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    assert!(json(&["members", "-w", "-o", "json"]).iter().all(serde_json::Value::is_array));
    assert!(json(&["status", "-w", "-o", "json"]).iter().all(|all| all.get("cluster").is_some()));
    let table = watched(&["members", "-w"]);
    assert!(table[0].starts_with("NAME") && table[1].starts_with('a'), "{table:?}");
}

#[test]
fn a_node_is_told_and_the_right_one() {
    let nodes = Nodes::start();
    for (args, whom, told) in [
        (vec!["drain", "b", "--grace", "5s", "--wait"], 1, "drain 5"),
        (vec!["drain", "--self", "--wait"], 0, "drain 30"),
        (vec!["drain", "a"], 0, "drain 30"),
        (vec!["leave", "b"], 1, "leave"),
        (vec!["leave", "--self"], 0, "leave"),
        (vec!["join", "10.0.0.5:7401"], 0, "join 10.0.0.5:7401"),
        (vec!["log-level", "debug", "--for", "5m"], 0, "log debug 300"),
        (vec!["sessions", "kill", "s1"], 0, "kill s1"),
    ] {
        let ran = nodes.run(&args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        assert_eq!(nodes.told(whom), [told], "{args:?}");
        assert_eq!(nodes.told(1 - whom), Vec::<String>::new(), "{args:?}");
    }
    let unknown = nodes.run(&["drain", "bb"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("knows no member \"bb\""), "{}", unknown.err);

    let steps = nodes.run(&["drain", "b", "--wait", "-o", "json"]);
    let lines: Vec<&str> = steps.out.lines().collect();
    assert_eq!(lines.len(), 2, "{}", steps.out);
    assert!(lines.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[test]
fn keys_and_namespaces_travel_as_metadata() {
    let nodes = Nodes::start();
    let dir = tempfile::tempdir().expect("a directory");
    let key = dir.path().join("key");
    std::fs::write(&key, "# mine\nsesame\n").expect("write");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let by_file =
        nodes.run(&["leave", "--self", "-n", "team-a", "--key-file", key.to_str().unwrap()]);
    assert_eq!(by_file.code, 0, "{}", by_file.err);
    assert_eq!(nodes.told(0), ["leave Bearer sesame team-a"]);
    let mut command = nodes.command(&["leave", "--self"]);
    assert_eq!(ran(command.env("WAXWING_KEY", "sesame").output().expect("run")).code, 0);
    assert_eq!(nodes.told(0), ["leave Bearer sesame"]);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let open = nodes.run(&["members", "--key-file", key.to_str().unwrap()]);
    assert_eq!(open.code, 1);
    assert!(open.err.contains("chmod 600") && !open.err.contains("sesame"), "{}", open.err);
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("an address").port()
}

/// Two nodes, a and b, that know each other and remember what they were told.
struct Nodes {
    _runtime: tokio::runtime::Runtime,
    addresses: [SocketAddr; 2],
    told: [Arc<Mutex<Vec<String>>>; 2],
}

impl Nodes {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let bind = || runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("bind");
        let listeners = [bind(), bind()];
        let addresses =
            listeners.each_ref().map(|listener| listener.local_addr().expect("an address"));
        let told: [Arc<Mutex<Vec<String>>>; 2] = std::array::from_fn(|_| Arc::default());
        for (me, listener) in listeners.into_iter().enumerate() {
            let (reporter, health) = tonic_health::server::health_reporter();
            runtime.block_on(reporter.set_service_status("", tonic_health::ServingStatus::Serving));
            let node = PlayedNode { me, addresses, told: told[me].clone() };
            let server = tonic::transport::Server::builder()
                .add_service(health)
                .add_service(AdminServer::new(node))
                .serve_with_incoming(TcpListenerStream::new(listener));
            runtime.spawn(server);
        }
        Self { _runtime: runtime, addresses, told }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = waxwing(args);
        command.env("WAXWING_NODE", self.addresses[0].to_string());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        ran(self.command(args).output().expect("run"))
    }

    /// What this node was told since the last look.
    fn told(&self, node: usize) -> Vec<String> {
        std::mem::take(&mut *self.told[node].lock())
    }
}

const NAMES: [&str; 2] = ["a", "b"];

struct PlayedNode {
    me: usize,
    addresses: [SocketAddr; 2],
    told: Arc<Mutex<Vec<String>>>,
}

impl PlayedNode {
    fn hear<T>(&self, request: &Request<T>, what: &str) {
        let mut heard = what.to_owned();
        for name in ["authorization", "waxwing-namespace"] {
            if let Some(value) = request.metadata().get(name) {
                heard += &format!(" {}", value.to_str().expect("text"));
            }
        }
        self.told.lock().push(heard);
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Admin for PlayedNode {
    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let member = |i: usize| {
            serde_json::json!({
                "name": NAMES[i],
                "state": "ready",
                "me": i == self.me,
                "addresses": { "grpc": self.addresses[i].to_string() },
                "problems": ["a bell \u{7}"],
            })
        };
        let json = serde_json::json!({
            "node": { "name": NAMES[self.me], "state": "ready" },
            "cluster": { "name": "test", "members": 2, "ready": 2, "converged": true },
            "members": [member(0), member(1)],
            "later": { "fields": "are passed over" },
        });
        Ok(Response::new(v1::StatusResponse { json: json.to_string() }))
    }

    async fn members(&self, _: Request<v1::MembersRequest>) -> Answer<v1::MembersResponse> {
        Err(Status::unimplemented(""))
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Answer<v1::JoinResponse> {
        self.hear(&request, &format!("join {}", request.get_ref().seeds.join(" ")));
        Ok(Response::new(v1::JoinResponse { joined: vec!["a".to_owned()] }))
    }

    type DrainStream = tokio_stream::Iter<std::vec::IntoIter<Result<v1::DrainEvent, Status>>>;

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Answer<Self::DrainStream> {
        let grace = request.get_ref().grace.expect("a grace").seconds;
        self.hear(&request, &format!("drain {grace}"));
        let event = |step: &str, done| v1::DrainEvent {
            step: step.to_owned(),
            detail: String::new(),
            done,
        };
        // As a node that ends: the connection breaks after the last step.
        let steps = vec![
            Ok(event("clients", false)),
            Ok(event("leave", false)),
            Err(Status::unavailable("gone")),
        ];
        Ok(Response::new(tokio_stream::iter(steps)))
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Answer<v1::LeaveResponse> {
        self.hear(&request, "leave");
        Ok(Response::new(v1::LeaveResponse {}))
    }

    async fn list_sessions(
        &self,
        _: Request<v1::ListSessionsRequest>,
    ) -> Answer<v1::ListSessionsResponse> {
        let session =
            v1::SessionInfo { id: "s1".to_owned(), mailbox_bytes: 8 << 20, ..Default::default() };
        Ok(Response::new(v1::ListSessionsResponse { sessions: vec![session], total: 1 }))
    }

    async fn describe_session(
        &self,
        request: Request<v1::DescribeSessionRequest>,
    ) -> Answer<v1::SessionInfo> {
        Err(Status::not_found(format!("no session {}", request.get_ref().id)))
    }

    async fn kill_session(
        &self,
        request: Request<v1::KillSessionRequest>,
    ) -> Answer<v1::KillSessionResponse> {
        self.hear(&request, &format!("kill {}", request.get_ref().id));
        Ok(Response::new(v1::KillSessionResponse {}))
    }

    async fn list_topics(
        &self,
        request: Request<v1::ListTopicsRequest>,
    ) -> Answer<v1::ListTopicsResponse> {
        let topic = format!("{}1", request.get_ref().prefix);
        let row = v1::TopicInfo { topic, subscriptions: 1204, ..Default::default() };
        Ok(Response::new(v1::ListTopicsResponse { topics: vec![row], more: true }))
    }

    async fn describe_topic(&self, _: Request<v1::DescribeTopicRequest>) -> Answer<v1::TopicInfo> {
        Err(Status::not_found("no such topic"))
    }

    async fn set_log_level(
        &self,
        request: Request<v1::SetLogLevelRequest>,
    ) -> Answer<v1::SetLogLevelResponse> {
        let seconds = request.get_ref().for_time.map_or(0, |time| time.seconds);
        self.hear(&request, &format!("log {} {seconds}", request.get_ref().level));
        Ok(Response::new(v1::SetLogLevelResponse { before: "info".to_owned() }))
    }
}
