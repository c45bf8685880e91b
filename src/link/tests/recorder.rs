//! A handler that records everything, and sources that tests fill.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::world::name;
use crate::link::{
    ContentItem, Direction, LinkHandler, LinkInfo, LinkSource, Pace, Past, StateHandler,
    StateSource,
};
use crate::types::{LinkEpoch, NodeName};

/// What a handler was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Up { had_epoch: bool },
    Down,
    Control(Bytes),
    State(Bytes),
    Content(Vec<Bytes>),
    Jump,
    Ping(Bytes),
    StatePing(Bytes),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub peer: NodeName,
    pub direction: Direction,
    pub epoch: LinkEpoch,
    pub event: Event,
}

/// Items that one link has yet to send.
#[derive(Default)]
pub(super) struct TestSource {
    control: Mutex<VecDeque<Bytes>>,
    state: Mutex<VecDeque<Bytes>>,
    content: Mutex<VecDeque<Bytes>>,
    waker: AtomicWaker,
    state_waker: AtomicWaker,
    digest: Bytes,
    /// Content that was taken and not released.
    pub unsettled: Arc<AtomicUsize>,
    all_lost: bool,
}

impl TestSource {
    pub(super) fn control(&self, payload: impl Into<Bytes>) {
        self.control.lock().push_back(payload.into());
        self.waker.wake();
    }

    pub(super) fn state(&self, payload: impl Into<Bytes>) {
        self.state.lock().push_back(payload.into());
        self.state_waker.wake();
    }

    pub(super) fn content(&self, items: impl IntoIterator<Item = Bytes>) {
        self.content.lock().extend(items);
        self.waker.wake();
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.content.lock().iter().map(Bytes::len).sum()
    }
}

fn take(from: &Mutex<VecDeque<Bytes>>, bytes_max: usize, mut give: impl FnMut(Bytes)) {
    let mut from = from.lock();
    let mut bytes = 0;
    while bytes < bytes_max
        && let Some(item) = from.pop_front()
    {
        bytes += item.len();
        give(item);
    }
}

impl LinkSource for TestSource {
    fn take_control(&self, out: &mut Vec<Bytes>, bytes_max: usize) {
        take(&self.control, bytes_max, |payload| out.push(payload));
    }

    fn take_content(&self, out: &mut Vec<ContentItem>, bytes_max: usize) {
        take(&self.content, bytes_max, |bytes| {
            self.unsettled.fetch_add(bytes.len(), Ordering::Relaxed);
            out.push(ContentItem { cost: bytes.len(), bytes });
        });
    }

    fn released(&self, cost: usize) {
        self.unsettled.fetch_sub(cost, Ordering::Relaxed);
    }

    fn summary(&self, item: &Bytes) -> Bytes {
        item.slice(..item.len().min(4))
    }

    fn all_lost(&self) -> bool {
        self.all_lost
    }

    fn ping(&self) -> Bytes {
        self.digest.clone()
    }

    fn register(&self, cx: &mut Context<'_>) {
        self.waker.register(cx.waker());
    }
}

impl StateSource for TestSource {
    fn take_state(&self, out: &mut Vec<Bytes>, bytes_max: usize) {
        take(&self.state, bytes_max, |payload| out.push(payload));
    }

    fn ping(&self) -> Bytes {
        self.digest.clone()
    }

    fn register(&self, cx: &mut Context<'_>) {
        self.state_waker.register(cx.waker());
    }
}

/// Records everything, in order.
#[derive(Default)]
pub(super) struct Recorder {
    name: String,
    pub told: Mutex<Vec<Told>>,
    sources: Mutex<BTreeMap<(NodeName, bool), Arc<TestSource>>>,
    /// What every source has from its beginning.
    first: (Vec<Bytes>, Vec<Bytes>),
    slow: AtomicBool,
    /// The next link from a peer says that all is lost.
    pub all_lost: AtomicBool,
}

impl Recorder {
    pub(super) fn new(name: String, first: (Vec<Bytes>, Vec<Bytes>)) -> Self {
        Self { name, first, ..Self::default() }
    }

    fn tell(&self, link: &LinkInfo, event: Event) {
        let LinkInfo { peer, direction, epoch, .. } = link.clone();
        self.told.lock().push(Told { peer, direction, epoch, event });
    }

    /// What the link to (`Out`) or from (`In`) a peer sends from, in its present life.
    pub(super) fn source(&self, peer: &str, direction: Direction) -> Option<Arc<TestSource>> {
        self.sources.lock().get(&(name(peer), direction == Direction::Out)).cloned()
    }

