//! ● The nodes as a table, and lines to paste.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::cli::output::{Mark, Table};

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) pid: Option<i32>,
    pub(super) grpc: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) redis: SocketAddr,
    pub(super) state: String,
    pub(super) cut_from: Vec<String>,
}

pub(super) fn render(rows: &[Row], program: &str) -> String {
    let mut table = Table::new(&["#", "NAME", "PID", "GRPC", "PEER", "HTTP", "REDIS", "STATE"]);
    for (i, row) in rows.iter().enumerate() {
        let mut state = row.state.clone();
        if !row.cut_from.is_empty() {
            let _ = write!(state, ", cut from {}", row.cut_from.join(" "));
        }
        let mark = match state.as_str() {
            "ready" => Mark::Plain,
            _ if row.pid.is_some() => Mark::Warn,
            _ => Mark::Bad,
        };
        let cells = [
            (i + 1).to_string(),
            row.name.clone(),
            row.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            row.grpc.to_string(),
            row.peer.to_string(),
            row.http.to_string(),
            row.redis.to_string(),
            state,
        ];
        table.row(cells, mark);
    }
    let mut out = table.render();
    if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
        let _ = write!(out, "\ntry:\n  {program} --node {} subscribe room:1", last.grpc);
        let _ = write!(out, "\n  {program} --node {} publish room:1 hi", first.grpc);
        let _ = write!(out, "\n  {program} --node {} presence watch room:1", last.grpc);
        let _ = write!(out, "\n  {program} --node {} presence track room:1 alice", first.grpc);
        let _ = write!(out, "\n  redis-cli -p {} publish room:1 hi", first.redis.port());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Row, render};

    #[test]
    fn columns_stand_in_line_and_lines_can_be_pasted() {
        let row = |name: &str, pid, port, state: &str, cut_from: &[&str]| Row {
            name: name.to_owned(),
            pid,
            grpc: ([127, 0, 0, 1], port).into(),
            peer: ([127, 0, 0, 1], port + 1).into(),
            http: ([127, 0, 0, 1], port + 2).into(),
            redis: ([127, 0, 0, 1], port + 3).into(),
            state: state.to_owned(),
            cut_from: cut_from.iter().map(|name| (*name).to_owned()).collect(),
        };
        let rows =
            [row("a", Some(12), 7400, "ready", &["b"]), row("b", None, 17410, "killed", &[])];
        let expected = "\
#  NAME  PID  GRPC             PEER             HTTP             REDIS            STATE
1  a      12  127.0.0.1:7400   127.0.0.1:7401   127.0.0.1:7402   127.0.0.1:7403   ready, cut from b
2  b       -  127.0.0.1:17410  127.0.0.1:17411  127.0.0.1:17412  127.0.0.1:17413  killed
try:
  waxwing --node 127.0.0.1:17410 subscribe room:1
  waxwing --node 127.0.0.1:7400 publish room:1 hi
  waxwing --node 127.0.0.1:17410 presence watch room:1
  waxwing --node 127.0.0.1:7400 presence track room:1 alice
  redis-cli -p 7403 publish room:1 hi";
        let shown = anstream::adapter::strip_str(&render(&rows, "waxwing")).to_string();
        assert_eq!(shown, expected);
    }
}
