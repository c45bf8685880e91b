"""What differential.py says to both servers. A step is a connection's name and the words of a command, or bytes as they are."""

REFUSED_WHILE_SUBSCRIBED = [
    ("GET", "k"), ("PUBLISH", "c", "x"), ("SPUBLISH", "c", "x"), ("ECHO", "x"), ("CLIENT", "ID"), ("CLIENT", "SETNAME", "x"), ("HELLO", "2x"),
    ("SELECT", "1"), ("PUBSUB", "NUMPAT"), ("TIME",), ("INFO",), ("COMMAND",), ("CONFIG", "GET", "timeout"), ("MULTI",), ("AUTH", "x"),
    ("CLIENT", "REPLY", "ON"), ("NOSUCH",), ("PUBSUB", "NOSUCH"), ("PUBLISH", "c"), ("CLUSTER", "INFO"), ("READONLY",),
]

# Each ends its connection on both sides.
BROKEN = [
    b"*99999999999\r\n", b"*1\r\n$-5\r\n", b"*1\r\n$9999999999\r\n", b"*1\r\n:5\r\n", b"*abc\r\n", b"*1\r\n$abc\r\n", b"*2\r\n$4\r\nPING\r\n*1\r\n",
    b"PING \"x\r\n", b"PING 'x\r\n", b"PING \"x\"y\r\n", b"*99999999999999999999999\r\n", b"*1\r\n$99999999999999999999999\r\n", b"*1\r\n\r\n", b"x" * 70000,
    b"*1\r\n$" + b"1" * 70000,
]

WRONG_NUMBERS = [
    ("PUBLISH",), ("PUBLISH", "a"), ("PUBLISH", "a", "b", "c"), ("SPUBLISH", "a"), ("SUBSCRIBE",), ("PSUBSCRIBE",), ("SSUBSCRIBE",), ("ECHO",),
    ("ECHO", "a", "b"), ("PING", "a", "b"), ("SELECT",), ("SELECT", "1", "2"), ("TIME", "x"), ("RESET", "x"), ("PUBSUB",), ("PUBSUB", "NUMPAT", "x"),
    ("PUBSUB", "CHANNELS", "a", "b"), ("PUBSUB", "SHARDCHANNELS", "a", "b"), ("PUBSUB", "NOSUCH"), ("CLIENT",), ("CLIENT", "NOSUCH"), ("CLIENT", "ID", "x"),
    ("CLIENT", "SETNAME"), ("CLIENT", "GETNAME", "x"), ("CLIENT", "REPLY"), ("CLIENT", "REPLY", "x"), ("CLIENT", "KILL"), ("CLIENT", "NO-EVICT"),
    ("CLIENT", "NO-EVICT", "x"), ("AUTH",), ("AUTH", "a", "b", "c"), ("AUTH", "a"), ("AUTH", "nobody", "x"), ("AUTH", "default", "x"), ("HELLO", "4"), ("HELLO", "x"), ("HELLO", "1"),
    ("HELLO", "3", "x"), ("HELLO", "3", "AUTH", "x"), ("HELLO", "3", "SETNAME"), ("HELLO", "3", "SETNAME", "a b"), ("HELLO", "2", "AUTH", "nobody", "x"), ("COMMAND", "NOSUCH"),
    ("COMMAND", "COUNT", "x"), ("CONFIG",), ("CONFIG", "GET"), ("CONFIG", "NOSUCH"), ("NOSUCH",), ("NOSUCH", "a", "b"), ("no\r\nsuch", "a\r\nb"), ("NOSUCH", "x" * 300, "y"),
    ("x" * 300,), ("",), ("READONLY", "x"), ("COMMAND", "LIST", "x"), ("SELECT", "16"), ("SELECT", "-1"), ("SELECT", "x"), ("SELECT", "15"), ("SELECT", "01"),
    ("CLIENT", "SETNAME", "a b"), ("CLIENT", "SETNAME", "a\nb"), ("CLIENT", "LIST", "x"), ("CLIENT", "LIST", "TYPE", "x"), ("CLIENT", "LIST", "ID", "x"),
    ("CLIENT", "KILL", "x"), ("CLIENT", "KILL", "ID", "x"), ("CLIENT", "KILL", "ID", "0"), ("CLIENT", "KILL", "ID", "999999999"), ("CLIENT", "KILL", "TYPE", "x"),
    ("CLIENT", "KILL", "SKIPME", "x"), ("CLIENT", "KILL", "ADDR", "1.2.3.4:5"), ("CLIENT", "KILL", "NOSUCH", "x"), ("CLIENT", "KILL", "ID", "1", "TYPE"),
    ("CLIENT", "KILL", "TYPE", "master"), ("CLIENT", "LIST", "ID", "999999999"), ("CLIENT", "LIST", "TYPE", "replica"),
]

