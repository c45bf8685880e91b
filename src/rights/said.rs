//! ● Rights as keys and signed tokens say them, on their way to rules.

use serde::{Deserialize, Serialize};

use super::rules::{Right, Rules};
use crate::types::topic::TOPIC_LEN_CEILING;

/// Globs of one key: each is tried at each ask.
const GLOBS_MAX: usize = 256;

/// Written in this order: a file that is cut at a line's end has lost an allowance before it loses a denial.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RightsSaid {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny_publish: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny_subscribe: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny_presence: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny_lease: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub presence: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lease: Vec<String>,
    #[serde(default, skip_serializing_if = "is_no")]
    pub observe: bool,
    #[serde(default, skip_serializing_if = "is_no")]
    pub admin: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_no(said: &bool) -> bool {
    !*said
}

impl RightsSaid {
    /// As files and tokens spell them.
    pub const DENIALS: [&str; 4] =
        ["deny_publish", "deny_subscribe", "deny_presence", "deny_lease"];

    pub fn rules(&self) -> Result<Rules, String> {
        let mut rules = Rules::default();
        let globs = [
            (&self.publish, Right::Publish, true),
            (&self.subscribe, Right::Subscribe, true),
            (&self.presence, Right::Presence, true),
            (&self.lease, Right::Lease, true),
            (&self.deny_publish, Right::Publish, false),
            (&self.deny_subscribe, Right::Subscribe, false),
            (&self.deny_presence, Right::Presence, false),
            (&self.deny_lease, Right::Lease, false),
        ];
        if globs.iter().map(|(globs, ..)| globs.len()).sum::<usize>() > GLOBS_MAX {
            return Err(format!("names more than {GLOBS_MAX} patterns; use wider ones"));
        }
        for (globs, right, allows) in globs {
            for glob in globs {
                if glob.is_empty() || glob.len() > TOPIC_LEN_CEILING {
                    return Err(
                        "a pattern is empty, or far too long; \"*\" is everything".to_owned()
                    );
                }
                if allows {
                    rules.allow(right, glob.as_bytes());
                } else {
                    rules.deny(right, glob.as_bytes());
                }
            }
        }
        for (said, right) in [(self.observe, Right::Observe), (self.admin, Right::Admin)] {
            if said {
                rules.allow(right, b"*");
            }
        }
        Ok(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::RightsSaid;

    #[test]
    fn denials_are_written_before_what_they_deny() {
        let all = || vec!["*".to_owned()];
        let said = RightsSaid {
            publish: all(),
            subscribe: all(),
            presence: all(),
            lease: all(),
            deny_publish: all(),
            deny_subscribe: all(),
            deny_presence: all(),
            deny_lease: all(),
            ..RightsSaid::default()
        };
        let text = toml::to_string(&said).unwrap();
        let denies: Vec<bool> = text.lines().map(|line| line.starts_with("deny_")).collect();
        assert_eq!(denies, [true, true, true, true, false, false, false, false], "{text}");
    }
}
