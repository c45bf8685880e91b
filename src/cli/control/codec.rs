//! The control service as plain calls and plain rows; generated types end here.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use serde::Serialize;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::cli::Globals;
use crate::cli::codec::plain;
use crate::cli::connect::{Credentials, connect, timed_out};
use crate::cli::failure::Hinted;
use crate::rights::said::RightsSaid;
use crate::wire::v1;
use crate::wire::v1::control_client::ControlClient;

/// A list of a hundred thousand keys.
const ANSWER_LEN_MAX: usize = 128 << 20;
const PART_LEN: usize = 64 << 10;
/// A founding waits until those who are here have settled, and for its leader.
const FOUNDING_MIN: Duration = Duration::from_secs(20);

/// The control service of one node.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Control {
    client: ControlClient<InterceptedService<Channel, Credentials>>,
    timeout: Duration,
    pub(in crate::cli) address: String,
}

/// What a namespace may have; None: no bound of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct QuotaRow {
    pub(in crate::cli) sessions: Option<u64>,
    pub(in crate::cli) subscriptions: Option<u64>,
    pub(in crate::cli) topics: Option<u64>,
    pub(in crate::cli) presences: Option<u64>,
    /// As `100/s burst 500`; None: the default.
    pub(in crate::cli) publish_rate: Option<String>,
    pub(in crate::cli) publish_bytes_rate: Option<String>,
    pub(in crate::cli) payload_bytes: Option<u64>,
    pub(in crate::cli) patterns: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(in crate::cli) struct NamespaceRow {
    pub(in crate::cli) name: String,
    pub(in crate::cli) quota: QuotaRow,
    pub(in crate::cli) keys: u64,
    pub(in crate::cli) leases: u64,
    pub(in crate::cli) revision: u64,
}

/// A key as control has it.
#[derive(Debug, Clone)]
pub(in crate::cli) struct AgreedKeyRow {
    pub(in crate::cli) id: String,
    pub(in crate::cli) namespace: String,
    pub(in crate::cli) note: String,
    /// Unix time in seconds.
    pub(in crate::cli) ends_s: Option<u64>,
    pub(in crate::cli) rights: RightsSaid,
    pub(in crate::cli) overridden: bool,
}

#[derive(Debug, Serialize)]
pub(in crate::cli) struct GroupRow {
    pub(in crate::cli) group: String,
    pub(in crate::cli) leader: String,
    pub(in crate::cli) term: u64,
    pub(in crate::cli) quorum: bool,
    pub(in crate::cli) applied: u64,
    pub(in crate::cli) written: bool,
    pub(in crate::cli) problem: String,
    pub(in crate::cli) members: Vec<SeatRow>,
}

#[derive(Debug, Serialize)]
pub(in crate::cli) struct SeatRow {
    pub(in crate::cli) node: String,
    pub(in crate::cli) role: String,
    pub(in crate::cli) state: String,
    pub(in crate::cli) durable: bool,
    pub(in crate::cli) raft_id: String,
}

#[derive(Debug, Serialize)]
pub(in crate::cli) struct AuditRow {
    pub(in crate::cli) number: u64,
    /// RFC 3339
    pub(in crate::cli) at: String,
    pub(in crate::cli) by: String,
    pub(in crate::cli) what: String,
}

#[derive(Debug, Serialize)]
pub(in crate::cli) struct RestoredRow {
    pub(in crate::cli) group: String,
    pub(in crate::cli) namespaces: u64,
    pub(in crate::cli) keys: u64,
    pub(in crate::cli) leases: u64,
}

/// A backup as it comes.
#[derive(Debug)]
pub(in crate::cli) struct Backup {
    parts: Streaming<v1::BackupPart>,
    timeout: Duration,
}

impl Backup {
    /// None: that was all.
    pub(in crate::cli) async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        match tokio::time::timeout(self.timeout, self.parts.message()).await {
            Ok(part) => Ok(part.map_err(told)?.map(|part| part.data.into())),
            Err(_) => anyhow::bail!(timed_out(self.timeout)),
        }
    }
}

impl Control {
    pub(in crate::cli) async fn connect(globals: &Globals) -> anyhow::Result<Self> {
        let connection = connect(globals).await?;
        let client = ControlClient::with_interceptor(connection.channel, Credentials::of(globals)?)
            .max_decoding_message_size(ANSWER_LEN_MAX);
        Ok(Self { client, timeout: globals.timeout, address: connection.address })
    }

    pub(in crate::cli) async fn create_namespace(
        &self,
        name: &str,
        quota: QuotaRow,
    ) -> anyhow::Result<NamespaceRow> {
        let mut client = self.client.clone();
        let request =
            v1::CreateNamespaceRequest { name: name.to_owned(), quota: Some(quota_said(quota)) };
        let made = self.within(client.create_namespace(request)).await;
        Ok(namespace_row(made.context("create namespace")?))
    }

