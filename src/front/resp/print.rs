//! ● Replies in RESP2 and RESP3. Nothing of a client's bytes ever stands in a line: what is theirs goes out with its length before it,
//! and errors lose their line ends.

use crate::pubsub::Resp;
use crate::pubsub::resp::put_decimal;

/// Appends replies to a buffer, in one of the two protocols.
#[derive(Debug)]
pub(super) struct Printer<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) resp: Resp,
}

impl<'a> Printer<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, resp: Resp) -> Self {
        Self { out, resp }
    }

    fn is_three(&self) -> bool {
        self.resp == Resp::Three
    }

    /// A word of ours.
    pub(super) fn simple(&mut self, word: &'static str) {
        self.line(b'+', word.as_bytes());
    }

    pub(super) fn ok(&mut self) {
        self.simple("OK");
    }

    /// Its first word is its code. Line ends in it become blanks.
    pub(super) fn error(&mut self, text: &str) {
        self.out.push(b'-');
        let blanked = text.bytes().map(|byte| match byte {
            b'\r' | b'\n' => b' ',
            other => other,
        });
        self.out.extend(blanked);
        self.end();
    }

    pub(super) fn integer(&mut self, value: u64) {
        self.counted(b':', value);
    }

    pub(super) fn bulk(&mut self, bytes: &[u8]) {
        self.counted(b'$', bytes.len() as u64);
        self.out.extend_from_slice(bytes);
        self.end();
    }

    /// Text for people, of lines: RESP3 says that it is no more than that.
    pub(super) fn text(&mut self, text: &str) {
        if self.is_three() {
            self.counted(b'=', text.len() as u64 + 4);
            self.out.extend_from_slice(b"txt:");
            self.out.extend_from_slice(text.as_bytes());
            self.end();
        } else {
            self.bulk(text.as_bytes());
        }
    }

    pub(super) fn null(&mut self) {
        self.out.extend_from_slice(if self.is_three() { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// So many replies follow as its elements.
    pub(super) fn array(&mut self, len: usize) {
        self.counted(b'*', len as u64);
    }

    pub(super) fn set(&mut self, len: usize) {
        self.counted(if self.is_three() { b'~' } else { b'*' }, len as u64);
    }

    /// So many pairs follow.
    pub(super) fn map(&mut self, pairs: usize) {
        if self.is_three() {
            self.counted(b'%', pairs as u64);
        } else {
            self.array(2 * pairs);
        }
    }

    /// What nobody asked for, or is told as if nobody had.
    pub(super) fn push(&mut self, len: usize) {
        self.counted(if self.is_three() { b'>' } else { b'*' }, len as u64);
    }

    fn line(&mut self, mark: u8, text: &[u8]) {
        self.out.push(mark);
        self.out.extend_from_slice(text);
        self.end();
    }

    fn counted(&mut self, mark: u8, value: u64) {
        self.out.push(mark);
        put_decimal(self.out, value);
        self.end();
    }

    fn end(&mut self) {
        self.out.extend_from_slice(b"\r\n");
    }
}
