//! The calls about leases, over whichever node answers; generated types end here.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};

use super::words::{
    Acquire, LeaseChange, LeaseEntry, LeaseError, LeaseList, LeaseOwner, LeaseWatched,
};
use crate::client::connect::{self, reason, status_reason};
use crate::client::driver::Whereabouts;
use crate::client::message::ServerError;
use crate::client::session::CONNECT_MAX;
use crate::supervise::Clock;
use crate::tls::ClientTls;
use crate::types::Time;
use crate::wire::v1;
use crate::wire::v1::control_client::ControlClient;

const CODE_KEY: &str = "waxwing-code";
/// 10,000 leases with the longest names and notes.
const ANSWER_LEN_MAX: usize = 16 << 20;
/// How long an answer may take where nothing else is said.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Where nodes are, and how one is let in.
#[derive(Debug)]
pub(in crate::client) struct Ways {
    pub(in crate::client) addresses: Vec<String>,
    pub(in crate::client) metadata: HeaderMap,
    pub(in crate::client) tls: Option<ClientTls>,
}

/// As whom leases are held.
#[derive(Debug, Clone)]
pub(super) enum Holder {
    Owner(LeaseOwner),
    /// The session of this client, as far as it is attached.
    Session,
}

#[derive(Debug)]
pub(super) struct Calls {
    ways: Arc<Ways>,
    /// Of the client whose session it is.
    whereabouts: Option<Arc<Mutex<Whereabouts>>>,
    pub(super) clock: Clock,
    /// The node that answered last.
    last: Mutex<Option<(String, Channel)>>,
}

pub(super) enum Answered {
    Granted { token: u64, sent: Time },
    Busy(LeaseEntry),
}

/// What came of asking one node.
enum Failed {
    /// Another node won't say otherwise.
    Refused(LeaseError),
    Passing(String),
}

impl Calls {
    pub(super) fn new(ways: Arc<Ways>, whereabouts: Option<Arc<Mutex<Whereabouts>>>) -> Self {
        Self { ways, whereabouts, clock: Clock::new(), last: Mutex::default() }
    }

    pub(super) fn has_session(&self) -> bool {
        self.whereabouts.is_some()
    }

    pub(super) async fn acquire(
        &self,
        ask: &Acquire,
        holder: &Holder,
        wait: Duration,
    ) -> Result<Answered, LeaseError> {
        let within = ANSWER_MAX + wait;
        let (answer, sent) = self
            .ask_where_it_is(holder, within, |mut client, proof| {
                let request = v1::AcquireLeaseRequest {
                    name: ask.name.clone(),
                    ttl: prost_types::Duration::try_from(ask.ttl).ok(),
                    session: proof.session,
                    owner: proof.owner,
                    note: ask.note.clone(),
                    wait: prost_types::Duration::try_from(wait).ok().filter(|_| !wait.is_zero()),
                };
                async move { client.acquire_lease(self.request(request)).await }
            })
            .await?;
        Ok(if answer.granted {
            Answered::Granted { token: answer.token, sent }
        } else {
            let held = answer.held.unwrap_or_default();
            let name = ask.name.clone();
            let entry = LeaseEntry::from(held);
            Answered::Busy(LeaseEntry { name, token: entry.token.max(answer.token), ..entry })
        })
    }

    /// When the renewal that succeeded was sent.
    pub(super) async fn renew(
        &self,
        name: &str,
        holder: &Holder,
        token: u64,
        ttl: Option<Duration>,
        within: Duration,
    ) -> Result<Time, LeaseError> {
        let asked = self.ask(holder, within, |mut client, proof| {
            let request = v1::RenewLeaseRequest {
                name: name.to_owned(),
                session: proof.session,
                owner: proof.owner,
                token,
                ttl: ttl.and_then(|ttl| prost_types::Duration::try_from(ttl).ok()),
            };
            async move { client.renew_lease(self.request(request)).await }
        });
        let (_, sent) = asked.await?;
        Ok(sent)
    }

