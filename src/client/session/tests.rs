//! What the client decides, as scripts: a line is an input, and what comes of it.

use bytes::Bytes;

use super::*;
use crate::client::message::{ServerError, TopicResult};

/// A core, and the clock it is told.
struct Script {
    session: Session,
    now: Time,
}

impl Script {
    fn new(addresses: &[&str]) -> Self {
        let settings = Settings {
            addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
            client: "test".to_owned(),
            linger: None,
        };
        Self { session: Session::new(settings, 7), now: Time::ZERO }
    }

    /// The outputs, in words.
    fn give(&mut self, input: Input) -> Vec<String> {
        self.session.handle(input, self.now);
        std::iter::from_fn(|| self.session.poll_output()).map(|output| words(&output)).collect()
    }

    /// Lets time pass until something is due.
    fn due(&mut self) -> Vec<String> {
        self.now = self.session.deadline().expect("something is due");
        self.give(Input::Tick)
    }

    fn started(addresses: &[&str]) -> Self {
        let mut script = Self::new(addresses);
        script.give(Input::Start);
        script.give(Input::Connected(id(1)));
        script.give(welcomed(1, "a", true, &["a:1", "b:1"]));
        script
    }

    fn subscribed(addresses: &[&str], topics: &[&str]) -> Self {
        let mut script = Self::started(addresses);
        script.give(ask(1, topics));
        let reply = Reply { id: script.session.ids, ..Reply::default() };
        assert_eq!(script.give(Input::Replied(id(1), reply)), ["answer 1 ok"]);
        script
    }
}

fn words(output: &Output) -> String {
    match output {
        Output::Connect { attachment, address } => format!("connect {} {address}", attachment.0),
        Output::Send { attachment, request } => match request {
            Request::Hello { token, epoch, overlap, .. } => {
                format!(
                    "{} hello token {} epoch {epoch} overlap {overlap}",
                    attachment.0,
                    token.0.len()
                )
            }
            Request::Subscribe { id, topics, patterns } => {
                format!("{} subscribe #{id} {topics:?} {patterns:?}", attachment.0)
            }
            Request::Unsubscribe { id, topics, .. } => {
                format!("{} unsubscribe #{id} {topics:?}", attachment.0)
            }
            Request::Track { id, update, track, revision } => {
                let verb = if *update { "update" } else { "track" };
                format!("{} {verb} #{id} {}/{} r{revision}", attachment.0, track.topic, track.key)
            }
            Request::Untrack { id, untrack } => {
                format!("{} untrack #{id} {}/{}", attachment.0, untrack.topic, untrack.key)
            }
            Request::Watch { id, topic, counts_only } => {
                let counts = if *counts_only { " counts" } else { "" };
                format!("{} watch{counts} #{id} {topic}", attachment.0)
            }
            Request::Unwatch { id, topic } => format!("{} unwatch #{id} {topic}", attachment.0),
            Request::Bye { keep_session } => format!("{} bye keep {keep_session}", attachment.0),
        },
        Output::Publishes(to) => format!("publishes {:?}", to.map(|to| to.0)),
        Output::Deliver(id) => format!("deliver {}", id.0),
        Output::Drop(id) => format!("drop {}", id.0),
        Output::Event(Event::Gap(gap)) => format!("gap {:?} {}", gap.topics, gap.reason),
        Output::Event(Event::Disconnected { .. }) => "disconnected".to_owned(),
        Output::Event(Event::Reconnected { node, resumed }) => {
            format!("reconnected {node} {resumed}")
        }
        Output::Event(Event::Moved { from, to, .. }) => format!("moved {from} {to}"),
        Output::Event(Event::Refused { topic, error }) => {
            format!("refused {topic:?} {}", error.code)
        }
        Output::Event(Event::Messages(_) | Event::Presence(_)) => {
            unreachable!("what nodes tell doesn't come this way")
        }
        Output::AnswerPresence { ticket, answers } => {
            let each = answers.iter().map(|answer| match answer {
                Ok(reference) => format!("ok {reference}"),
                Err(error) => error.code.clone(),
            });
            format!("answer {ticket} {}", each.collect::<Vec<_>>().join(", "))
        }
        Output::Watching { attachment, topic } => format!("watching {} {topic}", attachment.0),
        Output::Answer { ticket, result } => {
            format!("answer {ticket} {}", result.as_ref().map_or_else(|err| &*err.code, |_| "ok"))
        }
        Output::Started => "started".to_owned(),
        Output::GaveUp(tried) => format!("gave up after {}", tried.len()),
        Output::Closed { clean } => format!("closed clean {clean}"),
    }
}

