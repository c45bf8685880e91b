//! Links between nodes on loopback.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::proxy::Proxy;
use super::recorder::Event;
use super::world::{Node, Plan, connected, eventually, mesh, name, start};
use crate::config::Secret;
use crate::link::{Direction, LinkState, Roster};
use crate::membership::{LinkEvidence, Member, MemberState};
use crate::types::{ClusterName, Incarnation};

const IN: Direction = Direction::In;
const OUT: Direction = Direction::Out;

fn numbered(range: std::ops::Range<u32>) -> impl Iterator<Item = Bytes> {
    range.map(|n| Bytes::copy_from_slice(&n.to_be_bytes()))
}

fn check_numbered(items: &[Bytes], range: std::ops::Range<u32>) {
    let same = items.iter().eq(numbered(range.clone()).collect::<Vec<_>>().iter());
    assert!(same, "{} items instead of {range:?}", items.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_have_a_link_in_each_direction() {
    let nodes = mesh(["a", "b", "c"]).await;
    for node in &nodes {
        let report = node.links.report();
        assert_eq!(report.len(), 4);
        assert!(report.iter().all(|row| row.state == LinkState::Up && row.problem.is_none()));
        for other in nodes.iter().filter(|other| other.name() != node.name()) {
            let other = other.name();
            assert!(node.roster.saw(other.as_str(), LinkEvidence::Up));
            assert_eq!(node.told.count(other.as_str(), IN, &Event::Up { had_epoch: false }), 1);
            assert_eq!(node.told.count(other.as_str(), OUT, &Event::Up { had_epoch: false }), 1);
        }
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_items_arrive_in_order_and_are_acknowledged() {
    let [a, b] = mesh(["a", "b"]).await;
    let source = a.told.source("b", OUT).unwrap();
    source.content(numbered(0..100_000));
    let big = Bytes::from(vec![9; 1 << 20]);
    source.content([big.clone()]);
    let items = eventually("all items", || {
        let items = b.told.items("a");
        (items.len() > 100_000).then_some(items)
    })
    .await;
    check_numbered(&items[..100_000], 0..100_000);
    assert_eq!(items[100_000], big);
    eventually("all acknowledged", || (a.row("b", OUT).unacked_bytes == 0).then_some(())).await;
    assert_eq!(a.row("b", OUT).lag, None);
    assert_eq!(b.told.count("a", IN, &Event::Jump), 0);
    assert!(a.told.items("b").is_empty());
    for node in [a, b] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_goes_before_content_and_only_content_waits() {
    let control: Vec<_> = (0..100).map(|n| Bytes::from(format!("control {n}"))).collect();
    let plans = ["a", "b"].map(|name| Plan {
        control: control.clone(),
        content: numbered(0..1_000).collect(),
        ..Plan::new(name)
    });
    let nodes = start(plans).await;
    connected(&nodes).await;
    let [a, b] = &nodes;
    for (node, peer) in [(a, "b"), (b, "a")] {
        eventually("all content", || (node.told.items(peer).len() == 1_000).then_some(())).await;
        for direction in [IN, OUT] {
            let expected: Vec<_> = control.iter().cloned().map(Event::Control).collect();
            let said = eventually("all control", || {
                let said: Vec<_> = node
                    .told
                    .of(peer, direction)
                    .into_iter()
                    .map(|t| t.event)
                    .filter(|event| matches!(event, Event::Control(_) | Event::Content(_)))
                    .collect();
                (said.len() >= expected.len()).then_some(said)
            })
            .await;
            assert_eq!(said[..expected.len()], expected, "{direction:?}");
        }
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_carry_control_bytes_both_ways_and_measure() {
    let [a, b] = mesh(["a", "b"]).await;
    for (node, peer) in [(&a, "b"), (&b, "a")] {
        let digest = Event::Ping(format!("digest of {peer}").into());
        for direction in [IN, OUT] {
            eventually("pings, again and again", || {
                (node.told.count(peer, direction, &digest) >= 3).then_some(())
            })
            .await;
            let rtt = eventually("a round trip", || node.row(peer, direction).rtt).await;
            assert!(rtt < Duration::from_secs(2), "{rtt:?}");
        }
    }
    for node in [a, b] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_goes_both_ways_between_control_and_content_and_nonsense_ends_the_link() {
    let plans = ["a", "b"].map(|name| Plan {
        control: vec!["control".into()],
        content: vec!["content".into()],
        ..Plan::new(name)
    });
    let nodes = start(plans).await;
    connected(&nodes).await;
    let [a, b] = &nodes;
    for (node, peer) in [(a, "b"), (b, "a")] {
        for direction in [IN, OUT] {
            let expected = [
                Event::Control("control".into()),
                Event::State(format!("state of {peer}").into()),
                Event::Content(vec!["content".into()]),
            ];
            let expected = if direction == IN { &expected[..] } else { &expected[..2] };
            let said = eventually("all that was sent", || {
                let mut said: Vec<_> =
                    node.told.of(peer, direction).into_iter().map(|told| told.event).collect();
                said.retain(|event| {
                    !matches!(event, Event::Up { .. } | Event::Ping(_) | Event::StatePing(_))
                });
                (said.len() >= expected.len()).then_some(said)
            })
            .await;
            assert_eq!(said, expected, "{direction:?}");
            let ping = Event::StatePing(format!("digest of {peer}").into());
            eventually("a ping", || (node.told.count(peer, direction, &ping) > 0).then_some(()))
                .await;
        }
    }
    a.told.source("b", IN).unwrap().state("late");
    let late = Event::State("late".into());
    eventually("state by itself", || (b.told.count("a", OUT, &late) > 0).then_some(())).await;
    a.told.source("b", OUT).unwrap().state("nonsense");
    eventually("the end of the link", || (b.told.count("a", IN, &Event::Down) > 0).then_some(()))
        .await;
    for node in nodes {
        node.stop().await;
    }
}

/// Starts a and b, with a proxy on the way from a to b. `silence`: what b bears.
async fn proxied(silence: Duration) -> (Node, Node, Proxy) {
    let a = Plan::new("a").start().await;
    let mut plan = Plan::new("b");
    plan.config.limits.silence = silence;
    let b = plan.start().await;
    let proxy = Proxy::before(&b, &a.supervisor).await;
    a.roster.dial_at("b", proxy.address);
    a.meet(&b);
    b.meet(&a);
    let nodes = [a, b];
    connected(&nodes).await;
    let [a, b] = nodes;
    (a, b, proxy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_link_comes_back_and_goes_on_where_the_peer_is() {
    const ITEMS: u32 = 20_000;
    let (a, b, proxy) = proxied(Duration::from_secs(2)).await;
    let again = Event::Up { had_epoch: true };
    for cuts in 1..=5 {
        let first = (u32::try_from(cuts).unwrap() - 1) * ITEMS;
        a.told.source("b", OUT).unwrap().content(numbered(first..first + ITEMS / 2));
        eventually("some has arrived", || (b.told.items("a").len() > first as usize).then_some(()))
            .await;
        // The rest is on its way, or waits, when the link is cut.
        proxy.hold(true);
        a.told.source("b", OUT).unwrap().content(numbered(first + ITEMS / 2..first + ITEMS));
        eventually("it is on its way", || (a.row("b", OUT).unacked_bytes > 0).then_some(())).await;
        proxy.cut();
        proxy.hold(false);
        eventually("the link is back", || {
            (a.told.count("b", OUT, &again) >= cuts && a.connected(&b) && b.connected(&a))
                .then_some(())
        })
        .await;
        assert!(b.told.count("a", IN, &again) >= cuts);
    }
    assert!(a.roster.saw("b", LinkEvidence::Ended));
    assert!(a.row("b", OUT).reconnects >= 5);
    assert_eq!(a.row("b", IN).reconnects, 0, "the other direction was not touched");
    eventually("all content", || (b.told.items("a").len() >= 5 * ITEMS as usize).then_some(()))
        .await;
    check_numbered(&b.told.items("a"), 0..5 * ITEMS);
    assert_eq!(b.told.count("a", IN, &Event::Jump), 0);
    assert!(a.row("b", OUT).retransmitted > 0, "no cut hit what was on its way");
    let source = a.told.source("b", OUT).unwrap();
    eventually("all is settled", || (source.unsettled.load(Ordering::Relaxed) == 0).then_some(()))
        .await;
    for node in [a, b] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_declared_lost_does_not_come_and_what_is_published_later_does() {
    let (a, b, proxy) = proxied(Duration::from_secs(2)).await;
    a.told.source("b", OUT).unwrap().content(numbered(0..10));
    eventually("content", || (b.told.items("a").len() == 10).then_some(())).await;
    proxy.hold(true);
    a.told.source("b", OUT).unwrap().content(numbered(10..20));
    eventually("it is on its way", || (a.row("b", OUT).unacked_bytes > 0).then_some(())).await;
    b.told.all_lost.store(true, Ordering::Relaxed);
    proxy.cut();
    eventually("a has noticed", || (a.told.count("b", OUT, &Event::Down) == 1).then_some(())).await;
    proxy.hold(false);
    let again = Event::Up { had_epoch: true };
    eventually("a new link", || (a.told.count("b", OUT, &again) == 1).then_some(())).await;
    for cuts in 2..4 {
        // Said again by every hello that follows, it is obeyed once.
        let first = 10 * cuts;
        a.told.source("b", OUT).unwrap().content(numbered(first..first + 10));
        proxy.cut();
        let ups = usize::try_from(cuts).unwrap();
        eventually("a new link", || (a.told.count("b", OUT, &again) == ups).then_some(())).await;
    }
    eventually("the rest", || (b.told.items("a").len() >= 30).then_some(())).await;
    let expected: Vec<_> = numbered(0..10).chain(numbered(20..40)).collect();
    assert_eq!(b.told.items("a"), expected);
    assert_eq!(b.told.count("a", IN, &Event::Jump), 0);
    for node in [a, b] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_hello_ends_the_first_reader_before_it_is_up() {
    // The way to b is held: a gives up and dials anew by another way, while b still believes in the old link.
    let (a, b, proxy) = proxied(Duration::from_secs(600)).await;
    a.roster.dial_at("b", b.address);
    proxy.hold(true);
    eventually("a is up again by another way", || {
        (b.told.count("a", IN, &Event::Up { had_epoch: true }) == 1).then_some(())
    })
    .await;
    b.told.check_lives();
    proxy.hold(false);
    a.told.source("b", OUT).unwrap().content(numbered(0..10));
    eventually("content by the new way", || (b.told.items("a").len() == 10).then_some(())).await;
    for node in [a, b] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_link_holds_nobody_else_and_what_is_ahead_is_bounded() {
    let mut plan = Plan::new("a");
    plan.config.limits.silence = Duration::from_secs(60);
    let a = plan.start().await;
    let mut plan = Plan::new("b");
    plan.config.limits.silence = Duration::from_secs(60);
    let b = plan.start().await;
    let c = Plan::new("c").start().await;
    let proxy = Proxy::before(&b, &a.supervisor).await;
    a.roster.dial_at("b", proxy.address);
    for (one, other) in [(&a, &b), (&b, &a), (&a, &c), (&c, &a)] {
        one.meet(other);
    }
    eventually("a is connected to both", || (a.connected(&b) && a.connected(&c)).then_some(()))
        .await;
    proxy.hold(true);
    let item = Bytes::from(vec![1; 8 << 10]);
    let total = 32 << 20;
    let to_b = a.told.source("b", OUT).unwrap();
    to_b.content(vec![item.clone(); total / item.len()]);
    a.told.source("c", OUT).unwrap().content(vec![item.clone(); total / item.len()]);
    eventually("c has all", || (c.told.items("a").len() == total / item.len()).then_some(())).await;
    // Windows, socket buffers and what is ahead of HTTP/2; never all of it.
    let unacked = a.row("b", OUT).unacked_bytes;
    assert!(unacked > 0 && unacked < 24 << 20, "{unacked}");
    let acknowledged = total - to_b.waiting_bytes() - usize::try_from(unacked).unwrap();
    assert!(acknowledged <= b.told.items("a").len() * item.len());
    assert!(a.row("b", OUT).lag.is_some());
    proxy.hold(false);
    eventually("b has all", || (b.told.items("a").len() == total / item.len()).then_some(())).await;
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends_a_link() {
    let (a, b, proxy) = proxied(Duration::from_secs(2)).await;
    proxy.hold(true);
    eventually("both ends have noticed", || {
        let silent = |node: &Node, peer, direction| {
            let row = node.row(peer, direction);
            row.state != LinkState::Up && row.problem.is_some()
        };
        (silent(&a, "b", OUT) && silent(&b, "a", IN)).then_some(())
    })
    .await;
    assert_eq!(a.row("b", IN).state, LinkState::Up);
    proxy.hold(false);
    connected(std::slice::from_ref(&a)).await;
    eventually("it is back", || (a.connected(&b) && b.connected(&a)).then_some(())).await;
    for node in [a, b] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_handler_still_gets_everything() {
    let [a, b] = mesh(["a", "b"]).await;
    b.told.be_slow(true);
    let item = Bytes::from(vec![1; 1 << 10]);
    a.told.source("b", OUT).unwrap().content(vec![item; 4 << 10]);
    eventually("all content", || (b.told.items("a").len() == 4 << 10).then_some(())).await;
    for node in [a, b] {
        node.stop().await;
    }
}

/// Starts two nodes of different plans, and returns what the ends of a's link to b say, a's first.
async fn refused(change: impl FnOnce(&mut Plan)) -> [String; 2] {
    let mut plan = Plan::new("a");
    change(&mut plan);
    let [a, b] = start([plan, Plan::new("b")]).await;
    let problems = [a.refused("b", OUT).await, b.refused("a", IN).await];
    assert!(!a.connected(&b) && !b.connected(&a));
    assert!(a.told.told.lock().is_empty() && b.told.told.lock().is_empty());
    for node in [a, b] {
        node.stop().await;
    }
    problems
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_shown_at_both_ends() {
    let problems = refused(|a| a.config.secrets = vec![Secret::new(b"another".to_vec())]).await;
    assert!(problems.iter().all(|problem| problem.contains("wrong_secret")), "{problems:?}");
    let problems = refused(|a| a.config.cluster = ClusterName::parse("another").unwrap()).await;
    assert!(problems.iter().all(|problem| problem.contains("wrong_cluster")), "{problems:?}");
    let problems = refused(|a| {
        a.config.settings.insert("presence.linger".to_owned(), "6s".to_owned());
    })
    .await;
    assert!(problems.iter().all(|problem| problem.contains("presence.linger")), "{problems:?}");
    let problems = refused(|a| a.config.versions = 2..=2).await;
    assert!(problems.iter().all(|problem| problem.contains("version")), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_can_be_replaced_while_running() {
    let mut plan = Plan::new("a");
    plan.config.secrets = vec![Secret::new(b"new".to_vec())];
    let [a, b] = start([plan, Plan::new("b")]).await;
    a.refused("b", OUT).await;
    b.links.set_secrets(&[Secret::new(b"new".to_vec()), Secret::new(b"the secret".to_vec())]);
    let nodes = [a, b];
    connected(&nodes).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_incarnation_while_running_dials_all_links_anew() {
    let nodes = mesh(["a", "b"]).await;
    let [a, b] = &nodes;
    let me = Member { incarnation: Incarnation(5), ..a.roster.me() };
    a.roster.set(me);
    eventually("b is told that another incarnation answers", || {
        b.roster.saw("a", LinkEvidence::OtherIncarnation(Incarnation(5))).then_some(())
    })
    .await;
    assert!(!b.connected(a));
    b.meet(a);
    connected(&nodes).await;
    let first = Event::Up { had_epoch: false };
    assert_eq!(b.told.count("a", IN, &first), 2, "a new incarnation has no earlier epoch");
    assert!(b.told.of("a", IN).last().unwrap().epoch.sender == Incarnation(5));
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_is_refused_and_a_restarted_one_is_found() {
    let [a, b] = mesh(["a", "b"]).await;
    b.stop().await;
    eventually("its end and its refusal are evidence", || {
        (a.roster.saw("b", LinkEvidence::Ended) && a.roster.saw("b", LinkEvidence::Refused))
            .then_some(())
    })
    .await;
    a.roster.set(Member { state: MemberState::Down, ..a.roster.member("b") });
    assert_eq!(a.row("b", OUT).state, LinkState::Down);
    let b = Plan { incarnation: 2, ..Plan::new("b") }.start().await;
    b.meet(&a);
    a.meet(&b);
    let nodes = [a, b];
    connected(&nodes).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_member_has_no_link_and_no_row() {
    let [a, b] = mesh(["a", "b"]).await;
    a.roster.forget("b");
    eventually("both directions end", || {
        let down = |direction| a.told.count("b", direction, &Event::Down) == 1;
        (down(IN) && down(OUT)).then_some(())
    })
    .await;
    assert!(a.links.report().is_empty());
    let problem = b.refused("a", OUT).await;
    assert!(problem.contains("not_a_member"), "{problem}");
    assert!(!a.supervisor.report().iter().any(|task| task.kind == "link-dialer"));
    for node in [a, b] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaving_member_keeps_its_link_but_is_not_dialed() {
    let (a, b, proxy) = proxied(Duration::from_secs(2)).await;
    a.roster.set(Member { state: MemberState::Leaving, ..a.roster.member("b") });
    a.told.source("b", OUT).unwrap().content(numbered(0..10));
    eventually("content arrives", || (b.told.items("a").len() == 10).then_some(())).await;
    proxy.cut();
    eventually("the link ends", || (a.row("b", OUT).state == LinkState::Down).then_some(())).await;
    a.roster.set(Member { state: MemberState::Ready, ..a.roster.member("b") });
    eventually("it is dialed again", || a.connected(&b).then_some(())).await;
    assert_eq!(a.told.count("b", OUT, &Event::Up { had_epoch: true }), 1);
    for node in [a, b] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_the_handler_calls_nonsense_or_dies_of_ends_its_link_only() {
    let [a, b, c] = mesh(["a", "b", "c"]).await;
    for (direction, other, ups) in [(OUT, IN, 1), (IN, OUT, 1), (OUT, IN, 2), (IN, OUT, 2)] {
        let payload = if ups == 1 { "nonsense" } else { "panic" };
        a.told.source("b", direction).unwrap().control(payload);
        let again = Event::Up { had_epoch: true };
        eventually("a new epoch", || {
            let both = a.told.count("b", direction, &again) == ups
                && b.told.count("a", other, &again) == ups;
            both.then_some(())
        })
        .await;
    }
    assert_eq!(b.told.count("a", OUT, &Event::Down), 2);
    assert_eq!(b.told.count("a", IN, &Event::Down), 2);
    assert_eq!(c.told.of("a", IN).iter().filter(|told| told.event == Event::Down).count(), 0);
    assert_eq!(a.row("c", OUT).reconnects, 0);
    assert_eq!(a.links.report().iter().filter(|row| row.peer == name("b")).count(), 2);
    for node in [a, b, c] {
        node.stop().await;
    }
}