SCENARIOS = {
    "words of greeting": [
        ("a", "PING"), ("a", "ping", "hi"), ("a", "ECHO", "hi"), ("a", "echo", b"\x00\xff\r\n"), ("a", "CLIENT", "GETNAME"), ("a", "CLIENT", "SETNAME", "n"), ("a", "CLIENT", "GETNAME"),
        ("a", "CLIENT", "SETNAME", ""), ("a", "CLIENT", "GETNAME"), ("a", "HELLO"), ("a", "HELLO", "2"), ("a", "HELLO", "3"), ("a", "CLIENT", "GETNAME"), ("a", "HELLO", "3", "SETNAME", "m"),
        ("a", "CLIENT", "GETNAME"), ("a", "HELLO"), ("a", "PING"), ("a", "CLIENT", "NO-EVICT", "ON"), ("a", "CLIENT", "NO-EVICT", "off"), ("a", "HELLO", "2", "setname", "k", "AUTH", "default", "x"),
        ("a", "SELECT", "3"), ("a", "RESET"), ("a", "CLIENT", "GETNAME"), ("a", "PING"), ("a", "QUIT"),
    ],
    "quit behind others": [("a", b"PING\r\nQUIT\r\nPING\r\n")],
    "quit with words": [("a", "QUIT", "now")],
    "typed lines": [
        ("a", b"PING\r\n"), ("a", b"PING\n"), ("a", b"  ping   hi  \r\n"), ("a", b"\r\n"), ("a", b"\n\r\nPING\r\n"), ("a", b'ECHO "a\\x41\\n\\"b"\r\n'), ("a", b"ECHO 'a\\'b\\n'\r\n"),
        ("a", b'ECHO ""\r\n'), ("a", b"*0\r\nPING\r\n"), ("a", b"*-1\r\nPING\r\n"), ("a", b"\tPING\tx\r\n"), ("a", b"subscribe a b\r\n"), ("a", b"unsubscribe\r\n"), ("a", b"quit\r\n"),
    ],
    "in pieces": [("a", b"*2\r\n$4\r\nEC"), ("a", b"HO\r\n$3\r"), ("a", b"\nabc\r"), ("a", b"\nPING\r"), ("a", b"\n")],
    "wrong numbers and words": [("a", *words) for words in WRONG_NUMBERS],
    **{f"broken {number}": [("a", b"PING\r\n" + broken)] for number, broken in enumerate(BROKEN)},
    "subscribed mode of RESP2": [
        ("a", "SUBSCRIBE", "c"), *[("a", *words) for words in REFUSED_WHILE_SUBSCRIBED], ("a", "PING"), ("a", "PING", "x"), ("a", "PING", "x", "y"), ("b", "PUBLISH", "c", "x"), ("a", "UNSUBSCRIBE", "c"),
        ("a", "ECHO", "free"), ("a", "PSUBSCRIBE", "p*"), ("a", "GET", "k"), ("a", "PUNSUBSCRIBE", "p*"), ("a", "SSUBSCRIBE", "s"), ("a", "ECHO", "x"), ("a", "SUNSUBSCRIBE"), ("a", "ECHO", "x"), ("a", "SUBSCRIBE", "c"),
        ("a", "RESET"), ("a", "ECHO", "free"), ("a", "SUBSCRIBE", "c"), ("a", "QUIT"),
    ],
    "RESP3 asks while subscribed": [
        ("a", "HELLO", "3"), ("a", "SUBSCRIBE", "c"), ("a", "PING"), ("a", "PING", "x"), ("a", "ECHO", "x"), ("a", "PUBLISH", "other", "x"), ("a", "PUBSUB", "NUMSUB", "c", "d"), ("b", "PUBLISH", "c", "x"),
        ("a", "PUBSUB", "CHANNELS"), ("a", "UNSUBSCRIBE"), ("a", "UNSUBSCRIBE"), ("a", "HELLO", "2"), ("a", "PING"),
    ],
    "a change of protocol while subscribed": [
        ("a", "HELLO", "3"), ("a", "SUBSCRIBE", "c"), ("b", "PUBLISH", "c", "1"), ("a", "HELLO", "2"), ("b", "PUBLISH", "c", "2"), ("a", "ECHO", "x"), ("a", "UNSUBSCRIBE"),
    ],
    "counts in acknowledgements": [
        ("a", "SUBSCRIBE", "a", "b", "a"), ("a", "PSUBSCRIBE", "p*", "q*", "p*"), ("a", "SSUBSCRIBE", "s", "t", "s"), ("a", "UNSUBSCRIBE", "nosuch", "a", "a"), ("a", "PUNSUBSCRIBE", "nosuch", "q*"),
        ("a", "SUNSUBSCRIBE", "nosuch", "t"), ("a", "UNSUBSCRIBE"), ("a", "PUNSUBSCRIBE"), ("a", "SUNSUBSCRIBE"), ("a", "UNSUBSCRIBE"), ("a", "PUNSUBSCRIBE"), ("a", "SUNSUBSCRIBE"), ("a", "PING"),
    ],
    "many ended at once": [("a", "SUBSCRIBE", "a", "b", "c", "d"), ("a", "PSUBSCRIBE", "a*", "b*"), ("a", "UNSUBSCRIBE"), ("a", "PUNSUBSCRIBE"), ("a", "PING")],
    "nothing to end": [("a", "UNSUBSCRIBE"), ("a", "PUNSUBSCRIBE"), ("a", "SUNSUBSCRIBE"), ("a", "UNSUBSCRIBE", "a"), ("a", "HELLO", "3"), ("a", "UNSUBSCRIBE"), ("a", "SUNSUBSCRIBE", "x", "y")],
    "a message for each match": [
        ("a", "SUBSCRIBE", "news"), ("a", "PSUBSCRIBE", "n*"), ("a", "PSUBSCRIBE", "*s"), ("b", "PUBLISH", "news", "x"), ("b", "PUBLISH", "nuts", "y"), ("b", "PUBLISH", "none", "z"), ("b", "PUBLISH", "other", "z"),
        ("b", "SPUBLISH", "news", "shard"), ("a", "SSUBSCRIBE", "news"), ("b", "SPUBLISH", "news", "shard"), ("b", "PUBLISH", "news", "plain"),
    ],
    "several subscribers": [
        ("a", "SUBSCRIBE", "c"), ("b", "HELLO", "3"), ("b", "SUBSCRIBE", "c"), ("c", "PSUBSCRIBE", "c", "c*"), ("d", "PUBLISH", "c", "x"), ("d", "PUBSUB", "NUMSUB", "c", "x", "c"), ("d", "PUBSUB", "NUMSUB"),
        ("d", "PUBSUB", "NUMPAT"), ("d", "PUBSUB", "CHANNELS"), ("d", "PUBSUB", "CHANNELS", "x*"), ("d", "PUBSUB", "CHANNELS", "c*"), ("d", "PUBSUB", "SHARDCHANNELS"), ("d", "PUBSUB", "SHARDNUMSUB"),
        ("e", "SSUBSCRIBE", "c"), ("d", "PUBSUB", "SHARDCHANNELS"), ("d", "PUBSUB", "SHARDCHANNELS", "x*"), ("d", "PUBSUB", "SHARDNUMSUB", "c", "x"), ("d", "PUBSUB", "NUMSUB", "c"), ("a", "QUIT"),
        ("d", "PUBLISH", "c", "y"), ("d", "PUBSUB", "HELP"), ("d", "CLIENT", "HELP"),
    ],
    "any bytes": [
        ("a", "SUBSCRIBE", b"", b"\x00", b"\r\n", b"\xff\xfe", b"a b"), ("b", "PUBLISH", b"", b""), ("b", "PUBLISH", b"\x00", b"\x00"), ("b", "PUBLISH", b"\r\n", b"\r\n+OK\r\n"), ("b", "PUBLISH", b"\xff\xfe", bytes(range(256))),
        ("a", "PSUBSCRIBE", b"\xff*"), ("b", "PUBLISH", b"\xff\xfe", b"both"), ("b", "PUBSUB", "NUMSUB", b"\r\n", b"\xff\xfe"),
    ],
    "replies that nobody wants": [
        ("a", "CLIENT", "REPLY", "OFF"), ("a", "PING"), ("a", "ECHO", "x"), ("a", "CLIENT", "REPLY", "ON"), ("a", "PING"), ("a", "CLIENT", "REPLY", "SKIP"), ("a", "PING"), ("a", "PING"),
        ("a", b"CLIENT REPLY SKIP\r\nPING\r\nECHO b\r\n"), ("a", "HELLO", "3"), ("a", "CLIENT", "REPLY", "OFF"), ("a", "SUBSCRIBE", "c"), ("b", "PUBLISH", "c", "x"), ("a", "NOSUCH"), ("a", "CLIENT", "REPLY", "ON"),
        ("b", "PUBLISH", "c", "y"), ("a", "CLIENT", "REPLY", "SKIP"), ("a", "UNSUBSCRIBE", "c"), ("a", "PING"), ("a", "CLIENT", "REPLY", "OFF"), ("a", "RESET"), ("a", "PING"),
    ],
    "replies off in RESP2": [("a", "CLIENT", "REPLY", "OFF"), ("a", "SUBSCRIBE", "c"), ("b", "PUBLISH", "c", "x"), ("a", "PING"), ("a", "UNSUBSCRIBE"), ("a", "CLIENT", "REPLY", "ON")],
    "a publisher that hears itself": [
        ("a", "HELLO", "3"), ("a", "SUBSCRIBE", "c"), ("a", "PUBLISH", "c", "1"), ("a", "PSUBSCRIBE", "c*"), ("a", "PUBLISH", "c", "2"), ("a", b"PING\r\nPUBLISH c 3\r\nPING\r\nPUBLISH c 4\r\nECHO x\r\n"),
        ("a", "SSUBSCRIBE", "c"), ("a", "SPUBLISH", "c", "5"),
    ],
    "pipelines": [
        ("a", b"SUBSCRIBE a\r\nPSUBSCRIBE a*\r\nPING x\r\nSSUBSCRIBE s\r\nUNSUBSCRIBE a\r\nPUNSUBSCRIBE\r\nSUNSUBSCRIBE s\r\nECHO done\r\n"),
        ("b", b"PUBLISH a 1\r\nPUBLISH a 2\r\nPING\r\nPUBLISH b 3\r\nPUBLISH\r\nPUBLISH a 4\r\nNOSUCH\r\nSPUBLISH a 5\r\n"),
        ("a", b"SUBSCRIBE a\r\nGET x\r\nSUBSCRIBE b\r\nNOSUCH\r\nUNSUBSCRIBE\r\nECHO y\r\n"),
    ],
    "what clients ask": [
        ("a", "CONFIG", "GET", "timeout"), ("a", "CONFIG", "GET", "databases"), ("a", "CONFIG", "GET", "slave-read-only"), ("a", "CONFIG", "GET", "replica-read-only"), ("a", "CONFIG", "GET", "nosuch"),
        ("a", "COMMAND", "INFO", "nosuch"), ("a", "COMMAND", "DOCS", "nosuch"), ("a", "HELLO", "3"), ("a", "CONFIG", "GET", "timeout"), ("a", "COMMAND", "INFO", "nosuch"), ("a", "COMMAND", "DOCS", "nosuch"),
        ("a", "SENTINEL", "MASTERS"), ("a", "CLUSTER", "NOSUCH"),
    ],
    "what tests ask before they begin": [("a", "SELECT", "9"), ("a", "FLUSHALL"), ("a", "flushall", "ASYNC"), ("a", "FLUSHDB"), ("a", "FLUSHALL", "NOSUCH"), ("a", "FUNCTION", "FLUSH"), ("a", "DEBUG", "LOG", "a line")],
    "killed": [
        ("a", "CLIENT", "SETNAME", "a"), ("b", "SUBSCRIBE", "c"), ("a", "CLIENT", "KILL", "TYPE", "pubsub"), ("a", "PUBLISH", "c", "x"), ("c", "PING"), ("c", "HELLO", "3"), ("c", "SUBSCRIBE", "d"),
        ("a", "CLIENT", "KILL", "TYPE", "pubsub"), ("a", "PUBSUB", "CHANNELS"),
    ],
    "reset": [
        ("a", "HELLO", "3"), ("a", "CLIENT", "SETNAME", "n"), ("a", "SUBSCRIBE", "c"), ("a", "PSUBSCRIBE", "c*"), ("a", "SSUBSCRIBE", "c"), ("a", "RESET"), ("b", "PUBLISH", "c", "x"), ("b", "SPUBLISH", "c", "x"), ("a", "CLIENT", "GETNAME"),
        ("a", "PING"), ("a", "SUBSCRIBE", "c"), ("b", "PUBLISH", "c", "x"),
    ],
}

