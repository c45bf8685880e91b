//! One link from its hello to its end, for either role: which frame is lawful when, and what follows from it. ● Pure.
//!
//! Nothing but the greeting is heard before both ends have proved that they know a secret. One input gives one output; what isn't
//! lawful is a `Violation`, after which the session must be dropped. What outlives a session is kept beside it: outgoing content in
//! `window`, the number that is expected in `fence`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{
    Accepted, Challenge, Frame, Hello, Nonce, PROOF_LEN, Proof, Refusal, RefusalCode,
};
use super::proof::{Keys, Transcript};
use super::sequence::Received;
use crate::types::{ClusterName, Incarnation, LinkEpoch, NodeName};

/// Positions above this are nonsense: nobody sends so much.
const POSITION_MAX: u64 = 1 << 62;

/// What this node says of itself to every peer, and asks of it.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    pub cluster: ClusterName,
    pub name: NodeName,
    pub keys: Keys,
    pub versions: RangeInclusive<u32>,
    /// Must be the same at both ends.
    pub settings: BTreeMap<String, String>,
}

/// Whom a dialer means to reach, and as whom.
#[derive(Debug, Clone)]
pub(super) struct Dial {
    pub peer: NodeName,
    /// As the membership knows it.
    pub peer_incarnation: Incarnation,
    pub own_incarnation: Incarnation,
    pub attempt: u64,
    pub nonce: Nonce,
}

#[derive(Debug)]
pub(super) struct Session {
    credentials: Arc<Credentials>,
    phase: Phase,
    received: Received,
}

#[derive(Debug)]
enum Phase {
    /// Dialer: hello sent.
    AwaitChallenge {
        dial: Dial,
        hello: Hello,
    },
    /// Dialer: proof sent.
    AwaitAccepted {
        peer: NodeName,
        epoch: LinkEpoch,
    },
    /// Acceptor: connected.
    AwaitHello {
        own: Incarnation,
        nonce: Nonce,
    },
    /// Acceptor: challenge sent.
    AwaitProof {
        hello: Hello,
        challenge: Challenge,
    },
    /// Acceptor: the peer has proved itself; the shell fences off its older epoch.
    AwaitClaim {
        peer: NodeName,
        epoch: LinkEpoch,
    },
    Up(Role),
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Dialer,
    Acceptor,
}

#[derive(Debug)]
pub(super) enum Input {
    Frame(Frame),
    /// The answer to `Output::Claim`: whether these two incarnations had an epoch before. The older epoch's reader has ended.
    Claimed(Result<bool, Refusal>),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    Send(Frame),
    /// Acceptor: may this epoch begin? Nothing is read until `Input::Claimed`.
    Claim {
        peer: NodeName,
        epoch: LinkEpoch,
    },
    Up(Up),
    Control(Bytes),
    State(Bytes),
    Content {
        items: Vec<Bytes>,
        jumped: bool,
    },
    Ping {
        sent_us: u64,
        control: Bytes,
        state: Bytes,
    },
    Pong {
        sent_us: u64,
    },
    Acknowledged {
        upto: u64,
    },
    /// Send the refusal as the last frame. `greeted`: who answered in place of the incarnation that was meant, proof given.
    Refuse {
        refusal: Refusal,
        peer: Option<NodeName>,
        greeted: Option<Incarnation>,
    },
    /// The peer's last frame.
    Refused(Refusal),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Up {
    pub peer: NodeName,
    /// The peer's.
    pub incarnation: Incarnation,
    pub epoch: LinkEpoch,
    pub had_epoch: bool,
    /// Dialer: where the acceptor is. The acceptor still has to say so, once its handler has been told (`Session::resume`).
    pub said: Option<Accepted>,
}

/// The peer broke the protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("a {got} frame while {waiting}")]
    OutOfPlace { got: &'static str, waiting: &'static str },
    #[error("content numbers from {first} on don't fit into 64 bits")]
    NumbersOverflow { first: u64 },
    #[error("position {0} is out of range")]
    Position(u64),
}

impl Session {
    /// The dialer's side, and the hello that it begins with.
    pub(super) fn dial(credentials: Arc<Credentials>, dial: Dial) -> (Self, Frame) {
        let hello = Hello {
            cluster: credentials.cluster.clone(),
            from: credentials.name.clone(),
            to: dial.peer.clone(),
            nonce: dial.nonce,
            version_min: *credentials.versions.start(),
            version_max: *credentials.versions.end(),
        };
        let phase = Phase::AwaitChallenge { dial, hello: hello.clone() };
        (Self { credentials, phase, received: Received::default() }, Frame::Hello(hello))
    }

    /// The acceptor's side. It waits for a hello.
    pub(super) fn accept(credentials: Arc<Credentials>, own: Incarnation, nonce: Nonce) -> Self {
        let phase = Phase::AwaitHello { own, nonce };
        Self { credentials, phase, received: Received::default() }
    }

