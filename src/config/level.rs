//! Log levels and filters, judged more strictly than by the filter's own parser.

use tracing_subscriber::EnvFilter;

use super::unknown::closest;
use super::value::quoted;

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
const LEVEL_LEN_MAX: usize = 1024;

/// What is wrong with a level, and what to write. The filter's own parser takes `inof` for the name of a module and then shows nothing at all.
pub(crate) fn parse_level(level: &str) -> Result<EnvFilter, String> {
    if LEVEL_LEN_MAX < level.len() {
        return Err(format!("is longer than {LEVEL_LEN_MAX} bytes; write a shorter filter"));
    }
    if level.trim().is_empty() {
        return Err(format!("is empty; must be one of {}", LEVELS[..5].join(", ")));
    }
    for part in level.split(',') {
        let part = part.trim();
        let word = part.rsplit_once('=').map_or(part, |(_, level)| level);
        if part.ends_with(']') || LEVELS.iter().any(|known| known.eq_ignore_ascii_case(word)) {
            continue;
        }
        return Err(match closest(word, LEVELS.into_iter()) {
            Some(meant) => format!("is {}; did you mean {meant}?", quoted(word)),
            None => format!(
                "is {}; must be one of {}, or a filter as \"info,waxwing::link=debug\"",
                quoted(word),
                LEVELS[..5].join(", ")
            ),
        });
    }
    let filter = EnvFilter::try_new(level).map_err(|_| {
        format!("is {}; must be a filter as \"info,waxwing::link=debug\"", quoted(level))
    })?;
    // openraft tells each of its steps; what people need of them, control says in its own words.
    let is_named = level.contains("openraft") || level.trim().eq_ignore_ascii_case("off");
    Ok(match "openraft=off".parse() {
        Ok(quiet) if !is_named => filter.add_directive(quiet),
        _ => filter,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters() {
        for lawful in
            ["info", "WARN", "off", "info,waxwing::link=debug", "waxwing[session{id=1}]=trace,warn"]
        {
            assert_eq!(parse_level(lawful).err(), None, "{lawful}");
        }
        for (wrong, says) in [
            ("inof", "did you mean info?"),
            ("", "is empty"),
            ("loud", "must be one of error"),
            ("info,waxwing=laud", "must be one of"),
            ("waxwing", "must be one of"),
            ("a[=info", "must be a filter"),
        ] {
            let what = parse_level(wrong).expect_err(wrong);
            assert!(what.contains(says), "{wrong}: {what}");
        }
        assert!(parse_level(&"info,".repeat(400)).is_err());
        for (level, is_quiet) in [("info", true), ("openraft=debug", false), ("off", false)] {
            let filter = parse_level(level).expect("lawful").to_string();
            assert_eq!(filter.contains("openraft=off"), is_quiet, "{filter}");
        }
    }
}
