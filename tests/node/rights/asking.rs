//! Clients of every front that ask one thing and say what became of it, and no more of each protocol than that takes.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use waxwing::node::NodeHandle;
use waxwing::wire::v1;
use waxwing::wire::v1::event::Kind as EventKind;
use waxwing::wire::v1::request::Kind;

use crate::cluster::within;

/// `Err`: the stable code.
pub(crate) type Verdict = Result<(), String>;

/// What is asked, in the words of no front.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask {
    Publish(&'static str),
    Subscribe(&'static str),
    Pattern(&'static str),
    Track(&'static str),
    Watch(&'static str),
}

pub(crate) fn code(status: &Status) -> String {
    let code = status.metadata().get("waxwing-code").and_then(|code| code.to_str().ok());
    code.map_or_else(|| format!("{status:?}"), str::to_owned)
}

/// Puts a key and a namespace into every call.
#[derive(Clone)]
pub(crate) struct Shown {
    key: Option<MetadataValue<Ascii>>,
    namespace: Option<MetadataValue<Ascii>>,
}

impl tonic::service::Interceptor for Shown {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.key {
            request.metadata_mut().insert("authorization", key.clone());
        }
        if let Some(namespace) = &self.namespace {
            request.metadata_mut().insert("waxwing-namespace", namespace.clone());
        }
        Ok(request)
    }
}

/// Of a key, or of nobody; of a namespace that it names, if any.
#[derive(Debug, Clone, Default)]
pub(crate) struct Who {
    pub(crate) key: Option<String>,
    pub(crate) namespace: Option<&'static str>,
}

impl Who {
    pub(crate) fn of(key: &str) -> Self {
        Self { key: Some(key.to_owned()), namespace: None }
    }

    pub(crate) async fn service(&self, node: &NodeHandle) -> InterceptedService<Channel, Shown> {
        let endpoint = Endpoint::from_shared(format!("http://{}", node.bound().grpc)).unwrap();
        let channel = within("it connects", endpoint.connect()).await.unwrap();
        let shown = Shown {
            key: self.key.as_ref().map(|key| format!("Bearer {key}").parse().unwrap()),
            namespace: self.namespace.map(|namespace| namespace.parse().unwrap()),
        };
        InterceptedService::new(channel, shown)
    }

    /// The status line's code and the whole answer.
    pub(crate) async fn http(
        &self,
        node: &NodeHandle,
        method: &str,
        path: &str,
        body: &str,
    ) -> (u16, String) {
        let mut io = TcpStream::connect(node.bound().http.unwrap()).await.unwrap();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        );
        if let Some(key) = &self.key {
            head += &format!("authorization: Bearer {key}\r\n");
        }
        if let Some(namespace) = self.namespace {
            head += &format!("waxwing-namespace: {namespace}\r\n");
        }
        io.write_all(format!("{head}\r\n{body}").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = within("it is answered", io.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        (answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0), answer)
    }

    /// What HTTP makes of it; None: it has no such thing.
    pub(crate) async fn ask_http(&self, node: &NodeHandle, ask: Ask) -> Option<Vec<Verdict>> {
        let requests = match ask {
            Ask::Publish(topic) => vec![
                ("POST", format!("/v1/topics/{topic}/publish"), String::new()),
                ("POST", "/v1/publish".to_owned(), format!("[{{\"topic\":\"{topic}\"}}]")),
            ],
            Ask::Track(topic) => vec![
                ("PUT", format!("/v1/topics/{topic}/presence/k/i"), String::new()),
                ("DELETE", format!("/v1/topics/{topic}/presence/k/i"), String::new()),
            ],
            Ask::Watch(topic) => vec![
                ("GET", format!("/v1/topics/{topic}/presence"), String::new()),
                ("GET", format!("/v1/topics/{topic}/presence/count"), String::new()),
            ],
            Ask::Subscribe(_) | Ask::Pattern(_) => return None,
        };
        let mut verdicts = Vec::new();
        for (method, path, body) in requests {
            let (_, answer) = self.http(node, method, &path, &body).await;
            let code = answer.split("\"code\":\"").nth(1).and_then(|rest| rest.split('"').next());
            verdicts.push(code.map_or(Ok(()), |code| Err(code.to_owned())));
        }
        Some(verdicts)
    }

    /// What gRPC's calls without a session make of it.
    pub(crate) async fn ask_calls(&self, node: &NodeHandle, ask: Ask) -> Option<Vec<Verdict>> {
        use v1::presence_client::PresenceClient;
        use v1::pub_sub_client::PubSubClient;
        let service = self.service(node).await;
        let mut pubsub = PubSubClient::new(service.clone());
        let mut presence = PresenceClient::new(service);
        let names =
            |topics: Vec<String>, patterns: Vec<String>| v1::SubscribeRequest { topics, patterns };
        Some(match ask {
            Ask::Publish(topic) => {
                let publish = v1::PublishRequest { topic: topic.to_owned(), ..Default::default() };
                vec![pubsub.publish(publish).await.map(drop).map_err(|e| code(&e))]
            }
            Ask::Subscribe(topic) => {
                vec![begun(pubsub.subscribe(names(vec![topic.to_owned()], vec![])).await).await]
            }
            Ask::Pattern(glob) => {
                vec![begun(pubsub.subscribe(names(vec![], vec![glob.to_owned()])).await).await]
            }
            Ask::Watch(topic) => {
                let topic = topic.to_owned();
                let list = v1::ListRequest { topic: topic.clone(), ..Default::default() };
                let list = presence.list(list).await.map(drop).map_err(|e| code(&e));
                let count = v1::CountRequest { topic: topic.clone() };
                let count = presence.count(count).await.map(drop).map_err(|e| code(&e));
                let watch = v1::WatchRequest { topic, counts_only: false };
                vec![list, count, begun(presence.watch(watch).await).await]
            }
            Ask::Track(_) => return None,
        })
    }

    /// What a Redis client is told, of channels and of sharded ones.
    pub(crate) async fn ask_redis(&self, node: &NodeHandle, ask: Ask) -> Option<Vec<Verdict>> {
        let commands = match ask {
            Ask::Publish(topic) => {
                vec![vec!["PUBLISH", topic, "x"], vec!["SPUBLISH", topic, "x"]]
            }
            Ask::Subscribe(topic) => vec![vec!["SUBSCRIBE", topic], vec!["SSUBSCRIBE", topic]],
            Ask::Pattern(glob) => vec![vec!["PSUBSCRIBE", glob]],
            Ask::Track(_) | Ask::Watch(_) => return None,
        };
        let mut verdicts = Vec::new();
        for command in commands {
            let mut redis = self.redis(node).await.expect("it is let in");
            redis.write_all(&words(&command)).await.unwrap();
            let told = first_line(&mut redis).await;
            verdicts.push(match told.strip_prefix('-') {
                None => Ok(()),
                Some(error) if error.starts_with("NOPERM") => Err("forbidden".to_owned()),
                Some(error) => Err(error.to_owned()),
            });
        }
        Some(verdicts)
    }

    /// A connection that has said who it is.
    pub(crate) async fn redis(&self, node: &NodeHandle) -> Result<TcpStream, String> {
        let mut io = TcpStream::connect(node.bound().redis.unwrap()).await.unwrap();
        let user = self.namespace.unwrap_or("default");
        let auth = words(&["AUTH", user, self.key.as_deref().unwrap_or_default()]);
        io.write_all(&auth).await.unwrap();
        match first_line(&mut io).await {
            told if told == "+OK" => Ok(io),
            told => Err(told),
        }
    }
}

pub(crate) fn words(words: &[&str]) -> Vec<u8> {
    let each = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), each.collect::<String>()).into_bytes()
}

/// Without its end. What stands behind it is left.
pub(crate) async fn first_line(io: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        match within("a line comes", io.read_u8()).await {
            Ok(byte) => line.push(byte),
            Err(_) => return format!("closed behind {}", line.escape_ascii()),
        }
    }
    String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()
}