    pub(super) async fn release(
        &self,
        name: &str,
        holder: &Holder,
        token: u64,
    ) -> Result<(), LeaseError> {
        let asked = self.ask(holder, ANSWER_MAX, |mut client, proof| {
            let request = v1::ReleaseLeaseRequest {
                name: name.to_owned(),
                session: proof.session,
                owner: proof.owner,
                token,
            };
            async move { client.release_lease(self.request(request)).await }
        });
        asked.await.map(drop)
    }

    pub(super) async fn list(&self, prefix: &str, limit: u32) -> Result<LeaseList, LeaseError> {
        let (answer, _) = self
            .ask_anybody(ANSWER_MAX, |mut client| {
                let request = v1::ListLeasesRequest { prefix: prefix.to_owned(), limit };
                async move { client.list_leases(self.request(request)).await }
            })
            .await?;
        let leases = answer.leases.into_iter().map(LeaseEntry::from).collect();
        Ok(LeaseList { leases, total: answer.total })
    }

    pub(super) async fn watch(&self, watched: &LeaseWatched) -> Result<Changes, LeaseError> {
        let (prefix, name) = match watched {
            LeaseWatched::Name(name) => ("", name.as_str()),
            LeaseWatched::Prefix(prefix) => (prefix.as_str(), ""),
        };
        let (stream, _) = self
            .ask_anybody(ANSWER_MAX, |mut client| {
                let request =
                    v1::WatchLeasesRequest { prefix: prefix.to_owned(), name: name.to_owned() };
                async move { client.watch_leases(self.request(request)).await }
            })
            .await?;
        Ok(Changes(stream))
    }

    async fn ask<T, F>(
        &self,
        holder: &Holder,
        within: Duration,
        call: impl Fn(ControlClient<Channel>, Proof) -> F,
    ) -> Result<(T, Time), LeaseError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let proof = match holder {
            Holder::Owner(owner) => Proof { owner: owner.0.clone(), session: Bytes::new() },
            Holder::Session => {
                let token = self.whereabouts.as_ref().map(|at| at.lock().token.clone());
                Proof { owner: Bytes::new(), session: token.unwrap_or_default().0 }
            }
        };
        self.ask_anybody(within, |client| call(client, proof.clone())).await
    }

    /// What only the node can do that has the session, where it is a session's.
    async fn ask_where_it_is<T, F>(
        &self,
        holder: &Holder,
        within: Duration,
        call: impl Fn(ControlClient<Channel>, Proof) -> F,
    ) -> Result<(T, Time), LeaseError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let Holder::Session = holder else { return self.ask(holder, within, call).await };
        let at = self.whereabouts.as_ref().map(|at| {
            let at = at.lock();
            (at.attached.clone(), at.token.clone())
        });
        let Some((Some(address), token)) = at else {
            return Err(LeaseError::NotNow("the session is between two nodes".to_owned()));
        };
        let proof = Proof { owner: Bytes::new(), session: token.0 };
        let asked = self.ask_one(&address, within, |client| call(client, proof.clone())).await;
        asked.map_err(|failed| match failed {
            Failed::Refused(error) => error,
            Failed::Passing(why) => LeaseError::NotNow(format!("{address}: {why}")),
        })
    }

    /// Each node that is known in turn, from the one that answered last.
    async fn ask_anybody<T, F>(
        &self,
        within: Duration,
        call: impl Fn(ControlClient<Channel>) -> F,
    ) -> Result<(T, Time), LeaseError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut tried = Vec::new();
        for address in self.addresses() {
            match self.ask_one(&address, within, &call).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Refused(error)) => return Err(error),
                Err(Failed::Passing(why)) => tried.push(format!("{address}: {why}")),
            }
        }
        Err(LeaseError::NotNow(tried.join("; ")))
    }

    fn addresses(&self) -> Vec<String> {
        let last = self.last.lock().as_ref().map(|(address, _)| address.clone());
        let known = self.whereabouts.as_ref().map(|at| at.lock().endpoints.clone());
        let mut all: Vec<String> = Vec::new();
        let configured = self.ways.addresses.iter().cloned();
        for address in last.into_iter().chain(known.into_iter().flatten()).chain(configured) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }

    async fn ask_one<T, F>(
        &self,
        address: &str,
        within: Duration,
        call: impl Fn(ControlClient<Channel>) -> F,
    ) -> Result<(T, Time), Failed>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let asking = async {
            let channel = self.channel(address).await.map_err(Failed::Passing)?;
            let client = ControlClient::new(channel).max_decoding_message_size(ANSWER_LEN_MAX);
            let sent = self.clock.now();
            let answer = call(client).await.map_err(|status| judged(&status))?;
            Ok((answer.into_inner(), sent))
        };
        let asked = tokio::time::timeout(within, asking).await;
        let asked = asked.unwrap_or_else(|_| {
            let within = humantime::format_duration(within);
            Err(Failed::Passing(format!("no answer within {within}")))
        });
        if let Err(Failed::Passing(_)) = asked {
            // The next try begins with another node, over another connection.
            self.last.lock().take_if(|(last, _)| last == address);
        }
        asked
    }

    async fn channel(&self, address: &str) -> Result<Channel, String> {
        let last = self.last.lock().clone();
        if let Some((_, channel)) = last.filter(|(last, _)| last == address) {
            return Ok(channel);
        }
        let endpoint =
            connect::endpoint(address, CONNECT_MAX).map_err(|error| error.to_string())?;
        let channel = connect::channel(&endpoint, self.ways.tls.as_ref());
        let channel = channel.await.map_err(|err| reason(&err))?;
        *self.last.lock() = Some((address.to_owned(), channel.clone()));
        Ok(channel)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = MetadataMap::from_headers(self.ways.metadata.clone());
        request
    }
}

