//! One world from its seed to its verdict.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cluster_tests::history::Recorder;
use turmoil::Sim;

use crate::clients::{self, Phase, Place, SharedStage, Stage};
use crate::host::{self, Sightings};
use crate::network::SimulatedNetwork;
use crate::plan::{Action, FAULTS_UNTIL, Mode, Plan, Step};
use crate::switchboard::Switchboard;
use crate::verdict::{self, Verdict};
use cluster_tests::chance::Chance;

const TICK: Duration = Duration::from_millis(4);
/// A detection time, and a link's silence.
const CORE_AFTER: Duration = Duration::from_secs(7);
/// A link that lost bytes is found out after so long.
const SILENCE: Duration = Duration::from_secs(4);
/// After the last fault: seen dead or alive, linked, interest exchanged.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
const PHASE_WITHIN: Duration = Duration::from_secs(20);
/// A death is noticed, then a linger ends; sessions that were given up have had as long before.
const GONE_AFTER: Duration = Duration::from_millis(6_500);
/// A change is everywhere.
const SPREAD_WITHIN: Duration = Duration::from_millis(1_200);
const CLIENTS: &str = "clients";

struct World<'a> {
    sim: Sim<'a>,
    plan: Plan,
    switchboard: Switchboard,
    stage: SharedStage,
    sightings: Sightings,
    recorder: Recorder,
    now_us: Arc<AtomicU64>,
    addresses: Vec<IpAddr>,
    /// Who is down.
    crashed: Vec<bool>,
    faults: BTreeMap<&'static str, u64>,
    violations: Vec<String>,
}

/// Runs the world of this seed, and judges it.
pub(crate) fn run(seed: u64, history: Option<&Path>) -> anyhow::Result<Verdict> {
    let mut world = World::build(seed);
    let steps = std::mem::take(&mut world.plan.steps);
    if let Err(error) = world.live(&steps) {
        world.violations.push(format!("the world ends: {error}"));
    }
    let failures = std::mem::take(&mut *world.stage.failures.borrow_mut());
    world.violations.extend(failures);
    if let Some(file) = history {
        world.recorder.write(file)?;
    }
    let simulated = world.sim.elapsed();
    Ok(verdict::of(seed, simulated, &world.recorder.history(), world.faults, world.violations))
}

