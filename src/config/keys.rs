//! The one table of settings. The file, the environment, the flags of `start`, the commented default file and the table of limits are
//! all made from it, so that they cannot disagree.

use std::fmt::Write as _;

use toml::Value as Toml;

use super::Config;
use super::table::{ADDRESSES, BOOL};
use super::value::{Value, Wrong};

pub use super::table::KEYS;

/// One setting.
#[derive(Debug)]
pub struct Key {
    pub section: &'static str,
    pub name: &'static str,
    /// What stands for the value in a help text.
    pub shape: &'static str,
    /// What it is, in one sentence.
    pub about: &'static str,
    /// What happens at the limit; empty where it is none.
    pub at_limit: &'static str,
    /// A reload takes it; everything else waits for the next start.
    pub live: bool,
    /// Where nobody says, it is found out: the default file shows it empty.
    pub(super) blank: bool,
    flag: &'static str,
    pub(super) set: fn(&mut Config, &Value) -> Result<(), Wrong>,
    pub(super) get: fn(&Config) -> Toml,
}

impl Key {
    pub(super) const fn new(
        section: &'static str,
        name: &'static str,
        shape: &'static str,
        about: &'static str,
        set: fn(&mut Config, &Value) -> Result<(), Wrong>,
        get: fn(&Config) -> Toml,
    ) -> Self {
        Self {
            section,
            name,
            shape,
            about,
            at_limit: "",
            live: false,
            blank: false,
            flag: "",
            set,
            get,
        }
    }

    pub(super) const fn limit(
        name: &'static str,
        shape: &'static str,
        about: &'static str,
        at_limit: &'static str,
        set: fn(&mut Config, &Value) -> Result<(), Wrong>,
        get: fn(&Config) -> Toml,
    ) -> Self {
        let key = Self::new("limits", name, shape, about, set, get);
        Self { at_limit, live: true, ..key }
    }

    pub(super) const fn flag_named(self, flag: &'static str) -> Self {
        Self { flag, ..self }
    }

    pub(super) const fn blank(self) -> Self {
        Self { blank: true, ..self }
    }

    pub(super) const fn live(self) -> Self {
        Self { live: true, ..self }
    }

    /// `section.name`
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// `WAXWING_SECTION_NAME`
    pub fn env(&self) -> String {
        format!("WAXWING_{}_{}", self.section, self.name).to_ascii_uppercase()
    }

    /// Without the dashes: a short one where the key has it, else `section-name`.
    pub fn flag(&self) -> String {
        if self.flag.is_empty() {
            format!("{}-{}", self.section, self.name).replace('_', "-")
        } else {
            self.flag.to_owned()
        }
    }

    /// What it is, and what happens at the limit.
    pub fn meaning(&self) -> String {
        let at_limit = if self.at_limit.is_empty() { "" } else { " At the limit: " };
        format!("{}{at_limit}{}", self.about, self.at_limit)
    }

    /// As it would stand in a file.
    pub fn value(&self, config: &Config) -> Toml {
        (self.get)(config)
    }

    /// Where nobody says it, this host does.
    pub fn is_found_out(&self) -> bool {
        self.blank
    }

    pub fn is_switch(&self) -> bool {
        self.shape == BOOL
    }

    pub fn is_list(&self) -> bool {
        self.shape == ADDRESSES
    }
}

/// The index of `section.name`.
pub(super) fn find(section: &str, name: &str) -> Option<usize> {
    KEYS.iter().position(|key| key.section == section && key.name == name)
}

/// What a reload has changed, one line each.
pub fn changed(before: &Config, after: &Config) -> Vec<String> {
    let values =
        KEYS.iter().filter(|key| key.live).map(|key| (key, (key.get)(before), (key.get)(after)));
    values
        .filter(|(_, before, after)| before != after)
        .map(|(key, before, after)| format!("{} = {after}, before {before}", key.path()))
        .collect()
}

/// The commented file that `waxwing config default` prints; loading it changes nothing.
pub fn default_file(defaults: &Config) -> String {
    let mut out = String::from(
        "# Waxwing's settings, all at their defaults. A setting here is overruled by the environment\n\
         # (WAXWING_SECTION_KEY), and that by a flag of `waxwing start`. [limits], presence.linger,\n\
         # log.level, [tls] and the secrets are read again on SIGHUP.\n",
    );
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            let _ = write!(out, "\n[{section}]\n");
        }
        let value = if key.blank { Toml::String(String::new()) } else { (key.get)(defaults) };
        let _ = writeln!(out, "# {}\n{} = {value}", key.meaning(), key.name);
    }
    out
}

/// The table of limits that README shows.
pub fn limits_markdown(defaults: &Config) -> String {
    let mut out = String::from(
        "| limit | default | what it bounds | at the limit |\n| --- | --- | --- | --- |\n",
    );
    for key in KEYS.iter().filter(|key| !key.at_limit.is_empty()) {
        let value = (key.get)(defaults);
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let _ = writeln!(out, "| `{}` | {value} | {} | {} |", key.name, key.about, key.at_limit);
    }
    out
}
