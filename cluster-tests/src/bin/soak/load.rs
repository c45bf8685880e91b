//! The load of one round: publishers over gRPC, HTTP and Redis on every node, and who listens.
//!
//! Publishers are called after their node, `p@a`, so that a Redis subscriber knows where a message comes from.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster_tests::chance::Chance;
use cluster_tests::client::{Client, ClientError, Got};
use cluster_tests::history::{Kind, Numbered, Op, Recorder, Who};
use cluster_tests::http;
use serde_json::json;
use tokio::task::JoinSet;
use waxwing::types::Time;
use waxwing::wire::v1::Hello;

use crate::place::{NODES, Place};
use crate::report::Report;
use crate::{redis, rooms, subscriber};

pub(crate) const TOPICS: usize = 8;
const SUBSCRIBERS_A_NODE: usize = 3;
const OWNERS_A_NODE: usize = 2;
/// Every node is interested in it.
pub(crate) const BARRIER: &str = "barrier";
const AGAIN: Duration = Duration::from_millis(200);
const BARRIER_WITHIN: Duration = Duration::from_secs(40);

/// What the parts of a round share.
#[derive(Clone)]
pub(crate) struct Round {
    pub(crate) place: Arc<Place>,
    pub(crate) recorder: Recorder,
    pub(crate) number: u32,
    /// Nobody publishes any more.
    pub(crate) over: Arc<AtomicBool>,
    /// Everything is in mailboxes.
    pub(crate) quiet: Arc<AtomicBool>,
    /// Who is where has been asked of every node.
    pub(crate) listed: Arc<AtomicBool>,
    /// What clients could not do though nothing was wrong.
    pub(crate) troubles: Arc<Mutex<Vec<String>>>,
    pub(crate) resumes: Arc<AtomicU64>,
}

impl Round {
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Acquire)
    }

    pub(crate) fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Acquire)
    }

    pub(crate) fn address(&self, node: usize) -> String {
        self.place.cluster().node(node).ports.grpc.to_string()
    }

    pub(crate) fn node_name(&self, node: usize) -> String {
        self.place.cluster().node(node).name.clone()
    }
}

pub(crate) struct Load {
    round: Round,
    publishing: JoinSet<()>,
    listening: JoinSet<()>,
    present: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(
        place: &Arc<Place>,
        recorder: &Recorder,
        chance: &mut Chance,
        number: u32,
        over: Arc<AtomicBool>,
    ) -> Self {
        let round = Round {
            place: place.clone(),
            recorder: recorder.clone(),
            number,
            over,
            quiet: Arc::default(),
            listed: Arc::default(),
            troubles: Arc::default(),
            resumes: Arc::default(),
        };
        let (mut publishing, mut listening) = (JoinSet::new(), JoinSet::new());
        let mut present = JoinSet::new();
        for node in 0..NODES {
            publishing.spawn(by_grpc(round.clone(), node, chance.fork()));
            publishing.spawn(by_http(round.clone(), node, chance.fork()));
            publishing.spawn(redis::publish(round.clone(), node, chance.fork()));
            listening.spawn(redis::listen(round.clone(), node, chance.fork()));
            for i in 0..SUBSCRIBERS_A_NODE {
                listening.spawn(subscriber::run(round.clone(), node, i, chance.fork()));
            }
            for i in 0..OWNERS_A_NODE {
                present.spawn(rooms::own(round.clone(), node, i, chance.fork()));
            }
            present.spawn(rooms::watch(round.clone(), node, chance.fork()));
        }
        Self { round, publishing, listening, present }
    }

    /// Everything that was published has come to an end; then listeners read to the end of it.
    /// `healed`: when nothing was wrong any more.
    pub(crate) async fn finish(mut self, report: &mut Report, round: u32, healed: Time) {
        while let Some(ended) = self.publishing.join_next().await {
            if let Err(error) = ended {
                report.violation(round, &format!("a publisher of the soak: {error}"));
            }
        }
        for node in 0..NODES {
            let passing = tokio::time::timeout(BARRIER_WITHIN, barrier(&self.round, node));
            if passing.await.is_err() {
                report.violation(
                    round,
                    &format!("no barrier from node {node} in {BARRIER_WITHIN:?}"),
                );
            }
        }
        self.round.quiet.store(true, Ordering::Release);
        while let Some(ended) = self.listening.join_next().await {
            if let Err(error) = ended {
                report.violation(round, &format!("a subscriber of the soak: {error}"));
            }
        }
        rooms::list(&self.round, healed).await;
        self.round.listed.store(true, Ordering::Release);
        while let Some(ended) = self.present.join_next().await {
            if let Err(error) = ended {
                report.violation(round, &format!("an owner or a watcher of the soak: {error}"));
            }
        }
        let troubles = std::mem::take(
            &mut *self.round.troubles.lock().unwrap_or_else(PoisonError::into_inner),
        );
        troubles.iter().for_each(|trouble| report.violation(round, trouble));
        report.resumes += self.round.resumes.load(Ordering::Relaxed);
    }
}

