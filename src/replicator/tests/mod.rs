//! Of shards, lanes, watches and the codec, without a network.

mod frames;
mod watching;
mod world;
