//! What travels between two replicators; and what must not harm one.

use std::time::Duration;

use bytes::Bytes;

use super::world::{Random, World, hasher, owner, replica, session, topic};
use crate::membership::MemberState;
use crate::presence::{
    Asked, Claim, Delta, Dot, Entry, Fields, GivenUp, Handed, Kind, Removal, Row, Track, Want,
    shard_of,
};
use crate::replicator::codec::{self, CodecError, Frame};
use crate::replicator::{META_LEN_MAX, Query};
use crate::supervise::Clock;
use crate::types::{Replica, Time, Topic};

fn track(topic: &Topic, key: &str) -> Track {
    Track { topic: topic.clone(), key: key.into(), id: None, meta: "m".into(), revision: 1 }
}

fn tracks(topics: usize, keys: usize) -> Vec<Track> {
    let of = |number: usize| topic(&format!("room{number}"));
    (0..topics * keys).map(|n| track(&of(n % topics), &format!("key{}", n / topics))).collect()
}

fn claim(key: &str, meta: &[u8]) -> Claim {
    let fields = Fields {
        key,
        id: "tab1",
        meta,
        session: session(3),
        epoch: 2,
        number: 9,
        revision: 4,
        base: -3,
        since_ms: 1_700_000_000_000,
        asked: Asked { epoch: 1, counter: 2 },
        linger: Duration::from_millis(5_001),
    };
    Claim::new(&fields).expect("lawful")
}

fn delta(replica: &Replica, topic: &Topic, from: u64, to: u64) -> Delta {
    let entry = |counter| Entry { counter, topic: topic.clone(), claim: claim("ann", b"{}") };
    Delta {
        replica: replica.clone(),
        from,
        to,
        adds: (from + 1..=to).map(entry).collect(),
        removes: Vec::new(),
        kind: Kind::Interval,
        down_for: None,
    }
}

#[test]
fn frames_are_read_as_they_were_written() {
    let (room, b) = (topic("room"), replica("b", 7));
    let shard = shard_of(&room);
    let own_id = Claim::new(&Fields { id: &session(3).to_string(), ..claim("x", b"").fields() });
    let mut whole = delta(&b, &room, 0, 2);
    whole.kind = Kind::Whole { first: true, last: false };
    whole.adds[1].claim = own_id.expect("lawful");
    whole.removes = vec![
        Removal {
            counter: 1,
            because: Some(Dot { replica: replica("c", 1), counter: 5 }),
            given_up: None,
        },
        Removal {
            counter: 2,
            because: None,
            given_up: Some(GivenUp {
                session: session(3),
                at: Asked { epoch: 4, counter: 9 },
                presence: u64::MAX,
            }),
        },
    ];
    whole.down_for = Some(Duration::from_millis(700));
    let row = |replica, counter, settled| Row { replica, counter, digest: u64::MAX, settled };
    let frames = [
        Frame::Rows {
            rows: vec![
                (0, row(b.clone(), 1, true)),
                (15, row(b.clone(), 2, false)),
                (3, row(replica("c", 1), 3, true)),
            ],
            last: true,
        },
        Frame::RowsWanted,
        Frame::Delta { shard, delta: whole },
        Frame::Wanted { shard: 4, want: Want { replica: b, from: 11, whole: true } },
        Frame::Adopt {
            ticket: 1,
            entries: vec![Handed {
                topic: room,
                claim: claim("ann", b"{}"),
                remaining: Duration::from_millis(5),
            }],
            last: true,
        },
        Frame::Adopted { ticket: 1, entries: 2 },
        Frame::Mark { ticket: 3 },
        Frame::Applied { ticket: 3 },
    ];
    for frame in frames {
        assert_eq!(codec::decode(codec::encode(frame.clone()), &hasher()), Ok(frame));
    }
}

