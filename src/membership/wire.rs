//! Sends and opens sealed messages on the gossip socket. What is opened is judged here and by nobody again: age, number, pieces, size.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::bucket::Buckets;
use super::envelope::{self, Control, Envelope, Kind, Piece, Sender};
use super::fragment::Reassembly;
use super::peers::Peers;
use super::rejected::{Rejected, Rejections};
use super::replay::Replay;
use super::seal::{Keyring, NONCE_LEN};
use super::seeds::Own;
use crate::net::Datagrams;
use crate::supervise::Clock;
use crate::types::{Incarnation, NodeName, Time};

/// A clock or a key that disagreed is a problem for so long after the last datagram that said so.
const SHOWN_FOR: Duration = Duration::from_secs(60);
const SKEWED_MAX: usize = 64;

pub(super) struct Wire {
    socket: Datagrams,
    clock: Clock,
    name: NodeName,
    own: Own,
    boot: u64,
    incarnation: AtomicU64,
    sequence: AtomicU64,
    messages: AtomicU32,
    message_max: usize,
    keyring: RwLock<Arc<Keyring>>,
    dial: BTreeMap<NodeName, SocketAddr>,
    /// Advertised address to override, for the members in `dial`.
    routes: Mutex<HashMap<SocketAddr, SocketAddr>>,
    intake: Mutex<Intake>,
    peers: Mutex<Peers>,
    rejections: Rejections,
}

/// What only the receiver changes.
#[derive(Debug, Default)]
struct Intake {
    buckets: Buckets,
    replay: Replay,
    reassembly: Reassembly,
    skewed: HashMap<SocketAddr, Skew>,
    unknown_key: Option<(SocketAddr, Time)>,
}

/// A sealed sender whose clock is too far from ours.
#[derive(Debug, Clone)]
pub(super) struct Skew {
    pub(super) name: NodeName,
    pub(super) ahead_ms: i64,
    at: Time,
}

/// A whole message.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) sender: Sender,
    pub(super) kind: Kind,
    pub(super) body: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct WireConfig {
    pub(super) name: NodeName,
    pub(super) own: Own,
    pub(super) boot: u64,
    pub(super) message_max: usize,
    pub(super) peers_max: usize,
    pub(super) dial: BTreeMap<NodeName, SocketAddr>,
}

impl Wire {
    pub(super) fn new(
        socket: Datagrams,
        clock: Clock,
        keyring: Keyring,
        config: WireConfig,
    ) -> Self {
        Self {
            socket,
            clock,
            name: config.name,
            own: config.own,
            boot: config.boot,
            incarnation: AtomicU64::new(0),
            sequence: AtomicU64::new(1),
            messages: AtomicU32::new(0),
            message_max: config.message_max,
            keyring: RwLock::new(Arc::new(keyring)),
            dial: config.dial,
            routes: Mutex::default(),
            intake: Mutex::default(),
            peers: Mutex::new(Peers::new(config.peers_max)),
            rejections: Rejections::default(),
        }
    }

    /// Where this node says it is.
    pub(super) const fn address(&self) -> SocketAddr {
        self.own.advertised
    }

    pub(super) fn set_incarnation(&self, incarnation: Incarnation) {
        self.incarnation.store(incarnation.0, Ordering::Release);
    }

    pub(super) fn set_keyring(&self, keyring: Keyring) {
        *self.keyring.write() = Arc::new(keyring);
    }

    pub(super) const fn peers(&self) -> &Mutex<Peers> {
        &self.peers
    }

    pub(super) const fn rejections(&self) -> &Rejections {
        &self.rejections
    }