    pub(super) fn handle(&mut self, input: Input) -> Result<Output, Violation> {
        let frame = match input {
            Input::Frame(Frame::Refused(refusal)) => {
                self.phase = Phase::Ended;
                return Ok(Output::Refused(refusal));
            }
            Input::Frame(frame) => frame,
            Input::Claimed(claimed) => return Ok(self.claimed(claimed)),
        };
        if let Phase::Up(role) = self.phase {
            return self.up_frame(role, frame);
        }
        match (std::mem::replace(&mut self.phase, Phase::Ended), frame) {
            (Phase::AwaitHello { own, nonce }, Frame::Hello(hello)) => {
                Ok(self.hello(own, nonce, hello))
            }
            (Phase::AwaitChallenge { dial, hello }, Frame::Challenge(challenge)) => {
                Ok(self.challenge(&dial, &hello, &challenge))
            }
            (Phase::AwaitProof { hello, challenge }, Frame::Proof(proof)) => {
                Ok(self.proof(&hello, &challenge, &proof))
            }
            (Phase::AwaitAccepted { peer, epoch }, Frame::Accepted(accepted)) => {
                self.accepted(peer, epoch, accepted)
            }
            (phase, frame) => {
                let (got, waiting) = (frame.kind(), phase.waiting());
                Err(Violation::OutOfPlace { got, waiting })
            }
        }
    }

    /// Acceptor, before the first content: goes on where the older epoch ended.
    pub(super) const fn resume(&mut self, received: Received) {
        self.received = received;
    }

    /// What number of content comes next.
    pub(super) const fn received(&self) -> Received {
        self.received
    }

    fn hello(&mut self, own: Incarnation, nonce: Nonce, hello: Hello) -> Output {
        let me = &*self.credentials;
        if hello.cluster != me.cluster {
            // Not ours: it is told so, and learns nothing else.
            let reason = format!("this node is of another cluster than {}", hello.cluster);
            return refuse(RefusalCode::WrongCluster, reason, Some(hello.from));
        }
        if hello.to != me.name || hello.from == me.name {
            let reason =
                format!("{} means to reach {}, and this node is {}", hello.from, hello.to, me.name);
            return refuse(RefusalCode::WrongNode, reason, Some(hello.from));
        }
        let version = hello.version_max.min(*me.versions.end());
        if version < hello.version_min || version < *me.versions.start() {
            let reason = format!(
                "{} speaks versions {} to {}, {} speaks {} to {}",
                hello.from,
                hello.version_min,
                hello.version_max,
                me.name,
                me.versions.start(),
                me.versions.end()
            );
            return refuse(RefusalCode::Version, reason, Some(hello.from));
        }
        let mut challenge = Challenge {
            from: me.name.clone(),
            nonce,
            proof: [0; PROOF_LEN],
            incarnation: own,
            version,
        };
        challenge.proof = me.keys.prove(&Transcript::of_acceptor(&hello, &challenge));
        self.phase = Phase::AwaitProof { hello, challenge: challenge.clone() };
        Output::Send(Frame::Challenge(challenge))
    }

    fn challenge(&mut self, dial: &Dial, hello: &Hello, challenge: &Challenge) -> Output {
        let me = &*self.credentials;
        let peer = || Some(dial.peer.clone());
        if challenge.from != dial.peer {
            let reason = format!("meant to reach {}, and {} answers", dial.peer, challenge.from);
            return refuse(RefusalCode::WrongNode, reason, peer());
        }
        let transcript = Transcript::of_acceptor(hello, challenge);
        if !me.keys.verify(&transcript, &challenge.proof) {
            let reason = format!("{} does not know a cluster secret of {}", dial.peer, me.name);
            return refuse(RefusalCode::WrongSecret, reason, peer());
        }
        if !me.versions.contains(&challenge.version) {
            let reason = format!("{} does not speak version {}", me.name, challenge.version);
            return refuse(RefusalCode::Version, reason, peer());
        }
        if challenge.incarnation != dial.peer_incarnation {
            let older = challenge.incarnation < dial.peer_incarnation;
            let code = if older { RefusalCode::StaleIncarnation } else { RefusalCode::NotAMember };
            let reason = format!(
                "{} answers as incarnation {}, {} knows {}",
                dial.peer, challenge.incarnation, me.name, dial.peer_incarnation
            );
            return Output::Refuse {
                refusal: Refusal::new(code, reason),
                peer: peer(),
                greeted: Some(challenge.incarnation),
            };
        }
        let mut proof = Proof {
            proof: [0; PROOF_LEN],
            incarnation: dial.own_incarnation,
            attempt: dial.attempt,
            settings: me.settings.clone(),
            acceptor_incarnation: challenge.incarnation,
        };
        proof.proof = me.keys.prove(&Transcript::of_dialer(hello, challenge, &proof));
        let epoch = LinkEpoch {
            sender: dial.own_incarnation,
            receiver: challenge.incarnation,
            attempt: dial.attempt,
        };
        self.phase = Phase::AwaitAccepted { peer: dial.peer.clone(), epoch };
        Output::Send(Frame::Proof(proof))
    }

