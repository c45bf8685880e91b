//! The processes and the proxies between them, and what is done to them.

use std::net::SocketAddr;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;

use super::keys::Act;
use super::logs::Logs;
use super::plan::Plan;
use super::probe::{self, Answer};
use super::process::Process;
use super::table::Row;
use crate::proxy::{Proxy, ProxyHandle};
use crate::supervise::{Clock, Supervisor};
use crate::types::NodeName;

#[derive(Debug)]
pub(super) struct Cluster {
    plan: Plan,
    logs: Logs,
    nodes: Vec<Node>,
    /// `proxies[i][j]`: what node i says to node j goes through it.
    proxies: Vec<Vec<Option<ProxyHandle>>>,
}

#[derive(Debug)]
struct Node {
    process: Option<Process>,
    answer: Answer,
    /// Without a process: why.
    end: End,
    /// Its becoming ready is news.
    announce: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    NotStarted,
    Killed,
    /// By itself, as when it was drained.
    Left,
    Failed(String),
}

impl Cluster {
    pub(super) fn start(
        plan: Plan,
        logs: Logs,
        supervisor: &Supervisor,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let proxy = |i: usize, j: usize| {
            let target = plan.nodes[j].peer;
            let started = (i != j).then(|| Proxy::start(supervisor, clock, target));
            started.transpose().context("start a proxy between two nodes")
        };
        let size = plan.nodes.len();
        let proxies = (0..size)
            .map(|i| (0..size).map(|j| proxy(i, j)).collect())
            .collect::<anyhow::Result<_>>()?;
        let nodes = plan.nodes.iter().map(|_| Node::new()).collect();
        let mut cluster = Self { plan, logs, nodes, proxies };
        for i in 0..size {
            cluster.start_node(i, true)?;
        }
        Ok(cluster)
    }

    pub(super) const fn size(&self) -> usize {
        self.nodes.len()
    }

    pub(super) const fn logs(&self) -> &Logs {
        &self.logs
    }

    pub(super) fn all_ready(&self) -> bool {
        self.nodes.iter().all(|node| node.answer == Answer::Ready)
    }

    /// The first node that ended by itself.
    pub(super) fn failed_to_start(&self) -> Option<anyhow::Error> {
        let (i, node) = self.nodes.iter().enumerate().find(|(_, node)| node.process.is_none())?;
        let name = self.name(i);
        Some(anyhow::anyhow!("node {name} did not start: {}", node.state()))
    }

    pub(super) fn not_up_in_time(&self, time: Duration) -> anyhow::Error {
        let late = self.nodes.iter().enumerate().filter(|(_, node)| node.answer != Answer::Ready);
        let late: Vec<String> =
            late.map(|(i, node)| format!("{} is {}", self.name(i), node.state())).collect();
        anyhow::anyhow!("not all nodes are ready after {time:?}: {}", late.join(", "))
    }

    /// Sees who has ended and how the others are; what is news.
    pub(super) async fn look(&mut self) -> Vec<String> {
        let mut news = Vec::new();
        for i in 0..self.nodes.len() {
            let ended = self.nodes[i].process.as_mut().and_then(Process::ended);
            if let Some(status) = ended {
                let name = self.name(i);
                let end = End::of(status);
                news.push(match &end {
                    End::Failed(how) => {
                        let tail = self.logs.tail(name);
                        format!("node {name} failed: {how}\n{}", tail.trim_end())
                    }
                    _ => format!("node {name} has left"),
                });
                self.nodes[i].gone(end);
            }
        }
        let asked =
            self.nodes.iter().zip(&self.plan.nodes).map(async |(node, plan)| match &node.process {
                Some(process) if !process.is_stopped() => probe::ask(plan.http).await,
                _ => Answer::Silent,
            });
        let answers = join_all(asked).await;
        for (i, answer) in answers.into_iter().enumerate() {
            let node = &mut self.nodes[i];
            node.answer = answer;
            if node.announce && node.answer == Answer::Ready {
                node.announce = false;
                news.push(format!("node {} is ready", self.name(i)));
            }
        }
        news
    }

    /// What was done.
    pub(super) async fn act(&mut self, act: Act) -> Vec<String> {
        let done = match act {
            Act::Kill(i) => self.kill(i).await,
            Act::Stop(i) => self.stop_or_go_on(i).await,
            Act::Restart(i) => self.restart(i).await,
            Act::Cut(i, j) => self.cut_or_heal(i, j),
        };
        vec![done]
    }

