//! Clients that move when a node asks them to: the new attachment first, then the end of the old one.

use std::time::Duration;

use waxwing::wire::v1::{GoAway, PublishResponse};

use crate::client::{Client, ClientError, Got};
use crate::history::Recorder;

/// A subscriber: it resumes its session elsewhere with overlap, subscribes there, and leaves the old node, which it reads to its end.
#[derive(Debug)]
pub struct RoamingSubscriber {
    client: Client,
    old: Vec<Client>,
    topics: Vec<String>,
    patterns: Vec<String>,
    recorder: Recorder,
    pub moves: u32,
}

impl RoamingSubscriber {
    pub async fn start(
        mut client: Client,
        recorder: &Recorder,
        topics: &[&str],
        patterns: &[&str],
    ) -> Result<Self, ClientError> {
        client.subscribe_everywhere(topics, patterns).await?;
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Ok(Self {
            client,
            old: Vec::new(),
            topics: owned(topics),
            patterns: owned(patterns),
            recorder: recorder.clone(),
            moves: 0,
        })
    }

    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Reads for a moment, and moves if asked to. Everything that came is in the history.
    pub async fn turn(&mut self) -> Result<(), ClientError> {
        const MOMENT: Duration = Duration::from_millis(10);
        let mut still = Vec::new();
        for mut old in self.old.drain(..) {
            match drain(&mut old).await {
                Ok(_) => still.push(old),
                // The node has ended what it was asked to end.
                Err(ClientError::Ended(_) | ClientError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.old = still;
        match self.client.event(MOMENT).await {
            Ok(Got::GoAway(away)) => self.move_to(&away).await,
            Ok(_) => match drain(&mut self.client).await? {
                Some(away) => self.move_to(&away).await,
                None => Ok(()),
            },
            Err(error) if error.is_silence() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn move_to(&mut self, away: &GoAway) -> Result<(), ClientError> {
        let hello = self.client.resume_hello(true);
        let name = self.client.name().to_owned();
        let attachment = self.client.attachment() + 1;
        let mut new =
            Client::attach(endpoint(away)?, &name, attachment, hello, &self.recorder).await?;
        if !new.welcome.resumed {
            return Err(ClientError::Unexpected("the session was not resumed".to_owned()));
        }
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        let patterns: Vec<&str> = self.patterns.iter().map(String::as_str).collect();
        new.subscribe_everywhere(&topics, &patterns).await?;
        let mut old = std::mem::replace(&mut self.client, new);
        old.bye(true).await?;
        self.old.push(old);
        self.moves += 1;
        Ok(())
    }
}

/// A publisher: it publishes elsewhere from now on, and leaves the old node when that has taken everything.
#[derive(Debug)]
pub struct RoamingPublisher {
    client: Client,
    recorder: Recorder,
    pub moves: u32,
}

impl RoamingPublisher {
    pub fn new(client: Client, recorder: &Recorder) -> Self {
        Self { client, recorder: recorder.clone(), moves: 0 }
    }

    pub async fn publish(&mut self, topic: &str) -> Result<PublishResponse, ClientError> {
        let response = self.client.publish(topic).await?;
        if let Some(away) = drain(&mut self.client).await? {
            self.move_to(&away).await?;
        }
        Ok(response)
    }

    async fn move_to(&mut self, away: &GoAway) -> Result<(), ClientError> {
        let hello = self.client.resume_hello(true);
        let name = self.client.name().to_owned();
        let attachment = self.client.attachment() + 1;
        let new = Client::attach(endpoint(away)?, &name, attachment, hello, &self.recorder).await?;
        let mut old = std::mem::replace(&mut self.client, new);
        old.bye(true).await?;
        old.read_to_end().await?;
        self.moves += 1;
        Ok(())
    }
}

/// Takes what has arrived already; a go-away, if there was one.
async fn drain(client: &mut Client) -> Result<Option<GoAway>, ClientError> {
    let mut away = None;
    loop {
        match client.event(Duration::ZERO).await {
            Ok(Got::GoAway(asked)) => away = Some(asked),
            Ok(Got::Message(_) | Got::Gap(_) | Got::Presence(_) | Got::Welcome(_)) => {}
            Err(error) if error.is_silence() => return Ok(away),
            Err(error) => return Err(error),
        }
    }
}

fn endpoint(away: &GoAway) -> Result<&str, ClientError> {
    let first = away.endpoints.first().map(String::as_str);
    first.ok_or_else(|| ClientError::Unexpected("a go-away without endpoints".to_owned()))
}
