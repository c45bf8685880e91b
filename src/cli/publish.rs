//! `waxwing publish`: one message, one a line of stdin, or the same one again and again.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Stdin};

use super::attach::{attach, pair, refused};
use super::output::{counted, harmless_line, json, line, talk, thousands};
use super::{Globals, Usage};
use crate::client::{Client, Confirm, Confirmation, Event, Events, Outcome, Publish, Published};
use crate::supervise::Clock;
use crate::types::Time;

/// More than any node takes as one message.
const PAYLOAD_MAX: u64 = 4 << 20;
/// Confirmations awaited at once when nothing asks for a pause in between.
const PIPELINE: usize = 256;

#[derive(Debug, clap::Args)]
#[command(
    visible_alias = "pub",
    after_help = "Examples:\n  waxwing publish room:1 hi\n  waxwing publish room:1 hi --confirm cluster --trace\n  \
                  tail -f app.log | waxwing publish logs --lines\n  waxwing publish tick now --count 60 --interval 1s"
)]
pub struct PublishArgs {
    /// Where to.
    topic: String,
    /// What; `-` takes all of stdin.
    text: Option<String>,
    /// Each line of stdin is a message.
    #[arg(long, conflicts_with = "text")]
    lines: bool,
    /// What kind of message it is, for those who get it.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    event: String,
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = pair, help = "Goes with the message; may be repeated")]
    headers: Vec<(String, String)>,
    /// What to wait for: nothing, the node asked, or every member that has subscribers. [default: node; cluster with --trace]
    #[arg(long, value_enum)]
    confirm: Option<ConfirmArg>,
    /// Say what happened at each member.
    #[arg(long)]
    trace: bool,
    /// So many times; with --lines, at most so many lines.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Pause between two messages.
    #[arg(long, value_name = "TIME", value_parser = super::globals::duration, default_value = "0s")]
    interval: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ConfirmArg {
    None,
    Node,
    Cluster,
}

pub(super) async fn run(args: PublishArgs, globals: &Globals) -> anyhow::Result<()> {
    let source = Source::of(&args).await?;
    let confirm = args.confirm()?;
    let (client, events) = attach(globals, "publish").await?;
    let publisher = Publisher {
        args: &args,
        globals,
        confirm,
        client,
        events,
        clock: Clock::new(),
        awaited: VecDeque::new(),
        sent: 0,
        unknown: 0,
    };
    publisher.run(source).await
}

impl PublishArgs {
    fn confirm(&self) -> anyhow::Result<Confirm> {
        match self.confirm {
            Some(ConfirmArg::None) if self.trace => {
                Err(Usage("--trace needs a confirmation: --confirm node or cluster".to_owned())
                    .into())
            }
            Some(ConfirmArg::None) => Ok(Confirm::None),
            Some(ConfirmArg::Node) => Ok(Confirm::Node),
            Some(ConfirmArg::Cluster) => Ok(Confirm::Cluster),
            None => Ok(if self.trace { Confirm::Cluster } else { Confirm::Node }),
        }
    }
}

/// Where payloads come from.
enum Source {
    Same { payload: Vec<u8>, left: u64 },
    Lines { stdin: BufReader<Stdin>, left: u64 },
}

impl Source {
    async fn of(args: &PublishArgs) -> anyhow::Result<Self> {
        let stdin = tokio::io::stdin();
        if args.lines {
            let left = args.count.unwrap_or(u64::MAX);
            return Ok(Self::Lines { stdin: BufReader::new(stdin), left });
        }
        let payload = match args.text.as_deref() {
            Some("-") => {
                let mut payload = Vec::new();
                stdin
                    .take(PAYLOAD_MAX + 1)
                    .read_to_end(&mut payload)
                    .await
                    .context("read stdin")?;
                payload
            }
            Some(text) => text.as_bytes().to_vec(),
            None => {
                return Err(
                    Usage("what to publish? TEXT, - for stdin, or --lines".to_owned()).into()
                );
            }
        };
        check_len(&payload)?;
        Ok(Self::Same { payload, left: args.count.unwrap_or(1) })
    }

