//! `Admin`: what operators do to this node, and see of it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use http::HeaderMap;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::GrpcDeps;
use super::convert::{self, status};
use crate::broker::{BrokerError, Door, Pass, SessionFilter};
use crate::supervise::Task;
use crate::types::Namespace;
use crate::wire::v1::admin_server::Admin;
use crate::wire::v1::{
    DescribeSessionRequest, DescribeTopicRequest, DrainEvent, DrainRequest, JoinRequest,
    JoinResponse, KillSessionRequest, KillSessionResponse, LeaveRequest, LeaveResponse,
    ListSessionsRequest, ListSessionsResponse, ListTopicsRequest, ListTopicsResponse,
    MembersRequest, MembersResponse, SessionInfo, SetLogLevelRequest, SetLogLevelResponse,
    StatusRequest, StatusResponse, TopicInfo,
};

const LIST_LEN: usize = 100;
const LIST_LEN_MAX: usize = 10_000;
const SEEDS_MAX: usize = 64;
const GRACE: Duration = Duration::from_secs(30);

/// Who asks, and of which namespace: operators may look at any.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pass: Pass,
    namespace: Namespace,
}

impl Asker {
    pub(super) fn admit(door: &Door, headers: &HeaderMap) -> Result<Self, Status> {
        let said = convert::namespace(headers)?;
        let pass = convert::admit_of_any(door, headers, said.clone())?;
        let namespace = said.unwrap_or_else(|| pass.namespace().clone());
        Ok(Self { pass, namespace })
    }

    /// Who may look at nodes. Was put there before the service was reached.
    pub(super) fn observer<T>(request: &Request<T>) -> Result<&Self, Status> {
        let asker = Self::of(request)?;
        asker.pass.may_observe().map_err(|error| convert::status_of(&error))?;
        Ok(asker)
    }

    /// Who may rule nodes.
    pub(super) fn ruler<T>(request: &Request<T>) -> Result<&Self, Status> {
        let asker = Self::of(request)?;
        asker.pass.may_rule().map_err(|error| convert::status_of(&error))?;
        Ok(asker)
    }

    pub(super) const fn pass(&self) -> &Pass {
        &self.pass
    }

    pub(super) const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    pub(super) fn of<T>(request: &Request<T>) -> Result<&Self, Status> {
        request.extensions().get().ok_or_else(|| Status::internal("nobody was asked for a key"))
    }
}

#[derive(Debug, Clone)]
pub(super) struct AdminService {
    pub(super) deps: Arc<GrpcDeps>,
}

impl AdminService {
    fn only_me(&self, node: &str) -> Result<(), Status> {
        convert::only_me(node, self.deps.broker.node(), &self.deps.membership.members())
    }

    /// Sessions are looked for on this node only, so whoever misses one is told which node that is.
    fn refused(&self, error: &BrokerError) -> Status {
        match error {
            BrokerError::UnknownSession(id) => {
                let unknown =
                    format!("no session has the id {id} on node {}", self.deps.broker.node());
                status(Code::NotFound, error.code(), unknown)
            }
            _ => convert::status_of(error),
        }
    }