fn id(number: u32) -> AttachmentId {
    AttachmentId(number)
}

fn welcomed(attachment: u32, node: &str, resumed: bool, endpoints: &[&str]) -> Input {
    let welcome = Welcome {
        token: TokenBytes(Bytes::from_static(&[1; 16])),
        resumed,
        epoch: attachment.into(),
        node: node.to_owned(),
        session_id: "s".to_owned(),
        endpoints: endpoints.iter().map(|address| (*address).to_owned()).collect(),
    };
    Input::Welcomed(id(attachment), welcome)
}

fn ask(ticket: Ticket, topics: &[&str]) -> Input {
    let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
    Input::Ask { ticket, unsubscribe: false, topics, patterns: Vec::new() }
}

fn replied(attachment: u32, reply: u64) -> Input {
    Input::Replied(id(attachment), Reply { id: reply, ..Reply::default() })
}

fn broke(attachment: u32) -> Input {
    Input::Ended(id(attachment), Err("broke".to_owned()))
}

fn away(attachment: u32, endpoints: &[&str]) -> Input {
    let endpoints = endpoints.iter().map(|address| (*address).to_owned()).collect();
    Input::AskedAway(id(attachment), GoAway { reason: "draining".to_owned(), endpoints })
}

const NOTHING: [&str; 0] = [];

#[test]
fn the_first_round_takes_the_addresses_in_turn_and_then_gives_up() {
    let mut script = Script::new(&["a:1", "b:1"]);
    assert_eq!(script.give(Input::Start), ["connect 1 a:1"]);
    assert_eq!(script.give(broke(1)), ["drop 1", "connect 2 b:1"]);
    assert_eq!(script.give(Input::Connected(id(2))), ["2 hello token 0 epoch 0 overlap false"]);
    // It never says welcome.
    assert_eq!(script.due(), ["drop 2", "gave up after 2", "closed clean false"]);
    assert_eq!(script.give(Input::Tick), NOTHING);
}

#[test]
fn a_break_brings_it_back_elsewhere_with_everything_subscribed() {
    let mut script = Script::subscribed(&["a:1"], &["t", "u"]);
    assert_eq!(
        script.give(broke(1)),
        ["drop 1", "publishes None", "disconnected", "connect 2 b:1"]
    );
    // What was asked meanwhile is asked once there is somebody to ask.
    assert_eq!(script.give(ask(2, &["v"])), NOTHING);
    assert_eq!(script.give(Input::Connected(id(2))), ["2 hello token 16 epoch 1 overlap false"]);
    // The node itself says with its first answer that something may have been missed.
    assert_eq!(
        script.give(welcomed(2, "b", false, &["b:1"])),
        [
            "deliver 2",
            "reconnected b false",
            "publishes Some(2)",
            "2 subscribe #8 [\"t\", \"u\", \"v\"] []",
            "2 subscribe #10 [\"v\"] []",
        ]
    );
    assert_eq!(script.give(replied(2, 8)), NOTHING);
    assert_eq!(script.give(replied(2, 10)), ["answer 2 ok"]);
    assert!(!script.session.is_busy());
}

