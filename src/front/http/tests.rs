//! The front over real sockets, before a made-up node.

mod hostile;
mod presence;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::backend::{Backend, Receipt};
use super::{HttpFront, ITEMS_MAX};
use crate::broker::{BrokerError, Door, Pass, TrackAsk};
use crate::config::Limits;
use crate::config::limits::LimitsHandle;
use crate::presence::Count;
use crate::pubsub::Messages;
use crate::replicator::{Page, PageToken, Query};
use crate::rights::Access;
use crate::rights::key::{KeyHash, RANDOM_LEN, make};
use crate::router::Confirm;
use crate::status::StatusReport;
use crate::supervise::{Clock, Shutdown, Supervisor, Task};
use crate::types::topic::BadTopic;
use crate::types::{ClusterName, Time, TopicHasher};

/// Takes everything within the limits, and remembers it.
#[derive(Debug)]
struct FakeNode {
    door: Door,
    limits: LimitsHandle,
    not_ready: Mutex<Option<String>>,
    draining: bool,
    page_bytes: usize,
    published: Mutex<Vec<(String, String, Messages, Confirm)>>,
    /// What was asked about presence.
    presence: Mutex<Vec<String>>,
}

impl Default for FakeNode {
    fn default() -> Self {
        Self {
            door: Door::new(None, Clock::new()),
            limits: LimitsHandle::default(),
            not_ready: Mutex::default(),
            draining: false,
            page_bytes: 0,
            published: Mutex::default(),
            presence: Mutex::default(),
        }
    }
}

#[async_trait]
impl Backend for FakeNode {
    fn status(&self) -> StatusReport {
        StatusReport::default()
    }

    fn ready(&self) -> Result<(), String> {
        self.not_ready.lock().clone().map_or(Ok(()), Err)
    }

    fn metrics(&self) -> String {
        format!("waxwing_topics 1\n{}", "#".repeat(self.page_bytes))
    }

    fn limits(&self) -> Arc<Limits> {
        self.limits.get()
    }

    fn door(&self) -> &Door {
        &self.door
    }

    async fn publish(
        &self,
        pass: &Pass,
        topic: &str,
        messages: Messages,
        confirm: Confirm,
    ) -> Result<Receipt, BrokerError> {
        if self.draining {
            return Err(BrokerError::Draining);
        }
        let hasher = TopicHasher::new(&ClusterName::parse("test").unwrap());
        hasher.topic(pass.namespace(), topic, self.limits.get().topic)?;
        let ids = (0..messages.len()).map(|i| format!("id{i}")).collect();
        self.published.lock().push((pass.namespace().to_string(), topic.into(), messages, confirm));
        Ok(Receipt { ids, members: 2, subscriptions: 7, unknown: 1 })
    }

    fn presence_list(&self, pass: &Pass, topic: &str, query: &Query) -> Result<Page, BrokerError> {
        let asked = format!("list {} {topic} {:?} {}", pass.namespace(), query.key, query.limit);
        self.presence.lock().push(asked);
        let next = Some(PageToken { key: "alice".to_owned(), id: "1".to_owned() });
        let count = Count { presences: 3, keys: 2 };
        Ok(Page { entries: Vec::new(), next, count, version: "1-2-3".into(), at: Time::ZERO })
    }

    fn presence_count(&self, pass: &Pass, topic: &str) -> Result<Count, BrokerError> {
        self.presence.lock().push(format!("count {} {topic}", pass.namespace()));
        Ok(Count { presences: 3, keys: 2 })
    }

    async fn presence_put(
        &self,
        pass: &Pass,
        ask: TrackAsk,
        ttl: Duration,
    ) -> Result<String, BrokerError> {
        let TrackAsk { topic, key, id, meta, .. } = ask;
        let namespace = pass.namespace();
        self.presence.lock().push(format!("put {namespace} {topic} {key} {id} {meta:?} {ttl:?}"));
        Ok("Fz3".to_owned())
    }

    async fn presence_delete(
        &self,
        pass: &Pass,
        topic: &str,
        key: &str,
        id: &str,
    ) -> Result<(), BrokerError> {
        self.presence.lock().push(format!("delete {} {topic} {key} {id}", pass.namespace()));
        Ok(())
    }
}

struct Server {
    address: SocketAddr,
    node: Arc<FakeNode>,
    shutdown: Shutdown,
    supervisor: Supervisor,
}

