//! The tiny world gone through exhaustively: from each of a few scenes, every order of every step up to a depth, by stateright's checker.
//!
//! The default depths are what a debug build does in some seconds. `WAXWING_DEPTH=4 cargo test --release --lib exhaustive -- --nocapture`
//! goes deeper, and prints how many states there were.

use std::fmt;
use std::hash::{Hash, Hasher};

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::super::Plant;
use super::tiny::{NODES, Step, Tiny};

/// From how many states it is tried whether all come to agree; a whole ending for each would cost ten times the search.
const AGREEING: u64 = 20;

/// Steps that could be taken without end, and how often each kind may be, beyond those of the scene.
fn budget(step: Step) -> Option<(usize, u8)> {
    match step {
        Step::Attach { .. } => Some((0, 3)),
        Step::Stale { .. } => Some((1, 1)),
        Step::Crash { .. } => Some((2, 1)),
        Step::Forget { .. } => Some((3, 1)),
        Step::Drain { .. } => Some((4, 1)),
        Step::Pass => Some((5, 2)),
        Step::Down { .. } => Some((6, 1)),
        Step::PullWhole { .. } => Some((7, 1)),
        _ => None,
    }
}

const BUDGETS: usize = 8;

/// How it begins: what has been done when the search starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    Nothing,
    /// One session at a, known to all.
    Settled,
    /// It has moved to b, and nobody has heard.
    Moved,
    /// It has moved to b and back to a; c has heard of b's part only.
    ThereAndBack,
    /// Both sessions have it, at a and b, and neither node has heard of the other.
    Twice,
    /// Another session took it over at b; a knows, c doesn't.
    TakenOver,
    /// a hands over to b and stops; c has not heard.
    Drained,
    /// a has died and is back; what it said last, only b has heard.
    Crashed,
    /// As that, and c has forgotten the dead one.
    Forgotten,
}

const SCENES: [Scene; 9] = [
    Scene::Nothing,
    Scene::Settled,
    Scene::Moved,
    Scene::ThereAndBack,
    Scene::Twice,
    Scene::TakenOver,
    Scene::Drained,
    Scene::Crashed,
    Scene::Forgotten,
];

impl Scene {
    /// A session that goes back and forth is what the rules of owning are about.
    fn depth(self) -> usize {
        if matches!(self, Self::Moved | Self::ThereAndBack) { 3 } else { 2 }
    }

    fn steps(self) -> Vec<Step> {
        let attach = |session, node| Step::Attach { session, node };
        let pull = |to, from, of| Step::Pull { to, from, of };
        let all_know = |of: usize| {
            let others = (0..NODES).filter(move |to| *to != of);
            others.map(move |to| pull(to, of, of)).collect::<Vec<_>>()
        };
        let settled = [vec![attach(0, 0)], all_know(0)].concat();
        let more = match self {
            Self::Nothing => return Vec::new(),
            Self::Settled => vec![],
            Self::Moved => vec![attach(0, 1)],
            Self::ThereAndBack => vec![attach(0, 1), pull(2, 1, 1), pull(0, 1, 1), attach(0, 0)],
            Self::Twice => return vec![attach(0, 0), attach(1, 1)],
            Self::TakenOver => vec![attach(1, 1), pull(0, 1, 1)],
            Self::Drained => vec![Step::Drain { from: 0, to: 1 }],
            Self::Crashed => vec![attach(1, 0), pull(1, 0, 0), Step::Crash { node: 0 }],
            Self::Forgotten => {
                vec![attach(1, 0), pull(1, 0, 0), Step::Crash { node: 0 }, Step::Forget { at: 2 }]
            }
        };
        [settled, more].concat()
    }
}

#[derive(Clone)]
struct State {
    tiny: Tiny,
    spent: [u8; BUDGETS],
    /// Not among what tells states apart: the search comes to each the shortest way first.
    depth: usize,
    wrong: Option<String>,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hash: &mut H) {
        (&self.tiny, self.spent, &self.wrong).hash(hash);
    }
}

impl State {
    fn print(&self) -> u64 {
        let mut hash = std::hash::DefaultHasher::new();
        self.hash(&mut hash);
        hash.finish()
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.print() == other.print()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.wrong.as_deref().unwrap_or("fine"), self.tiny.brief())
    }
}

struct World {
    scene: Scene,
    depth: usize,
    plant: Option<Plant>,
}

impl World {
    fn agrees(&self, state: &State) -> bool {
        state.wrong.is_some()
            || !state.print().is_multiple_of(AGREEING)
            || state.tiny.clone().agree().is_ok()
    }
}

const NOTHING_WRONG: &str = "nobody sees it leave without reason, and nothing forgotten comes back";
const AGREE: &str = "once all is delivered, all agree";

impl Model for World {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut tiny = Tiny::new(self.plant);
        let mut wrong = None;
        for step in self.scene.steps() {
            wrong = wrong.or(tiny.step(step).err());
        }
        vec![State { tiny, spent: [0; BUDGETS], depth: 0, wrong }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        if state.depth == self.depth || state.wrong.is_some() {
            return;
        }
        let affordable =
            |step: &Step| budget(*step).is_none_or(|(of, most)| state.spent[of] < most);
        let changes = |step: &Step| match step {
            Step::Up { at, node } => !state.tiny.is_up(*at, *node),
            _ => true,
        };
        let choices = state.tiny.choices().into_iter();
        actions.extend(choices.filter(affordable).filter(changes));
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        next.depth += 1;
        if let Some((of, _)) = budget(step) {
            next.spent[of] += 1;
        }
        next.wrong = next.tiny.step(step).err();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NOTHING_WRONG, |_, state: &State| state.wrong.is_none()),
            Property::always(AGREE, Self::agrees),
        ]
    }
}

#[test]
fn every_order_of_steps_is_harmless() {
    let asked = std::env::var("WAXWING_DEPTH").map(|depth| depth.parse().unwrap()).ok();
    let mut states = 0;
    for scene in SCENES {
        let depth = asked.unwrap_or_else(|| scene.depth());
        let checker = World { scene, depth, plant: None }.checker().spawn_bfs().join();
        states += checker.unique_state_count();
        println!(
            "{scene:?}: {} states by {} steps, depth {}",
            checker.unique_state_count(),
            checker.state_count(),
            checker.max_depth() - 1
        );
        checker.assert_properties();
    }
    println!("{states} states");
    assert!(states > 1_000, "the world was too small to prove anything: {states} states");
}

/// Bugs near enough to one of the scenes are found by going through everything, too.
#[test]
fn planted_bugs_are_found() {
    for (plant, scene, depth) in
        [(Plant::NoBecause, Scene::Moved, 2), (Plant::ForgottenTaken, Scene::Forgotten, 3)]
    {
        let world = World { scene, depth, plant: Some(plant) };
        let checker = world.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let found = checker.discovery(NOTHING_WRONG);
        let path = found.unwrap_or_else(|| panic!("{plant:?} was not found")).into_actions();
        println!("{plant:?}: {} states, then {path:?}", checker.unique_state_count());
    }
}
