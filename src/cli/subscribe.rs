//! `waxwing subscribe`: messages to stdout, everything about them to stderr; with `-o json` that, too, to stdout, in its place.

use std::io::{self, BufWriter, Write};

use serde_json::{Map, Value, json};

use super::attach::{attach, refused};
use super::failure::Hinted;
use super::output::{harmless, harmless_line, talk, thousands};
use super::{Globals, Usage};
use crate::client::{Batch, Event, Events, Gap, GapReason, Message, TopicResult};

#[derive(Debug, clap::Args)]
#[command(
    visible_alias = "sub",
    after_help = "Ends with Ctrl-C, or after --count messages.\n\nExamples:\n  waxwing subscribe room:1 room:2\n  \
                  waxwing subscribe --pattern 'room:*' --with-meta\n  waxwing subscribe room:1 -o json | jq 'select(.topic).payload'\n\n\
                  With -o json a line without \"topic\" is about messages: {\"gap\":{..}}, {\"disconnected\":..}, {\"reconnected\":..}, {\"moved\":..}, {\"refused\":..}."
)]
pub struct SubscribeArgs {
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// All topics that match: * any characters, ? one, [a-z] one of these. May be repeated.
    #[arg(long = "pattern", value_name = "GLOB")]
    patterns: Vec<String>,
    /// End after so many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Nothing but the payload, as it came, and a line end.
    #[arg(long, conflicts_with = "with_meta")]
    raw: bool,
    /// With id, time, origin, event and headers.
    #[arg(long)]
    with_meta: bool,
}

pub(super) async fn run(args: SubscribeArgs, globals: &Globals) -> anyhow::Result<()> {
    if args.topics.is_empty() && args.patterns.is_empty() {
        return Err(Usage("subscribe to what? TOPIC.. or --pattern GLOB".to_owned()).into());
    }
    let (client, events) = attach(globals, "subscribe").await?;
    let subscribing = client.subscribe(args.topics.clone(), args.patterns.clone());
    let results = tokio::select! {
        results = tokio::time::timeout(globals.timeout, subscribing) => results,
        _ = tokio::signal::ctrl_c() => return Ok(()),
    };
    let Ok(results) = results else { anyhow::bail!("no answer in time to the subscription") };
    tell_subscribed(globals, results.map_err(refused)?)?;
    let form = match args.with_meta {
        _ if args.raw => Form::Raw,
        with_meta if globals.wants_json() => Form::Json { with_meta },
        with_meta => Form::Text { with_meta },
    };
    let mut listener = Listener { count: args.count, form, globals, events, came: 0 };
    let done = tokio::select! {
        done = listener.listen() => done,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    let came = listener.came;
    // The node would find out by itself; this spares it the linger. Whoever waits for us need not wait for that.
    let _ = tokio::time::timeout(std::time::Duration::from_millis(500), client.close()).await;
    done?;
    match args.count {
        Some(count) if came < count => {
            anyhow::bail!("{} of {} messages came", thousands(came), thousands(count))
        }
        _ => Ok(()),
    }
}

/// More names than these are told of in one line.
const TOLD_SINGLY: usize = 20;

/// What holds, name by name where they are few; and every refusal: the first ends the command, the others are told before.
fn tell_subscribed(globals: &Globals, results: Vec<TopicResult>) -> anyhow::Result<()> {
    let (refusals, held): (Vec<_>, Vec<_>) =
        results.into_iter().partition(|result| result.error.is_some());
    for line in subscribed_lines(&held) {
        talk(globals, &line);
    }
    let mut refusals = refusals
        .into_iter()
        .filter_map(|result| Some((format!("subscribe to {}", result.topic), result.error?)));
    let Some((what, error)) = refusals.next() else { return Ok(()) };
    for (what, error) in refusals {
        let line = harmless_line(&format!("{what}: {error}"));
        let _ = writeln!(anstream::stderr().lock(), "{line}");
    }
    Err(refused(error.into()).context(what))
}

fn subscribed_lines(held: &[TopicResult]) -> Vec<String> {
    if held.len() <= TOLD_SINGLY {
        let line = |held: &TopicResult| {
            format!("subscribed {} ({}/{} members)", held.topic, held.confirmed, held.members)
        };
        return held.iter().map(line).collect();
    }
    // They agree as long as a node confirms all names of a request at once; else the least is what holds for all.
    let least = held.iter().min_by_key(|held| (held.confirmed, held.members));
    let (confirmed, members) = least.map_or((0, 0), |least| (least.confirmed, least.members));
    let count = thousands(held.len() as u64);
    vec![format!("subscribed {count} topics ({confirmed}/{members} members)")]
}

/// How a message is written.
#[derive(Debug, Clone, Copy)]
enum Form {
    Text { with_meta: bool },
    Json { with_meta: bool },
    Raw,
}

struct Listener<'a> {
    count: Option<u64>,
    form: Form,
    globals: &'a Globals,
    events: Events,
    came: u64,
}

