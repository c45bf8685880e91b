//! What to say of a key that nobody knows: the one that was probably meant, or that it belongs to a later version.

use super::keys::KEYS;
use super::value::quoted;

/// Documented for versions to come. They do nothing here, so they are refused like any other unknown key, with the reason.
const LATER: [(&str, &str); 2] =
    [("presence.", "presence"), ("limits.publish_rate", "a limit on the publish rate")];

/// Variables with our prefix that are no settings.
const OTHER_VARIABLES: [&str; 15] = [
    "WAXWING_NODE",
    "WAXWING_KEY",
    "WAXWING_TLS_CA",
    "WAXWING_CLIENT_CERT",
    "WAXWING_CLIENT_KEY",
    "WAXWING_CONFIG",
    "WAXWING_THREADS",
    // What `waxwing lease` hands on.
    "WAXWING_LEASE_NAME",
    "WAXWING_LEASE_NAMESPACE",
    "WAXWING_LEASE_OWNER",
    "WAXWING_LEASE_TOKEN",
    SECRET_VARIABLE,
    REDIS_PASSWORD_VARIABLE,
    // Where the tests find the program, and leave what they measured.
    "WAXWING_BIN",
    "WAXWING_FIGURES",
];

pub(super) const SECRET_VARIABLE: &str = "WAXWING_CLUSTER_SECRET";
pub(super) const REDIS_PASSWORD_VARIABLE: &str = "WAXWING_REDIS_PASSWORD";

/// An unknown key of a file.
pub(super) fn key(section: &str, name: &str) -> String {
    let path = format!("{section}.{name}");
    if let Some((_, what)) = LATER.iter().find(|(prefix, _)| path.starts_with(prefix)) {
        return format!("is unknown: this version does not have {what}; remove it");
    }
    let sections = KEYS.iter().map(|key| key.section);
    if name.is_empty() {
        return match closest(section, sections.chain(KEYS.iter().map(|key| key.name))) {
            Some(meant) if KEYS.iter().any(|key| key.section == meant) => {
                format!("is no section; did you mean [{meant}]?")
            }
            Some(meant) => format!("stands outside any section; did you mean {}?", homes(meant)),
            None => "stands outside any section; remove it".to_owned(),
        };
    }
    if sections.clone().any(|known| known == section) {
        let siblings = KEYS.iter().filter(|key| key.section == section).map(|key| key.name);
        return match closest(name, siblings.clone()) {
            Some(meant) => format!("is unknown; did you mean {section}.{meant}?"),
            None if KEYS.iter().any(|key| key.name == name) => {
                format!("is unknown; did you mean {}?", homes(name))
            }
            None => {
                format!("is unknown; [{section}] has {}", siblings.collect::<Vec<_>>().join(", "))
            }
        };
    }
    match closest(section, sections) {
        Some(meant) => format!("is unknown; did you mean [{meant}]?"),
        None if KEYS.iter().any(|key| key.name == name) => {
            format!("is unknown; did you mean {}?", homes(name))
        }
        None => format!("is unknown: there is no section {}; remove it", quoted(section)),
    }
}

/// None: not for us to judge.
pub(super) fn variable(name: &str) -> Option<String> {
    if OTHER_VARIABLES.contains(&name) || is_service_link(name) {
        return None;
    }
    let known: Vec<String> = KEYS.iter().map(super::keys::Key::env).collect();
    let lowered = name.trim_start_matches(PREFIX).to_ascii_lowercase().replacen('_', ".", 1);
    if let Some((_, what)) = LATER.iter().find(|(prefix, _)| lowered.starts_with(prefix)) {
        return Some(format!("is unknown: this version does not have {what}; unset it"));
    }
    let names = known.iter().map(String::as_str).chain(OTHER_VARIABLES);
    Some(
        match closest(
            name.trim_start_matches(PREFIX),
            names.map(|name| name.trim_start_matches(PREFIX)),
        ) {
            Some(meant) => format!("is unknown; did you mean {PREFIX}{meant}?"),
            None => {
                "is unknown; unset it (`waxwing config default` shows every setting)".to_owned()
            }
        },
    )
}

pub(super) const PREFIX: &str = "WAXWING_";

/// Kubernetes sets WAXWING_SERVICE_HOST, WAXWING_PORT_7400_TCP_ADDR and the like for a service called waxwing.
fn is_service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| {
            name.split_once("_PORT_").is_some_and(|(_, rest)| rest.contains(protocol))
        })
}

/// `limits.mailbox`, or both where two sections have a key of this name.
fn homes(name: &str) -> String {
    let homes: Vec<String> =
        KEYS.iter().filter(|key| key.name == name).map(super::keys::Key::path).collect();
    homes.join(" or ")
}

pub(crate) fn closest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const ALIKE_ENOUGH: f64 = 0.6;
    let wanted = wanted.to_ascii_lowercase();
    known
        .map(|name| {
            let alike = strsim::normalized_damerau_levenshtein(&wanted, &name.to_ascii_lowercase());
            (alike, name)
        })
        .filter(|(alike, _)| ALIKE_ENOUGH <= *alike)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
