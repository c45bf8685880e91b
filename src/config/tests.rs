//! The configuration is data in, data out: each test is a table of what is written and what comes of it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::keys::{self, KEYS, default_file};
use super::load::load;
use super::value::{Value, parse_duration, show_duration, show_size};
use super::{Config, Faults, Host, Loaded, LogFormat, Origin, Sources};
use crate::types::NodeName;

fn host() -> Host {
    let address = Some("10.0.0.9".parse().expect("an address"));
    Host { name: NodeName::parse("here").expect("lawful"), address }
}

/// What is said, and where.
#[derive(Default)]
struct Said {
    dir: Option<TempDir>,
    sources: Sources,
}

impl Said {
    fn file(text: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("waxwing.toml");
        std::fs::write(&path, text).expect("write");
        Self { dir: Some(dir), sources: Sources { file: Some(path), ..Sources::default() } }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.env.push((name.to_owned(), OsString::from(value)));
        self
    }

    fn flag(mut self, flag: &str, value: &str) -> Self {
        let index = KEYS.iter().position(|key| key.flag() == flag).expect("a flag");
        self.sources.flags.push((index, value.to_owned()));
        self
    }

    fn insecure(mut self) -> Self {
        self.sources.insecure = true;
        self
    }

    fn load(&self) -> Result<Loaded, Faults> {
        load(self.sources.clone(), &host())
    }

    /// The faults as lines, without the directory.
    fn faults(&self) -> Vec<String> {
        let faults = self.load().expect_err("faults").to_string();
        let dir = self.dir.as_ref().map_or("-", |dir| dir.path().to_str().expect("text"));
        faults.replace(&format!("{dir}/"), "").lines().map(str::to_owned).collect()
    }

    fn config(&self) -> Config {
        self.load().unwrap_or_else(|faults| panic!("{faults}")).config
    }
}

fn one_fault(said: &Said, says: &str) {
    let faults = said.faults();
    assert!(faults.len() == 1 && faults[0].contains(says), "wanted {says:?}, got {faults:#?}");
}

fn shown(config: &Config) -> Vec<String> {
    KEYS.iter().map(|key| format!("{} = {}", key.path(), (key.get)(config))).collect()
}

#[test]
fn the_default_file_says_the_defaults() {
    let defaults = Config::defaults(host().name);
    let said = Said::file(&default_file(&defaults));
    assert_eq!(shown(&said.config()), shown(&defaults));
}

#[test]
fn every_key_is_a_line_of_the_default_file_a_flag_and_a_variable() {
    let defaults = Config::defaults(host().name);
    let file = default_file(&defaults);
    let mut flags = Vec::new();
    for (index, key) in KEYS.iter().enumerate() {
        let value = (key.get)(&defaults);
        assert!(file.contains(&format!("\n{} = ", key.name)), "{}", key.path());
        let loose = match &value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Array(_) => "a:1,b:2".to_owned(),
            other => other.to_string(),
        };
        let by_env = Said::default().env(&key.env(), &loose).load().expect("lawful");
        assert_eq!(*by_env.origins.get(index), expected(Origin::Env(key.env()), &loose, key));
        let by_flag = Said::default().flag(&key.flag(), &loose).load().expect("lawful");
        let flag = Origin::Flag(format!("--{}", key.flag()));
        assert_eq!(*by_flag.origins.get(index), expected(flag, &loose, key));
        flags.push(key.flag());
    }
    flags.sort();
    flags.dedup();
    assert_eq!(flags.len(), KEYS.len(), "two keys have one flag");
}

/// Saying nothing for a key that is found out leaves it to be found out.
fn expected(origin: Origin, said: &str, key: &keys::Key) -> Origin {
    if said.is_empty() && key.blank { Origin::Default } else { origin }
}

