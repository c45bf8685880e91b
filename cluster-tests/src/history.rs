//! What clients did and saw, in the order in which they did and saw it. One record a line as JSON, so that a history that broke a
//! promise can be kept and judged again.

use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use waxwing::supervise::Clock;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub t_us: u64,
    /// Who: a client's name, or `nemesis`.
    pub proc: String,
    /// Which of the client's attachments, from 0.
    pub attachment: u32,
    /// The node that it is attached to.
    pub node: String,
    pub kind: Kind,
    #[serde(flatten)]
    pub op: Op,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Invoke,
    Ok,
    /// It did not happen, and never will.
    Fail,
    /// Perhaps it happened.
    Info,
    /// Something that came unasked.
    Event,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    Subscribe {
        topics: Vec<String>,
        patterns: Vec<String>,
        /// Every live member confirmed; told by `Ok` only.
        everywhere: bool,
    },
    Unsubscribe {
        topics: Vec<String>,
        patterns: Vec<String>,
    },
    Publish(Numbered),
    Message {
        #[serde(flatten)]
        message: Numbered,
        origin: String,
        id: String,
    },
    Gap {
        /// None: any.
        topics: Vec<String>,
        /// Empty: any.
        origin: String,
        missing: Option<u64>,
        certain: bool,
        reason: String,
    },
    /// What the welcome said; and how long the session may outlive the attachment.
    Attached {
        session: String,
        resumed: bool,
        epoch: u64,
        linger_ms: u64,
    },
    /// It leaves.
    Bye {
        keep_session: bool,
    },
    Track {
        #[serde(flatten)]
        of: Presence,
        meta: String,
        revision: u64,
        /// Told by `Ok` only.
        #[serde(default)]
        reference: String,
    },
    Untrack {
        #[serde(flatten)]
        of: Presence,
        linger_ms: u64,
    },
    Watch {
        topic: String,
    },
    Unwatch {
        topic: String,
    },
    /// What a watcher was told.
    Presence(Told),
    /// What a node lists, at a time when nothing has happened for long.
    Listed {
        topic: String,
        entries: Vec<Entry>,
    },
    GoAway,
    Lease(LeaseCall),
    /// The stream ended.
    Ended {
        how: String,
    },
    Fault {
        fault: String,
        begin: bool,
        /// Whom it concerns: a node, or what lies between two. None: perhaps all, and all faults where it is an end.
        #[serde(default)]
        nodes: Vec<String>,
        /// The node dies; the end of that is that it is started again.
        #[serde(default)]
        death: bool,
    },
}

/// A call about a lease, or what is done under one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseCall {
    /// The same in its invocation and its outcome, and in no other call.
    pub call: u64,
    pub what: LeaseWhat,
    pub lease: String,
    /// As whom it is held; a session's name or an owner's.
    pub holder: String,
    /// Of a renewal, a release or a write: as which it is done. Of an acquisition's outcome: the granted one, or where it was refused its
    /// holder's. 0: not known.
    pub token: u64,
    pub ttl_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseWhat {
    Acquire,
    Renew,
    /// Also by ending the session that holds it.
    Release,
    /// To something that refuses a token below the highest that it has seen.
    Write,
}

/// By what a presence is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Presence {
    pub topic: String,
    pub key: String,
    pub id: String,
}

/// An event of a watched topic, as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    pub topic: String,
    pub snapshot: bool,
    pub more: bool,
    pub reset: bool,
    pub joins: Vec<Entry>,
    pub updates: Vec<Entry>,
    pub leaves: Vec<Entry>,
    pub presences: u64,
    pub keys: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    pub key: String,
    pub id: String,
    pub reference: String,
    /// In updates.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub before: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub first_of_key: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub last_of_key: bool,
}

/// A message that tells who published it: the `seq`th, from 1, of one attachment of a publisher, over all its topics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Numbered {
    pub topic: String,
    pub publisher: String,
    pub seq: u64,
}

impl Numbered {
    /// A payload of `size` bytes, or as many as it needs.
    pub fn payload(&self, size: usize) -> String {
        let mut text = format!("{} {} ", self.publisher, self.seq);
        text.extend(std::iter::repeat_n('.', size.saturating_sub(text.len())));
        text
    }

    /// None: some other payload.
    pub fn read(topic: &str, payload: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(payload).ok()?.split(' ');
        let publisher = words.next()?.to_owned();
        let seq = words.next()?.parse().ok()?;
        Some(Self { topic: topic.to_owned(), publisher, seq })
    }
}

