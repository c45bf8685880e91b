//! The presences of a topic, in the order of (key, id): sorted runs of bounded length, as in `sorted`, with a few bytes of each name beside
//! its number. Names lie all over the memory, and looking at one costs more than all else; so a search compares what lies together, and
//! looks at a name only where those bytes are equal.

use super::name::Name;

/// What is longer takes more of the memory's time to be looked at, what is shorter makes `lasts` long.
const RUN_MAX: usize = 64;

/// What is smaller is in the processor's cache anyway.
const FETCH_RUNS: usize = 64;
/// Bytes that the memory hands over at once.
const LINE: usize = 64;

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Names {
    /// With so many bytes all names begin.
    shared: usize,
    /// Of each run the bytes behind the shared ones of its last name.
    lasts: Vec<u128>,
    #[expect(
        clippy::vec_box,
        reason = "a split in a topic of a million would move half a megabyte"
    )]
    runs: Vec<Box<Run>>,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Run {
    /// With so many bytes its names begin, if not with more.
    shared: u16,
    /// The bytes behind those.
    heads: Vec<u64>,
    ids: Vec<u32>,
}

/// Where something is, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    run: usize,
    at: usize,
}

/// Key, separator and id are far shorter.
fn short(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

impl Run {
    fn new(name: Name<'_>, id: u32, room: usize) -> Self {
        let mut run = Self {
            shared: short(name.len()),
            heads: Vec::with_capacity(room),
            ids: Vec::with_capacity(room),
        };
        run.heads.push(name.head(run.shared.into()));
        run.ids.push(id);
        run
    }

    /// How many heads are less, and how many are not greater.
    fn span(&self, head: u64) -> (usize, usize) {
        let less = self.heads.partition_point(|other| *other < head);
        let equal = self.heads[less..].iter().take_while(|other| **other == head).count();
        (less, less + equal)
    }

    /// Its names begin with fewer bytes that are the same, or with more.
    fn share<'a>(&mut self, shared: usize, name_of: impl Fn(u32) -> Name<'a>) {
        self.shared = short(shared);
        for (head, id) in self.heads.iter_mut().zip(&self.ids) {
            *head = name_of(*id).head(shared);
        }
    }

    /// Where its heads tell too little, they move on to what its names differ in.
    fn sharpen<'a>(&mut self, name_of: impl Fn(u32) -> Name<'a>) {
        let equal = self.heads.windows(2).filter(|pair| pair[0] == pair[1]).count();
        if equal > self.heads.len() / 4
            && let (Some(first), Some(last)) = (self.ids.first(), self.ids.last())
        {
            let shared = name_of(*first).shared(name_of(*last));
            if shared > self.shared.into() {
                self.share(shared, name_of);
            }
        }
    }
}

