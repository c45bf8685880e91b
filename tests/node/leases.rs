//! Leases as their clients have them: one holder at a time, whatever becomes of sessions and nodes.

use std::collections::BTreeSet;
use std::time::Duration;

use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use waxwing::config::Config;
use waxwing::node::NodeHandle;
use waxwing::supervise::Clock;
use waxwing::types::Time;
use waxwing::wire::v1;
use waxwing::wire::v1::control_client::ControlClient;
use waxwing::wire::v1::lease_event::Kind;

use crate::cluster::{Cluster, PATIENCE, within};
use crate::rights::asking::{Session, Shown, Who, code};
use crate::rights::{Keys, start};

const TTL: Duration = Duration::from_secs(2);

fn now() -> (Clock, Time) {
    let clock = Clock::new();
    (clock, clock.now())
}

/// Calls of one client to one node.
struct Leases(ControlClient<InterceptedService<Channel, Shown>>);

/// A lease that is held without a session.
#[derive(Debug, Clone)]
struct Held {
    name: String,
    owner: Vec<u8>,
    token: u64,
}

fn ask(name: &str) -> v1::AcquireLeaseRequest {
    let ttl = Some(TTL.try_into().unwrap());
    v1::AcquireLeaseRequest { name: name.to_owned(), ttl, ..Default::default() }
}

fn of_session(name: &str, session: &Session) -> v1::AcquireLeaseRequest {
    v1::AcquireLeaseRequest { session: session.welcome.resume_token.clone(), ..ask(name) }
}

impl Leases {
    async fn of(who: &Who, node: &NodeHandle) -> Self {
        Self(ControlClient::new(who.service(node).await))
    }

    async fn at(node: &NodeHandle) -> Self {
        Self::of(&Who::default(), node).await
    }

    async fn acquire(
        &mut self,
        ask: v1::AcquireLeaseRequest,
    ) -> Result<v1::AcquireLeaseResponse, Status> {
        let answer = within("an acquire is answered", self.0.acquire_lease(ask)).await;
        answer.map(tonic::Response::into_inner)
    }

    async fn granted(&mut self, ask: v1::AcquireLeaseRequest) -> Held {
        let name = ask.name.clone();
        let answer = self.acquire(ask).await.unwrap();
        assert!(answer.granted, "{answer:?}");
        Held { name, owner: answer.owner.to_vec(), token: answer.token }
    }

    /// The token of whoever holds it.
    async fn refused(&mut self, ask: v1::AcquireLeaseRequest) -> u64 {
        let answer = self.acquire(ask).await.unwrap();
        assert!(!answer.granted, "{answer:?}");
        assert_eq!(answer.held.map(|held| held.token), Some(answer.token));
        answer.token
    }

    async fn renew(&mut self, held: &Held) -> Result<u64, Status> {
        let Held { name, owner, token } = held.clone();
        let owner = owner.into();
        let ask = v1::RenewLeaseRequest { name, owner, token, ..Default::default() };
        let answer = within("a renewal is answered", self.0.renew_lease(ask)).await;
        answer.map(|answer| answer.into_inner().token)
    }

    async fn release(&mut self, held: &Held) -> Result<(), Status> {
        let Held { name, owner, token } = held.clone();
        let owner = owner.into();
        let ask = v1::ReleaseLeaseRequest { name, owner, token, ..Default::default() };
        within("a release is answered", self.0.release_lease(ask)).await.map(drop)
    }

    async fn list(&mut self, prefix: &str, limit: u32) -> Result<(Vec<String>, u64), Status> {
        let ask = v1::ListLeasesRequest { prefix: prefix.to_owned(), limit };
        let answer = within("a list is answered", self.0.list_leases(ask)).await?.into_inner();
        Ok((answer.leases.into_iter().map(|lease| lease.name).collect(), answer.total))
    }

    async fn info(&mut self, name: &str) -> Option<v1::LeaseInfo> {
        let ask = v1::ListLeasesRequest { prefix: name.to_owned(), limit: 0 };
        let answer = within("a list is answered", self.0.list_leases(ask)).await.unwrap();
        answer.into_inner().leases.into_iter().find(|lease| lease.name == name)
    }

