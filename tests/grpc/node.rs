//! A node, and clients that say exactly what a test wants said, well-formed or not.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use waxwing::config::{Config, Limits};
use waxwing::node::Node;
use waxwing::telemetry::LogLevel;
use waxwing::wire::v1;
use waxwing::wire::v1::event::Kind as EventKind;
use waxwing::wire::v1::request::Kind;
use waxwing::wire::v1::session_client::SessionClient;

/// No condition waited for here takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct TestNode {
    pub(crate) node: Node,
}

impl TestNode {
    pub(crate) async fn start() -> Self {
        Self::with_limits(Limits::default()).await
    }

    pub(crate) async fn with_limits(limits: Limits) -> Self {
        let mut config = Config::for_test("a");
        config.limits = limits;
        let node = Node::start(config, LogLevel::detached()).await.expect("it starts");
        let this = Self { node };
        this.eventually("the node is ready", || this.node.handle().status().ready().is_ok()).await;
        this
    }

    pub(crate) fn address(&self) -> String {
        self.node.handle().bound().grpc.to_string()
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address())).unwrap();
        within("it connects", endpoint.connect()).await.expect("it connects")
    }

    /// A stream on which nothing has been said.
    pub(crate) async fn stream(&self) -> Talk {
        Talk::open(self.channel().await, "").await.expect("a stream opens")
    }

    /// A new session.
    pub(crate) async fn session(&self) -> Talk {
        let mut talk = self.stream().await;
        talk.hello(v1::Hello::default()).await;
        talk
    }

    pub(crate) async fn eventually(&self, what: &str, condition: impl Fn() -> bool) {
        let holds = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(what, holds).await;
    }
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("never: {what}"),
    }
}

/// One stream of `Session.Open`.
pub(crate) struct Talk {
    requests: Option<mpsc::Sender<v1::ClientFrame>>,
    frames: Streaming<v1::ServerFrame>,
    events: VecDeque<EventKind>,
}

impl Talk {
    pub(crate) async fn open(channel: Channel, namespace: &str) -> Result<Self, Status> {
        let (requests, sent) = mpsc::channel(64);
        let mut request = Request::new(ReceiverStream::new(sent));
        if !namespace.is_empty() {
            let namespace = MetadataValue::try_from(namespace).unwrap();
            request.metadata_mut().insert("waxwing-namespace", namespace);
        }
        let mut client = SessionClient::new(channel).max_decoding_message_size(64 << 20);
        let frames = within("headers come", client.open(request)).await?.into_inner();
        Ok(Self { requests: Some(requests), frames, events: VecDeque::new() })
    }

    pub(crate) async fn hello(&mut self, hello: v1::Hello) -> v1::Welcome {
        self.ask(0, Kind::Hello(hello)).await;
        match self.event().await {
            EventKind::Welcome(welcome) => welcome,
            other => panic!("{other:?} instead of a welcome"),
        }
    }

    /// All in one frame.
    pub(crate) async fn send(&self, requests: Vec<(u64, Kind)>) {
        let each = requests.into_iter().map(|(id, kind)| v1::Request { id, kind: Some(kind) });
        self.send_frame(v1::ClientFrame { requests: each.collect() }).await;
    }

    pub(crate) async fn send_frame(&self, frame: v1::ClientFrame) {
        let requests = self.requests.as_ref().expect("it hasn't been half-closed");
        within("a frame is sent", requests.send(frame)).await.expect("the stream is open");
    }

    pub(crate) async fn ask(&self, id: u64, kind: Kind) {
        self.send(vec![(id, kind)]).await;
    }

    /// Says that nothing more will be asked.
    pub(crate) fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next event, or how the stream has ended.
    pub(crate) async fn next(&mut self) -> Result<EventKind, Status> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            match within("an event comes", self.frames.message()).await? {
                Some(frame) => self.events.extend(frame.events.into_iter().filter_map(|e| e.kind)),
                None => return Err(Status::ok("")),
            }
        }
    }

    pub(crate) async fn event(&mut self) -> EventKind {
        self.next().await.expect("the stream is open")
    }

    /// The next reply. What a watch tells comes at times of its own, and is kept for whoever asks for it.
    pub(crate) async fn reply(&mut self) -> v1::Reply {
        let mut aside = Vec::new();
        let reply = loop {
            match self.event().await {
                EventKind::Reply(reply) => break reply,
                EventKind::Presence(event) => aside.push(EventKind::Presence(event)),
                other => panic!("{other:?} instead of a reply"),
            }
        };
        for event in aside.into_iter().rev() {
            self.events.push_front(event);
        }
        reply
    }

    /// The code of the error that comes next, or nothing.
    pub(crate) async fn refusal(&mut self) -> (u64, String) {
        let reply = self.reply().await;
        (reply.id, reply.error.unwrap_or_default().code)
    }

    /// The next `count` messages as topic and text.
    pub(crate) async fn messages(&mut self, count: usize) -> Vec<(String, String)> {
        let mut got = Vec::new();
        while got.len() < count {
            match self.event().await {
                EventKind::Batch(batch) => got.extend(batch.messages.iter().map(|message| {
                    (batch.topic.clone(), String::from_utf8_lossy(&message.payload).into_owned())
                })),
                other => panic!("{other:?} among messages, after {got:?}"),
            }
        }
        got
    }

    /// Subscribes, and takes the answer.
    pub(crate) async fn subscribe(&mut self, topics: &[&str], patterns: &[&str]) {
        self.ask(7, Kind::Subscribe(names(topics, patterns))).await;
        let reply = self.reply().await;
        assert_eq!(reply.id, 7);
        assert!(reply.topics.iter().all(|topic| topic.error.is_none()), "{reply:?}");
    }

    /// How the stream ends: what comes before doesn't matter.
    pub(crate) async fn end(&mut self) -> (Code, String) {
        loop {
            if let Err(status) = self.next().await {
                let code = status.metadata().get("waxwing-code");
                let code = code.map(|code| code.to_str().unwrap().to_owned());
                return (status.code(), code.unwrap_or_default());
            }
        }
    }
}

pub(crate) fn names(topics: &[&str], patterns: &[&str]) -> v1::SubscribeRequest {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    v1::SubscribeRequest { topics: owned(topics), patterns: owned(patterns) }
}

pub(crate) fn to(topic: &str, text: &str) -> v1::PublishRequest {
    v1::PublishRequest {
        topic: topic.to_owned(),
        payload: text.as_bytes().to_vec().into(),
        ..v1::PublishRequest::default()
    }
}

pub(crate) fn publish(topic: &str, text: &str) -> Kind {
    Kind::Publish(to(topic, text))
}

/// Confirmed by the node asked.
pub(crate) fn confirmed(topic: &str, text: &str) -> Kind {
    Kind::Publish(v1::PublishRequest { confirm: v1::Confirm::Node.into(), ..to(topic, text) })
}

pub(crate) fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(topic, text)| ((*topic).to_owned(), (*text).to_owned())).collect()
}
