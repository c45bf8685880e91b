//! ● Signed tokens: what application servers mint for their own clients, so that no node need know them.
//!
//! A token is believed by its issuer's own key: which one is said by issuer and key id together, and that entry alone says the algorithm.
//! Audience and expiry must be there. What a token may say is what its issuer's entry lets it: namespaces, and nothing of nodes.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::access::{Grant, NotAdmitted, Who};
use super::said::RightsSaid;
use super::{Quotas, signing};
use crate::pubsub::pattern::matches;
use crate::types::Namespace;

/// No token is longer.
pub const TOKEN_LEN_MAX: usize = 8 << 10;

/// Clocks of those who mint may be fast by so much. Nobody's expiry is put off for it.
const SKEW_S: u64 = 60;

/// What a token says. Unknown claims are the application's own; but none of them may look like a denial.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    pub iss: String,
    pub aud: Audience,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sub: String,
    /// Unix time in seconds.
    pub exp: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(flatten)]
    pub rights: RightsSaid,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    One(String),
    Any(Vec<String>),
}

impl Default for Audience {
    fn default() -> Self {
        Self::One(String::new())
    }
}

impl Audience {
    fn has(&self, wanted: &str) -> bool {
        match self {
            Self::One(said) => said == wanted,
            Self::Any(said) => said.iter().any(|one| one == wanted),
        }
    }
}

/// Who is believed: by issuer and key id.
#[derive(Default)]
pub(super) struct Issuers(HashMap<(Box<str>, Box<str>), Issuer>);