    async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        match self {
            Self::Same { left: 0, .. } | Self::Lines { left: 0, .. } => Ok(None),
            Self::Same { payload, left } => {
                *left -= 1;
                Ok(Some(payload.clone()))
            }
            Self::Lines { stdin, left } => {
                let mut payload = Vec::new();
                let mut limited = stdin.take(PAYLOAD_MAX + 2);
                if limited.read_until(b'\n', &mut payload).await.context("read stdin")? == 0 {
                    return Ok(None);
                }
                if payload.last() == Some(&b'\n') {
                    payload.pop();
                    payload.pop_if(|last| *last == b'\r');
                }
                check_len(&payload)?;
                *left -= 1;
                Ok(Some(payload))
            }
        }
    }
}

fn check_len(payload: &[u8]) -> anyhow::Result<()> {
    anyhow::ensure!(
        payload.len() as u64 <= PAYLOAD_MAX,
        "a message of more than {} bytes is more than any node takes",
        thousands(PAYLOAD_MAX)
    );
    Ok(())
}

struct Publisher<'a> {
    args: &'a PublishArgs,
    globals: &'a Globals,
    confirm: Confirm,
    client: Client,
    events: Events,
    clock: Clock,
    /// In the order of publishing, with the time of it.
    awaited: VecDeque<(Confirmation, Time)>,
    sent: u64,
    unknown: u64,
}

