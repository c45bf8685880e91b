//! Faults for those who hold leases: one after another, so that most of the time there is a quorum, and now and then none.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use nix::sys::signal::Signal;
use waxwing::proxy::ProxyHandle;

use crate::chance::Chance;
use crate::cluster::Cluster;

const ENDED_WITHIN: Duration = Duration::from_secs(30);
const CONVERGED_WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// Between two faults; none at all where it is empty.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    pub pause_ms: std::ops::Range<usize>,
    /// Each node in turn, told to end as an operator would.
    pub rolling_restarts: bool,
}

/// How often each fault was.
#[derive(Debug, Clone, Default)]
pub struct Tally(pub BTreeMap<&'static str, u64>);

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> =
            self.0.iter().map(|(what, count)| format!("{what} {count}")).collect();
        f.write_str(&all.join(", "))
    }
}

pub(super) async fn run(
    cluster: &Cluster,
    chance: &mut Chance,
    faults: Faults,
    is_over: impl Fn() -> bool,
) -> Result<Tally, String> {
    let mut tally = Tally::default();
    while !is_over() {
        if faults.pause_ms.is_empty() {
            tokio::time::sleep(LOOK).await;
            continue;
        }
        pause(chance.ms(faults.pause_ms.clone()), &is_over).await;
        if is_over() {
            break;
        }
        let kinds = if faults.rolling_restarts { 12 } else { 11 };
        let kind = one(cluster, chance, kinds).await?;
        *tally.0.entry(kind).or_default() += 1;
    }
    cluster.mesh().all().for_each(ProxyHandle::heal);
    let _ = cluster.eventually_all_see("it heals", CONVERGED_WITHIN, &cluster.names()).await;
    Ok(tally)
}

/// Not longer than there is something to do.
async fn pause(mut time: Duration, is_over: &impl Fn() -> bool) {
    while !time.is_zero() && !is_over() {
        let step = time.min(LOOK);
        tokio::time::sleep(step).await;
        time -= step;
    }
}

async fn one(cluster: &Cluster, chance: &mut Chance, kinds: usize) -> Result<&'static str, String> {
    let a = chance.below(cluster.len());
    let b = (a + chance.within(1..cluster.len())) % cluster.len();
    let mesh = cluster.mesh();
    let short = chance.ms(50..1_200);
    let long = chance.ms(1_500..6_000);
    let lasts = if chance.one_in(3) { long } else { short };
    let fault = |what: &str, begin: bool| cluster.recorder().fault(what, begin);
    match chance.below(kinds) {
        0..=2 => {
            fault("kill", true);
            cluster.kill9(a);
            tokio::time::sleep(lasts).await;
            cluster.restart(a);
            fault("kill", false);
            Ok("kill")
        }
        3 | 4 => {
            fault("stop", true);
            cluster.sigstop(a);
            tokio::time::sleep(lasts).await;
            cluster.sigcont(a);
            fault("stop", false);
            Ok("stop")
        }
        5 | 6 => {
            let cut = mesh.between(a, b);
            fault("cut", true);
            cut.iter().for_each(|proxy| proxy.cut());
            tokio::time::sleep(lasts).await;
            cut.iter().for_each(|proxy| proxy.heal());
            fault("cut", false);
            Ok("cut")
        }
        7 => {
            fault("isolate", true);
            mesh.around(a).for_each(ProxyHandle::cut);
            tokio::time::sleep(lasts).await;
            mesh.around(a).for_each(ProxyHandle::heal);
            fault("isolate", false);
            Ok("isolate")
        }
        8 => {
            // One way.
            fault("half-open", true);
            mesh.pair(a, b).half_open();
            tokio::time::sleep(lasts).await;
            mesh.pair(a, b).heal();
            fault("half-open", false);
            Ok("half-open")
        }
        9 => {
            fault("delay", true);
            mesh.around(a).for_each(|proxy| proxy.delay(Duration::from_millis(60)));
            tokio::time::sleep(long).await;
            mesh.around(a).for_each(ProxyHandle::heal);
            fault("delay", false);
            Ok("delay")
        }
        10 => {
            // Two at a time: for a while nothing can be agreed on.
            fault("kill two", true);
            cluster.kill9(a);
            cluster.sigstop(b);
            tokio::time::sleep(short).await;
            cluster.sigcont(b);
            cluster.restart(a);
            fault("kill two", false);
            Ok("kill two")
        }
        _ => {
            for node in cluster.nodes() {
                node.signal(Signal::SIGTERM);
                node.exit(ENDED_WITHIN).await?;
                let i = cluster.names().iter().position(|name| *name == node.name);
                cluster.restart(i.unwrap_or_default());
                let all = cluster.names();
                cluster.eventually_all_see("a rolling restart", CONVERGED_WITHIN, &all).await;
            }
            Ok("rolling restart")
        }
    }
}