struct Issuer {
    algorithm: Algorithm,
    key: DecodingKey,
    audience: Box<str>,
    namespaces: Vec<Box<str>>,
    /// Of all that is said of it: what was granted by another entry holds no longer.
    digest: [u8; 32],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IssuerSaid {
    name: String,
    #[serde(default)]
    kid: String,
    algorithm: String,
    audience: String,
    namespaces: Vec<String>,
    /// HS256: the file of the shared secret.
    secret_file: Option<String>,
    /// EdDSA: the file of the public key, in PEM.
    public_key_file: Option<String>,
}

/// Reads what an entry names: a file with a secret, or one for everybody.
pub type ReadFile<'a> = &'a dyn Fn(&str, bool) -> Result<String, String>;

/// A shared secret is guessed offline where it is short: so many bytes at least (RFC 7518, 3.2).
const SECRET_LEN_MIN: usize = 32;

impl Issuers {
    pub(super) fn add(&mut self, said: &IssuerSaid, read: ReadFile<'_>) -> Result<(), String> {
        let of = |what: String| format!("issuer {} {}: {what}", said.name, said.kid);
        if said.namespaces.is_empty() {
            return Err(of("names no namespaces; \"*\" is every one".to_owned()));
        }
        if said.name.is_empty() || said.audience.is_empty() {
            return Err(of("name and audience must not be empty".to_owned()));
        }
        let (algorithm, key) = match (&*said.algorithm, &said.secret_file, &said.public_key_file) {
            ("HS256", Some(path), None) => {
                let text = read(path, true).map_err(of)?;
                let secret = signing::secret(&text, SECRET_LEN_MIN)
                    .map_err(|what| of(format!("{path} {what}")))?;
                (Algorithm::HS256, DecodingKey::from_secret(&secret))
            }
            ("EdDSA", None, Some(path)) => {
                let pem = read(path, false).map_err(of)?;
                let key =
                    signing::ed25519_public(&pem).map_err(|what| of(format!("{path} {what}")))?;
                (Algorithm::EdDSA, DecodingKey::from_ed_der(&key))
            }
            _ => {
                return Err(of(
                    "the algorithm is \"HS256\", with secret_file, or \"EdDSA\", with public_key_file".to_owned(),
                ));
            }
        };
        let mut hash = Sha256::new();
        let parts = [&*said.name, &said.kid, &said.algorithm, &said.audience];
        for part in parts.into_iter().chain(said.namespaces.iter().map(String::as_str)) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(key.try_get_as_bytes().unwrap_or_default());
        let issuer = Issuer {
            algorithm,
            key,
            audience: said.audience.as_str().into(),
            namespaces: said.namespaces.iter().map(|name| name.as_str().into()).collect(),
            digest: hash.finalize().into(),
        };
        let place = (said.name.as_str().into(), said.kid.as_str().into());
        match self.0.insert(place, issuer) {
            None => Ok(()),
            Some(_) => Err(of("is there twice; give each key a kid of its own".to_owned())),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn admit(
        &self,
        shown: &[u8],
        quotas: &Quotas,
        now_s: u64,
    ) -> Result<Arc<Grant>, NotAdmitted> {
        if shown.len() > TOKEN_LEN_MAX {
            return Err(NotAdmitted::BadToken);
        }
        let bad = |_| NotAdmitted::BadToken;
        let (header, told) = peek(shown).map_err(bad)?;
        if header.crit.is_some() {
            return Err(NotAdmitted::BadToken);
        }
        let place = (told.iss.as_str().into(), header.kid.as_deref().unwrap_or_default().into());
        let issuer = self.0.get(&place).ok_or(NotAdmitted::Unknown)?;
        // Only what was verified counts from here on.
        let claims = verify(shown, issuer).map_err(bad)?;
        if has_unknown_denial(shown).map_err(bad)? {
            return Err(NotAdmitted::BadToken);
        }
        if claims.iss != *place.0 || !claims.aud.has(&issuer.audience) {
            return Err(NotAdmitted::BadToken);
        }
        if claims.exp <= now_s {
            return Err(NotAdmitted::Expired);
        }
        if claims.nbf.is_some_and(|from| from > now_s.saturating_add(SKEW_S)) {
            return Err(NotAdmitted::BadToken);
        }
        let name = claims.namespace.as_deref().unwrap_or("default");
        let namespace = Namespace::parse(name).map_err(|_| NotAdmitted::BadToken)?;
        let may_name = |glob: &str| matches(glob.as_bytes(), name.as_bytes());
        let is_listed = quotas.is_empty() || quotas.of(&namespace).is_some();
        if name.starts_with('_')
            || !issuer.namespaces.iter().any(|glob| may_name(glob))
            || !is_listed
        {
            return Err(NotAdmitted::BadToken);
        }
        let rights = RightsSaid { observe: false, admin: false, ..claims.rights };
        let rules = rights.rules().map_err(|_| NotAdmitted::BadToken)?;
        let (issuer_name, kid) = place;
        let who = Who::Token { issuer: issuer_name, kid, subject: claims.sub.into() };
        Ok(Arc::new(Grant { who, namespace, rules, ends_s: Some(claims.exp), by: issuer.digest }))
    }

    pub(super) fn upholds(&self, issuer: &str, kid: &str, digest: [u8; 32]) -> bool {
        self.0.get(&(issuer.into(), kid.into())).is_some_and(|issuer| issuer.digest == digest)
    }
}

#[derive(Deserialize)]
struct Told {
    iss: String,
}

/// Header and issuer as they are told, believed by nobody.
fn peek(token: &[u8]) -> Result<(Header, Told), jsonwebtoken::errors::Error> {
    let header = jsonwebtoken::decode_header(token)?;
    Ok((header, jsonwebtoken::dangerous::insecure_decode_claims(token)?))
}

/// A denial that is misspelt would let through what it is to keep out; an allowance that is lets nothing through.
fn has_unknown_denial(token: &[u8]) -> Result<bool, jsonwebtoken::errors::Error> {
    let names: HashMap<String, IgnoredAny> =
        jsonwebtoken::dangerous::insecure_decode_claims(token)?;
    let is_denial = |name: &str| {
        name.trim_start().get(..4).is_some_and(|begin| begin.eq_ignore_ascii_case("deny"))
    };
    Ok(names.keys().any(|name| is_denial(name) && !RightsSaid::DENIALS.contains(&&**name)))
}

fn verify(token: &[u8], issuer: &Issuer) -> Result<Claims, jsonwebtoken::errors::Error> {
    signing::install();
    let mut validation = Validation::new(issuer.algorithm);
    // By our own clock, above.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.set_required_spec_claims(&["iss", "aud", "exp"]);
    jsonwebtoken::decode(token, &issuer.key, &validation).map(|data| data.claims)
}

/// What signs.
pub enum Signer {
    Secret(Vec<u8>),
    /// PKCS#8.
    Ed25519(Vec<u8>),
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(..)")
    }
}

impl Signer {
    /// A shared secret, or a private key in PEM.
    pub fn read(text: &str) -> Result<Self, String> {
        if text.contains("-----BEGIN") {
            return signing::ed25519_private(text).map(Self::Ed25519);
        }
        signing::secret(text, SECRET_LEN_MIN).map(Self::Secret)
    }