#[test]
fn a_whole_is_read_in_pieces_and_what_is_tracked_meanwhile_is_not_lost() {
    let mut world = World::new(&["a", "b"]);
    let handle = world.handle("a").clone();
    let track = |keys: std::ops::Range<usize>| {
        let tracks: Vec<Track> =
            keys.map(|key| track(&topic("room"), &format!("key{key}"))).collect();
        assert!(handle.track_all(&owner(1), &tracks).iter().all(Result::is_ok));
    };
    track(0..5_000);
    world.link("a", "b");
    let shard = shard_of(&topic("room"));
    let want = Want { replica: replica("a", 1), from: 0, whole: true };
    world.give("b", "a", codec::encode(Frame::Wanted { shard, want })).expect("it is lawful");
    let mut silent = 0;
    for turn in 0..6 {
        let frames = world.take("a", "b");
        silent += usize::from(frames.is_empty());
        for frame in frames {
            world.give("a", "b", frame).expect("no link is closed");
        }
        track(5_000 + turn..5_001 + turn);
    }
    assert!(silent > 0, "it was read in more than one piece");
    world.settle(|_, _| false);
    assert!(world.agree());
    assert_eq!(world.handle("b").count(&topic("room")).presences, 5_006);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let room = topic("room");
    let shard = shard_of(&room);
    let refused = |frame: Frame, what: &'static str| {
        let read = codec::decode(codec::encode(frame), &hasher());
        assert_eq!(read, Err(CodecError::Bad(what)));
    };
    let good = delta(&replica("b", 1), &room, 0, 1);
    refused(Frame::Delta { shard: 16, delta: good.clone() }, "shard");
    refused(Frame::Delta { shard: (shard + 1) % 16, delta: good.clone() }, "shard of a topic");
    refused(Frame::Delta { shard, delta: Delta { to: 1 << 50, ..good.clone() } }, "counter");
    let mut long = good;
    long.adds[0].claim = claim("ann", &vec![0; META_LEN_MAX + 1]);
    refused(Frame::Delta { shard, delta: long }, "length of metadata");
    assert_eq!(codec::decode(Bytes::new(), &hasher()), Err(CodecError::Bad("kind")));
    let garbage = codec::decode(Bytes::from_static(b"\xff\xff\xff"), &hasher());
    assert!(matches!(garbage, Err(CodecError::Protobuf(_))), "{garbage:?}");
    assert_eq!(codec::decode_hash(&Bytes::from_static(b"123")), Err(CodecError::Bad("hash")));
}

#[test]
fn garbage_never_panics() {
    let mut random = Random::new(1);
    let good = codec::encode(Frame::Delta {
        shard: shard_of(&topic("room")),
        delta: delta(&replica("b", 1), &topic("room"), 0, 3),
    });
    let mut world = World::new(&["a", "b"]);
    world.link("b", "a");
    for _ in 0..20_000 {
        let mut bytes = good.to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.below(256) as u8;
        }
        bytes.truncate(random.below(bytes.len()) + 1);
        // Taken, refused or the end of a link: all of them are lawful.
        let _outcome = world.give("b", "a", bytes.into());
    }
    world.handle("a").track_all(&owner(1), &[track(&topic("room"), "zoe")]);
    let page = world.handle("a").list(&topic("room"), &Query::default());
    assert!(page.entries.iter().any(|entry| entry.shown.key() == "zoe"));
}

#[test]
fn two_nodes_tell_each_other_everything() {
    let mut world = World::new(&["a", "b"]);
    world.handle("a").track_all(&owner(1), &tracks(20, 100));
    world.link("a", "b");
    world.settle(|_, _| false);
    world.handle("b").track_all(&owner(2), &tracks(40, 50));
    world.handle("a").ended(session(1));
    world.settle(|_, _| false);
    assert!(world.agree());
    assert_eq!(world.handle("a").report().presences, 2_000);
    assert_eq!(world.handle("b").report().presences, 2_000);
}

#[test]
fn a_change_of_links_in_the_middle_loses_nothing() {
    let mut world = World::new(&["a", "b"]);
    world.link("a", "b");
    let all = tracks(8, 1_000);
    let mut lost = 0;
    for some in all.chunks(500) {
        world.handle("a").track_all(&owner(1), some);
        // What is on its way when a link ends is lost.
        lost += world.take("a", "b").len();
        world.cut("a", "b");
        world.link("b", "a");
    }
    assert!(lost > 0);
    world.settle(|_, _| false);
    assert!(world.agree());
    assert_eq!(world.handle("b").report().presences, 8_000);
}

#[test]
fn a_lost_delta_is_a_gap_that_is_asked_for() {
    let mut world = World::new(&["a", "b"]);
    world.link("a", "b");
    world.settle(|_, _| false);
    let room = topic("room");
    world.handle("a").track_all(&owner(1), &[track(&room, "one")]);
    assert!(!world.take("a", "b").is_empty(), "and nobody gets it");
    world.handle("a").track_all(&owner(1), &[track(&room, "two")]);
    world.settle(|_, _| false);
    assert!(world.agree());
    assert_eq!(world.handle("b").count(&room).presences, 2);
}

#[test]
fn what_a_dead_node_said_last_comes_from_whoever_heard_it() {
    let mut world = World::new(&["a", "b", "c"]);
    world.link("a", "b");
    world.handle("a").track_all(&owner(1), &tracks(16, 10));
    world.settle(|_, _| false);
    world.cut("a", "b");
    world.nodes.remove("a");
    world.set("a", 1, MemberState::Down);
    world.link("b", "c");
    world.settle(|_, _| false);
    assert!(world.agree());
    let report = world.handle("c").report();
    assert_eq!((report.presences, report.orphaned), (160, 160));
}