#[test]
fn between_rounds_it_waits_longer_and_longer_up_to_five_seconds() {
    let mut script = Script::subscribed(&["a:1"], &["t"]);
    let mut attempt = 2;
    script.give(broke(1));
    let mut waits = Vec::new();
    for _ in 0..8 {
        for _ in ["a:1", "b:1"] {
            script.give(broke(attempt));
            attempt += 1;
        }
        let before = script.now;
        assert!(script.due()[0].starts_with("connect"));
        waits.push((script.now - before).as_millis());
    }
    assert!(waits[0] >= 50 && waits[0] <= 100, "{waits:?}");
    assert!(waits[7] >= 2_500 && waits[7] <= 5_000, "{waits:?}");
}

#[test]
fn a_move_fences_greets_subscribes_and_only_then_leaves() {
    let mut script = Script::subscribed(&["a:1"], &["t"]);
    assert_eq!(script.give(away(1, &["b:1"])), ["connect 2 b:1"]);
    assert_eq!(script.give(Input::Connected(id(2))), ["publishes None", "1 unsubscribe #6 []"]);
    assert_eq!(script.session.awaits_answers(), Some(id(1)));
    // What is asked now waits for the new node.
    assert_eq!(script.give(ask(2, &["v"])), NOTHING);
    assert_eq!(script.give(replied(1, 6)), NOTHING);
    assert_eq!(script.give(Input::AllAnswered(id(1))), ["2 hello token 16 epoch 1 overlap true"]);
    assert_eq!(
        script.give(welcomed(2, "b", true, &["b:1"])),
        ["publishes Some(2)", "2 subscribe #10 [\"t\", \"v\"] []", "2 subscribe #12 [\"v\"] []"]
    );
    assert_eq!(script.give(replied(2, 10)), NOTHING);
    assert_eq!(script.give(replied(2, 12)), ["answer 2 ok", "1 bye keep true"]);
    assert_eq!(script.give(Input::Ended(id(1), Ok(()))), ["drop 1", "moved a b", "deliver 2"]);
    assert!(!script.session.is_busy());
    assert_eq!(script.session.node(), Some("b"));
}

#[test]
fn a_fence_that_is_not_answered_holds_the_move_up_for_a_while_only() {
    let mut script = Script::subscribed(&["a:1"], &[]);
    script.give(away(1, &["b:1"]));
    script.give(Input::Connected(id(2)));
    assert_eq!(script.due(), ["2 hello token 16 epoch 1 overlap true"]);
    assert_eq!(script.now.as_millis(), 1_500);
}

/// Gives a script that is welcomed at the new node and waits for its subscriptions.
fn overlapping() -> Script {
    let mut script = Script::subscribed(&["a:1"], &["t"]);
    script.give(away(1, &["b:1"]));
    script.give(Input::Connected(id(2)));
    script.give(replied(1, 6));
    script.give(Input::AllAnswered(id(1)));
    script.give(welcomed(2, "b", true, &["a:1", "b:1"]));
    script
}

#[test]
fn an_overlap_that_goes_wrong_is_a_gap() {
    // The old attachment breaks before it has said all.
    let mut script = overlapping();
    assert_eq!(script.give(broke(1)), ["drop 1", "moved a b", "gap [] reconnected", "deliver 2"]);

    // The new node doesn't answer in time, or as much is held as may be.
    for input in [None, Some(Input::HeldFull(id(2)))] {
        let mut script = overlapping();
        let told = match input {
            Some(input) => script.give(input),
            None => script.due(),
        };
        assert_eq!(told, ["1 bye keep true", "gap [\"t\"] reconnected"]);
        // Nor does the old one end.
        assert_eq!(script.due(), ["drop 1", "moved a b", "gap [] reconnected", "deliver 2"]);
    }
}

