//! What a client asks, command by command. Runs of publishes to one channel are one batch, and runs of subscribes share one wait.

mod looks;

use std::net::SocketAddr;

use bytes::Bytes;
use subtle::ConstantTimeEq as _;

use super::about::{Figures, NodeAbout, OfNode};
use super::clients::Card;
use super::connection::{Connection, Seat, limits_of};
use super::frame::{Arguments, Command, Parsed};
use super::input::Input;
use super::print::Printer;
use super::session::{Act, Around, KillAsked, Kind};
use super::{RespDeps, Shared};
use crate::broker::{Asked, BrokerError, Ending, Pass, PublishOptions};
use crate::config::{Limits, Secret};
use crate::metrics::names;
use crate::pubsub::resp::put_decimal;
use crate::pubsub::{Messages, Resp, Span};
use crate::router::Confirm;
use crate::types::topic::BadTopic;
use crate::types::{Namespace, Pattern, Time, Topic};

/// Answers are handed on when there are so many bytes of them, or when nothing else is to be done.
const ANSWERS_BYTES_MAX: usize = 64 << 10;

/// A line of a client's is logged no longer than this.
const LOGGED_LEN_MAX: usize = 256;

/// What has been understood of one read, and is done together.
#[derive(Debug)]
enum Group {
    None,
    Publishes(Run),
    Subscribes { asked: Asked, acknowledged: Vec<u8> },
}

/// Consecutive publishes to one channel.
#[derive(Debug)]
struct Run {
    sharded: bool,
    channel: Vec<u8>,
    payloads: Vec<u8>,
    spans: Vec<Span>,
    /// How many of them want an answer.
    answers: usize,
}

impl Run {
    /// `behind`: bytes that have come after it, and may all belong to this run.
    fn add(&mut self, payload: &[u8], wants_answer: bool, behind: usize) {
        if !self.spans.is_empty() && self.payloads.len() + payload.len() > self.payloads.capacity()
        {
            self.payloads.reserve(payload.len() + behind);
        }
        let at = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let start = at(self.payloads.len());
        self.payloads.extend_from_slice(payload);
        self.spans.push(Span { payload: start..at(self.payloads.len()), fields: 0..0 });
        self.answers += usize::from(wants_answer);
    }
}

/// One read's worth of talk.
struct Talk<'a> {
    connection: &'a mut Connection,
    group: Group,
    answers: Vec<u8>,
    limits: std::sync::Arc<Limits>,
    now: Time,
    /// A receiver of ours is over half full, and drains.
    slow: Option<std::sync::Arc<crate::pubsub::Mailbox>>,
}

impl Connection {
    /// Does what is asked in `input`, as far as it is whole.
    pub(super) async fn talk(&mut self, input: &mut Input) -> Result<(), Ending> {
        let limits = match &self.seat {
            Some(seat) => seat.attachment.limits(),
            None => self.shared.deps.limits.get(),
        };
        let now = self.shared.deps.clock.now();
        let mut talk = Talk {
            connection: self,
            group: Group::None,
            answers: Vec::new(),
            limits,
            now,
            slow: None,
        };
        let talked = talk.all(input).await;
        let settled = match talked {
            Ok(()) => talk.settle().await,
            Err(ending) => Err(ending),
        };
        let Talk { answers, slow, .. } = talk;
        let is_roomy = self.say(answers);
        self.show(now);
        settled?;
        let Some(seat) = &self.seat else { return Ok(()) };
        if let Some(slow) = slow {
            let pace = seat.attachment.pace(slow);
            self.wait(pace).await?;
        } else if !is_roomy {
            let room = seat.attachment.room();
            self.wait(room).await?;
        }
        Ok(())
    }

    /// Lets others see what has changed.
    fn show(&self, now: Time) {
        let Some(seat) = &self.seat else { return };
        let mut seen = self.card.seen.lock();
        seen.at = now;
        let shown = self.session.shown();
        if seen.shown != *shown {
            if (seen.shown.name(), seen.shown.lib_name()) != (shown.name(), shown.lib_name()) {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let client = match (text(shown.name()), text(shown.lib_name())) {
                    (name, library) if library.is_empty() => name,
                    (name, library) if name.is_empty() => library,
                    (name, library) => format!("{name} ({library})"),
                };
                seat.attachment.set_client(&client);
            }
            seen.shown = shown.clone();
        }
    }
}

