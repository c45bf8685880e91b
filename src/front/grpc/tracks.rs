//! Tracks that stand together in one read, gathered so that they are done in one go.

use super::codec::Ask;
use super::decode::Part;
use crate::broker::{TrackAsk, Verb};

/// So many, and so many bytes, are done in one go: other sessions want the shards too.
const TRACKS_MAX: usize = 4_096;
const BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Tracks {
    pub(super) verb: Verb,
    pub(super) ids: Vec<u64>,
    pub(super) asks: Vec<TrackAsk>,
    bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Gathering(Option<Tracks>);

impl Gathering {
    pub(super) fn push(&mut self, id: u64, verb: Verb, ask: TrackAsk) {
        let tracks = self.0.get_or_insert_with(|| Tracks {
            verb,
            ids: Vec::new(),
            asks: Vec::new(),
            bytes: 0,
        });
        tracks.bytes += ask.topic.len() + ask.key.len() + ask.id.len() + ask.meta.len();
        tracks.ids.push(id);
        tracks.asks.push(ask);
    }

    /// What must be done before `part`.
    pub(super) fn take_before(&mut self, part: &Part) -> Option<Tracks> {
        let joins = |tracks: &Tracks| {
            let same =
                matches!(part, Part::Ask { ask: Ask::Track(verb, _), .. } if *verb == tracks.verb);
            same && tracks.asks.len() < TRACKS_MAX && tracks.bytes < BYTES_MAX
        };
        self.0.take_if(|tracks| !joins(tracks))
    }

    pub(super) fn take(&mut self) -> Option<Tracks> {
        self.0.take()
    }
}
