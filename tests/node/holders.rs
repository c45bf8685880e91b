//! The Rust client's leases against a node.

use std::time::Duration;

use waxwing::client::{
    Acquire, Acquired, HeldLease, LeaseChange, LeaseError, LeaseLost, LeaseWatched, Leases, Options,
};

use crate::cluster::{Cluster, within};

const TTL: Duration = Duration::from_secs(2);
const WAIT: Duration = Duration::from_secs(20);

async fn held(leases: &Leases, ask: &Acquire) -> HeldLease {
    match within("an answer", leases.hold(ask)).await.expect("a lease") {
        Acquired::Held(held) => held,
        Acquired::Busy(entry) => panic!("held by {entry:?}"),
    }
}

#[tokio::test]
async fn one_holds_it_another_waits_and_whoever_cannot_renew_it_knows() {
    let mut cluster = Cluster::start(&["a"]).await;
    let leases = Leases::new(&Options::new([cluster.node("a").bound().grpc.to_string()])).unwrap();
    // Until there is a group.
    let ask = Acquire::new("job", TTL).note("first").wait(WAIT);
    let first = held(&leases, &ask).await;
    let mut watch =
        within("a watch", leases.watch(LeaseWatched::Name("job".to_owned()))).await.unwrap();
    let LeaseChange::Held(entry) = within("a lease", watch.next()).await.unwrap() else {
        panic!("not held")
    };
    assert_eq!((&*entry.note, entry.token, entry.ttl), ("first", first.token(), TTL));
    assert_eq!(within("all", watch.next()).await, Ok(LeaseChange::Current));

    let second = Acquire::new("job", TTL);
    match within("an answer", leases.hold(&second)).await.unwrap() {
        Acquired::Busy(entry) => assert_eq!(entry.token, first.token()),
        Acquired::Held(_) => panic!("two at a time"),
    }
    // It is renewed: this is longer than it would last.
    let waiting = Acquire::new("job", TTL).wait(TTL + TTL / 2);
    assert!(matches!(within("an answer", leases.hold(&waiting)).await, Ok(Acquired::Busy(_))));
    assert!(first.is_held() && first.held_for() < TTL);

    let waiting = Acquire::new("job", TTL).wait(WAIT);
    let (released, second) = tokio::join!(first.release(), held(&leases, &waiting));
    released.unwrap();
    let listed = within("a list", leases.list("jo", 10)).await.unwrap();
    assert_eq!((listed.total, listed.leases[0].token), (1, second.token()));
    assert!(entry.token < second.token());

    // Dropped, it runs out.
    drop(second);
    let third = held(&leases, &waiting).await;
    let granted = leases.acquire(&Acquire::new("other", TTL)).await.unwrap().unwrap();
    assert!(third.token() < granted.token);
    leases.renew("other", &granted, Some(TTL * 2)).await.unwrap();
    leases.release("other", &granted).await.unwrap();
    assert_eq!(leases.renew("other", &granted, None).await, Err(LeaseError::NotHeld));

    cluster.kill("a").await;
    let lost = within("it is lost", third.lost()).await;
    assert!(matches!(lost, LeaseLost::Unrenewed(_)), "{lost:?}");
    assert_eq!(third.held_for(), Duration::ZERO);
    let nobody = leases.acquire(&Acquire::new("job", TTL)).await;
    assert!(matches!(nobody, Err(LeaseError::NotNow(_))), "{nobody:?}");
}

#[tokio::test]
async fn a_sessions_lease_is_free_when_the_client_closes() {
    let cluster = Cluster::start(&["a"]).await;
    let (client, _events) = cluster.client("a").await;
    let ask = Acquire::new("job", Duration::from_secs(600)).wait(WAIT);
    let first = held(&client.leases(), &ask).await;
    assert_eq!(first.owner(), None);
    let (other, _events) = cluster.client("a").await;
    match within("an answer", other.leases().hold(&Acquire::new("job", TTL))).await.unwrap() {
        Acquired::Busy(entry) => assert_eq!(entry.session_id, Some(client.session_id())),
        Acquired::Held(_) => panic!("two at a time"),
    }
    assert!(within("it closes", client.close()).await);
    let second = held(&other.leases(), &ask).await;
    assert!(first.token() < second.token());
}
