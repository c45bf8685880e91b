//! Presence of a real node by a client that we don't help: what is asked, what is answered, and what watchers are told.

use std::collections::BTreeMap;

use tonic::Code;
use waxwing::config::Limits;
use waxwing::wire::v1;
use waxwing::wire::v1::event::Kind as EventKind;
use waxwing::wire::v1::presence_client::PresenceClient;
use waxwing::wire::v1::request::Kind;

use crate::node::{Talk, TestNode, within};

fn track(key: &str, meta: &str, revision: u64) -> v1::TrackRequest {
    v1::TrackRequest {
        topic: "room".to_owned(),
        key: key.to_owned(),
        id: "1".to_owned(),
        meta: meta.to_owned().into(),
        revision,
    }
}

fn untrack(key: &str) -> Kind {
    Kind::Untrack(v1::UntrackRequest {
        topic: "room".to_owned(),
        key: key.to_owned(),
        id: "1".to_owned(),
        linger: None,
    })
}

fn watch(topic: &str, counts_only: bool) -> v1::WatchRequest {
    v1::WatchRequest { topic: topic.to_owned(), counts_only }
}

impl Talk {
    async fn tracked(&mut self, kind: Kind) -> String {
        self.ask(9, kind).await;
        let reply = self.reply().await;
        assert_eq!((reply.id, reply.error), (9, None));
        reply.r#ref
    }

    async fn presence(&mut self) -> v1::PresenceEvent {
        match self.event().await {
            EventKind::Presence(event) => event,
            other => panic!("{other:?} instead of presence"),
        }
    }
}

/// In words: what came, changed and went.
fn words(event: &v1::PresenceEvent) -> Vec<String> {
    let first = |entry: &v1::PresenceEntry| if entry.first_of_key { "!" } else { "" };
    let last = |entry: &v1::PresenceEntry| if entry.last_of_key { "!" } else { "" };
    let meta = |entry: &v1::PresenceEntry| String::from_utf8_lossy(&entry.meta).into_owned();
    let joins = event.joins.iter().map(|e| format!("+{}{}{}", e.key, meta(e), first(e)));
    let updates = event.updates.iter().map(|e| format!("~{}{}", e.key, meta(e)));
    let leaves = event.leaves.iter().map(|e| format!("-{}{}", e.key, last(e)));
    joins.chain(updates).chain(leaves).collect()
}