/// Cheap to clone; clones write one history.
#[derive(Debug, Clone)]
pub struct Recorder {
    clock: Clock,
    /// Microseconds of a time that isn't the clock's: a simulated world has one, and its hosts' clocks don't agree.
    world_us: Option<Arc<AtomicU64>>,
    records: Arc<Mutex<Vec<Record>>>,
    deaf: bool,
}

/// Who a record is about.
#[derive(Debug, Clone)]
pub struct Who {
    pub proc: String,
    pub attachment: u32,
    pub node: String,
}

impl Recorder {
    pub fn new(clock: Clock) -> Self {
        Self { clock, world_us: None, records: Arc::default(), deaf: false }
    }

    /// Whoever has the world keeps its time in `world_us`.
    pub fn of_world(world_us: Arc<AtomicU64>) -> Self {
        Self { world_us: Some(world_us), ..Self::new(Clock::new()) }
    }

    /// Keeps nothing, for clients whose messages are too many and are judged as they come.
    #[must_use]
    pub fn deaf(&self) -> Self {
        Self { records: Arc::default(), deaf: true, ..self.clone() }
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    pub fn add(&self, who: &Who, kind: Kind, op: Op) {
        if self.deaf {
            return;
        }
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: the order of records is the order of times.
        let t_us = match &self.world_us {
            Some(world_us) => world_us.load(Ordering::Relaxed),
            None => self.clock.now().as_micros(),
        };
        let Who { proc, attachment, node } = who.clone();
        records.push(Record { t_us, proc, attachment, node, kind, op });
    }

    pub fn fault(&self, fault: &str, begin: bool) {
        self.fault_of(fault, begin, Vec::new(), false);
    }

    /// A fault of one node, or between two.
    pub fn fault_of(&self, fault: &str, begin: bool, nodes: Vec<String>, death: bool) {
        let nemesis = Who { proc: "nemesis".to_owned(), attachment: 0, node: String::new() };
        let op = Op::Fault { fault: fault.to_owned(), begin, nodes, death };
        self.add(&nemesis, Kind::Event, op);
    }

    pub fn history(&self) -> Vec<Record> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One JSON object a line.
    pub fn write(&self, file: &Path) -> std::io::Result<()> {
        let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
        for record in self.history() {
            writeln!(out, "{}", serde_json::to_string(&record)?)?;
        }
        out.flush()
    }
}

/// What `Recorder::write` has written.
pub fn read(file: &Path) -> anyhow::Result<Vec<Record>> {
    let lines = std::io::BufReader::new(std::fs::File::open(file)?).lines();
    lines
        .enumerate()
        .map(|(at, line)| serde_json::from_str(&line?).with_context(|| format!("line {}", at + 1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_json() {
        let message = Numbered { topic: "t".to_owned(), publisher: "p.0".to_owned(), seq: 7 };
        let ops = [
            Op::Publish(message.clone()),
            Op::Message { message, origin: "a".to_owned(), id: "x".to_owned() },
            Op::Gap {
                topics: vec!["t".to_owned()],
                origin: String::new(),
                missing: Some(3),
                certain: true,
                reason: "LINK".to_owned(),
            },
            Op::GoAway,
            Op::Lease(LeaseCall {
                call: 7,
                what: LeaseWhat::Acquire,
                lease: "l".to_owned(),
                holder: "h".to_owned(),
                token: 3,
                ttl_ms: 1_000,
            }),
            Op::Track {
                of: Presence { topic: "t".to_owned(), key: "k".to_owned(), id: "1".to_owned() },
                meta: "m".to_owned(),
                revision: 2,
                reference: String::new(),
            },
            Op::Presence(Told {
                topic: "t".to_owned(),
                updates: vec![Entry { before: "x".to_owned(), ..Entry::default() }],
                ..Told::default()
            }),
        ];
        for op in ops {
            let who = ("s".to_owned(), "a".to_owned());
            let record =
                Record { t_us: 5, proc: who.0, attachment: 1, node: who.1, kind: Kind::Event, op };
            let line = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record, "{line}");
        }
    }

    #[test]
    fn a_payload_tells_its_publisher_and_number() {
        let message = Numbered { topic: "t".to_owned(), publisher: "p.1".to_owned(), seq: 42 };
        for size in [0, 7, 100] {
            let payload = message.payload(size);
            assert!(payload.len() >= size);
            assert_eq!(Numbered::read("t", payload.as_bytes()), Some(message.clone()));
        }
        assert_eq!(Numbered::read("t", b"hello"), None);
    }
}
