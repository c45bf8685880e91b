//! ● What can be asked: names, numbers of arguments, and what is said of everything else.

use super::frame::Command;

/// What this front does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Asking,
    Auth,
    Client,
    Cluster,
    Command,
    Config,
    Debug,
    Echo,
    Flush,
    Function,
    Hello,
    Info,
    Ping,
    Psubscribe,
    Publish,
    Pubsub,
    Punsubscribe,
    Quit,
    Readonly,
    Readwrite,
    Reset,
    Select,
    Spublish,
    Ssubscribe,
    Subscribe,
    Sunsubscribe,
    Time,
    Unsubscribe,
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) verb: Verb,
    /// As Redis counts: with the name; negative: at least so many.
    pub(super) arity: i8,
    pub(super) flags: &'static [&'static str],
    pub(super) group: &'static str,
    pub(super) since: &'static str,
    pub(super) summary: &'static str,
    /// Its second word says what is wanted.
    pub(super) subcommands: &'static [Subcommand],
}

#[derive(Debug)]
pub(super) struct Subcommand {
    pub(super) name: &'static str,
    /// With both words.
    pub(super) arity: i8,
}

const fn sub(name: &'static str, arity: i8) -> Subcommand {
    Subcommand { name, arity }
}

const CONNECTION: &[&str] = &["noscript", "loading", "stale", "fast"];
const PUBSUB: &[&str] = &["pubsub", "noscript", "loading", "stale"];
const PUBLISHING: &[&str] = &["pubsub", "loading", "stale", "fast"];
const FACTS: &[&str] = &["loading", "stale"];

const fn row(
    name: &'static str,
    verb: Verb,
    arity: i8,
    flags: &'static [&'static str],
    group: &'static str,
    since: &'static str,
    summary: &'static str,
) -> Spec {
    Spec { name, verb, arity, flags, group, since, summary, subcommands: &[] }
}

impl Spec {
    const fn with(self, subcommands: &'static [Subcommand]) -> Self {
        Self { subcommands, ..self }
    }
}

const CLIENT: &[Subcommand] = &[
    sub("getname", 2),
    sub("help", 2),
    sub("id", 2),
    sub("info", 2),
    sub("kill", -3),
    sub("list", -2),
    sub("no-evict", 3),
    sub("no-touch", 3),
    sub("reply", 3),
    sub("setinfo", 4),
    sub("setname", 3),
];
const CLUSTER: &[Subcommand] = &[
    sub("help", 2),
    sub("info", 2),
    sub("keyslot", 3),
    sub("myid", 2),
    sub("nodes", 2),
    sub("shards", 2),
    sub("slots", 2),
];
const COMMAND: &[Subcommand] =
    &[sub("count", 2), sub("docs", -2), sub("help", 2), sub("info", -2), sub("list", -2)];
const CONFIG: &[Subcommand] = &[sub("get", -3), sub("help", 2)];
/// What test suites say before they begin.
const DEBUG: &[Subcommand] = &[sub("help", 2), sub("log", 3)];
const FUNCTION: &[Subcommand] = &[sub("flush", -2)];
const PUBSUB_SUBCOMMANDS: &[Subcommand] = &[
    sub("channels", -2),
    sub("help", 2),
    sub("numpat", 2),
    sub("numsub", -2),
    sub("shardchannels", -2),
    sub("shardnumsub", -2),
];