#[tokio::test]
async fn tracked_updated_untracked_and_watched() {
    let node = TestNode::start().await;
    let (mut owner, mut watcher) = (node.session().await, node.session().await);
    let first = owner.tracked(Kind::Track(track("alice", "1", 1))).await;
    watcher.ask(5, Kind::Watch(watch("room", false))).await;
    assert_eq!(watcher.reply().await.id, 5, "the answer comes before the snapshot");
    let snapshot = watcher.presence().await;
    assert!(snapshot.snapshot && !snapshot.more && !snapshot.reset, "{snapshot:?}");
    assert_eq!(words(&snapshot), ["+alice1!"]);
    assert_eq!(snapshot.joins[0].r#ref, first);
    assert_eq!(snapshot.joins[0].node, "a");
    assert_eq!(snapshot.count, Some(v1::CountResponse { presences: 1, keys: 1 }));

    // The same again is nothing; another revision is an update; an older one is ignored, and said so.
    assert_eq!(owner.tracked(Kind::Track(track("alice", "1", 1))).await, first);
    let second = owner.tracked(Kind::Update(track("alice", "2", 2))).await;
    assert_ne!(second, first);
    owner.ask(11, Kind::Track(track("alice", "0", 1))).await;
    let ignored = owner.reply().await;
    assert_eq!(ignored.error.unwrap_or_default().code, "older_revision");
    assert_eq!(ignored.r#ref, second, "of what is listed");
    let update = watcher.presence().await;
    assert_eq!(words(&update), ["~alice2"]);
    assert_eq!((&update.updates[0].r#ref, &update.updates[0].prev_ref), (&second, &first));

    // Another session takes it over: the same metadata, so nobody sees it; the old owner is told when it asks.
    let mut other = node.session().await;
    assert_eq!(other.tracked(Kind::Track(track("alice", "2", 1))).await, second);
    owner.ask(13, Kind::Update(track("alice", "3", 3))).await;
    assert_eq!(owner.refusal().await, (13, "not_owner".to_owned()));
    owner.ask(15, untrack("alice")).await;
    assert_eq!(owner.reply().await.error, None, "it isn't its own; nothing happens");
    other.ask(17, untrack("alice")).await;
    assert_eq!(other.reply().await.error, None);
    let leave = watcher.presence().await;
    assert_eq!(words(&leave), ["-alice!"]);
    assert_eq!(leave.count, Some(v1::CountResponse { presences: 0, keys: 0 }));

    watcher.ask(19, Kind::Unwatch(watch("room", false))).await;
    assert_eq!(watcher.reply().await.id, 19);
    other.tracked(Kind::Track(track("bob", "", 2))).await;
    watcher.ask(21, Kind::Watch(watch("room", true))).await;
    assert_eq!(watcher.reply().await.id, 21, "nothing came after the unwatch");
    let count = watcher.presence().await;
    assert_eq!(words(&count), Vec::<String>::new());
    assert_eq!(count.count, Some(v1::CountResponse { presences: 1, keys: 1 }));
}

#[tokio::test]
async fn bad_presence_requests_get_their_error_and_change_nothing() {
    let limits = Limits { presences: 2, watches: 1, key: 8, metadata: 10, ..Limits::default() };
    let node = TestNode::with_limits(limits).await;
    let mut talk = node.session().await;
    talk.tracked(Kind::Track(track("alice", "1", 5))).await;
    talk.tracked(Kind::Track(track("bob", "1", 1))).await;
    let mut rival = node.session().await;
    rival.tracked(Kind::Track(track("carol", "1", 1))).await;
    talk.ask(1, Kind::Watch(watch("room", false))).await;
    assert_eq!(talk.refusal().await, (1, String::new()));
    assert_eq!(words(&talk.presence().await).len(), 3);

    let of = |change: fn(&mut v1::TrackRequest)| {
        let mut request = track("alice", "2", 6);
        change(&mut request);
        request
    };
    let rows: Vec<(&str, Kind, &str)> = vec![
        ("metadata", Kind::Track(of(|r| r.meta = vec![b'x'; 11].into())), "metadata_too_large"),
        ("long key", Kind::Track(of(|r| r.key = "k".repeat(9))), "key_too_long"),
        ("no key", Kind::Track(of(|r| r.key.clear())), "key_empty"),
        ("odd key", Kind::Track(of(|r| r.key = "a\n".to_owned())), "key_control_character"),
        ("long id", Kind::Track(of(|r| r.id = "i".repeat(9))), "id_too_long"),
        ("odd id", Kind::Track(of(|r| r.id = "\u{7f}".to_owned())), "id_control_character"),
        ("no topic", Kind::Track(of(|r| r.topic.clear())), "topic_empty"),
        ("long topic", Kind::Track(of(|r| r.topic = "t".repeat(2_000))), "topic_too_long"),
        ("older", Kind::Track(of(|r| r.revision = 4)), "older_revision"),
        ("third", Kind::Track(of(|r| r.key = "dave".to_owned())), "too_many_presences"),
        ("update of nothing", Kind::Update(of(|r| r.key = "dave".to_owned())), "not_tracked"),
        ("update of another's", Kind::Update(of(|r| r.key = "carol".to_owned())), "not_owner"),
        ("untrack without key", untrack(""), "key_empty"),
        ("second watch", Kind::Watch(watch("room2", false)), "too_many_watches"),
        ("watch of no topic", Kind::Watch(watch("", false)), "topic_empty"),
        ("unwatch of no topic", Kind::Unwatch(watch("", false)), "topic_empty"),
    ];
    for (what, kind, code) in rows {
        talk.ask(33, kind).await;
        assert_eq!(talk.refusal().await, (33, code.to_owned()), "{what}");
    }
    let negative = prost_types::Duration { seconds: -1, nanos: 0 };
    let Kind::Untrack(mut request) = untrack("alice") else { panic!("an untrack") };
    request.linger = Some(negative);
    talk.ask(35, Kind::Untrack(request)).await;
    assert_eq!(talk.refusal().await, (35, "invalid".to_owned()));

    // What is tracked may still change, and what isn't may be untracked. Nothing of the above was seen.
    talk.tracked(Kind::Track(track("alice", "2", 6))).await;
    talk.ask(37, untrack("nobody")).await;
    assert_eq!(talk.refusal().await, (37, String::new()));
    loop {
        let event = talk.presence().await;
        if !words(&event).is_empty() {
            assert_eq!(words(&event), ["~alice2"]);
            break;
        }
    }
}

#[tokio::test]
async fn a_frame_of_many_tracks_is_answered_one_by_one_in_order() {
    let limits = Limits { presences: 1_000, ..Limits::default() };
    let node = TestNode::with_limits(limits).await;
    let mut talk = node.session().await;
    let requests: Vec<(u64, Kind)> = (1..=1_200)
        .map(|n| (n, Kind::Track(track(&format!("k{n}"), "", 1))))
        .chain([(2_000, Kind::Track(track("", "", 1))), (2_001, Kind::Update(track("k1", "x", 2)))])
        .collect();
    talk.send(requests).await;
    for n in 1..=1_200 {
        let reply = talk.reply().await;
        let code = reply.error.map(|error| error.code);
        assert_eq!((reply.id, code.is_some()), (n, n > 1_000), "{code:?}");
        assert_eq!(reply.r#ref.len(), if n > 1_000 { 0 } else { 11 });
    }
    assert_eq!(talk.refusal().await, (2_000, "key_empty".to_owned()));
    assert_eq!(talk.refusal().await, (2_001, String::new()));
}

#[tokio::test]
async fn a_clean_end_is_seen_at_once_a_broken_one_after_its_linger_and_a_resume_not_at_all() {
    let node = TestNode::start().await;
    let mut watcher = node.session().await;
    watcher.ask(1, Kind::Watch(watch("room", false))).await;
    assert_eq!(watcher.reply().await.id, 1);
    assert_eq!(words(&watcher.presence().await), Vec::<String>::new());

    let linger =
        |millis: i32| Some(prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 });
    let mut clean = node.session().await;
    clean.tracked(Kind::Track(track("clean", "", 1))).await;
    assert_eq!(words(&watcher.presence().await), ["+clean!"]);
    clean.ask(2, Kind::Bye(v1::Bye { keep_session: false })).await;
    assert_eq!(words(&watcher.presence().await), ["-clean!"]);

    let mut broken = node.stream().await;
    broken.hello(v1::Hello { linger: linger(100), ..v1::Hello::default() }).await;
    broken.tracked(Kind::Track(track("broken", "", 1))).await;
    assert_eq!(words(&watcher.presence().await), ["+broken!"]);
    drop(broken);
    assert_eq!(words(&watcher.presence().await), ["-broken!"]);

    let mut resumed = node.session().await;
    let mut talk = node.stream().await;
    let welcome = talk.hello(v1::Hello::default()).await;
    talk.tracked(Kind::Track(track("stays", "", 1))).await;
    assert_eq!(words(&watcher.presence().await), ["+stays!"]);
    drop(talk);
    let mut talk = node.stream().await;
    let again = v1::Hello {
        resume_token: welcome.resume_token,
        epoch: welcome.epoch,
        ..v1::Hello::default()
    };
    assert!(talk.hello(again).await.resumed);
    talk.tracked(Kind::Update(track("stays", "", 1))).await;
    resumed.tracked(Kind::Track(track("marker", "", 1))).await;
    assert_eq!(words(&watcher.presence().await), ["+marker!"], "and nothing of the resume");

    let bad = v1::Hello { resume_token: vec![1; 15].into(), ..v1::Hello::default() };
    let mut talk = node.stream().await;
    talk.ask(1, Kind::Hello(bad)).await;
    assert_eq!(talk.end().await, (Code::InvalidArgument, "bad_resume_token".to_owned()));
    let unknown = v1::Hello { resume_token: vec![1; 16].into(), ..v1::Hello::default() };
    let mut talk = node.stream().await;
    assert!(!talk.hello(unknown).await.resumed, "an unknown token is a new session");
}

#[tokio::test]
async fn lists_come_in_pages_and_calls_watch() {
    let node = TestNode::start().await;
    let mut owner = node.session().await;
    let mut expected = BTreeMap::new();
    for n in 0..25 {
        let key = format!("k{:02}", n / 2);
        let mut request = track(&key, &n.to_string(), 1);
        request.id = n.to_string();
        let reference = owner.tracked(Kind::Track(request)).await;
        expected.insert((key, n.to_string()), reference);
    }
    let mut calls = PresenceClient::new(node.channel().await);
    let ask = |key: &str, limit, page: &str| v1::ListRequest {
        topic: "room".to_owned(),
        key: key.to_owned(),
        limit,
        page: page.to_owned(),
    };
    let mut listed = Vec::new();
    let mut page = String::new();
    loop {
        let answer = calls.list(ask("", 7, &page)).await.unwrap().into_inner();
        assert_eq!(answer.count, Some(v1::CountResponse { presences: 25, keys: 13 }));
        assert!(answer.entries.len() <= 7 && !answer.version.is_empty());
        listed.extend(answer.entries.into_iter().map(|e| ((e.key, e.id), e.r#ref)));
        page = answer.next_page;
        if page.is_empty() {
            break;
        }
    }
    assert_eq!(listed, expected.into_iter().collect::<Vec<_>>(), "each once, in order");
    let one = calls.list(ask("k03", 0, "")).await.unwrap().into_inner();
    let ids: Vec<_> = one.entries.iter().map(|entry| &*entry.id).collect();
    assert_eq!((ids, one.next_page), (vec!["6", "7"], String::new()));
    let refused = calls.list(ask("", 1, "!")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = calls.count(v1::CountRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = async {
        let mut events = calls.clone().watch(watch("", false)).await?.into_inner();
        events.message().await
    };
    assert_eq!(refused.await.unwrap_err().code(), Code::InvalidArgument);

    let mut events = calls.watch(watch("room", false)).await.unwrap().into_inner();
    let snapshot = within("a snapshot comes", events.message()).await.unwrap().unwrap();
    assert!(snapshot.snapshot);
    assert_eq!(snapshot.joins.len(), 25);
    owner.tracked(Kind::Track(track("new", "", 1))).await;
    let diff = within("a diff comes", events.message()).await.unwrap().unwrap();
    assert_eq!(words(&diff), ["+new!"]);
    drop(events);
    node.eventually("who watched has gone", || {
        node.node.handle().broker().session_counts().attached == 1
    })
    .await;
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_reset_and_then_knows_all() {
    // Each update is of nearly the mailbox's size in time.
    let limits = Limits { mailbox: 2 << 20, ..Limits::default() };
    let node = TestNode::with_limits(limits).await;
    let (mut owner, mut slow) = (node.session().await, node.session().await);
    slow.ask(1, Kind::Watch(watch("room", false))).await;
    let meta = |n: u32| format!("{n:04000}");
    for n in 1..=40_u32 {
        for part in 0..5 {
            let requests = (0..100).map(|k| {
                let key = format!("k{}", part * 100 + k);
                (0, Kind::Track(track(&key, &meta(n), n.into())))
            });
            owner.send(requests.collect()).await;
        }
        owner.tracked(Kind::Track(track("round", &n.to_string(), n.into()))).await;
    }
    assert_eq!(slow.reply().await.id, 1);
    let mut list = BTreeMap::new();
    let (mut resets, mut anew) = (0, true);
    while list.len() < 501 || list["round"] != "40" || list["k499"] != meta(40) {
        let event = slow.presence().await;
        if event.snapshot && anew {
            resets += u32::from(event.reset);
            list.clear();
        }
        anew = !(event.snapshot && event.more);
        for entry in event.joins.iter().chain(&event.updates) {
            let meta = String::from_utf8_lossy(&entry.meta).into_owned();
            list.insert(entry.key.clone(), meta);
        }
        assert!(event.leaves.is_empty());
    }
    assert!(resets > 0, "80 MB can't have waited in 2 MiB");
}