    /// Where `dial` leads for the members that are known to be at these addresses.
    pub(super) fn set_routes<'a>(&self, members: impl Iterator<Item = (&'a NodeName, SocketAddr)>) {
        if self.dial.is_empty() {
            return;
        }
        let routes = members.filter_map(|(name, at)| Some((at, *self.dial.get(name)?))).collect();
        *self.routes.lock() = routes;
    }

    fn route(&self, to: SocketAddr) -> SocketAddr {
        self.routes.lock().get(&to).copied().unwrap_or(to)
    }

    pub(super) async fn send_control(&self, to: SocketAddr, control: &Control) {
        match control.encode() {
            Ok(body) => self.send(to, Kind::Control, &body).await,
            Err(error) => tracing::warn!(%error, "a control message could not be encoded"),
        }
    }

    /// Like UDP itself: gone or not, nobody is told. `to` is an advertised address, or a seed's. Rows of earlier runs of this node name
    /// its own address, and so may a seed: nothing is sent there.
    pub(super) async fn send(&self, to: SocketAddr, kind: Kind, body: &[u8]) {
        if self.own.is(to) {
            return;
        }
        let pieces = envelope::split(body).filter(|_| body.len() <= self.message_max);
        let Some(pieces) = pieces else {
            tracing::warn!(bytes = body.len(), "a gossip message is over its limit and not sent");
            return;
        };
        let route = self.route(to);
        let heard_ms = self.peers.lock().heard_ms(to, self.clock.now());
        let message = self.messages.fetch_add(1, Ordering::Relaxed);
        let count = u8::try_from(pieces.len()).unwrap_or(u8::MAX);
        for (index, body) in (0..count).zip(pieces) {
            let envelope = Envelope {
                sender: Sender {
                    name: self.name.clone(),
                    incarnation: Incarnation(self.incarnation.load(Ordering::Acquire)),
                    boot: self.boot,
                    address: self.own.advertised,
                },
                unix_ms: self.clock.unix_ms(),
                sequence: self.sequence.fetch_add(1, Ordering::Relaxed),
                heard_ms,
                piece: Piece { message, index, count },
                kind,
            };
            let Some(datagram) = self.seal(&envelope, body) else { return };
            if let Err(error) = self.socket.send_to(&datagram, route).await {
                tracing::debug!(%error, %route, "a gossip datagram was not sent");
            }
        }
    }

    fn seal(&self, envelope: &Envelope, body: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let keyring = self.keyring.read().clone();
        keyring.seal(nonce, &envelope.encode(body)?)
    }

    /// The length of the next datagram, and where it came from.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> std::io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(buffer).await
    }

    /// The message that this datagram completes.
    pub(super) fn open(&self, datagram: &[u8], source: SocketAddr) -> Option<Opened> {
        match self.try_open(datagram, source) {
            Ok(opened) => opened,
            Err(why) => {
                self.reject(why, source);
                None
            }
        }
    }

    /// Counts, and now and then tells.
    pub(super) fn reject(&self, why: Rejected, source: SocketAddr) {
        if self.rejections.count(why) {
            let (reason, count) = (why.as_str(), self.rejections.get(why));
            if why.is_harmless() {
                tracing::debug!(reason, %source, count, "gossip was dropped");
            } else {
                tracing::warn!(reason, %source, count, "gossip was rejected");
            }
        }
    }

    fn try_open(&self, datagram: &[u8], source: SocketAddr) -> Result<Option<Opened>, Rejected> {
        let now = self.clock.now();
        let keyring = self.keyring.read().clone();
        let mut intake = self.intake.lock();
        let sealed = keyring.inspect(datagram).inspect_err(|why| {
            if *why == Rejected::Key {
                intake.not_opened(source, now);
            }
        })?;
        if !intake.buckets.take(source, now) {
            return Err(Rejected::Rate);
        }
        // The same secret gives another cluster another key.
        let plain = keyring.open(&sealed).inspect_err(|_| intake.not_opened(source, now))?;
        let (envelope, body) = Envelope::decode(&plain)?;
        let Envelope { sender, sequence, .. } = &envelope;
        self.of_oneself(sender)?;
        if intake.replay.seen(sender.boot, *sequence) {
            return Err(Rejected::Replay);
        }
        if let Err(ahead_ms) = envelope.skew(self.clock.unix_ms()) {
            intake.skewed(sender, ahead_ms, now);
            return Err(Rejected::Clock);
        }
        intake.replay.admit(sender.boot, *sequence, now);
        // Not before: what was captured can be sent again from anywhere.
        intake.buckets.proved(source, now);
        intake.skewed.remove(&sender.address);
        intake.unknown_key.take_if(|(of, _)| *of == source);
        self.peers.lock().opened(sender, envelope.heard_ms, now);
        if let Some(over) = self.dial.get(&sender.name) {
            self.routes.lock().insert(sender.address, *over);
        }
        let size_max = self.message_max;
        let added = intake.reassembly.add(now, sender.boot, envelope.piece, body, size_max)?;
        drop(intake);
        (0..added.given_up).for_each(|_| self.reject(Rejected::Fragment, source));
        Ok(added.message.map(|body| Opened { sender: envelope.sender, kind: envelope.kind, body }))
    }

    /// A starting node of this name and address (it has no incarnation) is the one to take over, and must get its answer.
    fn of_oneself(&self, sender: &Sender) -> Result<(), Rejected> {
        let incarnation = self.incarnation.load(Ordering::Acquire);
        let here = sender.name == self.name && sender.address == self.own.advertised;
        if here && (1..incarnation).contains(&sender.incarnation.0) {
            return Err(Rejected::EarlierSelf);
        }
        if sender.boot == self.boot { Err(Rejected::Reflected) } else { Ok(()) }
    }

    /// The senders whose clocks were too far off lately.
    pub(super) fn skewed(&self) -> Vec<Skew> {
        let now = self.clock.now();
        let mut intake = self.intake.lock();
        intake.skewed.retain(|_, skew| now.since(skew.at) < SHOWN_FOR);
        intake.skewed.values().cloned().collect()
    }

    /// Where a datagram that no key opens came from lately.
    pub(super) fn unknown_key(&self) -> Option<SocketAddr> {
        let now = self.clock.now();
        let (source, at) = self.intake.lock().unknown_key?;
        (now.since(at) < SHOWN_FOR).then_some(source)
    }
}

impl Intake {
    /// One source is kept while it goes on, so that the problem's text stays.
    fn not_opened(&mut self, source: SocketAddr, now: Time) {
        let other = |(of, at): &(SocketAddr, Time)| *of != source && now.since(*at) < SHOWN_FOR;
        if !self.unknown_key.as_ref().is_some_and(other) {
            self.unknown_key = Some((source, now));
        }
    }

    fn skewed(&mut self, sender: &Sender, ahead_ms: i64, at: Time) {
        if self.skewed.len() < SKEWED_MAX || self.skewed.contains_key(&sender.address) {
            let skew = Skew { name: sender.name.clone(), ahead_ms, at };
            self.skewed.insert(sender.address, skew);
        }
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("address", &self.own.advertised).finish_non_exhaustive()
    }
}
