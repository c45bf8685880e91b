//! What an open session asks, request by request, in the order in which they stand on the wire.
//!
//! Publishes go out in that order; only their confirmations, and those of subscribes, are waited for on the side. Ends with the
//! attachment, which the caller hands in.

use super::GrpcDeps;
use super::codec::{Ask, Malformed, Names};
use super::decode::{Decoder, Part, Run};
use super::pending::{Asker, Ended, Pending};
use super::reading::{FrameReader, ReadError};
use super::session::status_of_reading;
use super::tracks::Tracks;
use crate::broker::{BrokerError, Ending, PublishOptions};
use crate::router::Confirm;
use crate::supervise::Turn;
use crate::types::Time;
use bytes::Bytes;
use std::time::Duration;
use tonic::Status;

/// A session whose namespace is a little over its rate is held up for so long a read: one that publishes in a stream keeps to the rate by
/// itself.
const RATE_PATIENCE: Duration = Duration::from_secs(1);
/// One that was refused for it is read no further for so long: refusing costs as much as publishing does.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// The reading half with what is left of the last read.
#[derive(Debug)]
pub(super) struct Reading {
    reader: FrameReader,
    decoder: Decoder,
    /// Read together with the hello.
    left: Option<Bytes>,
}

impl Reading {
    pub(super) fn new(reader: FrameReader, decoder: Decoder) -> Self {
        Self { reader, decoder, left: None }
    }

    /// The first request of the stream, by itself. `None`: the stream has ended.
    pub(super) async fn first(&mut self, deps: &GrpcDeps) -> Result<Option<Part>, Status> {
        loop {
            let limits = deps.limits.get();
            let read = self.reader.read(limits.frame).await;
            let Some(frames) = read.map_err(|error| status_of_reading(&error))? else {
                return Ok(None);
            };
            let mut requests = self.decoder.requests(frames, &limits);
            let part = requests.next().map_err(|error| {
                super::convert::status(tonic::Code::InvalidArgument, "malformed", error.to_string())
            })?;
            if part.is_some() {
                self.left = requests.rest();
                return Ok(part);
            }
        }
    }
}

/// Why the talk is over.
enum Over {
    /// Somebody ended the attachment, and has said why.
    Ended,
    Because(Ending),
    Bye {
        id: u64,
        keep_session: bool,
    },
}

impl From<Ended> for Over {
    fn from(_: Ended) -> Self {
        Self::Ended
    }
}

impl From<Malformed> for Over {
    fn from(malformed: Malformed) -> Self {
        Self::Because(Ending::Malformed(malformed.to_string()))
    }
}

impl From<ReadError> for Over {
    fn from(error: ReadError) -> Self {
        Self::Because(match error {
            ReadError::TooLarge { size, max } => {
                super::count_limit("frame");
                Ending::FrameTooLarge { size, max }
            }
            ReadError::Broken => Ending::Lost,
            ReadError::Compressed | ReadError::BadPrefix(_) | ReadError::Cut => {
                Ending::Malformed(error.to_string())
            }
        })
    }
}

pub(super) async fn run(deps: &GrpcDeps, mut reading: Reading, mut pending: Pending) {
    let Err(over) = talk(deps, &mut reading, &mut pending).await;
    pending.flush();
    match over {
        Over::Ended => {}
        Over::Because(ending) => pending.attachment.end(ending),
        Over::Bye { id, keep_session } => {
            if keep_session {
                pending.attachment.settle().await;
            }
            if id != 0 {
                pending.events.done(id);
                pending.flush();
            }
            pending.attachment.bye(keep_session).await;
        }
    }
}

/// Never ends well: the error says how it ends.
async fn talk(
    deps: &GrpcDeps,
    reading: &mut Reading,
    pending: &mut Pending,
) -> Result<std::convert::Infallible, Over> {
    let mut turn = Turn::new(deps.clock);
    loop {
        let limits = pending.attachment.limits();
        let frames = match reading.left.take() {
            Some(frames) => frames,
            None => match turn.next(pending.wait(reading.reader.read(limits.frame))).await?? {
                Some(frames) => frames,
                None => {
                    // It has asked all it will ask, and gets its answers.
                    pending.all_done().await?;
                    return Err(Over::Because(Ending::Lost));
                }
            },
        };
        let now = deps.clock.now();
        let mut patience = RATE_PATIENCE;
        let mut requests = reading.decoder.requests(frames, &limits);
        loop {
            let next = requests.next();
            let before = match &next {
                Ok(Some(part)) => pending.tracks.take_before(part),
                Ok(None) | Err(_) => pending.tracks.take(),
            };
            if let Some(tracks) = before {
                track(deps, pending, tracks).await?;
                pending.room().await?;
            }
            let Some(part) = next? else { break };
            match part {
                Part::Run(run) => {
                    let now = keep_to_rate(deps, pending, &mut patience, now).await?;
                    publish(deps, pending, run, now).await?;
                }
                Part::Ask { id, ask: Ask::Track(verb, ask) } => {
                    pending.tracks.push(id, verb, ask);
                    continue;
                }
                Part::Ask { id, ask } => answer(pending, id, ask).await?,
                Part::Refused { id, error } => {
                    error.count();
                    pending.events.refused(id, &error);
                }
            }
            pending.room().await?;
        }
        // Also where the client never lets us wait: what has been confirmed is told once a read.
        pending.go_on().await;
        pending.pace().await?;
        if std::mem::take(&mut pending.over_rate) {
            pending.wait(tokio::time::sleep(REFUSED_PAUSE)).await?;
        }
        pending.room().await?;
        if pending.attachment.closed().is_cancelled() {
            return Err(Over::Ended);
        }
    }
}

