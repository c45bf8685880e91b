//! How an attachment comes to be: hello, the question to the peers, welcome.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::attachment::Attachment;
use super::seat::{Card, Seat, Voice};
use super::sessions::{AttachmentId, Hello, Input, Output};
use super::{Broker, BrokerError, Ending, Pass, Shared, endpoints};
use crate::metrics::names;
use crate::pubsub::Copies;
use crate::router::SessionKnown;
use crate::types::{ResumeToken, SessionId};

/// A larger epoch is no epoch that any node has ever given.
const EPOCH_MAX: u64 = u64::MAX / 2;

/// What people see of a client is cut to so many characters.
const CLIENT_LEN_MAX: usize = 128;

/// What a client says when it comes. Shown without its token.
#[derive(Clone)]
pub struct Opening {
    pub pass: Pass,
    /// Of a closed list: it labels metrics.
    pub front: &'static str,
    pub client: String,
    pub address: String,
    /// Empty: a new session. Else 16 bytes.
    pub token: Vec<u8>,
    /// The last epoch that the client was welcomed with.
    pub epoch: u64,
    /// `None`: the node's default.
    pub linger: Option<Duration>,
    pub overlap: bool,
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening")
            .field("pass", &self.pass)
            .field("front", &self.front)
            .field("client", &self.client)
            .field("address", &self.address)
            .field("resumes", &!self.token.is_empty())
            .finish_non_exhaustive()
    }
}

/// What a client is told when it has come.
#[derive(Debug, Clone)]
pub struct Welcome {
    pub session: SessionId,
    pub token: ResumeToken,
    pub resumed: bool,
    pub epoch: u64,
    pub node: String,
    /// Client addresses of the ready nodes, this one first.
    pub endpoints: Vec<String>,
}

impl Broker {
    /// One connection of a session, new or resumed. What `voice` says as a welcome is the first thing in its mailbox.
    pub async fn open(
        &self,
        opening: Opening,
        voice: &'static dyn Voice,
    ) -> Result<Attachment, BrokerError> {
        self.open_with(opening, voice, Copies::One).await
    }

    /// As `open`, for a front that wants its messages otherwise.
    pub async fn open_with(
        &self,
        opening: Opening,
        voice: &'static dyn Voice,
        copies: Copies,
    ) -> Result<Attachment, BrokerError> {
        self.try_open(opening, voice, copies).await.inspect_err(BrokerError::count)
    }

    async fn try_open(
        &self,
        opening: Opening,
        voice: &'static dyn Voice,
        copies: Copies,
    ) -> Result<Attachment, BrokerError> {
        let shared = &self.shared;
        let fresh = opening.token.is_empty();
        let token = if fresh { new_token() } else { parse_token(&opening.token)? };
        if opening.epoch > EPOCH_MAX {
            return Err(BrokerError::Invalid(format!(
                "no session has the epoch {}",
                opening.epoch
            )));
        }
        let limits = shared.limits.get();
        let session = token.session_id(opening.pass.namespace());
        let hello = Hello {
            session,
            namespace: opening.pass.namespace().clone(),
            attachment: AttachmentId(shared.next.fetch_add(1, Ordering::Relaxed)),
            epoch: opening.epoch,
            linger: opening.linger.unwrap_or(limits.linger).min(limits.linger_max),
            overlap: opening.overlap,
            fresh,
        };
        let linger = hello.linger;
        let (attachment, mut outputs) =
            self.take_seat(hello, &opening, voice, copies, limits.sessions)?;

        // From here on, dropping `attachment` undoes it all: the client may go while the peers are asked.
        let (epoch, resumed, overlapping) = loop {
            match welcome_or_ask(&outputs) {
                Some(Next::Welcome { epoch, resumed, overlapping }) => {
                    break (epoch, resumed, overlapping);
                }
                Some(Next::Ask(moved)) => {
                    let known = shared.router.session_moved(moved, true).await;
                    outputs = shared.answered(attachment.id(), known);
                }
                // Somebody else took the session meanwhile.
                None => return Err(BrokerError::Superseded),
            }
        };
        attachment.seat.set_attached(epoch, linger);
        if !fresh {
            // What it owns, here or on the node that it comes from, is this attachment's from now on. Of a session made here and now
            // there is nothing; the replicator hears of it when it tracks.
            attachment.seat.owns.store(true, Ordering::Relaxed);
            shared.replicator.attached(&attachment.seat.owner());
        }
        shared.announce(&outputs).await;

        attachment.welcome(
            &Welcome {
                session,
                token,
                resumed,
                epoch,
                node: shared.node.to_string(),
                endpoints: endpoints::all(&shared.membership.members()),
            },
            // What was published while it was away is lost, unless the older attachment has received it. Where the session was lost
            // with its node, the client is told the same.
            !overlapping && (resumed || opening.epoch > 0),
        );
        Ok(attachment)
    }

