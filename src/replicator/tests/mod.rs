//! Of shards, lanes, watches and the codec, without a network.
