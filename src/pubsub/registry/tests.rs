//! The registry under many publishers at once.

mod direct;

use std::collections::BTreeMap;

use super::*;
use crate::pubsub::batch::Head;
use crate::pubsub::mailbox::Entry as Queued;
use crate::pubsub::{Messages, Origin};
use crate::types::{ClusterName, Incarnation, NodeName, SessionId, TopicHasher};

fn hasher() -> TopicHasher {
    TopicHasher::new(&ClusterName::parse("test").unwrap())
}

fn topic(name: &str) -> Topic {
    hasher().topic(&Namespace::default(), name, 100).unwrap()
}

fn pattern(glob: &str) -> Pattern {
    Pattern::parse(&Namespace::default(), glob, 100).unwrap()
}

fn mailbox(id: u64) -> Arc<Mailbox> {
    Arc::new(Mailbox::new(id, SessionId([id as u8; 16]), 1 << 30))
}

async fn publish(
    registry: &Registry,
    topic: &Topic,
    outboxes: &[Arc<Mailbox>],
    exclude: Option<SessionId>,
) -> (u64, Delivery) {
    let origin = Arc::new(Origin::new(&NodeName::parse("a").unwrap(), Incarnation(1)));
    let targets = Targets { local: true, outboxes };
    let make = |first| {
        let head = Head { topic: topic.clone(), first, count: 1, time_ms: 0, exclude, ticket: 0 };
        Batch::local(head, Messages::single("x".into()), origin)
    };
    registry.publish(topic, 1, Time::from_millis(1), targets, make).await
}

/// (topic, number) of every batch in the mailbox.
fn received(mailbox: &Mailbox) -> Vec<(String, u64)> {
    let mut got = Vec::new();
    loop {
        let before = got.len();
        mailbox.take_entries(usize::MAX, &mut |entry| {
            if let Queued::Batch(batch) = entry {
                got.push((batch.topic().to_string(), batch.head().first));
            }
        });
        if got.len() == before {
            return got;
        }
    }
}

