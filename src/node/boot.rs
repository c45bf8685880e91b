//! Builds the parts, each after those it needs: ports → membership → router, replicator → links → broker → status → fronts.
//!
//! Ports listen from the first moment, so whoever comes early waits in the kernel's queue and is not refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;

use super::access::{self, AccessKeeper};
use super::commands::Commands;
use super::drain::Departure;
use super::identity::IncarnationFile;
use super::log_level::LogLevels;
use super::ports::{Bound, Ports};
use super::{Node, NodeHandle, Parts, Surroundings, load, notices, readiness};
use crate::broker::{self, Broker, Door};
use crate::config::Config;
use crate::config::limits::LimitsHandle;
use crate::control::part::{self, Control, ControlConfig, Roster};
use crate::control::raft::carrier::LinkCarrier;
use crate::front::grpc::{GrpcDeps, GrpcFront};
use crate::front::http::{HttpDeps, HttpFront};
use crate::front::resp::{RespDeps, RespFront};
use crate::link::{self, LinkConfig, LinkLimits, Links};
use crate::membership::{Addresses, IncarnationStore, Membership, MembershipConfig};
use crate::metrics::Exporter;
use crate::replicator::{Replicator, ReplicatorConfig, SHARDS_SETTING};
use crate::router::{Router, RouterConfig};
use crate::status::{NodeFacts, Probe, ProbeDeps, StatusDeps, StatusHandle};
use crate::supervise::{SharedCommands, Shutdown, Supervisor, Task};
use crate::telemetry::LogLevel;
use crate::tls::Tls;

pub(super) async fn start(
    config: Config,
    log: LogLevel,
    Surroundings { network, clock }: Surroundings,
) -> anyhow::Result<Node> {
    let Ports { grpc, links: links_listener, gossip, http, redis, bound } =
        Ports::bind(&config.listen, &*network).await?;
    let supervisor = Supervisor::new(Shutdown::new());
    // Before anything counts.
    let exporter = Arc::new(Exporter::install());
    let shutdown = supervisor.shutdown().clone();
    let limits = LimitsHandle::new(config.limits.clone());
    let tls = config.tls.material.clone().map(Tls::new);
    let addresses = advertised(&config, bound);

    let store = config.node.data_dir.as_deref().map(IncarnationFile::open).transpose()?;
    let store = store.map(|store| Arc::new(store) as Arc<dyn IncarnationStore>);
    let of_control = ControlConfig {
        cluster: config.cluster.name.clone(),
        name: config.node.name.clone(),
        data_dir: config.node.data_dir.clone(),
        has_seeds: !config.cluster.seeds.is_empty(),
        expect: config.cluster.expect,
    };
    // Before anybody hears of this node: what is wrong with it is to be mended first.
    let facts = part::open_store(&of_control)?;
    let membership = MembershipConfig::new(&config, addresses.clone(), store);
    let membership = Membership::start(membership, gossip, &supervisor, clock)
        .await
        .context("start gossip")?
        .handle();
    let router = Router::start(
        RouterConfig { cluster: config.cluster.name.clone(), name: config.node.name.clone() },
        membership.clone(),
        limits.clone(),
        &supervisor,
        clock,
    );
    let replicator = Replicator::start(
        ReplicatorConfig {
            diff_interval: config.presence.diff_interval,
            transfer_max: config.limits.presence_transfer,
            ..ReplicatorConfig::new(config.cluster.name.clone())
        },
        Arc::new(membership.clone()),
        &supervisor,
        clock,
    );
    let links = Links::new(
        LinkConfig {
            cluster: config.cluster.name.clone(),
            name: config.node.name.clone(),
            secrets: config.cluster.secrets.clone(),
            versions: link::VERSIONS,
            settings: BTreeMap::from([(SHARDS_SETTING.0.to_owned(), SHARDS_SETTING.1.to_string())]),
            limits: LinkLimits {
                handshake: limits.get().handshake,
                window_bytes: limits.get().link_window,
                window_age: limits.get().link_window_age,
                ..LinkLimits::default()
            },
            tls: tls.clone(),
        },
        Arc::new(membership.clone()),
        network,
        supervisor.clone(),
        clock,
        router.link_handler(),
        replicator.handler(),
    );
    let control = Control::start(
        of_control,
        facts,
        Arc::new(LinkCarrier(links.handle())),
        Roster::new(membership.clone(), clock),
        clock,
    )
    .await
    .context("start control")?;
    links.handle().answer_calls(control.door());
    let broker = Broker::new(
        config.node.name.clone(),
        router.clone(),
        replicator.clone(),
        membership.clone(),
        limits.clone(),
        &supervisor,
        Door::new(access::at_start(&config.security), clock),
    );
    let access = AccessKeeper::new(&config.security, broker.clone(), control.handle(), clock);
    let status = StatusHandle::new(StatusDeps {
        node: NodeFacts::of(&config),
        membership: membership.clone(),
        links: links.handle(),
        router: router.clone(),
        replicator: replicator.clone(),
        broker: broker.clone(),
        limits: limits.clone(),
        supervisor: supervisor.clone(),
        clock,
        tls: tls.clone(),
        control: control.handle(),
    });

    let parts = Arc::new(Parts {
        config,
        bound,
        addresses,
        supervisor: supervisor.clone(),
        clock,
        limits: limits.clone(),
        tls: tls.clone(),
        membership: membership.clone(),
        links: links.handle(),
        replicator,
        router: router.clone(),
        broker: broker.clone(),
        control: control.handle(),
        access: Arc::new(access),
    });
    let departure = Arc::new(Departure::new(parts.clone()));
    let log = LogLevels::new(log, parts.config.log.level.clone(), supervisor.clone());
    let commands: SharedCommands = Arc::new(Commands {
        membership: membership.clone(),
        departure: departure.clone(),
        log: log.clone(),
    });

    notices::started(&parts);
    supervisor.spawn(Task::LinkAcceptor, links.run(links_listener, shutdown.clone()));
    let front = GrpcFront::new(GrpcDeps {
        broker: broker.clone(),
        router: router.clone(),
        status: status.clone(),
        commands: commands.clone(),
        membership: membership.clone(),
        limits: limits.clone(),
        supervisor: supervisor.clone(),
        clock,
        control: control.handle(),
        tls: tls.clone(),
    });
    supervisor.spawn(Task::FrontGrpc, front.run(grpc, shutdown.clone()));
    if let Some(listener) = redis {
        let front = RespFront::new(RespDeps {
            status: status.clone(),
            broker: broker.clone(),
            router: router.clone(),
            config: parts.config.redis.clone(),
            limits: limits.clone(),
            supervisor: supervisor.clone(),
            clock,
            tls: tls.clone(),
        });
        supervisor.spawn(Task::FrontRedis, front.run(listener, shutdown.clone()));
    }
    if let Some(listener) = http {
        let front = HttpFront::new(HttpDeps {
            status: status.clone(),
            broker,
            router: router.clone(),
            limits,
            supervisor: supervisor.clone(),
            exporter: exporter.clone(),
            tls,
        });
        supervisor.spawn(Task::FrontHttp, front.run(listener, shutdown.clone()));
    }
    let (me, of_probe) = (parts.config.node.name.clone(), status.clone());
    supervisor.spawn_restarting(Task::Probe, move || {
        let probe = Probe::new(ProbeDeps {
            me: me.clone(),
            membership: membership.clone(),
            router: router.clone(),
            status: of_probe.clone(),
            exporter: exporter.clone(),
            clock,
        });
        probe.run(shutdown.clone())
    });
    start_own_tasks(&parts, &departure);
    start_control(&parts, &control);
    let handle = NodeHandle { parts, departure, status, commands };
    Ok(Node { handle, log })
}

