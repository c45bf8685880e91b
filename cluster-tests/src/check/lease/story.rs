//! Histories of leases as text, for tests of the judge.
//!
//! Steps are parted by `;`, and a second passes with each; a lease lasts 10 s. `a get x 5` (granted, token 5) · `a busy x 5` (refused: held as
//! 5) · `a lost x` (outcome unknown) · `a renew x 5` · `a denied x 5` (a renewal refused) · `a free x 5` (released) · `a unfree x 5` (released,
//! outcome unknown) · `a write x 5` · `a rejected x 5` · `wait 3` (so many seconds pass). `a begin get x` … `a end get x 5` is one call with other steps between; the
//! same with `busy`, `renew`, `denied`, `free` and `write`.

use crate::history::{Kind, LeaseCall, LeaseWhat, Op, Record};

const SECOND: u64 = 1_000_000;

pub(super) fn history(story: &str) -> Vec<Record> {
    let mut records = Vec::new();
    let mut now = 0;
    let mut calls = 0;
    let mut open: Vec<(String, u64)> = Vec::new();
    for step in story.split(';').map(str::trim).filter(|step| !step.is_empty()) {
        let words: Vec<&str> = step.split_whitespace().collect();
        let mut add =
            |kind: Kind, verb: &str, who: &str, lease: &str, token: u64, call: u64, at: u64| {
                let what = match verb {
                    "get" | "busy" | "lost" => LeaseWhat::Acquire,
                    "renew" | "denied" => LeaseWhat::Renew,
                    "free" | "unfree" => LeaseWhat::Release,
                    "write" | "rejected" => LeaseWhat::Write,
                    other => panic!("no such step: {other}"),
                };
                let told = LeaseCall {
                    call,
                    what,
                    lease: lease.to_owned(),
                    holder: who.to_owned(),
                    token: if kind == Kind::Invoke && what == LeaseWhat::Acquire {
                        0
                    } else {
                        token
                    },
                    ttl_ms: 10_000,
                };
                records.push(Record {
                    t_us: at,
                    proc: who.to_owned(),
                    attachment: 0,
                    node: "n".to_owned(),
                    kind,
                    op: Op::Lease(told),
                });
            };
        let kind = |verb: &str| match verb {
            "busy" | "denied" | "rejected" => Kind::Fail,
            "lost" | "unfree" => Kind::Info,
            _ => Kind::Ok,
        };
        let token = |word: Option<&&str>| word.map_or(0, |word| word.parse().unwrap());
        match words.as_slice() {
            ["wait", seconds] => {
                now += seconds.parse::<u64>().unwrap() * SECOND;
                continue;
            }
            [who, "begin", verb, lease, rest @ ..] => {
                calls += 1;
                open.push((format!("{who} {verb} {lease}"), calls));
                add(Kind::Invoke, verb, who, lease, token(rest.first()), calls, now);
            }
            [who, "end", verb, lease, rest @ ..] => {
                let name = format!("{who} {verb} {lease}");
                let at = open.iter().position(|(open, _)| *open == name).expect("it was begun");
                let (_, call) = open.remove(at);
                add(kind(verb), verb, who, lease, token(rest.first()), call, now);
            }
            [who, verb, lease, rest @ ..] => {
                calls += 1;
                add(Kind::Invoke, verb, who, lease, token(rest.first()), calls, now);
                add(kind(verb), verb, who, lease, token(rest.first()), calls, now + SECOND / 2);
            }
            other => panic!("no such step: {other:?}"),
        }
        now += SECOND;
    }
    records
}
