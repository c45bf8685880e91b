//! Listens to some topics and patterns, changes its mind, and comes back: as the same session or as a new one, here or elsewhere.

use std::collections::BTreeSet;
use std::time::Duration;

use cluster_tests::client::{Client, ClientError, Got};
use waxwing::wire::v1::Hello;

use super::{AGAIN, Phase, Place, TOPICS, marker_topic, publisher_name, subscriber_name, topic};
use cluster_tests::chance::Chance;

const MOMENT: Duration = Duration::from_millis(50);
/// A subscribe is answered after `limits.confirm` at the latest, and whoever can hear a message hears it soon after.
const PROGRESS_WITHIN: Duration = Duration::from_secs(6);

pub(super) async fn run(place: Place, node: usize, mut chance: Chance) {
    let who = subscriber_name(node);
    // A new session is a new client in the history: nobody owes it what the one before did not get.
    let mut session = Session { of: who.clone(), number: 0, attachment: 0, hello: None };
    while place.stage.phase() < Phase::Over {
        let hello = session.hello.clone().unwrap_or_default();
        let (name, attachment) = (session.name(), session.attachment);
        match place.attach(node, &name, attachment, hello).await {
            Ok(client) if session.hello.is_some() && !client.welcome.resumed => session.renew(),
            Ok(mut client) => {
                let ended = listen(&place, node, &mut client, &mut chance).await;
                if ended.is_err() {
                    client.given_up();
                }
                if let Err(error) = &ended
                    && place.stage.phase() >= Phase::Settle
                {
                    place
                        .stage
                        .failed(format!("{who} loses its session after the faults: {error}"));
                }
                if chance.one_in(2) {
                    session.attachment += 1;
                    session.hello = Some(client.resume_hello(false));
                } else {
                    session.renew();
                }
            }
            Err(_) => session.renew(),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

struct Session {
    of: String,
    number: u32,
    attachment: u32,
    /// To take it up again.
    hello: Option<Hello>,
}

impl Session {
    fn name(&self) -> String {
        format!("{}-{}", self.of, self.number)
    }

    fn renew(&mut self) {
        *self = Self { of: self.of.clone(), number: self.number + 1, attachment: 0, hello: None };
    }
}

async fn listen(
    place: &Place,
    node: usize,
    client: &mut Client,
    chance: &mut Chance,
) -> Result<(), ClientError> {
    let who = subscriber_name(node);
    let mut wanted: BTreeSet<String> =
        (0..TOPICS).filter(|_| chance.one_in(2)).map(topic).collect();
    let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let patterns: &[&str] = if chance.one_in(3) { &["t[0-2]"] } else { &[] };
    if !names.is_empty() || !patterns.is_empty() {
        client.subscribe(&names, patterns).await?;
    }
    loop {
        let phase = place.stage.phase();
        let done = place.stage.done.borrow().get(&who).copied();
        match phase {
            Phase::Over => return Ok(()),
            Phase::Core | Phase::Final
                if place.stage.takes_part(node, phase) && done < Some(phase) =>
            {
                let taking =
                    tokio::time::timeout(PROGRESS_WITHIN, take_part(place, client, &who, phase));
                match taking.await {
                    Ok(took) => took?,
                    Err(_) => {
                        place.stage.failed(format!("{who} gets no further in {phase:?}"));
                        place.stage.did(&who, phase);
                    }
                }
            }
            Phase::Faults if chance.one_in(30) => {
                let name = topic(chance.below(TOPICS));
                if wanted.remove(&name) {
                    client.unsubscribe(&[&name], &[]).await?;
                } else {
                    client.subscribe(&[&name], &[]).await?;
                    wanted.insert(name);
                }
            }
            Phase::Faults if chance.one_in(150) => {
                client.bye(true).await?;
                return client.read_to_end().await;
            }
            _ => {}
        }
        match client.event(MOMENT).await {
            Ok(_) => {}
            Err(error) if error.is_silence() => {}
            Err(error) => return Err(error),
        }
    }
}

/// Subscribes, and hears from everybody else who takes part.
async fn take_part(
    place: &Place,
    client: &mut Client,
    who: &str,
    phase: Phase,
) -> Result<(), ClientError> {
    let stage = &place.stage;
    let topic = marker_topic(phase);
    loop {
        let results = client.subscribe(&[&topic], &[]).await?;
        // Outside the core some members are live and can't be heard.
        if phase == Phase::Core || results.iter().all(|result| result.confirmed == result.members) {
            break;
        }
    }
    stage.did(&format!("{who} listens"), phase);
    let taking_part = (0..stage.nodes).filter(|node| stage.takes_part(*node, phase));
    let mut unheard: BTreeSet<String> = taking_part.map(publisher_name).collect();
    while !unheard.is_empty() {
        if let Got::Message(message) = client.event(PROGRESS_WITHIN).await?
            && message.topic == topic
        {
            let publisher = message.text().split(['.', ' ']).next().unwrap_or_default();
            unheard.remove(publisher);
        }
    }
    stage.did(who, phase);
    Ok(())
}