#[derive(Clone)]
struct Proof {
    owner: Bytes,
    session: Bytes,
}

/// A watch on one node.
#[derive(Debug)]
pub(super) struct Changes(Streaming<v1::LeaseEvent>);

impl Changes {
    /// `Ok(None)`: it has ended, and may be opened again.
    pub(super) async fn next(&mut self) -> Result<Option<LeaseChange>, LeaseError> {
        loop {
            let event = match self.0.message().await {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(None),
                Err(status) => {
                    return match judged(&status) {
                        Failed::Refused(error) => Err(error),
                        Failed::Passing(_) => Ok(None),
                    };
                }
            };
            return Ok(Some(match event.kind {
                Some(v1::lease_event::Kind::Held(info)) => LeaseChange::Held(info.into()),
                Some(v1::lease_event::Kind::Free(name)) => LeaseChange::Free(name),
                Some(v1::lease_event::Kind::Current(_)) => LeaseChange::Current,
                // Of a newer node.
                None => continue,
            }));
        }
    }
}

fn judged(status: &Status) -> Failed {
    let code = status.metadata().get(CODE_KEY).and_then(|code| code.to_str().ok());
    let code = code.unwrap_or_default();
    if code == "not_held" {
        return Failed::Refused(LeaseError::NotHeld);
    }
    let message = status_reason(status);
    let is_final = match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::OutOfRange
        | Code::Unimplemented => true,
        Code::ResourceExhausted => code == "control_full",
        // A failed precondition too: that a session is elsewhere, or of a newer epoch, holds only until the client knows it.
        _ => false,
    };
    if is_final {
        let code = if code.is_empty() { status.code().to_string() } else { code.to_owned() };
        return Failed::Refused(ServerError { code, message, hint: String::new() }.into());
    }
    Failed::Passing(if code.is_empty() { message } else { format!("{message} ({code})") })
}

impl From<v1::LeaseInfo> for LeaseEntry {
    fn from(info: v1::LeaseInfo) -> Self {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let since = info.since.unwrap_or_default();
        let since_ms = since.seconds.max(0) as u64 * 1_000 + since.nanos.max(0) as u64 / 1_000_000;
        Self {
            namespace: info.namespace,
            name: info.name,
            token: info.token,
            ttl: info.ttl.and_then(|ttl| ttl.try_into().ok()).unwrap_or_default(),
            note: info.note,
            since_ms,
            session_id: some(info.session_id),
            node: some(info.node),
            state: info.state,
        }
    }
}
