//! An outbox that tenants share, against what each of them pushed.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::TURN_BYTES;
use crate::pubsub::batch::Head;
use crate::pubsub::mailbox::{Entry, Mailbox, Pushed};
use crate::pubsub::{Batch, Messages, Origin};
use crate::types::{ClusterName, Incarnation, Namespace, NodeName, Time, Topic, TopicHasher};

const NOW: Time = Time::from_micros(1_000);

fn topic(tenant: u8, topic: u8) -> Topic {
    let hasher = TopicHasher::new(&ClusterName::parse("test").unwrap());
    let namespace = Namespace::parse(&format!("n{tenant}")).unwrap();
    // Sharded channels are of the same tenant.
    let namespace = if topic == 2 { namespace.sharded() } else { namespace };
    hasher.topic(&namespace, &format!("t{topic}"), 100).unwrap()
}

fn batch(topic: Topic, first: u64, payload: usize) -> Arc<Batch> {
    let origin = Arc::new(Origin::new(&NodeName::parse("a").unwrap(), Incarnation(1)));
    let messages = Messages::single(vec![b'x'; payload].into());
    let head = Head { topic, first, count: 1, time_ms: 0, exclude: None, ticket: 0 };
    Arc::new(Batch::local(head, messages, origin))
}

#[derive(Debug, Clone)]
enum Op {
    Push { tenant: u8, topic: u8, payload: usize },
    Place,
    Marker,
    Take { most: usize },
    Settle,
    Expire,
}

fn op() -> impl Strategy<Value = Op> {
    let payload = prop_oneof![4 => 0usize..400, 1 => 4_000usize..20_000];
    // One of them publishes far more than the others.
    let tenant = prop_oneof![4 => Just(0u8), 1 => 1u8..4];
    prop_oneof![
        12 => (tenant, 0u8..3, payload).prop_map(|(tenant, topic, payload)| Op::Push { tenant, topic, payload }),
        1 => Just(Op::Place),
        1 => Just(Op::Marker),
        4 => (1usize..40_000).prop_map(|most| Op::Take { most }),
        2 => Just(Op::Settle),
        1 => Just(Op::Expire),
    ]
}

/// What has come out, and what must come next.
#[derive(Default)]
struct Judge {
    /// Of each topic, how many messages were pushed, and how many have come or were counted in a gap.
    topics: HashMap<Topic, (u64, u64)>,
    /// The number that each message has among its topic's, by its number among all.
    numbers: HashMap<u64, u64>,
    /// The newest of each tenant's that has come, and of all's.
    newest: HashMap<Namespace, u64>,
    newest_of_all: u64,
    /// The newest of what concerns all.
    barrier: u64,
    unsettled: usize,
}

impl Judge {
    fn push(&mut self, topic: &Topic, number: u64) {
        let (pushed, _) = self.topics.entry(topic.clone()).or_default();
        self.numbers.insert(number, *pushed);
        *pushed += 1;
    }

    fn take(&mut self, entry: &Entry) -> Result<(), TestCaseError> {
        self.unsettled += entry.cost();
        match entry {
            Entry::Batch(batch) => {
                let number = batch.head().first;
                let (_, come) = self.topics.get_mut(batch.topic()).unwrap();
                prop_assert_eq!(self.numbers[&number], *come, "in its topic's order, or told");
                *come += 1;
                let newest = self.newest.entry(batch.topic().namespace().tenant()).or_default();
                prop_assert!(number > *newest, "in its tenant's order");
                prop_assert!(number > self.barrier, "behind what came before it and concerns all");
                *newest = number;
                self.newest_of_all = self.newest_of_all.max(number);
            }
            Entry::Gap(gap) => {
                let (_, come) = self.topics.get_mut(&gap.topics[0]).unwrap();
                *come += gap.missing.unwrap();
            }
            Entry::InterestPlace(number) => self.pass(*number)?,
            Entry::Event(marker) => {
                self.pass(u64::from_be_bytes(marker[..].try_into().unwrap()))?
            }
            Entry::Match(_) => unreachable!("links get each batch once"),
        }
        Ok(())
    }

    fn pass(&mut self, number: u64) -> Result<(), TestCaseError> {
        prop_assert!(number > self.newest_of_all, "before what came after it");
        prop_assert!(number > self.barrier);
        self.barrier = number;
        Ok(())
    }
}

fn take(mailbox: &Mailbox, judge: &mut Judge, most: usize) -> Result<usize, TestCaseError> {
    let mut entries = Vec::new();
    mailbox.take_entries(most, &mut |entry| entries.push(entry));
    entries.iter().try_for_each(|entry| judge.take(entry))?;
    Ok(entries.len())
}

