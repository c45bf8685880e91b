//! A chat room on a cluster that may lose nodes: `cargo run --example chat -- NAME ROOM ADDRESS..`
//!
//! `cargo run --example chat -- --smoke ADDRESS ADDRESS` subscribes on one node, publishes on the other and checks what comes.
#![expect(clippy::print_stdout, reason = "a chat talks")]

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use waxwing::client::{Client, Confirm, Event, Options, Outcome, Publish};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [flag, there, here] if flag == "--smoke" => smoke(there, here).await,
        [name, room, addresses @ ..] if !addresses.is_empty() => chat(name, room, addresses).await,
        _ => bail!("usage: chat NAME ROOM ADDRESS.. | chat --smoke ADDRESS ADDRESS"),
    }
}

async fn chat(name: &str, room: &str, addresses: &[String]) -> anyhow::Result<()> {
    let (client, mut events) = Client::connect(Options::new(addresses)).await?;
    client.subscribe([room], None::<String>).await?;
    println!("in {room} on {}", client.node().unwrap_or_default());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let Some(line) = line? else { break };
                let said = [("from", name)];
                let publish = Publish::new(room, line.as_bytes()).headers(&said).confirm(Confirm::Node);
                // The client never says anything twice: whether to repeat an unknown is for people to decide.
                match client.publish(publish).await {
                    Ok(Outcome::Unknown) => println!("* perhaps not said: {line}"),
                    Ok(_) => {}
                    Err(err) => println!("* not said: {err}"),
                }
            }
            event = events.next() => match event.context("the client was closed")? {
                Event::Messages(batch) => for message in batch.messages() {
                    let from = message.headers().find(|(name, _)| *name == "from").map_or("?", |(_, from)| from);
                    println!("{from}: {}", String::from_utf8_lossy(message.payload()));
                },
                Event::Gap(gap) => {
                    let count = gap.missing.map_or("some".to_owned(), |missing| missing.to_string());
                    let origin = gap.origin.as_deref().unwrap_or("any node");
                    let lost = if gap.certain { "lost" } else { "perhaps lost" };
                    println!("* {count} messages from {origin} {lost}: {}", gap.reason);
                }
                other => println!("* {other:?}"),
            },
        }
    }
    client.close().await;
    Ok(())
}

async fn smoke(there: &str, here: &str) -> anyhow::Result<()> {
    let (subscriber, mut events) = Client::connect(Options::new([there])).await?;
    let (publisher, _) = Client::connect(Options::new([here])).await?;
    let topic = format!("smoke:{}", subscriber.session_id());
    subscriber.subscribe([&topic], None::<String>).await?;
    let publish = Publish::new(&topic, b"hello").confirm(Confirm::Cluster);
    let Outcome::Confirmed(published) = publisher.publish(publish).await? else {
        bail!("the publish was not confirmed");
    };
    ensure!(published.subscriptions == 1, "one subscription, not {}", published.subscriptions);
    let event = tokio::time::timeout(Duration::from_secs(5), events.next()).await?;
    let Some(Event::Messages(batch)) = event else { bail!("a message, not {event:?}") };
    let payloads: Vec<_> = batch.messages().map(|message| message.payload()).collect();
    ensure!(payloads == [b"hello"], "hello, not {payloads:?}");
    ensure!(subscriber.close().await && publisher.close().await, "closed in good order");
    println!("ok");
    Ok(())
}