    fn proof(&mut self, hello: &Hello, challenge: &Challenge, proof: &Proof) -> Output {
        let me = &*self.credentials;
        let peer = hello.from.clone();
        if !me.keys.verify(&Transcript::of_dialer(hello, challenge, proof), &proof.proof) {
            let reason = format!("{peer} does not know a cluster secret of {}", me.name);
            return refuse(RefusalCode::WrongSecret, reason, Some(peer));
        }
        if proof.acceptor_incarnation != challenge.incarnation {
            let reason = format!("meant for incarnation {}", proof.acceptor_incarnation);
            return refuse(RefusalCode::StaleIncarnation, reason, Some(peer));
        }
        if let Some(reason) = disagreement(&peer, &proof.settings, &me.name, &me.settings) {
            return refuse(RefusalCode::Settings, reason, Some(peer));
        }
        let epoch = LinkEpoch {
            sender: proof.incarnation,
            receiver: challenge.incarnation,
            attempt: proof.attempt,
        };
        self.phase = Phase::AwaitClaim { peer: peer.clone(), epoch };
        Output::Claim { peer, epoch }
    }

    fn claimed(&mut self, claimed: Result<bool, Refusal>) -> Output {
        let Phase::AwaitClaim { peer, epoch } = std::mem::replace(&mut self.phase, Phase::Ended)
        else {
            panic!("a claim is answered once, after it was asked for");
        };
        match claimed {
            Ok(had_epoch) => {
                self.phase = Phase::Up(Role::Acceptor);
                let incarnation = epoch.sender;
                Output::Up(Up { peer, incarnation, epoch, had_epoch, said: None })
            }
            Err(refusal) => {
                Output::Refuse { refusal, peer: Some(peer), greeted: Some(epoch.sender) }
            }
        }
    }

    fn accepted(
        &mut self,
        peer: NodeName,
        epoch: LinkEpoch,
        said: Accepted,
    ) -> Result<Output, Violation> {
        if said.position > POSITION_MAX {
            return Err(Violation::Position(said.position));
        }
        self.phase = Phase::Up(Role::Dialer);
        let incarnation = epoch.receiver;
        let had_epoch = said.had_epoch;
        Ok(Output::Up(Up { peer, incarnation, epoch, had_epoch, said: Some(said) }))
    }

    fn up_frame(&mut self, role: Role, frame: Frame) -> Result<Output, Violation> {
        match (frame, role) {
            (Frame::Control(payload), _) => Ok(Output::Control(payload)),
            (Frame::State(payload), _) => Ok(Output::State(payload)),
            (Frame::Ping { sent_us, control, state }, _) => {
                Ok(Output::Ping { sent_us, control, state })
            }
            (Frame::Pong { sent_us }, _) => Ok(Output::Pong { sent_us }),
            (Frame::Ack { upto }, Role::Dialer) => Ok(Output::Acknowledged { upto }),
            (Frame::Content { first, items }, Role::Acceptor) => {
                let taken = self.received.take(first, items);
                let taken = taken.ok_or(Violation::NumbersOverflow { first })?;
                Ok(Output::Content { items: taken.items, jumped: taken.jumped })
            }
            (frame, _) => {
                let waiting = Phase::Up(role).waiting();
                self.phase = Phase::Ended;
                Err(Violation::OutOfPlace { got: frame.kind(), waiting })
            }
        }
    }
}

impl Phase {
    const fn waiting(&self) -> &'static str {
        match self {
            Self::AwaitHello { .. } => "waiting for a hello",
            Self::AwaitChallenge { .. } => "waiting for a challenge",
            Self::AwaitProof { .. } => "waiting for a proof",
            Self::AwaitClaim { .. } => "nothing may be sent",
            Self::AwaitAccepted { .. } => "waiting to be accepted",
            Self::Up(Role::Dialer) => "up, as the one who dialed",
            Self::Up(Role::Acceptor) => "up, as the one who was dialed",
            Self::Ended => "already over",
        }
    }
}

fn refuse(code: RefusalCode, reason: String, peer: Option<NodeName>) -> Output {
    Output::Refuse { refusal: Refusal::new(code, reason), peer, greeted: None }
}

/// The first setting that differs, in words.
fn disagreement(
    peer: &NodeName,
    theirs: &BTreeMap<String, String>,
    me: &NodeName,
    ours: &BTreeMap<String, String>,
) -> Option<String> {
    let absent = "(not set)";
    let value = |settings: &BTreeMap<String, String>, key| -> String {
        settings.get(key).map_or(absent, String::as_str).chars().take(64).collect()
    };
    ours.keys().chain(theirs.keys()).find(|key| ours.get(*key) != theirs.get(*key)).map(|key| {
        format!(
            "{key} must agree: {me} has {:?}, {peer} has {:?}",
            value(ours, key),
            value(theirs, key)
        )
    })
}