/// Holds the session up while its namespace is over its rate, as far as `patience` goes; what is over it then is refused.
async fn keep_to_rate(
    deps: &GrpcDeps,
    pending: &mut Pending,
    patience: &mut Duration,
    now: Time,
) -> Result<Time, Over> {
    let Some(under_rate) = pending.attachment.under_rate(now).filter(|_| !patience.is_zero())
    else {
        return Ok(now);
    };
    let _ = pending.wait(tokio::time::timeout(*patience, under_rate)).await?;
    let after = deps.clock.now();
    *patience = patience.saturating_sub(after - now);
    Ok(after)
}

async fn publish(deps: &GrpcDeps, pending: &mut Pending, run: Run, now: Time) -> Result<(), Over> {
    if !deps.broker.is_ready() {
        pending.wait(deps.broker.until_ready()).await?;
    }
    let Run { topic, flags, messages, ids } = run;
    let asker = Asker { ids, flags };
    let reach = match deps.broker.reach(&asker.flags.only_node) {
        Ok(reach) => reach,
        Err(error) => {
            pending.refuse(&asker.ids, &error);
            return Ok(());
        }
    };
    let confirm = asker.flags.confirm;
    let options = PublishOptions { exclude_self: asker.flags.exclude_self, reach, confirm };
    let handed_on = match pending.attachment.publish(topic, messages, options, now) {
        Ok(handed_on) => pending.wait(handed_on).await?.map_err(BrokerError::from),
        Err(error) => Err(error),
    };
    match handed_on {
        Err(error) => {
            pending.over_rate |= matches!(error, BrokerError::Rate { .. });
            pending.refuse(&asker.ids, &error);
        }
        Ok(mut handed_on) => {
            pending.note_slow(handed_on.take_slow());
            if confirm == Confirm::Cluster {
                pending.confirm(asker, handed_on);
            } else {
                // Nobody is waited for.
                let published = handed_on.confirmed().await;
                pending.published(&asker, &published);
            }
        }
    }
    Ok(())
}

async fn answer(pending: &mut Pending, id: u64, ask: Ask) -> Result<(), Over> {
    match ask {
        Ask::Subscribe(names) => subscribe(pending, id, names),
        Ask::Unsubscribe(names) => {
            // What is about to be subscribed can't be unsubscribed yet.
            pending.subscribes_done().await?;
            match pending.attachment.unsubscribe(&names.topics, &names.patterns) {
                Ok(results) => {
                    if id != 0 || results.iter().any(Result::is_err) {
                        pending.events.unsubscribed(id, &names, &results);
                    }
                }
                Err(error) => pending.events.refused(id, &error),
            }
        }
        Ask::Credit(messages) => {
            pending.attachment.add_credit(messages);
            if id != 0 {
                pending.events.done(id);
            }
        }
        Ask::Bye { keep_session } => {
            pending.all_done().await?;
            return Err(Over::Bye { id, keep_session });
        }
        Ask::Untrack(ask) => match pending.attachment.untrack(&ask) {
            Ok(()) if id == 0 => {}
            Ok(()) => pending.events.done(id),
            Err(error) => pending.events.refused(id, &error),
        },
        Ask::Watch { topic, counts_only } => watch(pending, id, &topic, counts_only),
        Ask::Unwatch { topic } => match pending.attachment.unwatch(&topic) {
            Ok(()) if id == 0 => {}
            Ok(()) => pending.events.done(id),
            Err(error) => pending.events.refused(id, &error),
        },
        // They are gathered before.
        Ask::Track(..) => {}
        Ask::Hello(_) => {
            let error = BrokerError::Invalid("this stream has had its hello".to_owned());
            pending.events.refused(id, &error);
        }
        Ask::Unknown => {
            let error =
                BrokerError::Invalid("no request of a kind that this node knows".to_owned());
            pending.events.refused(id, &error);
        }
    }
    Ok(())
}

/// Tracks of one read that stand together: each shard is locked once.
async fn track(deps: &GrpcDeps, pending: &mut Pending, tracks: Tracks) -> Result<(), Over> {
    if !deps.broker.is_ready() {
        pending.wait(deps.broker.until_ready()).await?;
    }
    let Tracks { verb, ids, asks, .. } = tracks;
    for (id, answer) in ids.into_iter().zip(pending.attachment.track(verb, asks)) {
        if id != 0 || answer.is_err() {
            pending.events.tracked(id, answer);
        }
    }
    Ok(())
}

fn watch(pending: &mut Pending, id: u64, topic: &str, counts_only: bool) {
    match pending.attachment.watch(topic, counts_only) {
        Ok(asked) => {
            if id != 0 {
                pending.events.done(id);
            }
            // The answer comes before the snapshot.
            pending.flush();
            pending.attachment.begin_watch(asked);
        }
        Err(error) => pending.events.refused(id, &error),
    }
}

fn subscribe(pending: &mut Pending, id: u64, names: Names) {
    match pending.attachment.subscribe(&names.topics, &names.patterns) {
        Ok(asked) if asked.is_refused() => {
            pending.events.unsubscribed(id, &names, &asked.results);
        }
        Ok(asked) => pending.subscribe(id, names, asked),
        Err(error) => pending.events.refused(id, &error),
    }
}
