//! Histories written as text, for tests of the checkers.
//!
//! Steps are parted by `;`. Publishers are on node `n` unless they are called `x@node`.
//! `s sub t*` (acknowledged everywhere) · `s half t` (acknowledged, not everywhere) · `s ask t` (not answered) · `s unsub t` ·
//! `p pub t 1` · `p fail t 1` · `p lose t 1` (outcome unknown) · `p begin t 1` … `p end t 1` · `s got t p 1` ·
//! `s gap t 3` (certain, so many) · `s gap t 3 node` · `s maybe * ` (possible, any topic) · `s maybe t node` · `s end` · `s back` (the
//! possible gap of a client that has reconnected). A subscriber called `s.1` is the attachment 1 of `s`. A name with a `*` in it is a
//! pattern.

use crate::history::{Kind, Numbered, Op, Record};

pub(super) fn history(story: &str) -> Vec<Record> {
    let mut records = Vec::new();
    for step in story.split(';').map(str::trim).filter(|step| !step.is_empty()) {
        let words: Vec<&str> = step.split_whitespace().collect();
        let (who, node) = words[0].split_once('@').unwrap_or((words[0], "n"));
        let (proc, attachment) = who.split_once('.').unwrap_or((who, "0"));
        for (kind, op) in ops(who, &words[1..]) {
            records.push(Record {
                t_us: records.len() as u64,
                proc: proc.to_owned(),
                attachment: attachment.parse().unwrap(),
                node: node.to_owned(),
                kind,
                op,
            });
        }
    }
    records
}

fn ops(who: &str, words: &[&str]) -> Vec<(Kind, Op)> {
    match words {
        ["sub", name] => vec![(Kind::Invoke, sub(name, false)), (Kind::Ok, sub(name, true))],
        ["half", name] => vec![(Kind::Invoke, sub(name, false)), (Kind::Ok, sub(name, false))],
        ["ask", name] => vec![(Kind::Invoke, sub(name, false))],
        ["unsub", name] => vec![(Kind::Invoke, unsub(name)), (Kind::Ok, unsub(name))],
        [verb @ ("pub" | "fail" | "lose" | "begin" | "end"), topic, seq] => {
            let op = Op::Publish(numbered(topic, who, seq));
            match *verb {
                "pub" => vec![(Kind::Invoke, op.clone()), (Kind::Ok, op)],
                "fail" => vec![(Kind::Invoke, op.clone()), (Kind::Fail, op)],
                "end" => vec![(Kind::Ok, op)],
                _ => vec![(Kind::Invoke, op)],
            }
        }
        ["got", topic, publisher, seq] => {
            let (publisher, origin) = publisher.split_once('@').unwrap_or((publisher, "n"));
            let message = numbered(topic, publisher, seq);
            let op = Op::Message { message, origin: origin.to_owned(), id: String::new() };
            vec![(Kind::Event, op)]
        }
        ["gap", topic, count] => vec![(Kind::Event, gap(topic, Some(count), ""))],
        ["gap", topic, count, origin] => vec![(Kind::Event, gap(topic, Some(count), origin))],
        ["end"] => vec![(Kind::Event, Op::Ended { how: String::new() })],
        ["back"] => vec![(Kind::Event, reconnected())],
        ["maybe", topic] => vec![(Kind::Event, gap(topic, None, ""))],
        ["maybe", topic, origin] => vec![(Kind::Event, gap(topic, None, origin))],
        other => panic!("no such step: {other:?}"),
    }
}

fn numbered(topic: &str, publisher: &str, seq: &str) -> Numbered {
    Numbered { topic: topic.to_owned(), publisher: publisher.to_owned(), seq: seq.parse().unwrap() }
}

fn names(name: &str) -> (Vec<String>, Vec<String>) {
    let name = name.to_owned();
    if name.contains('*') { (Vec::new(), vec![name]) } else { (vec![name], Vec::new()) }
}

fn sub(name: &str, everywhere: bool) -> Op {
    let (topics, patterns) = names(name);
    Op::Subscribe { topics, patterns, everywhere }
}

fn unsub(name: &str) -> Op {
    let (topics, patterns) = names(name);
    Op::Unsubscribe { topics, patterns }
}

fn reconnected() -> Op {
    Op::Gap {
        topics: Vec::new(),
        origin: String::new(),
        missing: None,
        certain: false,
        reason: "RECONNECTED".to_owned(),
    }
}

fn gap(topic: &str, missing: Option<&str>, origin: &str) -> Op {
    Op::Gap {
        topics: if topic == "*" { Vec::new() } else { vec![topic.to_owned()] },
        origin: origin.to_owned(),
        missing: missing.map(|count| count.parse().unwrap()),
        certain: missing.is_some(),
        reason: "LINK".to_owned(),
    }
}
