//! What the client decides, as scripts.
