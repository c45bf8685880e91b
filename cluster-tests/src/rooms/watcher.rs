//! A watcher: it keeps lists, and is told what changes, wherever it is attached.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use waxwing::wire::v1::{Hello, PresenceEvent};

use super::{AGAIN, Door, ROOMS, Stage, attach, mark_of};
use crate::chance::Chance;
use crate::client::{Client, ClientError, Got};

const MOMENT: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct Watcher {
    who: String,
    home: usize,
    /// One in so many moments it does something else than look.
    restless: usize,
    chance: Chance,
    seen: Option<String>,
}

impl Watcher {
    pub const fn new(who: String, home: usize, restless: usize, chance: Chance) -> Self {
        Self { who, home, restless, chance, seen: None }
    }

    /// Until all is over.
    pub async fn run(mut self, door: &impl Door) {
        let (mut node, mut attachment) = (self.home, 0);
        while door.stage(self.home) != Stage::Over {
            if let Some(mut client) =
                attach(door, node, &self.who, attachment, Hello::default()).await
            {
                attachment += 1;
                let ended = self.look(door, &mut client, node).await;
                client.given_up();
                if ended.is_err() && door.stage(self.home) == Stage::Still {
                    door.trouble(format!("{} loses its attachment", self.who));
                }
            }
            node = self.home;
            if door.stage(self.home) == Stage::Busy && self.chance.one_in(3) {
                node = self.chance.below(door.nodes());
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn look(
        &mut self,
        door: &impl Door,
        client: &mut Client,
        node: usize,
    ) -> Result<(), ClientError> {
        let mut marks = Marks::default();
        for room in 0..ROOMS {
            client.watch(&door.room(room)).await?;
        }
        loop {
            match door.stage(self.home) {
                Stage::Over => return Ok(()),
                Stage::Show { .. } if node != self.home => return Ok(()),
                Stage::Show { mark, owners } => {
                    let key = mark_of(door, &mark, "").key;
                    let seen = marks.0.get(&key).map_or(0, BTreeSet::len);
                    if seen >= owners && self.seen.as_ref() != Some(&mark) {
                        door.did(&self.who, &mark);
                        self.seen = Some(mark);
                    }
                }
                Stage::Busy if self.chance.one_in(self.restless) => {
                    match self.chance.below(4) {
                        0 => return Ok(()),
                        1 => {
                            let room = door.room(self.chance.below(ROOMS));
                            client.unwatch(&room).await?;
                            client.watch(&room).await?;
                        }
                        // It falls behind.
                        _ => tokio::time::sleep(self.chance.ms(500..2_500)).await,
                    }
                }
                Stage::Busy | Stage::Still => {}
            }
            match client.event(MOMENT).await {
                Ok(Got::Presence(event)) => marks.add(&event),
                Ok(_) => {}
                Err(error) if error.is_silence() => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// By key: which ids it has seen.
#[derive(Default)]
struct Marks(BTreeMap<String, BTreeSet<String>>);

impl Marks {
    fn add(&mut self, event: &PresenceEvent) {
        for entry in event.joins.iter().filter(|entry| entry.key.starts_with("mark:")) {
            self.0.entry(entry.key.clone()).or_default().insert(entry.id.clone());
        }
    }
}
