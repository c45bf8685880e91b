//! ● The file that says who is let in: keys, hashed, and what each may do; namespaces, and how much each may have; whose tokens are
//! believed.
//!
//! Judged whole: one fault, and none of it holds. What is wrong is said without showing what the file holds.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;

use super::agreed::{Agreed, AgreedKey, AgreedKeys};
use super::fault::{Lines, without_values};
use super::key::{self, KeyHash};
use super::quota::{QuotaSaid, Quotas};
use super::rules::Rules;
use super::said::RightsSaid;
use super::token::{IssuerSaid, Issuers, ReadFile, TOKEN_LEN_MAX};
use crate::types::Namespace;

const KEYS_MAX: usize = 100_000;
const NOTE_LEN_MAX: usize = 200;

/// Everybody who is let in.
#[derive(Default)]
pub struct Access {
    /// What the file says.
    said: Arc<Said>,
    /// The file's, and those that are agreed on.
    quotas: Quotas,
    /// None: nothing is agreed on, or nobody looks there.
    agreed: Option<Agreed>,
}

#[derive(Default)]
struct Said {
    keys: HashMap<Box<str>, KeyEntry>,
    quotas: Quotas,
    issuers: Issuers,
}

struct KeyEntry {
    hash: KeyHash,
    grant: Arc<Grant>,
}

/// What somebody who was let in may do, and until when.
#[derive(PartialEq, Eq)]
pub struct Grant {
    pub who: Who,
    pub namespace: Namespace,
    pub rules: Rules,
    /// Unix time in seconds.
    pub ends_s: Option<u64>,
    /// Of the entry that granted it.
    pub(super) by: [u8; 32],
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not by which entry: that is a hash of what is secret.
        f.debug_struct("Grant")
            .field("who", &self.who)
            .field("namespace", &self.namespace)
            .field("ends_s", &self.ends_s)
            .finish_non_exhaustive()
    }
}

/// As whom. May be seen by anybody.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    /// Its id.
    Key(Box<str>),
    /// Of whoever an issuer says.
    Token { issuer: Box<str>, kid: Box<str>, subject: Box<str> },
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(id) => write!(f, "key {id}"),
            Self::Token { issuer, kid, subject } => {
                write!(f, "token of {subject} by {issuer} {kid}")
            }
        }
    }
}

/// Why somebody stays outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    #[error("a key is needed")]
    Missing,
    /// Whether there is such an id is nobody's business.
    #[error("this key is not known here")]
    Unknown,
    #[error("this key has expired")]
    Expired,
    /// What exactly is wrong with it, whoever minted it can find out.
    #[error("this token is not believed here: its signature, audience, namespace or time is wrong")]
    BadToken,
}

impl NotAdmitted {
    /// For metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::BadToken => "token",
        }
    }
}

/// What the file says of a key, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    pub id: String,
    pub namespace: String,
    pub note: String,
    pub ends_s: Option<u64>,
    pub rules: Rules,
    /// Where its entry begins, from 1.
    pub line: usize,
}

/// A line, or 0 for the whole, and what is wrong there.
pub type Wrong = (usize, String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Spanned<KeySaid>>,
    #[serde(default)]
    namespace: Vec<Spanned<QuotaSaid>>,
    #[serde(default)]
    issuer: Vec<Spanned<IssuerSaid>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeySaid {
    id: String,
    hash: String,
    namespace: Option<String>,
    #[serde(default)]
    note: String,
    expires: Option<Datetime>,
    #[serde(default)]
    publish: Vec<String>,
    #[serde(default)]
    subscribe: Vec<String>,
    #[serde(default)]
    presence: Vec<String>,
    #[serde(default)]
    lease: Vec<String>,
    #[serde(default)]
    deny_publish: Vec<String>,
    #[serde(default)]
    deny_subscribe: Vec<String>,
    #[serde(default)]
    deny_presence: Vec<String>,
    #[serde(default)]
    deny_lease: Vec<String>,
    #[serde(default)]
    observe: bool,
    #[serde(default)]
    admin: bool,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("keys", &self.keys()).finish_non_exhaustive()
    }
}

