//! What the arguments mean, and how tables look.

use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};

use super::output::{Mark, Table, age, bytes, harmless, thousands};
use super::{Cli, Command};
use crate::config::keys::KEYS;
use crate::status::{MemberStatus, StatusReport};

fn parsed(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("waxwing").chain(line.split_whitespace()))
}

#[test]
fn the_commands_hold_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_key_is_a_flag_of_start() {
    let cli = Cli::command();
    let start = cli.find_subcommand("start").expect("start");
    for key in KEYS {
        let arg = start.get_arguments().find(|arg| arg.get_long() == Some(&key.flag()));
        let arg = arg.unwrap_or_else(|| panic!("--{}", key.flag()));
        let help = arg.get_help().expect("a help text").to_string();
        assert!(help.contains(&key.env()), "--{} does not name its variable", key.flag());
    }
}

#[test]
fn every_command_says_what_it_does() {
    fn walk(command: &clap::Command) {
        for sub in command.get_subcommands() {
            assert!(sub.get_about().is_some(), "{} says nothing of itself", sub.get_name());
            for arg in sub.get_arguments().filter(|arg| arg.get_long().is_some()) {
                assert!(arg.get_help().is_some(), "{} {:?}", sub.get_name(), arg.get_long());
            }
            walk(sub);
        }
    }
    walk(&Cli::command());
}

#[test]
fn usage() {
    for (line, lawful) in [
        ("members", true),
        ("members -w -o json --timeout 500ms", true),
        ("-o json members", true),
        ("members --node a,b:1,[::1],[::1]:9,http://c:7400/", true),
        ("members --node a:b", false),
        ("members --node ::1", false),
        ("members --timeout 0s", false),
        ("members --timeout 5", false),
        ("members --timeout -5s", false),
        ("members -n team-a", true),
        ("members -n team/a", false),
        ("members -o yaml", false),
        ("members --color sometimes", false),
        ("drain b --grace 1m --wait", true),
        ("drain --self", true),
        ("drain", true),
        ("drain b --self", false),
        ("leave b", true),
        ("leave", true),
        ("leave b --self", false),
        ("join 10.0.0.5:7401 b:1", true),
        ("join", false),
        ("join b", false),
        ("wait --members 3 --converged --ready", true),
        ("wait", false),
        ("log-level debug --for 5m", true),
        ("log-level inof", false),
        ("topics list room: --limit 5", true),
        ("topics list --limit 0", false),
        ("topics info room:1", true),
        ("sessions list --slow --front grpc", true),
        ("sessions kill", false),
        ("lease acquire nightly --ttl 1m --wait 30s --note x --owner-file f", true),
        ("lease acquire nightly --ttl 999ms", false),
        ("lease acquire nightly --ttl 25h", false),
        ("lease acquire", false),
        ("lease renew", true),
        ("lease release nightly --owner-file f", true),
        ("lease list tenant:", true),
        ("lease watch nightly --prefix n", false),
        ("lease watch --prefix n -o json", true),
        ("lease run nightly --ttl 5s --no-wait -E 0 -- echo --ttl x", true),
        ("lease run nightly --no-wait --wait 1s -- true", false),
        ("lease run nightly", false),
        ("completions fish", true),
        (
            "namespace create acme --sessions 5 --publish-rate 5/s --payload 64KiB --patterns false",
            true,
        ),
        ("namespace create acme-* --presences none --publish-bytes unlimited", true),
        ("namespace create a/b", false),
        ("namespace create acme --sessions -1", false),
        ("namespace update acme --publish-rate 5MiB/s", false),
        ("namespace delete acme --contents --yes", true),
        ("namespace list", true),
        ("namespace", false),
        ("key create --publish a b --file f", true),
        ("key list", true),
        ("key revoke k7m2qd9xwp", true),
        ("key remove k7m2qd9xwp --file f", true),
        ("key revoke", false),
        ("control status", true),
        ("control init --from-copy --yes", true),
        ("control backup f", true),
        ("control restore", false),
        ("control audit --limit 0", false),
        ("check-config waxwing.toml --insecure", true),
        ("check-config a b", false),
        ("config show --name a", true),
        ("config default", true),
        ("config", false),
        ("start --join a:1 b:2 --join c:3 --expect 3 --allow-plaintext --dial b=127.0.0.1:1", true),
        ("start --threads 0", false),
        ("start --limits-payload 1MiB --log-format json", true),
        ("nonsense", false),
        ("", false),
    ] {
        assert_eq!(parsed(line).is_ok(), lawful, "waxwing {line}");
    }
}

#[test]
fn addresses_of_nodes() {
    let cli = parsed("members --node a,b:1,[::1]").expect("lawful");
    assert_eq!(cli.globals.node, ["a:7400", "b:1", "[::1]:7400"]);
}

#[test]
fn flags_of_start_become_sources() {
    let cli = parsed("start --join a:1 b:2 --join c:3 --allow-anonymous --allow-plaintext=false");
    let Command::Start(args) = cli.expect("lawful").command else { panic!("not start") };
    let debug = format!("{args:?}");
    assert!(
        debug.contains("a:1,b:2,c:3") && debug.contains("\"true\"") && debug.contains("\"false\""),
        "{debug}"
    );
}

#[test]
fn the_table_of_members() {
    let mut report = StatusReport::default();
    let mut a = MemberStatus {
        name: "a".into(),
        state: "ready".into(),
        me: true,
        up_s: 252.0,
        ..Default::default()
    };
    a.version = "0.1.0".into();
    a.addresses.grpc = "127.0.0.1:7400".into();
    (a.sessions, a.presences) = (120, 1204);
    let mut b = a.clone();
    (b.name, b.state, b.me, b.presences) = ("b".into(), "down".into(), false, 311);
    b.addresses.grpc = "127.0.0.1:7410".into();
    (b.link.out, b.link.inward) = ("down".into(), "down".into());
    b.problems = vec!["silent 3 s".into()];
    report.members = vec![a, b];
    let drawn = anstream::adapter::strip_str(&super::members::draw(&report)).to_string();
    let wanted = "\
NAME  STATE  ADDRESS         VERSION  UP     SESSIONS  PRESENCES  LINK  RTT  PROBLEMS
a *   ready  127.0.0.1:7400  0.1.0    4m12s       120      1,204  -     -    -
b     down   127.0.0.1:7410  0.1.0    -             -        311  down  -    silent 3 s";
    assert_eq!(drawn, wanted);
}

#[test]
fn nothing_of_others_steers_the_terminal() {
    assert_eq!(harmless("plain ü \n"), "plain ü \n");
    assert_eq!(harmless("a\u{1b}[31mb\rc\u{202e}"), "a\\u{1b}[31mb\\u{d}c\\u{202e}");
    let mut table = Table::new(&["NAME"]);
    table.row(["two\nlines\u{7}".to_owned()], Mark::Plain);
    let drawn = anstream::adapter::strip_str(&table.render()).to_string();
    assert_eq!(drawn, "NAME\ntwo\\u{a}lines\\u{7}");
}

#[test]
fn figures_for_people() {
    for (number, shown) in [(0, "0"), (999, "999"), (1_204, "1,204"), (1_000_000, "1,000,000")] {
        assert_eq!(thousands(number), shown);
    }
    for (seconds, shown) in
        [(0, "0s"), (59, "59s"), (252, "4m12s"), (3_660, "1h1m"), (90_000, "1d1h")]
    {
        assert_eq!(age(Duration::from_secs(seconds)), shown);
    }
    for (number, shown) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (8 << 20, "8.0 MiB")] {
        assert_eq!(bytes(number), shown);
    }
}