/// A stream that was refused says so in its first words.
async fn begun<T>(opened: Result<tonic::Response<Streaming<T>>, Status>) -> Verdict {
    let mut frames = opened.map_err(|error| code(&error))?.into_inner();
    within("a stream begins", frames.message()).await.map(drop).map_err(|error| code(&error))
}

/// One stream of `Session.Open`.
pub(crate) struct Session {
    requests: mpsc::Sender<v1::ClientFrame>,
    frames: Streaming<v1::ServerFrame>,
    pub(crate) welcome: v1::Welcome,
    last: u64,
}

impl Session {
    pub(crate) async fn open(
        who: &Who,
        node: &NodeHandle,
        hello: v1::Hello,
    ) -> Result<Self, Status> {
        let mut client = v1::session_client::SessionClient::new(who.service(node).await);
        let (requests, sent) = mpsc::channel(16);
        let frame = v1::Request { id: 0, kind: Some(Kind::Hello(hello)) };
        requests.send(v1::ClientFrame { requests: vec![frame] }).await.unwrap();
        let opened = within("a session opens", client.open(ReceiverStream::new(sent))).await?;
        let mut frames = opened.into_inner();
        loop {
            let frame = within("a welcome comes", frames.message()).await?.expect("a welcome");
            for event in frame.events {
                if let Some(EventKind::Welcome(welcome)) = event.kind {
                    return Ok(Self { requests, frames, welcome, last: 0 });
                }
            }
        }
    }