/// Names stand for numbers: `name_of` says which, of every number that is in it.
impl Names {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The first run whose last name is not less; or, as an error, where it would be, where that is before or behind all. What comes in
    /// order belongs behind the last: no search. Nor is there one where it was found `near`, before the runs changed a little.
    fn seek<'a>(
        &self,
        name: Name<'_>,
        near: Option<usize>,
        name_of: impl Fn(u32) -> Name<'a>,
    ) -> Result<usize, Place> {
        let last_of = |run: &Run| run.ids.last().map(|id| name_of(*id));
        let end = self.runs.last().and_then(|run| last_of(run));
        let Some(end) = end.filter(|end| !name.order(*end).is_gt()) else {
            return Err(Place { run: self.runs.len(), at: 0 });
        };
        if name.shared(end) < self.shared {
            return Err(Place { run: 0, at: 0 });
        }
        let wide = name.wide(self.shared);
        let between = |run: &usize| {
            self.lasts.get(*run).is_some_and(|last| *last > wide)
                && run.checked_sub(1).is_none_or(|below| self.lasts[below] < wide)
        };
        if let Some(run) = near.into_iter().flat_map(|near| near..near + 2).find(between) {
            return Ok(run);
        }
        let run = self.lasts.partition_point(|last| *last < wide);
        if self.lasts.get(run) != Some(&wide) {
            return Ok(run);
        }
        let equal = self.lasts[run..].partition_point(|last| *last == wide);
        let before = |run: &Run| last_of(run).is_some_and(|last| last.order(name).is_lt());
        Ok(run + self.runs[run..run + equal].partition_point(|run| before(run)))
    }

    /// The run that a search for it would look at, where that is worth to be fetched.
    pub(super) fn run_of<'a>(
        &self,
        name: Name<'_>,
        name_of: impl Fn(u32) -> Name<'a>,
    ) -> Option<usize> {
        if self.runs.len() < FETCH_RUNS { None } else { self.seek(name, None, name_of).ok() }
    }

    /// Fetches it from the memory; what it returns means nothing.
    pub(super) fn fetch(&self, run: usize) -> u64 {
        let Some(run) = self.runs.get(run) else { return 0 };
        let heads = run.heads.iter().step_by(LINE / 8).fold(0, |sum, head| sum ^ head);
        run.ids.iter().step_by(LINE / 4).fold(heads, |sum, id| sum ^ u64::from(*id))
    }

    /// Where it is; or, as an error, where it would be. `near`: what `run_of` said, a few changes ago.
    pub(super) fn search<'a>(
        &self,
        name: Name<'_>,
        near: Option<usize>,
        name_of: impl Fn(u32) -> Name<'a>,
    ) -> Result<Place, Place> {
        let run = self.seek(name, near, &name_of)?;
        let Some((this, last)) = self.runs.get(run).zip(self.lasts.get(run)) else {
            return Err(Place { run: self.runs.len(), at: 0 });
        };
        let wide = name.wide(self.shared);
        let own = usize::from(this.shared).saturating_sub(self.shared);
        let begins_so = if own <= 16 {
            own == 0 || (wide ^ *last) >> (128 - 8 * own) == 0
        } else {
            let last = this.ids.last().map(|id| name_of(*id));
            last.is_some_and(|last| last.shared(name) >= this.shared.into())
        };
        if !begins_so {
            return Err(Place { run, at: 0 });
        }
        let (less, up_to) = this.span(name.head(this.shared.into()));
        let before = |id: &u32| name_of(*id).order(name).is_lt();
        let at = less + this.ids[less..up_to].partition_point(before);
        let place = Place { run, at };
        if at < up_to && name_of(this.ids[at]).order(name).is_eq() { Ok(place) } else { Err(place) }
    }

    pub(super) fn get(&self, place: Place) -> Option<u32> {
        self.runs.get(place.run)?.ids.get(place.at).copied()
    }

    /// At a place that `search` did not find it at, with nothing changed since. `name_of` needn't know it yet.
    pub(super) fn insert<'a>(
        &mut self,
        place: Place,
        name: Name<'_>,
        id: u32,
        name_of: impl Fn(u32) -> Name<'a>,
    ) {
        let Some(end) = self.runs.last().and_then(|run| run.ids.last()) else {
            self.shared = name.len();
            self.lasts = vec![name.wide(self.shared)];
            self.runs = vec![Box::new(Run::new(name, id, 1))];
            return;
        };
        let shared = name.shared(name_of(*end));
        if shared < self.shared {
            self.shared = shared;
            let last = |run: &Run| run.ids.last().map_or(0, |id| name_of(*id).wide(shared));
            self.lasts = self.runs.iter().map(|run| last(run)).collect();
        }
        let behind = place.run == self.runs.len();
        if behind && self.runs.last().is_none_or(|last| last.ids.len() >= RUN_MAX) {
            self.lasts.push(name.wide(self.shared));
            self.runs.push(Box::new(Run::new(name, id, RUN_MAX + 1)));
            return;
        }
        let (at_run, at) = match place {
            Place { run, .. } if behind => (run - 1, self.runs[run - 1].ids.len()),
            Place { run, at } => (run, at),
        };
        let run = &mut self.runs[at_run];
        if at == 0 || at == run.ids.len() {
            let beside = run.ids[at.saturating_sub(1)];
            let shared = name.shared(name_of(beside));
            if shared < run.shared.into() {
                run.share(shared, &name_of);
            }
            if at == run.ids.len() {
                self.lasts[at_run] = name.wide(self.shared);
            }
        }
        run.heads.insert(at, name.head(run.shared.into()));
        run.ids.insert(at, id);
        if run.ids.len() > RUN_MAX {
            self.split(at_run, |other| if other == id { name } else { name_of(other) });
        }
    }

    fn split<'a>(&mut self, at_run: usize, name_of: impl Fn(u32) -> Name<'a>) {
        fn upper_half<T: Copy>(all: &mut Vec<T>) -> Vec<T> {
            let mut upper = Vec::with_capacity(RUN_MAX + 1);
            upper.extend_from_slice(&all[RUN_MAX / 2..]);
            all.truncate(RUN_MAX / 2);
            upper
        }
        let run = &mut self.runs[at_run];
        let (heads, ids) = (upper_half(&mut run.heads), upper_half(&mut run.ids));
        let mut upper = Run { shared: run.shared, heads, ids };
        upper.sharpen(&name_of);
        run.sharpen(&name_of);
        let last = run.ids.last().map_or(0, |id| name_of(*id).wide(self.shared));
        self.lasts.insert(at_run, last);
        self.runs.insert(at_run + 1, Box::new(upper));
    }

    /// Of a place that `search` did not find it at: what would stand beside it and has the same key.
    pub(super) fn of_key_beside<'a>(
        &self,
        place: Place,
        name: Name<'_>,
        name_of: impl Fn(u32) -> Name<'a>,
    ) -> [Option<u32>; 2] {
        // Between two of one run, it begins as they do.
        let run = self.runs.get(place.run).filter(|_| place.at > 0);
        let told_apart = |at: Place| {
            run.is_some_and(|run| {
                let own = name.head(run.shared.into());
                run.heads
                    .get(at.at)
                    .is_some_and(|head| differ_within(own, *head, run.shared, name.key.len() + 1))
            })
        };
        [self.before(place), Some(place)].map(|at| {
            let id = self.get(at?)?;
            (!told_apart(at?) && name_of(id).key == name.key).then_some(id)
        })
    }

    /// Takes out what is there.
    pub(super) fn remove<'a>(&mut self, place: Place, name_of: impl Fn(u32) -> Name<'a>) {
        let Some(run) = self.runs.get_mut(place.run) else { return };
        if place.at >= run.ids.len() {
            return;
        }
        run.ids.remove(place.at);
        run.heads.remove(place.at);
        let Some(last) = run.ids.last() else {
            self.runs.remove(place.run);
            self.lasts.remove(place.run);
            return;
        };
        if place.at == run.ids.len() {
            self.lasts[place.run] = name_of(*last).wide(self.shared);
        }
        if run.ids.len() < run.ids.capacity() / 4 {
            run.ids.shrink_to(run.ids.len() * 2);
            run.heads.shrink_to(run.heads.len() * 2);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.iter_from(Place { run: 0, at: 0 })
    }

    pub(super) fn iter_from(&self, place: Place) -> impl Iterator<Item = u32> + '_ {
        let first = self.runs.get(place.run).and_then(|run| run.ids.get(place.at..));
        let rest = self.runs.get(place.run + 1..).unwrap_or_default();
        first.unwrap_or_default().iter().chain(rest.iter().flat_map(|run| &run.ids)).copied()
    }

    /// What stands just before a place.
    pub(super) fn before(&self, place: Place) -> Option<Place> {
        match place {
            Place { run: 0, at: 0 } => None,
            Place { run, at: 0 } => {
                Some(Place { run: run - 1, at: self.runs.get(run - 1)?.ids.len() - 1 })
            }
            Place { run, at } => Some(Place { run, at: at - 1 }),
        }
    }

    pub(super) fn after(&self, place: Place) -> Option<Place> {
        let run = self.runs.get(place.run)?;
        let next = if place.at + 1 < run.ids.len() {
            Place { at: place.at + 1, ..place }
        } else {
            Place { run: place.run + 1, at: 0 }
        };
        (next.run < self.runs.len()).then_some(next)
    }

    /// That the names at these places differ in the first `len` bytes, as far as can be told without looking at them.
    pub(super) fn differ_within(&self, one: Place, other: Place, len: usize) -> bool {
        let Some(run) = self.runs.get(one.run).filter(|_| one.run == other.run) else {
            return false;
        };
        let (Some(a), Some(b)) = (run.heads.get(one.at), run.heads.get(other.at)) else {
            return false;
        };
        differ_within(*a, *b, run.shared, len)
    }
}

