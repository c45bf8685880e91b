//! Calls about leases, each with its record. It uses the generated code and nothing of the program's own client.

use std::time::Duration;

use bytes::Bytes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use waxwing::types::Time;
use waxwing::wire::v1::control_client::ControlClient;
use waxwing::wire::v1::{AcquireLeaseRequest, ReleaseLeaseRequest, RenewLeaseRequest};

use super::Shared;
use crate::history::{Kind, LeaseCall, LeaseWhat, Op, Who};

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// As whom.
#[derive(Debug, Clone, Default)]
pub(super) struct Proof {
    pub(super) holder: String,
    pub(super) owner: Bytes,
    pub(super) session: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Yes { token: u64, sent: Time },
    No,
    Unknown,
}

pub(super) struct Caller {
    shared: Shared,
    who: Who,
    channels: Vec<Option<ControlClient<Channel>>>,
}

impl Caller {
    pub(super) fn new(shared: &Shared, proc: String) -> Self {
        let who = Who { proc, attachment: 0, node: String::new() };
        let channels = shared.addresses.iter().map(|_| None).collect();
        Self { shared: shared.clone(), who, channels }
    }

    pub(super) async fn acquire(
        &mut self,
        node: usize,
        lease: &str,
        ttl: Duration,
        wait: Duration,
        proof: &Proof,
    ) -> Answer {
        self.at(node);
        let call = self.begin(LeaseWhat::Acquire, lease, proof, 0, ttl);
        let sent = self.shared.recorder.clock().now();
        let request = AcquireLeaseRequest {
            name: lease.to_owned(),
            ttl: prost_types::Duration::try_from(ttl).ok(),
            session: proof.session.clone(),
            owner: proof.owner.clone(),
            note: proof.holder.clone(),
            wait: prost_types::Duration::try_from(wait).ok(),
        };
        let Some(mut client) = self.client(node).await else {
            return self.end(call, Kind::Fail, 0, sent);
        };
        let asked = tokio::time::timeout(ANSWER_WITHIN + wait, client.acquire_lease(request)).await;
        match asked {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                let kind = if answer.granted { Kind::Ok } else { Kind::Fail };
                self.end(call, kind, answer.token, sent)
            }
            Ok(Err(status)) => self.failed(node, call, &status, sent),
            Err(_) => self.silent(node, call, sent),
        }
    }

    pub(super) async fn renew(
        &mut self,
        node: usize,
        lease: &str,
        ttl: Duration,
        token: u64,
        proof: &Proof,
    ) -> Answer {
        self.at(node);
        let call = self.begin(LeaseWhat::Renew, lease, proof, token, ttl);
        let sent = self.shared.recorder.clock().now();
        let request = RenewLeaseRequest {
            name: lease.to_owned(),
            session: proof.session.clone(),
            owner: proof.owner.clone(),
            token,
            ttl: None,
        };
        let Some(mut client) = self.client(node).await else {
            return self.end(call, Kind::Info, 0, sent);
        };
        match tokio::time::timeout(ANSWER_WITHIN, client.renew_lease(request)).await {
            Ok(Ok(answer)) => self.end(call, Kind::Ok, answer.into_inner().token, sent),
            Ok(Err(status)) => self.failed(node, call, &status, sent),
            Err(_) => self.silent(node, call, sent),
        }
    }

    pub(super) async fn release(
        &mut self,
        node: usize,
        lease: &str,
        token: u64,
        proof: &Proof,
    ) -> Answer {
        self.at(node);
        let call = self.begin(LeaseWhat::Release, lease, proof, token, Duration::ZERO);
        let sent = self.shared.recorder.clock().now();
        let request = ReleaseLeaseRequest {
            name: lease.to_owned(),
            session: proof.session.clone(),
            owner: proof.owner.clone(),
            token,
        };
        let Some(mut client) = self.client(node).await else {
            return self.end(call, Kind::Fail, 0, sent);
        };
        match tokio::time::timeout(ANSWER_WITHIN, client.release_lease(request)).await {
            Ok(Ok(_)) => self.end(call, Kind::Ok, token, sent),
            Ok(Err(status)) => self.failed(node, call, &status, sent),
            Err(_) => self.silent(node, call, sent),
        }
    }

    /// The session that holds it is about to end: that gives it back, sooner or later.
    pub(super) fn ends(&mut self, lease: &str, token: u64, proof: &Proof) {
        let call = self.begin(LeaseWhat::Release, lease, proof, token, Duration::ZERO);
        self.end(call, Kind::Info, token, Time::ZERO);
    }

    /// Under the lease, as long as its holder's own count says that it is held.
    pub(super) fn write(&self, lease: &str, token: u64, until: Time, proof: &Proof) {
        let call = self.begin(LeaseWhat::Write, lease, proof, token, Duration::ZERO);
        if until <= self.shared.recorder.clock().now() {
            self.end(call, Kind::Fail, 0, Time::ZERO);
            return;
        }
        let kind = if self.shared.write(lease, token) { Kind::Ok } else { Kind::Fail };
        self.end(call, kind, token, Time::ZERO);
    }

    /// Whom it asks, for the history.
    fn at(&mut self, node: usize) {
        self.who.node.clone_from(&self.shared.names_of_nodes[node]);
    }

    fn begin(
        &self,
        what: LeaseWhat,
        lease: &str,
        proof: &Proof,
        token: u64,
        ttl: Duration,
    ) -> LeaseCall {
        let call = LeaseCall {
            call: self.shared.call_id(),
            what,
            lease: lease.to_owned(),
            holder: proof.holder.clone(),
            token,
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
        };
        self.shared.recorder.add(&self.who, Kind::Invoke, Op::Lease(call.clone()));
        call
    }

    fn end(&self, call: LeaseCall, kind: Kind, token: u64, sent: Time) -> Answer {
        self.shared.recorder.add(&self.who, kind, Op::Lease(LeaseCall { token, ..call }));
        match kind {
            Kind::Ok => Answer::Yes { token, sent },
            Kind::Fail => Answer::No,
            Kind::Invoke | Kind::Info | Kind::Event => Answer::Unknown,
        }
    }

    fn silent(&mut self, node: usize, call: LeaseCall, sent: Time) -> Answer {
        self.channels[node] = None;
        self.end(call, Kind::Info, 0, sent)
    }

    fn failed(&mut self, node: usize, call: LeaseCall, status: &Status, sent: Time) -> Answer {
        let code = status.metadata().get("waxwing-code").and_then(|code| code.to_str().ok());
        match code.unwrap_or_default() {
            // That is an answer about the lease.
            "not_held" => {
                let token = call.token;
                self.end(call, Kind::Fail, token, sent)
            }
            // Nothing was done, and it says so.
            "no_quorum" | "control_too_much" => self.end(call, Kind::Fail, 0, sent),
            "" => self.silent(node, call, sent),
            // Of a session that isn't there, or any more.
            _ if status.code() == Code::FailedPrecondition || status.code() == Code::NotFound => {
                self.end(call, Kind::Fail, 0, sent)
            }
            _ => self.end(call, Kind::Info, 0, sent),
        }
    }

    async fn client(&mut self, node: usize) -> Option<ControlClient<Channel>> {
        if self.channels[node].is_none() {
            let endpoint = Endpoint::from_shared(format!("http://{}", self.shared.addresses[node]));
            let endpoint = endpoint.ok()?.connect_timeout(ANSWER_WITHIN);
            self.channels[node] = endpoint.connect().await.ok().map(ControlClient::new);
        }
        self.channels[node].clone()
    }
}
