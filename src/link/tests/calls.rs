//! Calls: who may make them, and what becomes of them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::world::{Node, PATIENCE, Plan, name, start};
use crate::config::Secret;
use crate::link::{CallHandler, Uncalled};
use crate::types::{Incarnation, NodeName};

/// Says who called, and the same again; waits where it is asked to.
struct Echo;

#[async_trait]
impl CallHandler for Echo {
    async fn answer(&self, from: NodeName, incarnation: Incarnation, payload: Bytes) -> Bytes {
        if payload.starts_with(b"wait") {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        [format!("{from}@{incarnation}:").as_bytes(), &payload].concat().into()
    }
}

async fn call(from: &Node, to: &str, payload: &[u8]) -> Result<Bytes, Uncalled> {
    let payload = Bytes::copy_from_slice(payload);
    tokio::time::timeout(PATIENCE, from.links.call(&name(to), payload)).await.expect("in time")
}

async fn answering<const N: usize>(plans: [Plan; N]) -> [Node; N] {
    let nodes = start(plans).await;
    for node in &nodes {
        node.links.answer_calls(Arc::new(Echo));
    }
    nodes
}

#[tokio::test]
async fn members_call_each_other_and_calls_do_not_wait_for_each_other() {
    let [a, b] = answering(["a", "b"].map(Plan::new)).await;
    assert_eq!(call(&a, "b", b"hello").await.unwrap(), "a@1:hello");
    assert_eq!(call(&b, "a", b"").await.unwrap(), "b@1:");
    let large = vec![7; 5 << 20];
    assert!(call(&a, "b", &large).await.unwrap().ends_with(&large));
    {
        let slow = call(&a, "b", b"wait");
        let quick = call(&a, "b", b"quick");
        tokio::pin!(slow);
        tokio::select! {
            _ = &mut slow => panic!("the slow one was first"),
            answer = quick => assert_eq!(answer.unwrap(), "a@1:quick"),
        }
        assert_eq!(slow.await.unwrap(), "a@1:wait");
    }
    let many = (0..100).map(|n| {
        let a = &a;
        async move { call(a, "b", n.to_string().as_bytes()).await.unwrap() }
    });
    let answers = futures_util::future::join_all(many).await;
    assert!(answers.iter().enumerate().all(|(n, answer)| *answer == format!("a@1:{n}")));
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn strangers_call_nobody() {
    let mut foreign = Plan::new("b");
    foreign.config.secrets = vec![Secret::new(b"another".to_vec())];
    let [a, b] = answering([Plan::new("a"), foreign]).await;
    for (from, to) in [(&a, "b"), (&b, "a")] {
        let told = call(from, to, b"hello").await;
        assert!(matches!(&told, Err(Uncalled::NotSent(why)) if why.contains("secret")), "{told:?}");
    }
    let told = call(&a, "nobody", b"hello").await;
    assert!(matches!(told, Err(Uncalled::NotSent(_))), "{told:?}");
    a.stop().await;
    b.stop().await;
}

/// Each of a pair knows another incarnation than there is, and then the right one.
#[tokio::test]
async fn an_incarnation_that_is_over_calls_nobody() {
    let [a, b] = answering(["a", "b"].map(Plan::new)).await;
    assert!(call(&a, "b", b"hello").await.is_ok());
    let mut newer = b.roster.member("a");
    newer.incarnation = Incarnation(2);
    b.roster.set(newer.clone());
    let told = call(&a, "b", b"hello").await;
    assert!(told.is_err(), "{told:?}");
    newer.incarnation = Incarnation(1);
    b.roster.set(newer);
    let again = async {
        while call(&a, "b", b"hello").await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("it may call again");
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn without_a_greeting_nobody_is_heard() {
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let [a] = answering([Plan::new("a")]).await;
    let tcp = tokio::net::TcpStream::connect(a.address).await.unwrap();
    let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await;
    let (mut requests, driver) = made.unwrap();
    let asking = async {
        let request = http::Request::post("http://a/waxwing.peer.v1.Calls/Call")
            .header(http::header::CONTENT_TYPE, "application/grpc")
            .body(Full::new(Bytes::from_static(&[0, 0, 0, 0, 0])))
            .unwrap();
        let response = requests.send_request(request).await.unwrap();
        let status = tonic::Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::Unauthenticated, "{status:?}");
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    };
    tokio::select! {
        () = asking => {}
        _ = driver => panic!("the connection ended first"),
    }
    a.stop().await;
}