/// That two names with these heads differ in the first `len` bytes.
fn differ_within(a: u64, b: u64, shared: u16, len: usize) -> bool {
    let first = usize::from(shared) + ((a ^ b).leading_zeros() / 8) as usize;
    a != b && first < len
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Keys that begin alike, keys that are all there is, few keys with many ids.
    fn text() -> impl Strategy<Value = (String, String)> {
        prop_oneof![
            ("user0000[0-3][0-9]{3}", Just("1".to_owned())),
            ("[0-9]{1,6}", "tab[12]"),
            ("https://example/a/long/way/[ab]{1,4}", "[0-9]{2}"),
            (Just("anonymous".to_owned()), "[0-9a-f]{20}[0-9]{2}"),
            ("[a-c]{1,2}", "[a-c]{1,2}"),
        ]
    }

    /// Every invariant that a search relies on.
    fn check(names: &Names, texts: &[(String, String)]) -> Result<(), TestCaseError> {
        let name_of = |id: u32| Name::new(&texts[id as usize].0, &texts[id as usize].1);
        let all: Vec<u32> = names.iter().collect();
        let ordered = all.windows(2).all(|pair| name_of(pair[0]).order(name_of(pair[1])).is_lt());
        prop_assert!(ordered, "in order");
        prop_assert_eq!(names.lasts.len(), names.runs.len());
        for (run, last) in names.runs.iter().zip(&names.lasts) {
            prop_assert!(!run.ids.is_empty() && run.ids.len() <= RUN_MAX);
            let end = name_of(run.ids[run.ids.len() - 1]);
            prop_assert_eq!(*last, end.wide(names.shared));
            prop_assert!(end.shared(name_of(all[0])) >= names.shared);
            for (id, head) in run.ids.iter().zip(&run.heads) {
                prop_assert!(name_of(*id).shared(end) >= run.shared.into());
                prop_assert_eq!(name_of(*id).head(run.shared.into()), *head);
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn it_is_a_sorted_map(
            steps in prop::collection::vec((prop::bool::weighted(0.8), text()), 0..1_000),
            shared in prop::bool::ANY,
        ) {
            let mut names = Names::default();
            let mut model: BTreeMap<(String, String), u32> = BTreeMap::new();
            let mut texts: Vec<(String, String)> = Vec::new();
            for (number, (add, mut text)) in steps.into_iter().enumerate() {
                if shared {
                    text.0 = format!("tenant:12345:{}", text.0);
                }
                texts.push(text.clone());
                let name_of = |id: u32| Name::new(&texts[id as usize].0, &texts[id as usize].1);
                let name = Name::new(&text.0, &text.1);
                // As it was found a while ago, and as nobody ever found it.
                let near = number.checked_rem(3).filter(|third| *third > 0);
                let near = near.map(|third| if third == 1 { number % 9 } else { number });
                let found = names.search(name, near, name_of);
                prop_assert_eq!(found.ok().and_then(|at| names.get(at)), model.get(&text).copied());
                match (add, found) {
                    (true, Err(place)) => {
                        let of_key = |other: &u32| texts[*other as usize].0 == text.0;
                        let below = model.range(..&text).next_back().map(|(_, id)| *id);
                        let above = model.range(&text..).next().map(|(_, id)| *id);
                        let expected = [below.filter(of_key), above.filter(of_key)];
                        prop_assert_eq!(names.of_key_beside(place, name, name_of), expected);
                        names.insert(place, name, number as u32, name_of);
                        model.insert(text, number as u32);
                    }
                    (false, Ok(place)) => {
                        names.remove(place, name_of);
                        model.remove(&text);
                    }
                    _ => (),
                }
            }
            check(&names, &texts)?;
            prop_assert!(names.iter().eq(model.values().copied()));
            let name_of = |id: u32| Name::new(&texts[id as usize].0, &texts[id as usize].1);
            for (text, _) in model.iter().step_by(17) {
                // A key alone stands before all of its ids, as a page begins.
                let start = names.search(Name::new(&text.0, ""), None, name_of).unwrap_or_else(|at| at);
                let from = (text.0.clone(), String::new());
                prop_assert!(names.iter_from(start).eq(model.range(from..).map(|(_, id)| *id)));
                let here = names.search(Name::new(&text.0, &text.1), None, name_of).unwrap();
                let beside = |at: Option<Place>| at.and_then(|at| names.get(at));
                let below = model.range(..text).next_back().map(|(_, id)| *id);
                let above = model.range(text..).nth(1).map(|(_, id)| *id);
                prop_assert_eq!(beside(names.before(here)), below);
                prop_assert_eq!(beside(names.after(here)), above);
                if let (Some(other), Some(id)) = (names.after(here), above)
                    && names.differ_within(here, other, text.0.len() + 1)
                {
                    prop_assert!(texts[id as usize].0 != text.0, "told apart, and of one key");
                }
            }
        }
    }
}