impl Access {
    /// `files`: reads those that issuers name.
    pub fn parse(text: &str, files: ReadFile<'_>) -> Result<Self, Vec<Wrong>> {
        let Read { keys, quotas, issuers } = read(text, Some(files))?;
        let mut said = Said { quotas: quotas.clone(), issuers, ..Said::default() };
        for (row, hash) in keys {
            let KeyRow { id, namespace, ends_s, rules, .. } = row;
            let namespace = Namespace::parse(&namespace).unwrap_or_default();
            let who = Who::Key(id.as_str().into());
            let grant = Grant { who, namespace, rules, ends_s, by: hash.bytes() };
            said.keys.insert(id.into(), KeyEntry { hash, grant: Arc::new(grant) });
        }
        Ok(Self { said: Arc::new(said), quotas, agreed: None })
    }

    /// What the file says, and this beside it in place of what was.
    #[must_use]
    pub fn beside(&self, agreed: Agreed) -> Self {
        let quotas = self.said.quotas.beside(&agreed.quotas);
        Self { said: self.said.clone(), quotas, agreed: Some(agreed) }
    }

    /// The file's keys as people see them, in its order.
    pub fn rows(text: &str) -> Result<Vec<KeyRow>, Vec<Wrong>> {
        Ok(read(text, None)?.keys.into_iter().map(|(row, _)| row).collect())
    }

    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Of the file.
    pub fn keys(&self) -> usize {
        self.said.keys.len()
    }

    /// How many keys are agreed on.
    pub fn agreed_keys(&self) -> usize {
        self.agreed.as_ref().map_or(0, |agreed| agreed.keys.len())
    }

    /// Is nobody let in by keys that are agreed on, though there are such?
    pub fn is_closed(&self) -> bool {
        self.agreed.as_ref().is_some_and(|agreed| agreed.closed)
    }

    /// Has the file a key of this id?
    pub fn says(&self, id: &str) -> bool {
        self.said.keys.contains_key(id)
    }

    /// How many of these nobody looks at, for the file has such an id. Looks at all of the file's.
    pub fn overridden_of(&self, keys: &dyn AgreedKeys) -> usize {
        if keys.is_empty() {
            return 0;
        }
        self.said.keys.keys().filter(|id| keys.mark(id).is_some()).count()
    }

    pub fn overridden(&self) -> usize {
        self.agreed.as_ref().map_or(0, |agreed| agreed.overridden)
    }

    /// Nobody can be let in by the file.
    pub fn is_empty(&self) -> bool {
        self.keys() == 0 && self.issuers() == 0
    }

    pub fn issuers(&self) -> usize {
        self.said.issuers.len()
    }

    /// Whoever shows this may do what.
    pub fn admit(&self, shown: &[u8], now_s: u64) -> Result<Arc<Grant>, NotAdmitted> {
        // A token's parts are told apart by dots, which no key has.
        if shown.len() > TOKEN_LEN_MAX || shown.contains(&b'.') {
            return self.said.issuers.admit(shown, &self.quotas, now_s);
        }
        let id = key::id_of(shown).ok_or(NotAdmitted::Unknown)?;
        let grant = match self.said.keys.get(id) {
            Some(entry) if entry.hash.fits(shown) => entry.grant.clone(),
            Some(_) => return Err(NotAdmitted::Unknown),
            None => self.admit_agreed(id, shown)?,
        };
        if grant.ends_s.is_some_and(|ends| ends <= now_s) {
            return Err(NotAdmitted::Expired);
        }
        Ok(grant)
    }