#[test]
fn nothing_is_accepted_of_strangers_oneself_and_the_forgotten() {
    let mut world = World::new(&["a", "b"]);
    world.link("b", "a");
    let room = topic("room");
    let shard = shard_of(&room);
    for replica in [replica("x", 1), replica("a", 1), replica("a", 2), replica("b", 0)] {
        let frame = Frame::Delta { shard, delta: delta(&replica, &room, 0, 2) };
        world.give("b", "a", codec::encode(frame)).expect("no reason to end the link");
        let want = Want { replica: replica.clone(), from: 0, whole: false };
        world.give("b", "a", codec::encode(Frame::Wanted { shard, want })).expect("as above");
    }
    assert_eq!(world.handle("a").count(&room).presences, 0);
    // A newer incarnation: what is said of the old one is too late.
    world.set("b", 2, MemberState::Ready);
    let frame = Frame::Delta { shard, delta: delta(&replica("b", 1), &room, 0, 2) };
    world.give("b", "a", codec::encode(frame)).expect("as above");
    let frame = Frame::Delta { shard, delta: delta(&replica("b", 2), &room, 0, 2) };
    world.give("b", "a", codec::encode(frame)).expect("as above");
    assert_eq!(world.handle("a").count(&room).presences, 1);
}

#[test]
fn a_node_that_starts_again_is_told_everything_anew() {
    let mut world = World::new(&["a", "b"]);
    world.link("a", "b");
    world.handle("a").track_all(&owner(1), &tracks(16, 100));
    world.handle("b").track_all(&owner(2), &[track(&topic("attic"), "b's")]);
    world.settle(|_, _| false);
    world.cut("a", "b");
    world.set("b", 2, MemberState::Ready);
    world.start("b");
    world.link("b", "a");
    world.settle(|_, _| false);
    // What its former life had is an orphan, here as everywhere, for somebody to take over or until its linger is over.
    let report = world.handle("b").report();
    assert_eq!((report.presences, report.orphaned), (1_601, 1));
    assert!(world.agree());
    world.handle("b").track_all(&owner(2), &[track(&topic("attic"), "b's")]);
    world.settle(|_, _| false);
    assert_eq!(world.handle("a").count(&topic("attic")).presences, 1);
    let page = world.handle("a").list(&topic("attic"), &Query::default());
    assert!(!page.entries[0].shown.orphaned());
}

#[test]
fn pages_join_to_the_list() {
    let world = World::new(&["a"]);
    let room = topic("room");
    let all: Vec<Track> = (0..2_345)
        .map(|n| Track {
            id: Some(format!("id{}", n % 3).into()),
            ..track(&room, &format!("{:04}", n / 3))
        })
        .collect();
    world.handle("a").track_all(&owner(1), &all);
    let (mut seen, mut firsts) = (Vec::new(), 0);
    let mut query = Query { limit: 100, ..Query::default() };
    loop {
        let page = world.handle("a").list(&room, &query);
        assert!(page.entries.len() <= 100);
        firsts += page.entries.iter().filter(|entry| entry.first_of_key).count();
        seen.extend(
            page.entries.iter().map(|one| (one.shown.key().to_owned(), one.shown.id().to_owned())),
        );
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    assert!(seen.is_sorted());
    assert_eq!((seen.len(), firsts), (2_345, 782));
    let of_key = Query { key: Some("0007".to_owned()), ..Query::default() };
    assert_eq!(world.handle("a").list(&room, &of_key).entries.len(), 3);
}

#[test]
fn a_hash_that_differs_brings_rows_and_rows_bring_what_is_missing() {
    let mut world = World::new(&["a", "b"]);
    world.link("a", "b");
    world.settle(|_, _| false);
    world.ping("a", "b");
    assert!(world.take("b", "a").is_empty(), "they agree");
    world.handle("a").track_all(&owner(1), &[track(&topic("room"), "one")]);
    assert!(!world.take("a", "b").is_empty(), "and nobody gets it");
    // Rows follow each other at a distance, so it takes more than one ping.
    let (clock, mut pings) = (Clock::new(), 0);
    while !world.agree() {
        assert!(clock.now() < Time::from_millis(30_000), "after {pings} pings");
        world.ping("b", "a");
        world.ping("a", "b");
        world.settle(|_, _| false);
        pings += 1;
    }
    assert_eq!(world.handle("b").count(&topic("room")).presences, 1);
}
