//! The table against a model that only knows lists, and several tables against each other.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{AttachmentId, CloseReason, Hello, Input, OVERLAP, Output, Sessions};
use crate::router::{SessionKnown, SessionMoved};
use crate::types::{Namespace, SessionId, Time};
use std::time::Duration;

fn session(n: u8) -> SessionId {
    SessionId([n; 16])
}

fn ended_at(n: u8, epoch: u64) -> Output {
    Output::Ended { session: session(n), epoch, said: true }
}

/// One session, told as a person would: plain fields, no index, nothing shared with the table.
#[derive(Debug, Clone, Default)]
struct Told {
    epoch: u64,
    linger_ms: u64,
    current: Option<u64>,
    older: Option<(u64, Time)>,
    lingers_until: Option<Time>,
}

#[derive(Debug, Clone, Copy)]
enum Lives {
    Here,
    /// Only an older attachment is left here.
    Elsewhere,
}

impl Told {
    fn lives(&self) -> Lives {
        let here = self.current.is_some() || self.lingers_until.is_some();
        if here { Lives::Here } else { Lives::Elsewhere }
    }
}

#[derive(Debug, Default)]
struct Model {
    sessions: BTreeMap<u8, Told>,
}

impl Model {
    fn attached(&self) -> usize {
        let of =
            |told: &Told| usize::from(told.current.is_some()) + usize::from(told.older.is_some());
        self.sessions.values().map(of).sum()
    }

    fn hello(&mut self, id: u8, attachment: u64, epoch: u64, overlap: bool, ms: u64, now: Time) {
        let told = self.sessions.entry(id).or_default();
        match (overlap, told.current) {
            (true, Some(current)) => told.older = Some((current, now + OVERLAP)),
            (true, None) => {}
            (false, _) => told.older = None,
        }
        told.epoch = told.epoch.max(epoch) + 1;
        told.current = Some(attachment);
        told.lingers_until = None;
        told.linger_ms = ms;
    }

    fn lost(&mut self, attachment: u64, now: Time) {
        for told in self.sessions.values_mut() {
            if told.older.is_some_and(|(older, _)| older == attachment) {
                told.older = None;
            }
            if told.current == Some(attachment) {
                told.current = None;
                told.lingers_until = Some(now + Duration::from_millis(told.linger_ms));
            }
        }
        self.sessions.retain(|_, told| {
            let over = told.lingers_until.is_some() && told.linger_ms == 0;
            !over && Self::is_somewhere(told)
        });
    }

    fn bye(&mut self, attachment: u64, keep: bool, now: Time) {
        if keep {
            return self.lost(attachment, now);
        }
        self.sessions.retain(|_, told| told.current != Some(attachment));
        self.lost(attachment, now);
    }

    fn moved(&mut self, id: u8, epoch: u64, overlap: bool, ended: bool, now: Time) {
        let Some(told) = self.sessions.get_mut(&id) else { return };
        if ended && epoch >= told.epoch {
            self.sessions.remove(&id);
        } else if !ended && epoch > told.epoch {
            told.epoch = epoch;
            told.lingers_until = None;
            match (overlap, told.current.take()) {
                (true, Some(current)) => told.older = Some((current, now + OVERLAP)),
                (true, None) => {}
                (false, _) => told.older = None,
            }
            self.sessions.retain(|_, told| Self::is_somewhere(told));
        }
    }

    fn pass(&mut self, now: Time) {
        for told in self.sessions.values_mut() {
            told.older = told.older.filter(|(_, until)| now < *until);
        }
        self.sessions.retain(|_, told| {
            told.lingers_until.is_none_or(|until| now < until) && Self::is_somewhere(told)
        });
    }

    fn is_somewhere(told: &Told) -> bool {
        told.current.is_some() || told.older.is_some() || told.lingers_until.is_some()
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Hello { id: u8, epoch: u64, overlap: bool, ms: u64 },
    Lost(u8),
    Bye(u8, bool),
    Moved { id: u8, epoch: u64, overlap: bool, ended: bool },
    Kill(u8),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..3_u8;
    prop_oneof![
        4 => (id.clone(), 0..6_u64, any::<bool>(), prop_oneof![Just(0), Just(3_000), Just(20_000)])
            .prop_map(|(id, epoch, overlap, ms)| Step::Hello { id, epoch, overlap, ms }),
        2 => any::<u8>().prop_map(Step::Lost),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(n, keep)| Step::Bye(n, keep)),
        2 => (id.clone(), 0..12_u64, any::<bool>(), any::<bool>())
            .prop_map(|(id, epoch, overlap, ended)| Step::Moved { id, epoch, overlap, ended }),
        1 => id.prop_map(Step::Kill),
        3 => prop_oneof![Just(1_000), Just(5_000), Just(12_000)].prop_map(Step::Pass),
    ]
}