/// Until every node has put everything that this one published into mailboxes.
async fn barrier(round: &Round, node: usize) {
    let who = format!("barrier{}-{node}", round.number);
    loop {
        if let Ok(mut client) = Client::open(&round.address(node), &who, &round.recorder).await
            && matches!(client.all_handed_over(BARRIER).await, Ok(true))
        {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

pub(crate) fn topic(i: usize) -> String {
    format!("t{i}")
}

async fn by_grpc(round: Round, node: usize, mut chance: Chance) {
    let who = format!("p{}@{}", round.number, round.node_name(node));
    let mut attachment = 0;
    while !round.is_over() {
        let address = round.address(node);
        let attaching =
            Client::attach(&address, &who, attachment, Hello::default(), &round.recorder);
        if let Ok(mut client) = attaching.await {
            // However it ends, it comes back as another attachment.
            let _ = publish(&round, &mut client, &mut chance).await;
        }
        attachment += 1;
        tokio::time::sleep(AGAIN).await;
    }
}

async fn publish(
    round: &Round,
    client: &mut Client,
    chance: &mut Chance,
) -> Result<(), ClientError> {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    while !round.is_over() {
        tick.tick().await;
        let most = topic(chance.below(TOPICS));
        let few: Vec<String> = (0..5).map(|_| topic(chance.below(TOPICS))).collect();
        let mut frame = vec![most.as_str(); 15];
        frame.extend(few.iter().map(String::as_str));
        client.publish_frame(&frame, *chance.pick(&[32, 32, 200, 2_000])).await?;
        if chance.one_in(4) {
            client.flush().await?;
        }
        while let Ok(Got::GoAway(_) | Got::Gap(_)) = client.event(Duration::ZERO).await {}
    }
    client.flush().await
}

async fn by_http(round: Round, node: usize, mut chance: Chance) {
    let name = round.node_name(node);
    let mut publisher = Publisher::new(&round.recorder, format!("h{}@{name}", round.number), &name);
    let address = round.place.cluster().node(node).ports.http;
    while !round.is_over() {
        let topic = topic(chance.below(TOPICS));
        let messages: Vec<Numbered> = (0..10).map(|_| publisher.next(&topic)).collect();
        let items: Vec<_> = messages
            .iter()
            .map(|message| json!({"topic": message.topic, "payload": message.payload(32)}))
            .collect();
        let headers = "Content-Type: application/json\r\n";
        let body = serde_json::Value::from(items).to_string();
        match http::post(address, "/v1/publish", headers, &body).await {
            Ok(answer) if answer.status == 200 && !answer.body.contains("\"error\"") => {
                publisher.all_are(Kind::Ok, messages);
            }
            // Whether some of it happened isn't known: later ones have another publisher.
            Ok(_) | Err(_) => publisher.renew(),
        }
        tokio::time::sleep(chance.ms(100..500)).await;
    }
}

/// Numbers messages that don't go through a session, and writes the history.
pub(crate) struct Publisher {
    recorder: Recorder,
    who: Who,
    seq: u64,
}

impl Publisher {
    pub(crate) fn new(recorder: &Recorder, proc: String, node: &str) -> Self {
        let who = Who { proc, attachment: 0, node: node.to_owned() };
        Self { recorder: recorder.clone(), who, seq: 0 }
    }

    pub(crate) fn next(&mut self, topic: &str) -> Numbered {
        self.seq += 1;
        let publisher = format!("{}.{}", self.who.proc, self.who.attachment);
        let message = Numbered { topic: topic.to_owned(), publisher, seq: self.seq };
        self.recorder.add(&self.who, Kind::Invoke, Op::Publish(message.clone()));
        message
    }

    pub(crate) fn all_are(&self, kind: Kind, messages: Vec<Numbered>) {
        for message in messages {
            self.recorder.add(&self.who, kind, Op::Publish(message));
        }
    }

    pub(crate) fn renew(&mut self) {
        self.who.attachment += 1;
        self.seq = 0;
    }
}