    /// `revision`: only if it is still that one.
    pub(in crate::cli) async fn update_namespace(
        &self,
        name: &str,
        quota: QuotaRow,
        revision: u64,
    ) -> anyhow::Result<NamespaceRow> {
        let mut client = self.client.clone();
        let quota = Some(quota_said(quota));
        let request = v1::UpdateNamespaceRequest { name: name.to_owned(), quota, revision };
        let made = self.within(client.update_namespace(request)).await;
        Ok(namespace_row(made.context("update namespace")?))
    }

    pub(in crate::cli) async fn delete_namespace(
        &self,
        name: &str,
        contents: bool,
    ) -> anyhow::Result<()> {
        let mut client = self.client.clone();
        let request = v1::DeleteNamespaceRequest { name: name.to_owned(), contents };
        self.within(client.delete_namespace(request)).await.context("delete namespace")?;
        Ok(())
    }

    pub(in crate::cli) async fn namespace(&self, name: &str) -> anyhow::Result<NamespaceRow> {
        let mut client = self.client.clone();
        let request = v1::GetNamespaceRequest { name: name.to_owned() };
        let found = self.within(client.get_namespace(request)).await;
        Ok(namespace_row(found.context("look at namespace")?))
    }

    pub(in crate::cli) async fn namespaces(&self) -> anyhow::Result<Vec<NamespaceRow>> {
        let mut client = self.client.clone();
        let listed = self.within(client.list_namespaces(v1::ListNamespacesRequest {})).await;
        let listed = listed.context("list namespaces")?;
        Ok(listed.namespaces.into_iter().map(namespace_row).collect())
    }

    /// The key, and its text.
    pub(in crate::cli) async fn create_key(
        &self,
        namespace: &str,
        note: &str,
        ends_s: Option<u64>,
        rights: RightsSaid,
    ) -> anyhow::Result<(AgreedKeyRow, String)> {
        let mut client = self.client.clone();
        let expires = ends_s.map(|ends| (UNIX_EPOCH + Duration::from_secs(ends)).into());
        let request = v1::CreateKeyRequest {
            namespace: namespace.to_owned(),
            note: note.to_owned(),
            expires,
            rights: Some(rights_said(rights)),
        };
        let made = self.within(client.create_key(request)).await.context("create key")?;
        Ok((key_row(made.key.unwrap_or_default()), made.text))
    }

    pub(in crate::cli) async fn revoke_key(&self, id: &str) -> anyhow::Result<()> {
        let mut client = self.client.clone();
        let request = v1::RevokeKeyRequest { id: id.to_owned() };
        self.within(client.revoke_key(request)).await.context("revoke key")?;
        Ok(())
    }

    /// `namespace`: empty is every one.
    pub(in crate::cli) async fn keys(&self, namespace: &str) -> anyhow::Result<Vec<AgreedKeyRow>> {
        let mut client = self.client.clone();
        let request = v1::ListKeysRequest { namespace: namespace.to_owned() };
        let listed = self.within(client.list_keys(request)).await.context("list keys")?;
        Ok(listed.keys.into_iter().map(key_row).collect())
    }

    /// The group's id.
    pub(in crate::cli) async fn init(&self, from_copy: bool) -> anyhow::Result<String> {
        let mut client = self.client.clone();
        let timeout = self.timeout.max(FOUNDING_MIN);
        let request = v1::InitControlRequest { from_copy };
        let founded = self.within_time(timeout, client.init_control(request)).await;
        Ok(founded.context("found a group")?.group)
    }

    pub(in crate::cli) async fn status(&self) -> anyhow::Result<GroupRow> {
        let mut client = self.client.clone();
        let answer = self.within(client.control_status(v1::ControlStatusRequest {})).await;
        let answer = answer.context("ask control's status")?;
        let seat = |member: v1::ControlMember| SeatRow {
            node: member.node,
            role: member.role,
            state: member.state,
            durable: member.durable,
            raft_id: member.raft_id,
        };
        Ok(GroupRow {
            group: answer.group,
            leader: answer.leader,
            term: answer.term,
            quorum: answer.quorum,
            applied: answer.applied,
            written: answer.written,
            problem: answer.problem,
            members: answer.members.into_iter().map(seat).collect(),
        })
    }

    pub(in crate::cli) async fn audit(&self, limit: u32) -> anyhow::Result<Vec<AuditRow>> {
        let mut client = self.client.clone();
        let answer = self.within(client.list_audit(v1::ListAuditRequest { limit })).await;
        let row = |line: v1::AuditLine| AuditRow {
            number: line.number,
            at: line.at.map(|at| at.to_string()).unwrap_or_default(),
            by: line.by,
            what: line.what,
        };
        Ok(answer.context("list the audit")?.lines.into_iter().map(row).collect())
    }

    pub(in crate::cli) async fn backup(&self) -> anyhow::Result<Backup> {
        let mut client = self.client.clone();
        let parts = self.within(client.backup_control(v1::BackupControlRequest {})).await;
        Ok(Backup { parts: parts.context("back up control")?, timeout: self.timeout })
    }