/// Which attachments the outputs leave open, kept by a shell that does what it is told.
#[derive(Debug, Default)]
struct Shell {
    open: Vec<AttachmentId>,
    receive_only: Vec<AttachmentId>,
}

impl Shell {
    fn obey(&mut self, outputs: &[Output]) {
        for output in outputs {
            match output {
                Output::Close { attachment, .. } => {
                    let at = self.open.iter().position(|open| open == attachment);
                    self.open.remove(at.expect("only what is open is closed, and once"));
                }
                Output::ReceiveOnly(attachment) => self.receive_only.push(*attachment),
                _ => {}
            }
        }
    }
}

fn check(steps: &[Step]) {
    let (mut table, mut model, mut shell) =
        (Sessions::default(), Model::default(), Shell::default());
    let mut now = Time::from_millis(1);
    let mut next = 0_u64;
    for step in steps {
        let was: [Option<Lives>; 3] =
            std::array::from_fn(|id| model.sessions.get(&(id as u8)).map(Told::lives));
        let pick = |shell: &Shell, n: u8| {
            (!shell.open.is_empty()).then(|| shell.open[usize::from(n) % shell.open.len()])
        };
        let input = match *step {
            Step::Hello { id, epoch, overlap, ms } => {
                next += 1;
                model.hello(id, next, epoch, overlap, ms, now);
                shell.open.push(AttachmentId(next));
                Input::Hello(Hello {
                    session: session(id),
                    namespace: Namespace::default(),
                    attachment: AttachmentId(next),
                    epoch,
                    linger: Duration::from_millis(ms),
                    overlap,
                    fresh: false,
                })
            }
            Step::Lost(n) => {
                let Some(attachment) = pick(&shell, n) else { continue };
                shell.open.retain(|open| *open != attachment);
                model.lost(attachment.0, now);
                Input::Lost { attachment }
            }
            Step::Bye(n, keep_session) => {
                let Some(attachment) = pick(&shell, n) else { continue };
                shell.open.retain(|open| *open != attachment);
                model.bye(attachment.0, keep_session, now);
                Input::Bye { attachment, keep_session }
            }
            Step::Moved { id, epoch, overlap, ended } => {
                model.moved(id, epoch, overlap, ended, now);
                Input::Moved(SessionMoved { session: session(id), epoch, overlap, ended })
            }
            Step::Kill(id) => {
                model.sessions.remove(&id);
                Input::Kill { session: session(id) }
            }
            Step::Pass(ms) => {
                now = now + Duration::from_millis(ms);
                model.pass(now);
                Input::Tick { lingering_max: 100 }
            }
        };
        let outputs = table.handle(input, now);
        shell.obey(&outputs);
        for id in 0..3 {
            let is = model.sessions.contains_key(&id);
            let over = match (*step, was[usize::from(id)]) {
                (Step::Kill(killed), was) if killed == id => was.is_some(),
                (Step::Moved { id: moved, ended, .. }, was) if moved == id => {
                    ended && (was.is_none() || !is)
                }
                (_, Some(Lives::Here)) => !is,
                _ => false,
            };
            let is_end = |output: &&Output| matches!(output, Output::Ended { session: ended, .. } if *ended == session(id));
            let said = outputs.iter().filter(is_end);
            assert_eq!(said.count(), usize::from(over), "{step:?}: session {id} is over");
        }
        for output in &outputs {
            if let Output::Ask { attachment, .. } = *output {
                let known = SessionKnown::default();
                let answered = Input::Answered { attachment, known, random: 0 };
                shell.obey(&table.handle(answered, now));
            }
        }

        for id in 0..3 {
            let told = model.sessions.get(&id);
            let view = table.view(session(id));
            assert_eq!(view.is_some(), told.is_some(), "{step:?}: session {id}");
            let (Some(told), Some(view)) = (told, view) else { continue };
            assert_eq!(view.epoch, told.epoch, "{step:?}: epoch of {id}");
            assert_eq!(view.attachment, told.current.map(AttachmentId), "{step:?}: current");
            assert_eq!(view.older, told.older.map(|(id, _)| AttachmentId(id)), "{step:?}: older");
            assert_eq!(view.lingering, told.lingers_until.is_some(), "{step:?}: lingering");
            if let Some(older) = view.older {
                assert!(shell.receive_only.contains(&older), "{step:?}: the older one was told");
            }
        }
        assert_eq!(table.attached(), model.attached(), "{step:?}");
        assert_eq!(shell.open.len(), model.attached(), "{step:?}: what is open");
    }
}