    fn admit_agreed(&self, id: &str, shown: &[u8]) -> Result<Arc<Grant>, NotAdmitted> {
        let agreed = self.agreed.as_ref().filter(|agreed| !agreed.closed);
        let entry = agreed.and_then(|agreed| agreed.keys.key(id));
        let entry = entry.filter(|entry| entry.mark.hash.fits(shown));
        let AgreedKey { mark, namespace, ends_s, rights } = entry.ok_or(NotAdmitted::Unknown)?;
        // What was agreed on has been judged; of a newer member's it may be more than is known here.
        let rules = rights.rules().map_err(|_| NotAdmitted::Unknown)?;
        let namespace = Namespace::parse(&namespace).map_err(|_| NotAdmitted::Unknown)?;
        let who = Who::Key(id.into());
        Ok(Arc::new(Grant { who, namespace, rules, ends_s, by: mark.digest() }))
    }

    /// Does what was granted by an earlier file, or by an entry that was agreed on, hold by this one, word for word?
    pub fn upholds(&self, grant: &Grant) -> bool {
        match &grant.who {
            Who::Key(id) => match self.said.keys.get(id) {
                Some(entry) => *entry.grant == *grant,
                None => {
                    let mark = self.agreed.as_ref().and_then(|agreed| agreed.keys.mark(id));
                    mark.is_some_and(|mark| mark.digest() == grant.by)
                }
            },
            Who::Token { issuer, kid, .. } => {
                self.said.issuers.upholds(issuer, kid, grant.by)
                    && (self.quotas.is_empty() || self.quotas.of(&grant.namespace).is_some())
            }
        }
    }
}

struct Read {
    keys: Vec<(KeyRow, KeyHash)>,
    quotas: Quotas,
    issuers: Issuers,
}

/// Without `files` issuers are not looked at.
fn read(text: &str, files: Option<ReadFile<'_>>) -> Result<Read, Vec<Wrong>> {
    let lines = Lines::of(text);
    let line = |span: Range<usize>| lines.at(&span);
    let file: File = toml::from_str(text)
        .map_err(|error| vec![(error.span().map_or(0, line), without_values(error.message()))])?;
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    let mut quotas = Quotas::default();
    for said in file.namespace {
        let at = line(said.span());
        match said.into_inner().judge() {
            Ok((name, _)) if !names.insert(name.clone()) => {
                wrong.push((at, format!("the namespace {name} is there twice; keep one of them")));
            }
            Ok((name, quota)) => quotas.push(name, quota),
            Err(what) => wrong.push((at, what)),
        }
    }
    if file.key.len() > KEYS_MAX {
        wrong.push((0, format!("holds {} keys; at most {KEYS_MAX}", file.key.len())));
    }
    for said in file.key {
        let at = line(said.span());
        match judge(said.into_inner(), at) {
            Ok((row, _)) if !quotas.is_empty() && !is_listed(&quotas, &row.namespace) => {
                let KeyRow { id, namespace, .. } = row;
                wrong.push((at, format!("key {id}: no [[namespace]] is called {namespace}, and no template takes it; add one, as name = \"*\"")));
            }
            Ok((row, _)) if !ids.insert(row.id.clone()) => {
                wrong.push((at, format!("the id {} is there twice; keep one of them", row.id)));
            }
            Ok(judged) => rows.push(judged),
            Err(what) => wrong.push((at, what)),
        }
    }
    let mut issuers = Issuers::default();
    if let Some(files) = files {
        for said in file.issuer {
            let at = line(said.span());
            if let Err(what) = issuers.add(said.get_ref(), files) {
                wrong.push((at, what));
            }
        }
    }
    wrong.sort_by_key(|(line, _)| *line);
    if wrong.is_empty() { Ok(Read { keys: rows, quotas, issuers }) } else { Err(wrong) }
}

fn is_listed(quotas: &Quotas, name: &str) -> bool {
    Namespace::parse(name).is_ok_and(|namespace| quotas.of(&namespace).is_some())
}

