//! `waxwing presence`: who is there, and being there.

pub(super) mod codec;
mod rows;

use std::io::Write as _;
use std::time::Duration;

use clap::Subcommand;

use super::Globals;
use super::attach::{attach, attach_with, refused};
use super::output::{harmless, harmless_line, json, line, talk, thousands};
use crate::client::{Client, Event, Events, PresenceEvent, Roster, Track};
use crate::config::value::parse_duration;
use codec::Looker;

#[derive(Debug, clap::Args)]
pub struct PresenceArgs {
    #[command(subcommand)]
    command: PresenceCommand,
}

#[derive(Debug, Subcommand)]
enum PresenceCommand {
    /// Who is there.
    #[command(
        after_help = "With -o json: {\"topic\", \"keys\": [{\"key\", \"metas\": [{\"id\", \"ref\", \"node\", \"since\", \"state\", \"meta\"}]}], \"count\"}\n\n\
                      Examples:\n  waxwing presence list room:1\n  waxwing presence list room:1 --key alice -o json"
    )]
    List {
        topic: String,
        /// Only this one.
        #[arg(long)]
        key: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// How many there are.
    Count { topic: String },
    /// Who is there now, then who comes, changes and goes.
    #[command(
        after_help = "+ came, ~ changed, - went; * was there before. Ends with Ctrl-C. It goes on where its node is lost, and tells only what differs.\n\n\
                      Example:\n  waxwing presence watch room:1 -o json"
    )]
    Watch {
        topic: String,
        /// Only how many there are.
        #[arg(long)]
        counts: bool,
        /// End after so many lines.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Be there until Ctrl-C.
    #[command(
        after_help = "Example:\n  waxwing presence track room:1 alice --id tab1 --meta '{\"device\":\"phone\"}'"
    )]
    Track {
        topic: String,
        /// Who.
        key: String,
        /// Which one of them; the session's id where nobody says.
        #[arg(long, default_value = "")]
        id: String,
        /// JSON.
        #[arg(long, value_name = "JSON", value_parser = meta, default_value = "")]
        meta: String,
        /// How long it outlives a broken connection; as the node has it where nobody says.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        linger: Option<Duration>,
        /// End after so long.
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        how_long: Option<Duration>,
    },
}

fn meta(text: &str) -> Result<String, String> {
    let said = serde_json::from_str::<serde_json::Value>(text);
    if text.is_empty() || said.is_ok() {
        return Ok(text.to_owned());
    }
    Err("is no JSON; text is JSON in double quotes: --meta '\"away\"'".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
}

pub(super) async fn run(args: PresenceArgs, globals: &Globals) -> anyhow::Result<()> {
    match args.command {
        PresenceCommand::List { topic, key, limit } => {
            let looker = Looker::connect(globals).await?;
            let key = key.unwrap_or_default();
            let listing = looker.list(&topic, &key, limit as usize).await?;
            if globals.wants_json() {
                return json(&rows::object(&topic, &listing));
            }
            if listing.entries.is_empty() {
                talk(globals, &format!("nobody is in {topic}"));
                return Ok(());
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "ages are shown by the wall clock that `since` is of"
            )]
            let now = std::time::SystemTime::now();
            line(&rows::table(&listing.entries, now))?;
            if listing.more {
                let all = thousands(listing.count.presences);
                talk(globals, &format!("there are more, {all} in all: --limit N"));
            }
            Ok(())
        }
        PresenceCommand::Count { topic } => {
            let count = Looker::connect(globals).await?.count(&topic).await?;
            if globals.wants_json() {
                let (presences, keys) = (count.presences, count.keys);
                let object =
                    serde_json::json!({ "topic": topic, "keys": keys, "presences": presences });
                return json(&object);
            }
            Ok(line(&count.presences.to_string())?)
        }
        PresenceCommand::Watch { topic, counts, count } => {
            watch(globals, topic, counts, count).await
        }
        PresenceCommand::Track { topic, key, id, meta, linger, how_long } => {
            let track = Track::new(topic, key).id(id).meta(meta);
            be_there(globals, track, linger, how_long).await
        }
    }
}

async fn close(client: &Client) {
    // The node would find out by itself; this spares it the linger.
    let _ = tokio::time::timeout(Duration::from_millis(500), client.close()).await;
}

