//! What a namespace may have, whichever way it is asked for.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use waxwing::wire::v1;

use super::asking::{Ask, Session, Who, code, first_line, words};
use super::{ALL, Keys, start};
use crate::cluster::within;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_has_what_its_quota_says_and_its_neighbour_the_same() {
    let mut keys = Keys::default();
    keys.entries.push(
        "[[namespace]]\nname = \"acme-*\"\nsessions = 3\nsubscriptions = 3\ntopics = 2\npresences = 2\npayload = 10\n\
         patterns = false\n[[namespace]]\nname = \"slow\"\npublish_rate = 1\npublish_burst = 5\n\
         [[namespace]]\nname = \"narrow\"\npublish_bytes = 10\npublish_bytes_burst = 100\n"
            .to_owned(),
    );
    let tenants = ["acme-1", "acme-2"].map(|name| Who::of(&keys.add(name, ALL)));
    let slow = Who::of(&keys.add("slow", ALL));
    let narrow = Who::of(&keys.add("narrow", ALL));
    let node = start(keys.config("a")).await;
    let node = node.handle();
    let refused = |limit: &str| Err(limit.to_owned());
    // The second has as much as the first, whatever that one took.
    let mut open = Vec::new();
    for who in &tenants {
        let mut session = Session::open(who, &node, v1::Hello::default()).await.unwrap();
        for (ask, verdict) in [
            (Ask::Pattern("a*"), refused("too_many_patterns")),
            (Ask::Subscribe("a"), Ok(())),
            (Ask::Subscribe("b"), Ok(())),
            (Ask::Subscribe("b"), Ok(())),
            (Ask::Subscribe("c"), refused("namespace_topics")),
            (Ask::Track("a"), Ok(())),
            (Ask::Track("b"), Ok(())),
            (Ask::Track("c"), refused("namespace_full")),
            (Ask::Publish("a"), Ok(())),
        ] {
            assert_eq!(session.ask(ask).await, verdict, "{ask:?}");
        }
        let mut second = Session::open(who, &node, v1::Hello::default()).await.unwrap();
        assert_eq!(second.ask(Ask::Subscribe("a")).await, Ok(()));
        assert_eq!(second.ask(Ask::Subscribe("b")).await, refused("namespace_subscriptions"));
        assert_eq!(second.ask(Ask::Watch("b")).await, refused("namespace_subscriptions"));
        let (status, told) = who.http(&node, "POST", "/v1/topics/a/publish", "eleven bytes").await;
        assert!(status == 413 && told.contains("payload_too_large"), "{status} {told}");
        let mut third = who.redis(&node).await.unwrap();
        // And the connection stays.
        for (command, answer) in [
            (&["PUBLISH", "a", "eleven bytes"][..], "larger than the limit of 10"),
            (&["PING"], "PONG"),
        ] {
            third.write_all(&words(command)).await.unwrap();
            let told = first_line(&mut third).await;
            assert!(told.contains(answer), "{told}");
        }
        let fourth = Session::open(who, &node, v1::Hello::default()).await.map(drop);
        assert_eq!(code(&fourth.unwrap_err()), "namespace_sessions");
        open.push((session, second, third));
    }
    // What is given back may be had again, however often and however it ended.
    for (session, second, redis) in open {
        session.bye().await;
        second.bye().await;
        drop(redis);
    }
    let for_once = v1::Hello { linger: Some(Default::default()), ..Default::default() };
    for i in 0..30 {
        let again = async {
            loop {
                if let Ok(mut session) = Session::open(&tenants[0], &node, for_once.clone()).await
                    && session.ask(Ask::Subscribe("c")).await.is_ok()
                    && session.ask(Ask::Subscribe("d")).await.is_ok()
                    && let Ok(redis) = tenants[0].redis(&node).await
                {
                    if i % 2 == 0 {
                        session.bye().await;
                    }
                    return drop(redis);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within("places are given back", again).await;
    }

    // A rate is the namespace's, by whichever front and session it publishes.
    let mut session = Session::open(&slow, &node, v1::Hello::default()).await.unwrap();
    let mut taken = 0;
    while session.ask(Ask::Publish("t")).await.is_ok() {
        taken += 1;
    }
    assert!((5..20).contains(&taken), "{taken}");
    assert_eq!(session.ask(Ask::Publish("t")).await, refused("namespace_publish_rate"));
    let (status, told) = slow.http(&node, "POST", "/v1/topics/t/publish", "").await;
    assert!(status == 429 && told.contains("retry-after"), "{status} {told}");
    let told = slow.ask_redis(&node, Ask::Publish("t")).await.unwrap();
    assert!(
        told[0].as_ref().unwrap_err().starts_with("ERR the namespace publishes faster"),
        "{told:?}"
    );
    let body = "x".repeat(200);
    let (first, _) = narrow.http(&node, "POST", "/v1/topics/t/publish", &body).await;
    let (second, told) = narrow.http(&node, "POST", "/v1/topics/t/publish", &body).await;
    assert_eq!((first, second), (200, 429), "{told}");
    assert!(told.contains("namespace_publish_bytes"), "{told}");
    // The file is read again: what it says now holds for who is here.
    keys.entries[0] = keys.entries[0].replace("publish_rate = 1\npublish_burst = 5\n", "");
    assert_eq!(node.broker().set_access(&keys.access()), Some(0));
    assert_eq!(session.ask(Ask::Publish("t")).await, Ok(()));
    // No namespace is listed any longer, and then one is that has somebody here.
    let had = keys.entries.remove(0);
    assert_eq!(node.broker().set_access(&keys.access()), Some(0));
    assert_eq!(session.ask(Ask::Pattern("t*")).await, Ok(()));
    assert_eq!(session.ask(Ask::Subscribe("t")).await, Ok(()));
    let less = had.replace("\"slow\"", "\"slow\"\nsubscriptions = 2\npublish_rate = 1");
    keys.entries.insert(0, less);
    assert_eq!(node.broker().set_access(&keys.access()), Some(0));
    assert_eq!(session.ask(Ask::Subscribe("u")).await, refused("namespace_subscriptions"));
    // One goes at the most: what was owed before is owed still.
    let _ = session.ask(Ask::Publish("t")).await;
    assert_eq!(session.ask(Ask::Publish("t")).await, refused("namespace_publish_rate"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_nobody_is_attached_to_keep_their_place() {
    let mut keys = Keys::default();
    keys.entries.push("[[namespace]]\nname = \"*\"\nsessions = 2\n".to_owned());
    let (acme, shop) = (Who::of(&keys.add("acme", ALL)), Who::of(&keys.add("shop", ALL)));
    let node = start(keys.config("a")).await;
    let node = node.handle();
    let fresh = async |who: &Who| Session::open(who, &node, v1::Hello::default()).await;
    let refused = Err("namespace_sessions".to_owned());
    let first = fresh(&acme).await.unwrap();
    let v1::Welcome { resume_token, epoch, .. } = first.welcome.clone();
    let of_first = v1::Hello { resume_token, epoch, ..Default::default() };
    drop((first, fresh(&acme).await.unwrap()));
    within("both linger", async {
        while node.broker().session_counts().lingering < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let try_fresh = async || fresh(&acme).await.map(drop).map_err(|status| code(&status));
    assert_eq!(try_fresh().await, refused);
    // Whoever comes back takes no second place, also where the older connection is still there; the neighbour has its own.
    let resumed = Session::open(&acme, &node, of_first.clone()).await.unwrap();
    assert!(resumed.welcome.resumed);
    let v1::Welcome { epoch, .. } = resumed.welcome.clone();
    let again = v1::Hello { epoch, overlap: true, ..of_first };
    let again = Session::open(&acme, &node, again).await.unwrap();
    assert!(again.welcome.resumed);
    assert_eq!(try_fresh().await, refused);
    assert!(fresh(&shop).await.is_ok());
    // It is gone when it is over.
    again.bye().await;
    within("its place is free", async {
        while try_fresh().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
