//! What is read in pieces while it changes is as if it had been read at once.

use super::*;

struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// Somebody of node a tracks, updates or leaves; or of node c takes over, and a hears of it, or does not yet.
fn anything(nodes: &mut Nodes, chance: &mut Chance) {
    let key = format!("key{:02}", chance.below(30));
    let number = 1 + chance.below(3) as u8;
    match chance.below(8) {
        0..4 => {
            let meta = ["x", "y"][chance.below(2) as usize];
            nodes.track(0, &owner(number, 1, 5_000), &track(&key, "1", meta, 0));
        }
        4..6 => {
            let untrack = untrack(&key, "1", 0);
            nodes.on(0, |node, now, diff| node.untrack(session(number), &untrack, now, diff));
        }
        6 => {
            nodes.track(2, &owner(number + 3, 1, 5_000), &track(&key, "1", "x", 0));
        }
        _ => nodes.pull_all(0, 2),
    }
}

#[test]
fn a_whole_read_in_pieces_is_the_whole_of_one_moment() {
    for seed in 0..200 {
        let (mut nodes, mut chance) = (Nodes::new(3), Chance(seed));
        for _ in 0..60 {
            anything(&mut nodes, &mut chance);
        }
        let a = nodes.all[0].me().clone();
        let mut reading = Reading::new(&a);
        let piece = 1 + chance.below(6) as usize;
        let mut in_pieces = loop {
            match nodes.all[0].read_whole(&mut reading, piece, nodes.now) {
                // What is added comes last, so it must come to an end.
                Read::More => (0..chance.below(3)).for_each(|_| anything(&mut nodes, &mut chance)),
                Read::Whole(whole) => break whole,
                Read::Nothing => panic!("seed {seed}: nothing"),
            }
        };
        let Answer::Whole(mut at_once) = nodes.all[0].whole(&a, nodes.now) else {
            panic!("seed {seed}: no whole")
        };
        for whole in [&mut in_pieces, &mut at_once] {
            whole.removes.sort_by_key(|removal| removal.counter);
        }
        assert_eq!(in_pieces, at_once, "seed {seed}");
        // And who gets it has the same.
        for part in in_pieces.into_parts(300) {
            nodes.on(1, |node, now, diff| node.merge(&a.name, part, now, diff)).unwrap();
        }
        nodes.sync();
        assert_eq!(nodes.all[1].row_hash(), nodes.all[0].row_hash(), "seed {seed}");
    }
}