#[test]
fn a_later_source_overrules_an_earlier_one() {
    let file = "[log]\nlevel = \"warn\"\n[limits]\npayload = \"2MiB\"\nheaders = 100\n[node]\nname = \"f\"\n";
    let said = Said::file(file)
        .env("WAXWING_LOG_LEVEL", "debug")
        .env("RUST_LOG", "trace")
        .env("WAXWING_LIMITS_HEADERS", "200")
        .flag("limits-headers", "300");
    let loaded = said.load().expect("lawful");
    assert_eq!(loaded.config.log.level, "debug");
    assert_eq!(loaded.config.limits.payload, 2 << 20);
    assert_eq!(loaded.config.limits.headers, 300);
    assert_eq!(loaded.config.node.name.as_str(), "f");
    let origin = |section, name| loaded.origins.of(section, name).to_string();
    assert_eq!(origin("log", "level"), "WAXWING_LOG_LEVEL");
    assert!(origin("limits", "payload").ends_with("waxwing.toml:4"));
    assert_eq!(origin("limits", "headers"), "--limits-headers");
    assert_eq!(origin("limits", "topic"), "default");

    assert_eq!(Said::default().env("RUST_LOG", "trace").config().log.level, "trace");
    assert_eq!(
        Said::file("[log]\nlevel = \"warn\"").env("RUST_LOG", "trace").config().log.level,
        "warn"
    );
    assert_eq!(Said::default().config().node.name.as_str(), "here");
}

#[test]
fn the_sample_of_the_manual_loads() {
    let dir = tempfile::tempdir().expect("a directory");
    let keys = secret_file(dir.path(), &"k".repeat(32), 0o600);
    let sample = format!(
        r#"
[node]
name = "a"
data_dir = {data:?}
[cluster]
name = "prod"
seeds = ["waxwing-headless:7401"]
expect = 3
secret_file = {keys:?}
[listen]
grpc = "0.0.0.0:7400"
peer = "0.0.0.0:7401"
http = "127.0.0.1:7402"
[advertise]
grpc = "a.example.com:7400"
peer = "10.0.0.5:7401"
[limits]
payload = "1MiB"
topic = "1KiB"
mailbox = "8MiB"
link_window = "64MiB 30s"
[log]
format = "json"
level = "info"
"#,
        data = dir.path().join("data")
    );
    let config = Said::file(&sample).insecure().config();
    assert_eq!(config.cluster.seeds, ["waxwing-headless:7401"]);
    assert_eq!((config.cluster.expect, config.cluster.secrets.len()), (3, 1));
    assert_eq!(config.limits, super::Limits::default());
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.advertise.grpc.as_deref(), Some("a.example.com:7400"));
}

#[test]
fn bad_config_reports_all_faults_at_once() {
    let said = Said::file(
        "name = \"a\"\n[node]\nname = \"a b\"\n[limits]\npayloda = 1\ntopic = -1\nmailbox = \"8M\"\n[listen]\ngrpc = \"0.0.0.0:7400\"\npeer = \"0.0.0.0:7401\"\n",
    )
    .env("WAXWING_LIMITS_STREAMS", "many")
    .env("WAXWING_LIMIT_FRAME", "1MiB")
    .flag("expect", "-3");
    let wanted = [
        ("waxwing.toml:1: name: ", "outside any section; did you mean node.name or cluster.name?"),
        ("waxwing.toml:3: node.name: ", "\"a b\"; must be 1 to 64 characters"),
        ("waxwing.toml:5: limits.payloda: ", "did you mean limits.payload?"),
        ("waxwing.toml:6: limits.topic: ", "is -1; must be 1B to 64KiB"),
        ("waxwing.toml:7: limits.mailbox: ", "write \"8MiB\""),
        ("waxwing.toml:9: listen.grpc: ", "say --insecure"),
        ("waxwing.toml:10: listen.peer: ", "head -c 32 /dev/urandom"),
        ("waxwing.toml:10: listen.peer: ", "--tls-peer-ca ca.pem"),
        ("WAXWING_LIMITS_STREAMS: limits.streams: ", "must be a whole number"),
        ("WAXWING_LIMIT_FRAME: ", "did you mean WAXWING_LIMITS_FRAME?"),
        ("--expect: cluster.expect: ", "is -3; must be 0 to 1000"),
    ];
    let faults = said.faults();
    assert_eq!(faults.len(), wanted.len(), "{faults:#?}");
    for (fault, (place, what)) in faults.iter().zip(wanted) {
        assert!(
            fault.starts_with(place) && fault.contains(what),
            "{fault}\nwanted {place} .. {what}"
        );
    }
}

