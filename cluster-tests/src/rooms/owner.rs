//! An owner: a session with presences, which is not always where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use waxwing::wire::v1::Hello;

use super::{AGAIN, Door, LINGERS_MS, ROOMS, Stage, attach, mark_of};
use crate::chance::Chance;
use crate::client::{Client, ClientError};
use crate::history::Presence;

const NAMES: usize = 3;
const MOMENT: Duration = Duration::from_millis(30);

#[derive(Debug)]
pub struct Owner {
    who: String,
    home: usize,
    /// Between two things that it does.
    pause: Range<usize>,
    chance: Chance,
    session: Session,
    /// Names of another generation are others: nobody can know what became of an older one's.
    generation: u32,
    sessions: u32,
    shown: Option<String>,
}

/// What outlives an attachment.
#[derive(Debug)]
struct Session {
    name: String,
    attachment: u32,
    linger: Duration,
    /// To take it up again.
    hello: Option<Hello>,
    /// What it has: metadata and revision.
    wishes: BTreeMap<Presence, (String, u64)>,
    /// What it gave up. It may have overtaken the news of that, so it says so again wherever it comes.
    given_up: BTreeSet<Presence>,
    revision: u64,
    /// Something was asked, and not answered.
    unknown: bool,
}

/// How an attachment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// By a failure, or by breaking it off: it comes back as soon as it can.
    Broken,
    /// It stays away for longer than it lingers.
    Away,
    /// For good.
    Gone,
    /// The client has another attachment already.
    Moved(usize),
    AtTheEnd,
}

impl Owner {
    pub fn new(who: String, home: usize, pause: Range<usize>, mut chance: Chance) -> Self {
        let session = Session::new(&who, 0, &mut chance);
        let (generation, sessions, shown) = (0, 0, None);
        Self { who, home, pause, chance, session, generation, sessions, shown }
    }

