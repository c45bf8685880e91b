//! Whole messages from pieces in any order, and bounds that hold.

use proptest::prelude::*;

use super::super::envelope::split;
use super::*;

const SIZE_MAX: usize = 64 << 10;

fn piece(message: u32, index: u8, count: u8) -> Piece {
    Piece { message, index, count }
}

proptest! {
    #[test]
    fn any_order_and_repeats_make_the_message_once(
        message in proptest::collection::vec(any::<u8>(), 1001..9000),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let pieces = split(&message).unwrap();
        let count = pieces.len() as u8;
        let mut reassembly = Reassembly::default();
        let mut whole = Vec::new();
        let at = order.iter().map(|at| at.index(pieces.len())).chain(0..pieces.len());
        let mut given = std::collections::HashSet::new();
        for at in at {
            if given.len() == pieces.len() {
                break;
            }
            let added = reassembly.add(Time::ZERO, 1, piece(7, at as u8, count), pieces[at], SIZE_MAX);
            prop_assert_eq!(added.is_ok(), given.insert(at));
            whole.extend(added.ok().and_then(|added| added.message));
        }
        prop_assert_eq!(whole, vec![message]);
        prop_assert_eq!(reassembly.bytes, 0);
        prop_assert!(reassembly.partial.is_empty());
    }

    #[test]
    fn bounds_hold_whatever_comes(
        steps in proptest::collection::vec((0u64..40, any::<u32>(), any::<u8>(), any::<u8>(), 0usize..1100, 0u64..5000), 1..600)
    ) {
        let mut reassembly = Reassembly::default();
        let mut now = 0;
        for (boot, message, index, count, len, later) in steps {
            now += later / 10;
            let len = if len > 900 { PIECE_MAX } else { len };
            let _ = reassembly.add(Time::from_millis(now), boot, piece(message, index, count), &vec![0; len], SIZE_MAX);
            prop_assert!(reassembly.partial.len() <= MESSAGES_MAX);
            prop_assert!(reassembly.bytes <= BYTES_MAX);
            prop_assert!(reassembly.of(boot).count() <= MESSAGES_OF_ONE_MAX);
            let held: usize = reassembly.partial.values().map(|partial| partial.bytes).sum();
            prop_assert_eq!(held, reassembly.bytes);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let full = [1; PIECE_MAX];
    for (at, body, expected) in [
        (piece(1, 0, 0), &full[..], Rejected::Fragment),
        (piece(1, 2, 2), &full[..], Rejected::Fragment),
        // Only the last may be short.
        (piece(1, 0, 2), &full[..10], Rejected::Fragment),
        (piece(1, 0, 66), &full[..], Rejected::Size),
    ] {
        let got = Reassembly::default().add(Time::ZERO, 1, at, body, 64_000);
        assert_eq!(got, Err(expected), "{at:?}");
    }
}

#[test]
fn the_count_can_t_change_midway() {
    let mut reassembly = Reassembly::default();
    let full = [1; PIECE_MAX];
    reassembly.add(Time::ZERO, 1, piece(1, 0, 2), &full, SIZE_MAX).unwrap();
    assert_eq!(
        reassembly.add(Time::ZERO, 1, piece(1, 2, 3), &full, SIZE_MAX),
        Err(Rejected::Fragment)
    );
}

#[test]
fn what_is_not_finished_in_time_is_given_up() {
    let mut reassembly = Reassembly::default();
    let full = [1; PIECE_MAX];
    reassembly.add(Time::ZERO, 1, piece(1, 0, 2), &full, SIZE_MAX).unwrap();
    let late = Time::ZERO + AGE_MAX;
    let added = reassembly.add(late, 1, piece(1, 1, 2), b"end", SIZE_MAX).unwrap();
    assert_eq!(added, Added { message: None, given_up: 1 });
}
