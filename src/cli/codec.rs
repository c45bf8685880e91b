//! The admin service as plain calls and plain rows; generated types end here.

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::Globals;
use super::connect::{Connection, Credentials, connect, connect_any, timed_out};
use super::failure::Hinted;
use crate::rights::NotAdmitted;
use crate::status::StatusReport;
use crate::wire::v1;
use crate::wire::v1::admin_client::AdminClient;

/// A status of many members with many problems; more is nonsense.
const ANSWER_LEN_MAX: usize = 64 << 20;

/// The admin service of one node.
#[derive(Debug, Clone)]
pub(super) struct Admin {
    client: AdminClient<InterceptedService<Channel, Credentials>>,
    timeout: Duration,
    pub(super) address: String,
}

#[derive(Debug, Serialize)]
pub(super) struct TopicRow {
    pub(super) topic: String,
    pub(super) subscriptions: u64,
    pub(super) local_subscriptions: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) members: Vec<TopicMemberRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) patterns: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct TopicMemberRow {
    pub(super) node: String,
    pub(super) subscriptions: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct SessionRow {
    pub(super) id: String,
    pub(super) node: String,
    pub(super) namespace: String,
    pub(super) front: String,
    pub(super) client: String,
    pub(super) address: String,
    pub(super) state: String,
    pub(super) epoch: u64,
    /// RFC 3339
    pub(super) since: Option<String>,
    pub(super) subscriptions: u32,
    pub(super) mailbox_bytes: u64,
    pub(super) mailbox_limit: u64,
    pub(super) delivered: u64,
    pub(super) dropped: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) topics: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) patterns: Vec<String>,
}

/// One step of a drain.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    pub(super) step: String,
    pub(super) detail: String,
    pub(super) done: bool,
}

/// The steps of a drain as they come.
#[derive(Debug)]
pub(super) struct Steps(Streaming<v1::DrainEvent>);

impl Steps {
    /// None: the drain has ended.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Step>> {
        let event = self.0.message().await.map_err(plain)?;
        Ok(event.map(|v1::DrainEvent { step, detail, done }| Step { step, detail, done }))
    }
}

impl Admin {
    pub(super) async fn connect(globals: &Globals) -> anyhow::Result<Self> {
        Self::over(connect(globals).await?, globals)
    }

    pub(super) async fn at(address: &str, globals: &Globals) -> anyhow::Result<Self> {
        let addresses = [address.to_owned()];
        Self::over(connect_any(&addresses, globals).await?, globals)
    }

    /// The node of this name, by the address that it advertises.
    pub(super) async fn of_member(name: &str, globals: &Globals) -> anyhow::Result<Self> {
        let asked = Self::connect(globals).await?;
        let report = asked.status().await?;
        let Some(member) = report.members.iter().find(|member| member.name == name) else {
            let names: Vec<&str> =
                report.members.iter().map(|member| member.name.as_str()).collect();
            let hint = match crate::config::unknown::closest(name, names.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("its members are {}", names.join(", ")),
            };
            let what = format!("{} knows no member {name:?}", asked.address);
            return Err(Hinted { what, hint }.into());
        };
        if member.me {
            return Ok(asked);
        }
        Self::at(&member.addresses.grpc, globals)
            .await
            .with_context(|| format!("reach {name} where it says it is"))
    }

    fn over(connection: Connection, globals: &Globals) -> anyhow::Result<Self> {
        let credentials = Credentials::of(globals)?;
        let client = AdminClient::with_interceptor(connection.channel, credentials)
            .max_decoding_message_size(ANSWER_LEN_MAX);
        Ok(Self { client, timeout: globals.timeout, address: connection.address })
    }

    pub(super) async fn status(&self) -> anyhow::Result<StatusReport> {
        let mut client = self.client.clone();
        let answer =
            self.within(client.status(v1::StatusRequest {})).await.context("ask status")?;
        serde_json::from_str(&answer.json).context("read status")
    }

    /// The names of the members seen after it.
    pub(super) async fn join(&self, seeds: Vec<String>) -> anyhow::Result<Vec<String>> {
        let mut client = self.client.clone();
        let answer = self.within(client.join(v1::JoinRequest { seeds })).await.context("join")?;
        Ok(answer.joined)
    }

    pub(super) async fn drain(&self, grace: Duration) -> anyhow::Result<Steps> {
        let mut client = self.client.clone();
        let grace = prost_types::Duration::try_from(grace).ok();
        let request = v1::DrainRequest { node: String::new(), grace };
        Ok(Steps(self.within(client.drain(request)).await.context("drain")?))
    }

    pub(super) async fn leave(&self) -> anyhow::Result<()> {
        let mut client = self.client.clone();
        let request = v1::LeaveRequest { node: String::new() };
        self.within(client.leave(request)).await.context("leave")?;
        Ok(())
    }

    /// The level before.
    pub(super) async fn set_log_level(
        &self,
        level: String,
        for_time: Option<Duration>,
    ) -> anyhow::Result<String> {
        let mut client = self.client.clone();
        let for_time = for_time.and_then(|time| prost_types::Duration::try_from(time).ok());
        let request = v1::SetLogLevelRequest { level, for_time };
        Ok(self.within(client.set_log_level(request)).await.context("set log level")?.before)
    }

