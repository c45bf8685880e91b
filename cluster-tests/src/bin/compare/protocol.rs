//! ● The two text protocols, as far as a load needs them: RESP2 and NATS, on one channel at a time.
//!
//! All deliveries of a channel have one length and differ in their stamp alone, so each is checked byte by byte, at the cost of a
//! comparison. A subscriber that misses a message, has one twice or out of order, or reads anything unforeseen is a fault of the run.

use std::net::SocketAddr;

/// Bytes of each message.
pub(crate) const PAYLOAD_LEN: usize = 128;
const STAMP_LEN: usize = 20;
const FILLING: [u8; PAYLOAD_LEN - STAMP_LEN] = [b'.'; PAYLOAD_LEN - STAMP_LEN];
const LINE_LEN_MAX: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Resp,
    Nats,
}

/// Sent until the first one arrives, where a subscription has not reached all nodes when it is acknowledged.
const PROBE: [u8; 4] = *b"wxcp";
const NUMBERED: [u8; 4] = *b"wxcn";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("message {got} where {expected} was due")]
    Order { expected: u64, got: u64 },
    #[error("a payload was changed on its way")]
    Payload,
    #[error("unforeseen bytes: {0:?}")]
    Unforeseen(String),
    #[error("the server says: {0}")]
    Refused(String),
}

/// What is written and read about one channel.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) dialect: Dialect,
    /// One whole publish; all others differ in their stamp alone.
    publish: Vec<u8>,
    delivery_head: Vec<u8>,
    subscribe: Vec<u8>,
    subscribed: Vec<u8>,
}

impl Channel {
    pub(crate) fn new(dialect: Dialect, name: &str) -> Self {
        let len = name.len();
        let (publish, delivery, subscribe, subscribed) = match dialect {
            Dialect::Resp => (
                format!("*3\r\n$7\r\nPUBLISH\r\n${len}\r\n{name}\r\n${PAYLOAD_LEN}\r\n"),
                format!("*3\r\n$7\r\nmessage\r\n${len}\r\n{name}\r\n${PAYLOAD_LEN}\r\n"),
                format!("*2\r\n$9\r\nSUBSCRIBE\r\n${len}\r\n{name}\r\n"),
                format!("*3\r\n$9\r\nsubscribe\r\n${len}\r\n{name}\r\n:1\r\n"),
            ),
            Dialect::Nats => (
                format!("PUB {name} {PAYLOAD_LEN}\r\n"),
                format!("MSG {name} 1 {PAYLOAD_LEN}\r\n"),
                format!("{NATS_CONNECT}SUB {name} 1\r\nPING\r\n"),
                "PONG\r\n".to_owned(),
            ),
        };
        let mut publish = publish.into_bytes();
        publish.extend_from_slice(&[0; STAMP_LEN]);
        publish.extend_from_slice(&FILLING);
        publish.extend_from_slice(b"\r\n");
        Self {
            dialect,
            publish,
            delivery_head: delivery.into_bytes(),
            subscribe: subscribe.into_bytes(),
            subscribed: subscribed.into_bytes(),
        }
    }

    pub(crate) fn subscribe(&self) -> &[u8] {
        &self.subscribe
    }

    pub(crate) fn publish_len(&self) -> usize {
        self.publish.len()
    }

    fn delivery_len(&self) -> usize {
        self.delivery_head.len() + PAYLOAD_LEN + 2
    }

    /// Appends a publish. `due_us`: when it was to be sent; zero where nobody measures it.
    pub(crate) fn publish(&self, seq: u64, due_us: u64, out: &mut Vec<u8>) {
        self.publish_marked(NUMBERED, seq, due_us, out);
    }

    pub(crate) fn probe(&self, out: &mut Vec<u8>) {
        self.publish_marked(PROBE, 0, 0, out);
    }

