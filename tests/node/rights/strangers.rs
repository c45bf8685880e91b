//! Who shows no key, or a wrong one: told so, and put out soon.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use waxwing::supervise::Clock;
use waxwing::wire::v1;

use super::asking::{Ask, Session, Who, code, first_line, raw};
use super::{ALL, Keys, start};
use crate::cluster::within;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_told_so_on_every_front_and_probes_are_answered() {
    let mut keys = Keys::default();
    let key = keys.add("acme", ALL);
    let past = keys.add("acme", &format!("{ALL}\nexpires = 2020-01-01T00:00:00Z"));
    let node = start(keys.config("a")).await;
    let node = node.handle();
    let wrong = Who::of(&format!("{}x", &key[..key.len() - 1]));
    let of_shop = Who { key: Some(key.clone()), namespace: Some("shop") };
    for (who, expected) in [
        (Who::default(), "unauthenticated"),
        (Who::of(""), "unauthenticated"),
        (wrong, "unauthenticated"),
        (Who::of(&past), "key_expired"),
        (of_shop, "other_namespace"),
    ] {
        let refused = Session::open(&who, &node, v1::Hello::default()).await.map(drop);
        assert_eq!(code(&refused.unwrap_err()), expected, "{who:?}");
        for ask in [Ask::Publish("t"), Ask::Subscribe("t"), Ask::Track("t"), Ask::Watch("t")] {
            let verdicts = [who.ask_calls(&node, ask).await, who.ask_http(&node, ask).await];
            for verdict in verdicts.into_iter().flatten().flatten() {
                assert_eq!(verdict, Err(expected.to_owned()), "{ask:?} {who:?}");
            }
        }
        let told = who.redis(&node).await.map(drop).unwrap_err();
        assert!(told.starts_with("-WRONGPASS"), "{told}");
    }
    let mut stranger = raw(node.bound().redis.unwrap(), b"PUBLISH t x\r\n").await;
    assert_eq!(first_line(&mut stranger).await, "-NOAUTH Authentication required.");
    // An orchestrator's probe has no key.
    let endpoint = format!("http://{}", node.bound().grpc);
    let channel =
        tonic::transport::Endpoint::from_shared(endpoint).unwrap().connect().await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let serving = health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    assert_eq!(serving.into_inner().status, 1);
    assert_eq!(Who::of(&key).ask_http(&node, Ask::Publish("t")).await, Some(vec![Ok(()), Ok(())]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_hold_nothing_for_long() {
    let mut keys = Keys::default();
    let who = Who::of(&keys.add("default", ALL));
    let mut config = keys.config("a");
    config.limits.handshake = Duration::from_millis(500);
    let node = start(config).await;
    let node = node.handle();
    // HTTP/2 in order, and one lawful request after another that shows no key: a PING is never answered for ever.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let ping = b"\0\0\x08\x06\0\0\0\0\0waxwings";
    let clock = Clock::new();
    let began = clock.now();
    for port in [node.bound().grpc, node.bound().http.unwrap(), node.bound().redis.unwrap()] {
        let begin: &[u8] = if port == node.bound().grpc { preface } else { b"" };
        let mut io = raw(port, begin).await;
        let (mut read, mut write) = io.split();
        let talk = async {
            while write.write_all(ping).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut heard = Vec::new();
        let hear = async { read.read_to_end(&mut heard).await };
        within("it is put out", async { tokio::join!(talk, hear) }).await.1.ok();
    }
    assert!(clock.now() - began < Duration::from_secs(10));
    // Who has a key may say much in its first breath.
    let mut pubsub = v1::pub_sub_client::PubSubClient::new(who.service(&node).await);
    let payload = vec![b'x'; 1 << 20];
    let publish =
        v1::PublishRequest { topic: "t".into(), payload: payload.into(), ..Default::default() };
    within("it is taken", pubsub.publish(publish)).await.unwrap();
}
