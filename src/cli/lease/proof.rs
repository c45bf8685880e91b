//! ● As whom a lease is held, between one command and the next: lines that a shell can read, in a file of its owner's or in the environment.

use std::path::Path;

use crate::cli::Usage;
use crate::cli::edit::replace;
use crate::client::{Granted, LeaseOwner};
use crate::config::secrets::read_private;

pub(super) const NAME: &str = "WAXWING_LEASE_NAME";
pub(super) const OWNER: &str = "WAXWING_LEASE_OWNER";
pub(super) const TOKEN: &str = "WAXWING_LEASE_TOKEN";
pub(super) const NAMESPACE: &str = "WAXWING_LEASE_NAMESPACE";

const PRIVATE: u32 = 0o600;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) name: Option<String>,
    pub(super) owner: Option<LeaseOwner>,
    /// None: it was not had yet.
    pub(super) token: Option<u64>,
}

impl Proof {
    pub(super) fn new(name: &str, owner: LeaseOwner, token: Option<u64>) -> Self {
        Self { name: Some(name.to_owned()), owner: Some(owner), token }
    }

    /// `prefix`: what stands before each line.
    pub(super) fn lines(&self, prefix: &str) -> String {
        let mut text = String::new();
        let mut put = |name: &str, value: &str| text += &format!("{prefix}{name}={value}\n");
        if let Some(name) = &self.name {
            put(NAME, &quoted(name));
        }
        if let Some(owner) = &self.owner {
            put(OWNER, &owner.to_hex());
        }
        if let Some(token) = self.token {
            put(TOKEN, &token.to_string());
        }
        text
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut proof = Self::default();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            let value = unquoted(value);
            proof.take(name, &value).map_err(|what| format!("line {}: {what}", at + 1))?;
        }
        Ok(proof)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            NAME => self.name = Some(value.to_owned()),
            OWNER => {
                let owner = LeaseOwner::parse(value);
                self.owner = Some(owner.ok_or(format!("{OWNER} is 32 hexadecimal digits"))?);
            }
            TOKEN => {
                let token = value.parse().map_err(|_| format!("{TOKEN} is a number"))?;
                self.token = Some(token);
            }
            NAMESPACE => {}
            _ => return Err(format!("expected {NAME}=, {OWNER}= or {TOKEN}=")),
        }
        Ok(())
    }

    /// `None`: there is no such file yet.
    pub(super) fn read(file: &Path) -> anyhow::Result<Option<Self>> {
        if !file.exists() {
            return Ok(None);
        }
        let text = read_private(file).map_err(anyhow::Error::msg)?;
        let parsed = Self::parse(&text);
        parsed.map(Some).map_err(|what| anyhow::anyhow!("{}: {what}", file.display()))
    }

    pub(super) fn write(&self, file: &Path) -> anyhow::Result<()> {
        replace(file, &self.lines(""), PRIVATE, |_| Ok(()))
    }

    /// Of the file where one is named, else of the environment.
    pub(super) fn find(file: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(file) = file {
            let missing = || Usage(format!("there is no {}: acquire first", file.display()));
            return Ok(Self::read(file)?.ok_or_else(missing)?);
        }
        let mut proof = Self::default();
        for name in [NAME, OWNER, TOKEN] {
            if let Ok(value) = std::env::var(name) {
                proof.take(name, &value).map_err(Usage)?;
            }
        }
        Ok(proof)
    }

    /// Which lease it is of, and as whom it is held. `name`: as the arguments have it.
    pub(super) fn complete(self, name: Option<&str>) -> Result<(String, Granted), Usage> {
        let name = match (name, self.name) {
            (Some(said), Some(known)) if said != known => {
                return Err(Usage(format!("that is the proof of {known}, not of {said}")));
            }
            (Some(name), _) => name.to_owned(),
            (None, Some(name)) => name,
            (None, None) => return Err(Usage(format!("of which lease? NAME, or {NAME}"))),
        };
        match (self.owner, self.token) {
            (Some(owner), Some(token)) => Ok((name, Granted { token, owner: Some(owner) })),
            (None, _) => Err(Usage(format!(
                "as whom? --owner-file FILE, or {OWNER} and {TOKEN} as `waxwing lease acquire` printed them"
            ))),
            (Some(_), None) => Err(Usage(format!("there is no {TOKEN}: it was not acquired"))),
        }
    }
}

/// As a shell reads it back.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn unquoted(text: &str) -> String {
    let inside = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
    inside.map_or_else(|| text.to_owned(), |inside| inside.replace(r"'\''", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_printed_is_read() {
        let owner = LeaseOwner::parse("00112233445566778899aabbccddeeff").unwrap();
        for name in ["nightly", "o'neil $x `y`", "tenant:42"] {
            for token in [None, Some(7)] {
                let proof = Proof::new(name, owner.clone(), token);
                for prefix in ["", "export "] {
                    assert_eq!(Proof::parse(&proof.lines(prefix)), Ok(proof.clone()));
                }
            }
        }
        for bad in ["WAXWING_LEASE_OWNER=zz", "WAXWING_LEASE_TOKEN=x", "hello"] {
            assert!(Proof::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_proof_is_of_one_lease() {
        let owner = LeaseOwner::parse("00112233445566778899aabbccddeeff").unwrap();
        let proof = Proof::new("a", owner.clone(), Some(7));
        let granted = Granted { token: 7, owner: Some(owner.clone()) };
        assert_eq!(proof.clone().complete(None).unwrap(), ("a".to_owned(), granted));
        assert!(proof.complete(Some("b")).is_err());
        assert!(Proof::new("a", owner, None).complete(None).is_err());
        assert!(Proof::default().complete(Some("a")).is_err());
    }

    #[test]
    fn a_file_of_it_is_its_owners() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("nightly.lease");
        assert_eq!(Proof::read(&file).unwrap(), None);
        let proof = Proof::new("nightly", LeaseOwner::new().unwrap(), Some(1));
        proof.write(&file).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, PRIVATE);
        assert_eq!(Proof::read(&file).unwrap(), Some(proof));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Proof::read(&file).is_err());
    }
}
