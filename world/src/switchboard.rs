//! What turmoil's network lacks: connections that break at once, datagrams that are lost or come twice, and the knowledge of who is
//! cut off from whom. The nemesis works it; the sockets ask it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};

use cluster_tests::chance::Chance;

/// Cheap to clone; clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Switchboard(Arc<Mutex<Board>>);

#[derive(Debug)]
struct Board {
    chance: Chance,
    /// Nothing gets from the first to the second.
    apart: BTreeSet<(IpAddr, IpAddr)>,
    lines: Vec<Weak<Line>>,
    loss_percent: usize,
    twice_percent: usize,
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Line {
    near: IpAddr,
    far: IpAddr,
    state: Mutex<LineState>,
}

#[derive(Debug, Default)]
struct LineState {
    broken: bool,
    /// Nothing comes any more, not even the end.
    deaf: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What becomes of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Lost,
    Once,
    Twice,
}

/// What a connection's end reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    Whatever,
    Nothing,
    Broken,
}

impl Switchboard {
    pub(crate) fn new(chance: Chance) -> Self {
        Self(Arc::new(Mutex::new(Board {
            chance,
            apart: BTreeSet::new(),
            lines: Vec::new(),
            loss_percent: 0,
            twice_percent: 0,
        })))
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn line(&self, near: IpAddr, far: IpAddr) -> Arc<Line> {
        let line = Arc::new(Line { near, far, state: Mutex::default() });
        let mut board = self.board();
        board.lines.retain(|line| line.strong_count() > 0);
        board.lines.push(Arc::downgrade(&line));
        line
    }

    /// Breaks every connection between the two, as a reset does. How many ends that were.
    pub(crate) fn cut(&self, a: IpAddr, b: IpAddr) -> usize {
        let lines: Vec<_> = self.board().lines.iter().filter_map(Weak::upgrade).collect();
        let between =
            |line: &&Arc<Line>| (line.near, line.far) == (a, b) || (line.near, line.far) == (b, a);
        lines.iter().filter(between).map(|line| line.cut()).count()
    }

    /// Breaks what one has of its connections with the other, which is not told.
    pub(crate) fn half_open(&self, one: IpAddr, other: IpAddr) {
        let lines: Vec<_> = self.board().lines.iter().filter_map(Weak::upgrade).collect();
        // First: or it would see the end of what breaks.
        for line in lines.iter().filter(|line| (line.near, line.far) == (other, one)) {
            line.state().deaf = true;
        }
        for line in lines.iter().filter(|line| (line.near, line.far) == (one, other)) {
            line.cut();
        }
    }

    pub(crate) fn set_apart(&self, from: IpAddr, to: IpAddr, apart: bool) {
        let mut board = self.board();
        if apart {
            board.apart.insert((from, to));
        } else {
            board.apart.remove(&(from, to));
        }
    }

    /// Either way.
    pub(crate) fn is_apart(&self, a: IpAddr, b: IpAddr) -> bool {
        let board = self.board();
        board.apart.contains(&(a, b)) || board.apart.contains(&(b, a))
    }

    pub(crate) fn set_datagrams(&self, loss_percent: usize, twice_percent: usize) {
        let mut board = self.board();
        (board.loss_percent, board.twice_percent) = (loss_percent, twice_percent);
    }

    pub(crate) fn fate(&self) -> Fate {
        let mut board = self.board();
        let (loss, twice) = (board.loss_percent, board.twice_percent);
        let drawn = board.chance.below(100);
        if drawn < loss {
            Fate::Lost
        } else if drawn < loss + twice {
            Fate::Twice
        } else {
            Fate::Once
        }
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self) {
        let wakers = {
            let mut state = self.state();
            state.broken = true;
            [state.reader.take(), state.writer.take()]
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Whether there may be something to read. Keeps the reader's waker while it is whole.
    pub(crate) fn reads(&self, cx: &Context<'_>) -> Reads {
        let mut state = self.state();
        state.reader = Some(cx.waker().clone());
        match (state.broken, state.deaf) {
            (true, _) => Reads::Broken,
            (false, true) => Reads::Nothing,
            (false, false) => Reads::Whatever,
        }
    }

    pub(crate) fn writes(&self, cx: &Context<'_>) -> bool {
        let mut state = self.state();
        state.writer = Some(cx.waker().clone());
        !state.broken
    }
}
