//! A small client of the wire: it uses the generated code and nothing of the program's own client, which is judged like the rest.
//!
//! It reads only while somebody waits for something, so a test that doesn't ask is a reader that doesn't read. Everything that
//! arrives goes into the history the moment it is read.

mod error;
mod frames;
mod presence;
mod publishing;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use waxwing::wire::v1::event::Kind as EventKind;
use waxwing::wire::v1::request::Kind as RequestKind;
use waxwing::wire::v1::{
    Bye, ClientFrame, GoAway, Hello, Reply, Request, ServerFrame, SubscribeRequest, TopicResult,
    Welcome,
};

use crate::history::{Kind, Numbered, Op, Recorder, Who};
pub use error::ClientError;
pub(crate) use frames::channel;
pub use frames::{Gap, Got, Message, reason_name};

/// How long an answer may take in a debug build on a busy machine; no promise.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Frames that wait for the transport; then publishing waits.
const FRAMES_AHEAD: usize = 8;

#[derive(Debug)]
pub struct Client {
    pub welcome: Welcome,
    who: Who,
    requests: mpsc::Sender<ClientFrame>,
    events: Streaming<ServerFrame>,
    arrived: VecDeque<Got>,
    replies: BTreeMap<u64, Reply>,
    /// Numbered publishes whose outcome isn't known, by request id.
    open: BTreeMap<u64, Numbered>,
    next_id: u64,
    next_seq: u64,
    recorder: Recorder,
    connection: Channel,
}

impl Client {
    /// A new session.
    pub async fn open(node: &str, name: &str, recorder: &Recorder) -> Result<Self, ClientError> {
        Self::attach(node, name, 0, Hello::default(), recorder).await
    }

    /// `attachment`: how many this client had before, for the history.
    pub async fn attach(
        node: &str,
        name: &str,
        attachment: u32,
        hello: Hello,
        recorder: &Recorder,
    ) -> Result<Self, ClientError> {
        Self::over(channel(node).await?, name, attachment, hello, recorder).await
    }

    /// As `attach`, over a connection that is there, on whatever network.
    pub async fn over(
        connection: Channel,
        name: &str,
        attachment: u32,
        hello: Hello,
        recorder: &Recorder,
    ) -> Result<Self, ClientError> {
        let hello = Hello { client: format!("cluster-tests/{name}"), ..hello };
        let linger_ms = presence::millis(hello.linger.as_ref());
        let (requests, outgoing) = mpsc::channel(FRAMES_AHEAD);
        let first = Request { id: 1, kind: Some(RequestKind::Hello(hello)) };
        let frame = ClientFrame { requests: vec![first] };
        requests.send(frame).await.map_err(|_| ClientError::Ended("at once".to_owned()))?;

        let mut session = frames::session(connection.clone());
        let opening = session.open(ReceiverStream::new(outgoing));
        let answer =
            timeout(PATIENCE, opening).await.map_err(|_| ClientError::silent("opening"))?;
        let events = answer.map_err(ClientError::Refused)?.into_inner();
        let mut client = Self {
            welcome: Welcome::default(),
            who: Who { proc: name.to_owned(), attachment, node: String::new() },
            requests,
            events,
            arrived: VecDeque::new(),
            replies: BTreeMap::new(),
            open: BTreeMap::new(),
            next_id: 2,
            next_seq: 1,
            recorder: recorder.clone(),
            connection,
        };
        client.await_welcome(linger_ms).await?;
        Ok(client)
    }

    async fn await_welcome(&mut self, linger_ms: u64) -> Result<(), ClientError> {
        let read = timeout(PATIENCE, self.events.message()).await;
        let frame = read
            .map_err(|_| ClientError::silent("welcome"))?
            .map_err(ClientError::Refused)?
            .ok_or_else(|| ClientError::Ended("instead of a welcome".to_owned()))?;
        let mut kinds = frame.events.into_iter().filter_map(|event| event.kind);
        match kinds.next() {
            Some(EventKind::Welcome(welcome)) => {
                self.who.node.clone_from(&welcome.node);
                let (session, resumed) = (welcome.session_id.clone(), welcome.resumed);
                let epoch = welcome.epoch;
                self.record(Kind::Event, Op::Attached { session, resumed, epoch, linger_ms });
                self.welcome = welcome;
            }
            Some(EventKind::Reply(Reply { error: Some(error), .. })) => {
                return Err(ClientError::Rejected(error));
            }
            other => return Err(ClientError::Unexpected(format!("{other:?} before a welcome"))),
        }
        kinds.for_each(|kind| self.take(kind));
        Ok(())
    }

    pub fn name(&self) -> &str {
        &self.who.proc
    }

    /// The node that it is attached to.
    pub fn node(&self) -> &str {
        &self.who.node
    }

