//! The mailbox against a model, over sequences of calls. Each call is atomic, so these are all the interleavings there are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Wake;

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::pubsub::batch::Head;
use crate::pubsub::{Messages, Origin};
use crate::types::{ClusterName, Incarnation, Namespace, NodeName, Topic, TopicHasher};
use crate::wire::v1;

#[derive(Default)]
struct Wakes(AtomicU64);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn topic(n: u8) -> Topic {
    let hasher = TopicHasher::new(&ClusterName::parse("test").unwrap());
    hasher.topic(&Namespace::default(), &format!("t{n}"), 100).unwrap()
}

fn batch(topic_n: u8, first: u64, payload: usize) -> Arc<Batch> {
    let origin = Arc::new(Origin::new(&NodeName::parse("a").unwrap(), Incarnation(1)));
    let messages = Messages::single(vec![b'x'; payload].into());
    let head =
        Head { topic: topic(topic_n), first, count: 1, time_ms: 0, exclude: None, ticket: 0 };
    Arc::new(Batch::local(head, messages, origin))
}

fn secs(seconds: u64) -> Time {
    Time::from_millis(seconds * 1_000)
}

fn events(run: &Bytes) -> Vec<v1::event::Kind> {
    let mut kinds = Vec::new();
    let mut rest = &run[..];
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
        let frame = v1::ServerFrame::decode(&rest[5..5 + length]).unwrap();
        kinds.extend(frame.events.into_iter().map(|event| event.kind.unwrap()));
        rest = &rest[5 + length..];
    }
    kinds
}

#[derive(Debug, Clone)]
enum Op {
    Push { topic: u8, payload: usize },
    Take { most: usize },
    Hold,
    Release,
    Credit(u32),
    Gap,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0u8..3, prop_oneof![3 => 0usize..400, 1 => 17_000usize..20_000]).prop_map(|(topic, payload)| Op::Push { topic, payload }),
        4 => (1usize..30_000).prop_map(|most| Op::Take { most }),
        1 => Just(Op::Hold),
        1 => Just(Op::Release),
        1 => (1u32..20).prop_map(Op::Credit),
        1 => Just(Op::Gap),
    ]
}

/// What came out, in words that the model can judge.
#[derive(Debug, PartialEq, Eq)]
enum Out {
    Message(String, u64),
    Missing(String, u64),
    Possible,
    Answer,
}

fn outs(kinds: Vec<v1::event::Kind>) -> Vec<Out> {
    kinds
        .into_iter()
        .flat_map(|kind| match kind {
            v1::event::Kind::Batch(batch) => batch
                .messages
                .iter()
                .map(|message| Out::Message(batch.topic.clone(), message.seq))
                .collect(),
            v1::event::Kind::Gap(gap) if gap.certain => {
                vec![Out::Missing(gap.topics[0].clone(), gap.missing.unwrap())]
            }
            v1::event::Kind::Gap(_) => vec![Out::Possible],
            _ => vec![Out::Answer],
        })
        .collect()
}

