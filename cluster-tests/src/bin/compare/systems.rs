//! The systems that are compared: how each is started, alone and as a cluster of three, with its own defaults.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use cluster_tests::ports::{Ports, reserve_tcp};
use cluster_tests::process::{Process, tail, without_our_environment};
use waxwing::supervise::Clock;

use crate::protocol::{Dialect, Place, command, greeting};

const STARTING_MAX: Duration = Duration::from_secs(20);
const CLUSTER_LEN: usize = 3;
const SLOTS: usize = 16_384;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum System {
    Waxwing,
    Redis,
    Nats,
}

impl System {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Waxwing => "waxwing",
            Self::Redis => "redis",
            Self::Nats => "nats",
        }
    }

    const fn dialect(self) -> Dialect {
        match self {
            Self::Waxwing | Self::Redis => Dialect::Resp,
            Self::Nats => Dialect::Nats,
        }
    }
}

/// A system that is there, with the program that runs it.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) system: System,
    pub(crate) version: String,
    program: PathBuf,
}

/// Servers that run. They end with this value.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) processes: Vec<Process>,
    doors: Vec<SocketAddr>,
    dialect: Dialect,
    dir: tempfile::TempDir,
}

impl Candidate {
    /// Err: why it can't be run.
    pub(crate) fn find(system: System, program: &Path) -> Result<Self, String> {
        let version = said(program, &["--version"])?;
        if system == System::Waxwing
            && !said(program, &["start", "--help"])?.contains("--listen-redis")
        {
            return Err(format!("{} has no --listen-redis", program.display()));
        }
        let version = version.lines().next().unwrap_or_default().trim().to_owned();
        // Servers have a directory of their own; a mere name is looked up in PATH.
        let program = if program.components().count() > 1 {
            program.canonicalize().map_err(|error| format!("{}: {error}", program.display()))?
        } else {
            program.to_path_buf()
        };
        Ok(Self { system, version, program })
    }

    pub(crate) fn start(&self, cluster: bool) -> anyhow::Result<Servers> {
        let mut servers = Servers {
            processes: Vec::new(),
            doors: Vec::new(),
            dialect: self.system.dialect(),
            dir: tempfile::tempdir()?,
        };
        let count = if cluster { CLUSTER_LEN } else { 1 };
        let result = match self.system {
            System::Waxwing => self.start_waxwing(&mut servers, count),
            System::Redis => self.start_redis(&mut servers, count),
            System::Nats => self.start_nats(&mut servers, count),
        };
        result.with_context(|| {
            format!("start {}:\n{}", self.system.name(), tail(&servers.log(0), 20))
        })?;
        Ok(servers)
    }