    /// Those asked for, and whether there are more.
    pub(super) async fn topics(
        &self,
        prefix: String,
        limit: u32,
    ) -> anyhow::Result<(Vec<TopicRow>, bool)> {
        let mut client = self.client.clone();
        let request = v1::ListTopicsRequest { prefix, limit };
        let answer = self.within(client.list_topics(request)).await.context("list topics")?;
        Ok((answer.topics.into_iter().map(topic_row).collect(), answer.more))
    }

    pub(super) async fn topic(&self, topic: String) -> anyhow::Result<TopicRow> {
        let mut client = self.client.clone();
        let request = v1::DescribeTopicRequest { topic };
        Ok(topic_row(self.within(client.describe_topic(request)).await.context("describe topic")?))
    }

    /// Those asked for, and how many there are in all.
    pub(super) async fn sessions(
        &self,
        slow: bool,
        front: String,
        limit: u32,
    ) -> anyhow::Result<(Vec<SessionRow>, u64)> {
        let mut client = self.client.clone();
        let request = v1::ListSessionsRequest { slow, front, limit };
        let answer = self.within(client.list_sessions(request)).await.context("list sessions")?;
        Ok((answer.sessions.into_iter().map(session_row).collect(), answer.total))
    }

    pub(super) async fn session(&self, id: String) -> anyhow::Result<SessionRow> {
        let mut client = self.client.clone();
        let request = v1::DescribeSessionRequest { id };
        Ok(session_row(
            self.within(client.describe_session(request)).await.context("describe session")?,
        ))
    }

    pub(super) async fn kill_session(&self, id: String) -> anyhow::Result<()> {
        let mut client = self.client.clone();
        let request = v1::KillSessionRequest { id };
        self.within(client.kill_session(request)).await.context("kill session")?;
        Ok(())
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> anyhow::Result<T> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(answer) => Ok(answer.map_err(plain)?.into_inner()),
            Err(_) => anyhow::bail!("{}: {}", self.address, timed_out(self.timeout)),
        }
    }
}

/// Does the node serve? By the standard health service, which needs no key.
pub(super) async fn is_serving(connection: Connection, timeout: Duration) -> anyhow::Result<bool> {
    let mut client = HealthClient::new(connection.channel);
    let request = HealthCheckRequest { service: String::new() };
    match tokio::time::timeout(timeout, client.check(request)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner().status() == ServingStatus::Serving),
        Ok(Err(status)) => Err(plain(status)),
        Err(_) => anyhow::bail!("{}: {}", connection.address, timed_out(timeout)),
    }
}

pub(super) const OTHER_PORT: &str = "is this the gRPC port? it is 7400 by default; 7401 is for peers, 7402 for HTTP, 7403 for Redis clients. Does it speak TLS? then: --tls-ca FILE";

pub(super) const GIVE_KEY: &str = "give a key: --key-file FILE, or WAXWING_KEY";

pub(super) const CHECK_TOKEN: &str =
    "see what it says: waxwing token inspect TOKEN_FILE --file access.toml";

/// Made here, not by a node: the connection broke, or spoke no gRPC.
fn is_of_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// An answer's error in words; the code only where the words are missing.
#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
pub(super) fn plain(status: Status) -> anyhow::Error {
    let words = match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    };
    let hint = match status.code() {
        Code::Unauthenticated if words.contains(&NotAdmitted::BadToken.to_string()) => CHECK_TOKEN,
        Code::Unauthenticated => GIVE_KEY,
        // What stands behind HTTP's port and the peers' has other words, which tonic can't read.
        Code::Unimplemented if status.message().is_empty() => OTHER_PORT,
        Code::Unknown | Code::Unavailable | Code::Internal | Code::Cancelled
            if is_of_transport(&status) =>
        {
            OTHER_PORT
        }
        Code::Unimplemented => "is this a Waxwing node of this version? try: waxwing --version",
        _ => return anyhow::Error::msg(words),
    };
    Hinted { what: words, hint: hint.to_owned() }.into()
}

fn topic_row(info: v1::TopicInfo) -> TopicRow {
    TopicRow {
        topic: info.topic,
        subscriptions: info.subscriptions,
        local_subscriptions: info.local_subscriptions,
        members: info
            .members
            .into_iter()
            .map(|v1::TopicMember { node, subscriptions }| TopicMemberRow { node, subscriptions })
            .collect(),
        patterns: info.patterns,
    }
}

fn session_row(info: v1::SessionInfo) -> SessionRow {
    SessionRow {
        id: info.id,
        node: info.node,
        namespace: info.namespace,
        front: info.front,
        client: info.client,
        address: info.address,
        state: info.state,
        epoch: info.epoch,
        since: info.since.map(|since| since.to_string()),
        subscriptions: info.subscriptions,
        mailbox_bytes: info.mailbox_bytes,
        mailbox_limit: info.mailbox_limit,
        delivered: info.delivered,
        dropped: info.dropped,
        topics: info.topics,
        patterns: info.patterns,
    }
}
