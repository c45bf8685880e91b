//! ● What is wrong with a file, said without what it holds: a secret that was written into the wrong place must not come out by the message
//! that says so.

use std::ops::Range;

/// Where lines begin, found once: files have very many entries.
#[derive(Debug)]
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(breaks.map(|(at, _)| at).collect())
    }

    /// From 1.
    pub(super) fn at(&self, span: &Range<usize>) -> usize {
        self.0.partition_point(|at| *at < span.start) + 1
    }
}

/// Names of settings are shown where they look like one: whoever misspelt it has to find it.
const NAME_LEN_MAX: usize = 24;

/// What a name of a setting stands behind, in backticks.
const NAMED: [&str; 3] = ["unknown field ", "missing field ", "duplicate field "];

/// The first line of a message of serde's or of the TOML parser's, without the values that it quotes.
pub(super) fn without_values(message: &str) -> String {
    let line = message.lines().next().unwrap_or("is no TOML");
    // What was expected is our own words, and behind all that the file says.
    let (found, expected) = match line.rsplit_once(", expected ") {
        Some((found, expected)) => (found, Some(expected)),
        None => (line, None),
    };
    let mut said = String::new();
    let mut rest = found;
    while let Some(at) = rest.find(['`', '"', '\'']) {
        let quote = &rest[at..=at];
        let inner = &rest[at + 1..];
        // Up to the last one: a value may have quotes in it.
        let Some(end) = inner.rfind(quote) else { break };
        said += &rest[..at];
        let is_named = quote == "`" && NAMED.contains(&&*said);
        let is_shown = is_named && is_name(&inner[..end]);
        said += if is_shown { &rest[at..at + end + 2] } else { "(not shown)" };
        rest = &inner[end + 1..];
    }
    // A quote that nothing ends: what seemed to be expected may be of a value.
    let is_open = rest.contains(['`', '"']);
    said += if is_open { "(not shown)" } else { rest };
    if let Some(expected) = expected.filter(|it| !is_open && !it.contains('"')) {
        said += ", expected ";
        said += expected;
    }
    said
}

fn is_name(text: &str) -> bool {
    let is_lawful = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    text.len() <= NAME_LEN_MAX && text.bytes().all(is_lawful) && !text.starts_with("wx_")
}

#[cfg(test)]
mod tests {
    use super::{Lines, without_values};

    #[test]
    fn what_a_file_holds_is_not_shown() {
        for (message, said) in [
            ("missing field `hash`", "missing field `hash`"),
            (
                "unknown field `subscrib`, expected one of `id`, `hash`",
                "unknown field `subscrib`, expected one of `id`, `hash`",
            ),
            (
                "unknown field `wx_k7m2qd9xwp_Zm9v`, expected `id`",
                "unknown field (not shown), expected `id`",
            ),
            (
                "invalid type: string \"correcthorsebattery\", expected a sequence",
                "invalid type: string (not shown), expected a sequence",
            ),
            (
                "unknown variant `correcthorsebattery`, expected `HS256` or `EdDSA`",
                "unknown variant (not shown), expected `HS256` or `EdDSA`",
            ),
            ("unknown variant `a, expected secret`", "(not shown)"),
            ("string \"unknown field `secret`\"", "string (not shown)"),
            (
                "invalid type: string \"a \\\"secret\\\", expected so\", expected a sequence",
                "invalid type: string (not shown), expected a sequence",
            ),
            (
                "invalid type: integer `4711`, expected a string",
                "invalid type: integer (not shown), expected a string",
            ),
            ("something about \"secret", "(not shown)"),
            ("a line\nsecret", "a line"),
            ("", "is no TOML"),
        ] {
            assert_eq!(without_values(message), said);
        }
    }

    #[test]
    fn lines_are_counted_from_one() {
        let lines = Lines::of("a\n\nb\n");
        let at = [0, 1, 2, 3, 4, 5].map(|at| lines.at(&(at..at)));
        assert_eq!(at, [1, 1, 2, 3, 3, 4]);
    }
}