    /// What numbered messages say who published them.
    pub fn publisher(&self) -> String {
        format!("{}.{}", self.who.proc, self.who.attachment)
    }

    pub fn attachment(&self) -> u32 {
        self.who.attachment
    }

    /// The answer of `subscribe`, one result for each topic and then each pattern. A result may be an error.
    pub async fn subscribe(
        &mut self,
        topics: &[&str],
        patterns: &[&str],
    ) -> Result<Vec<TopicResult>, ClientError> {
        let request = SubscribeRequest { topics: owned(topics), patterns: owned(patterns) };
        let (topics, patterns) = (request.topics.clone(), request.patterns.clone());
        let op = |everywhere| Op::Subscribe {
            topics: topics.clone(),
            patterns: patterns.clone(),
            everywhere,
        };
        self.record(Kind::Invoke, op(false));
        let reply = self.ask(RequestKind::Subscribe(request)).await?;
        let sound = |result: &TopicResult| result.error.is_none();
        let whole = |result: &TopicResult| result.confirmed == result.members;
        if reply.topics.iter().all(sound) {
            self.record(Kind::Ok, op(reply.topics.iter().all(whole)));
        }
        Ok(reply.topics)
    }

    /// As `subscribe`, when it must succeed and every member must have confirmed.
    pub async fn subscribe_everywhere(
        &mut self,
        topics: &[&str],
        patterns: &[&str],
    ) -> Result<(), ClientError> {
        let results = self.subscribe(topics, patterns).await?;
        let complete = |result: &TopicResult| {
            result.error.is_none() && result.confirmed == result.members && result.members > 0
        };
        match results.iter().find(|result| !complete(result)) {
            None if results.len() == topics.len() + patterns.len() => Ok(()),
            None => Err(ClientError::Unexpected(format!("{} results", results.len()))),
            Some(result) => Err(ClientError::Unexpected(format!("{result:?}"))),
        }
    }

    pub async fn unsubscribe(
        &mut self,
        topics: &[&str],
        patterns: &[&str],
    ) -> Result<Vec<TopicResult>, ClientError> {
        let request = SubscribeRequest { topics: owned(topics), patterns: owned(patterns) };
        let op =
            Op::Unsubscribe { topics: request.topics.clone(), patterns: request.patterns.clone() };
        self.record(Kind::Invoke, op.clone());
        let reply = self.ask(RequestKind::Unsubscribe(request)).await?;
        self.record(Kind::Ok, op);
        Ok(reply.topics)
    }

    /// Sends one request and waits for its reply.
    pub async fn ask(&mut self, kind: RequestKind) -> Result<Reply, ClientError> {
        let id = self.send(kind).await?;
        let reply = self.reply(id).await?;
        match reply.error {
            Some(error) => Err(ClientError::Rejected(error)),
            None => Ok(reply),
        }
    }

    /// The id of the request.
    pub async fn send(&mut self, kind: RequestKind) -> Result<u64, ClientError> {
        let id = self.take_id();
        self.send_frame(vec![Request { id, kind: Some(kind) }]).await?;
        Ok(id)
    }

