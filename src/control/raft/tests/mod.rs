//! Groups of several members in one process: founded, led, cut, killed, grown.

mod groups;
mod links;
mod world;