    /// Until the copy says so.
    async fn eventually(&mut self, name: &str, is_so: impl Fn(Option<&v1::LeaseInfo>) -> bool) {
        let (clock, began) = now();
        loop {
            let info = self.info(name).await;
            if is_so(info.as_ref()) {
                return;
            }
            assert!(clock.now().since(began) < PATIENCE, "{name} is still {info:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn watch(&mut self, ask: v1::WatchLeasesRequest) -> Result<Watch, Status> {
        let opened = within("a watch opens", self.0.watch_leases(ask)).await?;
        Ok(Watch(opened.into_inner()))
    }
}

struct Watch(Streaming<v1::LeaseEvent>);

impl Watch {
    async fn next(&mut self) -> Kind {
        let event = within("an event comes", self.0.message()).await.unwrap();
        event.expect("the stream goes on").kind.expect("a kind")
    }

    async fn held(&mut self) -> (String, u64) {
        match self.next().await {
            Kind::Held(info) => (info.name, info.token),
            other => panic!("not held: {other:?}"),
        }
    }
}

/// A node that agrees with itself.
async fn alone() -> waxwing::node::Node {
    let node = start(Config::for_test("a")).await;
    founded(&node.handle()).await;
    node
}

async fn founded(node: &NodeHandle) {
    let control = node.control().clone();
    within("the group is there", async {
        while control.report().group.is_none_or(|group| !group.quorum) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Three who all vote.
async fn three() -> Cluster {
    let cluster = Cluster::start(&["a", "b", "c"]).await;
    cluster
        .eventually("all vote", |node| {
            node.control().report().group.is_some_and(|group| group.voter && group.quorum)
        })
        .await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_has_one_holder_until_it_is_released_or_its_time_is_over() {
    let node = alone().await;
    let mut leases = Leases::at(&node.handle()).await;
    let first = leases.granted(ask("job")).await;
    assert_eq!(first.owner.len(), 16);
    assert_eq!(leases.refused(ask("job")).await, first.token);
    // Whoever asks again, by what it proves itself with, has it still.
    let again = v1::AcquireLeaseRequest { owner: first.owner.clone().into(), ..ask("job") };
    assert_eq!(leases.granted(again).await.token, first.token);
    let other = leases.granted(ask("other")).await;
    assert!(other.token > first.token && other.owner != first.owner);
    assert_eq!(leases.renew(&first).await.unwrap(), first.token);
    let wrong = |held: &Held| Held { owner: other.owner.clone(), ..held.clone() };
    for refused in [
        leases.renew(&wrong(&first)).await.map(drop),
        leases.renew(&Held { token: first.token + 1, ..first.clone() }).await.map(drop),
        leases.release(&wrong(&first)).await,
        leases.release(&Held { name: "free".to_owned(), ..first.clone() }).await,
    ] {
        let refused = refused.unwrap_err();
        assert_eq!((refused.code(), code(&refused)), (Code::FailedPrecondition, "not_held".into()));
    }
    assert_eq!(leases.list("", 0).await.unwrap(), (vec!["job".to_owned(), "other".to_owned()], 2));
    assert_eq!(leases.list("", 1).await.unwrap(), (vec!["job".to_owned()], 2));
    assert_eq!(leases.list("o", 0).await.unwrap(), (vec!["other".to_owned()], 1));

    // Somebody waits while it is held, and gets it as soon as it is free.
    let mut waiting = Leases::at(&node.handle()).await;
    let wait = Some(Duration::from_secs(20).try_into().unwrap());
    let got = async {
        let ask = v1::AcquireLeaseRequest { wait, note: "second".to_owned(), ..ask("job") };
        waiting.granted(ask).await
    };
    let freed = async {
        // Held for longer than its TTL by renewing it.
        let (clock, began) = now();
        while clock.now().since(began) < TTL * 3 / 2 {
            tokio::time::sleep(TTL / 8).await;
            leases.renew(&first).await.unwrap();
        }
        leases.release(&first).await.unwrap();
    };
    let (second, ()) = tokio::join!(got, freed);
    assert!(second.token > other.token);
    assert_eq!(leases.renew(&first).await.map_err(|error| code(&error)), Err("not_held".into()));
    let info = leases.info("job").await.unwrap();
    assert_eq!((info.token, &*info.note, &*info.state), (second.token, "second", "running"));

    // Nobody renews it.
    let (clock, renewed) = now();
    leases.renew(&second).await.unwrap();
    let third = waiting.granted(v1::AcquireLeaseRequest { wait, ..ask("job") }).await;
    assert!(
        clock.now().since(renewed) >= TTL,
        "it was given away after {:?}",
        clock.now().since(renewed)
    );
    assert!(third.token > second.token);
    // A wait that is over is an answer as well.
    let short = Some(Duration::from_millis(30).try_into().unwrap());
    let long = Some(Duration::from_secs(3_600).try_into().unwrap());
    let ask = v1::AcquireLeaseRequest { ttl: long, owner: third.owner.into(), ..ask("job") };
    assert_eq!(leases.granted(ask.clone()).await.token, third.token);
    let stranger = v1::AcquireLeaseRequest { wait: short, owner: second.owner.into(), ..ask };
    assert_eq!(leases.refused(stranger).await, third.token);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_senseless_is_refused_and_changes_nothing() {
    let node = alone().await;
    let mut leases = Leases::at(&node.handle()).await;
    let held = leases.granted(ask("job")).await;
    let ttl = |seconds: i64| Some(prost_types::Duration { seconds, nanos: 0 });
    let timed = |ttl| v1::AcquireLeaseRequest { ttl, ..ask("x") };
    let session = Session::open(&Who::default(), &node.handle(), v1::Hello::default()).await;
    let session = session.unwrap();
    for (asked, says) in [
        (timed(None), "unlawful"),
        (timed(ttl(0)), "unlawful"),
        (timed(ttl(-5)), "invalid"),
        (timed(ttl(24 * 3_600 + 1)), "unlawful"),
        (timed(ttl(i64::MAX)), "unlawful"),
        (ask(""), "unlawful"),
        (ask(&"x".repeat(257)), "unlawful"),
        (ask("a\nb"), "unlawful"),
        (v1::AcquireLeaseRequest { note: "a\u{7}".to_owned(), ..ask("x") }, "unlawful"),
        (v1::AcquireLeaseRequest { note: "x".repeat(201), ..ask("x") }, "unlawful"),
        (v1::AcquireLeaseRequest { owner: vec![1; 15].into(), ..ask("x") }, "bad_owner"),
        (
            v1::AcquireLeaseRequest { owner: vec![1; 16].into(), ..of_session("x", &session) },
            "bad_owner",
        ),
        (v1::AcquireLeaseRequest { session: vec![1; 15].into(), ..ask("x") }, "bad_resume_token"),
        (v1::AcquireLeaseRequest { wait: ttl(-1), ..ask("x") }, "invalid"),
    ] {
        let refused = leases.acquire(asked.clone()).await.unwrap_err();
        assert_eq!((refused.code(), &*code(&refused)), (Code::InvalidArgument, says), "{asked:?}");
    }
    let nobody = v1::AcquireLeaseRequest { session: vec![1; 16].into(), ..ask("x") };
    let refused = leases.acquire(nobody).await.unwrap_err();
    assert_eq!(code(&refused), "session_not_here");
    for (asked, says) in [
        (Held { token: 0, ..held.clone() }, "bad_lease_token"),
        (Held { owner: vec![], ..held.clone() }, "bad_owner"),
        (Held { owner: vec![1; 17], ..held.clone() }, "bad_owner"),
        (Held { name: String::new(), ..held.clone() }, "unlawful"),
    ] {
        for refused in [leases.renew(&asked).await.map(drop), leases.release(&asked).await] {
            let refused = refused.unwrap_err();
            assert_eq!((refused.code(), &*code(&refused)), (Code::InvalidArgument, says));
        }
    }
    let name = held.name.clone();
    let (owner, token) = (held.owner.clone().into(), held.token);
    let renew = v1::RenewLeaseRequest { name, owner, token, ttl: ttl(0), ..Default::default() };
    let refused = leases.0.renew_lease(renew).await.unwrap_err();
    assert_eq!(code(&refused), "unlawful");
    let both = v1::WatchLeasesRequest { prefix: "a".to_owned(), name: "a".to_owned() };
    assert_eq!(leases.watch(both).await.err().map(|error| code(&error)), Some("unlawful".into()));
    assert_eq!(leases.list("", 0).await.unwrap().1, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_is_told_all_then_what_changes() {
    let node = alone().await;
    let mut leases = Leases::at(&node.handle()).await;
    let day = Some(Duration::from_secs(24 * 3_600).try_into().unwrap());
    let kept = |name: &str| v1::AcquireLeaseRequest { ttl: day, ..ask(name) };
    let (a, b) = (leases.granted(kept("w:a")).await, leases.granted(kept("w:b")).await);
    leases.granted(kept("other")).await;
    let of_prefix = v1::WatchLeasesRequest { prefix: "w:".to_owned(), ..Default::default() };
    let mut watch = leases.watch(of_prefix).await.unwrap();
    let of_name = v1::WatchLeasesRequest { name: "w:c".to_owned(), ..Default::default() };
    let mut one = leases.watch(of_name).await.unwrap();
    assert_eq!(watch.held().await, (a.name.clone(), a.token));
    assert_eq!(watch.held().await, (b.name.clone(), b.token));
    assert_eq!(watch.next().await, Kind::Current(true));
    assert_eq!(one.next().await, Kind::Current(true));
    // A renewal shows nothing new, and other leases are nobody's business.
    leases.renew(&a).await.unwrap();
    leases.granted(kept("other2")).await;
    leases.release(&a).await.unwrap();
    assert_eq!(watch.next().await, Kind::Free(a.name.clone()));
    let c = leases.granted(kept("w:c")).await;
    assert_eq!(watch.held().await, (c.name.clone(), c.token));
    assert_eq!(one.held().await, (c.name.clone(), c.token));
    // However slow a reader is, the last is told.
    let mut last = c;
    for _ in 0..100 {
        leases.release(&last).await.unwrap();
        last = leases.granted(kept("w:c")).await;
    }
    while one.next().await.token() != Some(last.token) {}
    // The watcher is a session to operators, and ends as one.
    node.handle().broker().close_all("closed by a test");
    let ended = loop {
        match within("the stream ends", watch.0.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(code(&ended), "node_closes");
}

trait Told {
    fn token(&self) -> Option<u64>;
}

impl Told for Kind {
    fn token(&self) -> Option<u64> {
        match self {
            Self::Held(info) => Some(info.token),
            _ => None,
        }
    }
}

fn hello(linger: Duration) -> v1::Hello {
    v1::Hello { linger: Some(linger.try_into().unwrap()), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_keeps_its_lease_as_long_as_it_is_there() {
    let mut cluster = three().await;
    let nobody = Who::default();
    let (a, b, c) = (cluster.node("a"), cluster.node("b"), cluster.node("c"));
    let (mut at_a, mut at_b) = (Leases::at(&a).await, Leases::at(&b).await);

    // Attached, nothing of its time runs; with a bye it is free at once.
    let session = Session::open(&nobody, &a, hello(PATIENCE)).await.unwrap();
    let elsewhere = at_b.acquire(of_session("bye", &session)).await.unwrap_err();
    assert_eq!(code(&elsewhere), "session_not_here");
    let day = Some(Duration::from_secs(24 * 3_600).try_into().unwrap());
    let ask_long = v1::AcquireLeaseRequest { ttl: day, ..of_session("bye", &session) };
    let (bye, kept) =
        (at_a.granted(ask_long).await, at_a.granted(of_session("kept", &session)).await);
    assert!(bye.owner.is_empty() && kept.token > bye.token);
    let info = at_a.info("bye").await.unwrap();
    assert_eq!(
        (&*info.state, &*info.node, &info.session_id),
        ("attached", "a", &session.welcome.session_id)
    );
    tokio::time::sleep(TTL + TTL / 2).await;
    assert_eq!(at_b.refused(ask("kept")).await, kept.token);
    session.bye().await;
    at_b.eventually("bye", |lease| lease.is_none()).await;
    at_b.granted(ask("kept")).await;

    // Without linger its loss is the session's end, but its client may not know: the lease lasts for its time.
    let session = Session::open(&nobody, &a, hello(Duration::ZERO)).await.unwrap();
    at_a.granted(v1::AcquireLeaseRequest { ttl: day, ..of_session("long", &session) }).await;
    at_a.granted(of_session("short", &session)).await;
    drop(session);
    at_b.eventually("short", |lease| lease.is_some_and(|lease| lease.state == "running")).await;
    at_b.eventually("short", |lease| lease.is_none()).await;
    at_b.eventually("long", |lease| lease.is_some_and(|lease| lease.state == "running")).await;

    // Resumed elsewhere, it has the same token, and runs no more.
    let session = Session::open(&nobody, &a, hello(PATIENCE)).await.unwrap();
    let moved = at_a.granted(of_session("moved", &session)).await;
    let lost = at_a.granted(of_session("lost", &session)).await;
    let v1::Welcome { resume_token, epoch, .. } = session.welcome.clone();
    drop(session);
    at_b.eventually("moved", |lease| lease.is_some_and(|lease| lease.state == "running")).await;
    let again = v1::Hello { resume_token, epoch, ..hello(PATIENCE) };
    let session = Session::open(&nobody, &c, again).await.unwrap();
    assert!(session.welcome.resumed && session.welcome.epoch > epoch);
    at_b.eventually("moved", |lease| {
        lease.is_some_and(|lease| lease.state == "attached" && lease.node == "c")
    })
    .await;
    tokio::time::sleep(TTL + TTL / 2).await;
    assert_eq!(at_b.refused(ask("moved")).await, moved.token);
    let mut at_c = Leases::at(&c).await;
    assert_eq!(at_c.granted(of_session("moved", &session)).await.token, moved.token);
    let release = v1::ReleaseLeaseRequest {
        name: moved.name,
        session: session.welcome.resume_token.clone(),
        token: moved.token,
        ..Default::default()
    };
    // By its proof at any node.
    at_b.0.release_lease(release).await.unwrap();
    at_a.eventually("moved", |lease| lease.is_none()).await;

    // Lost, it runs, and ends a TTL later.
    let (clock, began) = now();
    drop(session);
    at_b.eventually("lost", |lease| lease.is_none()).await;
    assert!(clock.now().since(began) >= TTL, "it was free after {:?}", clock.now().since(began));
    assert!(at_b.granted(ask("lost")).await.token > lost.token);

    // With its node gone, too.
    let session = Session::open(&nobody, &c, hello(PATIENCE)).await.unwrap();
    let gone = at_c.granted(of_session("gone", &session)).await;
    drop((at_c, c));
    cluster.kill("c").await;
    let wait = Some(Duration::from_secs(25).try_into().unwrap());
    let next = at_b.granted(v1::AcquireLeaseRequest { wait, ..ask("gone") }).await;
    assert!(next.token > gone.token);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_says_which_leases_and_namespaces_are_apart() {
    let mut keys = Keys::default();
    let rights = "lease = [\"job:*\"]\ndeny_lease = [\"job:secret\"]";
    let key = keys.add("acme", rights);
    let (other, none) =
        (keys.add("shop", "lease = [\"*\"]"), keys.add("acme", "publish = [\"*\"]"));
    let (watcher, ruler) = (keys.add("acme", "observe = true"), keys.add("ops", "admin = true"));
    let node = start(keys.config("a")).await;
    let node = node.handle();
    founded(&node).await;
    let mut leases = Leases::of(&Who::of(&key), &node).await;
    let mut others = Leases::of(&Who::of(&other), &node).await;
    let held = leases.granted(ask("job:1")).await;
    let secret = others.granted(ask("job:secret")).await;
    // The same name, of another namespace.
    assert!(others.granted(ask("job:1")).await.token != held.token);
    for name in ["job:secret", "job", "cron"] {
        let refused = leases.acquire(ask(name)).await.unwrap_err();
        assert_eq!((refused.code(), &*code(&refused)), (Code::PermissionDenied, "forbidden"));
        let held = Held { name: name.to_owned(), ..secret.clone() };
        assert_eq!(code(&leases.renew(&held).await.unwrap_err()), "forbidden");
        assert_eq!(code(&leases.release(&held).await.unwrap_err()), "forbidden");
    }
    let stranger = Held { name: held.name.clone(), ..secret };
    assert_eq!(code(&leases.release(&stranger).await.unwrap_err()), "not_held");
    let job = vec!["job:1".to_owned()];
    assert_eq!(leases.list("", 0).await.unwrap(), (job.clone(), 1));
    assert_eq!(others.list("", 0).await.unwrap().1, 2);
    let mut without = Leases::of(&Who::of(&none), &node).await;
    assert_eq!(code(&without.acquire(ask("job:1")).await.unwrap_err()), "forbidden");
    assert_eq!(code(&without.list("", 0).await.unwrap_err()), "forbidden");
    let all = v1::WatchLeasesRequest::default;
    assert_eq!(without.watch(all()).await.err().map(|e| code(&e)), Some("forbidden".into()));
    let name = v1::WatchLeasesRequest { name: "job:secret".to_owned(), ..all() };
    assert_eq!(leases.watch(name).await.err().map(|e| code(&e)), Some("forbidden".into()));
    // Who may observe sees them all, and holds none.
    let mut observer = Leases::of(&Who::of(&watcher), &node).await;
    assert_eq!(observer.list("", 0).await.unwrap(), (job.clone(), 1));
    assert_eq!(code(&observer.acquire(ask("job:1")).await.unwrap_err()), "forbidden");
    let of_acme = Who { namespace: Some("acme"), ..Who::of(&ruler) };
    let mut ruler = Leases::of(&of_acme, &node).await;
    assert_eq!(ruler.list("", 0).await.unwrap(), (job, 1));
    assert_eq!(code(&ruler.acquire(ask("job:1")).await.unwrap_err()), "other_namespace");
    let spy = Who { namespace: Some("acme"), ..Who::of(&other) };
    let mut spy = Leases::of(&spy, &node).await;
    for refused in [
        spy.list("", 0).await.map(drop),
        spy.watch(all()).await.map(drop),
        spy.acquire(ask("job:1")).await.map(drop),
    ] {
        assert_eq!(code(&refused.unwrap_err()), "other_namespace");
    }

    // A session is of its key's namespace, and no other key's of it.
    let session = Session::open(&Who::of(&key), &node, v1::Hello::default()).await.unwrap();
    let by_other = others.acquire(of_session("job:2", &session)).await.unwrap_err();
    assert_eq!(code(&by_other), "session_not_here");
    let mut watch = leases.watch(all()).await.unwrap();
    assert_eq!(watch.held().await.0, "job:1");
    assert_eq!(watch.next().await, Kind::Current(true));
    let of_it = leases.granted(of_session("job:2", &session)).await;
    assert_eq!(watch.held().await, ("job:2".to_owned(), of_it.token));
    // With its key its session goes, and its lease at once; and whoever watched by it is told.
    let mut left = Keys::default();
    left.add("acme", "publish = [\"*\"]");
    node.broker().set_access(&left.access());
    others = observer;
    let mut told = BTreeSet::new();
    while let Ok(Some(event)) = within("the watch ends", watch.0.message()).await {
        told.insert(format!("{:?}", event.kind));
    }
    let control = node.control();
    within("the lease is free", async {
        while control.state().leases().any(|(key, _)| &*key.name == "job:2") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(code(&others.list("", 0).await.unwrap_err()), "unauthenticated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sessions_left_is_told_when_there_is_a_quorum_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::empty();
    let config = |name: &str, seeds| {
        let mut config = Config::for_test(name);
        config.node.data_dir = Some(dir.path().join(name));
        config.cluster.seeds = seeds;
        config
    };
    cluster.add_with(config("a", Vec::new())).await;
    let seeds = vec![cluster.node("a").bound().peer.to_string()];
    for name in ["b", "c"] {
        cluster.add_with(config(name, seeds.clone())).await;
    }
    cluster
        .eventually("all vote", |node| {
            node.control().report().group.is_some_and(|group| group.voter && group.quorum)
        })
        .await;
    let a = cluster.node("a");
    let mut leases = Leases::at(&a).await;
    let day = Some(Duration::from_secs(24 * 3_600).try_into().unwrap());
    let session = Session::open(&Who::default(), &a, hello(PATIENCE)).await.unwrap();
    leases.granted(v1::AcquireLeaseRequest { ttl: day, ..of_session("job", &session) }).await;
    cluster.kill("b").await;
    cluster.kill("c").await;
    cluster
        .eventually("no quorum", |node| {
            node.control().report().group.is_some_and(|group| !group.quorum)
        })
        .await;
    session.bye().await;
    let refused = leases.acquire(ask("job")).await.unwrap_err();
    assert_eq!((refused.code(), &*code(&refused)), (Code::Unavailable, "no_quorum"));
    assert_eq!(leases.list("", 0).await.unwrap().1, 1);
    cluster.add_with(config("b", seeds)).await;
    let wait = Some(PATIENCE.try_into().unwrap());
    within("it is free", async {
        loop {
            let again = v1::AcquireLeaseRequest { wait, ..ask("job") };
            match leases.acquire(again).await {
                Ok(answer) => break assert!(answer.granted, "{answer:?}"),
                Err(refused) => assert_eq!(code(&refused), "no_quorum"),
            }
        }
    })
    .await;
}