async fn serve(node: FakeNode) -> Server {
    let node = Arc::new(node);
    let shutdown = Shutdown::new();
    let supervisor = Supervisor::new(shutdown.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let front = HttpFront {
        supervisor: supervisor.clone(),
        limits: node.limits.clone(),
        tls: None,
        backend: node.clone(),
    };
    supervisor.spawn(Task::FrontHttp, front.run(listener, shutdown.clone()));
    Server { address, node, shutdown, supervisor }
}

fn limited(change: impl FnOnce(&mut Limits)) -> FakeNode {
    let mut limits = Limits::default();
    change(&mut limits);
    FakeNode { limits: LimitsHandle::new(limits), ..FakeNode::default() }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends these bytes and reads until the connection ends.
    async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // The far end may have said no and closed before all was sent.
        let _ = stream.write_all(request.as_ref()).await;
        read_to_end(&mut stream).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let length = body.len();
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        )
        .into_bytes();
        request.extend_from_slice(body);
        Answer::parse(&self.raw(request).await)
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", b"").await
    }

    fn published(&self) -> Vec<(String, String, Messages, Confirm)> {
        self.node.published.lock().clone()
    }
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer));
    let _ = read.await.expect("the connection is closed in time");
    String::from_utf8(answer).unwrap()
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) =
            text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    fn is_error(&self, status: u16, code: &str, what: &str) {
        assert_eq!(self.status, status, "{what}: {self:?}");
        let error = &self.json()["error"];
        assert_eq!(error["code"], code, "{what}: {self:?}");
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        assert!(error["hint"].is_string(), "{self:?}");
    }
}

#[tokio::test]
async fn observers_read_their_pages() {
    let server = serve(FakeNode::default()).await;
    for (path, kind, text) in [
        ("/", "text/plain", "waxwing node"),
        ("/status", "application/json", "\"problems\""),
        ("/metrics", "text/plain; version=0.0.4", "waxwing_topics 1"),
        ("/healthz", "text/plain", "ok"),
        ("/readyz", "text/plain", "ready"),
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.head.contains(&format!("content-type: {kind}")), "{answer:?}");
        assert!(answer.body.contains(text), "{answer:?}");
        assert!(answer.head.contains("cache-control: no-store"), "{answer:?}");
        assert!(!answer.head.contains("access-control"), "{answer:?}");
        assert_eq!(server.ask("HEAD", path, "", b"").await.body, "", "{path}");
    }
    *server.node.not_ready.lock() = Some("not linked yet with b".into());
    let answer = server.get("/readyz").await;
    answer.is_error(503, "not_ready", "");
    assert!(answer.body.contains("not linked yet with b"), "{answer:?}");
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn strangers_are_not_told_why_a_node_takes_no_clients() {
    let (observer, plain) = (make(&[1; RANDOM_LEN]), make(&[2; RANDOM_LEN]));
    let entry = |(id, text): &(String, String), right: &str| {
        let hash = KeyHash::of(text.as_bytes());
        format!("[[key]]\nid = \"{id}\"\nhash = \"{hash}\"\n{right}\n")
    };
    let file = entry(&observer, "observe = true") + &entry(&plain, "publish = [\"*\"]");
    let access = Access::parse(&file, &|_, _| Err(String::new())).unwrap();
    let door = Door::new(Some(access.into()), Clock::new());
    let server = serve(FakeNode { door, ..FakeNode::default() }).await;
    assert_eq!(server.get("/readyz").await.status, 200);
    *server.node.not_ready.lock() = Some("not linked yet with b".into());
    for (key, is_told) in [("", false), (&*plain.1, false), ("wx_x_y", false), (&observer.1, true)]
    {
        let header = format!("authorization: Bearer {key}\r\n");
        let answer = server.ask("GET", "/readyz", &header, b"").await;
        answer.is_error(503, "not_ready", "");
        assert_eq!(answer.body.contains("linked"), is_told, "{answer:?}");
    }
    let answer = server.get("/readyz").await;
    assert!(!answer.body.contains("linked"), "{answer:?}");
}

