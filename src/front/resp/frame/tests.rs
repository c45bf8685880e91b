//! Parsing, judged by printing: however a stream of commands is cut, the same commands come out, and junk is an error or nothing.

use proptest::prelude::*;

use super::{Arguments, FrameError, FrameLimits, Parsed};
use crate::front::resp::replies::wire;

const LIMITS: FrameLimits = FrameLimits { arguments: 100, bulk: 1_000 };

/// Each command's words.
type Commands = Vec<Vec<Vec<u8>>>;

/// Whole commands at the beginning of `bytes`, and how much they take.
fn commands(bytes: &[u8]) -> Result<(Commands, usize), FrameError> {
    let (mut all, mut at) = (Vec::new(), 0);
    let mut arguments = Arguments::default();
    loop {
        match arguments.parse(&bytes[at..], &LIMITS)? {
            Parsed::Partial(wanted) => {
                assert!(wanted > bytes.len() - at, "more is wanted, and all of it is there");
                return Ok((all, at));
            }
            Parsed::Command(len) => {
                let command = arguments.command(&bytes[at..]);
                all.push(command.from(0).map(<[u8]>::to_vec).collect());
                at += len;
            }
        }
    }
}

fn one_line(line: &str) -> Result<Vec<String>, FrameError> {
    let (commands, _) = commands(line.as_bytes())?;
    assert_eq!(commands.len(), 1, "{line:?}");
    Ok(commands[0].iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

fn any_command() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6)
}

proptest! {
    #[test]
    fn however_a_stream_is_cut_the_same_commands_come_out(
        sent in prop::collection::vec(any_command(), 0..8),
        cuts in prop::collection::vec(0usize..60, 0..12),
    ) {
        let mut stream = Vec::new();
        for command in &sent {
            let arguments: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
            stream.extend(wire(&arguments));
        }
        let (mut got, mut kept) = (Vec::new(), Vec::new());
        let mut rest = &stream[..];
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let (part, more) = rest.split_at(cut.min(rest.len()));
            rest = more;
            kept.extend_from_slice(part);
            let (whole, taken) = commands(&kept).unwrap();
            got.extend(whole);
            kept.drain(..taken);
        }
        prop_assert_eq!(got, sent);
        prop_assert!(kept.is_empty());
    }

    #[test]
    fn quoted_words_come_out_as_they_were(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 1..5)) {
        let mut line = String::new();
        for word in &words {
            let escaped: String = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            line.push_str(&format!(" \"{escaped}\""));
        }
        line.push_str("\r\n");
        let (got, taken) = commands(line.as_bytes()).unwrap();
        prop_assert_eq!(got, vec![words]);
        prop_assert_eq!(taken, line.len());
    }

    #[test]
    fn junk_is_an_error_or_nothing(junk in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = commands(&junk);
        let _ = commands(&[b"*2\r\n$3\r\n", &junk[..]].concat());
    }

    #[test]
    fn a_damaged_stream_is_an_error_or_other_commands(at in 0usize..60, byte in any::<u8>()) {
        let mut stream = wire(&[b"publish", b"channel", b"payload"]);
        stream.extend(wire(&[b"ping"]));
        let at = at % stream.len();
        stream[at] = byte;
        let _ = commands(&stream);
    }
}

#[test]
fn lines_are_parted_as_redis_parts_them() {
    let check = |line: &str, words: &[&str]| assert_eq!(one_line(line).unwrap(), words, "{line:?}");
    check("ping\r\n", &["ping"]);
    check("  publish\ta  b \n", &["publish", "a", "b"]);
    check("\r\n", &[]);
    check("echo \"a b\\n\\x41\\q\"\r\n", &["echo", "a b\nAq"]);
    check("echo 'a \\' b' c\r\n", &["echo", "a ' b", "c"]);
    check("echo \"\"\r\n", &["echo", ""]);
    check("\"\"\r\n", &[""]);
    for line in ["echo \"a\r\n", "echo 'a\r\n", "echo \"a\"b\r\n"] {
        assert_eq!(one_line(line), Err(FrameError::Quotes), "{line:?}");
    }
    for line in ["POST / HTTP/1.1\r\n", "host: a\r\n"] {
        assert_eq!(one_line(line), Err(FrameError::Http), "{line:?}");
    }
}

#[test]
fn what_is_no_command_is_named() {
    let check = |bytes: &[u8], expected| {
        assert_eq!(commands(bytes), Err(expected), "{:?}", String::from_utf8_lossy(bytes));
    };
    check(b"*1000000000\r\n", FrameError::ArrayLength);
    check(b"*101\r\n", FrameError::StrangerArrayLength);
    check(b"*99999999999999999999999\r\n", FrameError::ArrayLength);
    check(b"*x\r\n", FrameError::ArrayLength);
    check(b"*1\n$4\nping\n", FrameError::ArrayLength);
    check(b"*1\r\n$-5\r\n", FrameError::BulkLength);
    check(b"*1\r\n$9999999999\r\n", FrameError::BulkLength);
    check(b"*1\r\n$\r\n", FrameError::BulkLength);
    check(b"*1\r\n:1\r\n", FrameError::NoBulk(b':'));
    check(b"*1\r\n*1\r\n*1\r\n", FrameError::NoBulk(b'*'));
    check(b"*1\r\n$4\r\npingXX", FrameError::NoLineEnd);
    check(&vec![b'a'; 70_000], FrameError::InlineTooLong);
    assert_eq!(FrameError::NoBulk(7).to_string(), "expected '$', got '?'");
    assert_eq!(commands(b"*0\r\n*-1\r\n").unwrap().0, vec![Vec::<Vec<u8>>::new(); 2]);
}

#[test]
fn a_stranger_may_send_little() {
    let mut arguments = Arguments::default();
    let limits = FrameLimits::stranger();
    let parse = arguments.parse(b"*11\r\n", &limits);
    assert_eq!(parse, Err(FrameError::StrangerArrayLength));
    let parse = arguments.parse(b"*1\r\n$16385\r\n", &limits);
    assert_eq!(parse, Err(FrameError::StrangerBulkLength));
}

/// What fuzzing has found worth keeping, and what people have thought of.
#[test]
fn the_fuzz_target_s_corpus_keeps_the_rules() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/resp");
    let mut files = 0;
    for file in std::fs::read_dir(folder).expect("the corpus") {
        let bytes = std::fs::read(file.expect("a file").path()).expect("its bytes");
        super::check::check(&bytes);
        files += 1;
    }
    assert!(files > 10, "{files}");
}