impl Listener<'_> {
    async fn listen(&mut self) -> anyhow::Result<()> {
        let stdout = anstream::stdout();
        let mut out = BufWriter::with_capacity(64 << 10, stdout.into_inner());
        while let Some(event) = self.events.next().await {
            let mut next = Some(event);
            // Flushed when nothing more is there: in time for people, and in large writes for programs.
            while let Some(event) = next {
                let over = expired(&event);
                if self.tell(event, &mut out)? {
                    return Ok(out.flush()?);
                }
                if over {
                    out.flush()?;
                    let what = "no node lets it in again: its key or token has expired".to_owned();
                    return Err(Hinted { what, hint: super::codec::GIVE_KEY.to_owned() }.into());
                }
                next = self.events.try_next();
            }
            out.flush()?;
        }
        anyhow::bail!("the client was closed")
    }

    /// True: there have been enough.
    fn tell(&mut self, event: Event, out: &mut impl Write) -> io::Result<bool> {
        match event {
            Event::Messages(batch) => {
                for message in batch.messages() {
                    write(self.form, &batch, &message, out)?;
                    self.came += 1;
                    if self.count == Some(self.came) {
                        return Ok(true);
                    }
                }
            }
            // Nothing is watched.
            Event::Presence(_) => {}
            about if matches!(self.form, Form::Json { .. }) => {
                serde_json::to_writer(&mut *out, &about_messages(&about))?;
                out.write_all(b"\n")?;
            }
            // What came before it is said before it; and it is no talk that --quiet could stop.
            Event::Gap(gap) => {
                out.flush()?;
                let _ = writeln!(anstream::stderr().lock(), "{}", harmless(&gap_sentence(&gap)));
            }
            Event::Disconnected { reason } => {
                out.flush()?;
                talk(self.globals, &format!("disconnected: {reason}"));
            }
            Event::Reconnected { node, resumed } => {
                let how = if resumed { "resumed" } else { "a new session" };
                talk(self.globals, &format!("reconnected to {node} ({how})"));
            }
            Event::Moved { from, to, reason } => {
                talk(self.globals, &format!("moved from {from} to {to}: {reason}"));
            }
            Event::Refused { topic, error } => {
                let topic = topic.unwrap_or_default();
                let _ = writeln!(
                    anstream::stderr().lock(),
                    "no longer subscribed {}: {}",
                    harmless(&topic),
                    harmless(&error.to_string())
                );
            }
        }
        Ok(false)
    }
}

/// The node says so as it ends the stream, and no node takes this key again.
fn expired(event: &Event) -> bool {
    matches!(event, Event::Disconnected { reason } if reason.contains("the key that let it in has expired"))
}