    /// Until all is over.
    pub async fn run(mut self, door: &impl Door) {
        let mut node = self.home;
        let mut old: Option<Client> = None;
        while door.stage(self.home) != Stage::Over {
            let mut hello = self.session.hello.clone().unwrap_or_default();
            hello.linger = prost_types::Duration::try_from(self.session.linger).ok();
            let (name, attachment) = (self.session.name.clone(), self.session.attachment);
            let attached = attach(door, node, &name, attachment, hello).await;
            if let Some(old) = old.take() {
                old.given_up();
            }
            let Some(mut client) = attached else {
                node = self.chance.below(door.nodes());
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            self.session.attachment += 1;
            self.session.hello = Some(client.resume_hello(false));
            let left = match self.stay(door, &mut client, node).await {
                Ok(left) => left,
                Err(_) => Left::Broken,
            };
            if left != Left::Gone && !matches!(left, Left::Moved(_)) {
                client.given_up();
            }
            if left == Left::Broken && door.stage(self.home) == Stage::Still {
                door.trouble(format!("{} loses its attachment", self.who));
            }
            node = self.home;
            match left {
                Left::Moved(to) => {
                    (node, old) = (to, Some(client));
                    continue;
                }
                Left::AtTheEnd => return,
                Left::Gone => self.renew(),
                Left::Broken | Left::Away => {
                    drop(client);
                    if left == Left::Away {
                        tokio::time::sleep(self.session.linger + self.chance.ms(300..1_500)).await;
                    }
                    if self.chance.one_in(2) {
                        node = self.chance.below(door.nodes());
                    }
                    // Another session takes over what this one had, or has others.
                    if self.chance.one_in(5) {
                        self.renew();
                    }
                }
            }
            let pause = if self.chance.one_in(2) { self.chance.ms(5..50) } else { AGAIN };
            tokio::time::sleep(pause).await;
        }
    }

    fn renew(&mut self) {
        self.generation += u32::from(self.session.unknown || self.chance.one_in(3));
        self.sessions += 1;
        self.shown = None;
        self.session = Session::new(&self.who, self.sessions, &mut self.chance);
    }

    fn name(&mut self, door: &impl Door) -> Presence {
        let (room, number) = (self.chance.below(ROOMS), self.chance.below(NAMES));
        // Two owners share a key, each with ids of its own.
        let key = format!("user{}", self.home / 2);
        Presence {
            topic: door.room(room),
            key,
            id: format!("{}.{}.{number}", self.who, self.generation),
        }
    }

    async fn stay(
        &mut self,
        door: &impl Door,
        client: &mut Client,
        node: usize,
    ) -> Result<Left, ClientError> {
        self.session.say_again(client).await?;
        let mut idle = Duration::ZERO;
        let mut until = self.chance.ms(self.pause.clone());
        loop {
            match door.stage(self.home) {
                Stage::Over => return Ok(Left::AtTheEnd),
                Stage::Show { .. } if node != self.home => return Ok(Left::Moved(self.home)),
                Stage::Show { mark, .. } => {
                    if self.shown.as_ref() != Some(&mark) {
                        let presence = mark_of(door, &mark, &self.who);
                        self.session.track(client, presence, mark.clone()).await?;
                        door.did(&self.who, &mark);
                        self.shown = Some(mark);
                    }
                }
                Stage::Still => {}
                Stage::Busy if idle >= until => {
                    (idle, until) = (Duration::ZERO, self.chance.ms(self.pause.clone()));
                    if let Some(left) = self.act(door, client).await? {
                        return Ok(left);
                    }
                }
                Stage::Busy => idle += MOMENT,
            }
            match client.event(MOMENT).await {
                Ok(_) => {}
                Err(error) if error.is_silence() => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn act(
        &mut self,
        door: &impl Door,
        client: &mut Client,
    ) -> Result<Option<Left>, ClientError> {
        match self.chance.below(100) {
            0..=54 => {
                let presence = self.name(door);
                let meta = format!("\"{}\"", self.chance.below(4));
                self.session.track(client, presence, meta).await?;
                Ok(None)
            }
            55..=69 => {
                let names: Vec<Presence> = self.session.wishes.keys().cloned().collect();
                if !names.is_empty() {
                    let stays = self.chance.one_in(3);
                    let linger = if stays { self.chance.ms(200..1_500) } else { Duration::ZERO };
                    let presence = self.chance.pick(&names).clone();
                    self.session.untrack(client, presence, linger).await?;
                }
                Ok(None)
            }
            70..=79 => Ok(Some(Left::Moved(self.chance.below(door.nodes())))),
            80..=91 => {
                if self.chance.one_in(2) {
                    client.bye(true).await?;
                }
                Ok(Some(Left::Broken))
            }
            92..=96 => Ok(Some(Left::Away)),
            _ => {
                client.bye(false).await?;
                client.read_to_end().await?;
                Ok(Some(Left::Gone))
            }
        }
    }
}

impl Session {
    fn new(who: &str, number: u32, chance: &mut Chance) -> Self {
        Self {
            name: format!("{who}-{number}"),
            attachment: 0,
            linger: Duration::from_millis(*chance.pick(&LINGERS_MS)),
            hello: None,
            wishes: BTreeMap::new(),
            given_up: BTreeSet::new(),
            revision: 0,
            unknown: false,
        }
    }

    async fn say_again(&mut self, client: &mut Client) -> Result<(), ClientError> {
        self.unknown = true;
        for presence in self.given_up.clone() {
            client.untrack(&presence, Duration::ZERO).await?;
        }
        for (presence, (meta, revision)) in &self.wishes {
            client.track(presence, meta, *revision).await?;
        }
        self.unknown = false;
        Ok(())
    }

    async fn track(
        &mut self,
        client: &mut Client,
        presence: Presence,
        meta: String,
    ) -> Result<(), ClientError> {
        self.revision += 1;
        self.given_up.remove(&presence);
        self.wishes.insert(presence.clone(), (meta.clone(), self.revision));
        self.unknown = true;
        client.track(&presence, &meta, self.revision).await?;
        self.unknown = false;
        Ok(())
    }

    async fn untrack(
        &mut self,
        client: &mut Client,
        presence: Presence,
        linger: Duration,
    ) -> Result<(), ClientError> {
        self.wishes.remove(&presence);
        self.given_up.insert(presence.clone());
        self.unknown = true;
        client.untrack(&presence, linger).await?;
        self.unknown = false;
        Ok(())
    }
}
