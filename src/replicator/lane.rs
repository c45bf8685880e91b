//! What this node keeps of one peer: how far it has told it its own operations, what the two have asked each other.
//!
//! Nothing that is yet to be said is kept as bytes. A link that can write asks what comes next, and it is made on the spot from the
//! logs of the shards: bursts join by themselves, and a slow peer costs a few numbers. The exceptions have bounds: one whole
//! transfer at a time (shared entries, not copies), and short answers.

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::codec::{self, Frame};
use super::shard::{Sent, Shards};
use super::transfer::{Step, Transfer};
use crate::link::{Direction, LinkInfo};
use crate::presence::{Answer, Handed, Row, SHARDS, Want};
use crate::types::{LinkEpoch, NodeName, Replica, Time};

/// Entries, and as many removals, of one interval.
const INTERVAL_ENTRIES_MAX: usize = 500;
const ROWS_A_FRAME: usize = 4_096;
const HANDED_A_FRAME: usize = 500;
const MARK_EVERY: Duration = Duration::from_millis(100);
const COMPARE_EVERY: Duration = Duration::from_millis(300);
/// Short answers that wait for the link.
const READY_MAX: usize = 1_024;

/// A replica's log in one shard.
pub(super) type Log = (Replica, usize);

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: NodeName,
    pub(super) state: Mutex<LaneState>,
    out: AtomicWaker,
    inward: AtomicWaker,
}

#[derive(Debug, Default)]
pub(super) struct LaneState {
    /// The links that are up: to the peer, and from it.
    out: Option<LinkEpoch>,
    inward: Option<LinkEpoch>,
    /// Which own operations of each shard the peer has been told. `None`: it has not said where it stands.
    cursors: [Option<u64>; SHARDS],
    /// Where it stood when it last said so.
    pub(super) has: [u64; SHARDS],
    pub(super) rows_due: bool,
    pub(super) rows_wanted_due: bool,
    pub(super) rows_sent: Option<Time>,
    /// To be asked of the peer.
    pub(super) wants: BTreeMap<Log, Want>,
    /// When its rows were last compared with this node's, and whether that goes on.
    compared: Option<Time>,
    comparing: bool,
    /// What it asked for, and has not got all of. `cursors` do not go on for a log of this node's own that stands here.
    answers: BTreeMap<Log, Want>,
    transfer: Option<Transfer>,
    ready: VecDeque<Bytes>,
    handing: Option<Handing>,
    /// How many of the peer's entries this node has taken over, by the ticket of the last handing.
    taken: (u64, u64),
    /// A mark is on its way; since when what stood before it had waited.
    pub(super) mark: Option<(u64, Time)>,
    marks: u64,
    last_mark: Option<Time>,
    /// The shard whose turn it is.
    turn: usize,
}

/// Entries on their way to a peer that is to own them.
#[derive(Debug)]
struct Handing {
    ticket: u64,
    entries: VecDeque<Handed>,
}

impl Lane {
    pub(super) fn new(name: &NodeName) -> Self {
        Self {
            name: name.clone(),
            state: Mutex::default(),
            out: AtomicWaker::new(),
            inward: AtomicWaker::new(),
        }
    }

    fn waker(&self, direction: Direction) -> &AtomicWaker {
        match direction {
            Direction::Out => &self.out,
            Direction::In => &self.inward,
        }
    }

    pub(super) fn register(&self, direction: Direction, waker: &Waker) {
        self.waker(direction).register(waker);
    }

    /// There is something to say.
    pub(super) fn wake(&self) {
        self.out.wake();
        self.inward.wake();
    }

    /// False: all goes on over the link that spoke before.
    pub(super) fn up(&self, link: &LinkInfo) -> bool {
        self.relink(link, None, Some(link.epoch))
    }

    /// As `up`.
    pub(super) fn down(&self, link: &LinkInfo) -> bool {
        self.relink(link, Some(link.epoch), None)
    }

    fn relink(&self, link: &LinkInfo, from: Option<LinkEpoch>, to: Option<LinkEpoch>) -> bool {
        let mut state = self.state.lock();
        if from.is_some() && *state.link_mut(link.direction) != from {
            return false;
        }
        let before = state.active();
        *state.link_mut(link.direction) = to;
        let restarts = state.active() != before;
        if restarts {
            state.start_over();
        }
        drop(state);
        self.wake();
        restarts
    }
}

impl LaneState {
    fn link_mut(&mut self, direction: Direction) -> &mut Option<LinkEpoch> {
        match direction {
            Direction::Out => &mut self.out,
            Direction::In => &mut self.inward,
        }
    }

    /// State goes over one link, so that it arrives in order: the one that this node dialed, else the other one.
    fn active(&self) -> Option<(Direction, LinkEpoch)> {
        let out = self.out.map(|epoch| (Direction::Out, epoch));
        out.or(self.inward.map(|epoch| (Direction::In, epoch)))
    }

    pub(super) fn is_up(&self) -> bool {
        self.active().is_some()
    }

