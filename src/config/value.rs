//! A setting as it was written, and the readers that give it its type. Each error says what is wrong and what to write instead.

use std::ops::RangeInclusive;
use std::time::Duration;

/// What is wrong; what to do.
pub(super) type Wrong = String;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// From a flag or the environment: the key decides what type it has.
    Loose(String),
    Text(String),
    /// As written, with its radix resolved; None: more than any limit can hold.
    Integer(Option<i128>),
    Float(String),
    Bool(bool),
    List(Vec<Value>),
    /// A table or a date.
    Other(&'static str),
}

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl Value {
    pub(super) fn text(&self) -> Result<&str, Wrong> {
        match self {
            Self::Loose(text) | Self::Text(text) => Ok(text),
            Self::Integer(_) | Self::Float(_) | Self::Bool(_) | Self::List(_) | Self::Other(_) => {
                Err(format!("is {}; must be text in quotes", self.kind()))
            }
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, Wrong> {
        match self {
            Self::Bool(value) => Ok(*value),
            Self::Loose(text) if text == "true" => Ok(true),
            Self::Loose(text) if text == "false" => Ok(false),
            Self::Loose(text) => Err(format!("is {}; must be true or false", quoted(text))),
            _ => Err(format!("is {}; must be true or false, without quotes", self.kind())),
        }
    }

    /// In a flag or the environment: parted by commas.
    pub(super) fn list(&self) -> Result<Vec<String>, Wrong> {
        match self {
            Self::Loose(text) => Ok(text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect()),
            Self::List(items) => items
                .iter()
                .map(|item| match item {
                    Self::Text(text) => Ok(text.clone()),
                    _ => {
                        Err(format!("has {} in it; must be a list of texts in quotes", item.kind()))
                    }
                })
                .collect(),
            Self::Text(text) => Err(format!("is text; must be a list: [{}]", quoted(text))),
            _ => Err(format!("is {}; must be a list of texts, as [\"a:1\", \"b:1\"]", self.kind())),
        }
    }

    pub(super) fn count(&self, range: RangeInclusive<u64>) -> Result<u64, Wrong> {
        let number = match self {
            Self::Integer(number) => *number,
            Self::Loose(text) => Some(
                text.replace('_', "")
                    .parse::<i128>()
                    .map_err(|_| format!("is {}; must be a whole number", quoted(text)))?,
            ),
            Self::Text(text) if text.parse::<u64>().is_ok() => {
                return Err(format!("is text; write the number without quotes: {text}"));
            }
            _ => return Err(format!("is {}; must be a whole number", self.kind())),
        };
        within(number, &range, |n| n.to_string())
    }

    /// Bytes: `8MiB`, or a plain number of them.
    pub(super) fn size(&self, range: RangeInclusive<u64>) -> Result<u64, Wrong> {
        let number = match self {
            Self::Integer(number) => *number,
            Self::Loose(text) | Self::Text(text) => parse_size(text)?,
            _ => return Err(format!("is {}; must be a size, as \"8MiB\"", self.kind())),
        };
        within(number, &range, show_size)
    }

    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Result<Duration, Wrong> {
        let text = match self {
            Self::Loose(text) | Self::Text(text) => text,
            Self::Integer(Some(number)) => {
                return Err(format!("has no unit; write \"{number}s\" or \"{number}ms\""));
            }
            _ => return Err(format!("is {}; must be a duration, as \"500ms\"", self.kind())),
        };
        let duration = parse_duration(text)?;
        if range.contains(&duration) {
            return Ok(duration);
        }
        let (min, max) = (show_duration(*range.start()), show_duration(*range.end()));
        Err(format!("is {}; must be {min} to {max}", show_duration(duration)))
    }

    /// Bytes and an age: `64MiB 30s`. The age may be left out.
    pub(super) fn size_and_age(
        &self,
        sizes: RangeInclusive<u64>,
        ages: RangeInclusive<Duration>,
    ) -> Result<(u64, Option<Duration>), Wrong> {
        let (Self::Loose(text) | Self::Text(text)) = self else {
            return Ok((self.size(sizes)?, None));
        };
        match text.trim().split_once(char::is_whitespace) {
            None => Ok((self.size(sizes)?, None)),
            Some((size, age)) => Ok((
                Self::Text(size.to_owned()).size(sizes)?,
                Some(Self::Text(age.trim().to_owned()).duration(ages)?),
            )),
        }
    }

    fn kind(&self) -> String {
        match self {
            Self::Loose(text) | Self::Text(text) => format!("the text {}", quoted(text)),
            Self::Integer(Some(number)) => format!("the number {number}"),
            Self::Integer(None) => "a number beyond all bounds".to_owned(),
            Self::Float(text) => format!("the number {text}"),
            Self::Bool(value) => value.to_string(),
            Self::List(_) => "a list".to_owned(),
            Self::Other(kind) => (*kind).to_owned(),
        }
    }
}

fn within(
    number: Option<i128>,
    range: &RangeInclusive<u64>,
    show: impl Fn(u64) -> String,
) -> Result<u64, Wrong> {
    let bounds = || format!("must be {} to {}", show(*range.start()), show(*range.end()));
    let Some(number) = number else {
        return Err(format!("is beyond all bounds; {}", bounds()));
    };
    match u64::try_from(number) {
        Ok(number) if range.contains(&number) => Ok(number),
        Ok(number) => Err(format!("is {}; {}", show(number), bounds())),
        Err(_) => Err(format!("is {number}; {}", bounds())),
    }
}

/// `64KiB`, or a plain number of bytes.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, Wrong> {
    let size = parse_size(text)?.and_then(|size| u64::try_from(size).ok());
    size.ok_or_else(|| format!("is {}; is beyond all bounds", quoted(text)))
}

/// None: too large for any limit.
fn parse_size(text: &str) -> Result<Option<i128>, Wrong> {
    let wrong = |why: &str| Err(format!("is {}; {why}", quoted(text)));
    let trimmed = text.trim();
    let digits_end = trimmed
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '_' | '-' | '+' | '.')))
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits_end);
    let unit = unit.trim_start();
    if number.is_empty() {
        return wrong("must be a size, as \"8MiB\"");
    }
    if number.contains('.') {
        return wrong("must be a whole number of a unit, as \"1536KiB\" for one and a half MiB");
    }
    let Ok(number) = number.replace('_', "").parse::<i128>() else {
        let overflow = number.trim_start_matches('+').bytes().all(|b| b.is_ascii_digit());
        return if overflow { Ok(None) } else { wrong("must be a size, as \"8MiB\"") };
    };
    if unit.is_empty() {
        return Ok(Some(number));
    }
    if let Some((_, factor)) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
        return Ok(number.checked_mul(i128::from(*factor)));
    }
    let meant =
        UNITS.iter().find(|(name, _)| name.len() == 3 && name[..1].eq_ignore_ascii_case(unit));
    match meant {
        Some((name, _)) => wrong(&format!("write \"{number}{name}\"")),
        None => wrong("the unit must be B, KiB, MiB or GiB (or KB, MB, GB for thousands)"),
    }
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, Wrong> {
    let trimmed = text.trim();
    if trimmed.starts_with('-') {
        return Err(format!("is {}; must not be negative", quoted(text)));
    }
    if !trimmed.is_empty() && trimmed.bytes().all(|b| b.is_ascii_digit()) {
        if trimmed == "0" {
            return Ok(Duration::ZERO);
        }
        return Err(format!("has no unit; write \"{trimmed}s\" or \"{trimmed}ms\""));
    }
    humantime::parse_duration(trimmed).map_err(|_| {
        format!("is {}; must be a duration, as \"500ms\", \"5s\" or \"1m30s\"", quoted(text))
    })
}

/// In the largest unit that leaves no rest, so that reading it back gives the same number.
pub(crate) fn show_size(bytes: u64) -> String {
    for (name, factor) in &UNITS[..4] {
        if 0 < bytes && bytes.is_multiple_of(*factor) {
            return format!("{}{name}", bytes / factor);
        }
    }
    format!("{bytes}B")
}

/// Without spaces, so that it can stand beside a size.
pub(crate) fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

/// What somebody wrote, made safe to show: escaped, and cut where it is long.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 60;
    let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() { format!("{shown:?}...") } else { format!("{shown:?}") }
}