/// What is said between messages, each under its name.
fn about_messages(event: &Event) -> Value {
    match event {
        Event::Gap(gap) => json!({"gap": {
            "topics": gap.topics, "origin": gap.origin, "missing": gap.missing, "certain": gap.certain,
            "reason": gap_reason(gap.reason),
        }}),
        Event::Disconnected { reason } => json!({"disconnected": {"reason": reason}}),
        Event::Reconnected { node, resumed } => {
            json!({"reconnected": {"node": node, "resumed": resumed}})
        }
        Event::Moved { from, to, reason } => {
            json!({"moved": {"from": from, "to": to, "reason": reason}})
        }
        Event::Refused { topic, error } => json!({"refused": {
            "topic": topic, "code": error.code, "message": error.message, "hint": error.hint,
        }}),
        // They are written otherwise.
        Event::Messages(_) | Event::Presence(_) => Value::Null,
    }
}

/// As frames.proto calls it.
const fn gap_reason(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Unspecified => "unspecified",
        GapReason::SlowSubscriber => "slow_subscriber",
        GapReason::Link => "link",
        GapReason::MemberLost => "member_lost",
        GapReason::Reconnected => "reconnected",
    }
}

fn write(form: Form, batch: &Batch, message: &Message<'_>, out: &mut impl Write) -> io::Result<()> {
    match form {
        Form::Raw => out.write_all(message.payload())?,
        Form::Json { with_meta } => {
            serde_json::to_writer(&mut *out, &object(batch, message, with_meta))?;
        }
        Form::Text { with_meta } => {
            if with_meta {
                let time = message.time().map(humantime::format_rfc3339_millis);
                let time = time.map_or_else(|| "-".to_owned(), |time| time.to_string());
                let (id, origin) = (harmless_line(message.id()), harmless_line(batch.origin()));
                write!(out, "{time}  {id}  {origin}  ")?;
            }
            write!(out, "{}  ", harmless_line(batch.topic()))?;
            if with_meta {
                if !message.event().is_empty() {
                    write!(out, "event={}  ", harmless_line(message.event()))?;
                }
                for (name, value) in message.headers() {
                    write!(out, "{}={}  ", harmless_line(name), harmless_line(value))?;
                }
            }
            let payload = String::from_utf8_lossy(message.payload());
            write!(out, "{}", harmless_line(&payload))?;
        }
    }
    out.write_all(b"\n")
}

fn object(batch: &Batch, message: &Message<'_>, with_meta: bool) -> Value {
    let mut object = Map::new();
    object.insert("topic".to_owned(), batch.topic().into());
    if with_meta {
        let headers: Map<String, Value> =
            message.headers().map(|(name, value)| (name.to_owned(), value.into())).collect();
        let time = message.time().map(|time| humantime::format_rfc3339_millis(time).to_string());
        object.insert("id".to_owned(), message.id().into());
        object.insert("seq".to_owned(), message.seq().into());
        object.insert("time".to_owned(), json!(time));
        object.insert("origin".to_owned(), batch.origin().into());
        object.insert("headers".to_owned(), headers.into());
    }
    if with_meta || !message.event().is_empty() {
        object.insert("event".to_owned(), message.event().into());
    }
    match std::str::from_utf8(message.payload()) {
        Ok(text) => object.insert("payload".to_owned(), text.into()),
        Err(_) => object.insert("payload_base64".to_owned(), base64(message.payload()).into()),
    };
    object.into()
}