    fn publish_marked(&self, mark: [u8; 4], seq: u64, due_us: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.publish);
        let at = out.len() - PAYLOAD_LEN - 2;
        let stamp = &mut out[at..at + STAMP_LEN];
        stamp[..4].copy_from_slice(&mark);
        stamp[4..12].copy_from_slice(&seq.to_le_bytes());
        stamp[12..].copy_from_slice(&due_us.to_le_bytes());
    }
}

const NATS_CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",\"version\":\"0\",\"protocol\":1}\r\n";

/// What a publisher's connection begins with, and what it then reads last.
pub(crate) fn greeting(dialect: Dialect) -> (String, &'static str) {
    match dialect {
        Dialect::Resp => ("PING\r\n".to_owned(), "+PONG\r\n"),
        Dialect::Nats => (format!("{NATS_CONNECT}PING\r\n"), "PONG\r\n"),
    }
}

/// What one subscriber has read.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// Numbered messages, all in order.
    pub(crate) received: u64,
    pub(crate) probes: u64,
    pub(crate) subscribed: bool,
    /// The server wants to hear from us.
    pub(crate) pings: u32,
}

impl Inbox {
    /// How many of `bytes` are whole frames. `each` is told when a message was to be sent.
    pub(crate) fn take(
        &mut self,
        channel: &Channel,
        bytes: &[u8],
        mut each: impl FnMut(u64),
    ) -> Result<usize, Fault> {
        let (head, len) = (channel.delivery_head.as_slice(), channel.delivery_len());
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            if rest.len() >= len && rest.starts_with(head) {
                let due_us = self.message(&rest[head.len()..len])?;
                if let Some(due_us) = due_us {
                    each(due_us);
                }
                at += len;
            } else if rest.is_empty()
                || head.starts_with(&rest[..rest.len().min(head.len())]) && rest.len() < len
            {
                return Ok(at);
            } else if !self.subscribed && rest.starts_with(&channel.subscribed) {
                self.subscribed = true;
                at += channel.subscribed.len();
            } else if !self.subscribed && channel.subscribed.starts_with(rest) {
                return Ok(at);
            } else if channel.dialect == Dialect::Resp {
                return Err(unforeseen(rest));
            } else if let Some(line_len) = nats_line(rest, &mut self.pings)? {
                at += line_len;
            } else {
                return Ok(at);
            }
        }
    }

    fn message(&mut self, payload: &[u8]) -> Result<Option<u64>, Fault> {
        let Some((stamp, rest)) = payload.split_first_chunk::<STAMP_LEN>() else {
            return Err(Fault::Payload);
        };
        if !rest.starts_with(&FILLING) || !rest.ends_with(b"\r\n") {
            return Err(Fault::Payload);
        }
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| stamp[at + i]));
        if stamp[..4] == PROBE {
            self.probes += 1;
            return Ok(None);
        }
        if stamp[..4] != NUMBERED {
            return Err(Fault::Payload);
        }
        let (expected, got) = (self.received, word(4));
        if got != expected {
            return Err(Fault::Order { expected, got });
        }
        self.received += 1;
        Ok(Some(word(12)))
    }
}

/// What a publisher reads: counted, never looked up.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    /// RESP alone has one for each publish.
    pub(crate) count: u64,
    pub(crate) pings: u32,
}

impl Replies {
    pub(crate) fn take(&mut self, dialect: Dialect, bytes: &[u8]) -> Result<usize, Fault> {
        let mut at = 0;
        match dialect {
            Dialect::Resp => {
                while let Some(len) = bytes[at..].iter().position(|byte| *byte == b'\n') {
                    if bytes[at] != b':' {
                        return Err(unforeseen(&bytes[at..]));
                    }
                    self.count += 1;
                    at += len + 1;
                }
            }
            Dialect::Nats => {
                while let Some(len) = nats_line(&bytes[at..], &mut self.pings)? {
                    at += len;
                }
            }
        }
        Ok(at)
    }
}