    /// Whatever was on its way may be lost, or is void: both ends say again where they stand.
    pub(super) fn start_over(&mut self) {
        let (out, inward, marks) = (self.out, self.inward, self.marks);
        let up = self.is_up();
        *self = Self { out, inward, marks, rows_due: up, rows_wanted_due: up, ..Self::default() };
    }

    /// The peer's row of this node's own log.
    pub(super) fn peer_has(&mut self, shard: usize, counter: u64, own: u64) {
        let counter = counter.min(own);
        self.has[shard] = self.has[shard].max(counter);
        self.cursors[shard].get_or_insert(counter);
    }

    /// Its rows are complete: what it did not name, it has nothing of.
    pub(super) fn peer_said_all(&mut self) {
        for cursor in &mut self.cursors {
            cursor.get_or_insert(0);
        }
    }

    /// Whether these rows, or a part of them, are to be compared. What is on its way anyhow is asked for only where it is still lacking
    /// at the next comparison, so they must not follow each other too closely.
    pub(super) fn begins_comparison(&mut self, last: bool, now: Time) -> bool {
        let compares =
            self.comparing || self.compared.is_none_or(|at| now.since(at) >= COMPARE_EVERY);
        if compares {
            self.compared = Some(now);
        }
        self.comparing = compares && !last;
        compares
    }

    /// It asks. Of this node's own log only the cursor goes back.
    pub(super) fn answer(&mut self, log: Log, want: Want, me: &Replica) {
        if log.0 == *me && !want.whole {
            let cursor = &mut self.cursors[log.1];
            *cursor = Some(cursor.map_or(want.from, |cursor| cursor.min(want.from)));
        } else {
            self.answers.insert(log, want);
        }
    }

    pub(super) fn put_ready(&mut self, frame: Frame) {
        if self.ready.len() < READY_MAX {
            self.ready.push_back(codec::encode(frame));
        }
    }

    pub(super) fn hand(&mut self, ticket: u64, entries: Vec<Handed>) {
        self.handing = Some(Handing { ticket, entries: entries.into() });
    }

    /// How many of one handing have been taken over so far.
    pub(super) fn taken_over(&mut self, ticket: u64, count: u64) -> u64 {
        if self.taken.0 != ticket {
            self.taken = (ticket, 0);
        }
        self.taken.1 += count;
        self.taken.1
    }

    /// Appends what comes next until about `bytes_max`, if this is the link that speaks. True: ask again soon, even if it was nothing.
    pub(super) fn fill(
        &mut self,
        link: (Direction, LinkEpoch),
        shards: &Shards,
        now: Time,
        bytes_max: usize,
        out: &mut Vec<Bytes>,
    ) -> bool {
        if self.active() != Some(link) {
            return false;
        }
        let mut put = Put { out, bytes: 0, bytes_max };
        while let Some(frame) = self.ready.pop_front() {
            if put.is_full_after(frame) {
                return false;
            }
        }
        if std::mem::take(&mut self.rows_wanted_due) {
            put.frame(Frame::RowsWanted);
        }
        if std::mem::take(&mut self.rows_due) {
            self.rows_sent = Some(now);
            put_rows(shards, &mut put);
        }
        while let Some(((_, shard), want)) = self.wants.pop_first() {
            put.frame(Frame::Wanted { shard, want });
        }
        self.put_own(shards, now, &mut put);
        self.put_handing(&mut put);
        self.put_answers(shards, now, &mut put)
    }

    /// This node's own operations, shard by shard.
    fn put_own(&mut self, shards: &Shards, now: Time, put: &mut Put<'_>) {
        let me = shards.me();
        let first = self.turn;
        let mut oldest: Option<Time> = None;
        for step in 0..SHARDS {
            let shard = (first + step) % SHARDS;
            while let Some(cursor) = self.cursors[shard]
                && cursor < shards.own_counter(shard)
                && !self.is_answering(&me, shard)
            {
                if put.is_full() {
                    self.turn = shard;
                    return;
                }
                let (sent, since) = match next_own(shards, &me, shard, cursor, now) {
                    Next::Interval(sent, since) => (sent, since),
                    Next::Whole => {
                        let want = Want { replica: me.clone(), from: 0, whole: true };
                        self.answers.insert((me.clone(), shard), want);
                        break;
                    }
                    Next::Nothing => break,
                };
                self.cursors[shard] = Some(sent.to);
                oldest = [oldest, since].into_iter().flatten().min();
                put.bytes(sent.bytes);
            }
        }
        self.put_mark(oldest, now, put);
    }

    /// Now and then, to know how long operations take to the peer.
    fn put_mark(&mut self, oldest: Option<Time>, now: Time, put: &mut Put<'_>) {
        let due = self.last_mark.is_none_or(|at| now.since(at) >= MARK_EVERY);
        if let (Some(since), true) = (oldest, due) {
            self.marks += 1;
            self.mark = Some((self.marks, since));
            self.last_mark = Some(now);
            put.frame(Frame::Mark { ticket: self.marks });
        }
    }

