//! What must hold of any bytes that a client may send. The fuzz target calls it, and an ordinary test with the fuzz target's corpus.

use super::{Arguments, FrameError, FrameLimits, Parsed};

type Words = Vec<Vec<u8>>;

/// Panics where a rule is broken.
pub(crate) fn check(input: &[u8]) {
    // The first byte chooses how the rest is cut into reads, and the limits.
    let Some((&choice, stream)) = input.split_first() else { return };
    let limits = if choice & 1 == 0 { FrameLimits::new(1 << 16) } else { FrameLimits::stranger() };
    let whole = read_in_pieces(stream, stream.len().max(1), &limits);
    let pieces = read_in_pieces(stream, 1 + usize::from(choice >> 1), &limits);
    assert_eq!(whole, pieces, "reads cut otherwise give other commands");
    for words in &whole.0 {
        let printed = print(words);
        let (again, end) = read_in_pieces(&printed, printed.len(), &FrameLimits::new(1 << 16));
        assert_eq!((again.as_slice(), end), (std::slice::from_ref(words), None), "parse of print");
    }
}

/// The commands, and the error that ended them. What is not whole is left out.
fn read_in_pieces(
    stream: &[u8],
    piece: usize,
    limits: &FrameLimits,
) -> (Vec<Words>, Option<FrameError>) {
    let mut arguments = Arguments::default();
    let (mut commands, mut start, mut end) = (Vec::new(), 0, 0);
    loop {
        let unread = &stream[start..end];
        match arguments.parse(unread, limits) {
            Ok(Parsed::Command(bytes)) => {
                assert!(0 < bytes && bytes <= unread.len(), "a command of bytes that are there");
                let command = arguments.command(unread);
                if command.len() > 0 {
                    commands.push(command.from(0).map(<[u8]>::to_vec).collect());
                }
                start += bytes;
            }
            Ok(Parsed::Partial(bytes)) => {
                assert!(bytes > unread.len(), "what is there already is waited for");
                if end == stream.len() {
                    return (commands, None);
                }
                end = stream.len().min(end + piece);
            }
            Err(error) => return (commands, Some(error)),
        }
    }
}

fn print(words: &Words) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}
