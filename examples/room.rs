//! Who is in a room, with two tabs for each person: `cargo run --example room -- NAME ROOM ADDRESS..`
//!
//! `cargo run --example room -- --smoke ADDRESS ADDRESS` plays a browser whose tab is reloaded through another application server, on
//! another node, and checks that nobody sees it.
#![expect(clippy::print_stdout, reason = "a room is looked at")]

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use waxwing::client::{Changes, Client, Event, Events, Options, Roster, Track, Untrack};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [flag, there, here] if flag == "--smoke" => smoke(there, here).await,
        [name, room, addresses @ ..] if !addresses.is_empty() => look(name, room, addresses).await,
        _ => bail!("usage: room NAME ROOM ADDRESS.. | room --smoke ADDRESS ADDRESS"),
    }
}

async fn look(name: &str, room: &str, addresses: &[String]) -> anyhow::Result<()> {
    let (client, mut events) = Client::connect(Options::new(addresses)).await?;
    // From now on the client keeps them there: when its node dies it comes back on another one, and nobody sees that.
    for tab in ["tab1", "tab2"] {
        let meta = format!("{{\"tab\":\"{tab}\"}}");
        client.track(Track::new(room, name).id(tab).meta(meta)).await?;
    }
    client.watch(room).await?;
    let mut roster = Roster::new();
    loop {
        let event = tokio::select! {
            event = events.next() => event.context("the client was closed")?,
            _ = tokio::signal::ctrl_c() => break,
        };
        match event {
            Event::Presence(event) => show(&roster.apply(event)),
            other => println!("* {other:?}"),
        }
    }
    client.close().await;
    Ok(())
}

fn show(changes: &Changes) {
    for entry in &changes.leaves {
        let last = if entry.last_of_key { ", and with it the person" } else { "" };
        println!("- {} {}{last}", entry.key, entry.id);
    }
    for entry in &changes.joins {
        println!("+ {} {} {}", entry.key, entry.id, String::from_utf8_lossy(&entry.meta));
    }
    for (_, entry) in &changes.updates {
        println!("~ {} {} {}", entry.key, entry.id, String::from_utf8_lossy(&entry.meta));
    }
}

async fn smoke(there: &str, here: &str) -> anyhow::Result<()> {
    let (watcher, events) = Client::connect(Options::new([there])).await?;
    let (first, _) = Client::connect(Options::new([here])).await?;
    let (second, _) = Client::connect(Options::new([there])).await?;
    let room = format!("smoke:{}", watcher.session_id());
    watcher.watch(&*room).await?;
    let mut eyes = Eyes { events, roster: Roster::new() };
    let tab = |id: &str, device: &str| {
        Track::new(&*room, "alice").id(id).meta(format!("{{\"device\":\"{device}\"}}"))
    };

    first.track(tab("tab1", "phone")).await?;
    first.track(tab("tab2", "desk")).await?;
    ensure!(eyes.told(2).await? == ["+ alice tab1", "+ alice tab2"]);

    // The browser reloads: its old socket closes at the first application server, its new one opens at the second.
    first.untrack(Untrack::new(&*room, "alice").id("tab1").linger(Duration::from_secs(5))).await?;
    let reference = second.track(tab("tab1", "phone")).await?;
    let listed = eyes.roster.get("alice", "tab1").context("it is listed")?;
    ensure!(reference == listed.reference, "the same presence as before");
    // The first server may be late to notice: what it says now of a presence that isn't its own any longer changes nothing.
    first.untrack(Untrack::new(&*room, "alice").id("tab1")).await?;

    first.update(tab("tab2", "none")).await?;
    ensure!(eyes.told(1).await? == ["~ alice tab2"], "and nothing of the reload before it");
    first.close().await;
    ensure!(eyes.told(1).await? == ["- alice tab2"]);
    second.close().await;
    ensure!(eyes.told(1).await? == ["- alice tab1 last"]);
    watcher.close().await;
    println!("ok");
    Ok(())
}

struct Eyes {
    events: Events,
    roster: Roster,
}

impl Eyes {
    /// So many changes, in words.
    async fn told(&mut self, count: usize) -> anyhow::Result<Vec<String>> {
        let mut told = Vec::new();
        while told.len() < count {
            let event = tokio::time::timeout(Duration::from_secs(10), self.events.next());
            let Some(Event::Presence(event)) = event.await? else {
                bail!("presence, and nothing else")
            };
            let Changes { joins, updates, leaves } = self.roster.apply(event);
            let last = |last| if last { " last" } else { "" };
            told.extend(
                leaves.iter().map(|e| format!("- {} {}{}", e.key, e.id, last(e.last_of_key))),
            );
            told.extend(joins.iter().map(|e| format!("+ {} {}", e.key, e.id)));
            told.extend(updates.iter().map(|(_, e)| format!("~ {} {}", e.key, e.id)));
        }
        Ok(told)
    }
}
