//! The machine beside the naive one over generated histories: same answers, same leases; tokens rise; members that apply the same entries
//! have the same bytes, however the entries were cut into batches and whichever of them a snapshot came before.

use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};

use super::super::command::{Due, SessionReport, SessionWord};
use super::super::facts::QuotaFacts;
use super::naive::Naive;
use super::*;

fn cases() -> ProptestConfig {
    let few = std::env::var_os("PROPTEST_CASES").is_none();
    let all = ProptestConfig::default();
    ProptestConfig { cases: if few { 128 } else { all.cases }, ..all }
}

const NAMES: [&str; 2] = ["acme", "shop"];

/// One ask of a small world, so that asks meet. Tokens and beats are those of the moment, or near them.
fn change(dice: [u8; 6], naive: &Naive) -> Change {
    let [kind, who, what, epoch, place, near] = dice;
    let namespace: Box<str> = NAMES[usize::from(what) % 2].into();
    let key =
        LeaseKey { namespace: namespace.clone(), name: ["x", "y"][usize::from(near) % 2].into() };
    let there = naive.leases.iter().find(|lease| lease.key == key);
    let token = there.map_or(FIRST_TOKEN, |lease| lease.token) - u64::from(near.is_multiple_of(7));
    let beat =
        there.map_or(0, |lease| lease.beat).saturating_sub(u64::from(near.is_multiple_of(5)));
    let member = at(["a", "b"][usize::from(place) % 2], u64::from(place / 2 % 2));
    let epoch = u64::from(epoch % 4);
    let owner = match who % 4 {
        3 => Owner::Alone { id: [1 + who / 4 % 2; 16] },
        who => session(who, epoch, member.clone()),
    };
    let holder = there.map_or(owner.id(), |lease| lease.owner.id());
    let owner_id = if who.is_multiple_of(5) { owner.id() } else { holder };
    let sessions = |what| {
        let report =
            SessionReport { session: SessionId([who % 4; 16]), epoch, at: member.clone(), what };
        Change::Sessions(vec![report])
    };
    match kind % 16 {
        0 => Change::CreateNamespace { name: namespace, quota: QuotaFacts::default() },
        1 => Change::UpdateNamespace {
            name: namespace,
            quota: QuotaFacts { sessions: Some(epoch), ..QuotaFacts::default() },
            expected: who.is_multiple_of(2).then_some(u64::from(near % 8)),
        },
        2 => Change::DeleteNamespace { name: namespace, contents: who.is_multiple_of(2) },
        3 => Change::CreateKey(super::key(["k", "l"][usize::from(near) % 2], &namespace)),
        4 => Change::RevokeKey { id: ["k", "l"][usize::from(near) % 2].into() },
        5..=8 => {
            let note = "".into();
            Change::Acquire(Acquire { lease: key, owner, ttl_ms: 1_000 + epoch, note })
        }
        9 => Change::Renew { lease: key, owner: owner_id, token, ttl_ms: None },
        10 => Change::Release { lease: key, owner: owner_id, token },
        11 => Change::Expire(vec![Due { lease: key, token, beat }]),
        12 => sessions(SessionWord::Attached),
        13 => sessions(SessionWord::Lost),
        14 => sessions(SessionWord::Ended),
        _ => Change::MemberLost(member),
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn it_does_what_the_naive_one_does(history in prop::collection::vec(any::<[u8; 6]>(), 0..120)) {
        let (mut state, mut naive) = (founded(), Naive::default());
        let mut last = 0;
        for dice in history {
            let change = change(dice, &naive);
            let given = naive.given.len();
            let expected = naive.ask(&change, FIRST_TOKEN);
            let answer = ask(&mut state, change.clone());
            prop_assert_eq!(&answer, &expected, "{:?}", change);
            if naive.given.len() > given
                && let Answer::Granted { token, .. } = answer
            {
                prop_assert!(token > last);
                last = token;
            }
            prop_assert_eq!(state.leases().count(), naive.leases.len());
            for lease in &naive.leases {
                let there = state.lease(&lease.key).expect("a lease of the naive one");
                prop_assert_eq!((there.token, there.beat), (lease.token, lease.beat));
                prop_assert_eq!((&there.owner, there.held), (&lease.owner, lease.held()));
            }
        }
    }

    #[test]
    fn members_that_applied_the_same_are_the_same(
        history in prop::collection::vec((any::<[u8; 6]>(), 0_u8..4), 0..80),
    ) {
        let (mut one, mut other, mut naive) = (founded(), founded(), Naive::default());
        let mut answers = (Vec::new(), Vec::new());
        let mut waiting = Vec::new();
        for (dice, cut) in history {
            let change = change(dice, &naive);
            naive.ask(&change, FIRST_TOKEN);
            waiting.push(Command { by: "test".into(), change });
            if cut > 0 {
                continue;
            }
            let batch = Batch { at_ms: 9, commands: std::mem::take(&mut waiting) };
            answers.0.extend(one.apply(&batch).answers.0);
            for command in batch.commands {
                answers.1.extend(other.apply(&Batch { at_ms: 9, commands: vec![command] }).answers.0);
            }
            prop_assert_eq!(&answers.0, &answers.1);
            let bytes = one.to_snapshot().unwrap();
            prop_assert_eq!(&bytes, &other.to_snapshot().unwrap());
            other = State::from_snapshot(&bytes).unwrap();
            prop_assert_eq!(&one, &other);
        }
    }
}