    /// Whether any node had failed.
    pub(super) async fn end(&mut self) -> bool {
        let processes = self.nodes.iter_mut().filter_map(|node| node.process.take());
        join_all(processes.map(Process::end)).await;
        self.nodes.iter().any(|node| matches!(node.end, End::Failed(_)))
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        let rows = self.nodes.iter().zip(&self.plan.nodes).enumerate();
        rows.map(|(i, (node, plan))| {
            let cut = (0..self.size()).filter(|j| self.is_cut(i, *j)).map(|j| self.name(j));
            Row {
                name: plan.name.to_string(),
                pid: node.process.as_ref().map(Process::pid),
                grpc: plan.grpc,
                peer: plan.peer,
                http: plan.http,
                redis: plan.redis,
                state: node.state(),
                cut_from: cut.map(ToString::to_string).collect(),
            }
        })
        .collect()
    }

    fn name(&self, i: usize) -> &NodeName {
        &self.plan.nodes[i].name
    }

    fn start_node(&mut self, i: usize, first_start: bool) -> anyhow::Result<()> {
        let dial: Vec<Option<SocketAddr>> =
            self.proxies[i].iter().map(|proxy| proxy.as_ref().map(ProxyHandle::addr)).collect();
        let flags = self.plan.flags(i, &dial, first_start);
        let log = self.logs.open(self.name(i)).context("open a node's log")?;
        let process = Process::start(&flags, log)
            .with_context(|| format!("start the process of node {}", self.name(i)))?;
        self.nodes[i] = Node { process: Some(process), announce: !first_start, ..Node::new() };
        Ok(())
    }

    async fn kill(&mut self, i: usize) -> String {
        let (name, number) = (self.name(i).clone(), i + 1);
        let Some(process) = self.nodes[i].process.take() else {
            return format!("node {name} does not run; r{number} starts it");
        };
        let pid = process.pid();
        process.kill().await;
        self.nodes[i].gone(End::Killed);
        format!("node {name} killed (PID {pid}); r{number} starts it again")
    }

    async fn stop_or_go_on(&mut self, i: usize) -> String {
        let (name, number) = (self.name(i).clone(), i + 1);
        let Some(process) = &mut self.nodes[i].process else {
            return format!("node {name} does not run; r{number} starts it");
        };
        match process.stop_or_go_on().await {
            Ok(()) if process.is_stopped() => {
                format!("node {name} stopped; s{number} lets it go on")
            }
            Ok(()) => format!("node {name} goes on"),
            Err(error) => format!("node {name} can't be sent a signal: {error}"),
        }
    }

    async fn restart(&mut self, i: usize) -> String {
        if let Some(process) = self.nodes[i].process.take() {
            process.kill().await;
            self.nodes[i].gone(End::Killed);
        }
        match self.start_node(i, false) {
            Ok(()) => {
                let pid = self.nodes[i].process.as_ref().map_or(0, Process::pid);
                format!("node {} starts again (PID {pid})", self.name(i))
            }
            Err(error) => format!("{error:#}"),
        }
    }

    fn cut_or_heal(&self, i: usize, j: usize) -> String {
        let was_cut = self.is_cut(i, j);
        for proxy in [&self.proxies[i][j], &self.proxies[j][i]].into_iter().flatten() {
            if was_cut {
                proxy.heal();
            } else {
                proxy.cut();
            }
        }
        let (one, other) = (self.name(i), self.name(j));
        if was_cut {
            format!("the link between {one} and {other} is healed")
        } else {
            format!("the link between {one} and {other} is cut; c{}-{} heals it", i + 1, j + 1)
        }
    }

    fn is_cut(&self, i: usize, j: usize) -> bool {
        self.proxies[i][j].as_ref().is_some_and(ProxyHandle::is_cut)
    }
}

impl Node {
    const fn new() -> Self {
        Self { process: None, answer: Answer::Silent, end: End::NotStarted, announce: false }
    }

    fn gone(&mut self, end: End) {
        *self = Self { end, ..Self::new() };
    }

    fn state(&self) -> String {
        match (&self.process, &self.answer) {
            (Some(process), _) if process.is_stopped() => "stopped".to_owned(),
            (Some(_), Answer::Ready) => "ready".to_owned(),
            (Some(_), Answer::NotReady(state)) => state.clone(),
            (Some(_), Answer::Silent) => "silent".to_owned(),
            (None, _) => match &self.end {
                End::NotStarted => "not started".to_owned(),
                End::Killed => "killed".to_owned(),
                End::Left => "left".to_owned(),
                End::Failed(how) => format!("failed: {how}"),
            },
        }
    }
}

impl End {
    fn of(status: ExitStatus) -> Self {
        if status.success() { Self::Left } else { Self::Failed(status.to_string()) }
    }
}
