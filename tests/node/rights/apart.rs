//! Namespaces that never meet.

use tokio::io::AsyncWriteExt as _;
use waxwing::wire::v1;

use super::asking::{Ask, Session, Who, first_line, words};
use super::{ALL, Keys};
use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_crosses_between_namespaces() {
    let mut keys = Keys::default();
    let (acme, shop) = (Who::of(&keys.add("acme", ALL)), Who::of(&keys.add("shop", ALL)));
    let mut cluster = Cluster::empty();
    cluster.add_with(keys.config("a")).await;
    let mut b = keys.config("b");
    b.cluster.seeds = vec![cluster.node("a").bound().peer.to_string()];
    cluster.add_with(b).await;
    cluster.converged(&["a", "b"]).await;
    let (a, b) = (cluster.node("a"), cluster.node("b"));

    // The same names on both sides, by name and by pattern, on both nodes.
    let mut of_shop = Session::open(&shop, &b, v1::Hello::default()).await.unwrap();
    assert_eq!(of_shop.ask(Ask::Subscribe("room")).await, Ok(()));
    assert_eq!(of_shop.ask(Ask::Pattern("*")).await, Ok(()));
    let mut redis = shop.redis(&b).await.unwrap();
    redis.write_all(&words(&["HELLO", "3"])).await.unwrap();
    redis.write_all(&words(&["SSUBSCRIBE", "room"])).await.unwrap();
    let mut of_acme = Session::open(&acme, &a, v1::Hello::default()).await.unwrap();
    assert_eq!(of_acme.ask(Ask::Track("room")).await, Ok(()));
    for node in [&a, &b] {
        for topic in ["room", "other"] {
            let (status, told) = acme
                .http(node, "POST", &format!("/v1/topics/{topic}/publish?confirm=cluster"), "acme")
                .await;
            assert!(status == 200 && told.contains("\"subscriptions\":0"), "{told}");
        }
        let mut sharded = acme.redis(node).await.unwrap();
        sharded.write_all(&words(&["SPUBLISH", "room", "acme"])).await.unwrap();
        assert_eq!(first_line(&mut sharded).await, ":0");
        sharded.write_all(&words(&["PUBSUB", "CHANNELS"])).await.unwrap();
        assert_eq!(first_line(&mut sharded).await, "*0");
        sharded.write_all(&words(&["PUBSUB", "SHARDCHANNELS"])).await.unwrap();
        assert_eq!(first_line(&mut sharded).await, "*0");
        sharded.write_all(&words(&["PUBSUB", "NUMPAT"])).await.unwrap();
        assert_eq!(first_line(&mut sharded).await, ":0");
    }
    let (_, told) = shop.http(&b, "POST", "/v1/topics/room/publish?confirm=cluster", "shop").await;
    assert!(told.contains("\"subscriptions\":1"), "{told}");
    assert_eq!(of_shop.texts_until("shop").await, ["shop"]);
    let mut sharded = shop.redis(&a).await.unwrap();
    sharded.write_all(&words(&["SPUBLISH", "room", "x"])).await.unwrap();
    assert_eq!(first_line(&mut sharded).await, ":1");

    for (who, there) in [(&acme, "\"presences\":1"), (&shop, "\"presences\":0")] {
        let (_, told) = who.http(&a, "GET", "/v1/topics/room/presence/count", "").await;
        assert!(told.contains(there), "{told}");
    }
    // A token says nothing in another namespace.
    let v1::Welcome { resume_token, epoch, session_id, .. } = of_acme.welcome.clone();
    let hello = v1::Hello { resume_token, epoch, ..Default::default() };
    let thief = Session::open(&shop, &a, hello).await.unwrap();
    assert!(!thief.welcome.resumed && thief.welcome.session_id != session_id);
    assert_eq!(of_acme.ask(Ask::Publish("room")).await, Ok(()));
}