    pub fn mint(&self, claims: &Claims, kid: &str) -> Result<String, String> {
        signing::install();
        claims.rights.rules()?;
        let (algorithm, key) = match self {
            Self::Secret(secret) => (Algorithm::HS256, EncodingKey::from_secret(secret)),
            Self::Ed25519(der) => (Algorithm::EdDSA, EncodingKey::from_ed_der(der)),
        };
        let mut header = Header::new(algorithm);
        header.kid = (!kid.is_empty()).then(|| kid.to_owned());
        let token =
            jsonwebtoken::encode(&header, claims, &key).map_err(|error| error.to_string())?;
        if token.len() > TOKEN_LEN_MAX {
            return Err(format!(
                "a token of {} bytes is longer than nodes take, {TOKEN_LEN_MAX}",
                token.len()
            ));
        }
        Ok(token)
    }
}

/// Header and claims of what may be a token, as JSON; nothing of it is verified.
pub fn inspect(token: &str) -> Option<(serde_json::Value, serde_json::Value)> {
    let mut parts = token.trim().split('.');
    let mut part = || {
        let bytes = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    Some((part()?, part()?))
}

#[cfg(test)]
mod tests {
    use super::{Audience, Claims, Signer, TOKEN_LEN_MAX};
    use crate::rights::Access;
    use crate::rights::said::RightsSaid;

    const SECRET: &str = "a shared secret of more than thirty-two bytes";

    fn access() -> Access {
        let file = "[[issuer]]\nname = \"app\"\nalgorithm = \"HS256\"\nsecret_file = \"s\"\naudience = \"waxwing\"\nnamespaces = [\"*\"]\n";
        Access::parse(file, &|_, _| Ok(SECRET.to_owned())).unwrap()
    }

    fn token() -> String {
        let rights = RightsSaid { publish: vec!["*".to_owned()], ..RightsSaid::default() };
        let (iss, aud) = ("app".to_owned(), Audience::One("waxwing".to_owned()));
        let claims = Claims { iss, aud, exp: 1_000, rights, ..Claims::default() };
        Signer::read(SECRET).unwrap().mint(&claims, "").unwrap()
    }

    #[test]
    fn nothing_but_what_was_signed_is_believed() {
        let (access, token) = (access(), token());
        assert!(access.admit(token.as_bytes(), 999).is_ok());
        let alphabet = b"ABab01-_.=+ \0\xff";
        for seed in 1..20_000_u64 {
            let mut chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut random = |below: usize| {
                chance ^= chance << 13;
                chance ^= chance >> 7;
                chance ^= chance << 17;
                (chance % below as u64) as usize
            };
            let mut changed = token.clone().into_bytes();
            for _ in 0..=random(3) {
                if changed.len() < 2 {
                    break;
                }
                let at = random(changed.len());
                match random(5) {
                    0 => changed[at] = alphabet[random(alphabet.len())],
                    1 => changed.insert(at, alphabet[random(alphabet.len())]),
                    2 => drop(changed.remove(at)),
                    3 => changed.truncate(at + 1),
                    _ => changed[at] ^= 1 << random(8),
                }
            }
            let is_same = changed == token.as_bytes();
            assert_eq!(access.admit(&changed, 999).is_ok(), is_same, "seed {seed}");
        }
    }

    #[test]
    fn a_denial_that_is_misspelt_lets_nobody_in() {
        let access = access();
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        super::signing::install();
        let with = |name: &str| {
            let mut claims = serde_json::json!({ "iss": "app", "aud": "waxwing", "exp": 1_000, "publish": ["*"] });
            claims[name] = serde_json::json!(["room:secret"]);
            jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
        };
        for name in
            ["deny_publish", "deny_subscribe", "deny_presence", "deny_lease", "roles", "sub_deny"]
        {
            assert!(access.admit(with(name).as_bytes(), 0).is_ok(), "{name}");
        }
        for name in [
            "deny_pubish",
            "deny_leases",
            "deny_",
            "deny",
            "Deny_publish",
            "denySubscribe",
            " deny-x",
        ] {
            assert!(access.admit(with(name).as_bytes(), 0).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_huge_or_deep_is_refused() {
        let access = access();
        for shown in [
            ".".repeat(TOKEN_LEN_MAX + 1),
            format!("{}.{}.x", "W1tb".repeat(900), "W1tb".repeat(900)),
            ".".to_owned(),
            "..".to_owned(),
        ] {
            assert!(access.admit(shown.as_bytes(), 0).is_err());
        }
    }

    #[test]
    fn an_issuers_faults_are_told_without_its_secret() {
        let good = "[[issuer]]\nname = \"app\"\nalgorithm = \"HS256\"\nsecret_file = \"s\"\naudience = \"waxwing\"\nnamespaces = [\"*\"]\n";
        let check = |text: &str, secret: &str, says: &str| {
            let wrong = Access::parse(text, &|_, _| Ok(secret.to_owned())).unwrap_err();
            assert!(wrong.iter().any(|(_, what)| what.contains(says)), "{wrong:?}");
            assert!(wrong.iter().all(|(_, what)| !what.contains("canary")), "{wrong:?}");
        };
        check(good, "canary", "32 at least");
        check(good, "", "no secret");
        check(good, "canary\ncanary", "more than one line");
        check(&format!("{good}{good}"), SECRET, "twice");
        check(&good.replace("HS256", "none"), SECRET, "the algorithm is");
        check(&good.replace("HS256", "HS512"), SECRET, "the algorithm is");
        check(&good.replace("HS256", "EdDSA"), SECRET, "the algorithm is");
        check(&good.replace("[\"*\"]", "[]"), SECRET, "no namespaces");
        check(&good.replace("\"waxwing\"", "\"\""), SECRET, "must not be empty");
        let ed = good.replace("HS256", "EdDSA").replace("secret_file", "public_key_file");
        check(&ed, "canary", "no public key in PEM");
    }
}