/// In order of name.
pub(super) static COMMANDS: &[Spec] = {
    use Verb as V;
    const C: &str = "connection";
    const P: &str = "pubsub";
    const S: &str = "server";
    const K: &str = "cluster";
    &[
        row("asking", V::Asking, 1, &["fast"], K, "3.0.0", "Changes nothing: no slot ever moves."),
        row("auth", V::Auth, -2, CONNECTION, C, "1.0.0", "Gives the password."),
        row("client", V::Client, -2, CONNECTION, C, "2.4.0", "Names, lists and ends connections.")
            .with(CLIENT),
        row("cluster", V::Cluster, -2, FACTS, K, "3.0.0", "This node as the owner of every slot.")
            .with(CLUSTER),
        row("command", V::Command, -1, FACTS, S, "2.8.13", "Tells which commands there are.")
            .with(COMMAND),
        row("config", V::Config, -2, FACTS, S, "2.0.0", "Settings that clients look for.")
            .with(CONFIG),
        row("debug", V::Debug, -2, FACTS, S, "1.0.0", "Writes a line to the node's log.")
            .with(DEBUG),
        row("echo", V::Echo, 2, CONNECTION, C, "1.0.0", "Answers with its argument."),
        row("flushall", V::Flush, -1, FACTS, S, "1.0.0", "Changes nothing: nothing is stored."),
        row("flushdb", V::Flush, -1, FACTS, S, "1.0.0", "Changes nothing: nothing is stored."),
        row("function", V::Function, -2, FACTS, S, "7.0.0", "FLUSH alone: there are none.")
            .with(FUNCTION),
        row("hello", V::Hello, -1, CONNECTION, C, "6.0.0", "Chooses RESP2 or RESP3."),
        row("info", V::Info, -1, FACTS, S, "1.0.0", "Tells how this node is."),
        row("ping", V::Ping, -1, CONNECTION, C, "1.0.0", "Answers."),
        row("psubscribe", V::Psubscribe, -2, PUBSUB, P, "2.0.0", "Subscribes to patterns."),
        row(
            "publish",
            V::Publish,
            3,
            PUBLISHING,
            P,
            "2.0.0",
            "Publishes to a channel, in the whole cluster.",
        ),
        row(
            "pubsub",
            V::Pubsub,
            -2,
            PUBSUB,
            P,
            "2.8.0",
            "Channels and counts, of the whole cluster.",
        )
        .with(PUBSUB_SUBCOMMANDS),
        row(
            "punsubscribe",
            V::Punsubscribe,
            -1,
            PUBSUB,
            P,
            "2.0.0",
            "Ends subscriptions to patterns.",
        ),
        row("quit", V::Quit, -1, CONNECTION, C, "1.0.0", "Ends the connection."),
        row(
            "readonly",
            V::Readonly,
            1,
            &["fast"],
            K,
            "3.0.0",
            "Changes nothing: nothing is stored.",
        ),
        row(
            "readwrite",
            V::Readwrite,
            1,
            &["fast"],
            K,
            "3.0.0",
            "Changes nothing: nothing is stored.",
        ),
        row("reset", V::Reset, 1, CONNECTION, C, "6.2.0", "Makes the connection as new."),
        row(
            "select",
            V::Select,
            2,
            CONNECTION,
            C,
            "1.0.0",
            "Changes nothing: channels know no databases.",
        ),
        row(
            "spublish",
            V::Spublish,
            3,
            PUBLISHING,
            P,
            "7.0.0",
            "Publishes to a sharded channel, in the whole cluster.",
        ),
        row("ssubscribe", V::Ssubscribe, -2, PUBSUB, P, "7.0.0", "Subscribes to sharded channels."),
        row("subscribe", V::Subscribe, -2, PUBSUB, P, "2.0.0", "Subscribes to channels."),
        row(
            "sunsubscribe",
            V::Sunsubscribe,
            -1,
            PUBSUB,
            P,
            "7.0.0",
            "Ends subscriptions to sharded channels.",
        ),
        row("time", V::Time, 1, FACTS, S, "2.6.0", "Tells this node's clock."),
        row(
            "unsubscribe",
            V::Unsubscribe,
            -1,
            PUBSUB,
            P,
            "2.0.0",
            "Ends subscriptions to channels.",
        ),
    ]
};