impl Publisher<'_> {
    async fn run(mut self, source: Source) -> anyhow::Result<()> {
        let stopped = tokio::select! {
            done = self.publish_all(source) => { done?; false }
            _ = tokio::signal::ctrl_c() => true,
        };
        if stopped {
            talk(self.globals, &format!("stopped after {} messages", thousands(self.sent)));
        }
        let clean = tokio::time::timeout(self.globals.timeout, self.client.close()).await;
        let mut refusal = None;
        while let Some(event) = self.events.try_next() {
            match event {
                Event::Refused { error, .. } => refusal = Some(error),
                Event::Disconnected { reason } => {
                    talk(self.globals, &format!("disconnected: {reason}"));
                }
                _ => {}
            }
        }
        if let Some(error) = refusal {
            return Err(refused(error.into()));
        }
        if self.unknown > 0 {
            anyhow::bail!(
                "{} of {} messages were published or not: the connection broke before the answer",
                thousands(self.unknown),
                thousands(self.sent)
            );
        }
        if self.confirm == Confirm::None {
            anyhow::ensure!(clean == Ok(true), "the connection broke; not all may have been sent");
            let count = thousands(self.sent);
            talk(self.globals, &format!("sent {count}, not confirmed"));
        }
        anyhow::ensure!(!stopped, "interrupted");
        Ok(())
    }

    async fn publish_all(&mut self, mut source: Source) -> anyhow::Result<()> {
        let pipeline = if self.args.interval.is_zero() { PIPELINE } else { 1 };
        while let Some(payload) = source.next().await? {
            if self.sent > 0 && !self.args.interval.is_zero() {
                tokio::time::sleep(self.args.interval).await;
            }
            self.publish(&payload).await?;
            while self.awaited.len() >= pipeline || self.is_ready() {
                self.tell_next().await?;
            }
        }
        while !self.awaited.is_empty() {
            self.tell_next().await?;
        }
        Ok(())
    }

    async fn publish(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        let headers: Vec<(&str, &str)> =
            self.args.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let publish = Publish {
            topic: &self.args.topic,
            payload,
            event: &self.args.event,
            headers: &headers,
            confirm: self.confirm,
            trace: self.args.trace,
            ..Publish::default()
        };
        let started = self.clock.now();
        let sent = tokio::time::timeout(self.globals.timeout, self.client.send(publish)).await;
        let confirmation = sent.context("no node took the message in time")?.map_err(refused)?;
        self.sent += 1;
        if self.confirm != Confirm::None {
            self.awaited.push_back((confirmation, started));
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.awaited.front().is_some_and(|(confirmation, _)| confirmation.is_there())
    }

    async fn tell_next(&mut self) -> anyhow::Result<()> {
        let Some((confirmation, started)) = self.awaited.pop_front() else { return Ok(()) };
        let outcome = tokio::time::timeout(self.globals.timeout, confirmation).await;
        let outcome = outcome.context("no confirmation in time")?.map_err(refused)?;
        let took = self.clock.now() - started;
        match outcome {
            Outcome::Confirmed(published) => self.tell(&published, took),
            Outcome::Unknown => {
                self.unknown += 1;
                Ok(())
            }
            Outcome::Sent => Ok(()),
        }
    }

    fn tell(&self, published: &Published, took: Duration) -> anyhow::Result<()> {
        if self.globals.wants_json() {
            let trace = published.trace.iter().map(|member| {
                json!({"node": member.node, "subscriptions": member.subscriptions, "interested": member.interested,
                       "ms": member.took.map(ms)})
            });
            let mut object = json!({"id": published.id, "topic": self.args.topic, "members": published.members,
                "subscriptions": published.subscriptions, "unknown": published.unknown, "ms": ms(took)});
            if self.args.trace {
                object["trace"] = trace.collect();
            }
            return json(&object);
        }
        Ok(line(&harmless_line(&sentence(published, self.confirm, took)))?)
    }
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// `published 01J9...  2 of 3 members, 14 subscriptions, 0.8 ms    a: 2 subs 0.1 ms, b: no interest`
fn sentence(published: &Published, confirm: Confirm, took: Duration) -> String {
    let mut parts = Vec::new();
    let unknown = u64::from(published.unknown);
    if confirm == Confirm::Cluster {
        parts.push(match published.trace.len() {
            0 => counted(published.members.into(), "member"),
            all => format!("{} of {}", published.members, counted(all as u64, "member")),
        });
    }
    parts.push(counted(published.subscriptions, "subscription"));
    if confirm == Confirm::Cluster && unknown > 0 {
        parts.push(format!("{} did not answer", thousands(unknown)));
    }
    let mut parts = parts.join(", ");
    // Nobody waits for these; their part of the subscriptions is what they last announced.
    if confirm != Confirm::Cluster && unknown > 0 {
        parts += &format!("; on its way to {}", counted(unknown, "other member"));
    }
    let mut text = format!("published {}  {parts}, {:.1} ms", published.id, ms(took));
    for (i, member) in published.trace.iter().enumerate() {
        text += if i == 0 { "    " } else { ", " };
        text += &match (member.interested, member.took) {
            (false, _) => format!("{}: no interest", member.node),
            (true, None) => format!("{}: no answer", member.node),
            (true, Some(took)) => {
                format!(
                    "{}: {} {:.1} ms",
                    member.node,
                    counted(member.subscriptions, "sub"),
                    ms(took)
                )
            }
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::MemberTrace;

    #[test]
    fn what_is_said_of_a_publish() {
        let member = |node: &str, subscriptions, took: Option<u64>, interested| MemberTrace {
            node: node.to_owned(),
            subscriptions,
            took: took.map(Duration::from_micros),
            interested,
        };
        let mut published = Published {
            id: "01J9".to_owned(),
            members: 2,
            subscriptions: 14,
            ..Published::default()
        };
        let took = Duration::from_micros(812);
        assert_eq!(
            sentence(&published, Confirm::Cluster, took),
            "published 01J9  2 members, 14 subscriptions, 0.8 ms"
        );
        published.unknown = 1;
        assert_eq!(
            sentence(&published, Confirm::Node, took),
            "published 01J9  14 subscriptions; on its way to 1 other member, 0.8 ms"
        );
        published.trace = vec![
            member("a", 2, Some(100), true),
            member("c", 1, Some(800), true),
            member("b", 0, None, false),
            member("d", 0, None, true),
        ];
        assert_eq!(
            sentence(&published, Confirm::Cluster, took),
            "published 01J9  2 of 4 members, 14 subscriptions, 1 did not answer, 0.8 ms    \
             a: 2 subs 0.1 ms, c: 1 sub 0.8 ms, b: no interest, d: no answer"
        );
    }
}