#[test]
fn bad_config_values() {
    for (text, says) in [
        ("[limits]\npayload = true", "is true; must be a size"),
        ("[limits]\npayload = 0", "is 0B; must be 1B to 6MiB"),
        ("[limits]\npayload = \"1.5MiB\"", "whole number of a unit"),
        (
            "[limits]\npayload = \"99999999999999999999999999999999999999999999\"",
            "beyond all bounds",
        ),
        ("[limits]\npayload = \"18446744073709551615TiB\"", "must be 1B to 6MiB"),
        ("[limits]\npayload = \"1 furlong\"", "the unit must be"),
        ("[limits]\nsessions = \"7\"", "write the number without quotes: 7"),
        ("[limits]\nsessions = 1.5", "is the number 1.5; must be a whole number"),
        ("[limits]\nsessions = 99999999999", "must be 1 to 10000000"),
        ("[limits]\nsessions = 2024-01-01", "is a date"),
        ("[limits]\nidle = 30", "has no unit; write \"30s\""),
        ("[limits]\nidle = \"-5s\"", "must not be negative"),
        ("[limits]\nidle = \"0s\"", "must be 1s to 1day"),
        ("[limits]\nidle = \"soon\"", "must be a duration"),
        ("[limits]\nlink_window = \"64MiB soon\"", "must be a duration"),
        ("[limits]\nlink_window = \"30s 64MiB\"", "the unit must be"),
        ("[listen]\ngrpc = \"example.com:1\"", "must be IP:PORT"),
        ("[listen]\ngrpc = \":7400\"", "write \"127.0.0.1:7400\""),
        ("[listen]\ngrpc = \"127.0.0.1\"", "the port is missing"),
        ("[listen]\ngrpc = \"127.0.0.1:70000\"", "must be IP:PORT"),
        ("[listen]\nhttp = \"127.0.0.1:7400\"", "is taken by listen.grpc"),
        ("[listen]\nredis = \"127.0.0.1:7400\"", "is taken by listen.grpc"),
        ("[redis]\non_gap = \"stop\"", "must be \"ignore\" or \"disconnect\""),
        (
            "[redis]\noutput_hard = \"1MiB\"\noutput_soft = \"1MiB\"",
            "can't hold the largest message",
        ),
        ("[redis]\noutput_soft = \"64MiB\"", "must be at most redis.output_hard"),
        ("[redis]\npassword_file = \"/nonexistent\"", "no such file"),
        ("[tls]\ncert = \"a\"", "its key is missing"),
        ("[tls]\npeer_ca = \"a\"", "without a certificate"),
        ("[presnce]\nlinger = \"5s\"", "did you mean [presence]?"),
        ("[limits]\npublish_rate = \"off\"", "does not have a limit on the publish rate"),
        ("[limit]\nidle = \"5s\"", "did you mean [limits]?"),
        ("[zzzz]\nidle = \"5s\"", "did you mean limits.idle?"),
        ("[node]\nzzzz = 1", "[node] has name, data_dir"),
        ("[\"\\u001b[31m\"]\nx = 1", "remove it"),
        ("[cluster]\nseeds = \"a:1\"", "must be a list: [\"a:1\"]"),
        ("[cluster]\nseeds = [1]", "has the number 1 in it"),
        ("[cluster]\nseeds = [\"a\"]", "must be HOST:PORT"),
        ("[cluster]\nseeds = [\"::1:7401\"]", "stands in brackets"),
        ("[cluster]\nseeds = [\"a:0\"]", "port 0 can't be dialed"),
        ("[cluster]\nseeds = [\"http://a:1\"]", "IPv6"),
        ("[advertise]\npeer = \"0.0.0.0:7401\"", "nobody can dial that"),
        ("[security]\nallow_plaintext = 1", "must be true or false"),
        ("[security]\nstale_keys = \"no\"", "must be \"allow\" or \"refuse\""),
        ("[security]\ncontrol_keys = \"yes\"", "must be true or false"),
        ("[log]\nformat = \"xml\"", "must be \"text\" or \"json\""),
        ("[log]\nlevel = \"inof\"", "did you mean info?"),
        ("[limits]\npatterns = 200000", "must be at most limits.subscriptions"),
        ("[presence]\nlinger = \"1h\"", "must be at most limits.linger_max"),
        ("[limits]\npayload = \"4MiB\"\nmailbox=\"16MiB\"", "can't hold the largest message"),
        ("[limits]\nlink_window = \"1MiB\"", "can't hold the largest message"),
        ("[limits]\nmailbox = \"1MiB\"", "can't hold the largest message"),
        ("[cluster]\nexpect = 300", "must be at most limits.members"),
        ("[cluster]\nforget_after = \"1s\"", "at least ten times"),
        ("[node]\ndata_dir = \"/dev/null\"", "is no directory"),
        ("[node]\ndata_dir = \"/nonexistent/deep\"", "mkdir -p /nonexistent/deep"),
        ("[cluster]\nsecret_file = \"/nonexistent\"", "no such file"),
        (
            "[listen]\ngrpc = \"0.0.0.0:0\"\n[security]\nallow_plaintext = true\nallow_anonymous = true",
            "names neither address nor port",
        ),
        ("[limits\n", "waxwing.toml:1: "),
        ("[limits]\nidle = \"5s\"\nidle = \"6s\"", "waxwing.toml:3: "),
    ] {
        let said = Said::file(text);
        one_fault(&said, says);
        assert!(!said.faults()[0].contains('\u{1b}'), "{text}: echoes raw bytes");
    }
    one_fault(&Said::file("a = 1"), "stands outside any section");
    one_fault(&Said::default().flag("name", ""), "must be 1 to 64 characters");
    let missing = Sources { file: Some(PathBuf::from("/nonexistent.toml")), ..Sources::default() };
    one_fault(
        &Said { dir: None, sources: missing },
        "/nonexistent.toml: can't be read: no such file",
    );
}

