//! A gRPC subscriber: changes its mind, and moves between nodes with its session.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster_tests::chance::Chance;
use cluster_tests::client::{Client, ClientError};
use waxwing::wire::v1::Hello;

use crate::load::{BARRIER, Round, TOPICS, topic};
use crate::place::NODES;

const AGAIN: Duration = Duration::from_millis(200);
const MOMENT: Duration = Duration::from_millis(250);
/// Nothing came for so long after everything was in mailboxes: that was all.
const SILENCE: Duration = Duration::from_millis(1_500);

pub(crate) async fn run(round: Round, home: usize, i: usize, mut chance: Chance) {
    let (mut renewed, mut attachment, mut node) = (0, 0, home);
    let mut hello: Option<Hello> = None;
    while !round.is_quiet() {
        // A new session is a new client in the history: nobody owes it what the one before did not get.
        let who = format!("s{}-{home}-{i}-{renewed}", round.number);
        let greeting = hello.clone().unwrap_or_default();
        let attaching =
            Client::attach(&round.address(node), &who, attachment, greeting, &round.recorder).await;
        match attaching {
            Ok(mut client) if hello.is_none() || client.welcome.resumed => {
                round.resumes.fetch_add(u64::from(hello.is_some()), Ordering::Relaxed);
                let stays_itself = listen(&round, &mut client, &mut chance).await;
                if stays_itself.is_err() {
                    client.given_up();
                }
                if matches!(stays_itself, Ok(Left::ToResume)) {
                    hello = Some(client.resume_hello(false));
                    attachment += 1;
                    node = (node + chance.within(1..NODES)) % NODES;
                    continue;
                }
            }
            Ok(_) | Err(_) => {}
        }
        (hello, attachment, node) = (None, 0, home);
        renewed += 1;
        tokio::time::sleep(AGAIN).await;
    }
}

enum Left {
    AtTheEnd,
    ToResume,
}

async fn listen(
    round: &Round,
    client: &mut Client,
    chance: &mut Chance,
) -> Result<Left, ClientError> {
    let mut wanted: BTreeSet<String> =
        (0..TOPICS).filter(|_| chance.one_in(2)).map(topic).collect();
    let mut names: Vec<&str> = wanted.iter().map(String::as_str).collect();
    names.push(BARRIER);
    let patterns: &[&str] = if chance.one_in(4) { &["t[0-3]"] } else { &[] };
    client.subscribe(&names, patterns).await?;
    let mut change = tokio::time::interval(chance.ms(1_500..4_000));
    change.tick().await;
    loop {
        let moment = if round.is_quiet() { SILENCE } else { MOMENT };
        match client.event(moment).await {
            Ok(_) => {}
            Err(error) if error.is_silence() && round.is_quiet() => return Ok(Left::AtTheEnd),
            Err(error) if error.is_silence() => {}
            Err(error) => return Err(error),
        }
        let is_time = futures_util::FutureExt::now_or_never(change.tick()).is_some();
        if !is_time || round.is_over() {
            continue;
        }
        if chance.one_in(8) {
            client.bye(true).await?;
            client.read_to_end().await?;
            return Ok(Left::ToResume);
        }
        let name = topic(chance.below(TOPICS));
        if wanted.remove(&name) {
            client.unsubscribe(&[&name], &[]).await?;
        } else {
            client.subscribe(&[&name], &[]).await?;
            wanted.insert(name);
        }
    }
}
