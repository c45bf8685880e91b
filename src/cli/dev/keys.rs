//! ● A line of keys and what it asks for.

pub(super) const HELP: &str = "keys: k2 kills node 2, s2 stops it or lets it go on, r2 restarts it, c1-2 cuts or heals the link between two,\n      Enter shows the table, q ends all";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Show,
    Help,
    Act(Act),
}

/// Nodes by index, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Kill(usize),
    /// Stops it, or lets it go on.
    Stop(usize),
    Restart(usize),
    /// Cuts the link between the two both ways, or heals it.
    Cut(usize, usize),
}

/// `Err`: what to say.
pub(super) fn parse(line: &str, nodes: usize) -> Result<Key, String> {
    let line = line.trim();
    let mut chars = line.chars();
    let (key, rest) = (chars.next(), chars.as_str().trim());
    match (key, rest) {
        (None, _) => Ok(Key::Show),
        (Some('q'), "") => Ok(Key::Quit),
        (Some('h' | '?'), "") => Ok(Key::Help),
        (Some('k'), which) => node(which, nodes).map(|node| Key::Act(Act::Kill(node))),
        (Some('s'), which) => node(which, nodes).map(|node| Key::Act(Act::Stop(node))),
        (Some('r'), which) => node(which, nodes).map(|node| Key::Act(Act::Restart(node))),
        (Some('c'), which) => {
            let (one, other) = which
                .split_once('-')
                .ok_or_else(|| format!("c needs two nodes, as in c1-2, not {which:?}"))?;
            let (one, other) = (node(one, nodes)?, node(other, nodes)?);
            if one == other {
                return Err("a node has no link to itself".to_owned());
            }
            Ok(Key::Act(Act::Cut(one, other)))
        }
        _ => Err(format!("no such key: {line:?}\n{HELP}")),
    }
}

fn node(text: &str, nodes: usize) -> Result<usize, String> {
    match text.trim().parse::<usize>() {
        Ok(number) if (1..=nodes).contains(&number) => Ok(number - 1),
        _ => Err(format!("nodes have the numbers 1 to {nodes}, not {:?}", text.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::{Act, Key, parse};

    #[test]
    fn every_key_of_the_help_is_understood() {
        for (line, key) in [
            ("k2", Key::Act(Act::Kill(1))),
            ("s2\n", Key::Act(Act::Stop(1))),
            (" r3 ", Key::Act(Act::Restart(2))),
            ("c1-2", Key::Act(Act::Cut(0, 1))),
            ("c 3 - 1", Key::Act(Act::Cut(2, 0))),
            ("", Key::Show),
            ("q", Key::Quit),
            ("?", Key::Help),
        ] {
            assert_eq!(parse(line, 3), Ok(key), "{line:?}");
        }
    }

    #[test]
    fn anything_else_is_told_what_would_do() {
        for (line, told) in [
            ("k4", "nodes have the numbers 1 to 3, not \"4\""),
            ("k0", "nodes have the numbers 1 to 3, not \"0\""),
            ("k", "nodes have the numbers 1 to 3, not \"\""),
            ("c12", "c needs two nodes, as in c1-2, not \"12\""),
            ("c1-1", "a node has no link to itself"),
            ("x", "no such key: \"x\""),
            ("quit", "no such key: \"quit\""),
            ("k-1", "nodes have the numbers 1 to 3, not \"-1\""),
        ] {
            let wrong = parse(line, 3).unwrap_err();
            assert!(wrong.starts_with(told), "{line:?}: {wrong}");
        }
    }
}