    pub(in crate::cli) async fn restore(&self, backup: Vec<u8>) -> anyhow::Result<RestoredRow> {
        let mut client = self.client.clone();
        let mut rest = bytes::Bytes::from(backup);
        let parts = std::iter::from_fn(move || {
            let len = rest.len().min(PART_LEN);
            (len > 0).then(|| v1::BackupPart { data: rest.split_to(len) })
        });
        let parts = tokio_stream::iter(parts);
        let timeout = self.timeout.max(3 * FOUNDING_MIN);
        let answer = self.within_time(timeout, client.restore_control(parts)).await;
        let v1::RestoreControlResponse { group, namespaces, keys, leases } =
            answer.context("restore control")?;
        Ok(RestoredRow { group, namespaces, keys, leases })
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> anyhow::Result<T> {
        self.within_time(self.timeout, call).await
    }

    async fn within_time<T>(
        &self,
        timeout: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> anyhow::Result<T> {
        match tokio::time::timeout(timeout, call).await {
            Ok(answer) => Ok(answer.map_err(told)?.into_inner()),
            Err(_) => anyhow::bail!("{}: {}", self.address, timed_out(timeout)),
        }
    }
}

/// What is the matter by the answer's stable code, and what to do.
const HINTS: &[(&str, &str)] = &[
    (
        "no_quorum",
        "see who is missing: waxwing control status. A cluster that never had a group: say waxwing control init once, or start its nodes with \
         --expect N. Where most voters are lost for good, and then only: waxwing control init --from-copy",
    ),
    (
        "control_unknown",
        "most of the voters answer too slowly, or not at all; see: waxwing control status",
    ),
    (
        "namespace_in_use",
        "take them away as well: --contents (with --yes where nobody can be asked)",
    ),
    ("other_revision", "somebody else has changed it; look, and try again"),
    ("no_key", "see: waxwing key list; for a key of an access file: --file FILE"),
    ("has_quorum", "nothing is lost that needs it; see: waxwing control status"),
    ("written", "a backup is for a cluster that has nothing yet; see: waxwing control status"),
];

fn told(status: Status) -> anyhow::Error {
    let code = status.metadata().get("waxwing-code").and_then(|code| code.to_str().ok());
    let hint = HINTS.iter().find(|(of, _)| Some(*of) == code);
    match hint {
        Some((_, hint)) => {
            Hinted { what: status.message().to_owned(), hint: (*hint).to_owned() }.into()
        }
        None if status.code() == Code::Unimplemented => Hinted {
            what: "this node knows nothing of control".to_owned(),
            hint: "is it a Waxwing node of this version? try: waxwing --version".to_owned(),
        }
        .into(),
        None => plain(status),
    }
}

fn quota_said(row: QuotaRow) -> v1::Quota {
    v1::Quota {
        sessions: row.sessions,
        subscriptions: row.subscriptions,
        topics: row.topics,
        presences: row.presences,
        publish_rate: row.publish_rate,
        publish_bytes_rate: row.publish_bytes_rate,
        payload_bytes: row.payload_bytes,
        patterns: Some(row.patterns),
    }
}

fn namespace_row(info: v1::NamespaceInfo) -> NamespaceRow {
    let quota = info.quota.unwrap_or_default();
    let quota = QuotaRow {
        sessions: quota.sessions,
        subscriptions: quota.subscriptions,
        topics: quota.topics,
        presences: quota.presences,
        publish_rate: quota.publish_rate,
        publish_bytes_rate: quota.publish_bytes_rate,
        payload_bytes: quota.payload_bytes,
        patterns: quota.patterns != Some(false),
    };
    let v1::NamespaceInfo { name, keys, leases, revision, .. } = info;
    NamespaceRow { name, quota, keys, leases, revision }
}

fn rights_said(said: RightsSaid) -> v1::Rights {
    v1::Rights {
        publish: said.publish,
        subscribe: said.subscribe,
        presence: said.presence,
        lease: said.lease,
        deny_publish: said.deny_publish,
        deny_subscribe: said.deny_subscribe,
        deny_presence: said.deny_presence,
        deny_lease: said.deny_lease,
        observe: said.observe,
        admin: said.admin,
    }
}

fn key_row(info: v1::KeyInfo) -> AgreedKeyRow {
    let rights = info.rights.unwrap_or_default();
    AgreedKeyRow {
        id: info.id,
        namespace: info.namespace,
        note: info.note,
        ends_s: info.expires.and_then(|at| u64::try_from(at.seconds).ok()),
        rights: RightsSaid {
            publish: rights.publish,
            subscribe: rights.subscribe,
            presence: rights.presence,
            lease: rights.lease,
            deny_publish: rights.deny_publish,
            deny_subscribe: rights.deny_subscribe,
            deny_presence: rights.deny_presence,
            deny_lease: rights.deny_lease,
            observe: rights.observe,
            admin: rights.admin,
        },
        overridden: info.overridden,
    }
}
