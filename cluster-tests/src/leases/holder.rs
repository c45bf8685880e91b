//! A client that wants leases, holds them for a while as it likes, and counts for itself how long it has them.

use std::time::Duration;

use bytes::Bytes;
use waxwing::types::Time;
use waxwing::wire::v1::Hello;

use super::Shared;
use super::caller::{Answer, Caller, Proof};
use crate::chance::Chance;
use crate::client::Client;

const TTLS_MS: [u64; 4] = [1_000, 1_000, 1_500, 3_000];
/// Shorter and longer than a TTL.
const LINGERS_MS: [u64; 3] = [0, 500, 5_000];
/// An acquisition without an answer is tried so often, as the same owner.
const TRIES: usize = 3;
const MOMENT: Duration = Duration::from_millis(200);
const ATTACHED_WITHIN: Duration = Duration::from_secs(2);

pub(super) fn lease(number: usize) -> String {
    format!("lease:{number}")
}

pub(super) async fn run(shared: Shared, number: usize, mut chance: Chance) {
    let mut caller = Caller::new(&shared, format!("client{number}"));
    let mut turn = 0;
    while !shared.is_over() {
        turn += 1;
        let who = format!("{number}.{turn}");
        if chance.one_in(4) {
            let who = format!("session {who}");
            let mut session = Session { who, node: 0, attachment: 0, client: None };
            session.turn(&shared, &mut caller, &mut chance).await;
        } else {
            let owner = [chance.draw().to_le_bytes(), chance.draw().to_le_bytes()].concat();
            let proof = Proof { holder: who, owner: owner.into(), session: Bytes::new() };
            let mut holding = Holding::new(&shared, proof, &mut chance);
            if holding.acquire(&mut caller, None, &mut chance).await {
                holding.hold(&mut caller, &mut chance).await;
                holding.leave(&mut caller, &mut chance).await;
            } else {
                tokio::time::sleep(chance.ms(10..150)).await;
            }
        }
    }
}

/// Whoever comes first, or last, when nobody else is there.
pub(super) async fn have_once(
    shared: &Shared,
    node: usize,
    name: usize,
    who: &str,
) -> Result<(), String> {
    let mut caller = Caller::new(shared, who.to_owned());
    let lease = lease(name);
    let call = shared.call_id();
    // No other's: an owner is known by its bytes.
    let owner: Vec<u8> = [call.to_le_bytes(), u64::MAX.to_le_bytes()].concat();
    let proof =
        Proof { holder: format!("{who}{call}"), owner: owner.into(), session: Bytes::new() };
    let ttl = Duration::from_secs(1);
    match caller.acquire(node, &lease, ttl, Duration::ZERO, &proof).await {
        Answer::Yes { token, .. } => {
            caller.release(node, &lease, token, &proof).await;
            Ok(())
        }
        other => Err(format!("{lease} is not to be had: {other:?}")),
    }
}

struct Holding<'a> {
    shared: &'a Shared,
    proof: Proof,
    lease: String,
    ttl: Duration,
    token: u64,
    /// By its own count.
    until: Time,
}

impl<'a> Holding<'a> {
    fn new(shared: &'a Shared, proof: Proof, chance: &mut Chance) -> Self {
        let lease = lease(chance.below(shared.names));
        let ttl = Duration::from_millis(*chance.pick(&TTLS_MS));
        Self { shared, proof, lease, ttl, token: 0, until: Time::ZERO }
    }

    fn anywhere(&self, chance: &mut Chance) -> usize {
        chance.below(self.shared.addresses.len())
    }

    fn took(&mut self, answer: Answer) -> bool {
        if let Answer::Yes { token, sent } = answer {
            self.token = token;
            self.until = self.until.max(sent + self.ttl);
        }
        matches!(answer, Answer::Yes { .. })
    }

