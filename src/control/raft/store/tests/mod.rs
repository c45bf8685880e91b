//! The store: openraft's own suite, disks that lose power at any moment, files that something changed.

mod suite;