/// Nodes that tell and ask each other; messages between two nodes keep their order, otherwise anything may overtake anything.
struct World {
    nodes: Vec<Sessions>,
    /// From, to.
    wires: BTreeMap<(usize, usize), VecDeque<Wire>>,
    /// What is known so far, and how many answers are still to come.
    asked: BTreeMap<AttachmentId, (usize, SessionKnown, usize)>,
    closed: Vec<AttachmentId>,
    welcomed: Vec<(AttachmentId, u64)>,
}

enum Wire {
    Told(SessionMoved, Option<AttachmentId>),
    Answer(AttachmentId, SessionKnown),
}

impl World {
    fn new(nodes: usize) -> Self {
        Self {
            nodes: (0..nodes).map(|_| Sessions::default()).collect(),
            wires: BTreeMap::new(),
            asked: BTreeMap::new(),
            closed: Vec::new(),
            welcomed: Vec::new(),
        }
    }

    fn handle(&mut self, node: usize, input: Input) -> Option<SessionKnown> {
        let mut known = None;
        for output in self.nodes[node].handle(input, Time::from_millis(1)) {
            match output {
                Output::Ask { attachment, moved } => {
                    let peers = self.nodes.len() - 1;
                    self.asked.insert(attachment, (node, SessionKnown::default(), peers));
                    self.tell(node, moved, Some(attachment));
                }
                Output::Announce(moved) => self.tell(node, moved, None),
                Output::Welcome { attachment, epoch, .. } => {
                    self.welcomed.push((attachment, epoch));
                }
                Output::Close { attachment, .. } => self.closed.push(attachment),
                Output::Known(said) => known = Some(said),
                Output::ReceiveOnly(_)
                | Output::Gone(_)
                | Output::Ended { .. }
                | Output::Elsewhere { .. } => {}
            }
        }
        known
    }

    fn tell(&mut self, from: usize, moved: SessionMoved, asks: Option<AttachmentId>) {
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            self.wires.entry((from, to)).or_default().push_back(Wire::Told(moved, asks));
        }
    }

    /// False: nothing is under way.
    fn deliver(&mut self, pick: u16) -> bool {
        let ready: Vec<_> =
            self.wires.iter().filter(|(_, queue)| !queue.is_empty()).map(|(key, _)| *key).collect();
        if ready.is_empty() {
            return false;
        }
        let (from, to) = ready[usize::from(pick) % ready.len()];
        match self.wires.get_mut(&(from, to)).and_then(VecDeque::pop_front) {
            Some(Wire::Told(moved, asks)) => {
                let known = self.handle(to, Input::Moved(moved)).expect("it always answers");
                if let Some(attachment) = asks {
                    let wire = Wire::Answer(attachment, known);
                    self.wires.entry((to, from)).or_default().push_back(wire);
                }
            }
            Some(Wire::Answer(attachment, said)) => {
                let (node, known, left) = self.asked.get_mut(&attachment).expect("asked");
                known.known |= said.known;
                known.epoch = known.epoch.max(said.epoch);
                *left -= 1;
                if *left == 0 {
                    let (node, known) = (*node, *known);
                    // As a source of randomness would: the same for nobody.
                    let random = attachment.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 13;
                    self.handle(node, Input::Answered { attachment, known, random });
                }
            }
            None => {}
        }
        true
    }
}

proptest! {
    #[test]
    fn the_table_does_what_the_model_says(steps in prop::collection::vec(step(), 1..60)) {
        check(&steps);
    }

    #[test]
    fn hellos_at_once_leave_one_current_attachment(
        hellos in prop::collection::vec((0..3_usize, 0..4_u64, any::<bool>(), 0..6_u16), 1..5),
        picks in prop::collection::vec(any::<u16>(), 0..200),
    ) {
        let mut world = World::new(3);
        let mut picks = picks.into_iter().chain(std::iter::repeat(0));
        for (n, (node, epoch, overlap, deliveries)) in hellos.into_iter().enumerate() {
            world.handle(node, Input::Hello(Hello {
                session: session(1),
                namespace: Namespace::default(),
                attachment: AttachmentId(n as u64 + 1),
                epoch,
                linger: Duration::from_secs(5),
                overlap,
                fresh: false,
            }));
            for _ in 0..deliveries {
                world.deliver(picks.next().unwrap_or(0));
            }
        }
        while world.deliver(picks.next().unwrap_or(0)) {}
        let current: Vec<_> = world
            .nodes
            .iter()
            .filter_map(|node| node.view(session(1)).and_then(|view| view.attachment))
            .collect();
        prop_assert_eq!(current.len(), 1, "closed {:?}", world.closed);
        prop_assert!(world.welcomed.iter().any(|(attachment, _)| *attachment == current[0]));
    }
}

