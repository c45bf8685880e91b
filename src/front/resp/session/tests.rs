//! The session alone, with a node of a few lines around it: byte transcripts of what clients really send, counts, and modes.

use std::cell::Cell;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{Act, Around, Kind, Session};
use crate::broker::Pass;
use crate::front::resp::about::{Figures, NodeAbout, OfNode};
use crate::front::resp::frame::{Arguments, FrameLimits, Parsed};
use crate::front::resp::replies::{Reply, replies, wire};
use crate::types::Namespace;

#[derive(Default)]
struct Node {
    password: Option<&'static [u8]>,
    failures: Cell<usize>,
}

impl Around for Node {
    fn is_locked(&self) -> bool {
        self.password.is_some()
    }

    fn let_in(&self, user: &[u8], secret: &[u8]) -> Option<Pass> {
        if user == b"default" && self.password.is_none_or(|password| password == secret) {
            return Some(Pass::open(Namespace::default()));
        }
        self.failures.set(self.failures.get() + 1);
        None
    }

    fn unix_us(&self) -> u64 {
        1_763_000_000_123_456
    }

    fn log(&self, _: &str) {}

    fn node(&self) -> NodeAbout {
        NodeAbout { id: "0123456789".repeat(4), is_ready: true, ..NodeAbout::default() }
    }

    fn figures(&self) -> Figures {
        Figures { of_node: Some(OfNode::default()), ..Figures::default() }
    }

    fn endpoint(&self) -> (String, u16) {
        ("127.0.0.1".to_owned(), 7403)
    }
}

/// A session with a shell that subscribes at once.
struct Client {
    node: Node,
    session: Session,
    names: [BTreeSet<Vec<u8>>; 3],
    closed: bool,
}

impl Client {
    fn new() -> Self {
        Self::at(Node::default())
    }

    fn at(node: Node) -> Self {
        let session = Session::new(7, node.password.is_some());
        Self { node, session, names: Default::default(), closed: false }
    }

    /// What comes back for these bytes.
    fn send(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut arguments = Arguments::default();
        while !bytes.is_empty() && !self.closed {
            let Parsed::Command(len) = arguments.parse(bytes, &FrameLimits::new(1_000)).unwrap()
            else {
                panic!("half a command")
            };
            let command = arguments.command(bytes);
            let act = self.session.handle(command, &self.node, &mut out);
            let given = command.from(1).map(<[u8]>::to_vec).collect();
            self.act(act, given, &mut out);
            bytes = &bytes[len..];
        }
        out
    }

    fn act(&mut self, act: Act, given: Vec<Vec<u8>>, out: &mut Vec<u8>) {
        match act {
            Act::Subscribe(kind) => {
                for name in given {
                    let is_new = self.names[kind as usize].insert(name.clone());
                    self.session.subscribed(kind, &name, is_new, out);
                }
            }
            Act::Unsubscribe(kind) => {
                let names = &mut self.names[kind as usize];
                let ended = if given.is_empty() { names.iter().cloned().collect() } else { given };
                for name in &ended {
                    self.session.unsubscribed(kind, Some(name), names.remove(name), out);
                }
                if ended.is_empty() {
                    self.session.unsubscribed(kind, None, false, out);
                }
            }
            Act::Publish { .. } => self.session.say(out, |printer| printer.integer(0)),
            Act::Reset => {
                self.names = Default::default();
                self.session.is_reset(&self.node, out);
            }
            Act::Quit => self.closed = true,
            Act::Done | Act::Enter(_) => {}
            other => self.session.say(out, |printer| printer.text(&format!("{other:?}"))),
        }
    }

    fn ask(&mut self, words: &str) -> Vec<u8> {
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        self.send(&wire(&words))
    }

    fn is_told(&mut self, words: &str, expected: &str) {
        let told = self.ask(words);
        assert_eq!(String::from_utf8_lossy(&told), expected, "to {words:?}");
    }

    fn error(&mut self, words: &str) -> String {
        match &replies(&self.ask(words))[..] {
            [Reply::Error(error)] => error.clone(),
            other => panic!("{words:?} is told {other:?}"),
        }
    }
}