/// Who stores, runs scripts or makes transactions is led elsewhere. In order of name.
static DATA: &[&str] = &[
    "append",
    "bitcount",
    "bitfield",
    "bitfield_ro",
    "bitop",
    "bitpos",
    "blmove",
    "blmpop",
    "blpop",
    "brpop",
    "brpoplpush",
    "bzmpop",
    "bzpopmax",
    "bzpopmin",
    "copy",
    "dbsize",
    "decr",
    "decrby",
    "del",
    "dump",
    "exists",
    "expire",
    "expireat",
    "expiretime",
    "geoadd",
    "geodist",
    "geohash",
    "geopos",
    "georadius",
    "georadius_ro",
    "georadiusbymember",
    "georadiusbymember_ro",
    "geosearch",
    "geosearchstore",
    "get",
    "getbit",
    "getdel",
    "getex",
    "getrange",
    "getset",
    "hdel",
    "hexists",
    "hexpire",
    "hget",
    "hgetall",
    "hincrby",
    "hincrbyfloat",
    "hkeys",
    "hlen",
    "hmget",
    "hmset",
    "hpersist",
    "hrandfield",
    "hscan",
    "hset",
    "hsetnx",
    "hstrlen",
    "httl",
    "hvals",
    "incr",
    "incrby",
    "incrbyfloat",
    "keys",
    "lcs",
    "lindex",
    "linsert",
    "llen",
    "lmove",
    "lmpop",
    "lpop",
    "lpos",
    "lpush",
    "lpushx",
    "lrange",
    "lrem",
    "lset",
    "ltrim",
    "mget",
    "migrate",
    "move",
    "mset",
    "msetnx",
    "object",
    "persist",
    "pexpire",
    "pexpireat",
    "pexpiretime",
    "pfadd",
    "pfcount",
    "pfmerge",
    "psetex",
    "pttl",
    "randomkey",
    "rename",
    "renamenx",
    "restore",
    "rpop",
    "rpoplpush",
    "rpush",
    "rpushx",
    "sadd",
    "scan",
    "scard",
    "sdiff",
    "sdiffstore",
    "set",
    "setbit",
    "setex",
    "setnx",
    "setrange",
    "sinter",
    "sintercard",
    "sinterstore",
    "sismember",
    "smembers",
    "smismember",
    "smove",
    "sort",
    "sort_ro",
    "spop",
    "srandmember",
    "srem",
    "sscan",
    "strlen",
    "substr",
    "sunion",
    "sunionstore",
    "swapdb",
    "touch",
    "ttl",
    "type",
    "unlink",
    "xack",
    "xadd",
    "xautoclaim",
    "xclaim",
    "xdel",
    "xgroup",
    "xinfo",
    "xlen",
    "xpending",
    "xrange",
    "xread",
    "xreadgroup",
    "xrevrange",
    "xtrim",
    "zadd",
    "zcard",
    "zcount",
    "zdiff",
    "zdiffstore",
    "zincrby",
    "zinter",
    "zintercard",
    "zinterstore",
    "zlexcount",
    "zmpop",
    "zmscore",
    "zpopmax",
    "zpopmin",
    "zrandmember",
    "zrange",
    "zrangebylex",
    "zrangebyscore",
    "zrangestore",
    "zrank",
    "zrem",
    "zremrangebylex",
    "zremrangebyrank",
    "zremrangebyscore",
    "zrevrange",
    "zrevrangebylex",
    "zrevrangebyscore",
    "zrevrank",
    "zscan",
    "zscore",
    "zunion",
    "zunionstore",
];
static SCRIPTS: &[&str] =
    &["eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro", "script"];
static TRANSACTIONS: &[&str] = &["discard", "exec", "multi", "unwatch", "watch"];

const ADVICE: &str = "Waxwing is pub/sub and presence. Point only your pub/sub URL here";

/// What a command's name means.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meaning {
    Known(&'static Spec),
    /// Redis has it; this front refuses it, with what it is called.
    Elsewhere {
        name: &'static str,
        what: &'static str,
    },
    Unknown,
}

/// Longer than any name there is.
const NAME_LEN_MAX: usize = 24;

/// In small letters, if it may be one of ours.
pub(super) fn lowered<'b>(name: &[u8], buffer: &'b mut [u8; NAME_LEN_MAX]) -> Option<&'b str> {
    let lowered = buffer.get_mut(..name.len())?;
    lowered.copy_from_slice(name);
    lowered.make_ascii_lowercase();
    std::str::from_utf8(lowered).ok()
}

