//! What the machine does: cases as data, a naive model, and a world of sessions and members whose reports come late.

mod cases;
mod laws;
mod naive;
mod world;

use super::command::{Acquire, Answer, Batch, Change, Command, NewKey};
use super::facts::{GroupId, LeaseKey, MemberAt, Owner, RightsFacts};
use super::state::State;
use crate::types::SessionId;

const GROUP: GroupId = GroupId([7; 16]);
const FIRST_TOKEN: u64 = 100 << 16;

fn founded() -> State {
    let mut state = State::default();
    ask(&mut state, Change::Found { group: GROUP, at_s: 100 });
    state
}

/// One command in a batch of its own; refused or not, nothing derived may be wrong then.
fn ask(state: &mut State, change: Change) -> Answer {
    let command = Command { by: "test".into(), change };
    let before = state.clone();
    let applied = state.apply(&Batch { at_ms: 5, commands: vec![command] });
    let answer = applied.answers.0.into_iter().next().unwrap();
    if matches!(answer, Answer::Refused(_)) {
        assert_eq!(*state, before, "refused, and changed something");
    }
    assert_eq!(state.index, super::state::Index::of(state));
    answer
}

fn lease(name: &str) -> LeaseKey {
    LeaseKey { namespace: "acme".into(), name: name.into() }
}

fn at(name: &str, incarnation: u64) -> MemberAt {
    MemberAt { name: name.into(), incarnation }
}

fn session(id: u8, epoch: u64, at: MemberAt) -> Owner {
    Owner::Session { id: SessionId([id; 16]), epoch, at }
}

fn acquire(name: &str, owner: Owner) -> Change {
    Change::Acquire(Acquire { lease: lease(name), owner, ttl_ms: 10_000, note: "".into() })
}

fn key(id: &str, namespace: &str) -> NewKey {
    NewKey {
        id: id.into(),
        hash: [1; 32],
        namespace: namespace.into(),
        note: "".into(),
        ends_s: None,
        rights: RightsFacts { publish: vec!["room:*".to_owned()], ..RightsFacts::default() },
    }
}
