//! Reads replies, for tests: what is printed must be exactly one reply each, and mean what was meant.

/// A reply as a client understands it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Text(String),
    Null,
    Array(Vec<Reply>),
    Set(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Push(Vec<Reply>),
}

/// Deeper than anything that is printed here.
const DEPTH_MAX: usize = 8;

/// All replies; a panic where there is anything else.
pub(super) fn replies(mut bytes: &[u8]) -> Vec<Reply> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        all.push(reply(&mut bytes, DEPTH_MAX));
    }
    all
}

fn reply(bytes: &mut &[u8], depth: usize) -> Reply {
    assert!(depth > 0, "too deep");
    let end = bytes.windows(2).position(|two| two == b"\r\n").expect("a line ends");
    let (mark, line) = (bytes[0], String::from_utf8_lossy(&bytes[1..end]).into_owned());
    assert!(!line.contains(['\r', '\n']), "a line end within a line: {line:?}");
    *bytes = &bytes[end + 2..];
    let number = || line.parse::<i64>().unwrap_or_else(|_| panic!("{line:?} is no number"));
    let count = || usize::try_from(number()).expect("a length");
    match mark {
        b'+' => Reply::Simple(line),
        b'-' => Reply::Error(line),
        b':' => Reply::Integer(number()),
        b'_' => Reply::Null,
        b'$' | b'*' if number() == -1 => Reply::Null,
        b'$' | b'=' => {
            let len = count();
            let (bulk, rest) = bytes.split_at(len);
            *bytes = rest.strip_prefix(b"\r\n").expect("a line end behind a bulk string");
            if mark == b'$' {
                return Reply::Bulk(bulk.to_vec());
            }
            let text = bulk.strip_prefix(b"txt:").expect("its kind");
            Reply::Text(String::from_utf8(text.to_vec()).expect("text"))
        }
        b'*' => Reply::Array((0..count()).map(|_| reply(bytes, depth - 1)).collect()),
        b'~' => Reply::Set((0..count()).map(|_| reply(bytes, depth - 1)).collect()),
        b'>' => Reply::Push((0..count()).map(|_| reply(bytes, depth - 1)).collect()),
        b'%' => {
            let pairs = (0..count()).map(|_| (reply(bytes, depth - 1), reply(bytes, depth - 1)));
            Reply::Map(pairs.collect())
        }
        other => panic!("{:?} begins no reply", char::from(other)),
    }
}

/// A command as clients send it.
pub(super) fn wire(arguments: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    out
}
