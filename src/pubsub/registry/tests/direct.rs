//! Writers that who publishes writes for: nothing is lost, nothing changes places, whoever comes first.

use std::task::{Context, Poll};

use super::*;
use crate::pubsub::DirectWriter;

const PUBLISHES: usize = 500;
const PUBLISHERS: usize = 4;

/// A connection: it writes what is there when it wants to; else its task does.
#[derive(Debug, Default)]
struct Connection {
    written: Mutex<Vec<u64>>,
    calls: AtomicU64,
}

impl Connection {
    fn take(mailbox: &Mailbox, written: &mut Vec<u64>) {
        mailbox.take_entries(usize::MAX, &mut |entry| written.extend(number_of(&entry)));
    }

    /// As its task is polled; ready when it has all.
    fn poll(&self, mailbox: &Mailbox, cx: &Context<'_>, all: usize) -> Poll<()> {
        let mut written = self.written.lock();
        loop {
            if written.len() >= all {
                return Poll::Ready(());
            }
            let take = &mut |entry| written.extend(number_of(&entry));
            if mailbox.poll_entries(cx, usize::MAX, take).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl DirectWriter for Connection {
    fn write(&self, mailbox: &Mailbox) -> bool {
        let Some(mut written) = self.written.try_lock() else { return false };
        // Now and then the socket takes nothing.
        if self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(3) {
            return false;
        }
        Self::take(mailbox, &mut written);
        true
    }
}

fn number_of(entry: &Queued) -> Option<u64> {
    match entry {
        Queued::Batch(batch) => Some(batch.head().first),
        _ => None,
    }
}

async fn all_is_written(subscribers: u64) {
    let registry = Arc::new(Registry::default());
    let connections: Vec<_> = (1..=subscribers)
        .map(|id| {
            let (mailbox, connection) = (mailbox(id), Arc::new(Connection::default()));
            let weak: std::sync::Weak<dyn DirectWriter> = Arc::downgrade(&connection) as _;
            mailbox.set_direct(weak);
            registry.subscribe(&mailbox, &topic("t"));
            (mailbox, connection)
        })
        .collect();
    let all = PUBLISHERS * PUBLISHES;
    #[expect(clippy::disallowed_methods, reason = "tasks of this test, awaited by it")]
    let tasks: Vec<_> = connections
        .iter()
        .cloned()
        .map(|(mailbox, connection)| {
            tokio::spawn(std::future::poll_fn(move |cx| {
                // Nobody else wakes it: when the last is written directly, this test asks.
                match connection.poll(&mailbox, cx, all) {
                    Poll::Pending if connection.written.lock().len() >= all => Poll::Ready(()),
                    polled => polled,
                }
            }))
        })
        .collect();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|_| {
            let registry = registry.clone();
            #[expect(clippy::disallowed_methods, reason = "tasks of this test, awaited by it")]
            tokio::spawn(async move {
                for _ in 0..PUBLISHES {
                    let (_, delivery) = publish(&registry, &topic("t"), &[], None).await;
                    assert_eq!(delivery.mailboxes, subscribers);
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let everybody_has_all = async {
        while connections.iter().any(|(_, connection)| connection.written.lock().len() < all) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), everybody_has_all).await.unwrap();
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    for (_, connection) in &connections {
        let written = connection.written.lock();
        assert_eq!(written.len(), all);
        assert!(written.is_sorted(), "in the order of the pushes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_publishes_writes_for_those_who_sleep() {
    all_is_written(10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_publishes_to_a_crowd_writes_slice_by_slice() {
    all_is_written(SLICE as u64 + 10).await;
}

/// What sleeps on after a direct write is woken by what can't be written directly: a reply, the end.
#[tokio::test]
async fn a_writer_that_was_written_for_is_woken_later() {
    let registry = Registry::default();
    let (mailbox, connection) = (mailbox(1), Arc::new(Connection::default()));
    let weak: std::sync::Weak<dyn DirectWriter> = Arc::downgrade(&connection) as _;
    mailbox.set_direct(weak);
    registry.subscribe(&mailbox, &topic("t"));
    connection.calls.store(1, Ordering::Relaxed);
    let mut woken = counting_waker();
    let polled = |woken: &std::task::Waker| {
        connection.poll(&mailbox, &Context::from_waker(woken), usize::MAX).is_pending()
    };
    assert!(polled(&woken.0));
    publish(&registry, &topic("t"), &[], None).await;
    assert_eq!((connection.written.lock().len(), woken.count()), (1, 0), "written, and asleep");
    mailbox.push_event("reply".into());
    assert_eq!(woken.count(), 1);
    woken = counting_waker();
    assert!(polled(&woken.0));
    publish(&registry, &topic("t"), &[], None).await;
    assert_eq!(connection.written.lock().len(), 2);
    mailbox.close(crate::pubsub::mailbox::Closed::Stalled);
    assert_eq!(woken.count(), 1);
}

struct Count(AtomicU64);

impl std::task::Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Woken(std::task::Waker, Arc<Count>);

impl Woken {
    fn count(&self) -> u64 {
        self.1.0.load(Ordering::Relaxed)
    }
}

fn counting_waker() -> Woken {
    let count = Arc::new(Count(AtomicU64::new(0)));
    Woken(count.clone().into(), count)
}
