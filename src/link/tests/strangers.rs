//! Callers of the peer port who are no peers: each costs itself, and nobody else notices.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::recorder::Event;
use super::world::{Node, PATIENCE, Plan, connected, eventually, mesh, name, start};
use crate::link::codec;
use crate::link::frame::{Frame, Hello, NONCE_LEN};
use crate::link::{Direction, OPEN_PATH};
use crate::supervise::Task;
use crate::types::ClusterName;
use crate::wire::frames::PREFIX_LEN;

/// Sends `bytes` and reads until the node closes.
async fn raw(node: &Node, bytes: &[u8]) -> Vec<u8> {
    let mut tcp = TcpStream::connect(node.address).await.unwrap();
    // The node may close before all is written.
    let _ = tcp.write_all(bytes).await;
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "the node keeps a stranger");
    answer
}

/// Opens a stream that sends `body`; returns the frames of the answer, and the gRPC status. Who is cut off gets neither.
async fn call(node: &Node, path: &str, body: Vec<u8>) -> (Vec<Frame>, String) {
    let tcp = TcpStream::connect(node.address).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut requests, connection) = http2::handshake(executor, TokioIo::new(tcp)).await.unwrap();
    let task = node.supervisor.spawn(Task::Client("stranger".into()), async move {
        let _ = connection.await;
    });
    let request = http::Request::post(format!("http://b{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let Ok(response) = requests.send_request(request).await else {
        return (Vec::new(), String::new());
    };
    let mut status = response.headers().get("grpc-status").cloned();
    let mut frames = Vec::new();
    if let Ok(collected) = response.into_body().collect().await {
        if let Some(trailers) = collected.trailers() {
            status = status.or_else(|| trailers.get("grpc-status").cloned());
        }
        let mut bytes = collected.to_bytes();
        while bytes.len() >= PREFIX_LEN {
            let prefix = bytes.split_to(PREFIX_LEN);
            let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
            frames.push(codec::decode(bytes.split_to(len as usize)).unwrap());
        }
    }
    drop(requests);
    task.ended().await;
    (frames, status.map_or_else(String::new, |status| status.to_str().unwrap().to_owned()))
}

fn hello(from: &str) -> Frame {
    Frame::Hello(Hello {
        cluster: ClusterName::parse("test").unwrap(),
        from: name(from),
        to: name("b"),
        nonce: [0; NONCE_LEN],
        version_min: 1,
        version_max: 1,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn junk_and_other_protocols_disturb_nobody() {
    let nodes = mesh(["a", "b"]).await;
    let [a, b] = &nodes;
    let mut preface_then_junk = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    preface_then_junk.extend([0xff; 4096]);
    for junk in [
        &b"GET /metrics HTTP/1.1\r\nhost: b\r\n\r\n"[..],
        b"*1\r\n$4\r\nPING\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &[0; 100_000],
        &preface_then_junk,
    ] {
        raw(b, junk).await;
    }
    a.told.source("b", Direction::Out).unwrap().content([Bytes::from_static(b"still here")]);
    eventually("content", || (b.told.items("a").len() == 1).then_some(())).await;
    assert_eq!(b.told.count("a", Direction::In, &Event::Down), 0);
    assert_eq!(b.told.count("a", Direction::Out, &Event::Down), 0);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_or_too_much_is_cut_off() {
    let mut plan = Plan::new("b");
    plan.config.limits.handshake = Duration::from_millis(300);
    let [a, b] = start([Plan::new("a"), plan]).await;
    let nodes = [a, b];
    connected(&nodes).await;
    let [_, b] = &nodes;
    raw(b, b"").await;
    raw(b, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    // A stream of settings frames, each of them lawful.
    let mut settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    settings.extend(b"\0\0\0\x04\0\0\0\0\0".repeat(10_000));
    raw(b, &settings).await;
    // The hello is lawful, and then nothing comes.
    let (frames, _) = call(b, OPEN_PATH, codec::encode(hello("a")).to_vec()).await;
    assert!(matches!(&frames[..], [Frame::Challenge(_)]), "{frames:?}");
    assert!(nodes[0].connected(b) && b.connected(&nodes[0]));
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_out_of_place_get_no_answer() {
    let nodes = mesh(["a", "b"]).await;
    let [_, b] = &nodes;
    let mut oversize = vec![0, 0, 0, 0x40, 1];
    oversize.resize(20_000, 0);
    let compressed = vec![1, 0, 0, 0, 1, 0];
    let content = Frame::Content { first: 0, items: vec![Bytes::from_static(b"x")] };
    let mut twice = codec::encode(hello("a")).to_vec();
    twice.extend_from_slice(&codec::encode(hello("a")));
    for (body, answers) in [
        (codec::encode(content).to_vec(), 0),
        (codec::encode(Frame::Control("x".into())).to_vec(), 0),
        (vec![0, 0, 0, 0, 3, 0xff, 0xff, 0xff], 0),
        (oversize, 0),
        (compressed, 0),
        (Vec::new(), 0),
        (twice, 1),
    ] {
        let (frames, _) = call(b, OPEN_PATH, body).await;
        assert_eq!(frames.len(), answers, "{frames:?}");
    }
    let (frames, _) = call(b, OPEN_PATH, codec::encode(hello("b")).to_vec()).await;
    assert!(matches!(&frames[..], [Frame::Refused(_)]), "{frames:?}");
    let (_, status) = call(b, "/waxwing.peer.v1.Link/Close", Vec::new()).await;
    assert_eq!(status, "12");
    let (_, status) = call(b, "/grpc.health.v1.Health/Check", Vec::new()).await;
    assert_eq!(status, "12");
    assert!(nodes[0].connected(b) && b.connected(&nodes[0]));
    assert_eq!(b.told.count("a", Direction::In, &Event::Down), 0);
    for node in nodes {
        node.stop().await;
    }
}
