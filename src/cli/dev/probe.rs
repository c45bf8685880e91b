//! Asks a node over HTTP how it is. HTTP/1.0 by hand: one line there, a few back, and no client to keep.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::status::StatusReport;

const TIME_MAX: Duration = Duration::from_millis(500);
/// A status document of the most members there may be is far smaller.
const ANSWER_MAX: u64 = 4 << 20;

/// How a node answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Ready,
    /// Not ready, and its state.
    NotReady(String),
    /// Nobody answers.
    Silent,
}

pub(super) async fn ask(http: SocketAddr) -> Answer {
    match get(http, "/readyz").await {
        Some((200, _)) => Answer::Ready,
        Some(_) => {
            let report = get(http, "/status").await;
            let report = report.and_then(|(_, body)| serde_json::from_slice(&body).ok());
            let state = report.map(|report: StatusReport| report.node.state);
            Answer::NotReady(state.unwrap_or_else(|| "not ready".to_owned()))
        }
        None => Answer::Silent,
    }
}

/// Status code and body; None: no answer, or none in time.
async fn get(http: SocketAddr, path: &str) -> Option<(u16, Vec<u8>)> {
    let talk = async {
        let mut socket = TcpStream::connect(http).await.ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {http}\r\n\r\n");
        socket.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        socket.take(ANSWER_MAX).read_to_end(&mut answer).await.ok()?;
        parse(&answer)
    };
    tokio::time::timeout(TIME_MAX, talk).await.ok().flatten()
}

fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let code = std::str::from_utf8(answer.get(..12)?).ok()?;
    let code = code.strip_prefix("HTTP/1.")?.get(2..)?.parse().ok()?;
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    Some((code, answer[body..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_answer_has_a_code_and_a_body() {
        assert_eq!(parse(b"HTTP/1.0 200 OK\r\nx: y\r\n\r\nok"), Some((200, b"ok".to_vec())));
        assert_eq!(parse(b"HTTP/1.1 503 No\r\n\r\n"), Some((503, Vec::new())));
        for junk in
            [&b""[..], b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"HTTP/1.1 x"]
        {
            assert_eq!(parse(junk), None);
        }
    }
}
