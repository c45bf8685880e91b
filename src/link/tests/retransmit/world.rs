//! The window, what waits before it, the links, and the peer's reader, each as small as can be.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};

use super::{Bug, Op};
use crate::link::ContentItem;
use crate::link::frame::Accepted;
use crate::link::sequence::Received;
use crate::link::window::{Resumed, Window};
use crate::types::Time;

const AGE: Duration = Duration::from_secs(30);
/// Items that may wait and not be acknowledged, together.
const ROOM: usize = 24;

/// What an item says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Batch { topic: u8, first: u64, count: u64 },
    Gap { topic: u8, count: u64 },
    Possible,
}

impl Item {
    fn bytes(self) -> Bytes {
        let mut out = Vec::new();
        let (kind, topic, first, count) = match self {
            Self::Batch { topic, first, count } => (0, topic, first, count),
            Self::Gap { topic, count } => (1, topic, 0, count),
            Self::Possible => (2, 0, 0, 0),
        };
        out.put_u8(kind);
        out.put_u8(topic);
        out.put_u64(first);
        out.put_u64(count);
        out.into()
    }

    fn read(mut bytes: &[u8]) -> Self {
        let (kind, topic) = (bytes.get_u8(), bytes.get_u8());
        let (first, count) = (bytes.get_u64(), bytes.get_u64());
        match kind {
            0 => Self::Batch { topic, first, count },
            1 => Self::Gap { topic, count },
            _ => Self::Possible,
        }
    }
}

/// In a subscriber's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Message {
        topic: u8,
        number: u64,
    },
    Gap {
        topic: u8,
        count: u64,
    },
    /// Nothing that was published before the sender heard of it comes later.
    Declared,
    Possible,
}

/// What waits to be written: bounded, the newest counted by topic.
#[derive(Debug, Default)]
struct Outbox {
    queue: VecDeque<Item>,
    dropping: Option<BTreeMap<u8, u64>>,
    unsettled: usize,
}

impl Outbox {
    fn publish(&mut self, topic: u8, first: u64, count: u64) {
        if self.dropping.is_some() || self.queue.len() + self.unsettled >= ROOM {
            *self.dropping.get_or_insert_default().entry(topic).or_default() += count;
        } else {
            self.queue.push_back(Item::Batch { topic, first, count });
        }
    }

    fn roomier(&mut self) {
        if self.queue.len() + self.unsettled <= ROOM / 2 {
            let dropped = self.dropping.take().unwrap_or_default();
            self.queue.extend(dropped.into_iter().map(|(topic, count)| Item::Gap { topic, count }));
        }
    }
}

pub(super) struct World {
    bug: Bug,
    now: Time,
    published: u64,
    by_topic: BTreeMap<u8, Vec<u64>>,
    outbox: Outbox,
    /// Given up: nothing is kept before the next hello.
    given_up: bool,
    window: Window,
    /// Since when the sender has had no link.
    down: Option<Time>,
    silent: bool,
    /// On the way: the number of the first item, and items.
    wire: VecDeque<(u64, Vec<Bytes>)>,
    acks: VecDeque<u64>,
    /// What the reader on this side knows, and the one after it will.
    received: Received,
    lost: u64,
    told: bool,
    had_epoch: bool,
    gone: Option<Time>,
    stream: Vec<Seen>,
    /// A declaration has not been heard by the sender yet.
    owed: bool,
    /// What the last declaration covers: all that was published before the sender heard of it.
    covered: u64,
    jumped: bool,
}

impl World {
    pub(super) fn new(bug: Bug) -> Self {
        Self {
            bug,
            now: Time::from_millis(1_000),
            published: 0,
            by_topic: BTreeMap::new(),
            outbox: Outbox::default(),
            given_up: false,
            window: Window::default(),
            down: Some(Time::from_millis(1_000)),
            silent: false,
            wire: VecDeque::new(),
            acks: VecDeque::new(),
            received: Received::default(),
            lost: 0,
            told: false,
            had_epoch: false,
            gone: None,
            stream: Vec::new(),
            owed: false,
            covered: 0,
            jumped: false,
        }
    }

