//! `waxwing dev` as people start it: real processes, keys as lines on its standard input.

use std::net::{SocketAddr, TcpListener};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::cluster::within;

struct Dev {
    child: Child,
    keys: ChildStdin,
    out: Lines<BufReader<ChildStdout>>,
    talk: Lines<BufReader<ChildStderr>>,
    base_port: u16,
}

/// Thirty ports from here on were free a moment ago. Below those that the kernel gives out: a busy machine has none in a row there.
fn free_base_port() -> u16 {
    for _ in 0..100 {
        let chance = getrandom::u32().expect("the operating system has randomness");
        let base = 12_000 + u16::try_from(chance % 1_600).expect("small") * 10;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (base..base + 30).all(free) {
            return base;
        }
    }
    panic!("no thirty free ports in a row");
}

impl Dev {
    fn start() -> Self {
        let base_port = free_base_port();
        let mut child = Command::new(env!("CARGO_BIN_EXE_waxwing"))
            .args(["dev", "--nodes", "3", "--base-port", &base_port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let keys = child.stdin.take().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let talk = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, keys, out, talk, base_port }
    }

    async fn keys(&mut self, line: &str) {
        self.keys.write_all(format!("{line}\n").as_bytes()).await.expect("it reads keys");
    }

    /// Reads on until it says this.
    async fn says(&mut self, what: &str) -> String {
        let mut heard = String::new();
        loop {
            let waited_for = format!("dev says {what:?} after\n{heard}");
            let line = within(&waited_for, self.talk.next_line()).await.unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended; it said\n{heard}"));
            if line.contains(what) {
                return line;
            }
            heard.push_str(&line);
            heard.push('\n');
        }
    }

    /// The next table's rows.
    async fn rows(&mut self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        loop {
            let line = within("a line of the table", self.out.next_line()).await.unwrap();
            let line = line.expect("it ended before the table's end");
            let cells: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            match cells.first().map(String::as_str) {
                Some("try:") => return rows,
                Some(first) if first.parse::<u8>().is_ok() => rows.push(cells),
                _ => {}
            }
        }
    }

    async fn ends(mut self) -> ExitStatus {
        within("dev ends", self.child.wait()).await.unwrap()
    }
}

fn pid_of(row: &[String]) -> Pid {
    Pid::from_raw(row[2].parse().expect("a PID"))
}

async fn gone(pid: Pid) {
    within(&format!("process {pid} is gone"), async {
        while signal::kill(pid, None).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn keys_kill_stop_restart_and_cut() {
    let mut dev = Dev::start();
    let rows = dev.rows().await;
    assert_eq!(rows.len(), 3);
    for (i, (row, name)) in rows.iter().zip(["a", "b", "c"]).enumerate() {
        let port = dev.base_port + 10 * u16::try_from(i).unwrap();
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port)).to_string();
        assert_eq!(row[1], name);
        assert_eq!(
            row[3..],
            [at(port), at(port + 1), at(port + 2), at(port + 3), "ready".to_owned()]
        );
    }

    dev.keys("k2").await;
    dev.says("node b killed").await;
    gone(pid_of(&rows[1])).await;
    dev.keys("s1").await;
    dev.says("node a stopped").await;
    dev.keys("s1").await;
    dev.says("node a goes on").await;
    dev.keys("c1-3").await;
    dev.says("the link between a and c is cut").await;
    dev.keys("").await;
    let broken = dev.rows().await;
    let [_, _, _, grpc, peer, http, redis, _] = &rows[1][..] else { panic!("{rows:?}") };
    assert_eq!(broken[1][2..], ["-", grpc, peer, http, redis, "killed"]);
    assert!(broken[0].join(" ").ends_with("cut from c"), "{broken:?}");
    dev.keys("c1-3").await;
    dev.says("the link between a and c is healed").await;
    dev.keys("r2").await;
    dev.says("node b is ready").await;
    dev.keys("k9").await;
    dev.says("nodes have the numbers 1 to 3").await;
    dev.keys("").await;
    let last = dev.rows().await;
    dev.keys("q").await;
    assert!(dev.ends().await.success());
    for row in &last {
        gone(pid_of(row)).await;
    }
}

#[tokio::test]
async fn nodes_never_outlive_it_and_a_script_ends_it_by_a_signal() {
    let mut dev = Dev::start();
    let rows = dev.rows().await;
    dev.keys("s2").await;
    dev.says("node b stopped").await;
    dev.child.start_kill().unwrap();
    dev.ends().await;
    for row in &rows {
        gone(pid_of(row)).await;
    }

    let mut dev = Dev::start();
    let rows = dev.rows().await;
    let pid = Pid::from_raw(i32::try_from(dev.child.id().unwrap()).unwrap());
    signal::kill(pid, Signal::SIGTERM).unwrap();
    assert!(dev.ends().await.success());
    for row in &rows {
        gone(pid_of(row)).await;
    }
}

#[tokio::test]
async fn a_port_in_use_is_told_before_anything_starts() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let told = Command::new(env!("CARGO_BIN_EXE_waxwing"))
        .args(["dev", "--nodes", "1", "--base-port", &port.to_string()])
        .stdin(Stdio::null())
        .output();
    let told = within("it gives up", told).await.unwrap();
    assert_eq!(told.status.code(), Some(1));
    let said = String::from_utf8_lossy(&told.stderr);
    assert!(said.contains(&format!("127.0.0.1:{port} (gRPC of node a)")), "{said}");
    assert_eq!(told.stdout, b"");
}
