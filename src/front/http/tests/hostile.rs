//! Clients that send too much, too slowly, nonsense or nothing; and the end of the front.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Answer, FakeNode, limited, read_to_end, serve};

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_though_it_comes_in_chunks() {
    let server = serve(limited(|limits| limits.payload = 1_000)).await;
    let mut request =
        b"POST /v1/topics/a/publish HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec();
    for _ in 0..100 {
        request.extend_from_slice(b"64\r\n");
        request.extend_from_slice(&[b'x'; 100]);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    Answer::parse(&server.raw(request).await).is_error(413, "payload_too_large", "");
}

#[tokio::test]
async fn a_body_far_too_large_still_gets_its_answer() {
    let server = serve(FakeNode::default()).await;
    let answer = server.ask("POST", "/v1/topics/a/publish", "", &vec![b'x'; 5 << 20]).await;
    answer.is_error(413, "payload_too_large", "");
    assert!(answer.body.contains("limits.payload"), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_never_reads_its_answer_is_closed() {
    let mut node = limited(|limits| limits.idle = Duration::from_millis(200));
    // More than the kernel takes for both ends.
    node.page_bytes = 64 << 20;
    let server = serve(node).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let sessions = || server.supervisor.report().iter().filter(|t| t.kind == "session").count();
    let closed = async {
        let mut seen = false;
        while !seen || sessions() > 0 {
            seen |= sessions() > 0;
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("it is closed");
    drop(stream);
}

#[tokio::test]
async fn slow_and_silent_clients_are_closed() {
    let server = serve(limited(|limits| {
        limits.handshake = Duration::from_millis(200);
        limits.idle = Duration::from_millis(300);
    }))
    .await;
    // Says nothing; half a head; a head and half a body; idle after a request.
    assert_eq!(server.raw(b"").await, "");
    assert_eq!(server.raw(b"GET /status HT").await, "");
    let half = b"POST /v1/topics/a/publish HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf";
    Answer::parse(&server.raw(half).await).is_error(408, "request_timeout", "");
    let answer = server.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok\n"), "{answer:?}");
    assert_eq!(server.published().len(), 0);
}

#[tokio::test]
async fn junk_costs_only_its_sender() {
    let server = serve(limited(|limits| limits.handshake = Duration::from_millis(200))).await;
    let binary: Vec<u8> = (0..10_000u32).map(|i| (i * 31 % 251) as u8).collect();
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(500));
    let huge_head = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(100_000));
    for junk in [
        binary,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET  / HTTP/1.1\r\nbad header\r\n\r\n".to_vec(),
        b"POST /v1/publish HTTP/1.1\r\ncontent-length: -1\r\n\r\n".to_vec(),
        b"POST /v1/publish HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n".to_vec(),
        b"POST /v1/topics/a/publish HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nZZZ\r\n".to_vec(),
        many_headers.into_bytes(),
        huge_head.into_bytes(),
    ] {
        let answer = server.raw(&junk).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer:?}");
        assert_eq!(server.get("/healthz").await.status, 200);
    }
}

#[tokio::test]
async fn a_connection_too_many_is_told_so_and_room_comes_back() {
    let server = serve(limited(|limits| limits.http_connections = 8)).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(server.connect().await);
    }
    Answer::parse(&server.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await).is_error(
        503,
        "too_many_connections",
        "",
    );
    held.clear();
    // The server notices the closed ones in its own time.
    let again = async {
        while server.get("/healthz").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.unwrap();
}

#[tokio::test]
async fn shutting_down_ends_idle_connections_and_the_front() {
    let server = serve(FakeNode::default()).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    idle.read_exact(&mut answer).await.unwrap();
    server.shutdown.cancel();
    read_to_end(&mut idle).await;
    let ended = tokio::time::timeout(Duration::from_secs(10), server.supervisor.all_ended());
    ended.await.expect("all tasks end");
    assert!(TcpStream::connect(server.address).await.is_err());
}
