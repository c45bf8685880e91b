//! A network namespace for each node, on one bridge: there a connection can be cut one way, as it happens to real hosts.
//!
//! A way is cut by giving the sender a wrong hardware address of the receiver: its packets leave and reach nobody, nothing tells it, and
//! what comes back still arrives. Needs root and `ip`; whoever can't have it says that it did not run.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::ports::Ports;

const NOBODY: &str = "02:77:00:00:00:ff";

#[derive(Debug)]
pub struct Lab {
    id: u32,
    hosts: u8,
}

impl Lab {
    /// Err: not to be had on this machine.
    pub fn build(hosts: u8) -> anyhow::Result<Self> {
        // Dropped when something fails half way, which takes away what is there.
        let lab = Self { id: std::process::id() % 50_000, hosts };
        let bridge = lab.bridge();
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("addr add {}/24 dev {bridge}", lab.address(254)))?;
        ip(&format!("link set {bridge} up"))?;
        for host in 0..hosts {
            let (space, outside) = (lab.space(host), format!("wx{}v{host}", lab.id));
            ip(&format!("netns add {space}"))?;
            ip(&format!("link add {outside} type veth peer name eth0 netns {space}"))?;
            ip(&format!("link set {outside} master {bridge} up"))?;
            ip(&format!("-n {space} link set eth0 address {}", hardware(host)))?;
            ip(&format!("-n {space} addr add {}/24 dev eth0", lab.host(host)))?;
            ip(&format!("-n {space} link set eth0 up"))?;
            ip(&format!("-n {space} link set lo up"))?;
        }
        Ok(lab)
    }

    fn bridge(&self) -> String {
        format!("wx{}b", self.id)
    }

    fn space(&self, host: u8) -> String {
        format!("wx{}-{host}", self.id)
    }

    fn address(&self, last: u8) -> Ipv4Addr {
        let third = u8::try_from(self.id % 250).unwrap_or(0);
        Ipv4Addr::new(10, 77, third, last)
    }

    fn host(&self, host: u8) -> Ipv4Addr {
        self.address(host + 1)
    }

    /// Where this process is seen from the hosts.
    pub fn outside(&self) -> Ipv4Addr {
        self.address(254)
    }

    pub fn ports(&self, host: usize) -> Ports {
        let at = |port| SocketAddr::from((self.host(number(host)), port));
        Ports { grpc: at(7400), peer: at(7401), http: at(7402) }
    }

    /// What a command line begins with to run there.
    pub fn prefix(&self, host: usize) -> Vec<String> {
        let space = format!("--net=/run/netns/{}", self.space(number(host)));
        vec!["nsenter".to_owned(), space]
    }

    /// Nothing gets from one to the other any more; the way back stays.
    pub fn cut_one_way(&self, from: usize, to: usize) -> anyhow::Result<()> {
        self.neighbour(number(from), number(to), NOBODY)
    }

    pub fn heal_one_way(&self, from: usize, to: usize) -> anyhow::Result<()> {
        let to = number(to);
        self.neighbour(number(from), to, &hardware(to))
    }

    fn neighbour(&self, from: u8, to: u8, hardware: &str) -> anyhow::Result<()> {
        let (space, to) = (self.space(from), self.host(to));
        ip(&format!("-n {space} neigh replace {to} lladdr {hardware} dev eth0 nud permanent"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in 0..self.hosts {
            // What was never made can't be taken away.
            let _ = ip(&format!("netns del {}", self.space(host)));
        }
        let _ = ip(&format!("link del {}", self.bridge()));
    }
}

fn number(host: usize) -> u8 {
    u8::try_from(host).expect("few hosts")
}

fn hardware(host: u8) -> String {
    format!("02:77:00:00:00:{:02x}", host + 1)
}

fn ip(command: &str) -> anyhow::Result<()> {
    let output = Command::new("ip").args(command.split(' ')).output().context("run ip")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {command}: {}", told.trim());
    Ok(())
}