    pub async fn send_frame(&mut self, requests: Vec<Request>) -> Result<(), ClientError> {
        let frame = ClientFrame { requests };
        match timeout(PATIENCE * 3, self.requests.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            // Why is told by the other half.
            Ok(Err(_)) => Err(self.why_ended().await),
            Err(_) => Err(ClientError::silent("room to send")),
        }
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Waits for the reply to this request; what else arrives is kept for `event`.
    pub async fn reply(&mut self, id: u64) -> Result<Reply, ClientError> {
        loop {
            if let Some(reply) = self.replies.remove(&id) {
                return Ok(reply);
            }
            self.read(PATIENCE, "a reply").await?;
        }
    }

    /// The next message, gap or go-away. A duration of zero takes what is there.
    pub async fn event(&mut self, within: Duration) -> Result<Got, ClientError> {
        loop {
            if let Some(got) = self.arrived.pop_front() {
                return Ok(got);
            }
            self.read(within, "an event").await?;
        }
    }

    /// The next message; whatever else comes first is an error.
    pub async fn message(&mut self) -> Result<Message, ClientError> {
        match self.event(PATIENCE).await? {
            Got::Message(message) => Ok(message),
            other => Err(ClientError::Unexpected(format!("{other:?} instead of a message"))),
        }
    }

    pub async fn gap(&mut self) -> Result<Gap, ClientError> {
        match self.event(PATIENCE).await? {
            Got::Gap(gap) => Ok(gap),
            other => Err(ClientError::Unexpected(format!("{other:?} instead of a gap"))),
        }
    }

    pub async fn go_away(&mut self) -> Result<GoAway, ClientError> {
        match self.event(PATIENCE * 3).await? {
            Got::GoAway(away) => Ok(away),
            other => Err(ClientError::Unexpected(format!("{other:?} instead of a go-away"))),
        }
    }

    /// Takes events until `done` says so of one, which is the last of the list.
    pub async fn events_until(
        &mut self,
        mut done: impl FnMut(&Got) -> bool,
    ) -> Result<Vec<Got>, ClientError> {
        let mut all = Vec::new();
        loop {
            let got = self.event(PATIENCE).await?;
            let last = done(&got);
            all.push(got);
            if last {
                return Ok(all);
            }
        }
    }

    /// Whether nothing is delivered before what was published after it: publishes to a topic of its own and takes what comes until
    /// that arrives. An empty list: nothing had been on its way from this node.
    pub async fn events_until_own_marker(&mut self) -> Result<Vec<Got>, ClientError> {
        let topic = format!("marker:{}:{}", self.publisher(), self.next_id);
        self.subscribe_everywhere(&[&topic], &[]).await?;
        self.publish_once(&topic, "marker").await?;
        let is_marker = |got: &Got| matches!(got, Got::Message(message) if message.topic == topic);
        let mut all = self.events_until(is_marker).await?;
        all.pop();
        Ok(all)
    }

    /// Leaves; the session ends unless it is kept. What was on its way may still be read.
    pub async fn bye(&mut self, keep_session: bool) -> Result<(), ClientError> {
        self.record(Kind::Invoke, Op::Bye { keep_session });
        self.send(RequestKind::Bye(Bye { keep_session })).await?;
        Ok(())
    }

    /// Reads until the node has ended the stream.
    pub async fn read_to_end(&mut self) -> Result<(), ClientError> {
        loop {
            match self.event(PATIENCE).await {
                Ok(_) => {}
                Err(ClientError::Ended(_) | ClientError::Refused(_)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Whoever has it reads no further: what was still to come does not come.
    pub fn given_up(&self) {
        self.record(Kind::Event, Op::Ended { how: "given up".to_owned() });
    }

    async fn why_ended(&mut self) -> ClientError {
        loop {
            if let Err(error) = self.read(PATIENCE, "the reason of the end").await {
                return error;
            }
        }
    }

    async fn read(&mut self, within: Duration, what: &'static str) -> Result<(), ClientError> {
        let frame = match timeout(within, self.events.message()).await {
            Err(_) => return Err(ClientError::Silent { what, within }),
            Ok(Ok(Some(frame))) => frame,
            Ok(Ok(None)) => {
                self.record(Kind::Event, Op::Ended { how: "closed".to_owned() });
                return Err(ClientError::Ended("closed".to_owned()));
            }
            Ok(Err(status)) => {
                self.record(Kind::Event, Op::Ended { how: status.to_string() });
                return Err(ClientError::Refused(status));
            }
        };
        frame.events.into_iter().filter_map(|event| event.kind).for_each(|kind| self.take(kind));
        Ok(())
    }

    fn take(&mut self, kind: EventKind) {
        match kind {
            EventKind::Reply(reply) => self.take_reply(reply),
            EventKind::Batch(batch) => {
                for message in Message::all_of(batch) {
                    if let Some(numbered) = Numbered::read(&message.topic, &message.payload) {
                        let (origin, id) = (message.origin.clone(), message.id.clone());
                        self.record(Kind::Event, Op::Message { message: numbered, origin, id });
                    }
                    self.arrived.push_back(Got::Message(message));
                }
            }
            EventKind::Gap(gap) => {
                self.record(
                    Kind::Event,
                    Op::Gap {
                        topics: gap.topics.clone(),
                        origin: gap.origin.clone(),
                        missing: gap.missing,
                        certain: gap.certain,
                        reason: reason_name(gap.reason()).to_owned(),
                    },
                );
                self.arrived.push_back(Got::Gap(gap));
            }
            EventKind::GoAway(away) => {
                self.record(Kind::Event, Op::GoAway);
                self.arrived.push_back(Got::GoAway(away));
            }
            EventKind::Presence(event) => {
                self.record(Kind::Event, Op::Presence(presence::told(&event)));
                self.arrived.push_back(Got::Presence(event));
            }
            EventKind::Welcome(welcome) => self.arrived.push_back(Got::Welcome(welcome)),
        }
    }

    fn record(&self, kind: Kind, op: Op) {
        self.recorder.add(&self.who, kind, op);
    }

    /// For an attachment that takes this one's place.
    pub fn resume_hello(&self, overlap: bool) -> Hello {
        Hello {
            resume_token: Bytes::clone(&self.welcome.resume_token),
            epoch: self.welcome.epoch,
            overlap,
            ..Hello::default()
        }
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