impl Talk<'_> {
    async fn all(&mut self, input: &mut Input) -> Result<(), Ending> {
        let mut arguments = Arguments::default();
        loop {
            let is_stranger = self.connection.session.is_stranger();
            let (limits, bytes_max) = limits_of(is_stranger, &self.limits);
            let unread = input.unread();
            if unread.is_empty() {
                return Ok(());
            }
            let bytes = match arguments.parse(unread, &limits) {
                Ok(Parsed::Command(bytes)) if bytes <= bytes_max => bytes,
                Ok(Parsed::Command(bytes) | Parsed::Partial(bytes)) if bytes > bytes_max => {
                    metrics::counter!(names::LIMIT_REJECTIONS, "limit" => "frame").increment(1);
                    return self.break_off("too big a command".to_owned()).await;
                }
                Ok(_) => return Ok(()),
                Err(error) => return self.break_off(error.to_string()).await,
            };
            let command = arguments.command(unread);
            if self.joins_run(command, unread.len() - bytes) {
                // Most of a busy publisher's commands: done without a step of the async machinery.
            } else if command.len() > 0 {
                self.one(command, unread.len() - bytes).await?;
            }
            input.consume(bytes);
            if self.answers.len() >= ANSWERS_BYTES_MAX {
                self.settle().await?;
                self.flush().await?;
            }
        }
    }

    /// What the client sent is no command: it is told so, and nothing behind it counts.
    async fn break_off(&mut self, why: String) -> Result<(), Ending> {
        self.settle().await?;
        Printer::new(&mut self.answers, Resp::Two).error(&format!("ERR Protocol error: {why}"));
        Err(Ending::Malformed(why))
    }

    /// Hands the answers on, and waits until there may be more.
    async fn flush(&mut self) -> Result<(), Ending> {
        let answers = std::mem::take(&mut self.answers);
        if !self.connection.say(answers)
            && let Some(seat) = &self.connection.seat
        {
            let room = seat.attachment.room();
            self.connection.wait(room).await?;
        }
        Ok(())
    }

    async fn one(&mut self, command: Command<'_>, behind: usize) -> Result<(), Ending> {
        if let Some(sharded) = publish_of(command)
            && self.connection.session.may_publish()
        {
            let wants_answer = self.connection.session.begin();
            return self.publish(sharded, command, wants_answer, behind).await;
        }
        // Subscribes wait together; anything else waits for them.
        let act = {
            if !(matches!(self.group, Group::Subscribes { .. }) && is_subscribe(command)) {
                self.settle().await?;
            }
            let Connection { session, shared, card, seat, .. } = &mut *self.connection;
            let before = (session.resp(), self.answers.len());
            let around = Surroundings::of(shared, card, seat.as_deref());
            let act = session.handle(command, &around, &mut self.answers);
            if session.resp() != before.0 {
                // What waits was pushed before the answer.
                let answer = self.answers.split_off(before.1);
                self.flush().await?;
                self.connection.settle_protocol();
                self.answers = answer;
            }
            act
        };
        if let Some(refused) = self.refusal(&act) {
            self.refuse(&refused);
            return Ok(());
        }
        match act {
            Act::Done => {}
            Act::Enter(pass) => self.enter(pass).await?,
            Act::Quit => {
                return Err(Ending::Bye);
            }
            Act::Publish { sharded } => self.publish(sharded, command, true, behind).await?,
            Act::Subscribe(kind) => self.subscribe(kind, command).await?,
            Act::Unsubscribe(kind) => self.unsubscribe(kind, command)?,
            Act::Reset => self.reset()?,
            Act::Channels { sharded } => self.channels(sharded, command).await?,
            Act::Subscribers { sharded } => self.subscribers(sharded, command).await?,
            Act::Patterns => self.patterns().await?,
            Act::ClientInfo => {
                let card = self.connection.card.clone();
                card.seen.lock().shown = self.connection.session.shown().clone();
                let line = card.line(self.now);
                self.say(|printer| printer.text(&line));
            }
            Act::ClientList(filter) => {
                self.connection.show(self.now);
                let cards = self.connection.shared.clients.find(&filter);
                let lines: String = cards.iter().map(|card| card.line(self.now)).collect();
                self.say(|printer| printer.text(&lines));
            }
            Act::ClientKill(asked) => self.kill(asked).await?,
        }
        Ok(())
    }

    fn say(&mut self, answer: impl FnOnce(&mut Printer<'_>)) {
        self.connection.session.say(&mut self.answers, answer);
    }

    fn refuse(&mut self, error: &BrokerError) {
        let text = error_text(error);
        self.connection.session.say_error(&mut self.answers, &text);
    }

    /// Other clients are the business of who may look at, or rule, the node.
    fn refusal(&self, act: &Act) -> Option<BrokerError> {
        let pass = &self.connection.seat.as_ref()?.pass;
        let may = match act {
            Act::ClientKill(_) => pass.may_rule(),
            Act::ClientList(_) => pass.may_observe(),
            _ => return None,
        };
        may.err()
    }

    async fn enter(&mut self, pass: Pass) -> Result<(), Ending> {
        if let Err(ending) = self.connection.enter(pass).await {
            // It is told that, and not that it is welcome.
            self.answers.clear();
            return Err(ending);
        }
        Ok(())
    }

    /// Does what has been put together.
    async fn settle(&mut self) -> Result<(), Ending> {
        match std::mem::replace(&mut self.group, Group::None) {
            Group::None => Ok(()),
            Group::Publishes(run) => self.send(run).await,
            Group::Subscribes { asked, acknowledged } => {
                self.flush().await?;
                let Some(seat) = &self.connection.seat else { return Ok(()) };
                let confirmed = seat.attachment.confirmed(asked);
                let (asked, confirmed) = self.connection.wait(confirmed).await?;
                if let Some(seat) = &self.connection.seat {
                    seat.attachment.activate(asked, &confirmed, Bytes::from(acknowledged));
                }
                Ok(())
            }
        }
    }

    async fn publish(
        &mut self,
        sharded: bool,
        command: Command<'_>,
        wants_answer: bool,
        behind: usize,
    ) -> Result<(), Ending> {
        let (channel, payload) = (command.get(1), command.get(2));
        // What the node takes from nobody has ended the connection already: this is over its namespace's quota.
        if payload.len() > self.limits.payload {
            self.settle().await?;
            let error =
                BrokerError::PayloadTooLarge { size: payload.len(), max: self.limits.payload };
            error.count();
            if wants_answer {
                Printer::new(&mut self.answers, Resp::Two).error(&error_text(&error));
            }
            return Ok(());
        }
        let fits = matches!(&self.group, Group::Publishes(run) if run.sharded == sharded && run.channel == channel);
        if !fits {
            self.settle().await?;
            let run = Run {
                sharded,
                channel: channel.to_vec(),
                payloads: Vec::with_capacity(payload.len()),
                spans: Vec::new(),
                answers: 0,
            };
            self.group = Group::Publishes(run);
        }
        if let Group::Publishes(run) = &mut self.group {
            run.add(payload, wants_answer, behind);
        }
        Ok(())
    }

    /// A publish to the channel of those before it is put to them. False: it is none, and nothing has happened.
    fn joins_run(&mut self, command: Command<'_>, behind: usize) -> bool {
        let Group::Publishes(run) = &mut self.group else { return false };
        let joins = publish_of(command) == Some(run.sharded)
            && run.channel == command.get(1)
            && command.get(2).len() <= self.limits.payload
            && self.connection.session.may_publish();
        if joins {
            let wants_answer = self.connection.session.begin();
            run.add(command.get(2), wants_answer, behind);
        }
        joins
    }

    /// One batch. The answers count the whole cluster.
    async fn send(&mut self, run: Run) -> Result<(), Ending> {
        let Run { sharded, channel, mut payloads, spans, answers } = run;
        let shared = self.connection.shared.clone();
        if !shared.deps.broker.is_ready() {
            self.connection.wait(shared.deps.broker.until_ready()).await?;
        }
        let published = match self.topic(sharded, &channel) {
            Err(error) => Err(BrokerError::from(error)),
            Ok(topic) => {
                if payloads.capacity() > payloads.len() + payloads.len() / 2 + 512 {
                    payloads.shrink_to_fit();
                }
                let count = spans.len() as u64;
                let messages = Messages::new(payloads.into(), spans);
                self.hand_on(topic, messages, count).await?
            }
        };
        match published {
            Err(error) => {
                error.count();
                let text = error_text(&error);
                for _ in 0..answers {
                    Printer::new(&mut self.answers, Resp::Two).error(&text);
                }
            }
            Ok(subscriptions) => {
                let mut answer = Vec::with_capacity(24);
                answer.push(b':');
                put_decimal(&mut answer, subscriptions);
                answer.extend_from_slice(b"\r\n");
                self.answers.reserve(answer.len() * answers);
                for _ in 0..answers {
                    self.answers.extend_from_slice(&answer);
                }
            }
        }
        Ok(())
    }

    async fn hand_on(
        &mut self,
        topic: Topic,
        messages: Messages,
        count: u64,
    ) -> Result<Result<u64, BrokerError>, Ending> {
        let shared = self.connection.shared.clone();
        let Some(seat) = &self.connection.seat else {
            return Ok(Err(BrokerError::Invalid("not authenticated".to_owned())));
        };
        let options = PublishOptions { confirm: Confirm::None, ..PublishOptions::default() };
        let handed_on = match seat.attachment.publish(topic, messages, options, self.now) {
            Ok(handed_on) => handed_on,
            Err(error) => return Ok(Err(error)),
        };
        shared.deps.status.count_published_by_redis(count);
        match self.connection.wait(handed_on).await? {
            Err(error) => Ok(Err(error.into())),
            Ok(mut handed_on) => {
                if let Some(slow) = handed_on.take_slow() {
                    self.slow = Some(slow);
                }
                // Nobody is waited for.
                Ok(Ok(handed_on.confirmed().await.subscriptions))
            }
        }
    }

    /// Whoever has no seat asks nothing that could tell.
    fn namespace(&self, sharded: bool) -> &Namespace {
        let Connection { seat, shared, .. } = &*self.connection;
        let of_nobody = if sharded { &shared.sharded } else { &shared.channels };
        seat.as_ref().map_or(of_nobody, |seat| seat.namespace(sharded))
    }

    fn topic(&self, sharded: bool, name: &[u8]) -> Result<Topic, BadTopic> {
        let shared = &self.connection.shared;
        let namespace = self.namespace(sharded);
        shared.deps.router.hasher().binary_topic(namespace, name, self.limits.topic)
    }

    fn pattern(&self, glob: &[u8]) -> Result<Pattern, BadTopic> {
        Pattern::binary(self.namespace(false), glob, self.limits.topic)
    }

    /// All names are judged before anything is done.
    fn names(
        &self,
        kind: Kind,
        command: Command<'_>,
    ) -> Result<(Vec<Topic>, Vec<Pattern>), BrokerError> {
        let (mut topics, mut patterns) = (Vec::new(), Vec::new());
        for name in command.from(1) {
            match kind {
                Kind::Pattern => patterns.push(self.pattern(name)?),
                Kind::Channel => topics.push(self.topic(false, name)?),
                Kind::Sharded => topics.push(self.topic(true, name)?),
            }
        }
        Ok((topics, patterns))
    }

    async fn subscribe(&mut self, kind: Kind, command: Command<'_>) -> Result<(), Ending> {
        let Some(seat) = &self.connection.seat else { return Ok(()) };
        let asked = self.names(kind, command).inspect_err(BrokerError::count);
        let asked =
            asked.and_then(|(topics, patterns)| seat.attachment.subscribe_made(topics, patterns));
        let asked = match asked {
            Ok(asked) => asked,
            Err(error) => {
                // It stands behind the acknowledgements of those before it.
                self.settle().await?;
                self.refuse(&error);
                return Ok(());
            }
        };
        let group = std::mem::replace(&mut self.group, Group::None);
        let (before, mut acknowledged) = match group {
            Group::Subscribes { asked, acknowledged } => (Some(asked), acknowledged),
            Group::None | Group::Publishes(_) => (None, Vec::new()),
        };
        for ((name, result), is_new) in command.from(1).zip(&asked.results).zip(&asked.is_new) {
            match result {
                Ok(()) => {
                    self.connection.session.subscribed(kind, name, *is_new, &mut acknowledged);
                }
                Err(error) => Printer::new(&mut acknowledged, Resp::Two).error(&error_text(error)),
            }
        }
        let asked = match before {
            Some(mut before) => {
                before.join(asked);
                before
            }
            None => asked,
        };
        self.group = Group::Subscribes { asked, acknowledged };
        Ok(())
    }

    fn unsubscribe(&mut self, kind: Kind, command: Command<'_>) -> Result<(), Ending> {
        let Some(seat) = &self.connection.seat else { return Ok(()) };
        let named = command.len() > 1;
        let names = if named { self.names(kind, command) } else { Ok(all_of(seat, kind)) };
        let ended = names.and_then(|(topics, patterns)| {
            let were = seat.attachment.unsubscribe_made(&topics, &patterns)?;
            Ok((topics, patterns, were))
        });
        let (topics, patterns, were) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                self.refuse(&error);
                return Ok(());
            }
        };
        let names = topics.iter().map(Topic::name).chain(patterns.iter().map(|one| &*one.glob));
        let session = &mut self.connection.session;
        for (name, was_there) in names.zip(&were) {
            session.unsubscribed(kind, Some(name), *was_there, &mut self.answers);
        }
        if were.is_empty() {
            session.unsubscribed(kind, None, false, &mut self.answers);
        }
        Ok(())
    }

    fn reset(&mut self) -> Result<(), Ending> {
        if let Some(seat) = &self.connection.seat {
            let (topics, patterns) = (seat.attachment.topics(), seat.attachment.patterns());
            if let Err(error) = seat.attachment.unsubscribe_made(&topics, &patterns) {
                self.refuse(&error);
                return Ok(());
            }
        }
        let Connection { session, shared, card, seat, .. } = &mut *self.connection;
        let resp = session.resp();
        let around = Surroundings::of(shared, card, seat.as_deref());
        let mut answer = Vec::new();
        session.is_reset(&around, &mut answer);
        if resp != Resp::Two {
            let answers = std::mem::take(&mut self.answers);
            self.connection.say(answers);
            self.connection.settle_protocol();
        }
        self.answers.extend_from_slice(&answer);
        Ok(())
    }

    async fn kill(&mut self, asked: KillAsked) -> Result<(), Ending> {
        let KillAsked { filter, is_old_form } = asked;
        let cards = self.connection.shared.clients.find(&filter);
        let own = self.connection.card.id;
        let mut killed: u64 = 0;
        let mut kills_itself = false;
        for card in &cards {
            if card.id == own {
                killed += 1;
                kills_itself = true;
                continue;
            }
            let broker = self.connection.shared.deps.broker.clone();
            let id = card.seen.lock().session.to_string();
            let kill = async move { broker.kill(&id).await };
            killed += u64::from(self.connection.wait(kill).await?.is_ok());
        }
        self.say(|printer| match (is_old_form, killed) {
            (true, 0) => printer.error("ERR No such client"),
            (true, _) => printer.ok(),
            (false, killed) => printer.integer(killed),
        });
        if kills_itself { Err(Ending::Killed) } else { Ok(()) }
    }
}