#[test]
fn variables_that_are_no_settings() {
    for (name, fine) in [
        ("WAXWING_NODE", true),
        ("WAXWING_KEY", true),
        ("WAXWING_THREADS", true),
        ("WAXWING_SERVICE_HOST", true),
        ("WAXWING_PORT_7400_TCP_ADDR", true),
        ("WAXWING_GRPC_SERVICE_PORT_CLIENTS", true),
        ("WAXWING_NODE_NAEM", false),
        ("WAXWING_REDIS_ON_GAP", false),
        ("WAXWING_", false),
    ] {
        assert_eq!(Said::default().env(name, "tcp://1.2.3.4:5").load().is_ok(), fine, "{name}");
    }
    one_fault(&Said::default().env("WAXWING_NODE_NAEM", "a"), "did you mean WAXWING_NODE_NAME?");
}

#[test]
fn sizes_and_durations_read_back_as_they_are_shown() {
    for (text, bytes) in [
        ("8MiB", 8 << 20),
        ("8mib", 8 << 20),
        ("8 MiB", 8 << 20),
        ("1_000", 1000),
        ("3KB", 3000),
        ("1GiB", 1 << 30),
        ("17B", 17),
    ] {
        let read = Value::Text(text.to_owned()).size(1..=u64::MAX);
        assert_eq!(read, Ok(bytes), "{text}");
        assert_eq!(Value::Text(show_size(bytes)).size(1..=u64::MAX), Ok(bytes));
    }
    for ms in [0, 1, 500, 1_000, 90_000, 600_000, 90_061_001] {
        let duration = Duration::from_millis(ms);
        assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parsers_panic(text in "\\PC*", number in proptest::num::i128::ANY) {
        for value in [Value::Loose(text.clone()), Value::Text(text.clone()), Value::Integer(Some(number))] {
            let _ = (value.size(1..=9), value.count(1..=9), value.list(), value.boolean());
            let _ = value.duration(Duration::ZERO..=Duration::MAX);
            let _ = value.size_and_age(1..=9, Duration::ZERO..=Duration::MAX);
        }
        let _ = super::document::parse(&text);
        let _ = super::secrets::parse(&text);
        let _ = (super::address::listen(&text), super::address::dial(&text));
        let _ = super::level::parse_level(&text);
    }
}

fn secret_file(dir: &Path, text: &str, mode: u32) -> PathBuf {
    let path = dir.join(format!("keys-{mode:o}-{}", text.len()));
    std::fs::write(&path, text).expect("write");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    path
}

#[test]
fn secrets_come_from_a_private_file_or_the_environment() {
    let dir = tempfile::tempdir().expect("a directory");
    let canary = "canary-canary-canary";
    let two = format!("# ours\n\n{canary}\n  another-secret-of-ours  \n");
    for mode in [0o600, 0o400] {
        let path = secret_file(dir.path(), &two, mode);
        let config = Said::default().flag("secret-file", path.to_str().expect("text")).config();
        assert_eq!(config.cluster.secrets[0].expose(), canary.as_bytes());
        assert_eq!(config.cluster.secrets[1].expose(), b"another-secret-of-ours");
        assert!(!format!("{config:?}").contains(canary), "a secret is shown");
    }
    for (text, mode, says) in [
        (two.as_str(), 0o640, "chmod 600"),
        (two.as_str(), 0o604, "mode 0604"),
        ("canary-short", 0o600, "has 12 characters; it must have at least 16"),
        ("# nothing\n", 0o600, "holds no secret"),
        ("canary-canary-\u{7}-canary", 0o600, "control character"),
    ] {
        let path = secret_file(dir.path(), text, mode);
        let said = Said::default().flag("secret-file", path.to_str().expect("text"));
        one_fault(&said, says);
        assert!(!said.faults()[0].contains("canary"), "a secret is shown");
    }
    one_fault(&Said::default().flag("secret-file", "/"), "is no file");

    let by_env = Said::default().env("WAXWING_CLUSTER_SECRET", canary);
    assert_eq!(by_env.config().cluster.secrets[0].expose(), canary.as_bytes());
    assert!(!format!("{:?}", by_env.config()).contains(canary), "a secret is shown");
    one_fault(&Said::default().env("WAXWING_CLUSTER_SECRET", "short"), "at least 16");
    let path = secret_file(dir.path(), &two, 0o600);
    one_fault(&by_env.flag("secret-file", path.to_str().expect("text")), "keep one of the two");
}

#[test]
fn protected_mode_names_all_that_is_missing() {
    let open = || {
        Said::default()
            .flag("listen-grpc", "0.0.0.0:7400")
            .flag("listen-peer", "[::]:7401")
            .flag("listen-http", "192.0.2.7:7402")
    };
    let count =
        |said: &Said, says: &str| said.faults().iter().filter(|fault| fault.contains(says)).count();
    assert_eq!(count(&open(), "neither keys nor TLS"), 2);
    assert_eq!(count(&open(), "without a cluster secret"), 1);
    assert_eq!(count(&open(), "without TLS between nodes"), 1);
    assert_eq!(count(&open(), "waxwing certs node NAME"), 3);
    assert_eq!(count(&open().flag("allow-plaintext", "true"), "no keys: "), 2);
    assert_eq!(count(&open().flag("allow-anonymous", "true"), "no TLS: "), 2);
    one_fault(&open().insecure(), "which --insecure does not waive");
    let secret = "a secret of sixteen and more";
    let halves = open()
        .flag("allow-plaintext", "true")
        .flag("allow-anonymous", "true")
        .env("WAXWING_CLUSTER_SECRET", secret);
    assert!(halves.load().is_ok());
    let config = open().insecure().env("WAXWING_CLUSTER_SECRET", secret).config();
    assert_eq!(config.advertise.grpc.as_deref(), Some("10.0.0.9:7400"));
    assert_eq!(config.advertise.peer.as_deref(), Some("10.0.0.9:7401"));
    assert_eq!(config.advertise.http, None);

    let mut without_address = host();
    without_address.address = None;
    let said = open().insecure().env("WAXWING_CLUSTER_SECRET", secret);
    let faults = load(said.sources, &without_address).expect_err("nothing to tell").to_string();
    assert!(faults.contains("set advertise.peer to HOST:7401"), "{faults}");

    let loopback = ["127.0.0.5:7400", "[::1]:7400", "[::ffff:127.0.0.1]:7400", "localhost:7400"];
    for address in loopback {
        assert!(Said::default().flag("listen-grpc", address).load().is_ok(), "{address}");
    }
}

#[test]
fn a_reload_takes_limits_level_and_secrets_and_says_what_waits() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("waxwing.toml");
    let keys = secret_file(dir.path(), "the first secret of ours", 0o600);
    let write = |limits: &str, level: &str, port: u16| {
        let mut text = format!("[limits]\n{limits}\n[log]\nlevel = {level:?}\n");
        let _ = write!(
            text,
            "[listen]\ngrpc = \"127.0.0.1:{port}\"\n[cluster]\nsecret_file = {keys:?}\n"
        );
        std::fs::write(&file, text).expect("write");
    };
    write("payload = \"1MiB\"", "info", 7400);
    let sources = Sources { file: Some(file.clone()), ..Sources::default() };
    let config = Config::load(sources).expect("lawful").config;

    write("payload = \"512KiB\"", "debug", 7500);
    std::fs::write(&keys, "the second secret of ours\nthe first secret of ours").expect("write");
    let new = config.reload().expect("lawful");
    assert_eq!((new.limits.payload, new.log_level.as_str()), (512 << 10, "debug"));
    assert_eq!(new.secrets.len(), 2);
    assert_eq!(new.waiting, ["listen.grpc"]);

    write("payload = 0\nidle = 1", "loud", 7500);
    assert_eq!(config.reload().expect_err("three faults").iter().count(), 3);
}