    fn spawn(
        &self,
        servers: &mut Servers,
        door: SocketAddr,
        args: &[String],
    ) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        without_our_environment(&mut command);
        command.args(args).current_dir(servers.dir.path());
        let log = servers.log(servers.processes.len());
        servers.processes.push(Process::run(command, &log)?);
        servers.doors.push(door);
        Ok(())
    }

    fn start_waxwing(&self, servers: &mut Servers, count: usize) -> anyhow::Result<()> {
        let nodes: Vec<_> = (0..count).map(|_| (Ports::reserve(), reserve_tcp())).collect();
        for (i, (ports, door)) in nodes.iter().enumerate() {
            let mut args = words(&["start", "--log-level", "warn", "--name"]);
            args.push(format!("node{i}"));
            args.push(format!("--listen-grpc={}", ports.grpc));
            args.push(format!("--listen-peer={}", ports.peer));
            args.push(format!("--listen-http={}", ports.http));
            args.push(format!("--listen-redis={door}"));
            if count > 1 {
                args.push(format!("--expect={count}"));
                args.extend(nodes.iter().map(|(other, _)| format!("--join={}", other.peer)));
            }
            self.spawn(servers, *door, &args)?;
        }
        servers.wait_until_open()?;
        for (ports, _) in &nodes {
            let mut wait = Command::new(&self.program);
            without_our_environment(&mut wait);
            wait.args(["--node", &ports.grpc.to_string(), "--timeout", "20s", "wait"]);
            wait.args(["--members", &count.to_string(), "--converged"]);
            let out = wait.stdin(Stdio::null()).output()?;
            ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr).trim());
        }
        Ok(())
    }

    fn start_redis(&self, servers: &mut Servers, count: usize) -> anyhow::Result<()> {
        let doors: Vec<_> = (0..count).map(|_| (reserve_tcp(), reserve_tcp())).collect();
        for (door, bus) in &doors {
            let mut args = words(&["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
            args.extend(words(&["--maxclients", "15000", "--port"]));
            args.push(door.port().to_string());
            if count > 1 {
                args.extend(words(&["--cluster-enabled", "yes", "--cluster-config-file"]));
                args.push(format!("nodes-{}.conf", door.port()));
                args.extend(words(&["--cluster-port", &bus.port().to_string()]));
            }
            self.spawn(servers, *door, &args)?;
        }
        servers.wait_until_open()?;
        if count == 1 {
            return Ok(());
        }
        let share = SLOTS.div_ceil(count);
        for (i, (door, _)) in doors.iter().enumerate() {
            let (from, to) = (i * share, ((i + 1) * share).min(SLOTS) - 1);
            ask(*door, &["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()])?;
            ask(*door, &["CLUSTER", "SET-CONFIG-EPOCH", &(i + 1).to_string()])?;
        }
        for (door, bus) in &doors[1..] {
            let (port, bus) = (door.port().to_string(), bus.port().to_string());
            ask(doors[0].0, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus])?;
        }
        until("a cluster", || {
            doors.iter().all(|(door, _)| {
                let known = format!("cluster_known_nodes:{count}\r\n");
                let size = format!("cluster_size:{count}\r\n");
                ask(*door, &["CLUSTER", "INFO"]).is_ok_and(|info| {
                    [known.as_str(), &size, "cluster_state:ok"]
                        .iter()
                        .all(|word| info.contains(word))
                })
            })
        })
    }

    fn start_nats(&self, servers: &mut Servers, count: usize) -> anyhow::Result<()> {
        let doors: Vec<_> = (0..count).map(|_| (reserve_tcp(), reserve_tcp())).collect();
        for (i, (door, routes)) in doors.iter().enumerate() {
            let mut args = words(&["-a", "127.0.0.1", "-p"]);
            args.push(door.port().to_string());
            if count > 1 {
                args.extend(words(&["--cluster_name", "compare", "--server_name"]));
                args.push(format!("node{i}"));
                args.push("--cluster".to_owned());
                args.push(format!("nats://{routes}"));
                args.push("--routes".to_owned());
                args.push(format!("nats://{}", doors[0].1));
            }
            self.spawn(servers, *door, &args)?;
        }
        servers.wait_until_open()
    }
}

impl Servers {
    fn log(&self, i: usize) -> PathBuf {
        self.dir.path().join(format!("{i}.log"))
    }

    /// Of a cluster: publishes at the first, subscribes at the second.
    pub(crate) fn place(&self) -> Place {
        Place {
            dialect: self.dialect,
            publisher: self.doors[0],
            subscribers: self.doors.get(1).copied().unwrap_or(self.doors[0]),
        }
    }

    pub(crate) fn last_words(&self) -> String {
        (0..self.processes.len()).map(|i| tail(&self.log(i), 5)).collect::<Vec<_>>().join("\n")
    }

    fn wait_until_open(&mut self) -> anyhow::Result<()> {
        for i in 0..self.processes.len() {
            let (door, dialect) = (self.doors[i], self.dialect);
            let process = &mut self.processes[i];
            let mut ended = None;
            until("an open port", || {
                ended = process.exited();
                ended.is_some() || answers(door, dialect).is_ok()
            })?;
            if let Some(status) = ended {
                bail!("it ended: {status}");
            }
        }
        Ok(())
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn said(program: &Path, args: &[&str]) -> Result<String, String> {
    let out = Command::new(program).args(args).stdin(Stdio::null()).output();
    match out {
        Ok(out) if out.status.success() => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
        Ok(out) => Err(format!("{} ends with {}", program.display(), out.status)),
        Err(error) => Err(format!("{}: {error}", program.display())),
    }
}

fn answers(door: SocketAddr, dialect: Dialect) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(door)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let (greeting, answer) = greeting(dialect);
    stream.write_all(greeting.as_bytes())?;
    let mut heard = Vec::new();
    while !heard.ends_with(answer.as_bytes()) {
        let mut byte = [0];
        ensure!(stream.read(&mut byte)? > 0, "closed");
        heard.push(byte[0]);
    }
    Ok(())
}

/// One command; its whole answer as text.
fn ask(door: SocketAddr, words: &[&str]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(door)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(&command(words))?;
    stream.write_all(&command(&["QUIT"]))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(!answer.starts_with('-'), "{}: {}", words.join(" "), answer.trim());
    Ok(answer)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) -> anyhow::Result<()> {
    let clock = Clock::new();
    let start = clock.now();
    while !holds() {
        ensure!(clock.now() - start < STARTING_MAX, "no {what} within {STARTING_MAX:?}");
        pause(Duration::from_millis(20));
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the pace of a load, or between two looks")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
