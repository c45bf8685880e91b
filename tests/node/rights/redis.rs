//! What Redis clients with keys see of a node, and of each other.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use waxwing::wire::v1;

use super::asking::{Ask, Session, Who, first_line, words};
use super::{ALL, Keys, start};
use crate::cluster::within;

/// The text that a command is answered with.
async fn text(io: &mut TcpStream, command: &[&str]) -> String {
    io.write_all(&words(command)).await.unwrap();
    let length = first_line(io).await;
    let length: usize = length.strip_prefix('$').and_then(|it| it.parse().ok()).expect(&length);
    let mut text = vec![0; length + 2];
    within("the text comes", io.read_exact(&mut text)).await.unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_the_namespaces_own_unless_one_may_observe() {
    let mut keys = Keys::default();
    keys.entries.push("[[namespace]]\nname = \"*\"\nsessions = 9\n".to_owned());
    let (acme, shop) = (Who::of(&keys.add("acme", ALL)), Who::of(&keys.add("shop", ALL)));
    let observer = Who::of(&keys.add("default", "observe = true"));
    let node = start(keys.config("a")).await;
    let node = node.handle();
    let mut of_shop = Session::open(&shop, &node, v1::Hello::default()).await.unwrap();
    for topic in ["a", "b", "c"] {
        assert_eq!(of_shop.ask(Ask::Subscribe(topic)).await, Ok(()));
    }
    assert_eq!(of_shop.ask(Ask::Publish("a")).await, Ok(()));
    let mut of_acme = Session::open(&acme, &node, v1::Hello::default()).await.unwrap();
    assert_eq!(of_acme.ask(Ask::Subscribe("a")).await, Ok(()));
    let own = text(&mut acme.redis(&node).await.unwrap(), &["INFO"]).await;
    for line in ["connected_clients:1", "maxclients:9", "pubsub_channels:1"] {
        assert!(own.contains(&format!("{line}\r\n")), "{line} is not in {own}");
    }
    for word in ["pubsub_patterns", "waxwing_messages"] {
        assert!(!own.contains(word), "{own}");
    }
    let all = text(&mut observer.redis(&node).await.unwrap(), &["INFO", "stats"]).await;
    for line in ["pubsub_channels:4", "waxwing_messages_published:1"] {
        assert!(all.contains(&format!("{line}\r\n")), "{line} is not in {all}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_again_after_a_reset_is_listed_and_takes_no_second_place() {
    let mut keys = Keys::default();
    keys.entries.push("[[namespace]]\nname = \"*\"\nsessions = 1\n".to_owned());
    let key = keys.add("default", &format!("{ALL}\nobserve = true"));
    let other = keys.add("shop", "observe = true");
    let node = start(keys.config("a")).await;
    let node = node.handle();
    let mut io = Who::of(&key).redis(&node).await.unwrap();
    // In one breath: what was answered before it went is told all the same.
    let said = [
        words(&["SUBSCRIBE", "t"]),
        words(&["RESET"]),
        words(&["AUTH", "default", &key]),
        words(&["PING"]),
    ];
    io.write_all(&said.concat()).await.unwrap();
    for line in ["*3", "$9", "subscribe", "$1", "t", ":1", "+RESET", "+OK", "+PONG"] {
        assert_eq!(first_line(&mut io).await, line);
    }
    let listed = text(&mut io, &["CLIENT", "LIST"]).await;
    assert_eq!(listed.matches("id=").count(), 1, "{listed}");
    // Also as somebody else.
    io.write_all(&[words(&["RESET"]), words(&["AUTH", "default", &other])].concat()).await.unwrap();
    assert_eq!(first_line(&mut io).await, "+RESET");
    assert_eq!(first_line(&mut io).await, "+OK");
    let listed = text(&mut io, &["CLIENT", "LIST"]).await;
    assert_eq!(listed.matches("id=").count(), 1, "{listed}");
    let again = Session::open(&Who::of(&key), &node, v1::Hello::default()).await;
    assert!(again.is_ok(), "its place is free");
}
