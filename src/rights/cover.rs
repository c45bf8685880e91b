//! ● What a glob may stand for beside another: whether it takes nothing that the other doesn't, and whether the two have anything in common.
//!
//! A subscription by pattern is a claim on every topic that it takes, also on those that nobody has made yet. So a right covers a pattern
//! only where it takes all of it, and a denial hits where it takes any. Both answers err on the side of refusing: `covers` may say no
//! of what it would have to think about longer, `meets` may say yes. Time is the product of the lengths.

/// One element of a glob: any run, any one byte, this byte, or a set as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Element<'a> {
    Run,
    Any,
    Byte(u8),
    Set(&'a [u8]),
}

/// Does `right` take every text that `asked` takes? Never yes where it doesn't.
pub fn covers(right: &[u8], asked: &[u8]) -> bool {
    let (right, asked) = (elements(right), elements(asked));
    // Element by element: a run of the right takes any number of elements of what is asked, runs included.
    walk(&right, &asked, |right, asked| match (right, asked) {
        (_, Element::Run) => false,
        (Element::Any, _) => true,
        (right, asked) => right == asked,
    })
}

/// Is there a text that both take? Never no where there is.
pub fn meets(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (elements(a), elements(b));
    let mut row = vec![false; b.len() + 1];
    // row[j]: the first i elements of a and the first j of b can stand for one text.
    for i in 0..=a.len() {
        let mut above_left = false;
        for j in 0..=b.len() {
            let above = i > 0 && row[j];
            let here = match (i, j) {
                (0, 0) => true,
                _ => {
                    let left = j > 0 && row[j - 1];
                    let by_run_of_a = i > 0 && a[i - 1] == Element::Run && (above || left);
                    let by_run_of_b = j > 0 && b[j - 1] == Element::Run && (left || above);
                    let by_one = i > 0 && j > 0 && above_left && may_be_one(&a[i - 1], &b[j - 1]);
                    by_run_of_a || by_run_of_b || by_one
                }
            };
            above_left = above;
            row[j] = here;
        }
    }
    row[b.len()]
}

fn may_be_one(a: &Element<'_>, b: &Element<'_>) -> bool {
    match (a, b) {
        (Element::Run, _) | (_, Element::Run) => false,
        (Element::Byte(a), Element::Byte(b)) => a == b,
        (Element::Byte(byte), Element::Set(set)) | (Element::Set(set), Element::Byte(byte)) => {
            crate::pubsub::pattern::matches(set, &[*byte])
        }
        // What two sets have in common would have to be counted out: perhaps something.
        (Element::Any | Element::Set(_), Element::Any | Element::Set(_))
        | (Element::Any, Element::Byte(_))
        | (Element::Byte(_), Element::Any) => true,
    }
}

/// As `matches` of globs over bytes: only the last run is ever tried again.
fn walk<'a>(
    glob: &[Element<'a>],
    text: &[Element<'a>],
    takes: impl Fn(&Element<'a>, &Element<'a>) -> bool,
) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut run: Option<(usize, usize)> = None;
    loop {
        if glob.get(g) == Some(&Element::Run) {
            g += 1;
            run = Some((g, t));
            continue;
        }
        if t == text.len() && g == glob.len() {
            return true;
        }
        match (glob.get(g), text.get(t)) {
            (Some(one), Some(other)) if takes(one, other) => (g, t) = (g + 1, t + 1),
            _ => match &mut run {
                Some((after, from)) if *from < text.len() => {
                    *from += 1;
                    (g, t) = (*after, *from);
                }
                _ => return false,
            },
        }
    }
}

/// The same elements as the matcher sees; runs that follow one another are one.
fn elements(glob: &[u8]) -> Vec<Element<'_>> {
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(&byte) = glob.get(at) {
        let (element, width) = match byte {
            b'*' => (Element::Run, 1),
            b'?' => (Element::Any, 1),
            b'\\' if at + 1 < glob.len() => (Element::Byte(glob[at + 1]), 2),
            b'[' => {
                let width = set_width(&glob[at..]);
                (Element::Set(&glob[at..at + width]), width)
            }
            byte => (Element::Byte(byte), 1),
        };
        if !(element == Element::Run && all.last() == Some(&Element::Run)) {
            all.push(element);
        }
        at += width;
    }
    all
}

