//! Tests of links: the cores by tables and properties, the whole by nodes on loopback.

mod calls;
mod greeting;
mod live;
mod numbers;
mod proxy;
mod recorder;
mod retransmit;
mod strangers;
mod tls;
mod world;