#[test]
fn redis_py_with_resp2() {
    let mut client = Client::new();
    client.is_told("CLIENT SETNAME me", "+OK\r\n");
    client.is_told("CLIENT SETINFO LIB-NAME redis-py", "+OK\r\n");
    client.is_told("CLIENT SETINFO LIB-VER 5.0.1", "+OK\r\n");
    client.is_told("SELECT 3", "+OK\r\n");
    client.is_told(
        "SUBSCRIBE a b",
        "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n",
    );
    client.is_told("PSUBSCRIBE p*", "*3\r\n$10\r\npsubscribe\r\n$2\r\np*\r\n:3\r\n");
    client.is_told(
        "PING redis-py-health-check",
        "*2\r\n$4\r\npong\r\n$21\r\nredis-py-health-check\r\n",
    );
    client.is_told("PING", "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    client.is_told("UNSUBSCRIBE a", "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:2\r\n");
    client.is_told("UNSUBSCRIBE", "*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:1\r\n");
    client.is_told("UNSUBSCRIBE", "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:1\r\n");
    client.is_told("PUNSUBSCRIBE", "*3\r\n$12\r\npunsubscribe\r\n$2\r\np*\r\n:0\r\n");
    client.is_told("PING", "+PONG\r\n");
    client.is_told("PUBLISH a hello", ":0\r\n");
}

#[test]
fn redis_py_with_resp3() {
    let mut client = Client::new();
    client.is_told(
        "HELLO 3",
        "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.0\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:7\r\n\
         $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
    );
    assert_eq!(
        client.error("CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type internal-ip"),
        "ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP."
    );
    client.is_told("SUBSCRIBE a", ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    client.is_told("PING", "+PONG\r\n");
    client.is_told("PUBLISH a x", ":0\r\n");
    client.is_told("UNSUBSCRIBE", ">3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n");
    client.is_told("UNSUBSCRIBE", ">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n");
    client.is_told("CLIENT GETNAME", "_\r\n");
}

#[test]
fn node_redis_and_ioredis() {
    let mut client = Client::new();
    client.is_told("client setname io", "+OK\r\n");
    let told = client.ask("info");
    let [Reply::Bulk(info)] = &replies(&told)[..] else { panic!("no text") };
    let info = String::from_utf8_lossy(info);
    for line in ["redis_version:7.2.0", "loading:0", "redis_mode:standalone", "role:master"] {
        assert!(info.lines().any(|one| one == line), "{line} in {info}");
    }
    client.is_told(
        "subscribe a b",
        "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n",
    );
    client.is_told("ssubscribe s", "*3\r\n$10\r\nssubscribe\r\n$1\r\ns\r\n:1\r\n");
    client.is_told("psubscribe p", "*3\r\n$10\r\npsubscribe\r\n$1\r\np\r\n:3\r\n");
    client.is_told("sunsubscribe", "*3\r\n$12\r\nsunsubscribe\r\n$1\r\ns\r\n:0\r\n");
    client.is_told("quit", "+OK\r\n");
    assert!(client.closed);
}

#[test]
fn stack_exchange_redis() {
    let mut client = Client::new();
    client.is_told("CLIENT ID", ":7\r\n");
    client.is_told("CONFIG GET timeout", "*2\r\n$7\r\ntimeout\r\n$1\r\n0\r\n");
    client.is_told("CONFIG GET slave-read-only", "*2\r\n$15\r\nslave-read-only\r\n$3\r\nyes\r\n");
    client.is_told("CONFIG GET databases", "*2\r\n$9\r\ndatabases\r\n$2\r\n16\r\n");
    client.is_told("CONFIG GET nothing", "*0\r\n");
    client.is_told("ECHO 0123456789abcdef", "$16\r\n0123456789abcdef\r\n");
    client.is_told("TIME", "*2\r\n$10\r\n1763000000\r\n$6\r\n123456\r\n");
    assert!(
        client
            .error("SENTINEL MASTERS")
            .starts_with("ERR unknown command 'SENTINEL', with args beginning with: 'MASTERS' ")
    );
    assert!(client.error("GET __Booksleeve_TieBreak").contains("'get' is a data command"));
    assert!(client.error("MULTI").contains("'multi' is a transaction command"));
}

#[test]
fn cluster_clients_are_kept_here() {
    let id = "0123456789".repeat(4);
    let mut client = Client::new();
    client.is_told("READONLY", "+OK\r\n");
    client.is_told("CLUSTER MYID", &format!("$40\r\n{id}\r\n"));
    client.is_told("CLUSTER KEYSLOT foo", ":12182\r\n");
    client.is_told(
        "CLUSTER SLOTS",
        &format!(
            "*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n$9\r\n127.0.0.1\r\n:7403\r\n$40\r\n{id}\r\n*0\r\n"
        ),
    );
    let nodes = format!("{id} 127.0.0.1:7403@7403 myself,master - 0 0 1 connected 0-16383\n");
    client.is_told("CLUSTER NODES", &format!("${}\r\n{nodes}\r\n", nodes.len()));
    let told = client.ask("CLUSTER INFO");
    assert!(String::from_utf8_lossy(&told).contains("cluster_state:ok"));
    assert_eq!(replies(&client.ask("CLUSTER SHARDS")).len(), 1);
}

#[test]
fn mistakes_are_told_in_the_words_of_redis() {
    let mut client = Client::new();
    for (asked, told) in [
        ("publish a", "ERR wrong number of arguments for 'publish' command"),
        ("subscribe", "ERR wrong number of arguments for 'subscribe' command"),
        ("ping a b", "ERR wrong number of arguments for 'ping' command"),
        ("client", "ERR wrong number of arguments for 'client' command"),
        ("pubsub numpat x", "ERR wrong number of arguments for 'pubsub|numpat' command"),
        ("pubsub what", "ERR unknown subcommand 'what'. Try PUBSUB HELP."),
        ("select 16", "ERR DB index is out of range"),
        ("select x", "ERR value is not an integer or out of range"),
        ("hello 4", "NOPROTO unsupported protocol version"),
        ("hello x", "ERR Protocol version is not an integer or out of range"),
        ("hello 3 what", "ERR Syntax error in HELLO option 'what'"),
        ("client reply maybe", "ERR syntax error"),
        ("client setinfo what x", "ERR Unrecognized option 'what'"),
        ("client list type what", "ERR Unknown client type 'what'"),
        ("client kill id 0", "ERR client-id should be greater than 0"),
        (
            "auth secret",
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        ),
        ("auth somebody secret", "WRONGPASS invalid username-password pair or user is disabled."),
        ("foo", "ERR unknown command 'foo', with args beginning with: "),
    ] {
        assert_eq!(client.error(asked), told, "{asked}");
    }
    // Without a password any will do for the default user, as in Redis.
    client.is_told("auth default secret", "+OK\r\n");
    let told = client.send(&wire(&[b"a\r\n+OK\r\nb", b"\r\n:1"]));
    assert!(matches!(&replies(&told)[..], [Reply::Error(error)] if error.contains("a  +OK  b")));
    let told = client.send(&wire(&[b"client", b"setname", b"a b"]));
    assert!(
        matches!(&replies(&told)[..], [Reply::Error(error)] if error.contains("cannot contain spaces"))
    );
}

#[test]
fn subscribed_mode_refuses_what_redis_refuses() {
    let mut client = Client::new();
    client.ask("SUBSCRIBE a");
    for asked in ["GET a", "PUBLISH a b", "HELLO 3", "CLIENT ID", "SELECT 1", "AUTH x"] {
        let error = client.error(asked);
        assert!(error.starts_with("ERR Can't execute '"), "{asked}: {error}");
        assert!(error.ends_with(": only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"));
    }
    assert!(client.error("CLIENT ID").contains("'client|id'"));
    client.is_told("RESET", "+RESET\r\n");
    client.is_told("CLIENT ID", ":7\r\n");
    // A sharded channel alone makes the mode too.
    client.ask("SSUBSCRIBE a");
    assert!(client.error("ECHO a").starts_with("ERR Can't execute"));
    client.ask("SUNSUBSCRIBE a");
    client.is_told("ECHO a", "$1\r\na\r\n");
}

#[test]
fn replies_can_be_turned_off_and_acknowledgements_not() {
    let mut client = Client::new();
    client.is_told("CLIENT REPLY SKIP", "");
    client.is_told("PING", "");
    client.is_told("PING", "+PONG\r\n");
    client.is_told("CLIENT REPLY OFF", "");
    client.is_told("PING", "");
    client.is_told("FOO", "");
    client.is_told("CLIENT REPLY SKIP", "");
    client.is_told("PING", "");
    client.is_told("SUBSCRIBE a", "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    client.is_told("UNSUBSCRIBE", "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n");
    client.is_told("CLIENT REPLY ON", "+OK\r\n");
    client.is_told("PING", "+PONG\r\n");
}

#[test]
fn a_reset_is_an_answer_that_can_be_skipped_and_not_one_that_is_off() {
    for (before, answer) in [("SKIP", ""), ("OFF", "+RESET\r\n")] {
        let mut client = Client::new();
        client.is_told(&format!("CLIENT REPLY {before}"), "");
        client.is_told("RESET", answer);
        client.is_told("PING", "+PONG\r\n");
    }
}

#[test]
fn strangers_must_give_the_password() {
    let with_password = || Client::at(Node { password: Some(b"secret"), ..Node::default() });
    let mut client = with_password();
    for asked in ["PING", "SUBSCRIBE a", "PUBLISH a b", "GET a", "CLIENT ID"] {
        assert_eq!(client.error(asked), "NOAUTH Authentication required.", "{asked}");
    }
    assert!(client.error("HELLO 3").starts_with("NOAUTH HELLO must be called"));
    assert!(!client.session.may_publish());
    let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
    assert_eq!(client.error("AUTH wrong"), wrong);
    assert_eq!(client.error("AUTH other secret"), wrong);
    assert_eq!(client.error("HELLO 3 AUTH default wrong"), wrong);
    // Right, but nobody is let in by half.
    for rest in ["BOGUS", "SETNAME a\x01b"] {
        assert!(client.error(&format!("HELLO 3 AUTH default secret {rest}")).starts_with("ERR "));
        assert_eq!(client.error("CLIENT LIST"), "NOAUTH Authentication required.", "{rest}");
    }
    assert_eq!(client.node.failures.get(), 3);
    client.is_told("AUTH secret", "+OK\r\n");
    client.is_told("PING", "+PONG\r\n");
    client.is_told("RESET", "+RESET\r\n");
    assert_eq!(client.error("PING"), "NOAUTH Authentication required.");

    let mut client = with_password();
    let told = client.ask("HELLO 3 AUTH default secret SETNAME me");
    assert!(matches!(&replies(&told)[..], [Reply::Map(_)]));
    client.is_told("CLIENT GETNAME", "$2\r\nme\r\n");
}

#[test]
fn what_clients_ask_of_commands() {
    let mut client = Client::new();
    let [Reply::Integer(count)] = replies(&client.ask("COMMAND COUNT"))[..] else { panic!() };
    let told = replies(&client.ask("COMMAND"));
    let [Reply::Array(rows)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(rows.len() as i64, count);
    let told = replies(&client.ask("COMMAND INFO publish get"));
    let [Reply::Array(rows)] = &told[..] else { panic!("{told:?}") };
    assert!(matches!(&rows[..], [Reply::Array(row), Reply::Null] if row.len() == 10));
    client.ask("HELLO 3");
    let told = replies(&client.ask("COMMAND DOCS publish"));
    let [Reply::Map(docs)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(docs[0].0, Reply::Bulk(b"publish".to_vec()));
    for asked in ["COMMAND HELP", "CLIENT HELP", "PUBSUB HELP", "CONFIG HELP", "CLUSTER HELP"] {
        assert!(matches!(&replies(&client.ask(asked))[..], [Reply::Array(_)]), "{asked}");
    }
}

#[derive(Debug, Clone)]
enum Op {
    Subscribe(Kind, Vec<u8>),
    Unsubscribe(Kind, Vec<u8>),
}

fn op() -> impl Strategy<Value = Op> {
    let kind = || prop_oneof![Just(Kind::Channel), Just(Kind::Pattern), Just(Kind::Sharded)];
    let names = || prop::collection::vec(b'a'..b'e', 0..4);
    prop_oneof![
        (kind(), names()).prop_map(|(kind, names)| Op::Subscribe(kind, names)),
        (kind(), names()).prop_map(|(kind, names)| Op::Unsubscribe(kind, names)),
    ]
}

proptest! {
    #[test]
    fn counts_are_of_what_is_subscribed(ops in prop::collection::vec(op(), 0..40), three in any::<bool>()) {
        let mut client = Client::new();
        if three {
            client.ask("HELLO 3");
        }
        for op in ops {
            let (verb, kind, names) = match &op {
                Op::Subscribe(kind, names) => ("subscribe", *kind, names),
                Op::Unsubscribe(kind, names) => ("unsubscribe", *kind, names),
            };
            let letter = ["", "p", "s"][kind as usize];
            let word = format!("{letter}{verb}");
            let mut command: Vec<&[u8]> = vec![word.as_bytes()];
            command.extend(names.chunks(1));
            let told = replies(&client.send(&wire(&command)));
            if verb == "subscribe" && names.is_empty() {
                prop_assert!(matches!(&told[..], [Reply::Error(_)]));
                continue;
            }
            if !names.is_empty() {
                prop_assert_eq!(told.len(), names.len());
            }
            let [channels, patterns, sharded] = client.names.each_ref().map(|names| names.len() as i64);
            let count = if kind == Kind::Sharded { sharded } else { channels + patterns };
            let last = told.last().unwrap();
            let (Reply::Array(parts) | Reply::Push(parts)) = last else { panic!("{last:?}") };
            prop_assert_eq!(matches!(last, Reply::Push(_)), three);
            prop_assert_eq!(&parts[0], &Reply::Bulk(word.clone().into_bytes()));
            prop_assert_eq!(&parts[2], &Reply::Integer(count));
        }
    }

    #[test]
    fn every_command_has_one_reply(words in prop::collection::vec("[a-z0-9*]{0,8}|client|list|pubsub|numsub|hello|auth|3|kill|id|on|reset|info|command|docs", 1..6)) {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let mut client = Client::new();
        let told = replies(&client.send(&wire(&words)));
        let is_pubsub = words[0].ends_with(b"subscribe");
        let is_muted = words.len() > 2 && words[0] == b"client" && words[1] == b"reply";
        prop_assert!(told.len() == 1 || is_pubsub || is_muted, "{:?}", told);
    }
}
