//! The world: nodes, clients, faults, and the order in which things happen.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use waxwing::presence::{Answer, Change, Diff, Plant, Tracker};
use waxwing::types::{
    ClusterName, Incarnation, Namespace, NodeName, Replica, Time, Topic, TopicHasher,
};

use crate::chance::Chance;
use crate::clients::{Client, Name, Truth, Wish, holders, track, untrack};
use crate::judge::{self, Watcher};
use crate::network::{Event, Healing, Message, Network};

const NAMES: usize = 10;
const TURN: u64 = 40;
const COMPARE: u64 = 250;
const BEAT: u64 = 100;
const DETECT: u64 = 1_000;
/// Faults and clients' doings end.
const QUIET: u64 = 16_000;
/// What was left over from the turmoil has ended.
const CALM: u64 = QUIET + 5_000;
/// Everybody must agree.
const END: u64 = CALM + 9_000;

#[derive(Debug)]
struct Node {
    tracker: Option<Tracker>,
    incarnation: u64,
    since: u64,
    heard: BTreeMap<Replica, u64>,
    down: BTreeMap<Replica, u64>,
    /// How far each replica has been told of this node's log.
    told: BTreeMap<Replica, u64>,
    /// Sessions that were attached here: the epoch, and whether they still are.
    table: BTreeMap<usize, (u64, bool)>,
    watcher: Watcher,
    forgets_after: u64,
    draining: bool,
}

#[derive(Debug)]
pub(crate) struct World {
    now: u64,
    chance: Chance,
    network: Network,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    truths: Vec<Truth>,
    topic: Topic,
    plant: Option<Plant>,
    incarnations: u64,
    cut_at: u64,
    /// Nobody gives anything up and everybody comes back in time, so nothing at all may leave where all are connected.
    steady: bool,
    /// Nothing is ever cut, so everybody is always connected to whoever lives.
    uncut: bool,
    /// What happened how often, so that a world in which nothing happens is noticed.
    met: BTreeMap<&'static str, u64>,
    verbose: bool,
}

fn node_name(at: usize) -> NodeName {
    NodeName::parse(["a", "b", "c", "d", "e"][at]).unwrap()
}

impl World {
    pub(crate) fn new(seed: u64, plant: Option<Plant>) -> Self {
        let mut chance = Chance::new(seed);
        let count = chance.between(3, 4) as usize;
        let hasher = TopicHasher::new(&ClusterName::parse("sim").unwrap());
        let topic = hasher.topic(&Namespace::default(), "room", 100).unwrap();
        let steady = chance.percent(50);
        let uncut = chance.percent(50);
        let lingers = if steady {
            [1_500, 2_000, 2_000, 3_000, 3_000]
        } else {
            [0, 1_500, 2_000, 2_000, 3_000]
        };
        let clients = lingers.iter().enumerate().map(|(at, linger)| Client::new(at, *linger));
        let mut world = Self {
            now: 1_000,
            network: Network::new(count),
            nodes: Vec::new(),
            clients: clients.collect(),
            truths: vec![Truth::default(); NAMES],
            topic,
            plant,
            incarnations: 0,
            cut_at: 0,
            steady,
            uncut,
            met: BTreeMap::new(),
            verbose: std::env::var("SEED").is_ok(),
            chance: chance.clone(),
        };
        for at in 0..count {
            let forgets_after = chance.between(2_500, 9_000);
            world.nodes.push(Node {
                tracker: None,
                incarnation: 0,
                since: 0,
                heard: BTreeMap::new(),
                down: BTreeMap::new(),
                told: BTreeMap::new(),
                table: BTreeMap::new(),
                watcher: Watcher::default(),
                forgets_after,
                draining: false,
            });
            world.start(at);
            world.network.at(world.now + at as u64, Event::Turn(at));
            world.network.at(world.now + 7 * at as u64, Event::Compare(at));
        }
        world.network.at(world.now + 500, Event::Act);
        world.network.at(world.now + 2_000, Event::Fault);
        world
    }

