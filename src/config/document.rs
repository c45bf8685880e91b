//! A configuration file as text: what it says, line by line, before anybody judges whether it is lawful.

use toml::de::{DeTable, DeValue};

use super::value::Value;

/// One setting of the file.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) section: String,
    /// Empty where a plain value stands in the place of a section.
    pub(super) name: String,
    pub(super) value: Value,
}

#[derive(Debug, PartialEq)]
pub(super) struct SyntaxFault {
    pub(super) line: usize,
    pub(super) what: String,
}

/// Everything the file says and everything that is no TOML. A line that is no TOML gives no entry.
pub(super) fn parse(text: &str) -> (Vec<Entry>, Vec<SyntaxFault>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut faults: Vec<SyntaxFault> = errors
        .iter()
        .map(|error| SyntaxFault {
            line: error.span().map_or(1, |span| line_of(text, span.start)),
            // The first line says it; the rest would show the file's text.
            what: error.message().lines().next().unwrap_or("is no TOML").to_owned(),
        })
        .collect();
    faults.dedup();

    let mut entries = Vec::new();
    for (section, content) in document.get_ref() {
        let name = section.get_ref().to_string();
        match content.get_ref() {
            DeValue::Table(table) => entries.extend(table.iter().map(|(key, value)| Entry {
                line: line_of(text, key.span().start),
                section: name.clone(),
                name: key.get_ref().to_string(),
                value: read(value.get_ref()),
            })),
            other => entries.push(Entry {
                line: line_of(text, section.span().start),
                section: name,
                name: String::new(),
                value: read(other),
            }),
        }
    }
    entries.retain(|entry| faults.iter().all(|fault| fault.line != entry.line));
    entries.sort_by_key(|entry| entry.line);
    (entries, faults)
}

fn read(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(integer) => {
            Value::Integer(i128::from_str_radix(integer.as_str(), integer.radix()).ok())
        }
        DeValue::Float(float) => Value::Float(float.as_str().to_owned()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => {
            Value::List(items.iter().map(|item| read(item.get_ref())).collect())
        }
        DeValue::Table(_) => Value::Other("a table"),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