NAMES = ["a", "b", "ab", "news.art", "x"]
PATTERNS = ["a*", "?", "[ab]", "news.*", "*", "x"]


def random_talk(chance):
    """Several connections, each doing anything."""
    steps = [(name, "PING") for name in "abcd"]
    if chance.random() < 0.5:
        steps.append((chance.choice("abcd"), "HELLO", "3"))
    for _ in range(chance.randint(10, 40)):
        some = [chance.choice(NAMES) for _ in range(chance.randint(1, 3))]
        globs = [chance.choice(PATTERNS) for _ in range(chance.randint(1, 2))]
        maybe = some if chance.random() < 0.7 else []
        sharded = chance.choice(["", "S"])
        words = chance.choices(
            [
                (sharded + "SUBSCRIBE", *some), ("PSUBSCRIBE", *globs), (sharded + "UNSUBSCRIBE", *maybe), ("PUNSUBSCRIBE", *(globs if maybe else [])), (sharded + "PUBLISH", some[0], chance.randbytes(chance.randint(0, 20))),
                ("PING",), ("PING", "x"), ("ECHO", "y"), ("PUBSUB", sharded and "SHARDNUMSUB" or "NUMSUB", *maybe), ("PUBSUB", "NUMPAT"), ("RESET",), ("HELLO", chance.choice("23")),
                ("CLIENT", "REPLY", chance.choice(["ON", "SKIP"])), ("CLIENT", "GETNAME"), ("CLIENT", "SETNAME", "n"), ("NOSUCH", "x"), ("PUBLISH", "a"),
            ],
            [10, 6, 6, 4, 25, 3, 3, 2, 5, 3, 1, 2, 2, 1, 1, 1, 1],
        )[0]
        steps.append((chance.choice("abcd"), *words))
    return steps


def random_globs(chance):
    """One subscriber of odd patterns, and channels that they may match."""
    letters = ["a", "b", "c", "*", "?", "[", "]", "^", "-", "\\", "[a-c]", "[^a]", "[c-a]", "[\\-a]", "\\*", "[]", "[^]", "[a", "-]", b"\xff", ""]

    def word(most):
        return b"".join(one if isinstance(one, bytes) else one.encode() for one in (chance.choice(letters) for _ in range(chance.randint(0, most))))

    steps = [("a", "PSUBSCRIBE", *{word(5) for _ in range(chance.randint(1, 6))})]
    # No empty channel: Redis 7.0 lets `*` match it by no rule of its own.
    channels = [word(3) if chance.random() < 0.5 else bytes(chance.choices(b"abc-]^\\*\xff", k=chance.randint(1, 4))) for _ in range(30)]
    steps += [("b", "PUBLISH", channel or b"a", "x") for channel in channels]
    return steps