fn all_of(seat: &Seat, kind: Kind) -> (Vec<Topic>, Vec<Pattern>) {
    match kind {
        Kind::Pattern => (Vec::new(), seat.attachment.patterns()),
        Kind::Channel | Kind::Sharded => {
            let sharded = kind == Kind::Sharded;
            let mut topics = seat.attachment.topics();
            topics.retain(|topic| topic.namespace().is_sharded() == sharded);
            (topics, Vec::new())
        }
    }
}

/// A publish with as many arguments as it has; whether to a sharded channel.
fn publish_of(command: Command<'_>) -> Option<bool> {
    let name = command.get(0);
    match name.len() {
        _ if command.len() != 3 => None,
        7 => name.eq_ignore_ascii_case(b"publish").then_some(false),
        8 => name.eq_ignore_ascii_case(b"spublish").then_some(true),
        _ => None,
    }
}

fn is_subscribe(command: Command<'_>) -> bool {
    let name = command.get(0);
    command.len() > 1
        && [&b"subscribe"[..], b"psubscribe", b"ssubscribe"]
            .iter()
            .any(|one| name.eq_ignore_ascii_case(one))
}

fn error_text(error: &BrokerError) -> String {
    let kind = match error {
        BrokerError::NotAdmitted(_) => "NOAUTH",
        BrokerError::Forbidden(_) | BrokerError::OtherNamespace => "NOPERM",
        _ => "ERR",
    };
    match error.hint() {
        "" => format!("{kind} {error}"),
        hint => format!("{kind} {error}; {hint}"),
    }
}