/// How long the set is with which this begins. One that is never closed goes to the end.
fn set_width(glob: &[u8]) -> usize {
    let mut at = 1 + usize::from(glob.get(1) == Some(&b'^'));
    loop {
        match glob.get(at) {
            None => return glob.len(),
            Some(b']') => return at + 1,
            Some(b'\\') if at + 1 < glob.len() => at += 2,
            Some(_) if glob.get(at + 1) == Some(&b'-') && at + 2 < glob.len() => at += 3,
            Some(_) => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{covers, meets};
    use crate::pubsub::pattern::matches;

    #[test]
    fn rights_cover_and_denials_hit() {
        for (right, asked, covered, met) in [
            ("*", "*", true, true),
            ("room:*", "room:*", true, true),
            ("room:*", "room:1:*", true, true),
            ("room:*", "room:[0-9]*", true, true),
            ("room:*", "*", false, true),
            ("room:*", "r*", false, true),
            ("room:*", "room?1", false, true),
            ("room:*", "lobby:*", false, false),
            ("room:1", "room:?", false, true),
            ("room:?", "room:1", true, true),
            ("room:?", "room:*", false, true),
            ("room:??", "room:*1", false, true),
            ("a*b", "a*b", true, true),
            ("a*b", "a*c*b", true, true),
            ("a*b", "a*c", false, false),
            ("*secret*", "*", false, true),
            ("*secret*", "room:*", false, true),
            ("*secret*", "room:?", false, false),
            ("\\*", "*", false, true),
            ("\\*", "\\*", true, true),
            ("[ab]", "a", false, true),
            ("[ab]", "c", false, false),
            ("[ab]", "[ab]", true, true),
            ("", "", true, true),
            ("", "*", false, true),
        ] {
            assert_eq!(
                covers(right.as_bytes(), asked.as_bytes()),
                covered,
                "{right} covers {asked}"
            );
            assert_eq!(meets(right.as_bytes(), asked.as_bytes()), met, "{right} meets {asked}");
            assert_eq!(meets(asked.as_bytes(), right.as_bytes()), met, "{asked} meets {right}");
        }
    }

    /// Every short glob beside every other, judged by every short text.
    #[test]
    fn the_answers_err_on_the_side_of_refusing() {
        let alphabet = [&b"a"[..], b"b", b"?", b"*", b"[ab]", b"[^a]", b"\\*"];
        let mut globs: Vec<Vec<u8>> = vec![Vec::new()];
        for _ in 0..3 {
            let longer: Vec<Vec<u8>> =
                globs.iter().flat_map(|glob| alphabet.map(|part| [glob, part].concat())).collect();
            globs.extend(longer);
        }
        globs.sort_unstable();
        globs.dedup();
        let mut texts: Vec<Vec<u8>> = vec![Vec::new()];
        for _ in 0..4 {
            let longer: Vec<Vec<u8>> = texts
                .iter()
                .flat_map(|text| [&b"a"[..], b"b", b"*"].map(|part| [text, part].concat()))
                .collect();
            texts.extend(longer);
        }
        texts.sort_unstable();
        texts.dedup();
        let taken: Vec<Vec<bool>> = globs
            .iter()
            .map(|glob| texts.iter().map(|text| matches(glob, text)).collect())
            .collect();
        let (mut covered, mut apart) = (0, 0);
        for (one, takes) in globs.iter().zip(&taken) {
            for (other, others) in globs.iter().zip(&taken) {
                if covers(one, other) {
                    covered += 1;
                    let all = takes.iter().zip(others).all(|(one, other)| *one || !*other);
                    assert!(all, "{one:?} does not cover {other:?}");
                }
                if !meets(one, other) {
                    apart += 1;
                    let any = takes.iter().zip(others).any(|(one, other)| *one && *other);
                    assert!(!any, "{one:?} meets {other:?}");
                }
            }
        }
        assert!(covered > 1_000 && apart > 1_000, "{covered} covered, {apart} apart");
    }
}