fn judge(said: KeySaid, line: usize) -> Result<(KeyRow, KeyHash), String> {
    let KeySaid {
        id,
        hash,
        namespace,
        note,
        expires,
        publish,
        subscribe,
        presence,
        lease,
        deny_publish,
        deny_subscribe,
        deny_presence,
        deny_lease,
        observe,
        admin,
    } = said;
    let rights = RightsSaid {
        publish,
        subscribe,
        presence,
        lease,
        deny_publish,
        deny_subscribe,
        deny_presence,
        deny_lease,
        observe,
        admin,
    };
    let rules = rights.rules();
    if !key::is_id(&id) {
        return Err(
            "the id must be 1 to 32 letters, digits or dashes, as `waxwing key create` makes it"
                .to_owned(),
        );
    }
    let of = |what: &str| format!("key {id}: {what}");
    let Some(hash) = KeyHash::parse(&hash) else {
        return Err(of("the hash is none; make the key with: waxwing key create"));
    };
    let namespace = namespace.unwrap_or_else(|| Namespace::default().to_string());
    let lawful = Namespace::parse(&namespace).map_err(|bad| of(&bad.to_string()))?;
    if lawful.as_str().starts_with('_') {
        return Err(of("namespaces that begin with _ are the nodes' own"));
    }
    if note.chars().count() > NOTE_LEN_MAX || note.chars().any(char::is_control) {
        return Err(of("the note must be one line of at most 200 characters"));
    }
    let ends_s = expires.map(|at| unix_s(&at)).transpose().map_err(|what| of(&what))?;
    let rules = rules.map_err(|what| of(&what))?;
    Ok((KeyRow { id, namespace, note, ends_s, rules, line }, hash))
}

