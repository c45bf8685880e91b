//! A session of raw bytes, for frames that no lawful client would send.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};
use waxwing::wire::v1::event::Kind;
use waxwing::wire::v1::{Error, ServerFrame};

use crate::client::{ClientError, PATIENCE, channel};

/// What a node made of it.
#[derive(Debug)]
pub struct Answer {
    /// Errors of single requests, as they came.
    pub errors: Vec<Error>,
    /// How the stream ended. None: it had not, when the client had waited for `quiet` and left.
    pub status: Option<Status>,
}

impl Answer {
    pub fn codes(&self) -> Vec<&str> {
        self.errors.iter().map(|error| error.code.as_str()).collect()
    }
}

/// Sends each of `frames` as one gRPC message, and reads until an error comes, the stream ends, or nothing has come for `quiet`.
pub async fn converse(
    node: &str,
    frames: Vec<Bytes>,
    quiet: Duration,
) -> Result<Answer, ClientError> {
    let mut grpc = Grpc::new(channel(node).await?);
    let refused = |error: tonic::transport::Error| ClientError::Connect(error);
    grpc.ready().await.map_err(refused)?;
    // It stays open behind the frames: what is judged is what the frames alone lead to.
    let outgoing = tokio_stream::iter(frames).chain(tokio_stream::pending());
    let mut answer = Answer { errors: Vec::new(), status: None };
    let opening = open(&mut grpc, outgoing);
    let mut incoming = match timeout(PATIENCE, opening).await {
        Err(_) => return Err(ClientError::Silent { what: "opening", within: PATIENCE }),
        Ok(Err(status)) => return Ok(Answer { status: Some(status), ..answer }),
        Ok(Ok(incoming)) => incoming,
    };
    loop {
        match timeout(quiet, incoming.message()).await {
            Err(_) => return Ok(answer),
            Ok(Err(status)) => return Ok(Answer { status: Some(status), ..answer }),
            Ok(Ok(None)) => return Ok(Answer { status: Some(Status::ok("")), ..answer }),
            Ok(Ok(Some(frame))) => answer.errors.extend(errors(&frame)),
        }
        if !answer.errors.is_empty() {
            return Ok(answer);
        }
    }
}

async fn open(
    grpc: &mut Grpc<Channel>,
    outgoing: impl tokio_stream::Stream<Item = Bytes> + Send + 'static,
) -> Result<tonic::Streaming<Bytes>, Status> {
    let path = ::http::uri::PathAndQuery::from_static("/waxwing.v1.Session/Open");
    let response = grpc.streaming(Request::new(outgoing), path, AsIs).await?;
    Ok(response.into_inner())
}

fn errors(frame: &Bytes) -> Vec<Error> {
    let frame = <ServerFrame as prost::Message>::decode(frame.clone()).expect("a node's own frame");
    let mut all = Vec::new();
    for event in frame.events {
        if let Some(Kind::Reply(reply)) = event.kind {
            all.extend(reply.error);
            all.extend(reply.topics.into_iter().filter_map(|result| result.error));
        }
    }
    all
}

#[derive(Debug, Clone, Copy)]
struct AsIs;

impl Codec for AsIs {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(input.copy_to_bytes(input.remaining())))
    }
}