    pub(super) fn be_slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::Relaxed);
    }

    /// Everything that one directed link said, life after life.
    pub(super) fn of(&self, peer: &str, direction: Direction) -> Vec<Told> {
        let told = self.told.lock();
        let of = told.iter().filter(|t| t.peer.as_str() == peer && t.direction == direction);
        of.cloned().collect()
    }

    pub(super) fn items(&self, peer: &str) -> Vec<Bytes> {
        let mut items = Vec::new();
        for told in self.told.lock().iter().filter(|told| told.peer.as_str() == peer) {
            if let Event::Content(some) = &told.event {
                items.extend_from_slice(some);
            }
        }
        items
    }

    pub(super) fn count(&self, peer: &str, direction: Direction, event: &Event) -> usize {
        self.of(peer, direction).iter().filter(|told| told.event == *event).count()
    }

    /// In every life: up, then frames, then down; one life after another, each of a newer epoch.
    pub(super) fn check_lives(&self) {
        let mut open = BTreeMap::<(NodeName, bool), LinkEpoch>::new();
        let mut last = BTreeMap::<(NodeName, bool), LinkEpoch>::new();
        for told in self.told.lock().iter() {
            let key = (told.peer.clone(), told.direction == Direction::Out);
            match told.event {
                Event::Up { .. } => {
                    assert_eq!(open.insert(key.clone(), told.epoch), None, "{told:?}");
                    if let Some(last) = last.insert(key, told.epoch) {
                        assert!(
                            last.attempt < told.epoch.attempt || last.sender != told.epoch.sender
                        );
                    }
                }
                Event::Down => assert_eq!(open.remove(&key), Some(told.epoch), "{told:?}"),
                _ => assert_eq!(open.get(&key), Some(&told.epoch), "{told:?}"),
            }
        }
    }
}

/// Called right after `LinkHandler::up`, whose source it shares.
impl StateHandler for Recorder {
    fn up(&self, link: &LinkInfo) -> Arc<dyn StateSource> {
        let source = self.source(link.peer.as_str(), link.direction).expect("made just before");
        source.state.lock().push_back(format!("state of {}", self.name).into());
        source
    }

    fn down(&self, _: &LinkInfo) {}

    fn state(&self, link: &LinkInfo, payload: Bytes) -> Result<Pace, String> {
        if payload == "nonsense" {
            return Err("the replicator can't read it".to_owned());
        }
        self.tell(link, Event::State(payload));
        Ok(Pace::ReadOn)
    }

    fn ping(&self, link: &LinkInfo, payload: Bytes) -> Result<(), String> {
        self.tell(link, Event::StatePing(payload));
        Ok(())
    }
}

impl LinkHandler for Recorder {
    fn up(&self, link: &LinkInfo) -> Arc<dyn LinkSource> {
        self.tell(link, Event::Up { had_epoch: link.had_epoch });
        let digest = format!("digest of {}", self.name).into();
        let all_lost =
            link.direction == Direction::In && self.all_lost.swap(false, Ordering::Relaxed);
        let key = (link.peer.clone(), link.direction == Direction::Out);
        let mut sources = self.sources.lock();
        let before = sources.get(&key).filter(|_| link.past == Past::Kept);
        let unsettled = before.map(|before| before.unsettled.clone()).unwrap_or_default();
        let source = Arc::new(TestSource { digest, unsettled, all_lost, ..TestSource::default() });
        let (control, content) = self.first.clone();
        source.control.lock().extend(control);
        match before {
            // What was not written yet waits for the next link.
            Some(before) => {
                std::mem::swap(&mut *source.content.lock(), &mut *before.content.lock())
            }
            None => source.content.lock().extend(content),
        }
        sources.insert(key, source.clone());
        source
    }

    fn down(&self, link: &LinkInfo) {
        self.tell(link, Event::Down);
    }

    fn control(&self, link: &LinkInfo, payload: Bytes) -> Result<(), String> {
        if payload == "nonsense" {
            return Err("the router can't read it".to_owned());
        }
        assert!(payload != "panic", "as the test wants it");
        self.tell(link, Event::Control(payload));
        Ok(())
    }

    fn content(&self, link: &LinkInfo, items: Vec<Bytes>) -> Result<Pace, String> {
        self.tell(link, Event::Content(items));
        let slow = self.slow.load(Ordering::Relaxed);
        Ok(if slow {
            Pace::Wait(Box::pin(tokio::time::sleep(Duration::from_millis(5))))
        } else {
            Pace::ReadOn
        })
    }

    fn jump(&self, link: &LinkInfo) {
        self.tell(link, Event::Jump);
    }

    fn ping(&self, link: &LinkInfo, payload: Bytes) -> Result<(), String> {
        self.tell(link, Event::Ping(payload));
        Ok(())
    }
}