impl World<'_> {
    fn build(seed: u64) -> Self {
        let plan = Plan::of(seed);
        let mut chance = Chance::new(seed ^ 0x0077_6f72_6c64);
        let mut sim = turmoil::Builder::new()
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(3_600))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(plan.latency_max)
            .tcp_capacity(4_096)
            .udp_capacity(4_096)
            .rng_seed(chance.draw())
            .build();
        let switchboard = Switchboard::new(chance.fork());
        switchboard.set_datagrams(plan.loss_percent, plan.twice_percent);
        let sightings: Sightings = Rc::new(RefCell::default());
        let addresses: Vec<IpAddr> =
            (0..plan.nodes).map(|node| sim.lookup(host::name(node))).collect();
        for node in 0..plan.nodes {
            let config = host::config(&plan, node, &addresses);
            let (switchboard, sightings) = (switchboard.clone(), sightings.clone());
            sim.host(host::name(node), move || {
                host::run(config.clone(), switchboard.clone(), sightings.clone())
            });
        }
        let now_us = Arc::new(AtomicU64::new(0));
        let recorder = Recorder::of_world(now_us.clone());
        let grpc = addresses.iter().map(|address| format!("{address}:{}", host::GRPC)).collect();
        let stage = Stage::new(&plan, grpc);
        let network =
            SimulatedNetwork { near: sim.lookup(CLIENTS), switchboard: switchboard.clone() };
        let place = Place { stage: stage.clone(), network, recorder: recorder.clone() };
        sim.client(CLIENTS, clients::run(place, chance.fork()));
        let crashed = vec![false; plan.nodes];
        Self {
            sim,
            plan,
            switchboard,
            stage,
            sightings,
            recorder,
            now_us,
            addresses,
            crashed,
            faults: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    fn live(&mut self, steps: &[Step]) -> turmoil::Result {
        let liveness = self.plan.mode == Mode::Liveness;
        // In liveness mode what began last, stays: half of the faults never end by themselves.
        let until = if liveness { FAULTS_UNTIL / 2 } else { FAULTS_UNTIL + Duration::from_secs(1) };
        for step in steps.iter().filter(|step| step.at < until) {
            self.go_on_until(step.at)?;
            self.act(&step.what);
        }
        self.go_on_until(until)?;
        if liveness {
            self.free_the_core();
            self.go_on_until(until + CORE_AFTER)?;
            self.perform(Phase::Core)?;
        }
        self.end_all_faults();
        let ended = self.sim.elapsed();
        self.stage.phase.set(Phase::Settle);
        self.settle()?;
        self.perform(Phase::Final)?;
        self.go_on_until((ended + GONE_AFTER).max(self.sim.elapsed() + SPREAD_WITHIN))?;
        self.perform(Phase::Quiet)?;
        self.stage.phase.set(Phase::Over);
        let over = self.sim.elapsed() + PHASE_WITHIN;
        while self.sim.elapsed() < over {
            if self.step()? {
                return Ok(());
            }
        }
        Err("the clients don't end".into())
    }

    fn step(&mut self) -> Result<bool, Box<dyn std::error::Error>> {
        self.now_us.store(
            u64::try_from(self.sim.elapsed().as_micros()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
        self.sim.step()
    }

    fn go_on_until(&mut self, at: Duration) -> turmoil::Result {
        while self.sim.elapsed() < at {
            self.step()?;
        }
        Ok(())
    }

    /// Clients do their part of it, or it is a violation.
    fn perform(&mut self, phase: Phase) -> turmoil::Result {
        self.stage.phase.set(phase);
        let until = self.sim.elapsed() + PHASE_WITHIN;
        while !self.stage.all_done(phase) {
            if self.sim.elapsed() > until {
                let done = self.stage.done.borrow().clone();
                self.violations.push(format!("{phase:?} is not done: {done:?}"));
                break;
            }
            self.step()?;
        }
        Ok(())
    }

    /// Every node is ready and connected with every other.
    fn settle(&mut self) -> turmoil::Result {
        let until = self.sim.elapsed() + SETTLED_WITHIN;
        self.go_on_until(self.sim.elapsed() + SILENCE)?;
        while !self.is_settled() {
            if self.sim.elapsed() > until {
                self.violations.push(format!(
                    "{SETTLED_WITHIN:?} after the last fault: {:?}",
                    self.sightings.borrow()
                ));
                break;
            }
            self.step()?;
        }
        Ok(())
    }

    fn is_settled(&self) -> bool {
        let sightings = self.sightings.borrow();
        sightings.len() == self.plan.nodes
            && sightings.values().all(|one| one.is_settled(self.plan.nodes))
    }

    fn act(&mut self, action: &Action) {
        *self.faults.entry(action.kind()).or_default() += 1;
        self.tell(action);
        let at = |node: usize| self.addresses[node];
        match *action {
            Action::Cut(a, b) => {
                self.switchboard.cut(at(a), at(b));
            }
            Action::HalfOpen(a, b) => self.switchboard.half_open(at(a), at(b)),
            Action::Part(a, b) => {
                self.apart(a, b, true);
                self.sim.partition(at(a), at(b));
            }
            Action::Join(a, b) => {
                self.apart(a, b, false);
                self.sim.repair(at(a), at(b));
            }
            Action::PartOneWay(a, b) => {
                self.switchboard.set_apart(at(a), at(b), true);
                self.sim.partition_oneway(at(a), at(b));
            }
            Action::JoinOneWay(a, b) => {
                self.switchboard.set_apart(at(a), at(b), false);
                self.sim.repair_oneway(at(a), at(b));
            }
            Action::Hold(a, b) => self.sim.hold(at(a), at(b)),
            Action::Release(a, b) => self.sim.release(at(a), at(b)),
            Action::Slow(a, b, latency) => {
                self.sim.set_link_max_message_latency(at(a), at(b), latency);
            }
            Action::Crash(node) => self.crash(node),
            Action::Restart(node) => self.restart(node),
        }
    }

    fn tell(&self, action: &Action) {
        let nodes: Vec<String> = action.nodes().into_iter().map(host::name).collect();
        let death = matches!(action, Action::Crash(_) | Action::Restart(_));
        let quick =
            matches!(action, Action::Slow(.., latency) if *latency == self.plan.latency_max);
        let begin = action.kind() != "end" && !quick;
        let what = format!("{action:?}");
        self.recorder.fault_of(&what, begin, nodes.clone(), death);
        if let Action::Cut(..) | Action::HalfOpen(..) = action {
            self.recorder.fault_of(&what, false, nodes, death);
        }
    }

    fn apart(&self, a: usize, b: usize, apart: bool) {
        self.switchboard.set_apart(self.addresses[a], self.addresses[b], apart);
        self.switchboard.set_apart(self.addresses[b], self.addresses[a], apart);
    }

    fn crash(&mut self, node: usize) {
        if !std::mem::replace(&mut self.crashed[node], true) {
            self.sightings.borrow_mut().remove(&host::name(node));
            self.sim.crash(self.addresses[node]);
        }
    }

    fn restart(&mut self, node: usize) {
        if std::mem::replace(&mut self.crashed[node], false) {
            self.sim.bounce(self.addresses[node]);
            self.recorder.fault_of("started", false, vec![host::name(node)], true);
        }
    }

    fn free_the_core(&mut self) {
        let core: Vec<usize> = self.plan.core.iter().copied().collect();
        for &a in &core {
            self.restart(a);
            core.iter().filter(|b| **b < a).for_each(|b| self.free(a, *b));
        }
    }

    fn end_all_faults(&mut self) {
        for a in 0..self.plan.nodes {
            self.restart(a);
            (0..a).for_each(|b| self.free(a, b));
        }
        self.recorder.fault("all", false);
        self.switchboard.set_datagrams(0, 0);
    }

    fn free(&mut self, a: usize, b: usize) {
        self.apart(a, b, false);
        let (a, b) = (self.addresses[a], self.addresses[b]);
        self.sim.release(a, b);
        self.sim.repair(a, b);
        self.sim.set_link_max_message_latency(a, b, self.plan.latency_max);
    }
}