/// `gap: 1,204 messages of room:1 from b lost (slow subscriber)`
pub(super) fn gap_sentence(gap: &Gap) -> String {
    let messages = match gap.missing {
        Some(1) => "1 message".to_owned(),
        Some(missing) => format!("{} messages", thousands(missing)),
        None => "messages".to_owned(),
    };
    let topics = match gap.topics.as_slice() {
        [] => "any topic".to_owned(),
        [topic] => topic.clone(),
        [first, rest @ ..] => format!("{first} and {} more topics", thousands(rest.len() as u64)),
    };
    let origin = gap.origin.as_ref().map(|origin| format!(" from {origin}")).unwrap_or_default();
    let lost = if gap.certain { "lost" } else { "perhaps lost" };
    format!("gap: {messages} of {topics}{origin} {lost} ({})", gap.reason)
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let known = digit <= three.len();
            let at = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if known { char::from(DIGITS[at]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_told_of_in_one_line() {
        let held = |count: usize| -> Vec<TopicResult> {
            let one =
                |n| TopicResult { topic: format!("t{n}"), confirmed: 3, members: 3, error: None };
            (0..count).map(one).collect()
        };
        assert_eq!(subscribed_lines(&[]), Vec::<String>::new());
        assert_eq!(subscribed_lines(&held(1)), ["subscribed t0 (3/3 members)"]);
        assert_eq!(subscribed_lines(&held(20)).len(), 20);
        assert_eq!(subscribed_lines(&held(50_000)), ["subscribed 50,000 topics (3/3 members)"]);
    }

    #[test]
    fn what_is_said_of_a_gap() {
        let certain = Gap {
            topics: vec!["room:1".to_owned()],
            origin: Some("b".to_owned()),
            missing: Some(1204),
            reason: GapReason::SlowSubscriber,
            certain: true,
        };
        assert_eq!(
            gap_sentence(&certain),
            "gap: 1,204 messages of room:1 from b lost (slow subscriber)"
        );
        let possible = Gap { reason: GapReason::Reconnected, ..Gap::default() };
        assert_eq!(
            gap_sentence(&possible),
            "gap: messages of any topic perhaps lost (reconnected)"
        );
    }

    #[test]
    fn what_is_said_between_messages_is_json_where_they_are() {
        let gap = Gap {
            topics: vec!["room:1".to_owned()],
            origin: Some("b".to_owned()),
            missing: Some(4),
            reason: GapReason::SlowSubscriber,
            certain: true,
        };
        let (from, to, reason) = ("a".to_owned(), "b".to_owned(), "draining".to_owned());
        let node = to.clone();
        for (event, text) in [
            (
                Event::Gap(gap),
                r#"{"gap":{"certain":true,"missing":4,"origin":"b","reason":"slow_subscriber","topics":["room:1"]}}"#,
            ),
            (
                Event::Moved { from, to, reason },
                r#"{"moved":{"from":"a","reason":"draining","to":"b"}}"#,
            ),
            (
                Event::Reconnected { node, resumed: true },
                r#"{"reconnected":{"node":"b","resumed":true}}"#,
            ),
        ] {
            assert_eq!(about_messages(&event).to_string(), text);
        }
    }

    #[test]
    fn what_is_written_of_a_message() {
        let batch = crate::client::tests::batch("room:1", "b", "7", "said", ("k", "v"), b"hi\x1b");
        let (plain, meta) = (false, true);
        for (form, text) in [
            (Form::Raw, "hi\x1b\n"),
            (Form::Text { with_meta: plain }, "room:1  hi\\u{1b}\n"),
            (
                Form::Text { with_meta: meta },
                "1970-01-01T00:00:01.500Z  7  b  room:1  event=said  k=v  hi\\u{1b}\n",
            ),
            (
                Form::Json { with_meta: plain },
                "{\"event\":\"said\",\"payload\":\"hi\\u001b\",\"topic\":\"room:1\"}\n",
            ),
            (
                Form::Json { with_meta: meta },
                "{\"event\":\"said\",\"headers\":{\"k\":\"v\"},\"id\":\"7\",\"origin\":\"b\",\"payload\":\"hi\\u001b\",\"seq\":7,\
                 \"time\":\"1970-01-01T00:00:01.500Z\",\"topic\":\"room:1\"}\n",
            ),
        ] {
            let mut out = Vec::new();
            for message in batch.messages() {
                write(form, &batch, &message, &mut out).unwrap();
            }
            assert_eq!(String::from_utf8(out).unwrap(), text, "{form:?}");
        }
    }

    #[test]
    fn base64_as_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
