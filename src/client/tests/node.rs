//! A small cluster that speaks the protocol: enough of it to judge a client by.
//!
//! Every node shares one hub, so that a message published on one is in all mailboxes of its subscribers at once, in one order.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::supervise::{Shutdown, Supervisor, Task};
use crate::wire::v1::session_server::{Session, SessionServer};
use crate::wire::v1::{self, event, request};

const MAILBOX: usize = 100_000;

type Frame = Result<v1::ServerFrame, Status>;

#[derive(Clone)]
pub(crate) struct Hub {
    state: Arc<Mutex<State>>,
    supervisor: Supervisor,
}

#[derive(Default)]
struct State {
    nodes: Vec<(String, SocketAddr)>,
    attachments: HashMap<u64, Attachment>,
    next: u64,
    seq: u64,
    epochs: HashMap<Vec<u8>, u64>,
    /// Every publish that was taken, by whom or what it was.
    published: Vec<Vec<u8>>,
    /// Publishes with these payloads are taken and never answered.
    mute: Vec<u8>,
}

struct Attachment {
    node: String,
    token: Vec<u8>,
    epoch: u64,
    /// Another attachment of its session has been welcomed: it only receives.
    superseded: bool,
    gap_due: bool,
    names: Vec<String>,
    events: mpsc::Sender<Frame>,
}

impl Hub {
    pub(crate) fn new() -> Self {
        let supervisor = Supervisor::new(Shutdown::new());
        Self { state: Arc::default(), supervisor }
    }

    pub(crate) async fn node(&self, name: &str) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.state.lock().nodes.push((name.to_owned(), address));
        let stop = Shutdown::new();
        let service = Service { hub: self.clone(), name: name.to_owned() };
        let stopped = stop.clone().cancelled_owned();
        let incoming = TcpListenerStream::new(listener)
            .inspect(|stream| stream.as_ref().unwrap().set_nodelay(true).unwrap());
        self.supervisor.spawn(Task::Client(format!("node {name}")), async move {
            let _ = tonic::transport::Server::builder()
                .add_service(SessionServer::new(service))
                .serve_with_incoming_shutdown(incoming, stopped)
                .await;
        });
        Node { hub: self.clone(), name: name.to_owned(), address: address.to_string(), stop }
    }

    pub(crate) fn published(&self) -> Vec<Vec<u8>> {
        self.state.lock().published.clone()
    }

    pub(crate) fn mute(&self, payload: &[u8]) {
        self.state.lock().mute = payload.to_vec();
    }

    pub(crate) fn attachments(&self, node: &str) -> usize {
        self.state.lock().attachments.values().filter(|a| a.node == node).count()
    }
}

pub(crate) struct Node {
    hub: Hub,
    name: String,
    pub(crate) address: String,
    stop: Shutdown,
}

impl Node {
    /// Its streams break, and nobody listens any more.
    pub(crate) fn kill(&self) {
        self.stop.cancel();
        let mut state = self.hub.state.lock();
        state.nodes.retain(|(name, _)| *name != self.name);
        let gone = state.attachments.extract_if(|_, a| a.node == self.name);
        for (_, attachment) in gone {
            let _ = attachment.events.try_send(Err(Status::unavailable("killed")));
        }
    }

    pub(crate) fn go_away(&self) {
        let state = self.hub.state.lock();
        let endpoints: Vec<String> = state
            .nodes
            .iter()
            .filter(|(name, _)| *name != self.name)
            .map(|(_, address)| address.to_string())
            .collect();
        for attachment in state.attachments.values().filter(|a| a.node == self.name) {
            let reason = "draining".to_owned();
            attachment.tell(event::Kind::GoAway(v1::GoAway {
                reason,
                grace: None,
                endpoints: endpoints.clone(),
            }));
        }
    }
}

impl Attachment {
    fn tell(&self, kind: event::Kind) {
        let frame = v1::ServerFrame { events: vec![v1::Event { kind: Some(kind) }] };
        self.events.try_send(Ok(frame)).expect("a mailbox is large enough for a test");
    }

    fn reply(&self, id: u64, reply: v1::Reply) {
        self.tell(event::Kind::Reply(v1::Reply { id, ..reply }));
    }
}

struct Service {
    hub: Hub,
    name: String,
}

#[tonic::async_trait]
impl Session for Service {
    type OpenStream = Pin<Box<dyn Stream<Item = Frame> + Send>>;

    async fn open(
        &self,
        request: Request<Streaming<v1::ClientFrame>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (events, out) = mpsc::channel(MAILBOX);
        let (hub, node) = (self.hub.clone(), self.name.clone());
        let requests = request.into_inner();
        self.hub.supervisor.spawn(Task::Client("attachment".to_owned()), async move {
            serve(hub, node, requests, events).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(out))))
    }
}

async fn serve(
    hub: Hub,
    node: String,
    mut requests: Streaming<v1::ClientFrame>,
    events: mpsc::Sender<Frame>,
) {
    let id = {
        let mut state = hub.state.lock();
        state.next += 1;
        state.next
    };
    let mut events = Some(events);
    while let Ok(Some(frame)) = requests.message().await {
        let mut state = hub.state.lock();
        for request in frame.requests {
            let Some(kind) = request.kind else { continue };
            if let request::Kind::Hello(hello) = kind {
                state.hello(id, &node, &hello, events.take());
            } else if !state.request(id, request.id, kind) {
                return;
            }
        }
    }
    hub.state.lock().attachments.remove(&id);
}