#[test]
fn when_the_new_node_breaks_the_old_one_goes_on_and_another_is_looked_for() {
    let mut script = overlapping();
    assert_eq!(script.give(broke(2)), ["publishes None", "drop 2", "connect 3 b:1"]);
    script.give(Input::Connected(id(3)));
    let fence = script.session.ids;
    script.give(replied(1, fence));
    assert_eq!(script.give(Input::AllAnswered(id(1))), ["3 hello token 16 epoch 2 overlap true"]);

    // While the old one is taking its leave, what the new one has held is still told.
    let mut script = overlapping();
    assert_eq!(script.give(replied(2, 10)), ["1 bye keep true"]);
    assert_eq!(script.give(broke(2)), NOTHING);
    assert_eq!(
        script.give(Input::Ended(id(1), Ok(()))),
        [
            "drop 1",
            "moved a b",
            "deliver 2",
            "drop 2",
            "publishes None",
            "disconnected",
            "connect 3 a:1"
        ]
    );
}

#[test]
fn asked_away_with_nowhere_to_go_it_stays_and_tries_again() {
    let mut script = Script::subscribed(&["a:1"], &["t"]);
    assert_eq!(script.give(away(1, &["b:1"])), ["connect 2 b:1"]);
    assert_eq!(script.give(broke(2)), ["drop 2", "publishes Some(1)"]);
    assert_eq!(script.due(), ["connect 3 b:1"]);
    // The old node ends: that is a break like any other.
    assert_eq!(
        script.give(Input::Ended(id(1), Ok(()))),
        ["drop 1", "publishes None", "disconnected"]
    );
    assert_eq!(script.give(Input::Connected(id(3))), ["3 hello token 16 epoch 1 overlap false"]);
    let told = script.give(welcomed(3, "b", true, &[]));
    assert_eq!(told[..2], ["deliver 3", "reconnected b true"]);
}

#[test]
fn a_break_while_an_overlap_is_asked_for_is_a_gap_of_our_own() {
    let mut script = Script::subscribed(&["a:1"], &["t"]);
    script.give(away(1, &["b:1"]));
    script.give(Input::Connected(id(2)));
    script.give(replied(1, 6));
    script.give(Input::AllAnswered(id(1)));
    assert_eq!(script.give(broke(1)), ["drop 1", "publishes None", "disconnected"]);
    let told = script.give(welcomed(2, "b", true, &[]));
    assert_eq!(told[..3], ["deliver 2", "reconnected b true", "gap [] reconnected"]);
}

#[test]
fn the_new_node_may_ask_it_away_as_well() {
    let mut script = overlapping();
    assert_eq!(script.give(away(2, &["c:1"])), NOTHING);
    script.give(replied(2, 10));
    assert_eq!(
        script.give(Input::Ended(id(1), Ok(()))),
        ["drop 1", "moved a b", "deliver 2", "connect 3 c:1"]
    );
}

#[test]
fn refused_names_are_not_subscribed_again() {
    let refused = |topic: &str, id| {
        let error = Some(ServerError {
            code: "no".to_owned(),
            message: String::new(),
            hint: String::new(),
        });
        let topics = vec![TopicResult { topic: topic.to_owned(), confirmed: 0, members: 1, error }];
        Reply { id, topics, ..Reply::default() }
    };
    let mut script = Script::started(&["a:1"]);
    script.give(ask(1, &["t", "u"]));
    assert_eq!(script.give(Input::Replied(id(1), refused("u", 4))), ["answer 1 ok"]);
    script.give(broke(1));
    script.give(Input::Connected(id(2)));
    let told = script.give(welcomed(2, "b", true, &["b:1"]));
    assert_eq!(told.last().unwrap(), "2 subscribe #8 [\"t\"] []");
    assert_eq!(script.give(Input::Replied(id(2), refused("t", 8))), ["refused Some(\"t\") no"]);
}

#[test]
fn closing_says_goodbye_behind_everything_and_waits_for_the_end() {
    let mut script = Script::subscribed(&["a:1"], &["t"]);
    assert_eq!(script.give(Input::Close), ["publishes Some(1)", "1 bye keep false"]);
    assert_eq!(script.give(Input::Ended(id(1), Ok(()))), ["drop 1", "closed clean true"]);

    let mut script = overlapping();
    assert_eq!(script.give(Input::Close), ["drop 1", "publishes Some(2)", "2 bye keep false"]);
    assert_eq!(script.due(), ["drop 2", "closed clean false"]);
}