    fn meet(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            println!("{:>6} {}", self.now, what());
        }
    }

    fn alive(&self) -> BTreeSet<usize> {
        (0..self.nodes.len()).filter(|at| self.nodes[*at].tracker.is_some()).collect()
    }

    fn others(&self, at: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|other| *other != at).collect()
    }

    fn start(&mut self, at: usize) {
        self.incarnations += 1;
        let incarnation = self.incarnations;
        let me = Replica { name: node_name(at), incarnation: Incarnation(incarnation) };
        self.say(|| format!("start {me}"));
        let node = &mut self.nodes[at];
        node.tracker = Some(Tracker::planted(me, self.plant));
        (node.incarnation, node.since, node.draining) = (incarnation, self.now, false);
        node.heard.clear();
        node.down.clear();
        node.told.clear();
        node.table.clear();
        node.watcher = Watcher::default();
    }

    /// Lives to the end, or to the first thing that may not be.
    pub(crate) fn live(mut self) -> Result<String, String> {
        while let Some((time, event)) = self.network.next() {
            if time > END {
                break;
            }
            self.now = self.now.max(time);
            let quiet = self.now >= QUIET;
            match event {
                Event::Deliver { from, to, message } => self.deliver(from, to, message)?,
                Event::Turn(at) => {
                    self.turn(at)?;
                    self.network.at(self.now + TURN, Event::Turn(at));
                }
                Event::Compare(at) => {
                    self.compare(at);
                    self.network.at(self.now + COMPARE, Event::Compare(at));
                }
                Event::Act if quiet && self.now < CALM => {
                    self.faults_end();
                    self.network.at(CALM, Event::Act);
                }
                Event::Act if quiet => self.last_wishes()?,
                Event::Act => {
                    self.act()?;
                    let pause = self.chance.between(20, 250);
                    self.network.at(self.now + pause, Event::Act);
                }
                Event::Fault => {
                    if !quiet {
                        self.fault()?;
                        let pause = self.chance.between(300, 2_500);
                        self.network.at(self.now + pause, Event::Fault);
                    }
                }
                Event::Heal(Healing::Cut(from, to)) => self.cut(from, to, false),
                Event::Heal(Healing::Restart(at)) => {
                    if self.nodes[at].tracker.is_none() {
                        self.start(at);
                    }
                }
                Event::Linger { node, incarnation, session, epoch } => {
                    self.linger_ends(node, incarnation, session, epoch)?;
                }
                Event::Return { session, epoch } => {
                    if !quiet && self.clients[session].epoch == epoch {
                        self.resume(session, None, true)?;
                    }
                }
                Event::Stop { node, incarnation } => {
                    if self.nodes[node].incarnation == incarnation && self.nodes[node].draining {
                        self.crash(node);
                    }
                }
            }
        }
        self.agree()
    }

    /// Does something at a node, and judges all that it tells.
    fn at<R>(
        &mut self,
        at: usize,
        act: impl FnOnce(&mut Tracker, Time, &mut Diff) -> R,
    ) -> Result<Option<R>, String> {
        let now = Time::from_millis(self.now);
        let Some(tracker) = &mut self.nodes[at].tracker else { return Ok(None) };
        let mut diff = Diff::new();
        let result = act(tracker, now, &mut diff);
        while tracker.next_deadline().is_some_and(|due| due <= now) {
            tracker.tick(now, &mut diff);
        }
        if !diff.is_empty() {
            tracker.check()?;
        }
        for change in diff.0 {
            self.judge(at, &change)?;
        }
        Ok(Some(result))
    }

    fn judge(&mut self, at: usize, change: &Change) -> Result<(), String> {
        let shown = change.after.as_ref().or(change.before.as_ref()).ok_or("nothing changed")?;
        let name = crate::clients::name(shown.key(), shown.id());
        self.say(|| {
            let what = match (&change.before, &change.after) {
                (None, _) => "joins",
                (_, None) => "leaves",
                _ => "is updated",
            };
            format!("  {} sees {name} ({}@{}) {what}", node_name(at), shown.session(), shown.node())
        });
        let node = &mut self.nodes[at];
        let who = node_name(at);
        node.watcher.told(change).map_err(|wrong| format!("{} ms, {who}: {wrong}", self.now))?;
        let truth = &self.truths[name];
        let since = self.nodes[at].since;
        let now = self.now;
        if change.after.is_none() {
            let alive = self.alive();
            let held = !holders(&self.clients, &alive, now, name).is_empty();
            let lapsed = |client: &Client| {
                client.wishes.contains_key(&name)
                    && client.node.is_none_or(|node| !alive.contains(&node))
                    && now >= client.broken_at + client.linger / 2
            };
            let connected =
                |node: usize, since: u64| node == at || self.network.whole_since(at, node, since);
            if held
                && !self.clients.iter().any(lapsed)
                && judge::false_leave(truth, now, since, connected)
            {
                return Err(format!("{now} ms: {name} leaves at {who}, and is there"));
            }
        } else if change.before.is_none() {
            let wished = self.clients.iter().any(|client| client.wishes.contains_key(&name));
            if !wished && judge::ghost(truth, now, self.cut_at) {
                return Err(format!("{now} ms: {name} comes back at {who}, long after it went"));
            }
        }
        Ok(())
    }

    fn deliver(&mut self, from: usize, to: usize, message: Message) -> Result<(), String> {
        let source = node_name(from);
        match message {
            Message::Beat(replica) => {
                let up = self.at(to, |node, now, diff| node.replica_up(&replica, now, diff))?;
                let node = &mut self.nodes[to];
                match up {
                    Some(true) => {
                        node.heard
                            .retain(|other, _| other.name != replica.name || *other == replica);
                        node.down.remove(&replica);
                        node.heard.insert(replica, self.now);
                    }
                    Some(false) => {
                        let newest = node.heard.keys().any(|other| other.name == replica.name);
                        if !newest {
                            let message = Message::Forgotten(replica);
                            self.network.send(self.now, &mut self.chance, to, from, message);
                        }
                    }
                    None => (),
                }
            }
            Message::Forgotten(replica) => {
                if self.nodes[to].incarnation == replica.incarnation.0
                    && self.nodes[to].tracker.is_some()
                {
                    self.meet("reincarnations");
                    self.incarnations += 1;
                    let me = Replica { incarnation: Incarnation(self.incarnations), ..replica };
                    self.say(|| format!("{me} reincarnates"));
                    self.nodes[to].incarnation = self.incarnations;
                    self.nodes[to].told.clear();
                    let before = self.nodes[to].watcher.clone();
                    self.at(to, |node, now, diff| node.reincarnate(&me, now, diff))?;
                    if self.nodes[to].watcher.list != before.list {
                        return Err(format!("{} ms: reincarnating changed the list", self.now));
                    }
                }
            }
            Message::Delta(delta) => {
                if matches!(delta.kind, waxwing::presence::Kind::Whole { last: true, .. }) {
                    self.meet("wholes");
                }
                let merged =
                    self.at(to, |node, now, diff| node.merge(&source, delta, now, diff))?;
                match merged {
                    Some(Err(waxwing::presence::MergeError::Gap { .. })) => self.meet("gaps"),
                    Some(Ok(_)) => {
                        let waiting = |tracker: &Tracker| tracker.report().waiting > 0;
                        if self.nodes[to].tracker.as_ref().is_some_and(waiting) {
                            self.meet("waits");
                        }
                    }
                    _ => (),
                }
            }
            Message::Rows(rows) => {
                let wants = self.at(to, |node, now, _| node.wants(&rows, &source, now))?;
                if let Some(wants) = wants.filter(|wants| !wants.is_empty()) {
                    self.meet("repairs");
                    if let Some(want) = wants.iter().find(|want| want.whole) {
                        // Old rows may come late, so in the turmoil this may happen.
                        self.meet("digests");
                        if self.now > CALM {
                            let of = &want.replica;
                            return Err(format!("{} ms: the digests of {of} differ", self.now));
                        }
                    }
                    self.network.send(self.now, &mut self.chance, to, from, Message::Wants(wants));
                }
            }
            Message::Wants(wants) => {
                let now = Time::from_millis(self.now);
                for want in wants {
                    let mut have = want.from;
                    for _ in 0..4 {
                        let Some(tracker) = &self.nodes[to].tracker else { break };
                        let answer = if want.whole {
                            tracker.whole(&want.replica, now)
                        } else {
                            tracker.interval(&want.replica, have, 6, now)
                        };
                        match answer {
                            Answer::Interval(delta) => {
                                have = delta.to;
                                let message = Message::Delta(delta);
                                self.network.send(self.now, &mut self.chance, to, from, message);
                            }
                            Answer::Whole(delta) => {
                                self.send_whole(to, from, delta);
                                break;
                            }
                            Answer::UpToDate | Answer::Unknown => break,
                        }
                    }
                }
            }
            Message::Moved(session, epoch) => {
                let number = usize::from(session.0[0]) - 1;
                let moved = match self.nodes[to].table.get_mut(&number) {
                    Some((known, here)) if *known < epoch => {
                        *here = false;
                        true
                    }
                    _ => false,
                };
                if moved {
                    self.nodes[to].table.remove(&number);
                    self.at(to, |node, now, _| node.moved(session, epoch, now))?;
                }
            }
            Message::Adopt(handed) => {
                self.at(to, |node, now, diff| node.adopt(handed, now, diff))?;
            }
        }
        Ok(())
    }

    fn send_whole(&mut self, from: usize, to: usize, delta: waxwing::presence::Delta) {
        let delay = 1 + self.chance.below(self.network.delay_max);
        for part in delta.into_parts(400) {
            if !self.network.cut[from][to] && !self.chance.percent(self.network.loss_percent) {
                let message = Message::Delta(part);
                self.network.at(self.now + delay, Event::Deliver { from, to, message });
            }
        }
    }

    /// Beats, detection, deadlines, and the news of this node's own log.
    fn turn(&mut self, at: usize) -> Result<(), String> {
        let Some(tracker) = &self.nodes[at].tracker else { return Ok(()) };
        let me = tracker.me().clone();
        if self.now / BEAT != (self.now - TURN) / BEAT {
            for other in self.others(at) {
                self.network.send(self.now, &mut self.chance, at, other, Message::Beat(me.clone()));
            }
        }
        let node = &mut self.nodes[at];
        let silent: Vec<Replica> = node
            .heard
            .iter()
            .filter(|(replica, heard)| {
                self.now - **heard > DETECT && !node.down.contains_key(replica)
            })
            .map(|(replica, _)| replica.clone())
            .collect();
        for replica in silent {
            self.nodes[at].down.insert(replica.clone(), self.now);
            self.say(|| format!("{} holds {replica} for down", node_name(at)));
            self.at(at, |node, now, diff| node.replica_down(&replica, now, now, diff))?;
        }
        let node = &mut self.nodes[at];
        let known = node.down.iter().filter(|(_, since)| self.now - **since > node.forgets_after);
        let forgotten: Vec<Replica> = known.map(|(replica, _)| replica.clone()).collect();
        for replica in forgotten {
            self.nodes[at].down.remove(&replica);
            self.nodes[at].heard.remove(&replica);
            self.nodes[at].told.remove(&replica);
            self.meet("forgotten");
            self.say(|| format!("{} forgets {replica}", node_name(at)));
            self.at(at, |node, now, diff| node.forget(&replica, now, diff))?;
        }
        self.at(at, |_, _, _| ())?;

        let now = Time::from_millis(self.now);
        let node = &self.nodes[at];
        let up = node.heard.keys().filter(|replica| !node.down.contains_key(replica));
        for replica in up.cloned().collect::<Vec<_>>() {
            let to = self.index(&replica);
            let node = &mut self.nodes[at];
            let told = node.told.entry(replica).or_insert(0);
            let Some(tracker) = &node.tracker else { break };
            match tracker.interval(&me, *told, 6, now) {
                Answer::Interval(delta) => {
                    *told = delta.to;
                    self.network.send(self.now, &mut self.chance, at, to, Message::Delta(delta));
                }
                Answer::Whole(delta) => {
                    *told = delta.to;
                    self.send_whole(at, to, delta);
                }
                Answer::UpToDate | Answer::Unknown => (),
            }
        }
        Ok(())
    }

    fn index(&self, replica: &Replica) -> usize {
        (0..self.nodes.len()).find(|at| node_name(*at) == replica.name).unwrap()
    }

    fn compare(&mut self, at: usize) {
        let node = &self.nodes[at];
        let Some(tracker) = &node.tracker else { return };
        let rows = tracker.rows();
        let up = node.heard.keys().filter(|replica| !node.down.contains_key(replica));
        for to in up.map(|replica| self.index(replica)).collect::<Vec<_>>() {
            let message = Message::Rows(rows.clone());
            self.network.send(self.now, &mut self.chance, at, to, message);
        }
    }

    fn cut(&mut self, from: usize, to: usize, cut: bool) {
        self.cut_at = self.now;
        self.say(|| {
            format!("{} {} -> {}", if cut { "cut" } else { "heal" }, node_name(from), node_name(to))
        });
        self.network.set_cut(self.now, from, to, cut);
    }

    fn fault(&mut self) -> Result<(), String> {
        let count = self.nodes.len();
        let one = self.chance.below(count as u64) as usize;
        let other = (one + 1 + self.chance.below(count as u64 - 1) as usize) % count;
        let time = self.chance.between(200, 6_000);
        let until = self.now + time;
        match self.chance.below(10) {
            kind @ (0..=2) if !self.uncut => {
                self.meet("cuts");
                let mut cuts = vec![(one, other)];
                if kind > 0 {
                    cuts.push((other, one));
                }
                if kind > 1 {
                    cuts = self
                        .others(one)
                        .into_iter()
                        .flat_map(|to| [(one, to), (to, one)])
                        .collect();
                }
                for (from, to) in cuts {
                    self.cut(from, to, true);
                    self.network.at(until, Event::Heal(Healing::Cut(from, to)));
                }
            }
            3..=4 if self.alive().len() > 1 && self.nodes[one].tracker.is_some() => {
                self.meet("crashes");
                self.crash(one);
                let time = self.chance.between(100, 5_000);
                self.network.at(self.now + time, Event::Heal(Healing::Restart(one)));
            }
            5 if self.alive().len() > 1 => self.drain(one)?,
            0..=2 | 6..=7 => self.network.loss_percent = self.chance.below(25),
            _ => self.network.loss_percent = 0,
        }
        Ok(())
    }

    fn crash(&mut self, at: usize) {
        self.say(|| format!("{} stops", node_name(at)));
        self.nodes[at].tracker = None;
        for session in 0..self.clients.len() {
            if self.clients[session].node == Some(at) {
                self.breaks(session);
            }
        }
        let restart = self.now + self.chance.between(100, 4_000);
        self.network.at(restart, Event::Heal(Healing::Restart(at)));
    }

    fn drain(&mut self, at: usize) -> Result<(), String> {
        let peers: Vec<usize> = self.alive().into_iter().filter(|other| *other != at).collect();
        let Some(peer) = self.chance.pick(&peers) else { return Ok(()) };
        if self.nodes[at].tracker.is_none() || self.nodes[at].draining {
            return Ok(());
        }
        self.meet("drains");
        self.say(|| format!("{} drains to {}", node_name(at), node_name(peer)));
        self.nodes[at].draining = true;
        let handed =
            self.at(at, |node, now, _| node.hand_over(&HashMap::new(), now))?.unwrap_or_default();
        for session in 0..self.clients.len() {
            if self.clients[session].node == Some(at) {
                self.breaks(session);
                let names: Vec<Name> = self.clients[session].wishes.keys().copied().collect();
                for name in names {
                    self.truths[name].nodes.insert(peer, self.now + judge::SETTLED);
                }
            }
        }
        // Handing over is answered and repeated until it is: it is not lost.
        let message = Message::Adopt(handed);
        self.network.at(self.now + 5, Event::Deliver { from: at, to: peer, message });
        let incarnation = self.nodes[at].incarnation;
        self.network.at(self.now + 1_000, Event::Stop { node: at, incarnation });
        Ok(())
    }

    /// An attachment breaks; its client comes back, mostly in time.
    fn breaks(&mut self, session: usize) {
        let client = &mut self.clients[session];
        let Some(at) = client.node.take() else { return };
        client.broken_at = self.now;
        let (epoch, linger) = (client.epoch, client.linger);
        for name in client.wishes.keys() {
            self.truths[*name].nodes.insert(at, self.now + linger + 2_000);
        }
        let pause = if self.steady || self.chance.percent(75) {
            self.chance.below(linger / 2 + 1)
        } else {
            linger + self.chance.below(3_000)
        };
        self.network.at(self.now + pause, Event::Return { session, epoch });
        self.lingers_at(at, session, epoch, linger);
    }

    fn lingers_at(&mut self, node: usize, session: usize, epoch: u64, linger: u64) {
        let incarnation = self.nodes[node].incarnation;
        if let Some((known, here)) = self.nodes[node].table.get_mut(&session)
            && *known == epoch
        {
            *here = false;
            let event = Event::Linger { node, incarnation, session, epoch };
            self.network.at(self.now + linger, event);
        }
    }

    fn linger_ends(
        &mut self,
        node: usize,
        _: u64,
        session: usize,
        epoch: u64,
    ) -> Result<(), String> {
        // Of the same life of the node: a restart cleared the table.
        if self.nodes[node].table.get(&session) != Some(&(epoch, false)) {
            return Ok(());
        }
        self.nodes[node].table.remove(&session);
        let id = self.clients[session].session;
        self.say(|| format!("{}: session {session} ends", node_name(node)));
        self.at(node, |node, now, diff| node.ended(id, now, diff))?;
        Ok(())
    }

    /// The client attaches to a node and tracks all it wants again.
    fn resume(&mut self, session: usize, to: Option<usize>, tells: bool) -> Result<(), String> {
        let alive: Vec<usize> =
            self.alive().into_iter().filter(|at| !self.nodes[*at].draining).collect();
        let Some(at) = to.or_else(|| self.chance.pick(&alive)) else {
            let epoch = self.clients[session].epoch;
            self.network.at(self.now + 100, Event::Return { session, epoch });
            return Ok(());
        };
        let old = self.clients[session].node;
        let client = &mut self.clients[session];
        let late = match client.node {
            None => self.now >= client.broken_at + client.linger / 2,
            // Without a linger it goes as soon as its attachment does.
            Some(_) => client.linger == 0,
        };
        let (old_epoch, linger) = (client.epoch, client.linger);
        client.epoch += 1;
        client.node = Some(at);
        let given_up = client.given_up.clone();
        let (owner, names) = (client.owner(), client.wishes.keys().copied().collect::<Vec<_>>());
        let epoch = client.epoch;
        self.say(|| format!("session {session} attaches to {} at epoch {epoch}", node_name(at)));
        if let Some(old) = old.filter(|old| *old != at) {
            self.meet("moves");
            for name in &names {
                self.truths[*name].nodes.insert(old, self.now + linger + 2_000);
            }
            // The old node notices sooner or later.
            let notices = if tells { 0 } else { self.chance.below(2_000) };
            self.lingers_at(old, session, old_epoch, linger + notices);
        }
        for name in &names {
            self.truths[*name].nodes.insert(at, u64::MAX);
            if late {
                self.truths[*name].dropped_at = self.now;
                self.truths[*name].held_since = Some(self.now);
            }
        }
        self.nodes[at].table.insert(session, (epoch, true));
        self.at(at, |node, now, diff| node.attached(&owner, now, diff))?;
        for name in given_up {
            let request = untrack(&self.topic, name, None);
            self.at(at, |node, now, diff| node.untrack(owner.session, &request, now, diff))?;
        }
        if tells {
            for other in self.others(at) {
                let message = Message::Moved(owner.session, epoch);
                self.network.send(self.now, &mut self.chance, at, other, message);
            }
        }
        for name in names {
            self.track(session, name)?;
        }
        Ok(())
    }

    fn track(&mut self, session: usize, name: Name) -> Result<(), String> {
        let Some(at) = self.clients[session].node else { return Ok(()) };
        let alive = self.alive();
        if !alive.contains(&at) {
            return Ok(());
        }
        if holders(&self.clients, &alive, self.now, name).is_empty() {
            self.truths[name].held_since = Some(self.now);
        }
        for other in (0..self.clients.len()).filter(|other| *other != session) {
            if let Some(wish) = self.clients[other].wishes.get_mut(&name)
                && !wish.lost
            {
                wish.lost = true;
                *self.met.entry("takeovers").or_default() += 1;
            }
        }
        let client = &mut self.clients[session];
        let owner = client.owner();
        let Some(wish) = client.wishes.get_mut(&name) else { return Ok(()) };
        wish.lost = false;
        client.given_up.remove(&name);
        let request = track(&self.topic, name, wish);
        self.truths[name].nodes.insert(at, u64::MAX);
        self.say(|| format!("session {session} tracks {name} at {}", node_name(at)));
        let tracked = self.at(at, |node, now, diff| node.track(&owner, &request, now, 0, diff))?;
        match tracked {
            // Moved: a later attachment is known there already.
            Some(Ok(_) | Err(waxwing::presence::TrackError::Moved)) => (),
            other => return Err(format!("{} ms: tracking {name}: {other:?}", self.now)),
        }
        Ok(())
    }

    /// Whoever had it: from now on a leave has its reason.
    fn dropped(&mut self, session: usize, name: Name) {
        let truth = &mut self.truths[name];
        (truth.dropped_at, truth.had_at) = (self.now, self.now);
        self.clients[session].wishes.remove(&name);
        self.clients[session].given_up.insert(name);
    }

    fn act(&mut self) -> Result<(), String> {
        let session = self.chance.below(self.clients.len() as u64) as usize;
        let Some(at) = self.clients[session].node else {
            if self.clients[session].epoch == 0 {
                return self.resume(session, None, true);
            }
            return Ok(());
        };
        let name = self.chance.below(NAMES as u64) as usize;
        let does = self.chance.below(100);
        match does {
            0..=39 => {
                let meta = self.chance.below(3);
                let wish = Wish { revision: 0, meta: 0, lost: false };
                let wish = self.clients[session].wishes.entry(name).or_insert(wish);
                (wish.revision, wish.meta) = (wish.revision + 1, meta);
                self.track(session, name)?;
            }
            40..=47 | 96.. if self.steady => {
                self.breaks(session);
            }
            40..=47 => {
                let names: Vec<Name> = self.clients[session].wishes.keys().copied().collect();
                let Some(name) = self.chance.pick(&names) else { return Ok(()) };
                let release = self.chance.percent(40).then(|| self.chance.between(1, 1_500));
                let request = untrack(&self.topic, name, release);
                let id = self.clients[session].session;
                self.dropped(session, name);
                self.say(|| format!("session {session} untracks {name} ({release:?})"));
                self.at(at, |node, now, diff| node.untrack(id, &request, now, diff))?;
            }
            48..=67 => self.resume(session, None, true)?,
            // Its old attachment doesn't hear of it.
            68..=77 => self.resume(session, None, false)?,
            78..=95 => {
                self.say(|| format!("session {session} breaks"));
                self.breaks(session);
            }
            _ => {
                let names: Vec<Name> = self.clients[session].wishes.keys().copied().collect();
                names.into_iter().for_each(|name| self.dropped(session, name));
                let id = self.clients[session].session;
                self.nodes[at].table.remove(&session);
                self.say(|| format!("session {session} closes"));
                self.at(at, |node, now, diff| node.ended(id, now, diff))?;
                self.clients[session].node = None;
                self.clients[session].broken_at = self.now;
                let epoch = self.clients[session].epoch;
                let event = Event::Return { session, epoch };
                self.network.at(self.now + 300, event);
            }
        }
        Ok(())
    }

    fn faults_end(&mut self) {
        self.network.loss_percent = 0;
        for from in 0..self.nodes.len() {
            for to in self.others(from) {
                if self.network.cut[from][to] {
                    self.cut(from, to, false);
                }
            }
            if self.nodes[from].tracker.is_none() {
                self.start(from);
            }
            self.nodes[from].draining = false;
        }
    }

    /// Every client says once more what it wants.
    fn last_wishes(&mut self) -> Result<(), String> {
        for session in 0..self.clients.len() {
            self.resume(session, None, true)?;
        }
        Ok(())
    }

    /// P6: all list the same, and what the clients want.
    fn agree(mut self) -> Result<String, String> {
        let wanted: BTreeSet<Name> =
            self.clients.iter().flat_map(|client| client.wishes.keys().copied()).collect();
        let first = self.nodes[0].watcher.list.clone();
        let names: BTreeSet<Name> = first.keys().copied().collect();
        if names != wanted {
            return Err(format!("at the end there are {names:?}, and wanted are {wanted:?}"));
        }
        for at in 0..self.nodes.len() {
            if self.nodes[at].watcher.list != first {
                return Err(format!(
                    "at the end {} lists {:?}, and a lists {first:?}",
                    node_name(at),
                    self.nodes[at].watcher.list
                ));
            }
            let Some(tracker) = &self.nodes[at].tracker else {
                return Err("at the end a node was not there".to_owned());
            };
            tracker.check()?;
            let snapshot = tracker.snapshot(&self.topic);
            let listed: BTreeMap<Name, _> = snapshot
                .iter()
                .map(|shown| (crate::clients::name(shown.key(), shown.id()), shown.reference()))
                .collect();
            if listed != first {
                return Err(format!("at the end {} told what it doesn't list", node_name(at)));
            }
            if tracker.report().waiting > 0 {
                return Err(format!("at the end something waits at {}", node_name(at)));
            }
        }
        self.meet("worlds");
        let met = self.met.iter().map(|(what, times)| format!("{what}={times}"));
        Ok(met.collect::<Vec<_>>().join(" "))
    }
}