struct Surroundings<'a> {
    shared: &'a Shared,
    local: SocketAddr,
    pass: Option<&'a Pass>,
}

impl<'a> Surroundings<'a> {
    fn of(shared: &'a Shared, card: &Card, seat: Option<&'a Seat>) -> Self {
        Self { shared, local: card.local(), pass: seat.map(|seat| &seat.pass) }
    }
}

impl Around for Surroundings<'_> {
    fn is_locked(&self) -> bool {
        self.shared.is_locked()
    }

    /// Where there are keys, the user is the key's namespace; Redis's default user is nobody in particular.
    fn let_in(&self, user: &[u8], secret: &[u8]) -> Option<Pass> {
        let RespDeps { broker, config, .. } = &self.shared.deps;
        let user = String::from_utf8_lossy(user);
        let user = Some(&*user).filter(|user| *user != "default");
        if broker.door().is_locked() {
            let said = user.map(Namespace::parse).transpose();
            return said
                .ok()
                .and_then(|said| broker.door().admit(super::FRONT, Some(secret), said).ok());
        }
        let wanted = config.password.as_ref().map(Secret::expose);
        if user.is_none() && wanted.is_none_or(|wanted| wanted.ct_eq(secret).into()) {
            return Some(Pass::open(self.shared.channels.clone()));
        }
        metrics::counter!(names::AUTH_FAILURES, "front" => super::FRONT, "reason" => "password")
            .increment(1);
        None
    }

    fn unix_us(&self) -> u64 {
        self.shared.deps.clock.unix_ms() * 1_000
    }

    fn log(&self, line: &str) {
        let short: String = line.chars().take(LOGGED_LEN_MAX).collect();
        tracing::debug!(line = ?short, "a Redis client says");
    }

    fn node(&self) -> NodeAbout {
        let deps = &self.shared.deps;
        NodeAbout {
            name: deps.broker.node().to_string(),
            id: self.shared.id.clone(),
            port: self.local.port(),
            uptime_s: (deps.clock.now() - self.shared.started).as_secs(),
            is_ready: deps.broker.is_ready(),
        }
    }

    /// What the whole node does is told to those who may observe it; to others what is their namespace's own.
    fn figures(&self) -> Figures {
        let deps = &self.shared.deps;
        let clients_max = deps.limits.get().sessions as u64;
        if let Some(here) = self.pass.filter(|it| it.may_observe().is_err()).map(Pass::here) {
            return Figures {
                clients: here.redis,
                clients_max: here.sessions_max.map_or(clients_max, |most| most.min(clients_max)),
                channels: here.topics,
                of_node: None,
            };
        }
        let router = deps.router.report();
        Figures {
            clients: deps.broker.session_counts().redis,
            clients_max,
            channels: router.topics,
            of_node: Some(OfNode {
                patterns: router.patterns,
                published: router.published,
                delivered: router.delivered,
            }),
        }
    }

    fn endpoint(&self) -> (String, u16) {
        (self.local.ip().to_canonical().to_string(), self.local.port())
    }
}
