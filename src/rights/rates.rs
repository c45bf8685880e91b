//! ● A rate in words: `100/s`, `100/s burst 500`, `1MiB/s`, `unlimited`.

use super::bucket::Rate;

const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Messages,
    Bytes,
}

const NOTHING: &str =
    "a rate, and its burst, must be more than nothing; take the right away instead";

/// None: unlimited. Without a burst it is what a second brings.
pub fn parse(text: &str, of: Of) -> Result<Option<Rate>, String> {
    let text = text.trim();
    if text == "unlimited" {
        return Ok(None);
    }
    let wrong = || match of {
        Of::Messages => {
            "a rate is as \"100/s\", \"100/s burst 500\" or \"unlimited\", in messages".to_owned()
        }
        Of::Bytes => {
            "a rate is as \"1MiB/s\", \"1MiB/s burst 8MiB\" or \"unlimited\", in bytes".to_owned()
        }
    };
    let (rate, burst) = match text.split_once("burst") {
        Some((rate, burst)) => (rate.trim_end(), Some(burst)),
        None => (text, None),
    };
    let rate = rate.strip_suffix("/s").unwrap_or(rate);
    let per_second = amount(rate, of).ok_or_else(wrong)?;
    let burst = burst.map(|burst| amount(burst, of).ok_or_else(wrong)).transpose()?;
    let burst = burst.unwrap_or(per_second);
    if per_second == 0 || burst == 0 {
        return Err(NOTHING.to_owned());
    }
    Ok(Some(Rate { per_second, burst }))
}

/// As `parse` reads it.
pub fn shown(rate: Option<Rate>, of: Of) -> String {
    let Some(Rate { per_second, burst }) = rate else { return "unlimited".to_owned() };
    if burst == per_second {
        return format!("{}/s", show(per_second, of));
    }
    format!("{}/s burst {}", show(per_second, of), show(burst, of))
}

fn amount(text: &str, of: Of) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '_')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.replace('_', "").parse().ok()?;
    let factor = match (unit.trim(), of) {
        ("", _) => 1,
        (_, Of::Messages) => return None,
        (unit, Of::Bytes) => {
            UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, by)| *by)?
        }
    };
    number.checked_mul(factor)
}

/// In the largest unit that leaves no rest.
fn show(number: u64, of: Of) -> String {
    let unit = UNITS[..3].iter().find(|(_, by)| number > 0 && number.is_multiple_of(*by));
    match (of, unit) {
        (Of::Bytes, Some((name, by))) => format!("{}{name}", number / by),
        (Of::Bytes, None) => format!("{number}B"),
        (Of::Messages, _) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::bucket::Rate;
    use super::{Of, parse, shown};

    #[test]
    fn what_is_shown_is_read_back_and_nonsense_is_not() {
        let rate = |per_second, burst| Some(Rate { per_second, burst });
        for (text, of, wanted, shows) in [
            ("100/s", Of::Messages, rate(100, 100), "100/s"),
            (" 1_000/s burst 5000 ", Of::Messages, rate(1_000, 5_000), "1000/s burst 5000"),
            ("7", Of::Messages, rate(7, 7), "7/s"),
            ("unlimited", Of::Messages, None, "unlimited"),
            ("1MiB/s", Of::Bytes, rate(1 << 20, 1 << 20), "1MiB/s"),
            ("1 mib/s burst 1500", Of::Bytes, rate(1 << 20, 1_500), "1MiB/s burst 1500B"),
            ("64KB/s", Of::Bytes, rate(64_000, 64_000), "64000B/s"),
        ] {
            let read = parse(text, of);
            assert_eq!(read, Ok(wanted), "{text}");
            assert_eq!(shown(wanted, of), shows);
            assert_eq!(parse(shows, of), Ok(wanted));
        }
        for (text, of) in [
            ("", Of::Messages),
            ("fast", Of::Messages),
            ("-1/s", Of::Messages),
            ("1.5/s", Of::Messages),
            ("1MiB/s", Of::Messages),
            ("0/s", Of::Messages),
            ("5/s burst 0", Of::Messages),
            ("5/s burst", Of::Messages),
            ("5/m", Of::Messages),
            ("99999999999999999999/s", Of::Bytes),
            ("18446744073709551615KiB/s", Of::Bytes),
            ("1 parsec/s", Of::Bytes),
        ] {
            assert!(parse(text, of).is_err(), "{text}");
        }
    }
}