    fn take_seat(
        &self,
        hello: Hello,
        opening: &Opening,
        voice: &'static dyn Voice,
        copies: Copies,
        sessions_max: usize,
    ) -> Result<(Attachment, Vec<Output>), BrokerError> {
        let shared = &self.shared;
        let card = Arc::new(Card {
            pass: opening.pass.clone(),
            front: opening.front,
            client: Mutex::new(presentable(&opening.client)),
            address: opening.address.clone(),
            since_ms: shared.clock.unix_ms(),
        });
        let ends = opening.pass.ends(shared.clock);
        let Hello { session, attachment, .. } = hello;
        let mailbox = shared.router.open_mailbox(session, copies);
        let seat = Arc::new(Seat::new(attachment, session, card.clone(), mailbox, voice, ends));
        let now = shared.clock.now();
        let mut table = shared.table.lock();
        let refused = if table.away.is_some() {
            Some(BrokerError::Draining)
        } else if table.seats.len() >= sessions_max {
            Some(BrokerError::TooManySessions { max: sessions_max })
        } else {
            let upheld = shared.check_again(&opening.pass);
            upheld.and_then(|()| table.take_place(session, &opening.pass)).err()
        };
        if let Some(refused) = refused {
            drop(table);
            shared.router.close_mailbox(&seat.mailbox);
            return Err(refused);
        }
        table.seats.insert(attachment, seat.clone());
        table.expiries.extend(ends.map(|ends| (ends, attachment)));
        *table.by_front.entry(opening.front).or_default() += 1;
        if let Some(tenant) = opening.pass.tenant() {
            tenant.count_attached(opening.front, true);
        }
        table.cards.insert(session, card);
        let outputs = table.handle(Input::Hello(hello), now);
        let affected = table.affected(&outputs);
        drop(table);
        super::obey(affected);
        let gap_due = AtomicBool::new(false);
        let attachment = Attachment { shared: shared.clone(), seat, gap_due };
        Ok((attachment, outputs))
    }
}

impl Shared {
    fn answered(&self, attachment: AttachmentId, known: SessionKnown) -> Vec<Output> {
        let random = endpoints::Random::new().next();
        self.decide(Input::Answered { attachment, known, random })
    }
}

impl Attachment {
    fn welcome(&self, welcome: &Welcome, gap_due: bool) {
        self.gap_due.store(gap_due, Ordering::Relaxed);
        if let Some(said) = self.seat.voice.welcome(welcome) {
            self.seat.mailbox.push_event(said);
        }
        self.seat.set_welcomed();
    }
}

enum Next {
    Welcome { epoch: u64, resumed: bool, overlapping: bool },
    Ask(crate::router::SessionMoved),
}

fn welcome_or_ask(outputs: &[Output]) -> Option<Next> {
    outputs.iter().find_map(|output| match *output {
        Output::Welcome { epoch, resumed, overlapping, .. } => {
            Some(Next::Welcome { epoch, resumed, overlapping })
        }
        Output::Ask { moved, .. } => Some(Next::Ask(moved)),
        _ => None,
    })
}

fn new_token() -> ResumeToken {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    ResumeToken::new(bytes)
}

pub(super) fn parse_token(bytes: &[u8]) -> Result<ResumeToken, BrokerError> {
    bytes.try_into().map(ResumeToken::new).map_err(|_| BrokerError::BadToken(bytes.len()))
}

/// For people's eyes: short, and without what could play with a terminal.
pub(super) fn presentable(client: &str) -> String {
    client.chars().filter(|c| !c.is_control()).take(CLIENT_LEN_MAX).collect()
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // Whoever ended it has said why; nobody did when its task panicked or was cancelled.
        let ending = if std::thread::panicking() { Ending::Failed } else { Ending::Lost };
        self.seat.end(ending);
        let shared = &self.shared;
        shared.router.close_mailbox(&self.seat.mailbox);
        if let Some(tenant) = self.seat.card.pass.tenant() {
            let held = self.seat.subscriptions.lock();
            tenant.unsubscribe(held.topics.iter(), held.patterns.len());
        }
        for watch in self.seat.take_watches() {
            shared.replicator.unwatch(&watch);
        }
        let front = self.seat.card.front;
        {
            let mut table = shared.table.lock();
            table.seats.remove(&self.seat.id);
            if let Some(ends) = self.seat.ends {
                table.expiries.remove(&(ends, self.seat.id));
            }
            if let Some(count) = table.by_front.get_mut(front) {
                *count -= 1;
            }
            if let Some(tenant) = self.seat.card.pass.tenant() {
                tenant.count_attached(front, false);
            }
        }
        shared.decide(Input::Lost { attachment: self.seat.id });
        let reason = self.seat.ending().map_or("failed", Ending::label);
        metrics::counter!(names::SESSIONS_CLOSED, "front" => front, "reason" => reason)
            .increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::{Opening, Welcome};
    use crate::broker::Pass;
    use crate::types::{Namespace, ResumeToken, SessionId};

    #[test]
    fn tokens_are_not_shown() {
        let token = [0xca; 16];
        let opening = Opening {
            pass: Pass::open(Namespace::default()),
            front: "grpc",
            client: String::new(),
            address: String::new(),
            token: token.to_vec(),
            epoch: 0,
            linger: None,
            overlap: false,
        };
        let welcome = Welcome {
            session: SessionId([0; 16]),
            token: ResumeToken::new(token),
            resumed: false,
            epoch: 1,
            node: String::new(),
            endpoints: Vec::new(),
        };
        let shown = format!("{opening:?} {welcome:?}");
        for canary in ["202", "caca", "CA"] {
            assert!(!shown.contains(canary), "{shown}");
        }
    }
}