/// Everybody gets a topic's messages in one order, and a publisher's in its own, on topics with few and with very many subscribers.
async fn one_order(subscribers: u64) {
    let registry = Arc::new(Registry::default());
    let boxes: Vec<_> = (1..=subscribers).map(mailbox).collect();
    let outbox = mailbox(1_000_001);
    let by_pattern = mailbox(1_000_002);
    registry.subscribe_pattern(&by_pattern, &pattern("t*"));
    for name in ["t1", "t2"] {
        for one in &boxes {
            assert!(registry.subscribe(one, &topic(name)));
            assert!(!registry.subscribe(one, &topic(name)));
        }
    }
    let publishers: Vec<_> = (0..4)
        .map(|_| {
            let (registry, outbox) = (registry.clone(), outbox.clone());
            #[expect(clippy::disallowed_methods, reason = "tasks of this test, awaited by it")]
            tokio::spawn(async move {
                let mut numbers = Vec::new();
                for i in 0..50 {
                    let name = if i % 3 == 0 { "t2" } else { "t1" };
                    let (first, delivery) =
                        publish(&registry, &topic(name), std::slice::from_ref(&outbox), None).await;
                    assert_eq!(delivery.mailboxes, subscribers + 1);
                    numbers.push((name.to_owned(), first));
                }
                numbers
            })
        })
        .collect();
    let mut published = Vec::new();
    for publisher in publishers {
        published.push(publisher.await.unwrap());
    }
    let mut orders: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for one in boxes.iter().chain([&outbox, &by_pattern]) {
        let got = received(one);
        assert_eq!(got.len(), 200, "mailbox {}", one.id());
        for name in ["t1", "t2"] {
            let order: Vec<u64> =
                got.iter().filter(|(topic, _)| topic == name).map(|(_, number)| *number).collect();
            assert!(order.is_sorted(), "numbers are taken in the order of the pushes");
            assert_eq!(orders.entry(name.to_owned()).or_insert_with(|| order.clone()), &order);
        }
        for of_one in &published {
            let in_order: Vec<_> = got.iter().filter(|one| of_one.contains(one)).cloned().collect();
            assert_eq!(&in_order, of_one, "a publisher's order holds across topics");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_subscribers_see_one_order() {
    one_order(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_subscribers_of_a_huge_topic_see_one_order() {
    one_order(SLICE as u64 * 3).await;
}

#[tokio::test]
async fn one_copy_however_many_subscriptions_match() {
    let registry = Registry::default();
    let (a, b) = (mailbox(1), mailbox(2));
    registry.subscribe(&a, &topic("room:1"));
    registry.subscribe_pattern(&a, &pattern("room:*"));
    registry.subscribe_pattern(&b, &pattern("room:*"));
    registry.subscribe_pattern(&b, &pattern("*1"));
    let (_, delivery) = publish(&registry, &topic("room:1"), &[], None).await;
    assert_eq!(delivery.mailboxes, 2);
    assert_eq!((received(&a).len(), received(&b).len()), (1, 1));
    let (_, delivery) = publish(&registry, &topic("room:2"), &[], Some(a.session())).await;
    assert_eq!(delivery.mailboxes, 1, "the publishing session is left out");
    assert!(registry.unsubscribe_pattern(&b, &pattern("room:*")));
    assert!(!registry.unsubscribe_pattern(&b, &pattern("room:*")));
    assert!(registry.unsubscribe(&a, &topic("room:1")));
    assert!(!registry.unsubscribe(&a, &topic("room:1")));
    let counts = registry.counts();
    assert_eq!((counts.topics, counts.subscriptions, counts.patterns), (0, 0, 2));
}

#[tokio::test]
async fn topics_are_listed_in_order() {
    let registry = Registry::default();
    let one = mailbox(1);
    for i in 0..50 {
        registry.subscribe(&one, &topic(&format!("room:{i:02}")));
    }
    registry.subscribe(&one, &topic("other"));
    let names = |prefix: &str, most| -> Vec<String> {
        registry
            .topics(&Namespace::default(), prefix.as_bytes(), most)
            .iter()
            .map(|(topic, _)| topic.to_string())
            .collect()
    };
    assert_eq!(names("room:", 3), ["room:00", "room:01", "room:02"]);
    assert_eq!(names("", 100).len(), 51);
    assert_eq!(names("x", 100), Vec::<String>::new());
}

#[tokio::test]
async fn a_publish_that_nobody_wants_makes_no_batch() {
    let registry = Registry::default();
    let targets = Targets { local: true, outboxes: &[] };
    let (first, _) = registry
        .publish(&topic("t"), 3, Time::ZERO, targets, |_| unreachable!("nobody wants it"))
        .await;
    let (next, _) = registry
        .publish(&topic("t"), 1, Time::ZERO, targets, |_| unreachable!("nobody wants it"))
        .await;
    assert_eq!(next, first + 3, "its numbers are taken all the same");
}

/// A client that goes while its message is on its way to very many must not leave some of them without it.
#[tokio::test]
async fn a_publish_that_is_cancelled_between_slices_reaches_everybody() {
    let registry = Registry::default();
    let topic = topic("huge");
    let mailboxes: Vec<_> = (0..3 * SLICE as u64).map(mailbox).collect();
    for mailbox in &mailboxes {
        registry.subscribe(mailbox, &topic);
    }
    {
        let mut publishing = Box::pin(publish(&registry, &topic, &[], None));
        let polled = futures_util::poll!(&mut publishing);
        assert!(polled.is_pending(), "it yields between slices");
    }
    publish(&registry, &topic, &[], None).await;
    for mailbox in &mailboxes {
        assert_eq!(received(mailbox).len(), 2, "mailbox {}", mailbox.id());
        registry.unsubscribe(mailbox, &topic);
    }
    assert_eq!(registry.counts().topics, 0, "nothing is left of the topic");
}

#[test]
fn a_pattern_of_very_many_is_joined_and_left_one_by_one() {
    let registry = Registry::default();
    let pattern = pattern("room:*");
    let mailboxes: Vec<_> = (0..1_000).map(mailbox).collect();
    assert!(mailboxes.iter().all(|mailbox| registry.subscribe_pattern(mailbox, &pattern)));
    assert!(!registry.subscribe_pattern(&mailboxes[7], &pattern));
    assert_eq!(registry.patterns_of(&topic("room:1"))[0].1, 1_000);
    assert!(mailboxes.iter().all(|mailbox| registry.unsubscribe_pattern(mailbox, &pattern)));
    assert!(!registry.unsubscribe_pattern(&mailboxes[7], &pattern));
    assert_eq!(registry.counts().patterns, 0);
}

/// As a Redis client has it.
fn each_match(id: u64) -> Arc<Mailbox> {
    use crate::pubsub::Copies;
    let copies =
        Copies::EachMatch { hard: 1 << 30, soft: 1 << 30, soft_for: std::time::Duration::MAX };
    Arc::new(Mailbox::with_copies(id, SessionId([id as u8; 16]), 1, copies))
}

/// What each copy came by: the topic itself, or a pattern.
fn copies(mailbox: &Mailbox) -> Vec<String> {
    let mut all = Vec::new();
    mailbox.take_entries(usize::MAX, &mut |entry| {
        all.push(match entry {
            Queued::Batch(_) => "direct".to_owned(),
            Queued::Match(run) => String::from_utf8_lossy(&run.pattern().glob).into_owned(),
            other => panic!("{other:?}"),
        });
    });
    all
}

async fn publish_anywhere(registry: &Registry, topic: &Topic) -> u64 {
    let targets = Targets { local: true, outboxes: &[] };
    let origin = Arc::new(Origin::new(&NodeName::parse("a").unwrap(), Incarnation(1)));
    let make = |first| {
        let head =
            Head { topic: topic.clone(), first, count: 1, time_ms: 1, exclude: None, ticket: 0 };
        Batch::local(head, Messages::single("x".into()), origin)
    };
    registry.publish(topic, 1, Time::from_millis(1), targets, make).await.1.mailboxes
}

#[tokio::test]
async fn who_wants_each_match_gets_the_direct_one_first_and_patterns_as_they_were_subscribed() {
    for crowd in [0, 2 * SLICE as u64] {
        let registry = Registry::default();
        let (redis, grpc) = (each_match(1), mailbox(2));
        for glob in ["*", "room:*", "r*"] {
            assert!(registry.subscribe_pattern(&redis, &pattern(glob)));
            assert!(registry.subscribe_pattern(&grpc, &pattern(glob)));
        }
        assert!(!registry.subscribe_pattern(&redis, &pattern("*")));
        assert!(registry.subscribe(&redis, &topic("room:1")));
        for id in 10..10 + crowd {
            registry.subscribe(&mailbox(id), &topic("room:1"));
        }
        assert_eq!(publish_anywhere(&registry, &topic("room:1")).await, 5 + crowd);
        assert_eq!(copies(&redis), ["direct", "*", "room:*", "r*"]);
        assert_eq!(copies(&grpc), ["direct"], "one copy");
        assert_eq!(registry.counts().delivered_each_match, 4);

        // Subscribed again, a pattern is the last.
        assert!(registry.unsubscribe_pattern(&redis, &pattern("*")));
        assert!(registry.subscribe_pattern(&redis, &pattern("*")));
        assert!(registry.unsubscribe(&redis, &topic("room:1")));
        publish_anywhere(&registry, &topic("room:1")).await;
        assert_eq!(copies(&redis), ["room:*", "r*", "*"]);
    }
}

#[tokio::test]
async fn a_topic_that_is_no_text_reaches_those_who_can_be_told() {
    let registry = Registry::default();
    let (redis, grpc) = (each_match(1), mailbox(2));
    let topic = hasher().binary_topic(&Namespace::default(), b"\xff1", 100).unwrap();
    registry.subscribe_pattern(&redis, &pattern("*"));
    registry.subscribe_pattern(&grpc, &pattern("*"));
    assert_eq!(publish_anywhere(&registry, &topic).await, 1);
    let gap = crate::pubsub::Gap {
        topics: vec![topic.clone()],
        ..crate::pubsub::Gap::possible(None, crate::pubsub::GapReason::Link)
    };
    registry.push_gap(&topic, &gap);
    assert_eq!(grpc.report().bytes, 0);
    assert_eq!(copies_and_gaps(&redis), 2);
}

fn copies_and_gaps(mailbox: &Mailbox) -> usize {
    let mut all = 0;
    mailbox.take_entries(usize::MAX, &mut |_| all += 1);
    all
}

#[tokio::test]
async fn names_are_a_namespaces_own_and_bounded_in_bytes() {
    let registry = Registry::default();
    let (one, other) = (mailbox(1), Namespace::parse("other").unwrap());
    let of_other = hasher().topic(&other, "theirs", 100).unwrap();
    for topic in [topic("aa"), topic("ab"), topic("bb"), of_other.clone()] {
        registry.subscribe(&one, &topic);
        registry.subscribe(&mailbox(2), &topic);
    }
    let names = async |namespace: &Namespace, glob: Option<&[u8]>, most| {
        let mut names = Vec::new();
        registry.names(namespace, glob, most, &mut names).await;
        names.len()
    };
    let own = Namespace::default();
    assert_eq!(names(&own, None, 100).await, 3);
    assert_eq!(names(&own, Some(b"a*"), 100).await, 2);
    assert_eq!(names(&own, None, 4).await, 2);
    assert_eq!(names(&own.sharded(), None, 100).await, 0);
    assert_eq!(names(&other, None, 100).await, 1);
    for id in [1, 1, 2] {
        registry.unsubscribe(&mailbox(id), &topic("aa"));
        registry.unsubscribe(&mailbox(id), &of_other);
    }
    assert_eq!(names(&own, None, 100).await, 2);
    assert_eq!(names(&other, None, 100).await, 0);
}

#[tokio::test]
async fn a_look_over_many_names_lets_others_go_on() {
    let registry = Registry::default();
    let one = mailbox(1);
    for i in 0..2_000 {
        registry.subscribe(&one, &topic(&format!("t{i}")));
    }
    let mut names = Vec::new();
    let namespace = Namespace::default();
    let look = registry.names(&namespace, Some(b"*[ab]"), 1 << 20, &mut names);
    let mut turns = 0;
    let mut look = std::pin::pin!(look);
    std::future::poll_fn(|cx| {
        turns += 1;
        look.as_mut().poll(cx)
    })
    .await;
    assert!(turns > 2, "{turns}");
}