    /// Runs to its end even if the caller goes away; `None`: it was given up.
    async fn to_the_end<T: Send + 'static>(
        &self,
        label: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (done, ended) = oneshot::channel();
        let task = Task::Session(label.to_owned());
        let _ = self.deps.supervisor.spawn(task, async move {
            // Nobody may be there to hear it.
            let _ = done.send(work.await);
        });
        ended.await.ok()
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    type DrainStream = Pin<Box<dyn Stream<Item = Result<DrainEvent, Status>> + Send>>;

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        Asker::observer(&request)?;
        let json = serde_json::to_string(&self.deps.status.report())
            .map_err(|error| status(Code::Internal, "report", error.to_string()))?;
        Ok(Response::new(StatusResponse { json }))
    }

    async fn members(
        &self,
        request: Request<MembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        Asker::observer(&request)?;
        let rows = self.deps.status.report().members;
        let members = rows.into_iter().map(convert::member_info).collect();
        Ok(Response::new(MembersResponse { members }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        Asker::ruler(&request)?;
        let JoinRequest { seeds } = request.into_inner();
        if seeds.is_empty() || seeds.len() > SEEDS_MAX {
            let wrong = format!("name 1 to {SEEDS_MAX} seeds, as host:port of peer listeners");
            return Err(status(Code::InvalidArgument, "bad_seeds", wrong));
        }
        let joined = self
            .deps
            .commands
            .join(seeds)
            .await
            .map_err(|error| status(Code::Unavailable, "not_joined", error))?;
        let joined = joined.iter().map(ToString::to_string).collect();
        Ok(Response::new(JoinResponse { joined }))
    }

    async fn drain(
        &self,
        request: Request<DrainRequest>,
    ) -> Result<Response<Self::DrainStream>, Status> {
        Asker::ruler(&request)?;
        let DrainRequest { node, grace } = request.into_inner();
        self.only_me(&node)?;
        let grace = super::codec::duration(grace)
            .map_err(|error| convert::status_of(&error))?
            .unwrap_or(GRACE);
        let (steps, told) = mpsc::channel(16);
        let (failed, failure) = mpsc::channel(1);
        let commands = self.deps.commands.clone();
        // It goes on when the one who asked for it goes away.
        let task = Task::Session("admin drain".to_owned());
        let _ = self.deps.supervisor.spawn(task, async move {
            if let Err(error) = commands.drain(grace, steps).await {
                let _ = failed.send(status(Code::FailedPrecondition, "not_drained", error)).await;
            }
        });
        let told = ReceiverStream::new(told).map(|step| Ok(convert::drain_event(step)));
        let failure = ReceiverStream::new(failure).map(Err);
        Ok(Response::new(Box::pin(told.chain(failure))))
    }

    async fn leave(
        &self,
        request: Request<LeaveRequest>,
    ) -> Result<Response<LeaveResponse>, Status> {
        Asker::ruler(&request)?;
        self.only_me(&request.into_inner().node)?;
        let commands = self.deps.commands.clone();
        match self.to_the_end("admin leave", async move { commands.leave().await }).await {
            Some(Ok(())) => Ok(Response::new(LeaveResponse {})),
            Some(Err(error)) => Err(status(Code::FailedPrecondition, "not_left", error)),
            None => Err(status(Code::Internal, "not_left", "the command was given up")),
        }
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        Asker::observer(&request)?;
        let ListSessionsRequest { slow, front, limit } = request.into_inner();
        let filter = SessionFilter { slow, front, limit: list_len(limit) };
        let (reports, total) = self.deps.broker.list(&filter);
        let node = self.deps.broker.node();
        let sessions =
            reports.into_iter().map(|report| convert::session_info(report, node)).collect();
        Ok(Response::new(ListSessionsResponse { sessions, total }))
    }

    async fn describe_session(
        &self,
        request: Request<DescribeSessionRequest>,
    ) -> Result<Response<SessionInfo>, Status> {
        Asker::observer(&request)?;
        let report = self
            .deps
            .broker
            .describe(&request.into_inner().id)
            .map_err(|error| self.refused(&error))?;
        Ok(Response::new(convert::session_info(report, self.deps.broker.node())))
    }

    async fn kill_session(
        &self,
        request: Request<KillSessionRequest>,
    ) -> Result<Response<KillSessionResponse>, Status> {
        Asker::ruler(&request)?;
        let id = request.into_inner().id;
        self.deps.broker.kill(&id).await.map_err(|error| self.refused(&error))?;
        Ok(Response::new(KillSessionResponse {}))
    }

    async fn list_topics(
        &self,
        request: Request<ListTopicsRequest>,
    ) -> Result<Response<ListTopicsResponse>, Status> {
        let namespace = Asker::observer(&request)?.namespace.clone();
        let ListTopicsRequest { prefix, limit } = request.into_inner();
        let (topics, more) = self.deps.router.topics(&namespace, &prefix, list_len(limit));
        let topics = topics.into_iter().map(|topic| convert::topic_info(topic, false)).collect();
        Ok(Response::new(ListTopicsResponse { topics, more }))
    }

    async fn describe_topic(
        &self,
        request: Request<DescribeTopicRequest>,
    ) -> Result<Response<TopicInfo>, Status> {
        let namespace = Asker::observer(&request)?.namespace.clone();
        let len_max = self.deps.limits.get().topic;
        let topic = self
            .deps
            .router
            .hasher()
            .topic(&namespace, &request.into_inner().topic, len_max)
            .map_err(|bad| convert::status_of(&bad.into()))?;
        let report = self.deps.router.describe_topic(&topic);
        Ok(Response::new(convert::topic_info(report, true)))
    }

    async fn set_log_level(
        &self,
        request: Request<SetLogLevelRequest>,
    ) -> Result<Response<SetLogLevelResponse>, Status> {
        Asker::ruler(&request)?;
        let SetLogLevelRequest { level, for_time } = request.into_inner();
        let for_time =
            super::codec::duration(for_time).map_err(|error| convert::status_of(&error))?;
        let before = self
            .deps
            .commands
            .set_log_level(&level, for_time)
            .map_err(|error| status(Code::InvalidArgument, "bad_level", error))?;
        Ok(Response::new(SetLogLevelResponse { before }))
    }
}

fn list_len(asked: u32) -> usize {
    match asked {
        0 => LIST_LEN,
        asked => (asked as usize).min(LIST_LEN_MAX),
    }
}