#[tokio::test]
async fn one_payload_is_published() {
    let server = serve(FakeNode::default()).await;
    let headers = "waxwing-event: saved\r\nwaxwing-namespace: shop\r\n";
    let path = "/v1/topics/room%3A1%2Fcaf%C3%A9/x+y/publish?confirm=cluster";
    let answer = server.ask("POST", path, headers, b"\x00hello\xff").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let expected = json!({"id": "id0", "members": 2, "subscriptions": 7, "unknown": 1});
    assert_eq!(answer.json(), expected);

    let (namespace, topic, messages, confirm) = server.published().remove(0);
    assert_eq!((namespace.as_str(), topic.as_str()), ("shop", "room:1/café/x+y"));
    assert_eq!(confirm, Confirm::Cluster);
    let (payload, fields) = messages.iter().next().unwrap();
    assert_eq!(payload, b"\x00hello\xff");
    assert_eq!(fields, b"\x22\x05saved");

    // A topic may end like the path does, and may be a path that means something.
    for (path, topic) in [
        ("/v1/topics/a%2Fpublish/publish", "a/publish"),
        ("/v1/topics/../publish", ".."),
        ("/v1/topics/a//publish", "a/"),
    ] {
        assert_eq!(server.ask("POST", path, "", b"").await.status, 200, "{path}");
        assert_eq!(server.published().pop().unwrap().1, topic);
    }
}