pub(super) fn meaning(name: &[u8]) -> Meaning {
    let mut buffer = [0; NAME_LEN_MAX];
    let Some(name) = lowered(name, &mut buffer) else { return Meaning::Unknown };
    if let Ok(at) = COMMANDS.binary_search_by(|spec| spec.name.cmp(name)) {
        return Meaning::Known(&COMMANDS[at]);
    }
    for (list, what) in [
        (DATA, "a data command"),
        (SCRIPTS, "a scripting command"),
        (TRANSACTIONS, "a transaction command"),
    ] {
        if let Ok(at) = list.binary_search(&name) {
            return Meaning::Elsewhere { name: list[at], what };
        }
    }
    Meaning::Unknown
}

pub(super) fn elsewhere(name: &str, what: &str) -> String {
    format!("ERR '{name}' is {what}; {ADVICE}")
}

impl Spec {
    pub(super) fn takes(&self, command: Command<'_>) -> bool {
        takes(self.arity, command)
    }

    /// The subcommand that the second word names.
    pub(super) fn subcommand(&self, command: Command<'_>) -> Option<&'static Subcommand> {
        let mut buffer = [0; NAME_LEN_MAX];
        let name = lowered(command.get(1), &mut buffer)?;
        self.subcommands.iter().find(|one| one.name == name)
    }
}

impl Subcommand {
    pub(super) fn takes(&self, command: Command<'_>) -> bool {
        takes(self.arity, command)
    }
}

fn takes(arity: i8, command: Command<'_>) -> bool {
    let len = command.len();
    let wanted = usize::from(arity.unsigned_abs());
    if arity < 0 { len >= wanted } else { len == wanted }
}

/// Somebody's words are shown no longer than this, as in Redis.
const SHOWN_LEN_MAX: usize = 128;

pub(super) fn unknown(command: Command<'_>) -> String {
    let mut shown = String::new();
    for argument in command.from(1) {
        if shown.len() >= SHOWN_LEN_MAX {
            break;
        }
        shown.push_str(&format!("'{}' ", cut(argument, SHOWN_LEN_MAX - shown.len())));
    }
    let name = cut(command.get(0), SHOWN_LEN_MAX);
    format!("ERR unknown command '{name}', with args beginning with: {shown}")
}

pub(super) fn unknown_subcommand(spec: &Spec, command: Command<'_>) -> String {
    if spec.verb == Verb::Function {
        return elsewhere(spec.name, "a scripting command");
    }
    let container = spec.name.to_ascii_uppercase();
    format!(
        "ERR unknown subcommand '{}'. Try {container} HELP.",
        cut(command.get(1), SHOWN_LEN_MAX)
    )
}

/// As Redis says it of optional arguments, which its table doesn't count.
pub(super) fn wrong_subcommand(container: &str, command: Command<'_>) -> String {
    let word = cut(command.get(1), SHOWN_LEN_MAX);
    format!(
        "ERR unknown subcommand or wrong number of arguments for '{word}'. Try {container} HELP."
    )
}

pub(super) fn wrong_number(full_name: &str) -> String {
    format!("ERR wrong number of arguments for '{full_name}' command")
}

fn cut(bytes: &[u8], most: usize) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(most)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_in_order_and_names_fit() {
        let names: Vec<&str> = COMMANDS.iter().map(|spec| spec.name).collect();
        for list in [&names[..], DATA, SCRIPTS, TRANSACTIONS] {
            assert!(list.is_sorted(), "{list:?}");
            assert!(list.iter().all(|name| name.len() <= NAME_LEN_MAX));
        }
        for spec in COMMANDS {
            assert!(spec.subcommands.is_sorted_by_key(|one| one.name), "{}", spec.name);
        }
    }

    #[test]
    fn a_data_command_is_told_where_it_is() {
        let Meaning::Elsewhere { name, what } = meaning(b"BRPOP") else { panic!("unknown") };
        assert_eq!(
            elsewhere(name, what),
            "ERR 'brpop' is a data command; Waxwing is pub/sub and presence. Point only your pub/sub URL here"
        );
        assert!(matches!(meaning(b"Multi"), Meaning::Elsewhere { name: "multi", .. }));
        assert!(matches!(meaning(b"SentineL"), Meaning::Unknown));
        assert!(matches!(meaning(b"publisH"), Meaning::Known(spec) if spec.verb == Verb::Publish));
        assert!(matches!(meaning(&[b'a'; 100]), Meaning::Unknown));
    }
}
