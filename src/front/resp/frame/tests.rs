//! Parsing, judged by printing and by splitting.