#[test]
fn an_access_file_that_lets_nobody_in_is_not_taken_by_a_reload() {
    let dir = tempfile::tempdir().expect("a directory");
    let hash = crate::rights::key::KeyHash::of(b"one");
    let text = format!("# who\n[[key]]\nid = \"a\"\nhash = \"{hash}\"\nsubscribe = [\"*\"]\n");
    let file = secret_file(dir.path(), &text, 0o600);
    let said = [("WAXWING_SECURITY_ACCESS_FILE".to_owned(), file.clone().into_os_string())];
    let sources = Sources { env: said.to_vec(), ..Sources::default() };
    let config = Config::load(sources.clone()).expect("lawful").config;
    assert!(config.reload().expect("lawful").access.is_some());
    std::fs::write(&file, "# who\n").expect("write");
    let faults = config.reload().expect_err("nobody is let in");
    assert!(faults.iter().all(|fault| fault.to_string().contains("waxwing key create")));
    assert!(Config::load(sources).is_ok(), "a start may begin so");
}

#[test]
fn a_dial_override_is_a_name_and_an_address() {
    let dial = |text: &str| {
        let sources = Sources { dial: vec![text.to_owned()], ..Sources::default() };
        load(sources, &host()).map(|loaded| loaded.config.cluster.dial)
    };
    let b = NodeName::parse("b").expect("lawful");
    let address = "127.0.0.1:9".parse().expect("an address");
    assert_eq!(dial("b=127.0.0.1:9").expect("lawful"), [(b, address)]);
    for wrong in ["b", "b=", "=127.0.0.1:9", "b=localhost:9", "b c=127.0.0.1:9"] {
        assert!(dial(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_table_of_limits_shows_every_limit() {
    let table = keys::limits_markdown(&Config::defaults(host().name));
    for key in KEYS.iter().filter(|key| key.section == "limits") {
        assert!(table.contains(&format!("| `{}` |", key.name)), "{}", key.path());
    }
}

#[test]
fn readme_shows_the_table_of_limits() {
    let table = keys::limits_markdown(&Config::defaults(host().name));
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&table), "README's table of limits should be:\n{table}");
}
