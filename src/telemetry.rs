//! The log: to stderr, as text for people or JSON for programs, at a level that can be changed while the node runs.
//!
//! One event is one line, whatever a field holds: what a stranger sent can neither forge a second line nor steer a terminal.

use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::LogFormat;
use crate::config::level::parse_level;

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Nothing has changed.
    #[error("level {0}")]
    BadLevel(String),
    /// Nothing has changed.
    #[error("the log was set up before, by somebody else")]
    AlreadySet,
}

/// Changes the level of the running log. Cheap to clone; clones change the same log.
#[derive(Debug, Clone)]
pub struct LogLevel {
    current: Arc<Mutex<String>>,
    /// None: a node in a test, whose log belongs to the test.
    filter: Option<reload::Handle<EnvFilter, Registry>>,
}

impl LogLevel {
    /// Takes levels and changes nothing: for nodes that share a process with others.
    pub fn detached() -> Self {
        Self { current: Arc::new(Mutex::new("info".to_owned())), filter: None }
    }

    pub fn current(&self) -> String {
        self.current.lock().clone()
    }

    /// A level, or a filter as of RUST_LOG. The one before, to be put back.
    pub fn set(&self, level: &str) -> Result<String, LogError> {
        let filter = parse_level(level).map_err(LogError::BadLevel)?;
        let mut current = self.current.lock();
        if let Some(handle) = &self.filter {
            handle.reload(filter).map_err(|_| LogError::AlreadySet)?;
        }
        Ok(std::mem::replace(&mut *current, level.to_owned()))
    }
}

/// Once a process.
pub fn init(format: LogFormat, level: &str, colours: bool) -> Result<LogLevel, LogError> {
    let filter = parse_level(level).map_err(LogError::BadLevel)?;
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let to_stderr = |len_max| OneLine { inner: io::stderr as fn() -> io::Stderr, len_max };
    let layer = tracing_subscriber::fmt::layer();
    match format {
        LogFormat::Text => {
            let writer = to_stderr(TEXT_LINE_LEN_MAX);
            registry.with(layer.with_writer(writer).with_ansi(colours)).try_init()
        }
        LogFormat::Json => {
            let layer = layer.with_writer(to_stderr(usize::MAX)).with_ansi(false);
            registry.with(layer.json().flatten_event(true)).try_init()
        }
    }
    .map_err(|_| LogError::AlreadySet)?;
    Ok(LogLevel { current: Arc::new(Mutex::new(level.to_owned())), filter: Some(handle) })
}

/// Writes each event as one bounded line.
#[derive(Debug, Clone, Copy)]
struct OneLine<M> {
    inner: M,
    /// JSON that is cut is no JSON; its fields are bounded where they are made.
    len_max: usize,
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for OneLine<M> {
    type Writer = OneLineWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLineWriter { inner: self.inner.make_writer(), len_max: self.len_max }
    }
}

struct OneLineWriter<W> {
    inner: W,
    len_max: usize,
}

const TEXT_LINE_LEN_MAX: usize = 16 * 1024;

impl<W: Write> Write for OneLineWriter<W> {
    /// The formatter hands over one whole event at a time.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        // Nobody is there to be told that the log cannot be written.
        let _ = self.inner.write_all(&one_line(event, self.len_max));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.inner.flush();
        Ok(())
    }
}

fn one_line(event: &[u8], len_max: usize) -> Vec<u8> {
    let body = event.strip_suffix(b"\n").unwrap_or(event);
    let cut = body.len().min(len_max);
    let mut line = Vec::with_capacity(cut + 16);
    for byte in &body[..cut] {
        match byte {
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            _ => line.push(*byte),
        }
    }
    if cut < body.len() {
        line.extend_from_slice(b" ...");
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_bounded_length() {
        assert_eq!(one_line(b"a\nb\r\n", 99), b"a\\nb\\r\n");
        assert_eq!(one_line(b"plain\n", 99), b"plain\n");
        let long = one_line(&[b'x'; 2 * TEXT_LINE_LEN_MAX], TEXT_LINE_LEN_MAX);
        assert_eq!(long.len(), TEXT_LINE_LEN_MAX + 5);
    }

    #[test]
    fn a_detached_level_remembers_the_one_before() {
        let level = LogLevel::detached();
        assert_eq!(level.set("debug").expect("lawful"), "info");
        let wrong = level.set("nonsense").expect_err("unlawful").to_string();
        assert!(wrong.contains("nonsense"), "{wrong}");
        assert_eq!(level.current(), "debug");
    }
}
