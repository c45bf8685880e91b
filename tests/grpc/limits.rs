//! Limits that hold whatever a client asks and does not read.

use std::time::Duration;

use waxwing::broker::SessionFilter;
use waxwing::config::Limits;
use waxwing::wire::v1;
use waxwing::wire::v1::request::Kind;

use crate::node::{TestNode, names};

/// A subscribe that is answered with so many errors.
fn long_answer() -> Kind {
    let mut wrong = vec!["\n"; 1_000];
    wrong.push("t");
    Kind::Subscribe(names(&wrong, &[]))
}

#[tokio::test]
async fn who_asks_and_never_reads_is_not_read_either() {
    let mailbox = 64 << 10;
    let node = TestNode::with_limits(Limits { mailbox, ..Limits::default() }).await;
    let lazy = node.session().await;
    let mut sent = 0;
    // Once its mailbox and the windows of HTTP/2 are full, a request finds nobody who takes it.
    while tokio::time::timeout(Duration::from_millis(500), lazy.ask(sent, long_answer()))
        .await
        .is_ok()
    {
        sent += 1;
        assert!(sent < 5_000, "it is read on and on");
    }
    let broker = node.node.handle().broker().clone();
    let (rows, _) = broker.list(&SessionFilter { limit: 1, ..SessionFilter::default() });
    let waiting = rows[0].mailbox.bytes;
    assert!(waiting < mailbox + (1 << 20), "{waiting} bytes wait after {sent} requests");
}

#[tokio::test]
async fn one_topic_too_many_is_refused() {
    let node = TestNode::with_limits(Limits { topics: 2, ..Limits::default() }).await;
    let mut talk = node.session().await;
    talk.subscribe(&["a", "b"], &[]).await;
    // Topics are counted once a second, so a further one may be let in before.
    for n in 1_u64.. {
        talk.ask(n, Kind::Subscribe(names(&[&format!("c{n}")], &[]))).await;
        let refused = talk.reply().await.topics.into_iter().find_map(|topic| topic.error);
        if let Some(error) = refused {
            assert_eq!(error.code, "too_many_topics");
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Who subscribes to a topic that is there takes no new one.
    node.session().await.subscribe(&["a"], &[]).await;
}

#[tokio::test]
async fn a_linger_is_cut_to_the_longest_there_is() {
    let linger_max = Duration::from_millis(100);
    let limits = Limits { linger: linger_max, linger_max, ..Limits::default() };
    let node = TestNode::with_limits(limits).await;
    let mut talk = node.stream().await;
    talk.hello(v1::Hello {
        linger: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        ..v1::Hello::default()
    })
    .await;
    drop(talk);
    let broker = node.node.handle().broker().clone();
    node.eventually("the session is gone", || {
        let counts = broker.session_counts();
        counts.attached + counts.lingering == 0
    })
    .await;
}
