//! Canaries: what a node is given in secret shows in nothing that it prints, serves or is seen as, even where it logs all it can.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use waxwing::tls::issue::{Authority, Validity, authority};
use waxwing::types::{ClusterName, NodeName};

const CLUSTER_SECRET: &str = "canary-of-the-cluster-secret";
const PASSWORD: &str = "canary-of-the-password";
const WRONG_PASSWORD: &str = "canary-of-a-wrong-password";

fn private(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn secrets_show_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let unix_s = i64::try_from(waxwing::supervise::Clock::new().unix_ms() / 1_000).unwrap();
    let valid = Validity { unix_s, days: 10 };
    let ca = authority("test", valid).unwrap();
    let signer = Authority::read(&ca.cert, &ca.key).unwrap();
    let cluster = ClusterName::parse("waxwing").unwrap();
    let own = signer.node(&cluster, &NodeName::parse("a").unwrap(), &[], valid).unwrap();
    let key_canary = own.key.lines().nth(1).unwrap().to_owned();
    let canaries = [CLUSTER_SECRET, PASSWORD, WRONG_PASSWORD, &key_canary];
    let files = [
        "--secret-file".to_owned(),
        private(dir.path(), "gossip.keys", CLUSTER_SECRET),
        "--redis-password-file".to_owned(),
        private(dir.path(), "password", PASSWORD),
        "--tls-cert".to_owned(),
        private(dir.path(), "a.pem", &own.cert),
        "--tls-key".to_owned(),
        private(dir.path(), "a.key", &own.key),
        "--tls-peer-ca".to_owned(),
        private(dir.path(), "ca.pem", &ca.cert),
    ];
    let program = || {
        let mut program = Command::new(env!("CARGO_BIN_EXE_waxwing"));
        program.env_clear().stdin(Stdio::null());
        program
    };
    let mut seen = Vec::new();
    for about in [&["config", "show"][..], &["check-config"]] {
        let said = program().args(about).args(["--name", "a"]).args(&files).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        seen.extend([said.stdout, said.stderr]);
    }

    let free = ["--listen-grpc", "--listen-peer", "--listen-http", "--listen-redis"]
        .map(|port| [port.to_owned(), "127.0.0.1:0".to_owned()])
        .concat();
    let mut node = program()
        .args(["start", "--name", "a", "--log-level", "trace"])
        .args(free)
        .args(&files)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let argv = std::fs::read(format!("/proc/{}/cmdline", node.id())).unwrap();
    seen.push(argv);
    let mut log = BufReader::new(node.stderr.take().unwrap());
    let mut lines = Vec::new();
    let mut redis = None;
    loop {
        let mut line = Vec::new();
        assert!(
            log.read_until(b'\n', &mut line).unwrap() > 0,
            "it ended: {}",
            lines.escape_ascii()
        );
        let text = String::from_utf8_lossy(&line).into_owned();
        if text.contains("Redis clients' pub/sub") {
            let listen = text.split("listen=").nth(1).unwrap();
            redis = Some(listen.split_whitespace().next().unwrap().to_owned());
        }
        lines.extend_from_slice(&line);
        if text.contains("ready") && text.contains("took_ms") {
            break;
        }
    }
    // Whoever talks in the clear says a password that nobody should see again, either.
    let mut stranger = TcpStream::connect(redis.unwrap()).unwrap();
    stranger.write_all(format!("AUTH {WRONG_PASSWORD}\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stranger.read_to_end(&mut answer);
    seen.push(answer);
    let pid = node.id().to_string();
    Command::new("kill").args(["-HUP", &pid]).status().unwrap();
    Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    log.read_to_end(&mut lines).unwrap();
    assert!(node.wait().unwrap().success());
    assert!(lines.len() > 1_000, "it logs all it can");
    seen.push(lines);
    for text in &seen {
        let text = String::from_utf8_lossy(text);
        for canary in canaries {
            assert!(!text.contains(canary), "{canary} shows in:\n{text}");
        }
    }
}

/// A key shows in nothing but the line that made it, whoever shows it to whom.
#[test]
fn keys_show_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("access.toml");
    let program = || {
        let mut program = Command::new(env!("CARGO_BIN_EXE_waxwing"));
        program.env_clear().stdin(Stdio::null());
        program
    };
    let create = |rights: &str| {
        let made = program().args(["key", "create", rights, "--file"]).arg(&file).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    };
    let (admin, observer) = (create("--admin"), create("--observe"));
    let wrong = format!("{}canary", &admin[..admin.len() - 6]);
    // What is secret of each, whatever stands around it.
    let canaries = [&admin, &observer, &wrong].map(|key| key[key.len() - 20..].to_owned());
    let key_file = private(dir.path(), "admin.key", &admin);
    let mut seen = vec![std::fs::read(&file).unwrap()];
    for about in [
        &["key", "list", "--file"][..],
        &["config", "show", "--access-file"],
        &["check-config", "--access-file"],
    ] {
        let said = program().args(about).arg(&file).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        seen.extend([said.stdout, said.stderr]);
    }
    let free = ["--listen-grpc", "--listen-peer", "--listen-http", "--listen-redis"]
        .map(|port| [port.to_owned(), "127.0.0.1:0".to_owned()])
        .concat();
    let mut node = program()
        .args(["start", "--name", "a", "--log-level", "trace", "--access-file"])
        .arg(&file)
        .args(free)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(node.stderr.take().unwrap());
    let (mut lines, mut ports) = (Vec::new(), Vec::new());
    loop {
        let mut line = Vec::new();
        assert!(log.read_until(b'\n', &mut line).unwrap() > 0, "{}", lines.escape_ascii());
        let text = String::from_utf8_lossy(&line).into_owned();
        if let Some(listen) = text.split("listen=").nth(1) {
            ports.push(listen.split_whitespace().next().unwrap().to_owned());
        }
        lines.extend_from_slice(&line);
        if text.contains("ready") && text.contains("took_ms") {
            break;
        }
    }
    // It logs more than a pipe holds.
    let log = std::thread::spawn(move || {
        log.read_to_end(&mut lines).unwrap();
        lines
    });
    let [grpc, _, http, redis] = <[String; 4]>::try_from(ports).unwrap();
    for (key, told) in [(&admin, "+OK"), (&wrong, "-WRONGPASS")] {
        let mut io = TcpStream::connect(&redis).unwrap();
        write!(io, "AUTH default {key}\r\nINFO\r\nCLIENT LIST\r\nQUIT\r\n").unwrap();
        let mut answer = Vec::new();
        let _ = io.read_to_end(&mut answer);
        assert!(answer.starts_with(told.as_bytes()), "{}", answer.escape_ascii());
        seen.push(answer);
    }
    for (key, told) in [(&observer, " 200 "), (&wrong, " 401 ")] {
        for path in ["/status", "/metrics"] {
            let mut io = TcpStream::connect(&http).unwrap();
            write!(io, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            let _ = io.read_to_end(&mut answer);
            assert!(
                String::from_utf8_lossy(&answer[..20]).contains(told),
                "{}",
                answer.escape_ascii()
            );
            seen.push(answer);
        }
    }
    for about in [
        &["status", "-o", "json"][..],
        &["sessions", "list"],
        &["publish", "t", "x", "--confirm", "node"],
    ] {
        let said = program()
            .args(about)
            .args(["--node", &grpc, "--key-file", &key_file])
            .output()
            .unwrap();
        // An operator's key is for nodes, and not for topics.
        assert_eq!(said.status.success(), about[0] != "publish", "{said:?}");
        seen.extend([said.stdout, said.stderr]);
    }
    let refused =
        program().args(["status", "--node", &grpc]).env("WAXWING_KEY", &wrong).output().unwrap();
    assert!(!refused.status.success());
    seen.extend([refused.stdout, refused.stderr]);
    let pid = node.id().to_string();
    Command::new("kill").args(["-HUP", &pid]).status().unwrap();
    Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert!(node.wait().unwrap().success());
    seen.push(log.join().unwrap());
    for text in &seen {
        let text = String::from_utf8_lossy(text);
        for canary in &canaries {
            assert!(!text.contains(canary.as_str()), "{canary} shows in:\n{text}");
        }
    }
}