#[test]
fn a_forgotten_epoch_is_learnt_from_a_peer() {
    let mut table = Sessions::default();
    let attachment = AttachmentId(1);
    let hello = Hello {
        session: session(1),
        namespace: Namespace::default(),
        attachment,
        epoch: 0,
        linger: Duration::ZERO,
        overlap: false,
        fresh: false,
    };
    let moved = |epoch| SessionMoved { session: session(1), epoch, overlap: false, ended: false };
    let at = Time::from_millis(1);
    assert_eq!(
        table.handle(Input::Hello(hello), at),
        [Output::Ask { attachment, moved: moved(1) }]
    );
    let known = SessionKnown { known: true, epoch: 7 };
    assert_eq!(
        table.handle(Input::Answered { attachment, known, random: 5 }, at),
        [Output::Ask { attachment, moved: moved(8) }]
    );
    let known = SessionKnown { known: false, epoch: 0 };
    assert_eq!(
        table.handle(Input::Answered { attachment, known, random: 5 }, at),
        [Output::Welcome { attachment, epoch: 8, resumed: true, overlapping: false }]
    );
}

#[test]
fn lingering_sessions_are_bounded() {
    let mut table = Sessions::default();
    let other = Namespace::parse("other").unwrap();
    for n in 1..=10_u8 {
        let attachment = AttachmentId(u64::from(n));
        let hello = Hello {
            session: session(n),
            namespace: if n == 1 { other.clone() } else { Namespace::default() },
            attachment,
            epoch: 0,
            linger: Duration::from_secs(u64::from(n)),
            overlap: false,
            fresh: true,
        };
        let _ = table.handle(Input::Hello(hello), Time::ZERO);
        let _ = table.handle(Input::Lost { attachment }, Time::ZERO);
    }
    let gone = table.handle(Input::Tick { lingering_max: 4 }, Time::ZERO);
    let ended = |n| Output::Ended { session: session(n), epoch: 1, said: false };
    let gone_and_ended = |n| [Output::Gone(session(n)), ended(n)];
    // The first one would end before all of them, and is of a namespace that has no other.
    let first: Vec<_> = (2..=7).flat_map(gone_and_ended).collect();
    assert_eq!(gone, first);
    assert_eq!(table.lingering(), 4);
    let gone = table.handle(Input::Tick { lingering_max: 4 }, Time::from_millis(1_000));
    assert_eq!(gone, gone_and_ended(1));
}

#[test]
fn a_kill_closes_both_attachments_and_tells_the_peers() {
    let mut table = Sessions::default();
    for n in 1..=2 {
        let _ = table.handle(
            Input::Hello(Hello {
                session: session(1),
                namespace: Namespace::default(),
                attachment: AttachmentId(n),
                epoch: 0,
                linger: Duration::ZERO,
                overlap: true,
                fresh: n == 1,
            }),
            Time::ZERO,
        );
    }
    let why = CloseReason::Killed;
    assert_eq!(
        table.handle(Input::Kill { session: session(1) }, Time::ZERO),
        [
            Output::Close { attachment: AttachmentId(2), why },
            Output::Close { attachment: AttachmentId(1), why },
            Output::Gone(session(1)),
            ended_at(1, 2),
            Output::Announce(SessionMoved {
                session: session(1),
                epoch: 2,
                overlap: false,
                ended: true
            }),
        ]
    );
    assert_eq!(table.handle(Input::Kill { session: session(1) }, Time::ZERO), []);
}

#[test]
fn what_moved_away_is_not_over() {
    let mut table = Sessions::default();
    let hello = Hello {
        session: session(1),
        namespace: Namespace::default(),
        attachment: AttachmentId(1),
        epoch: 0,
        linger: Duration::from_secs(5),
        overlap: false,
        fresh: true,
    };
    let _ = table.handle(Input::Hello(hello), Time::ZERO);
    let tell = |table: &mut Sessions, epoch, ended| {
        let moved = SessionMoved { session: session(1), epoch, overlap: false, ended };
        let mut said = table.handle(Input::Moved(moved), Time::ZERO);
        said.retain(|output| {
            matches!(output, Output::Ended { .. } | Output::Elsewhere { .. } | Output::Gone(_))
        });
        said
    };
    let elsewhere = |epoch| Output::Elsewhere { session: session(1), epoch };
    assert_eq!(tell(&mut table, 1, false), [], "not newer than the attachment here");
    assert_eq!(tell(&mut table, 2, false), [elsewhere(2), Output::Gone(session(1))]);
    // The table has forgotten it, but presences of it may still be here.
    assert_eq!(tell(&mut table, 3, false), [elsewhere(3)]);
    assert_eq!(tell(&mut table, 3, true), [ended_at(1, 3)]);
}
