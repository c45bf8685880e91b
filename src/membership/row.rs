//! What a member says of itself, as keys and values of its row in the gossip. Pure.
//!
//! Keys and values are short and ASCII: chitchat panics on others, and a row must fit a datagram or two.

use std::time::Duration;

use super::member::{Addresses, ControlGroup, ControlRow, Load, MemberState};

pub(super) const KEY_MAX: usize = 64;
pub(super) const VALUE_MAX: usize = 1_024;
/// Every change of load goes to everybody.
pub(super) const LOAD_EVERY: Duration = Duration::from_secs(5);

const GRPC: &str = "grpc";
const PEER: &str = "peer";
const HTTP: &str = "http";
const VERSION: &str = "ver";
const STATUS: &str = "status";
const LOAD: &str = "load";
const CONTROL: &str = "control";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) addresses: Addresses,
    pub(super) version: String,
    pub(super) state: MemberState,
    pub(super) load: Load,
    pub(super) control: Option<ControlRow>,
}

pub(super) fn lawful(key: &str, value: &str) -> bool {
    let plain = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    !key.is_empty()
        && key.len() <= KEY_MAX
        && value.len() <= VALUE_MAX
        && plain(key)
        && plain(value)
}

impl Facts {
    pub(super) fn to_keys(&self) -> [(&'static str, String); 7] {
        [
            (GRPC, self.addresses.grpc.clone()),
            (PEER, self.addresses.peer.clone()),
            (HTTP, self.addresses.http.clone()),
            (VERSION, self.version.clone()),
            (LOAD, format!("{} {}", self.load.sessions, self.load.presences)),
            (CONTROL, self.control.as_ref().map(control_text).unwrap_or_default()),
            (STATUS, self.state.as_str().to_owned()),
        ]
    }

    /// `None` until the row has what makes it a member's; what else it lacks, or a newer version has added, is no harm.
    pub(super) fn from_keys<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let text = |key: &str| get(key).unwrap_or_default().to_owned();
        Some(Self {
            state: state(get(STATUS)?)?,
            addresses: Addresses {
                grpc: text(GRPC),
                peer: get(PEER).filter(|peer| !peer.is_empty())?.to_owned(),
                http: text(HTTP),
            },
            version: text(VERSION),
            load: get(LOAD).and_then(load).unwrap_or_default(),
            control: get(CONTROL).and_then(control),
        })
    }
}

/// Nobody says of itself that it is down.
fn state(text: &str) -> Option<MemberState> {
    use MemberState::{Draining, Joining, Leaving, Ready};
    [Joining, Ready, Draining, Leaving].into_iter().find(|state| state.as_str() == text)
}

fn load(text: &str) -> Option<Load> {
    let (sessions, presences) = text.split_once(' ')?;
    Some(Load { sessions: sessions.parse().ok()?, presences: presences.parse().ok()? })
}

/// Id, whether it has a disk, and the group with whether it was written to, and what it goes on from; `-` stands for no.
fn control_text(row: &ControlRow) -> String {
    let hex = |id: [u8; 16]| format!("{:032x}", u128::from_be_bytes(id));
    let group = row.group.map_or_else(
        || "-".to_owned(),
        |group| {
            let continues = group.continues.map_or_else(|| "-".to_owned(), hex);
            format!("{} {} {continues}", hex(group.id), sign(group.written, "w"))
        },
    );
    format!("{:016x} {} {group}", row.id, sign(row.durable, "d"))
}

const fn sign(is_so: bool, sign: &'static str) -> &'static str {
    if is_so { sign } else { "-" }
}

fn control(text: &str) -> Option<ControlRow> {
    let group_id = |text: &str| Some(u128::from_str_radix(text, 16).ok()?.to_be_bytes());
    let mut words = text.split(' ');
    let id = u64::from_str_radix(words.next()?, 16).ok()?;
    let durable = words.next()? == "d";
    let group = match words.next()? {
        "-" => None,
        group => Some(ControlGroup {
            id: group_id(group)?,
            written: words.next()? == "w",
            continues: words.next().and_then(group_id),
        }),
    };
    Some(ControlRow { id, durable, group })
}

/// Three digits are enough to see how a node is doing, and change less often.
pub(super) fn quantised(load: Load) -> Load {
    let coarse = |exact: u64| {
        let step = 10u64.pow(exact.checked_ilog10().unwrap_or(0).saturating_sub(2));
        exact / step * step
    };
    Load { sessions: coarse(load.sessions), presences: coarse(load.presences) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn facts() -> Facts {
        Facts {
            addresses: Addresses {
                grpc: "a.example:7400".to_owned(),
                peer: "10.0.0.5:7401".to_owned(),
                http: String::new(),
            },
            version: "0.1.0".to_owned(),
            state: MemberState::Draining,
            load: Load { sessions: 120, presences: 1_200 },
            control: Some(ControlRow {
                id: 0x9f,
                durable: true,
                group: Some(ControlGroup { id: [7; 16], written: false, continues: Some([8; 16]) }),
            }),
        }
    }

    fn read(keys: &HashMap<&str, String>) -> Option<Facts> {
        Facts::from_keys(|key| keys.get(key).map(String::as_str))
    }

    #[test]
    fn a_row_says_what_it_was_told() {
        let keys: HashMap<_, _> = facts().to_keys().into_iter().collect();
        assert!(keys.iter().all(|(key, value)| lawful(key, value)));
        assert_eq!(read(&keys), Some(facts()));
    }

    #[test]
    fn strange_rows() {
        for (key, value, expected) in [
            ("status", "down", None),
            ("status", "sleeping", None),
            ("peer", "", None),
            ("load", "many", Some(Facts { load: Load::default(), ..facts() })),
            ("load", "1", Some(Facts { load: Load::default(), ..facts() })),
            ("control", "", Some(Facts { control: None, ..facts() })),
            ("control", "9f d x w", Some(Facts { control: None, ..facts() })),
            (
                "control",
                "a - - -",
                Some(Facts {
                    control: Some(ControlRow { id: 10, durable: false, group: None }),
                    ..facts()
                }),
            ),
            ("ver", "9.9.9", Some(Facts { version: "9.9.9".to_owned(), ..facts() })),
            ("colour", "red", Some(facts())),
        ] {
            let mut keys: HashMap<_, _> = facts().to_keys().into_iter().collect();
            keys.insert(key, value.to_owned());
            assert_eq!(read(&keys), expected, "{key} = {value:?}");
        }
        assert_eq!(read(&HashMap::new()), None);
    }

    #[test]
    fn load_is_coarse() {
        for (exact, coarse) in
            [(0, 0), (9, 9), (120, 120), (999, 999), (1_234, 1_230), (987_654, 987_000)]
        {
            let load = Load { sessions: exact, presences: 0 };
            assert_eq!(quantised(load).sessions, coarse);
        }
        let most = Load { sessions: u64::MAX, presences: u64::MAX };
        assert_eq!(quantised(most).sessions, 18_400_000_000_000_000_000);
    }

    #[test]
    fn only_short_and_plain_text_is_lawful() {
        for (key, value, expected) in [
            ("k", "", true),
            ("", "v", false),
            ("é", "v", false),
            ("k", "é", false),
            ("k", "a\nb", false),
            (&"k".repeat(65), "v", false),
            ("k", &"v".repeat(1_025), false),
        ] {
            assert_eq!(lawful(key, value), expected, "{key:?} {value:?}");
        }
    }
}
