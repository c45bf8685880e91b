//! The greeting as a table: what each end says of itself, and what comes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;

use crate::config::Secret;
use crate::link::epochs::{Epochs, Known};
use crate::link::fence::Fence;
use crate::link::frame::{Accepted, Frame, NONCE_LEN, RefusalCode};
use crate::link::proof::Keys;
use crate::link::session::{Credentials, Dial, Input, Output, Session, Violation};
use crate::supervise::Shutdown;
use crate::types::{ClusterName, Incarnation, LinkEpoch, NodeName};

fn node(text: &str) -> NodeName {
    NodeName::parse(text).unwrap()
}

/// One end.
#[derive(Clone)]
struct End {
    cluster: &'static str,
    name: &'static str,
    secrets: Vec<&'static str>,
    versions: (u32, u32),
    settings: Vec<(&'static str, &'static str)>,
    incarnation: u64,
}

impl End {
    fn new(name: &'static str, incarnation: u64) -> Self {
        let secrets = vec!["s1"];
        let settings = vec![("linger", "5s")];
        Self { cluster: "prod", name, secrets, versions: (1, 1), settings, incarnation }
    }

    fn credentials(&self) -> Arc<Credentials> {
        let cluster = ClusterName::parse(self.cluster).unwrap();
        let secrets: Vec<_> =
            self.secrets.iter().map(|secret| Secret::new(secret.as_bytes().to_vec())).collect();
        let settings = self.settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Arc::new(Credentials {
            keys: Keys::derive(&cluster, &secrets),
            cluster,
            name: node(self.name),
            versions: self.versions.0..=self.versions.1,
            settings: settings.collect::<BTreeMap<_, _>>(),
        })
    }
}

/// A greeting between `a`, who dials, and `b`.
#[derive(Clone)]
struct Case {
    a: End,
    b: End,
    /// Whom `a` means to reach, and which incarnation of it.
    to: &'static str,
    to_incarnation: u64,
    attempt: u64,
    /// What `b`'s membership knows of `a`.
    known: Option<u64>,
    /// `b`'s incarnation when the proof arrives.
    own_later: u64,
    nonces: (u8, u8),
}

impl Case {
    fn new() -> Self {
        let (a, b) = (End::new("a", 10), End::new("b", 20));
        Self {
            a,
            b,
            to: "b",
            to_incarnation: 20,
            attempt: 1,
            known: Some(10),
            own_later: 20,
            nonces: (1, 2),
        }
    }

    fn dial(&self) -> (Session, Frame) {
        let dial = Dial {
            peer: node(self.to),
            peer_incarnation: Incarnation(self.to_incarnation),
            own_incarnation: Incarnation(self.a.incarnation),
            attempt: self.attempt,
            nonce: [self.nonces.0; NONCE_LEN],
        };
        Session::dial(self.a.credentials(), dial)
    }

    fn accept(&self) -> Session {
        let own = Incarnation(self.b.incarnation);
        Session::accept(self.b.credentials(), own, [self.nonces.1; NONCE_LEN])
    }