proptest! {
    #[test]
    fn each_tenants_own_order_holds_and_nothing_is_lost_uncounted(
        ops in prop::collection::vec(op(), 0..300),
        limit in 10_000usize..200_000,
    ) {
        let mailbox = Mailbox::outbox(1, limit);
        let mut judge = Judge::default();
        for (number, op) in (1..).zip(ops) {
            match op {
                Op::Push { tenant, topic: name, payload } => {
                    let topic = topic(tenant, name);
                    judge.push(&topic, number);
                    let batch = batch(topic, number, payload);
                    let before = mailbox.report();
                    let pushed = mailbox.push(&batch, NOW);
                    if matches!(pushed, Pushed::Queued | Pushed::Slow) {
                        prop_assert!(before.bytes + before.unsettled + batch.cost() <= limit);
                    }
                }
                Op::Place => mailbox.push_interest_place(number),
                Op::Marker => {
                    mailbox.push_event(Bytes::copy_from_slice(&number.to_be_bytes()));
                }
                Op::Take { most } => {
                    take(&mailbox, &mut judge, most)?;
                }
                Op::Settle => mailbox.settle(std::mem::take(&mut judge.unsettled)),
                Op::Expire => mailbox.expire(NOW, std::time::Duration::ZERO),
            }
            prop_assert_eq!(mailbox.report().unsettled, judge.unsettled);
        }
        loop {
            mailbox.settle(std::mem::take(&mut judge.unsettled));
            if take(&mailbox, &mut judge, 1 << 20)? == 0 {
                break;
            }
        }
        prop_assert_eq!(mailbox.report().bytes, 0);
        for (topic, (pushed, come)) in judge.topics {
            prop_assert_eq!(pushed, come, "{:?}", topic);
        }
    }
}

fn firsts(mailbox: &Mailbox, most: usize) -> Vec<u64> {
    let mut firsts = Vec::new();
    mailbox.take_entries(most, &mut |entry| {
        firsts.extend(match entry {
            Entry::Batch(batch) => Some(batch.head().first),
            _ => None,
        });
    });
    firsts
}

#[test]
fn who_has_little_waits_for_one_turn_of_who_has_much() {
    let mailbox = Mailbox::outbox(1, 64 << 20);
    for number in 0..10_000 {
        mailbox.push(&batch(topic(0, 0), number, 1_000), NOW);
    }
    for number in 10_000..10_010 {
        mailbox.push(&batch(topic(1, 0), number, 100), NOW);
    }
    let taken = firsts(&mailbox, 2 * TURN_BYTES as usize);
    assert!((10_000..10_010).all(|number| taken.contains(&number)), "{taken:?}");
    assert!(taken.contains(&0));
    // By itself again, and in order.
    let rest = firsts(&mailbox, 64 << 20);
    assert!(rest.is_sorted() && rest.last() == Some(&9_999));
}

#[test]
fn large_entries_are_paid_for() {
    let mailbox = Mailbox::outbox(1, 64 << 20);
    for number in 0..20 {
        mailbox.push(&batch(topic(0, 0), number, 64 << 10), NOW);
    }
    for number in 100..1_000 {
        mailbox.push(&batch(topic(1, 0), number, 1_000), NOW);
    }
    let taken = firsts(&mailbox, 600 << 10);
    let large = taken.iter().filter(|number| **number < 100).count();
    let small = taken.len() - large;
    assert!((3..=6).contains(&large) && small > 200, "{large} large, {small} small");
}

#[test]
fn what_one_has_too_much_of_is_nobody_elses_loss() {
    let limit = 1 << 20;
    let mailbox = Mailbox::outbox(1, limit);
    let mut lost = [0; 2];
    let mut number = 0;
    let mut push = |tenant: u8, payload| {
        number += 1;
        let pushed = mailbox.push(&batch(topic(tenant, 0), number, payload), NOW);
        lost[usize::from(tenant)] += u64::from(pushed == Pushed::Dropped);
        pushed
    };
    push(0, 1_000);
    for _ in 0..200 {
        assert_eq!(push(1, 100), Pushed::Queued, "nor need it be slower");
        // More than there is room for, of which the link takes half.
        for _ in 0..40 {
            push(0, 2_000);
        }
        let mut cost = 0;
        mailbox.take_entries(40_000, &mut |entry| cost += entry.cost());
        mailbox.settle(cost);
    }
    let [flooding, quiet] = lost;
    assert!(flooding > 1_000 && quiet == 0, "{flooding} and {quiet} were dropped");
    let report = mailbox.report();
    assert!(report.bytes <= limit && report.dropped == flooding);
}
