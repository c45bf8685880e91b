//! What commands print: tables for people, JSON for programs, and nothing that could steer a terminal.

use std::io::{self, Write as _};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, CellAlignment};
use serde::Serialize;

use super::{Globals, OutputForm};

/// One line to stdout.
pub fn line(text: &str) -> io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// One JSON value on one line to stdout.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(line(&serde_json::to_string(value)?)?)
}

/// One line to stderr, unless `--quiet`.
pub fn talk(globals: &Globals, text: &str) {
    if !globals.quiet {
        // Nobody is there to be told that stderr is closed.
        let _ = writeln!(anstream::stderr().lock(), "{}", harmless(text));
    }
}

impl Globals {
    pub fn wants_json(&self) -> bool {
        self.output == OutputForm::Json
    }
}

/// Columns without lines around them. A row may be marked as a whole.
#[derive(Debug)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<(Vec<String>, Mark)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Plain,
    Warn,
    Bad,
}

impl Mark {
    const fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Warn => Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow))),
            Self::Bad => Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red))),
        }
    }
}

impl Table {
    pub fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>, mark: Mark) {
        let cells = cells.into_iter().map(|cell| harmless_line(&cell)).collect();
        self.rows.push((cells, mark));
    }

    /// A column of figures stands to the right.
    fn is_figures(&self, column: usize) -> bool {
        let figure = |cell: &String| {
            cell == "-" || cell.bytes().all(|byte| byte.is_ascii_digit() || byte == b',')
        };
        let mut cells = self.rows.iter().filter_map(|(cells, _)| cells.get(column)).peekable();
        cells.peek().is_some() && cells.clone().all(figure) && cells.any(|cell| cell != "-")
    }

    pub fn render(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        let figures: Vec<bool> = (0..self.head.len()).map(|i| self.is_figures(i)).collect();
        let aligned = |cells: &mut dyn Iterator<Item = &str>| -> Vec<Cell> {
            cells
                .zip(&figures)
                .map(|(cell, figure)| {
                    let to = if *figure { CellAlignment::Right } else { CellAlignment::Left };
                    Cell::new(cell).set_alignment(to)
                })
                .collect()
        };
        table.set_header(aligned(&mut self.head.iter().copied()));
        for (cells, _) in &self.rows {
            table.add_row(aligned(&mut cells.iter().map(String::as_str)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        // Styled line by line: escapes within cells would count as width.
        let bold = Style::new().bold();
        let styles = std::iter::once(bold).chain(self.rows.iter().map(|(_, mark)| mark.style()));
        let lines: Vec<String> = table
            .lines()
            .zip(styles)
            .map(|(line, style)| format!("{style}{}{style:#}", line.trim_end()))
            .collect();
        lines.join("\n")
    }
}

/// Text of others without control characters: a name must not move the cursor or forge a line.
pub fn harmless(text: &str) -> String {
    let hostile = |c: char| {
        c.is_control() && c != '\n'
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(hostile) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if hostile(c) { c.escape_unicode().to_string() } else { c.to_string() })
        .collect()
}

/// As `harmless`, on one line.
pub fn harmless_line(text: &str) -> String {
    harmless(text).replace('\n', "\\u{a}")
}

/// `1 presence`, `1,204 presences`
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// `1,204`
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if 0 < i && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `4m12s`: the two largest units.
pub fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// `1.5 MiB`, for people.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = number as f64;
    let mut unit = 0;
    while 1024.0 <= value && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}
