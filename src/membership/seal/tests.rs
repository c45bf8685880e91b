//! What opens, and what doesn't and why.

use proptest::prelude::*;

use super::*;

fn ring(cluster: &str, secrets: &[&str]) -> Keyring {
    let secrets: Vec<_> =
        secrets.iter().map(|secret| Secret::new(secret.as_bytes().to_vec())).collect();
    Keyring::new(&ClusterName::parse(cluster).unwrap(), &secrets)
}

fn pass(from: &Keyring, to: &Keyring, plain: &[u8]) -> Result<Vec<u8>, Rejected> {
    let datagram = from.seal([7; NONCE_LEN], plain).unwrap();
    to.open(&to.inspect(&datagram)?)
}

#[test]
fn who_can_read_whom() {
    use Rejected::{Key, Seal};
    for (from, to, expected) in [
        (("c", &["one"][..]), ("c", &["one"][..]), None),
        (("c", &[]), ("c", &[]), None),
        // A secret being changed: old first, new second, on one side only.
        (("c", &["one"]), ("c", &["two", "one"]), None),
        (("c", &["two", "one"]), ("c", &["one", "two"]), None),
        (("c", &["two", "one"]), ("c", &["one"]), Some(Key)),
        (("c", &["one"]), ("c", &["two"]), Some(Key)),
        (("c", &["one"]), ("c", &[]), Some(Key)),
        (("c", &[]), ("c", &["one"]), Some(Key)),
        (("c", &["c"]), ("c", &[]), Some(Key)),
        // The same secret in another cluster.
        (("c", &["one"]), ("d", &["one"]), Some(Seal)),
        (("c", &[]), ("d", &[]), Some(Key)),
    ] {
        let got = pass(&ring(from.0, from.1), &ring(to.0, to.1), b"hello");
        assert_eq!(got.as_ref().err(), expected.as_ref(), "{from:?} -> {to:?}");
    }
}

#[test]
fn the_outside_is_checked_first() {
    let ring = ring("c", &["one"]);
    let good = ring.seal([7; NONCE_LEN], b"hello").unwrap();
    let with = |at: usize, value: u8| {
        let mut bad = good.clone();
        bad[at] = value;
        bad
    };
    for (datagram, expected) in [
        (vec![], Rejected::Length),
        (vec![1; OVERHEAD], Rejected::Length),
        (vec![1; DATAGRAM_MAX + 1], Rejected::Length),
        (with(0, 9), Rejected::Version),
        (with(1, !good[1]), Rejected::Key),
    ] {
        assert_eq!(ring.inspect(&datagram).err(), Some(expected));
    }
}

proptest! {
    #[test]
    fn what_was_sealed_opens(plain in proptest::collection::vec(any::<u8>(), 1..1100), nonce: [u8; NONCE_LEN]) {
        let ring = ring("c", &["one"]);
        let datagram = ring.seal(nonce, &plain).unwrap();
        prop_assert_eq!(datagram.len(), plain.len() + OVERHEAD);
        prop_assert_eq!(ring.open(&ring.inspect(&datagram).unwrap_or_else(|_| panic!())).unwrap(), plain);
    }

    #[test]
    fn any_change_breaks_the_seal(at in 0usize..64, bit in 0u8..8, cut in 0usize..64) {
        let ring = ring("c", &["one"]);
        let good = ring.seal([7; NONCE_LEN], &[5; 19]).unwrap();
        let mut changed = good.clone();
        changed[at % good.len()] ^= 1 << bit;
        prop_assert!(ring.inspect(&changed).and_then(|sealed| ring.open(&sealed)).is_err());
        let short = &good[..good.len() - 1 - cut % good.len()];
        prop_assert!(ring.inspect(short).and_then(|sealed| ring.open(&sealed)).is_err());
    }

    #[test]
    fn junk_is_refused(junk in proptest::collection::vec(any::<u8>(), 0..1400)) {
        let ring = ring("c", &["one"]);
        prop_assert!(ring.inspect(&junk).and_then(|sealed| ring.open(&sealed)).is_err());
    }
}
