//! The plainest matcher of patterns that is right: it judges the one that must be fast.

/// `*` any run, `?` one character, `[a-z]` and `[^a]` one of a set, `\` takes the next character as it is.
pub(super) fn matches(pattern: &str, topic: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let topic: Vec<char> = topic.chars().collect();
    rest(&pattern, &topic)
}

fn rest(pattern: &[char], topic: &[char]) -> bool {
    let Some((first, after)) = pattern.split_first() else { return topic.is_empty() };
    match first {
        '*' => (0..=topic.len()).any(|taken| rest(after, &topic[taken..])),
        '?' => !topic.is_empty() && rest(after, &topic[1..]),
        '[' => match after.iter().position(|c| *c == ']') {
            Some(end) => {
                let one = topic.first().is_some_and(|c| in_set(&after[..end], *c));
                one && rest(&after[end + 1..], &topic[1..])
            }
            None => topic.first() == Some(&'[') && rest(after, &topic[1..]),
        },
        '\\' if !after.is_empty() => {
            topic.first() == after.first() && rest(&after[1..], &topic[1..])
        }
        _ => topic.first() == Some(first) && rest(after, &topic[1..]),
    }
}

fn in_set(set: &[char], c: char) -> bool {
    let (wanted, mut set) = match set.split_first() {
        Some(('^', others)) => (false, others),
        _ => (true, set),
    };
    let mut found = false;
    while let Some((low, after)) = set.split_first() {
        if let ['-', high, after @ ..] = after {
            found |= (*low..=*high).contains(&c);
            set = after;
        } else {
            found |= *low == c;
            set = after;
        }
    }
    found == wanted
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_written() {
        let check = |pattern, topic, expected| {
            assert_eq!(matches(pattern, topic), expected, "{pattern} on {topic}");
        };
        check("room:*", "room:1", true);
        check("room:*", "room:", true);
        check("room:*", "rooms:1", false);
        check("*:1", "room:1", true);
        check("a?c", "abc", true);
        check("a?c", "ac", false);
        check("[a-c]x", "bx", true);
        check("[^a-c]x", "bx", false);
        check("\\*", "*", true);
        check("\\*", "x", false);
        check("a*b*c", "aXbYc", true);
        check("a*b*c", "aXcYb", false);
    }
}
