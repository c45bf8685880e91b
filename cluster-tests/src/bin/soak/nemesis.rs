//! Random faults, several at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cluster_tests::chance::Chance;
use cluster_tests::history::Recorder;
use tokio::task::JoinSet;

use crate::place::{NODES, Place};

/// On average a fault begins so often.
const EVERY_MS: usize = 3_000;

#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    pub(crate) by_kind: BTreeMap<&'static str, u64>,
    pub(crate) overlapping: u64,
    pub(crate) detections: Vec<Duration>,
}

pub(crate) struct Nemesis {
    place: Arc<Place>,
    recorder: Recorder,
    chance: Chance,
    running: JoinSet<Ended>,
    /// Nodes and pairs that have a fault; they get no second one.
    busy: BTreeSet<Target>,
    tally: Tally,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Node(usize),
    Pair(usize, usize),
}

struct Ended {
    target: Target,
    detected: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Stop,
    Cut,
    OneWay,
    HalfOpen,
    Delay(Duration),
    Hold,
    BadDatagrams(u64),
}

impl Fault {
    const fn kind(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Cut => "cut",
            Self::OneWay => "one-way cut",
            Self::HalfOpen => "half-open",
            Self::Delay(_) => "delay",
            Self::Hold => "hold",
            Self::BadDatagrams(_) => "bad datagrams",
        }
    }
}

impl Nemesis {
    pub(crate) fn new(place: Arc<Place>, recorder: Recorder, chance: Chance) -> Self {
        let tally = Tally::default();
        Self { place, recorder, chance, running: JoinSet::new(), busy: BTreeSet::new(), tally }
    }

    pub(crate) async fn run(&mut self, length: Duration) {
        let clock = self.recorder.clock();
        let start = clock.now();
        while clock.now().since(start) < length {
            tokio::time::sleep(self.chance.ms(EVERY_MS / 4..EVERY_MS * 7 / 4)).await;
            while let Some(Ok(ended)) = self.running.try_join_next() {
                self.ended(&ended);
            }
            self.begin();
        }
    }

    /// Waits for what still runs, and ends everything.
    pub(crate) async fn heal(&mut self) {
        while let Some(ended) = self.running.join_next().await {
            self.ended(&ended.expect("a fault ends"));
        }
        self.place.heal_all();
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    fn ended(&mut self, ended: &Ended) {
        self.busy.remove(&ended.target);
        self.tally.detections.extend(ended.detected);
    }

    fn begin(&mut self) {
        let a = self.chance.below(NODES);
        let b = (a + self.chance.within(1..NODES)) % NODES;
        let direct = self.place.proxies(a, b).is_none();
        let mut lasts = if self.chance.one_in(3) {
            self.chance.ms(2_500..9_000)
        } else {
            self.chance.ms(50..1_500)
        };
        let fault = match (self.chance.below(10), direct) {
            (0 | 1, _) => Fault::Kill,
            (2 | 3, _) => Fault::Stop,
            (4..=7, true) => Fault::OneWay,
            (_, true) | (4, false) => Fault::Cut,
            (5, false) => Fault::HalfOpen,
            (6, false) => Fault::Delay(self.chance.ms(10..400)),
            (7 | 8, false) => Fault::Hold,
            (_, false) => Fault::BadDatagrams(self.chance.draw()),
        };
        if matches!(fault, Fault::Hold) {
            // Long enough for the window to be outrun.
            lasts = self.chance.ms(2_000..9_000);
        }
        let target = match fault {
            Fault::Kill | Fault::Stop => Target::Node(a),
            _ => Target::Pair(a.min(b), a.max(b)),
        };
        // A majority that runs shows that the rest goes on.
        let nodes = self.busy.iter().filter(|busy| matches!(busy, Target::Node(_))).count();
        if self.busy.contains(&target) || (matches!(target, Target::Node(_)) && nodes >= 2) {
            return;
        }
        self.tally.overlapping += u64::from(!self.busy.is_empty());
        *self.tally.by_kind.entry(fault.kind()).or_default() += 1;
        self.busy.insert(target);
        let (place, recorder) = (self.place.clone(), self.recorder.clone());
        self.running.spawn(async move {
            let what = format!("{} {a} {b}", fault.kind());
            let name = |node: usize| place.cluster().node(node).name.clone();
            let nodes = match target {
                Target::Node(a) => vec![name(a)],
                Target::Pair(a, b) => vec![name(a), name(b)],
            };
            let death = matches!(fault, Fault::Kill);
            recorder.fault_of(&what, true, nodes.clone(), death);
            let detected = perform(&place, fault, a, b, lasts, &recorder).await;
            recorder.fault_of(&what, false, nodes, death);
            Ended { target, detected }
        });
    }
}

/// How long it took until all others had noticed, for a kill that lasted.
async fn perform(
    place: &Place,
    fault: Fault,
    a: usize,
    b: usize,
    lasts: Duration,
    recorder: &Recorder,
) -> Option<Duration> {
    let cluster = place.cluster();
    let mut detected = None;
    match (fault, place.proxies(a, b), place.lab()) {
        (Fault::Kill, ..) => {
            cluster.kill9(a);
            detected = detection(place, a, lasts, recorder).await;
            cluster.restart(a);
        }
        (Fault::Stop, ..) => {
            cluster.sigstop(a);
            tokio::time::sleep(lasts).await;
            cluster.sigcont(a);
        }
        (Fault::OneWay, None, Some(lab)) => {
            lab.cut_one_way(a, b).expect("ip cuts");
            tokio::time::sleep(lasts).await;
            lab.heal_one_way(a, b).expect("ip heals");
        }
        (_, None, Some(lab)) => {
            lab.cut_one_way(a, b).expect("ip cuts");
            lab.cut_one_way(b, a).expect("ip cuts");
            tokio::time::sleep(lasts).await;
            lab.heal_one_way(a, b).expect("ip heals");
            lab.heal_one_way(b, a).expect("ip heals");
        }
        (fault, Some(proxies), _) => {
            for proxy in proxies {
                match fault {
                    Fault::HalfOpen => proxy.half_open(),
                    Fault::Delay(delay) => proxy.delay(delay),
                    Fault::Hold => proxy.hold(),
                    Fault::BadDatagrams(seed) => {
                        proxy.datagram_loss(0.3, seed);
                        proxy.datagram_duplication(0.2, seed);
                        proxy.datagram_reordering(0.3, seed);
                    }
                    _ => proxy.cut(),
                }
            }
            tokio::time::sleep(lasts).await;
            proxies.iter().for_each(|proxy| {
                if matches!(fault, Fault::Hold) {
                    proxy.release();
                }
                proxy.heal();
            });
        }
        (_, None, None) => {}
    }
    detected
}

/// Until no node that answers lists it as ready, at most `lasts`, which it takes at least.
async fn detection(
    place: &Place,
    dead: usize,
    lasts: Duration,
    recorder: &Recorder,
) -> Option<Duration> {
    const LOOK: Duration = Duration::from_millis(50);
    let clock = recorder.clock();
    let start = clock.now();
    let name = place.cluster().node(dead).name.clone();
    let mut detected = None;
    while clock.now().since(start) < lasts {
        if detected.is_none() {
            let (mut seen, mut answers) = (false, 0);
            for node in place.cluster().nodes().iter().filter(|node| node.name != name) {
                if let Ok(Ok(status)) = tokio::time::timeout(LOOK * 4, node.status()).await {
                    answers += 1;
                    seen |= status.ready().contains(&name);
                }
            }
            if !seen && answers > 0 {
                detected = Some(clock.now().since(start));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    detected
}