proptest! {
    /// Whatever is pushed comes out in order, or is counted in a gap of its topic; a writer that sleeps is woken when there is
    /// something to take, and one that is awake is not.
    #[test]
    fn nothing_is_lost_uncounted_and_no_wake_is_missed(ops in prop::collection::vec(op(), 0..150), limit in 2_000usize..60_000) {
        let mailbox = Arc::new(Mailbox::new(1, SessionId([1; 16]), limit));
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut cx = Context::from_waker(&waker);
        let mut asleep = false;
        let mut woken = 0;
        let mut hold = None;
        let mut pushed: Vec<(u8, u64)> = Vec::new();
        let mut out = Vec::new();
        let mut credit: Option<i64> = None;
        for op in ops {
            match op {
                Op::Push { topic, payload } => {
                    let first = pushed.len() as u64;
                    pushed.push((topic, first));
                    mailbox.push(&batch(topic, first, payload), Time::from_millis(1));
                }
                Op::Take { most } => match mailbox.poll_take(&mut cx, most) {
                    Poll::Ready(Ok(run)) => {
                        let new = outs(events(&run));
                        if let Some(credit) = &mut credit {
                            let messages = new.iter().filter(|one| matches!(one, Out::Message(..))).count() as i64;
                            prop_assert!(messages == 0 || *credit > 0, "no message without credit");
                            *credit -= messages;
                        }
                        out.extend(new);
                        asleep = false;
                    }
                    Poll::Ready(Err(closed)) => prop_assert!(false, "closed: {:?}", closed),
                    Poll::Pending => {
                        asleep = true;
                        woken = wakes.0.load(Ordering::Relaxed);
                    }
                },
                Op::Hold if hold.is_none() => {
                    let answer = v1::ServerFrame { events: vec![v1::Event { kind: Some(v1::event::Kind::Reply(v1::Reply::default())) }] };
                    hold = Some(mailbox.push_held(crate::wire::frames::message_bytes(&answer)));
                }
                Op::Hold => {}
                Op::Release => hold = None,
                Op::Credit(more) => {
                    mailbox.add_credit(more);
                    credit = Some(credit.unwrap_or(0) + i64::from(more));
                }
                Op::Gap => mailbox.push_gap(Gap::possible(None, GapReason::Link)),
            }
            let now = wakes.0.load(Ordering::Relaxed);
            if !asleep {
                prop_assert_eq!(now, woken, "an awake writer is not woken");
            } else if now > woken {
                prop_assert_eq!(now, woken + 1, "woken once");
                woken = now;
                asleep = false;
            } else {
                prop_assert!(mailbox.state.lock().next().is_none(), "asleep, though there is something to take");
            }
        }
        drop(hold);
        mailbox.add_credit(1_000_000);
        while let Poll::Ready(Ok(run)) = mailbox.poll_take(&mut cx, 50_000) {
            out.extend(outs(events(&run)));
        }
        let report = mailbox.report();
        prop_assert_eq!(report.bytes, 0);
        for n in 0..3 {
            let name = format!("t{n}");
            let sent: Vec<u64> = pushed.iter().filter(|(topic, _)| *topic == n).map(|(_, number)| *number).collect();
            let got: Vec<u64> = out.iter().filter_map(|one| match one { Out::Message(topic, number) if *topic == name => Some(*number), _ => None }).collect();
            let missing: u64 = out.iter().filter_map(|one| match one { Out::Missing(topic, count) if *topic == name => Some(*count), _ => None }).sum();
            prop_assert!(got.windows(2).all(|pair| pair[0] < pair[1]), "in order");
            prop_assert_eq!(sent.len() as u64, got.len() as u64 + missing, "all of {} is there or counted", name);
            // A gap stands where its messages would have stood: none of them comes before an earlier gap's end.
            let mut seen = 0;
            for one in &out {
                match one {
                    Out::Message(topic, number) if *topic == name => {
                        let at = sent.iter().position(|one| one == number).unwrap();
                        prop_assert_eq!(at, seen, "gap counts are exact where they stand");
                        seen += 1;
                    }
                    Out::Missing(topic, count) if *topic == name => seen += usize::try_from(*count).unwrap(),
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn over_its_limit_it_drops_the_newest_until_it_is_half_empty() {
    let mailbox = Mailbox::new(1, SessionId([1; 16]), 10_000);
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes);
    let mut cx = Context::from_waker(&waker);
    let mut dropped = 0;
    for number in 0..100 {
        if mailbox.push(&batch(0, number, 500), Time::from_millis(1)) == Pushed::Dropped {
            dropped += 1;
        }
    }
    let mut out = Vec::new();
    while let Poll::Ready(Ok(run)) = mailbox.poll_take(&mut cx, 1_000) {
        out.extend(outs(events(&run)));
    }
    let kept = 100 - dropped;
    assert!(kept > 8, "{kept} fit");
    let mut expected: Vec<Out> =
        (0..kept).map(|number| Out::Message("t0".to_owned(), number)).collect();
    expected.push(Out::Missing("t0".to_owned(), dropped));
    assert_eq!(out, expected);
}

#[test]
fn a_receiver_that_stopped_loses_its_right_to_slow_its_publishers() {
    let mailbox = Mailbox::new(1, SessionId([1; 16]), 10_000);
    let waker = Waker::from(Arc::new(Wakes::default()));
    let mut cx = Context::from_waker(&waker);
    let push = |number, ms| mailbox.push(&batch(0, number, 2_900), Time::from_millis(ms));
    assert_eq!(push(0, 10), Pushed::Queued);
    assert_eq!(push(1, 20), Pushed::Slow);
    assert_eq!(push(2, 90), Pushed::Slow);
    assert!(mailbox.poll_take(&mut cx, 1).is_ready());
    assert_eq!(push(3, 150), Pushed::Slow, "it has taken something");
    assert!(mailbox.poll_take(&mut cx, 1).is_ready());
    assert_eq!(push(4, 200), Pushed::Slow);
    assert!(matches!(push(5, 210), Pushed::Dropped));
    assert!(mailbox.poll_take(&mut cx, 1).is_ready());
    assert!(mailbox.poll_take(&mut cx, 1).is_ready());
    assert_eq!(push(6, 400), Pushed::Slow, "it has taken something");
    let small = batch(0, 7, 10);
    assert_eq!(mailbox.push(&small, Time::from_millis(499)), Pushed::Slow);
    assert_eq!(
        mailbox.push(&small, Time::from_millis(501)),
        Pushed::Queued,
        "nothing was taken for over 100 ms"
    );
}

#[test]
fn it_is_closed_when_nothing_is_taken_for_too_long() {
    let mailbox = Mailbox::new(1, SessionId([1; 16]), 10_000);
    let waker = Waker::from(Arc::new(Wakes::default()));
    let mut cx = Context::from_waker(&waker);
    let limit = Duration::from_secs(30);
    mailbox.close_if_stalled(Time::from_millis(1), limit);
    mailbox.close_if_stalled(Time::from_millis(100_000), limit);
    assert!(!mailbox.is_closed(), "nothing waits");
    mailbox.push(&batch(0, 0, 10), Time::from_millis(100_000));
    mailbox.close_if_stalled(Time::from_millis(129_000), limit);
    assert!(!mailbox.is_closed());
    mailbox.close_if_stalled(Time::from_millis(131_000), limit);
    assert!(mailbox.is_closed());
    assert!(
        matches!(mailbox.poll_take(&mut cx, 1_000), Poll::Ready(Ok(_))),
        "what is in it can be taken"
    );
    assert!(matches!(mailbox.poll_take(&mut cx, 1_000), Poll::Ready(Err(Closed::Stalled))));
}

#[test]
fn what_waits_too_long_becomes_a_gap_in_its_place() {
    let mailbox = Mailbox::outbox(1, 100_000);
    let waker = Waker::from(Arc::new(Wakes::default()));
    let mut cx = Context::from_waker(&waker);
    let age = Duration::from_secs(30);
    mailbox.expire(Time::from_millis(1), age);
    for number in 0..5 {
        mailbox.push(&batch(0, number, 10), Time::from_millis(1_000));
    }
    mailbox.expire(Time::from_millis(30_000), age);
    assert_eq!(mailbox.report().dropped, 0);
    mailbox.expire(Time::from_millis(31_001), age);
    mailbox.push(&batch(0, 5, 10), Time::from_millis(31_002));
    let Poll::Ready(Ok(run)) = mailbox.poll_take(&mut cx, 10_000) else { panic!("there is a gap") };
    assert_eq!(
        outs(events(&run)),
        [Out::Missing("t0".to_owned(), 5), Out::Message("t0".to_owned(), 5)]
    );
}

#[test]
fn places_of_an_interest_keep_their_order_and_are_no_more_than_batches() {
    let mailbox = Mailbox::outbox(1, 2_000);
    let mut pushed = Vec::new();
    mailbox.push_interest_place(1);
    for number in 0..20 {
        // Most of these find the outbox full.
        mailbox.push(&batch(0, number, 300), Time::from_millis(1));
        mailbox.push_interest_place(2 * number);
        mailbox.push_interest_place(2 * number + 1);
    }
    mailbox.take_entries(1 << 20, &mut |entry| match entry {
        Entry::Batch(batch) => pushed.push(format!("message {}", batch.head().first)),
        Entry::InterestPlace(version) => pushed.push(format!("place {version}")),
        Entry::Gap(gap) => pushed.push(format!("gap {:?}", gap.missing)),
        other => panic!("{other:?}"),
    });
    let kept = pushed.iter().filter(|one| one.starts_with("message")).count();
    let mut expected = vec!["place 1".to_owned()];
    for number in 0..kept - 1 {
        expected.extend([format!("message {number}"), format!("place {}", 2 * number + 1)]);
    }
    expected.extend([format!("message {}", kept - 1), "place 39".to_owned()]);
    assert_eq!(pushed, expected);
    assert!((2..10).contains(&kept), "{kept}");
}

fn answer() -> Bytes {
    let reply = v1::event::Kind::Reply(v1::Reply::default());
    let frame = v1::ServerFrame { events: vec![v1::Event { kind: Some(reply) }] };
    crate::wire::frames::message_bytes(&frame)
}

/// A session that waits for room reads nothing: neither the credit that would make room.
#[test]
fn a_mailbox_full_of_messages_without_credit_has_room_for_a_reply() {
    let mailbox = Mailbox::new(1, SessionId([1; 16]), 10_000);
    let waker = Waker::from(Arc::new(Wakes::default()));
    let mut cx = Context::from_waker(&waker);
    mailbox.add_credit(0);
    let mut number = 0;
    while mailbox.push(&batch(0, number, 10), Time::from_millis(1)) != Pushed::Dropped {
        number += 1;
    }
    let woken = Arc::new(Wakes::default());
    let session = Waker::from(woken.clone());
    let mut room = std::pin::pin!(mailbox.room());
    assert!(!mailbox.push_event(answer()), "over its limit, with a reply in it");
    assert!(room.as_mut().poll(&mut Context::from_waker(&session)).is_pending());
    let Poll::Ready(Ok(run)) = mailbox.poll_take(&mut cx, 1) else {
        panic!("a reply needs no credit")
    };
    assert_eq!(outs(events(&run)), [Out::Answer]);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "the session reads on");
    assert!(room.as_mut().poll(&mut Context::from_waker(&session)).is_ready());
    assert!(mailbox.poll_take(&mut cx, 1).is_pending(), "messages wait for credit");
    mailbox.add_credit(1);
    assert!(mailbox.poll_take(&mut cx, 1).is_ready());
}

#[test]
fn gaps_keep_to_the_limit_too_and_their_counts_are_kept() {
    let mailbox = Mailbox::new(1, SessionId([1; 16]), 10_000);
    let waker = Waker::from(Arc::new(Wakes::default()));
    let mut cx = Context::from_waker(&waker);
    let gap = |n: u64| Gap {
        topics: vec![topic((n % 3) as u8)],
        missing: Some(1),
        certain: true,
        ..Gap::possible(Some(format!("n{}", n % 500).into()), GapReason::Link)
    };
    for n in 0..3_000 {
        mailbox.push_gap(gap(n));
        mailbox.push_gap(Gap::possible(Some(format!("m{n}").into()), GapReason::MemberLost));
    }
    assert!(mailbox.report().bytes <= 10_000, "{:?}", mailbox.report());
    let mut missing = 0;
    let mut anybody = false;
    while let Poll::Ready(Ok(run)) = mailbox.poll_take(&mut cx, 50_000) {
        for kind in events(&run) {
            let v1::event::Kind::Gap(gap) = kind else { panic!("only gaps were put in") };
            missing += gap.missing.unwrap_or(0);
            anybody |= !gap.certain && gap.origin.is_empty();
        }
    }
    assert_eq!(missing, 3_000);
    assert!(anybody, "whose gaps were too many to be kept apart is anybody");
}

#[test]
fn small_replies_count_what_they_pin() {
    let mailbox = Mailbox::new(1, SessionId([1; 16]), 10_000);
    let pushed = (0..10_000).take_while(|_| mailbox.push_event(answer())).count();
    assert!(pushed < 10_000 / EVENT_OVERHEAD, "{pushed} fit");
}

/// As a Redis client has it.
fn strict() -> Mailbox {
    let copies = Copies::EachMatch { hard: 10_000, soft: 4_000, soft_for: Duration::from_secs(60) };
    Mailbox::with_copies(1, SessionId([1; 16]), 1, copies)
}

fn taken(mailbox: &Mailbox) -> Poll<Result<usize, Closed>> {
    let cx = Context::from_waker(Waker::noop());
    let mut entries = 0;
    mailbox.poll_entries(&cx, usize::MAX, &mut |_| entries += 1).map_ok(|()| entries)
}

#[test]
fn over_the_hard_limit_it_is_closed_and_pins_nothing() {
    let mailbox = strict();
    assert_eq!(mailbox.push(&batch(0, 0, 4_000), secs(1)), Pushed::Slow);
    assert_eq!(mailbox.push(&batch(0, 1, 4_000), secs(1)), Pushed::Slow);
    assert_eq!(mailbox.push(&batch(0, 2, 4_000), secs(1)), Pushed::Closed);
    assert_eq!(mailbox.report().bytes, 0);
    assert_eq!(taken(&mailbox), Poll::Ready(Err(Closed::Overflow)));
    assert!(mailbox.push_event(Bytes::from_static(b"+OK\r\n")));
    assert_eq!(taken(&mailbox), Poll::Ready(Err(Closed::Overflow)), "nothing comes afterwards");
}

#[test]
fn over_the_soft_limit_it_is_closed_after_its_time() {
    let over = |mailbox: &Mailbox| {
        mailbox.push(&batch(0, 0, 5_000), secs(10));
        mailbox.close_if_stalled(secs(69), Duration::ZERO);
        assert!(!mailbox.is_closed());
    };
    let mailbox = strict();
    over(&mailbox);
    mailbox.close_if_stalled(secs(70), Duration::ZERO);
    assert_eq!(mailbox.closed(), Some(Closed::Overflow));

    let mailbox = strict();
    over(&mailbox);
    assert_eq!(mailbox.push(&batch(0, 1, 10), secs(70)), Pushed::Closed);

    let mailbox = strict();
    over(&mailbox);
    assert_eq!(taken(&mailbox), Poll::Ready(Ok(1)));
    mailbox.push(&batch(0, 1, 5_000), secs(70));
    mailbox.close_if_stalled(secs(129), Duration::ZERO);
    assert!(!mailbox.is_closed(), "its time begins anew");
}