    fn is_answering(&self, replica: &Replica, shard: usize) -> bool {
        let is_it = |log: &Log| log.1 == shard && log.0 == *replica;
        self.transfer.as_ref().is_some_and(|transfer| is_it(&transfer.log))
            || self.answers.keys().any(is_it)
    }

    fn put_handing(&mut self, put: &mut Put<'_>) {
        while let Some(handing) = &mut self.handing {
            if put.is_full() {
                return;
            }
            let count = handing.entries.len().min(HANDED_A_FRAME);
            let entries = handing.entries.drain(..count).collect();
            let (ticket, last) = (handing.ticket, handing.entries.is_empty());
            if last {
                self.handing = None;
            }
            put.frame(Frame::Adopt { ticket, entries, last });
        }
    }

    /// What was asked for; one part of a whole at least, so that intervals do not keep it back for ever. True: more of a whole is to be
    /// read before there is anything to say.
    fn put_answers(&mut self, shards: &Shards, now: Time, put: &mut Put<'_>) -> bool {
        if self.transfer.is_some() && self.go_on(shards, now, put) {
            return true;
        }
        while !put.is_full() {
            if self.transfer.is_some() {
                if self.go_on(shards, now, put) {
                    return true;
                }
                continue;
            }
            let Some((log, want)) = self.answers.pop_first() else { return false };
            let (replica, shard) = log;
            let answer = {
                let guard = shards.lock(shard);
                let whole = want.whole || !guard.tracker.reaches(&replica, want.from);
                let most = INTERVAL_ENTRIES_MAX;
                (!whole).then(|| guard.tracker.interval(&replica, want.from, most, now))
            };
            match answer {
                None | Some(Answer::Whole(_)) => {
                    self.transfer = Some(Transfer::new((replica, shard)));
                }
                Some(Answer::UpToDate | Answer::Unknown) => {}
                Some(Answer::Interval(delta)) => {
                    // Whether there is more is seen when it is asked for.
                    if delta.to > want.from {
                        let rest = Want { from: delta.to, ..want };
                        self.answers.insert((replica, shard), rest);
                    }
                    put.frame(Frame::Delta { shard, delta });
                }
            }
        }
        false
    }

    /// A piece of the whole is read, or a part of it sent. True: there is more to read.
    fn go_on(&mut self, shards: &Shards, now: Time, put: &mut Put<'_>) -> bool {
        let Some(transfer) = &mut self.transfer else { return false };
        let step = transfer.go_on(shards, now);
        let (replica, shard) = &transfer.log;
        match step {
            Step::Reads => return true,
            Step::Read { to } => {
                if *replica == shards.me() {
                    self.cursors[*shard] = Some(to);
                }
            }
            Step::Part { delta, is_last } => {
                put.frame(Frame::Delta { shard: *shard, delta });
                if is_last {
                    self.transfer = None;
                }
            }
            Step::Nothing => self.transfer = None,
        }
        false
    }
}

enum Next {
    /// And since when its oldest operation has been waiting.
    Interval(Sent, Option<Time>),
    Whole,
    Nothing,
}

fn next_own(shards: &Shards, me: &Replica, shard: usize, cursor: u64, now: Time) -> Next {
    let (delta, since) = {
        let guard = shards.lock(shard);
        if !guard.tracker.reaches(me, cursor) {
            return Next::Whole;
        }
        let since = guard.waiting_since(cursor);
        if let Some(sent) = guard.sent.as_ref().filter(|sent| sent.from == cursor) {
            return Next::Interval(sent.clone(), since);
        }
        match guard.tracker.interval(me, cursor, INTERVAL_ENTRIES_MAX, now) {
            Answer::Interval(delta) => (delta, since),
            Answer::Whole(_) => return Next::Whole,
            Answer::UpToDate | Answer::Unknown => return Next::Nothing,
        }
    };
    let to = delta.to;
    // Encoded with no lock held.
    let bytes = codec::encode(Frame::Delta { shard, delta });
    let sent = Sent { from: cursor, to, bytes };
    let mut guard = shards.lock(shard);
    if guard.tracker.me() == me {
        guard.sent = Some(sent.clone());
    }
    Next::Interval(sent, since)
}

fn put_rows(shards: &Shards, put: &mut Put<'_>) {
    let mut rows: Vec<(usize, Row)> = Vec::new();
    for shard in 0..SHARDS {
        let of_shard = shards.lock(shard).tracker.rows();
        rows.extend(of_shard.into_iter().map(|row| (shard, row)));
    }
    loop {
        let rest = rows.split_off(rows.len().min(ROWS_A_FRAME));
        let last = rest.is_empty();
        put.frame(Frame::Rows { rows, last });
        if last {
            return;
        }
        rows = rest;
    }
}

struct Put<'a> {
    out: &'a mut Vec<Bytes>,
    bytes: usize,
    bytes_max: usize,
}

impl Put<'_> {
    fn bytes(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.out.push(frame);
    }

    fn frame(&mut self, frame: Frame) {
        self.bytes(codec::encode(frame));
    }

    fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    fn is_full_after(&mut self, frame: Bytes) -> bool {
        self.bytes(frame);
        self.is_full()
    }
}
