//! What a failed command says. (A part of the command line's own, to compile against.)

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Hinted {
    pub(crate) what: String,
    pub(crate) hint: String,
}
