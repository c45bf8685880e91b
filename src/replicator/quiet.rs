//! Stands in for the replicator until the core is whole.

use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;

use crate::link::{LinkInfo, Pace, StateHandler, StateSource};

/// Has nothing to say: until the trackers are there.
#[derive(Debug)]
pub struct Quiet;

impl StateHandler for Quiet {
    fn up(&self, _: &LinkInfo) -> Arc<dyn StateSource> {
        Arc::new(Self)
    }

    fn down(&self, _: &LinkInfo) {}

    fn state(&self, _: &LinkInfo, _: Bytes) -> Result<Pace, String> {
        Ok(Pace::ReadOn)
    }

    fn ping(&self, _: &LinkInfo, _: Bytes) -> Result<(), String> {
        Ok(())
    }
}

impl StateSource for Quiet {
    fn take_state(&self, _: &mut Vec<Bytes>, _: usize) {}

    fn ping(&self) -> Bytes {
        Bytes::new()
    }

    fn register(&self, _: &mut Context<'_>) {}
}
