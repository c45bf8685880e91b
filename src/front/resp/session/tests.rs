//! The session alone.