async fn watch(
    globals: &Globals,
    topic: String,
    counts: bool,
    count: Option<u64>,
) -> anyhow::Result<()> {
    if count == Some(0) {
        return Ok(());
    }
    let (client, events) = attach(globals, "presence").await?;
    let asked = async {
        if counts { client.watch_counts(&*topic).await } else { client.watch(&*topic).await }
    };
    let Ok(asked) = tokio::time::timeout(globals.timeout, asked).await else {
        anyhow::bail!("no answer in time to the watch")
    };
    asked.map_err(refused)?;
    let mut watcher = Watcher { globals, counts, left: count, roster: Roster::new() };
    let done = tokio::select! {
        done = watcher.follow(events) => done,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    close(&client).await;
    done
}

struct Watcher<'a> {
    globals: &'a Globals,
    counts: bool,
    /// Lines until the end.
    left: Option<u64>,
    roster: Roster,
}

impl Watcher<'_> {
    async fn follow(&mut self, mut events: Events) -> anyhow::Result<()> {
        while let Some(event) = events.next().await {
            match event {
                Event::Presence(event) => {
                    if self.tell(event)? {
                        return Ok(());
                    }
                }
                event => tell_other(self.globals, event)?,
            }
        }
        anyhow::bail!("the client was closed")
    }

    /// True: there have been enough.
    fn tell(&mut self, event: PresenceEvent) -> anyhow::Result<bool> {
        let topic = event.topic.clone();
        if self.counts {
            let counted = event.count;
            return self.print(
                || rows::count(counted),
                || {
                    let (presences, keys) = (counted.presences, counted.keys);
                    format!(
                        "{} of {}",
                        super::output::counted(presences, "presence"),
                        super::output::counted(keys, "key")
                    )
                },
            );
        }
        if event.reset {
            talk(self.globals, "fell behind; here is what differs");
        }
        // What was there before, the first time.
        let was_known = self.roster.is_known();
        let changes = self.roster.apply(event);
        let (word, sign) = if was_known { ("join", '+') } else { ("present", '*') };
        let leaves = changes.leaves.iter().map(|entry| ("leave", '-', entry));
        let updates = changes.updates.iter().map(|(_, entry)| ("update", '~', entry));
        let joins = changes.joins.iter().map(|entry| (word, sign, entry));
        for (word, sign, entry) in leaves.chain(joins).chain(updates) {
            let enough = self.print(
                || rows::event(word, &topic, entry),
                || rows::sign_line(sign, &topic, entry),
            )?;
            if enough {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn print(
        &mut self,
        object: impl FnOnce() -> serde_json::Value,
        text: impl FnOnce() -> String,
    ) -> anyhow::Result<bool> {
        if self.globals.wants_json() {
            json(&object())?;
        } else {
            line(&text())?;
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Ok(self.left == Some(0))
    }
}

/// What happens to the client besides. An error: there is nothing left to be done.
fn tell_other(globals: &Globals, event: Event) -> anyhow::Result<()> {
    match event {
        Event::Disconnected { reason } => talk(globals, &format!("disconnected: {reason}")),
        Event::Reconnected { node, resumed } => {
            let how = if resumed { "resumed" } else { "a new session" };
            talk(globals, &format!("reconnected to {node} ({how})"));
        }
        Event::Moved { from, to, reason } => {
            talk(globals, &format!("moved from {from} to {to}: {reason}"));
        }
        Event::Refused { topic, error } => {
            let topic = harmless_line(&topic.unwrap_or_default());
            anyhow::bail!("{topic}: {}", harmless(&error.to_string()));
        }
        Event::Messages(_) | Event::Gap(_) | Event::Presence(_) => {}
    }
    Ok(())
}

async fn be_there(
    globals: &Globals,
    track: Track,
    linger: Option<Duration>,
    how_long: Option<Duration>,
) -> anyhow::Result<()> {
    let (client, mut events) =
        attach_with(globals, "presence", |options| options.linger = linger).await?;
    let what = harmless_line(&format!("{} in {}", track.key, track.topic));
    let Ok(tracked) = tokio::time::timeout(globals.timeout, client.track(track)).await else {
        anyhow::bail!("no answer in time to the track")
    };
    let reference = tracked.map_err(refused)?;
    if globals.wants_json() {
        json(&serde_json::json!({ "ref": reference, "session": client.session_id() }))?;
    } else {
        talk(globals, &format!("tracked {what} ({reference})"));
    }
    let _ = std::io::stdout().flush();
    let stay = async {
        match how_long {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    let follow = async {
        while let Some(event) = events.next().await {
            tell_other(globals, event)?;
        }
        anyhow::bail!("the client was closed")
    };
    let done: anyhow::Result<()> = tokio::select! {
        done = follow => done,
        () = stay => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    close(&client).await;
    done
}