    pub(super) fn act(&mut self, op: &Op) -> Result<(), String> {
        match *op {
            Op::Publish { topic, count } => self.publish(topic, count.into()),
            Op::Write { bytes } => self.write(bytes),
            Op::Read(frames) => self.read(frames)?,
            Op::Acknowledge if self.down.is_none() && !self.silent => {
                self.acks.push_back(self.received.expected());
            }
            Op::AckArrives if self.down.is_none() => {
                if let Some(upto) = self.acks.pop_front() {
                    let bad = |bad| format!("an honest acknowledgement is refused: {bad:?}");
                    self.window.acknowledge(upto).map_err(bad)?;
                    self.settle();
                }
            }
            Op::Cut { noticed } => self.cut(noticed),
            Op::Silence { noticed } if self.down.is_none() && !self.silent => self.silence(noticed),
            Op::Acknowledge | Op::AckArrives | Op::Silence { .. } => {}
            Op::Hello => self.hello(true)?,
            Op::HelloInVain => self.hello(false)?,
            Op::Pass { ms } => self.pass(ms),
        }
        Ok(())
    }

    fn publish(&mut self, topic: u8, count: u64) {
        // The link has been up once, or nobody's interest is known.
        if !self.had_epoch {
            return;
        }
        let first = self.published;
        self.published += count;
        self.by_topic.entry(topic).or_default().extend(first..first + count);
        if !self.given_up {
            self.outbox.publish(topic, first, count);
        }
    }

    fn write(&mut self, bytes_max: usize) {
        if self.down.is_some() {
            return;
        }
        if let Some((first, items)) = self.window.again(bytes_max) {
            if !self.silent {
                self.wire.push_back((first, items.cloned().collect()));
            }
            return;
        }
        let items = self.outbox.queue.len().min(1 + bytes_max / 40);
        let items: Vec<_> = self.outbox.queue.drain(..items).map(Item::bytes).collect();
        self.outbox.unsettled += items.len();
        self.outbox.roomier();
        if !items.is_empty() {
            let content = items.iter().map(|bytes| ContentItem { bytes: bytes.clone(), cost: 1 });
            let first = self.window.next();
            self.window.push(content, self.now);
            if !self.silent {
                self.wire.push_back((first, items));
            }
        }
    }

    fn read(&mut self, frames: usize) -> Result<(), String> {
        if self.gone.is_some_and(|since| self.now >= since) {
            self.wire.clear();
        }
        for (first, items) in self.wire.drain(..frames.min(self.wire.len())).collect::<Vec<_>>() {
            let taken = self.received.take(first, items).ok_or("numbers overflow")?;
            self.jumped |= taken.jumped;
            for item in taken.items {
                match Item::read(&item) {
                    Item::Batch { topic, first, count } => self.stream.extend(
                        (first..first + count).map(|number| Seen::Message { topic, number }),
                    ),
                    Item::Gap { topic, count } => self.stream.push(Seen::Gap { topic, count }),
                    Item::Possible => self.stream.push(Seen::Possible),
                }
            }
        }
        Ok(())
    }

    /// What has reached the reader's side may still be read, until it notices or a hello ends the reader.
    fn cut(&mut self, noticed: u64) {
        if self.down.is_some() {
            return;
        }
        if !self.silent {
            self.silence(noticed);
        }
        self.silent = false;
        self.down = Some(self.now);
        if self.bug == Bug::WindowDroppedAtDown {
            let nothing = Accepted { position: 0, had_epoch: false, lost: self.lost };
            let _ = self.window.resume(nothing);
            self.settle();
        }
    }

    fn silence(&mut self, noticed: u64) {
        self.silent = true;
        self.gone = Some(self.now + Duration::from_millis(noticed));
        self.acks.clear();
        self.wire.truncate(self.wire.len() / 2);
    }

    fn hello(&mut self, heard: bool) -> Result<(), String> {
        if self.down.is_none() {
            return Ok(());
        }
        let early = self.received;
        if self.bug == Bug::HelloBeforeTheReaderEnded {
            self.read(1)?;
        }
        self.wire.clear();
        if std::mem::take(&mut self.told) {
            self.received.declare_lost();
            if self.bug != Bug::DeliveryAfterItsGap {
                self.lost += 1;
            }
        }
        if self.bug == Bug::HelloBeforeTheReaderEnded {
            self.received = early;
        }
        let received = self.received;
        let position = match self.bug {
            Bug::AcknowledgedIsWrittenAgain => received.expected().saturating_sub(1),
            _ => received.expected(),
        };
        let said = Accepted { position, had_epoch: self.had_epoch, lost: self.lost };
        self.had_epoch = true;
        if !heard {
            // It believed in the link for a moment.
            self.gone = Some(self.now);
            return Ok(());
        }
        if std::mem::take(&mut self.owed) {
            self.covered = self.published;
        }
        let resumed = self.window.resume(said).map_err(|bad| format!("{said:?}: {bad:?}"))?;
        self.settle();
        match resumed {
            Resumed::Clean | Resumed::Again(_) => {
                if std::mem::take(&mut self.given_up) {
                    self.outbox.queue.push_front(Item::Possible);
                }
            }
            Resumed::Declared(_) | Resumed::Unknown(_) => {
                self.outbox = Outbox::default();
                self.given_up = false;
                // No `Seen` stands for it: it says up to where the last one reaches.
                if matches!(resumed, Resumed::Unknown(_)) && self.published > 0 {
                    self.stream.push(Seen::Possible);
                }
            }
        }
        (self.down, self.gone) = (None, None);
        Ok(())
    }