    pub(crate) async fn ask(&mut self, ask: Ask) -> Verdict {
        let kind = match ask {
            Ask::Publish(topic) => Kind::Publish(v1::PublishRequest {
                topic: topic.to_owned(),
                confirm: v1::Confirm::Node.into(),
                ..Default::default()
            }),
            Ask::Subscribe(topic) => Kind::Subscribe(v1::SubscribeRequest {
                topics: vec![topic.to_owned()],
                patterns: vec![],
            }),
            Ask::Pattern(glob) => Kind::Subscribe(v1::SubscribeRequest {
                topics: vec![],
                patterns: vec![glob.to_owned()],
            }),
            Ask::Track(topic) => Kind::Track(v1::TrackRequest {
                topic: topic.to_owned(),
                key: "k".to_owned(),
                ..Default::default()
            }),
            Ask::Watch(topic) => {
                Kind::Watch(v1::WatchRequest { topic: topic.to_owned(), counts_only: false })
            }
        };
        self.last += 1;
        let request = v1::Request { id: self.last, kind: Some(kind) };
        self.requests.send(v1::ClientFrame { requests: vec![request] }).await.unwrap();
        loop {
            let frame = within("a reply comes", self.frames.message()).await;
            for event in frame.unwrap().expect("the stream is open").events {
                let Some(EventKind::Reply(reply)) = event.kind else { continue };
                if reply.id == self.last {
                    let of_topic = reply.topics.into_iter().find_map(|result| result.error);
                    return reply.error.or(of_topic).map_or(Ok(()), |error| Err(error.code));
                }
            }
        }
    }

    pub(crate) async fn bye(mut self) {
        let kind = Some(Kind::Bye(v1::Bye { keep_session: false }));
        let frame = v1::ClientFrame { requests: vec![v1::Request { id: 0, kind }] };
        self.requests.send(frame).await.unwrap();
        self.end().await;
    }

    /// How the stream ends, whatever comes before.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            match within("the stream ends", self.frames.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }

    /// The payloads that come until one is `last`.
    pub(crate) async fn texts_until(&mut self, last: &str) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.last().is_none_or(|text| text != last) {
            let frame = within("messages come", self.frames.message()).await;
            for event in frame.unwrap().expect("the stream is open").events {
                if let Some(EventKind::Batch(batch)) = event.kind {
                    let each = batch.messages.into_iter().map(|message| message.payload);
                    texts.extend(each.map(|one| String::from_utf8_lossy(&one).into_owned()));
                }
            }
        }
        texts
    }
}

/// Of a port that was asked something by a stranger.
pub(crate) async fn raw(port: SocketAddr, sent: &[u8]) -> TcpStream {
    let mut io = TcpStream::connect(port).await.unwrap();
    io.write_all(sent).await.unwrap();
    io
}