    /// Carries frames to and fro until something comes of it.
    fn greet(&self, epochs: &mut Epochs) -> Outcome {
        let (mut a, hello) = self.dial();
        let mut b = self.accept();
        let mut for_b = hello;
        loop {
            let mut output = b.handle(Input::Frame(for_b)).expect("frames are in place");
            if let Output::Claim { peer, epoch } = &output {
                let known =
                    Known { own: Incarnation(self.own_later), peer: self.known.map(Incarnation) };
                let claimed = epochs.claim(peer, *epoch, known);
                output = b.handle(Input::Claimed(claimed)).expect("the claim was asked for");
            }
            let for_a = match output {
                Output::Send(frame) => frame,
                Output::Refuse { refusal, .. } => {
                    let told = a.handle(Input::Frame(Frame::Refused(refusal.clone())));
                    assert_eq!(told, Ok(Output::Refused(refusal.clone())));
                    return Outcome::Refused("b", refusal.code);
                }
                Output::Up(up) => {
                    let had_epoch = up.had_epoch;
                    let said = Accepted { position: 7, had_epoch, lost: 1 };
                    let answer = Input::Frame(Frame::Accepted(said));
                    let Ok(Output::Up(at_a)) = a.handle(answer) else { panic!("a is not up") };
                    assert_eq!((at_a.said, up.said), (Some(said), None));
                    assert_eq!((at_a.epoch, at_a.had_epoch), (up.epoch, up.had_epoch));
                    assert_eq!((at_a.peer, up.peer), (node("b"), node("a")));
                    assert_eq!(
                        (at_a.incarnation, up.incarnation),
                        (Incarnation(20), Incarnation(10))
                    );
                    return Outcome::Up { had_epoch: up.had_epoch };
                }
                other => panic!("b: {other:?}"),
            };
            for_b = match a.handle(Input::Frame(for_a)).expect("frames are in place") {
                Output::Send(frame) => frame,
                Output::Refuse { refusal, .. } => {
                    let told = b.handle(Input::Frame(Frame::Refused(refusal.clone())));
                    assert_eq!(told, Ok(Output::Refused(refusal.clone())));
                    return Outcome::Refused("a", refusal.code);
                }
                other => panic!("a: {other:?}"),
            };
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Up { had_epoch: bool },
    Refused(&'static str, RefusalCode),
}

const UP: Outcome = Outcome::Up { had_epoch: false };

fn check(what: &str, expected: Outcome, change: impl FnOnce(&mut Case)) {
    let mut case = Case::new();
    change(&mut case);
    assert_eq!(case.greet(&mut Epochs::default()), expected, "{what}");
}

#[test]
fn a_greeting_ends_as_the_table_says() {
    use RefusalCode as Code;
    let by = Outcome::Refused;
    check("all agree", UP, |_| {});
    check("no secret at both ends", UP, |c| {
        c.a.secrets.clear();
        c.b.secrets.clear();
    });
    check("a secret at one end only", by("a", Code::WrongSecret), |c| c.b.secrets.clear());
    check("a secret at the other end only", by("a", Code::WrongSecret), |c| c.a.secrets.clear());
    check("another secret", by("a", Code::WrongSecret), |c| c.b.secrets = vec!["s2"]);
    check("rotation: b has both, old first", UP, |c| c.b.secrets = vec!["s1", "s2"]);
    check("rotation: both have both, in different order", UP, |c| {
        c.a.secrets = vec!["s2", "s1"];
        c.b.secrets = vec!["s1", "s2"];
    });
    check("rotation: a proves with one that b lacks", by("b", Code::WrongSecret), |c| {
        c.a.secrets = vec!["s2", "s1"];
    });
    check("rotation: b proves with one that a lacks", by("a", Code::WrongSecret), |c| {
        c.b.secrets = vec!["s2", "s1"];
    });
    check("another cluster", by("b", Code::WrongCluster), |c| c.a.cluster = "test");
    check("another node answers", by("b", Code::WrongNode), |c| c.to = "c");
    check("oneself answers", by("b", Code::WrongNode), |c| c.b.name = "a");
    check("a node that calls itself as the one it calls", by("b", Code::WrongNode), |c| {
        c.a.name = "b";
    });
    check("versions overlap", UP, |c| {
        c.a.versions = (1, 3);
        c.b.versions = (2, 5);
    });
    check("a is too new", by("b", Code::Version), |c| c.a.versions = (2, 3));
    check("a is too old", by("b", Code::Version), |c| c.b.versions = (2, 3));
    check("versions upside down", by("b", Code::Version), |c| c.a.versions = (3, 1));
    check("a setting differs", by("b", Code::Settings), |c| c.a.settings = vec![("linger", "6s")]);
    check("a setting is absent", by("b", Code::Settings), |c| c.a.settings.clear());
    check("a setting is unknown", by("b", Code::Settings), |c| c.a.settings.push(("more", "1")));
    check("a is no member", by("b", Code::NotAMember), |c| c.known = None);
    check("a's incarnation is over", by("b", Code::StaleIncarnation), |c| c.known = Some(11));
    check("a's incarnation is not known yet", by("b", Code::NotAMember), |c| c.known = Some(9));
    check("b answers as an older one", by("a", Code::StaleIncarnation), |c| c.to_incarnation = 21);
    check("b answers as a newer one", by("a", Code::NotAMember), |c| c.to_incarnation = 19);
    check("b's incarnation ends meanwhile", by("b", Code::StaleIncarnation), |c| c.own_later = 21);
}

#[test]
fn attempts_rise_and_the_second_epoch_knows_of_the_first() {
    let mut epochs = Epochs::default();
    let mut case = Case::new();
    let mut check = |expected: Outcome, change: &dyn Fn(&mut Case)| {
        change(&mut case);
        assert_eq!(case.greet(&mut epochs), expected, "attempt {}", case.attempt);
    };
    let stale = || Outcome::Refused("b", RefusalCode::StaleIncarnation);
    check(UP, &|c| c.attempt = 5);
    check(stale(), &|_| {});
    check(stale(), &|c| c.attempt = 4);
    check(Outcome::Up { had_epoch: true }, &|c| c.attempt = 6);
    check(Outcome::Up { had_epoch: true }, &|c| c.attempt = 9);
}

#[test]
fn a_new_incarnation_at_either_end_has_had_no_epoch() {
    let mut epochs = Epochs::default();
    let mut claim = |sender, receiver, attempt| {
        let epoch =
            LinkEpoch { sender: Incarnation(sender), receiver: Incarnation(receiver), attempt };
        let known = Known { own: epoch.receiver, peer: Some(epoch.sender) };
        epochs.claim(&node("a"), epoch, known).map_err(|refusal| refusal.code)
    };
    assert_eq!(claim(10, 20, 7), Ok(false));
    assert_eq!(claim(10, 20, 8), Ok(true));
    assert_eq!(claim(11, 20, 1), Ok(false), "attempts of a new incarnation begin anew");
    assert_eq!(claim(11, 21, 1), Err(RefusalCode::StaleIncarnation), "those of one sender rise");
    assert_eq!(claim(11, 21, 2), Ok(false));
    assert_eq!(claim(11, 21, 3), Ok(true));
}

/// The three frames of a lawful greeting.
fn recorded(case: &Case) -> (Frame, Frame, Frame) {
    let (mut a, hello) = case.dial();
    let Ok(Output::Send(challenge)) = case.accept().handle(Input::Frame(hello.clone())) else {
        panic!("no challenge")
    };
    let Ok(Output::Send(proof)) = a.handle(Input::Frame(challenge.clone())) else {
        panic!("no proof")
    };
    (hello, challenge, proof)
}

fn refused(output: Result<Output, Violation>) -> Option<RefusalCode> {
    match output {
        Ok(Output::Refuse { refusal, .. }) => Some(refusal.code),
        _ => None,
    }
}

#[test]
fn a_recorded_greeting_proves_nothing_later() {
    let (hello, challenge, proof) = recorded(&Case::new());
    let later = Case { nonces: (3, 4), ..Case::new() };

    let mut b = later.accept();
    assert!(matches!(b.handle(Input::Frame(hello)), Ok(Output::Send(_))));
    assert_eq!(refused(b.handle(Input::Frame(proof))), Some(RefusalCode::WrongSecret));

    let (mut a, _) = later.dial();
    assert_eq!(refused(a.handle(Input::Frame(challenge))), Some(RefusalCode::WrongSecret));
}

#[test]
fn a_proof_holds_for_its_own_frames_only() {
    let case = Case::new();
    let (hello, challenge, proof) = recorded(&case);
    let (Frame::Hello(hello), Frame::Challenge(challenge), Frame::Proof(proof)) =
        (hello, challenge, proof)
    else {
        panic!("frames of a greeting")
    };

    let wrong = Some(RefusalCode::WrongSecret);
    let to_b = |change: &dyn Fn(&mut crate::link::frame::Hello, &mut crate::link::frame::Proof)| {
        let (mut hello, mut proof) = (hello.clone(), proof.clone());
        change(&mut hello, &mut proof);
        let mut b = case.accept();
        let _ = b.handle(Input::Frame(Frame::Hello(hello)));
        refused(b.handle(Input::Frame(Frame::Proof(proof))))
    };
    assert_eq!(to_b(&|_, _| {}), None);
    assert_eq!(to_b(&|hello, _| hello.from = node("c")), wrong, "another name");
    assert_eq!(to_b(&|hello, _| hello.nonce[0] ^= 1), wrong, "another nonce");
    assert_eq!(to_b(&|hello, _| hello.version_min = 0), wrong, "another range");
    assert_eq!(to_b(&|_, proof| proof.incarnation.0 += 1), wrong, "another incarnation");
    assert_eq!(to_b(&|_, proof| proof.attempt += 1), wrong, "another attempt");
    assert_eq!(to_b(&|_, proof| proof.acceptor_incarnation.0 += 1), wrong, "for another");
    assert_eq!(to_b(&|_, proof| proof.settings.clear()), wrong, "other settings");
    assert_eq!(to_b(&|_, proof| proof.proof[31] ^= 1), wrong, "one bit");
    assert_eq!(to_b(&|_, proof| proof.proof = challenge.proof), wrong, "reflected");

    let to_a = |change: &dyn Fn(&mut crate::link::frame::Challenge)| {
        let mut challenge = challenge.clone();
        change(&mut challenge);
        refused(case.dial().0.handle(Input::Frame(Frame::Challenge(challenge))))
    };
    assert_eq!(to_a(&|_| {}), None);
    assert_eq!(to_a(&|c| c.incarnation.0 += 1), wrong, "another incarnation");
    assert_eq!(to_a(&|c| c.version += 1), wrong, "another version");
    assert_eq!(to_a(&|c| c.nonce[7] ^= 1), wrong, "another nonce");
    assert_eq!(to_a(&|c| c.proof = proof.proof), wrong, "reflected");
    assert_eq!(to_a(&|c| c.from = node("c")), Some(RefusalCode::WrongNode));
}

/// `b` dials back with the roles swapped: what proves a link a→b must not prove b→a.
#[test]
fn swapped_names_prove_nothing() {
    let (_, _, proof) = recorded(&Case::new());
    let mut back = Case::new();
    std::mem::swap(&mut back.a, &mut back.b);
    (back.to, back.to_incarnation, back.nonces) = ("a", 10, (2, 1));
    let (_, hello) = back.dial();
    let mut a = back.accept();
    assert!(matches!(a.handle(Input::Frame(hello)), Ok(Output::Send(_))));
    assert_eq!(refused(a.handle(Input::Frame(proof))), Some(RefusalCode::WrongSecret));
}

#[test]
fn nothing_but_the_greeting_is_heard_before_it_is_over() {
    let case = Case::new();
    let (hello, challenge, proof) = recorded(&case);
    let others = [
        Frame::Control("x".into()),
        Frame::Content { first: 0, items: vec!["x".into()] },
        Frame::Ping { sent_us: 0, control: "x".into(), state: "y".into() },
        Frame::State("x".into()),
        Frame::Pong { sent_us: 0 },
        Frame::Ack { upto: 0 },
    ];
    let out_of_place = |session: &mut Session, frame: &Frame| {
        let answer = session.handle(Input::Frame(frame.clone()));
        assert!(matches!(answer, Err(Violation::OutOfPlace { .. })), "{frame:?}: {answer:?}");
        let again = session.handle(Input::Frame(hello.clone()));
        assert!(again.is_err(), "a session that was violated hears nothing more");
    };
    for frame in others.iter().chain([&challenge, &proof]) {
        out_of_place(&mut case.accept(), frame);
    }
    for frame in others.iter().chain([&hello, &proof]) {
        out_of_place(&mut case.dial().0, frame);
    }
    for frame in others.iter().chain([&hello, &challenge]) {
        let mut b = case.accept();
        b.handle(Input::Frame(hello.clone())).unwrap();
        out_of_place(&mut b, frame);
    }
    for frame in others.iter().chain([&hello, &challenge]) {
        let (mut a, _) = case.dial();
        a.handle(Input::Frame(challenge.clone())).unwrap();
        out_of_place(&mut a, frame);
    }
}

#[tokio::test]
async fn a_third_hello_waits_for_the_first_reader_too() {
    let fence = Fence::default();
    let shutdown = Shutdown::new();
    let claim = |attempt| {
        let epoch = LinkEpoch { sender: Incarnation(10), receiver: Incarnation(20), attempt };
        let known = Known { own: epoch.receiver, peer: Some(epoch.sender) };
        fence.claim(&node("a"), epoch, known, &shutdown).unwrap()
    };
    let first = claim(1);
    assert_eq!(first.older_ended().now_or_never(), Some(()));
    let second = claim(2);
    assert!(first.is_over() && !second.is_over());
    let third = claim(3);
    assert!(second.is_over());
    assert_eq!(second.older_ended().now_or_never(), None);
    drop(second);
    assert_eq!(third.older_ended().now_or_never(), None, "the first still reads");
    drop(first);
    assert_eq!(third.older_ended().now_or_never(), Some(()));
    assert!(!third.is_over());
    shutdown.cancel();
    assert!(third.is_over());
}
