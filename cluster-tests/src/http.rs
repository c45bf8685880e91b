//! Just enough HTTP to ask a node for a document.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub body: String,
}

pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<Response> {
    ask(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")).await
}

/// `headers`: whole lines, each ended by CRLF.
pub async fn post(
    address: SocketAddr,
    path: &str,
    headers: &str,
    body: &str,
) -> anyhow::Result<Response> {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: {address}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    ask(address, &request).await
}

async fn ask(address: SocketAddr, request: &str) -> anyhow::Result<Response> {
    timeout(PATIENCE, async {
        let mut stream = TcpStream::connect(address).await.context("connect")?;
        stream.write_all(request.as_bytes()).await.context("send")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.context("receive")?;
        let answer = String::from_utf8_lossy(&answer);
        let Some((head, body)) = answer.split_once("\r\n\r\n") else {
            bail!("no HTTP answer: {:?}", answer.chars().take(200).collect::<String>());
        };
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok(Response { status: status.context("no status code")?, body: body.to_owned() })
    })
    .await
    .with_context(|| format!("no answer from {address} within {PATIENCE:?}"))?
}