fn unix_s(at: &Datetime) -> Result<u64, String> {
    let parsed = humantime::parse_rfc3339(&at.to_string()).ok();
    let since = parsed.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    since
        .map(|since| since.as_secs())
        .ok_or_else(|| "expires must be a time in UTC, as 2027-01-31T00:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::key::{KeyHash, RANDOM_LEN, make};
    use super::super::rules::Ask;
    use super::{Access, NotAdmitted, Wrong};

    fn parse(text: &str) -> Result<Access, Vec<Wrong>> {
        Access::parse(text, &|_, _| Err("no files here".to_owned()))
    }

    fn entry(id: &str, text: &str, more: &str) -> String {
        format!("[[key]]\nid = \"{id}\"\nhash = \"{}\"\n{more}\n", KeyHash::of(text.as_bytes()))
    }

    #[test]
    fn a_key_opens_until_it_expires_and_nothing_else_does() {
        let (id, text) = make(&[1; RANDOM_LEN]);
        let more = "namespace = \"acme\"\nnote = \"chat\"\nexpires = 2001-09-09T01:46:40Z\npublish = [\"room:*\"]\ndeny_publish = [\"room:x\"]";
        let file = entry(&id, &text, more);
        let access = parse(&file).unwrap();
        let grant = access.admit(text.as_bytes(), 999_999_999).unwrap();
        assert_eq!(grant.namespace.as_str(), "acme");
        assert!(grant.rules.may(Ask::Publish(b"room:1")));
        assert!(!grant.rules.may(Ask::Publish(b"room:x")));
        assert!(!grant.rules.may(Ask::Subscribe(b"room:1")) && !grant.rules.may(Ask::Observe));
        assert_eq!(access.admit(text.as_bytes(), 1_000_000_000), Err(NotAdmitted::Expired));
        let mut wrong = text.clone();
        wrong.pop();
        for shown in [&*wrong, "", "wx_x_y", &make(&[2; RANDOM_LEN]).1, &format!("{text} ")] {
            assert_eq!(access.admit(shown.as_bytes(), 0), Err(NotAdmitted::Unknown));
        }
        let hash = KeyHash::of(text.as_bytes());
        let shown = format!("{grant:?} {access:?}");
        assert!(!shown.contains(&hash.to_string()[10..]) && !shown.contains(&text), "{shown}");
        assert!(!shown.contains(&format!("{}, {}", hash.bytes()[3], hash.bytes()[4])), "{shown}");
        // Whatever is changed of a key, what it had granted holds no longer.
        assert!(parse(&format!("# new\n{file}")).unwrap().upholds(&grant));
        for changed in [
            String::new(),
            file.replace("room:*", "room:?"),
            file.replace("acme", "shop"),
            file.replace("2001", "2002"),
            entry(&id, "another", more),
        ] {
            let upheld = parse(&changed).is_ok_and(|access| access.upholds(&grant));
            assert!(!upheld, "{changed}");
        }
    }

    #[test]
    fn every_fault_is_told_with_its_line_and_without_what_is_secret() {
        let good = entry("a", "one", "subscribe = [\"*\"]");
        let check = |text: &str, expected: &[(usize, &str)]| {
            let wrong = parse(text).unwrap_err();
            assert_eq!(wrong.len(), expected.len(), "{wrong:?}");
            for ((line, what), (at, said)) in wrong.iter().zip(expected) {
                assert!(line == at && what.contains(said), "{line} {what}");
                assert!(!what.contains("canary"), "{what}");
            }
        };
        check(&format!("{good}{good}"), &[(5, "twice")]);
        check(&format!("{good}[[key]]\nid = \"b\"\nhash = \"canary\"\n"), &[(5, "hash")]);
        check("[[key]]\nid = \"b\"\n", &[(1, "hash")]);
        check(&good.replace("id = \"a\"", "id = \"a b\""), &[(1, "id")]);
        check(&good.replace("subscribe", "subscrib"), &[(4, "subscrib")]);
        check(&good.replace("[\"*\"]", "\"*\""), &[(4, "sequence")]);
        check(&good.replace("\"*\"", "\"\""), &[(1, "pattern")]);
        check(&format!("{good}namespace = \"a/shard\"\n"), &[(1, "namespace")]);
        check(&format!("{good}namespace = \"_waxwing\"\n"), &[(1, "begin with _")]);
        check(&format!("{good}expires = 2027-01-01\n"), &[(1, "UTC")]);
        check(&format!("{good}expires = 2027-01-01T00:00:00+02:00\n"), &[(1, "UTC")]);
        check("[[kee]]\n", &[(1, "kee")]);
        check(&good.replace("[\"*\"]", "\"canary, expected\""), &[(4, "sequence")]);
        check(&good.replace("\"a\"", "[\"canary\"]"), &[(2, "string")]);
        check(&format!("{good}\"wx_a_canary\" = 1\n"), &[(5, "unknown field (not shown)")]);
        check(&format!("{good}\"canary\" = wx_a_canary\n"), &[(5, "")]);
        check(&format!("{good}[[issuer]]\nname = 3\nsecret = \"canary\"\n"), &[(6, "")]);
        check(&format!("{good}wx_a_canary\n"), &[(5, "")]);
        check("key = canary\n", &[(1, "")]);
        check(&format!("{good}[[namespace]]\nname = \"acme\"\n"), &[(1, "no [[namespace]]")]);
        check("[[namespace]]\nname = \"a b\"\n", &[(1, "name")]);
        check("[[namespace]]\nname = \"a\"\npublish_burst = 5\n", &[(1, "burst")]);
        check("[[namespace]]\nname = \"a\"\npublish_rate = 0\n", &[(1, "nothing")]);
        check("[[namespace]]\nname = \"a\"\nsesions = 5\n", &[(3, "sesions")]);
        let twice = "[[namespace]]\nname = \"a\"\n";
        check(&format!("{twice}{twice}"), &[(3, "twice")]);
        assert!(parse(&format!("{good}[[namespace]]\nname = \"*\"\n")).is_ok());
        let both = good.replace("id = \"a\"", "id = \"\"") + &good.replace("sha256:", "");
        check(&both, &[(1, "id"), (5, "hash")]);
    }
}