#[test]
fn what_belongs_to_no_living_attachment_changes_nothing() {
    let mut script = Script::subscribed(&["a:1"], &["t"]);
    for input in [
        Input::Connected(id(9)),
        welcomed(1, "x", true, &[]),
        welcomed(9, "x", true, &[]),
        replied(9, 77),
        replied(1, 77),
        broke(9),
        away(9, &["x:1"]),
        Input::AllAnswered(id(1)),
        Input::HeldFull(id(1)),
    ] {
        assert_eq!(script.give(input), NOTHING);
    }
    assert_eq!(script.session.node(), Some("a"));
}

#[test]
fn answers_of_many_names_are_read_in_time_that_grows_with_their_number() {
    let names: Vec<String> = (0..200_000).map(|n| format!("room:{n}")).collect();
    let refused = || ServerError { code: "no".into(), message: String::new(), hint: String::new() };
    let result = |(n, topic): (usize, &String)| TopicResult {
        topic: topic.clone(),
        confirmed: 1,
        members: 1,
        error: (n % 2 == 1).then(refused),
    };
    let topics = names.iter().enumerate().map(result).collect();
    let clock = crate::supervise::Clock::new();
    let mut subscriptions = Subscriptions::default();
    subscriptions.ask(1, false, names, Vec::new());
    let mut ids = 0;
    subscriptions.unsent(AttachmentId(1), &mut ids);
    subscriptions.answered(Reply { id: ids, topics, ..Reply::default() });
    // It is a fraction of a second; every name looked for in every result would be minutes.
    let took = clock.now().since(Time::ZERO);
    assert!(took < Duration::from_secs(20), "{took:?}");
    let again = subscriptions.again(AttachmentId(2), &mut ids);
    let names = again.iter().map(|request| match request {
        Request::Subscribe { topics, .. } => topics.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(names.sum::<usize>(), 100_000);
}

fn presence(ticket: Ticket, ask: PresenceAsk) -> Input {
    Input::AskPresence { ticket, ask }
}

fn track(key: &str, meta: &'static str) -> crate::client::Track {
    crate::client::Track::new("room", key).meta(meta)
}

fn done(attachment: u32, reply: u64, reference: &str) -> Input {
    let reply = Reply { id: reply, reference: reference.to_owned(), ..Reply::default() };
    Input::Replied(id(attachment), reply)
}

fn refused(attachment: u32, reply: u64, code: &str) -> Input {
    let error = ServerError { code: code.to_owned(), message: String::new(), hint: String::new() };
    Input::Replied(id(attachment), Reply { id: reply, error: Some(error), ..Reply::default() })
}

/// The script of a client that tracks alice and bob and watches the room; its next request is 10.
fn present() -> Script {
    let mut script = Script::started(&["a:1"]);
    let both = PresenceAsk::Track(vec![track("alice", "1"), track("bob", "1")]);
    assert_eq!(
        script.give(presence(1, both)),
        ["1 track #4 room/alice r1", "1 track #6 room/bob r2"]
    );
    assert_eq!(script.give(done(1, 6, "B")), NOTHING);
    assert_eq!(script.give(done(1, 4, "A")), ["answer 1 ok A, ok B"]);
    let watch = PresenceAsk::Watch { topic: "room".to_owned(), counts_only: false };
    assert_eq!(script.give(presence(2, watch)), ["1 watch #8 room"]);
    assert_eq!(script.give(done(1, 8, "")), ["watching 1 room", "answer 2 ok "]);
    script
}

#[test]
fn a_resumed_session_updates_what_it_has_and_tracks_what_the_node_lacks() {
    let mut script = present();
    script.give(broke(1));
    script.give(Input::Connected(id(2)));
    assert_eq!(
        script.give(welcomed(2, "b", true, &["a:1", "b:1"]))[2..],
        [
            "publishes Some(2)",
            "2 update #12 room/alice r1",
            "2 update #14 room/bob r2",
            "2 watch #16 room",
        ]
    );
    assert_eq!(script.give(refused(2, 12, "not_tracked")), ["2 track #18 room/alice r1"]);
    // Another session has taken bob over: he is not taken back, now or later.
    assert_eq!(script.give(refused(2, 14, "not_owner")), ["refused Some(\"room\") not_owner"]);
    assert_eq!(script.give(done(2, 18, "A")), NOTHING);
    assert_eq!(script.give(done(2, 16, "")), ["watching 2 room"]);
    script.give(broke(2));
    script.give(Input::Connected(id(3)));
    let again = script.give(welcomed(3, "a", true, &["a:1"]));
    assert_eq!(again[3..], ["3 update #22 room/alice r1", "3 watch #24 room"]);
}

#[test]
fn a_new_session_tracks_everything() {
    let mut script = present();
    script.give(broke(1));
    script.give(Input::Connected(id(2)));
    let again = script.give(welcomed(2, "b", false, &["b:1"]));
    let expected = ["2 track #12 room/alice r1", "2 track #14 room/bob r2", "2 watch #16 room"];
    assert_eq!(again[3..], expected);
}

#[test]
fn what_is_asked_between_two_nodes_is_asked_of_the_second() {
    let mut script = present();
    script.give(broke(1));
    let gone = crate::client::Untrack::new("room", "alice");
    assert_eq!(script.give(presence(3, PresenceAsk::Untrack(gone))), NOTHING);
    let changed = PresenceAsk::Update(vec![track("bob", "2")]);
    assert_eq!(script.give(presence(4, changed)), NOTHING);
    script.give(Input::Connected(id(2)));
    let again = script.give(welcomed(2, "b", true, &["b:1"]));
    assert_eq!(
        again[3..],
        [
            "2 update #12 room/bob r3",
            "2 watch #14 room",
            "2 untrack #16 room/alice",
            "2 update #18 room/bob r3",
        ]
    );
    assert_eq!(script.give(done(2, 16, "")), ["answer 3 ok "]);
    assert_eq!(script.give(done(2, 18, "B2")), ["answer 4 ok B2"]);
}

#[test]
fn a_refused_track_is_not_kept_and_the_same_again_is_the_same_revision() {
    let mut script = present();
    let one = |key, meta| PresenceAsk::Track(vec![track(key, meta)]);
    assert_eq!(script.give(presence(3, one("carol", "1"))), ["1 track #10 room/carol r3"]);
    let answer = ["answer 3 metadata_too_large"];
    assert_eq!(script.give(refused(1, 10, "metadata_too_large")), answer);
    assert_eq!(script.give(presence(4, one("alice", "1"))), ["1 track #12 room/alice r1"]);
    assert_eq!(script.give(presence(5, one("alice", "2"))), ["1 track #14 room/alice r4"]);
    script.give(broke(1));
    script.give(Input::Connected(id(2)));
    let again = script.give(welcomed(2, "b", true, &["b:1"]));
    let expected = ["2 update #18 room/alice r4", "2 update #20 room/bob r2", "2 watch #22 room"];
    assert_eq!(again[3..6], expected);
}

#[test]
fn a_watch_that_lost_something_begins_anew() {
    let mut script = present();
    assert_eq!(
        script.give(Input::WatchLost("room".to_owned())),
        ["1 unwatch #10 room", "1 watch #12 room"]
    );
    assert_eq!(script.give(done(1, 10, "")), NOTHING);
    assert_eq!(script.give(done(1, 12, "")), ["watching 1 room"]);
    assert_eq!(script.give(Input::WatchLost("other".to_owned())), NOTHING);
}
