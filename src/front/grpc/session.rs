//! `Session.Open`: one stream, one attachment. Its reading half is a task of its own, so that a panic in it takes this session only.

use std::convert::Infallible;
use std::future::Ready;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower_service::Service;

use super::GrpcDeps;
use super::accept::Caller;
use super::codec::{Ask, Hello, SessionVoice};
use super::convert::{self, status};
use super::decode::{Decoder, Part};
use super::pending::Pending;
use super::reading::{FrameReader, ReadError};
use super::talk::{self, Reading};
use super::writing::{self, Opened};
use crate::broker::{Attachment, Opening, Pass};
use crate::supervise::Task;

#[derive(Debug, Clone)]
pub(super) struct SessionService {
    pub(super) deps: Arc<GrpcDeps>,
}

impl NamedService for SessionService {
    const NAME: &'static str = "waxwing.v1.Session";
}

impl Service<Request<Body>> for SessionService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        std::future::ready(Ok(self.open(request).unwrap_or_else(Status::into_http)))
    }
}

impl SessionService {
    fn open(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        if request.uri().path() != "/waxwing.v1.Session/Open" {
            return Err(Status::unimplemented("the session service has one method, Open"));
        }
        let pass = convert::admit(self.deps.broker.door(), request.headers())?;
        let address = caller(&request);
        let (opened, response) = writing::response();
        let reader = FrameReader::new(request.into_body());
        let deps = self.deps.clone();
        let task = Task::Session(format!("grpc {address}"));
        let _ =
            self.deps.supervisor.spawn(task, Box::pin(run(deps, pass, address, reader, opened)));
        Ok(response)
    }
}

/// The caller's address, for people.
pub(super) fn caller(request: &Request<Body>) -> String {
    let caller = request.extensions().get::<Caller>();
    caller.map(|caller| caller.address.to_string()).unwrap_or_default()
}

async fn run(
    deps: Arc<GrpcDeps>,
    pass: Pass,
    address: String,
    reader: FrameReader,
    mut opened: Opened,
) {
    let decoder = Decoder::new(pass.namespace().clone(), deps.router.hasher().clone());
    let mut reading = Reading::new(reader, decoder);
    let greeted = tokio::select! {
        biased;
        // Nobody is there any longer to be welcomed.
        () = opened.closed() => return,
        greeted = greet(&deps, pass, address, &mut reading) => greeted,
    };
    match greeted {
        Err(status) => {
            let _ = opened.send(Err(status));
        }
        Ok((attachment, id)) => {
            let mut pending = Pending::new(attachment, deps.router.clone());
            if id != 0 {
                pending.events.done(id);
                pending.flush();
            }
            // Refused: the client has gone, and the attachment with it.
            if opened.send(Ok(pending.attachment.outlet())).is_ok() {
                talk::run(&deps, reading, pending).await;
            }
        }
    }
}

/// Reads the hello and opens the attachment; also the hello's id.
async fn greet(
    deps: &GrpcDeps,
    pass: Pass,
    address: String,
    reading: &mut Reading,
) -> Result<(Attachment, u64), Status> {
    let handshake = deps.limits.get().handshake;
    let first = tokio::time::timeout(handshake, reading.first(deps)).await;
    let first = first.map_err(|_| {
        let late = format!("no hello within limits.handshake, {} s", handshake.as_secs_f64());
        status(Code::FailedPrecondition, "no_hello", late)
    })?;
    let (id, hello) = match first? {
        Some(Part::Ask { id, ask: Ask::Hello(hello) }) => (id, hello),
        Some(Part::Refused { error, .. }) => return Err(convert::status_of(&error)),
        Some(Part::Run(_) | Part::Ask { .. }) => {
            let early = "the first request must be hello";
            return Err(status(Code::FailedPrecondition, "no_hello", early));
        }
        None => {
            let early = "the stream ended without a hello";
            return Err(status(Code::FailedPrecondition, "no_hello", early));
        }
    };
    let Hello { token, client, linger, epoch, overlap } = hello;
    let token = token.0.to_vec();
    let opening =
        Opening { pass, front: super::FRONT, client, address, token, epoch, linger, overlap };
    let attachment = deps
        .broker
        .open(opening, &SessionVoice)
        .await
        .map_err(|error| convert::status_of(&error))?;
    Ok((attachment, id))
}

/// Why nothing more can be read before a session is open.
pub(super) fn status_of_reading(error: &ReadError) -> Status {
    match error {
        ReadError::TooLarge { .. } => {
            super::count_limit("frame");
            status(Code::ResourceExhausted, "frame_too_large", error.to_string())
        }
        ReadError::Compressed => Status::unimplemented(error.to_string()),
        ReadError::BadPrefix(_) | ReadError::Cut => {
            status(Code::InvalidArgument, "malformed", error.to_string())
        }
        ReadError::Broken => Status::cancelled(error.to_string()),
    }
}