#[tokio::test]
async fn an_array_is_published_in_its_order_and_each_item_answered() {
    let server = serve(limited(|limits| limits.payload = 8)).await;
    let items = json!([
        {"topic": "a", "payload": "1", "event": "e", "headers": {"k": "v"}},
        {"topic": "a", "payload_base64": "Mg=="},
        {"topic": "b", "payload": "3"},
        {"topic": "b", "payload": "far too long"},
        {"topic": "b", "payload": "4", "payload_base64": "NA=="},
        {"topic": "b", "payload_base64": "?"},
        {"topic": "", "payload": "5"},
        {"topic": "a"},
    ]);
    let kind = "content-type: application/json; charset=utf-8\r\n";
    let body = items.to_string();
    let answer = server.ask("POST", "/v1/publish?confirm=node", kind, body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let results = answer.json()["results"].as_array().unwrap().clone();
    let short: Vec<_> = results
        .iter()
        .map(|r| r["id"].as_str().or(r["error"]["code"].as_str()).unwrap().to_owned())
        .collect();
    let expected = [
        "id0",
        "id1",
        "id0",
        "payload_too_large",
        "two_payloads",
        "bad_base64",
        "topic_empty",
        "id0",
    ];
    assert_eq!(short, expected);
    let published: Vec<_> = server
        .published()
        .iter()
        .map(|(_, topic, messages, confirm)| {
            assert_eq!(*confirm, Confirm::Node);
            let payloads: Vec<_> = messages.iter().map(|(payload, _)| payload.to_vec()).collect();
            (topic.clone(), payloads)
        })
        .collect();
    let expected: [(String, Vec<Vec<u8>>); 3] = [
        ("a".into(), vec![b"1".into(), b"2".into()]),
        ("b".into(), vec![b"3".into()]),
        ("a".into(), vec![b"".into()]),
    ];
    assert_eq!(published, expected);
}

#[tokio::test]
async fn bad_http_requests_get_a_clear_error_on_every_path() {
    let server = serve(limited(|limits| {
        limits.payload = 100;
        limits.frame = 4_096;
    }))
    .await;
    let json = "content-type: application/json\r\n";
    let long = "x".repeat(9_000);
    let big_header = format!("x-big: {}\r\n", "y".repeat(20_000));
    let too_many = format!("[{}]", vec!["{\"topic\":\"\"}"; ITEMS_MAX + 1].join(","));
    let one = "/v1/topics/a/publish";
    type Case<'a> = (&'a str, &'a str, &'a str, &'a [u8], u16, &'a str);
    let cases: &[Case<'_>] = &[
        ("GET", "/nowhere", "", b"", 404, "not_found"),
        ("POST", "/../etc/passwd", "", b"", 404, "not_found"),
        ("GET", "/v1/topics/a", "", b"", 404, "not_found"),
        ("POST", "/v1/topics/a", "", b"", 404, "not_found"),
        ("POST", "/status", "", b"", 405, "method_not_allowed"),
        ("DELETE", "/metrics", "", b"", 405, "method_not_allowed"),
        ("GET", one, "", b"", 405, "method_not_allowed"),
        ("GET", "/v1/publish", "", b"", 405, "method_not_allowed"),
        ("POST", "/v1/topics//publish", "", b"", 400, "topic_empty"),
        ("POST", "/v1/topics/publish", "", b"", 404, "not_found"),
        ("POST", "/v1/topics/a%00b/publish", "", b"", 400, "topic_control_character"),
        ("POST", "/v1/topics/a%0d%0ab/publish", "", b"", 400, "topic_control_character"),
        ("POST", "/v1/topics/a%/publish", "", b"", 400, "bad_topic_encoding"),
        ("POST", "/v1/topics/a%4/publish", "", b"", 400, "bad_topic_encoding"),
        ("POST", "/v1/topics/%zz/publish", "", b"", 400, "bad_topic_encoding"),
        ("POST", "/v1/topics/%ff/publish", "", b"", 400, "bad_topic_encoding"),
        ("POST", &format!("/v1/topics/{}/publish", &long[..2_000]), "", b"", 400, "topic_too_long"),
        ("POST", &format!("/v1/topics/{long}/publish"), "", b"", 414, "uri_too_long"),
        ("GET", &format!("/status?{long}"), "", b"", 414, "uri_too_long"),
        ("POST", &format!("{one}?confirm=all"), "", b"", 400, "bad_query"),
        ("POST", &format!("{one}?confirm=node&confirm=node"), "", b"", 400, "bad_query"),
        ("POST", &format!("{one}?comfirm=node"), "", b"", 400, "bad_query"),
        ("POST", one, "waxwing-namespace: a/b\r\n", b"", 400, "bad_namespace"),
        ("POST", one, "waxwing-namespace:\r\n", b"", 400, "bad_namespace"),
        ("POST", one, "content-encoding: gzip\r\n", b"", 415, "unsupported_encoding"),
        ("POST", one, "origin: https://evil.example\r\n", b"", 403, "cross_origin"),
        ("POST", one, &big_header, b"", 431, "headers_too_large"),
        ("GET", "/status", &big_header, b"", 431, "headers_too_large"),
        ("POST", one, "", &[b'x'; 101], 413, "payload_too_large"),
        ("POST", "/v1/publish", "", b"[]", 415, "unsupported_media_type"),
        (
            "POST",
            "/v1/publish",
            "content-type: text/plain\r\n",
            b"[]",
            415,
            "unsupported_media_type",
        ),
        ("POST", "/v1/publish", json, b"{}", 400, "bad_json"),
        ("POST", "/v1/publish", json, b"[{\"topic\":1}]", 400, "bad_json"),
        ("POST", "/v1/publish", json, b"[{\"topic\":\"a\",\"paylod\":\"\"}]", 400, "bad_json"),
        ("POST", "/v1/publish", json, b"[{\"topic\":\"a\"}", 400, "bad_json"),
        ("POST", "/v1/publish", json, b"\xff", 400, "bad_json"),
        ("POST", "/v1/publish", json, b"", 400, "bad_json"),
        ("POST", "/v1/publish", json, &[b'['; 4_000], 400, "bad_json"),
        ("POST", "/v1/publish", json, &[b' '; 5_000], 413, "payload_too_large"),
    ];
    for (method, path, headers, body, status, code) in cases {
        let answer = server.ask(method, path, headers, body).await;
        answer.is_error(*status, code, &format!("{method} {}", &path[..path.len().min(60)]));
    }
    assert_eq!(server.published().len(), 0);
    let allow = server.ask("POST", "/status", "", b"").await.head;
    assert!(allow.contains("allow: get,head"), "{allow}");

    let server = serve(limited(|limits| limits.frame = 1 << 20)).await;
    server
        .ask("POST", "/v1/publish", json, too_many.as_bytes())
        .await
        .is_error(400, "bad_json", "");
}

#[tokio::test]
async fn a_refusal_by_the_node_has_its_code() {
    let draining = serve(FakeNode { draining: true, ..FakeNode::default() }).await;
    let answer = draining.ask("POST", "/v1/topics/a/publish", "", b"x").await;
    answer.is_error(503, "draining", "");
    assert!(answer.head.contains("retry-after: 1"), "{answer:?}");
    for (error, status) in [
        (BrokerError::Topic(BadTopic::Empty), 400),
        (BrokerError::PayloadTooLarge { size: 2, max: 1 }, 413),
        (BrokerError::HeadersTooLarge { size: 2, max: 1 }, 431),
        (BrokerError::TooManyTopics { max: 1 }, 429),
        (BrokerError::UnknownSession("x".into()), 404),
        (BrokerError::Draining, 503),
    ] {
        let code = error.code();
        let mapped = super::error::ApiError::from(error);
        assert_eq!((mapped.status.as_u16(), mapped.body.code), (status, code));
    }
}