fn start_own_tasks(parts: &Arc<Parts>, departure: &Arc<Departure>) {
    let supervisor = &parts.supervisor;
    let (of_task, departure) = (parts.clone(), departure.clone());
    supervisor.spawn_restarting(Task::Readiness, move || {
        readiness::run(of_task.clone(), departure.clone())
    });
    let of_task = parts.clone();
    supervisor.spawn_restarting(Task::LoadReport, move || load::report(of_task.clone()));
    if let Some(what) = notices::insecure(&parts.config) {
        let of_task = parts.clone();
        supervisor.spawn_restarting(Task::Notices, move || {
            notices::repeat_insecure(of_task.clone(), what)
        });
    }
}

fn start_control(parts: &Arc<Parts>, control: &Control) {
    let supervisor = &parts.supervisor;
    let (of_task, shutdown) = (control.clone(), supervisor.shutdown().clone());
    supervisor.spawn_restarting(Task::Control, move || of_task.clone().run(shutdown.clone()));
    if parts.broker.door().is_locked() {
        let (of_task, shutdown) = (parts.access.clone(), supervisor.shutdown().clone());
        supervisor
            .spawn_restarting(Task::ControlAccess, move || of_task.clone().run(shutdown.clone()));
    }
    let (of_task, shutdown) = (control.clone(), supervisor.shutdown().clone());
    supervisor
        .spawn_restarting(Task::ControlWriter, move || of_task.clone().write(shutdown.clone()));
    let (broker, of_task) = (parts.broker.clone(), control.handle());
    let shutdown = supervisor.shutdown().clone();
    supervisor.spawn_restarting(Task::ControlReports, move || {
        broker::report(broker.clone(), of_task.clone(), shutdown.clone())
    });
}

/// What others are told: as configured, else where it listens.
fn advertised(config: &Config, bound: Bound) -> Addresses {
    let told = &config.advertise;
    Addresses {
        grpc: told.grpc.clone().unwrap_or_else(|| bound.grpc.to_string()),
        peer: told.peer.clone().unwrap_or_else(|| bound.peer.to_string()),
        http: told
            .http
            .clone()
            .or_else(|| bound.http.map(|addr| addr.to_string()))
            .unwrap_or_default(),
    }
}