    /// `at`: the one node that can do it.
    async fn acquire(
        &mut self,
        caller: &mut Caller,
        at: Option<usize>,
        chance: &mut Chance,
    ) -> bool {
        for _ in 0..TRIES {
            if !self.shared.take() {
                return false;
            }
            let node = at.unwrap_or_else(|| self.anywhere(chance));
            let wait = if chance.one_in(3) { chance.ms(100..1_500) } else { Duration::ZERO };
            let answer = caller.acquire(node, &self.lease, self.ttl, wait, &self.proof).await;
            match answer {
                Answer::Unknown => tokio::time::sleep(chance.ms(10..100)).await,
                answer => return self.took(answer),
            }
        }
        false
    }

    async fn hold(&mut self, caller: &mut Caller, chance: &mut Chance) {
        for _ in 0..chance.within(1..8) {
            caller.write(&self.lease, self.token, self.until, &self.proof);
            if chance.one_in(10) {
                // It is late, as one that was stopped; what it says then must be refused or be true.
                let late = self.ttl.mul_f64(0.5 + chance.below(100) as f64 / 80.0);
                tokio::time::sleep(late).await;
            } else {
                tokio::time::sleep(chance.ms(10..200)).await;
            }
            if !self.shared.take() {
                return;
            }
            let node = self.anywhere(chance);
            let answer = caller.renew(node, &self.lease, self.ttl, self.token, &self.proof).await;
            match answer {
                Answer::No if self.until <= self.shared.recorder.clock().now() => return,
                answer => {
                    self.took(answer);
                }
            }
        }
    }

    async fn leave(&mut self, caller: &mut Caller, chance: &mut Chance) {
        if chance.one_in(4) || !self.shared.take() {
            return;
        }
        let node = self.anywhere(chance);
        caller.release(node, &self.lease, self.token, &self.proof).await;
    }
}

/// Leases of a session, which breaks off, comes back elsewhere, and ends.
struct Session {
    who: String,
    node: usize,
    attachment: u32,
    client: Option<Client>,
}

impl Session {
    async fn turn(&mut self, shared: &Shared, caller: &mut Caller, chance: &mut Chance) {
        let linger = Duration::from_millis(*chance.pick(&LINGERS_MS));
        let linger = prost_types::Duration::try_from(linger).ok();
        self.node = chance.below(shared.addresses.len());
        self.attach(shared, Hello { linger, ..Hello::default() }).await;
        let Some(client) = &self.client else {
            tokio::time::sleep(chance.ms(50..300)).await;
            return;
        };
        let proof = Proof {
            holder: self.who.clone(),
            owner: Bytes::new(),
            session: client.welcome.resume_token.clone(),
        };
        let mut holding = Holding::new(shared, proof.clone(), chance);
        if holding.acquire(caller, Some(self.node), chance).await {
            for _ in 0..chance.within(1..4) {
                holding.hold(caller, chance).await;
                if chance.one_in(2) {
                    self.come_back(shared, linger, chance).await;
                }
            }
        }
        match self.client.take() {
            Some(mut client) if chance.one_in(2) => {
                if holding.token != 0 {
                    caller.ends(&holding.lease, holding.token, &proof);
                }
                let bye = async {
                    client.bye(false).await?;
                    client.read_to_end().await
                };
                // Whoever doesn't answer has lost it.
                let _ = tokio::time::timeout(MOMENT, bye).await;
            }
            _ => {}
        }
    }

    /// Breaks off, and resumes on another node.
    async fn come_back(
        &mut self,
        shared: &Shared,
        linger: Option<prost_types::Duration>,
        chance: &mut Chance,
    ) {
        let Some(old) = self.client.take() else { return };
        let hello = Hello { linger, ..old.resume_hello(false) };
        drop(old);
        tokio::time::sleep(chance.ms(1..200)).await;
        self.node = chance.below(shared.addresses.len());
        self.attachment += 1;
        self.attach(shared, hello).await;
    }

    async fn attach(&mut self, shared: &Shared, hello: Hello) {
        let address = &shared.addresses[self.node];
        // What else it is told is for other judges.
        let deaf = shared.recorder.deaf();
        let attaching = Client::attach(address, &self.who, self.attachment, hello, &deaf);
        let attached = tokio::time::timeout(ATTACHED_WITHIN, attaching).await;
        self.client = attached.ok().and_then(Result::ok);
    }
}
