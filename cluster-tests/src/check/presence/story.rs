//! Histories of presence written as text, for tests of the judge.
//!
//! Steps are parted by `;`; each is a millisecond after the one before. `+3` waits three seconds. A presence is a letter, its state a digit:
//! `x1`. Clients are called `who@node`.
//! `o@a in 2` attaches, with a linger of two seconds · `o@a has x1` tracks, `o@a asks x1` without an answer, `o@a fails x1` ·
//! `o@a drops x` untracks, `o@a drops x 3` to stay for three seconds · `o@a bye`, `o@a keeps` (the session), `o@a ends` (the stream) ·
//! `w@a watch`, `w@a snap x1 y2`, `w@a diff +x1 ~y3 -z` · `a lists x1 y2` · `cut a b`, `heal a b`, `heal`, `kill a`, `start a`.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Entry, Kind, Op, Presence, Record, Told};

const TOPIC: &str = "t";

#[derive(Default)]
struct Writer {
    records: Vec<Record>,
    now: u64,
    attachments: BTreeMap<String, u32>,
    /// What each watcher has, so that counts and marks are right.
    lists: BTreeMap<String, BTreeMap<String, String>>,
}

pub(super) fn history(story: &str) -> Vec<Record> {
    let mut writer = Writer { now: 100_000_000, ..Writer::default() };
    for step in story.split(';').map(str::trim) {
        writer.now += 1_000;
        if let Some(seconds) = step.strip_prefix('+') {
            writer.now += seconds.parse::<u64>().unwrap() * 1_000_000;
            continue;
        }
        let words: Vec<&str> = step.split_whitespace().collect();
        writer.step(&words);
    }
    writer.records
}

impl Writer {
    fn step(&mut self, words: &[&str]) {
        match words {
            [verb @ ("cut" | "kill" | "heal" | "start"), nodes @ ..] => {
                let op = Op::Fault {
                    fault: verb.to_string(),
                    begin: matches!(*verb, "cut" | "kill"),
                    nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
                    death: matches!(*verb, "kill" | "start"),
                };
                self.add("nemesis@", Kind::Event, op);
            }
            [node, "lists", entries @ ..] => {
                let entries = entries.iter().map(|entry| state(entry)).collect();
                let op = Op::Listed { topic: TOPIC.to_owned(), entries };
                self.add(&format!("lister@{node}"), Kind::Event, op);
            }
            [who, words @ ..] => self.client(who, words),
            [] => panic!("an empty step"),
        }
    }

    fn client(&mut self, who: &str, words: &[&str]) {
        let track = |text: &str, reference: &str| Op::Track {
            of: presence(text),
            meta: text[1..].to_owned(),
            revision: 0,
            reference: reference.to_owned(),
        };
        match words {
            ["in", linger] => {
                let name = who.split('@').next().unwrap().to_owned();
                *self.attachments.entry(name).or_default() += 1;
                let linger_ms = linger.parse::<u64>().unwrap() * 1_000;
                let (session, epoch) = (String::new(), 0);
                self.add(
                    who,
                    Kind::Event,
                    Op::Attached { session, resumed: true, epoch, linger_ms },
                );
            }
            ["has", text] => {
                self.add(who, Kind::Invoke, track(text, ""));
                self.add(who, Kind::Ok, track(text, &text[1..]));
            }
            ["asks", text] => self.add(who, Kind::Invoke, track(text, "")),
            ["fails", text] => {
                self.add(who, Kind::Invoke, track(text, ""));
                self.add(who, Kind::Fail, track(text, ""));
            }
            ["drops", text, linger @ ..] => {
                let linger_ms = linger.first().map_or(0, |s| s.parse::<u64>().unwrap() * 1_000);
                let op = Op::Untrack { of: presence(text), linger_ms };
                self.add(who, Kind::Invoke, op.clone());
                self.add(who, Kind::Ok, op);
            }
            ["bye"] => self.add(who, Kind::Invoke, Op::Bye { keep_session: false }),
            ["keeps"] => self.add(who, Kind::Invoke, Op::Bye { keep_session: true }),
            ["ends"] => self.add(who, Kind::Event, Op::Ended { how: String::new() }),
            ["watch"] => self.add(who, Kind::Invoke, Op::Watch { topic: TOPIC.to_owned() }),
            [what @ ("snap" | "diff"), entries @ ..] => {
                let told = self.told(who, *what == "snap", entries);
                self.add(who, Kind::Event, Op::Presence(told));
            }
            other => panic!("no such step: {other:?}"),
        }
    }

    fn told(&mut self, who: &str, snapshot: bool, entries: &[&str]) -> Told {
        let name = who.split('@').next().unwrap().to_owned();
        let list = self.lists.entry(name).or_default();
        let mut told = Told { topic: TOPIC.to_owned(), snapshot, ..Told::default() };
        let had: BTreeSet<String> = list.keys().cloned().collect();
        if snapshot {
            *list =
                entries.iter().map(|text| (text[..1].to_owned(), text[1..].to_owned())).collect();
            told.joins = entries.iter().map(|text| state(text)).collect();
            told.joins.iter_mut().for_each(|entry| entry.first_of_key = true);
        } else {
            for text in entries {
                let mut entry = state(&text[1..]);
                let key = entry.key.clone();
                match &text[..1] {
                    "+" => {
                        entry.first_of_key = !had.contains(&key);
                        list.insert(key, entry.reference.clone());
                        told.joins.push(entry);
                    }
                    "~" => {
                        entry.before =
                            list.insert(key, entry.reference.clone()).unwrap_or_default();
                        told.updates.push(entry);
                    }
                    _ => {
                        entry.last_of_key = true;
                        list.remove(&key);
                        told.leaves.push(entry);
                    }
                }
            }
        }
        (told.presences, told.keys) = (list.len() as u64, list.len() as u64);
        told
    }

    fn add(&mut self, who: &str, kind: Kind, op: Op) {
        let (proc, node) = who.split_once('@').unwrap();
        let attachment = self.attachments.get(proc).copied().unwrap_or_default();
        let (proc, node) = (proc.to_owned(), node.to_owned());
        self.records.push(Record { t_us: self.now, proc, attachment, node, kind, op });
    }
}

fn state(text: &str) -> Entry {
    let (key, reference) = (text[..1].to_owned(), text[1..].to_owned());
    Entry { key, id: "1".to_owned(), reference, ..Entry::default() }
}

fn presence(text: &str) -> Presence {
    Presence { topic: TOPIC.to_owned(), key: text[..1].to_owned(), id: "1".to_owned() }
}