impl State {
    fn hello(
        &mut self,
        id: u64,
        node: &str,
        hello: &v1::Hello,
        events: Option<mpsc::Sender<Frame>>,
    ) {
        let Some(events) = events else { return };
        let known = self.epochs.get(hello.resume_token.as_ref()).copied();
        let token = match hello.resume_token.as_ref() {
            [] => (u128::from(id)).to_be_bytes().to_vec(),
            token => token.to_vec(),
        };
        let epoch = known.unwrap_or(0).max(hello.epoch) + 1;
        self.epochs.insert(token.clone(), epoch);
        for older in self.attachments.values_mut().filter(|a| a.token == token) {
            assert!(hello.overlap || older.node != node, "a second attachment without overlap");
            older.superseded = true;
        }
        let attachment = Attachment {
            node: node.to_owned(),
            token: token.clone(),
            epoch,
            superseded: false,
            gap_due: hello.epoch > 0 && !hello.overlap,
            names: Vec::new(),
            events,
        };
        let here = self.nodes.iter().filter(|(name, _)| name == node);
        let others = self.nodes.iter().filter(|(name, _)| name != node);
        attachment.tell(event::Kind::Welcome(v1::Welcome {
            session_id: format!("{:02x?}", &token[12..]),
            resume_token: token.into(),
            resumed: known.is_some(),
            epoch,
            node: node.to_owned(),
            endpoints: here.chain(others).map(|(_, address)| address.to_string()).collect(),
        }));
        self.attachments.insert(id, attachment);
    }

    /// False: the attachment has ended.
    fn request(&mut self, attachment: u64, id: u64, kind: request::Kind) -> bool {
        let Some(me) = self.attachments.get_mut(&attachment) else { return false };
        assert!(me.epoch > 0);
        match kind {
            request::Kind::Subscribe(names) => {
                let members = self.nodes.len() as u32;
                let mut topics = Vec::new();
                for topic in names.topics.into_iter().chain(names.patterns) {
                    let error = (topic == "forbidden").then(|| v1::Error {
                        code: "forbidden".to_owned(),
                        ..v1::Error::default()
                    });
                    if error.is_none() {
                        me.names.push(topic.clone());
                    }
                    topics.push(v1::TopicResult { topic, confirmed: members, members, error });
                }
                me.reply(id, v1::Reply { topics, ..v1::Reply::default() });
                if std::mem::take(&mut me.gap_due) {
                    let reason = v1::gap::Reason::Reconnected.into();
                    me.tell(event::Kind::Gap(v1::Gap { reason, ..v1::Gap::default() }));
                }
            }
            request::Kind::Unsubscribe(names) => {
                me.names.retain(|name| !names.topics.contains(name));
                me.reply(id, v1::Reply::default());
            }
            request::Kind::Bye(_) => {
                // What is in its mailbox is still written; then the stream ends.
                self.attachments.remove(&attachment);
                return false;
            }
            request::Kind::Publish(publish) => self.publish(attachment, id, publish),
            request::Kind::Track(track) | request::Kind::Update(track) => {
                let r#ref = track.revision.to_string();
                me.reply(id, v1::Reply { r#ref, ..v1::Reply::default() });
            }
            request::Kind::Untrack(_) | request::Kind::Watch(_) | request::Kind::Unwatch(_) => {
                me.reply(id, v1::Reply::default());
            }
            request::Kind::Hello(_) | request::Kind::Credit(_) => {}
        }
        true
    }

    fn publish(&mut self, attachment: u64, id: u64, publish: v1::PublishRequest) {
        let Some(me) = self.attachments.get(&attachment) else { return };
        assert!(!me.superseded, "published on an attachment that may only receive");
        let origin = me.node.clone();
        self.seq += 1;
        self.published.push(publish.payload.to_vec());
        let message = v1::Message {
            id: format!("{:026}", self.seq),
            seq: self.seq,
            time: Some(prost_types::Timestamp { seconds: 1, nanos: 2 }),
            event: publish.event,
            headers: publish.headers,
            payload: publish.payload.clone(),
        };
        let matches = |name: &String| {
            *name == publish.topic
                || name.strip_suffix('*').is_some_and(|prefix| publish.topic.starts_with(prefix))
        };
        let mut subscriptions = 0;
        for to in self.attachments.values().filter(|a| a.names.iter().any(matches)) {
            subscriptions += 1;
            to.tell(event::Kind::Batch(v1::Batch {
                topic: publish.topic.clone(),
                origin: origin.clone(),
                messages: vec![message.clone()],
            }));
        }
        if publish.confirm != 0 && (self.mute.is_empty() || publish.payload != self.mute) {
            let members = self.nodes.len() as u32;
            let response = v1::PublishResponse {
                id: message.id,
                members,
                subscriptions,
                ..v1::PublishResponse::default()
            };
            let me = &self.attachments[&attachment];
            me.reply(id, v1::Reply { publish: Some(response), ..v1::Reply::default() });
        }
    }
}