/// The length of a line that carries no message. None: it hasn't ended.
fn nats_line(bytes: &[u8], pings: &mut u32) -> Result<Option<usize>, Fault> {
    let Some(end) = bytes.iter().take(LINE_LEN_MAX).position(|byte| *byte == b'\n') else {
        return if bytes.len() < LINE_LEN_MAX { Ok(None) } else { Err(unforeseen(bytes)) };
    };
    let line = &bytes[..=end];
    match line.split(|byte| *byte == b' ' || *byte == b'\r').next() {
        Some(b"PING") => *pings += 1,
        Some(b"PONG" | b"INFO" | b"+OK") => {}
        Some(b"-ERR") => {
            return Err(Fault::Refused(String::from_utf8_lossy(line).trim().to_owned()));
        }
        _ => return Err(unforeseen(line)),
    }
    Ok(Some(end + 1))
}

fn unforeseen(bytes: &[u8]) -> Fault {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
    if bytes.starts_with(b"-") { Fault::Refused(text) } else { Fault::Unforeseen(text) }
}

/// A command of RESP, for setting up.
pub(crate) fn command(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len());
    for word in words {
        out.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    out.into_bytes()
}

/// Where the load goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) dialect: Dialect,
    pub(crate) publisher: SocketAddr,
    pub(crate) subscribers: SocketAddr,
}

#[cfg(test)]
mod tests {
    use super::{Channel, Dialect, Fault, Inbox, PAYLOAD_LEN};

    /// Publishes as they would be delivered.
    fn deliveries(channel: &Channel, seqs: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        for seq in seqs {
            let at = out.len();
            channel.publish(*seq, 7, &mut out);
            let payload = out.split_off(out.len() - PAYLOAD_LEN - 2);
            out.truncate(at);
            out.extend_from_slice(&channel.delivery_head);
            out.extend_from_slice(&payload);
        }
        out
    }

    fn check(dialect: Dialect, before: &str, seqs: &[u64], split: usize) -> Result<u64, Fault> {
        let channel = Channel::new(dialect, "c");
        let mut bytes = before.as_bytes().to_vec();
        bytes.extend_from_slice(&channel.subscribed);
        bytes.extend_from_slice(&deliveries(&channel, seqs));
        let mut inbox = Inbox::default();
        let (mut rest, mut given) = (Vec::new(), 0);
        for piece in bytes.chunks(split) {
            rest.extend_from_slice(piece);
            let taken = inbox.take(&channel, &rest, |_| given += 1)?;
            rest.drain(..taken);
        }
        assert!(rest.is_empty() && inbox.subscribed && given == inbox.received);
        Ok(inbox.received)
    }

    #[test]
    fn every_split_gives_the_same() {
        for split in [1, 2, 3, 7, 64, 500, 10_000] {
            assert_eq!(check(Dialect::Resp, "", &[0, 1, 2, 3], split).ok(), Some(4));
            assert_eq!(
                check(Dialect::Nats, "INFO {}\r\nPING\r\n", &[0, 1, 2, 3], split).ok(),
                Some(4)
            );
        }
    }

    #[test]
    fn what_is_missing_twice_or_in_another_order_is_a_fault() {
        for seqs in [&[0, 2][..], &[0, 0], &[1, 0], &[1]] {
            assert!(matches!(check(Dialect::Resp, "", seqs, 99), Err(Fault::Order { .. })));
        }
        assert!(matches!(check(Dialect::Resp, "-ERR no\r\n", &[], 99), Err(Fault::Refused(_))));
        assert!(matches!(check(Dialect::Nats, "-ERR 'no'\r\n", &[], 99), Err(Fault::Refused(_))));
    }

    #[test]
    fn a_changed_payload_is_a_fault() {
        let channel = Channel::new(Dialect::Resp, "c");
        let mut bytes = deliveries(&channel, &[0]);
        let last = bytes.len() - 3;
        bytes[last] = b'x';
        let taken = Inbox::default().take(&channel, &bytes, |_| ());
        assert!(matches!(taken, Err(Fault::Payload)));
    }
}
