//! Every bench against a small cluster: the figures mean nothing there, but the verdicts must hold.

use clap::Parser;

use super::*;
use crate::client::tests::node::Hub;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    globals: Globals,
    #[command(flatten)]
    bench: BenchArgs,
}

async fn bench(words: &str) -> anyhow::Result<()> {
    let hub = Hub::new();
    let (a, b) = (hub.node("a").await, hub.node("b").await);
    let nodes = format!("{},{}", a.address, b.address);
    let line = format!("waxwing --quiet -o json --node {nodes} {words}");
    let line = Line::parse_from(line.split(' '));
    run(line.bench, &line.globals).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pubsub_accounts_for_every_message() {
    for words in [
        "pubsub --publishers 3 --subscribers 5 --topics 2 --window 50 --duration 300ms --warmup 20ms",
        "pubsub --across --rate 2000 --payload 24 --subscribers 3 --connections 2 --duration 300ms --warmup 0s",
    ] {
        bench(words).await.unwrap_or_else(|err| panic!("{words}: {err:#}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latency_is_measured() {
    bench("latency --rate 1000 --subscribers 3 --duration 300ms --warmup 50ms").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fanout_waits_for_the_last() {
    bench("fanout --across --subscribers 50 --rounds 3").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_sessions_are_opened() {
    bench("idle --sessions 50 --connections 2 --duration 50ms").await.unwrap();
}

#[tokio::test]
async fn nobody_there() {
    let line = Line::parse_from("waxwing --node 127.0.0.1:1 idle --sessions 1".split(' '));
    let err = run(line.bench, &line.globals).await.unwrap_err();
    assert!(format!("{err:#}").contains("refused"), "{err:#}");
    assert!(err.is::<crate::cli::failure::Hinted>());
    let line = Line::parse_from("waxwing --node 127.0.0.1:1 idle --across".split(' '));
    let err = run(line.bench, &line.globals).await.unwrap_err();
    assert!(err.is::<Usage>(), "{err:#}");
}