    fn settle(&mut self) {
        self.outbox.unsettled -= self.window.take_freed().min(self.outbox.unsettled);
        self.outbox.roomier();
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        let off = u64::from(self.bug == Bug::GapOffByOne);
        self.window.expire(self.now, AGE, |item| match Item::read(item) {
            Item::Batch { topic, count, .. } => Item::Gap { topic, count: count - off }.bytes(),
            Item::Gap { .. } | Item::Possible => item.clone(),
        });
        if self.down.is_some_and(|since| self.now.since(since) >= AGE) && self.had_epoch {
            self.outbox = Outbox::default();
            self.given_up = true;
        }
        if self.gone.is_some_and(|since| self.now >= since && self.now.since(since) >= AGE)
            && !self.told
        {
            self.told = true;
            self.owed = true;
            self.stream.push(Seen::Declared);
        }
    }

    /// The link comes back, and all that is to come comes.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        self.cut(0);
        self.hello(true)?;
        for _ in 0..2_000 {
            self.act(&Op::Write { bytes: 100 })?;
            self.act(&Op::Read(usize::MAX))?;
            self.act(&Op::Acknowledge)?;
            self.act(&Op::AckArrives)?;
        }
        let quiet = self.outbox.queue.is_empty() && self.outbox.dropping.is_none();
        if !quiet || self.window.cost() != 0 || self.outbox.unsettled != 0 {
            return Err("something is never handed on".to_owned());
        }
        Ok(())
    }

    pub(super) fn judge(&self) -> Result<(), String> {
        if self.jumped {
            return Err("numbers were skipped".to_owned());
        }
        let mut last = None;
        for seen in &self.stream {
            if let Seen::Message { number, .. } = seen {
                if last.is_some_and(|last| last >= *number) {
                    return Err(format!("{number} came after {last:?}"));
                }
                last = Some(*number);
            }
        }
        // Final: what was published before the sender heard of the declaration does not come behind it.
        let declared = self.stream.iter().rposition(|seen| *seen == Seen::Declared);
        let behind = declared.map_or(&[][..], |at| &self.stream[at..]);
        for seen in behind {
            match seen {
                Seen::Message { number, .. } if *number < self.covered => {
                    return Err(format!("{number} came behind the gap that covers it"));
                }
                Seen::Message { .. } | Seen::Gap { .. } | Seen::Declared | Seen::Possible => {}
            }
        }
        for (topic, numbers) in &self.by_topic {
            self.judge_topic(*topic, numbers)?;
        }
        Ok(())
    }

    /// Between two messages that came: certain gaps count exactly what is missing, unless a possible one stands there too.
    fn judge_topic(&self, topic: u8, numbers: &[u64]) -> Result<(), String> {
        let (mut next, mut counted, mut possible) = (0, 0, false);
        let mut settle = |upto: usize, counted: &mut u64, possible: &mut bool| {
            let missing = (upto - next) as u64;
            if *counted > missing || (!*possible && *counted != missing) {
                return Err(format!("topic {topic}: {missing} missing, {counted} counted"));
            }
            (next, *counted, *possible) = (upto + 1, 0, false);
            Ok(())
        };
        for seen in &self.stream {
            match *seen {
                Seen::Message { topic: of, number } if of == topic => {
                    let at = numbers.binary_search(&number).map_err(|_| "never published")?;
                    settle(at, &mut counted, &mut possible)?;
                }
                Seen::Gap { topic: of, count } if of == topic => counted += count,
                Seen::Declared | Seen::Possible => possible = true,
                Seen::Message { .. } | Seen::Gap { .. } => {}
            }
        }
        settle(numbers.len(), &mut counted, &mut possible)
    }
}
