//! Tokens that application servers sign: what is believed, on which front, and for how long.

use std::time::Duration;

use tonic::Code;
use waxwing::rights::said::RightsSaid;
use waxwing::rights::token::{Audience, Claims, Signer};
use waxwing::supervise::Clock;
use waxwing::wire::v1;

use super::asking::{Ask, Session, Who, code};
use super::{Keys, start};

/// As `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` made them.
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIKptd93cYwi0o3awGXjACvzu95pybCTqzjIIe+1KuiJg\n-----END PRIVATE KEY-----\n";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAdPa+q59OkNT3lsQ5LYrTIw7OeFr2kpSF0ytpIjxxt9g=\n-----END PUBLIC KEY-----\n";

const SECRET: &str = "a shared secret of more than thirty-two bytes";
const OTHER_SECRET: &str = "another shared secret of more than thirty-two";

fn now_s() -> u64 {
    Clock::new().unix_ms() / 1_000
}

fn claims(change: impl FnOnce(&mut Claims)) -> Claims {
    let rights = RightsSaid {
        publish: vec!["room:*".to_owned()],
        subscribe: vec!["room:*".to_owned()],
        deny_subscribe: vec!["room:secret".to_owned()],
        // No token rules a node, whatever it says.
        admin: true,
        ..RightsSaid::default()
    };
    let mut claims = Claims {
        iss: "app".to_owned(),
        aud: Audience::One("waxwing".to_owned()),
        sub: "alice".to_owned(),
        exp: now_s() + 600,
        nbf: None,
        namespace: Some("acme-1".to_owned()),
        rights,
    };
    change(&mut claims);
    claims
}

/// One of `keys`' first issuer.
pub(super) fn of_rights(namespace: &str, rights: &str) -> String {
    let rights: RightsSaid = toml::from_str(rights).unwrap();
    mint(
        SECRET,
        "1",
        &claims(|it| (it.namespace, it.rights) = (Some(namespace.to_owned()), rights)),
    )
}

pub(super) fn keys() -> Keys {
    let mut keys = Keys::default();
    for (name, text) in [("a.secret", SECRET), ("b.secret", OTHER_SECRET), ("a.pub", PUBLIC)] {
        keys.files.insert(name.to_owned(), text.to_owned());
    }
    let entry = |name: &str, kid: &str, key: &str| {
        format!(
            "[[issuer]]\nname = \"{name}\"\nkid = \"{kid}\"\naudience = \"waxwing\"\nnamespaces = [\"acme-*\"]\n{key}\n"
        )
    };
    let shared = |file: &str| format!("algorithm = \"HS256\"\nsecret_file = \"{file}\"");
    keys.entries.push(entry("app", "1", &shared("a.secret")));
    keys.entries.push(entry("app", "ed", "algorithm = \"EdDSA\"\npublic_key_file = \"a.pub\""));
    // Another's, with the same key id.
    keys.entries.push(entry("foe", "1", &shared("b.secret")));
    keys
}

fn mint(text: &str, kid: &str, claims: &Claims) -> String {
    Signer::read(text).unwrap().mint(claims, kid).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_believed_by_its_issuers_own_key_and_nothing_else() {
    let node = start(keys().config("a")).await;
    let node = node.handle();
    let good = claims(|_| ());
    for token in [
        mint(SECRET, "1", &good),
        mint(PRIVATE, "ed", &good),
        mint(SECRET, "1", &claims(|it| it.aud = Audience::Any(vec!["x".into(), "waxwing".into()]))),
    ] {
        let who = Who::of(&token);
        let mut session = Session::open(&who, &node, v1::Hello::default()).await.unwrap();
        for (ask, verdict) in [
            (Ask::Publish("room:1"), Ok(())),
            (Ask::Subscribe("room:1"), Ok(())),
            (Ask::Pattern("room:*"), Err("forbidden".to_owned())),
            (Ask::Subscribe("room:secret"), Err("forbidden".to_owned())),
            (Ask::Track("room:1"), Err("forbidden".to_owned())),
        ] {
            assert_eq!(session.ask(ask).await, verdict, "{ask:?}");
        }
        let published = who.ask_http(&node, Ask::Publish("room:1")).await.unwrap();
        assert_eq!(published, [Ok(()), Ok(())]);
        assert_eq!(who.http(&node, "GET", "/status", "").await.0, 403);
        let named = Who { namespace: Some("acme-1"), ..who.clone() };
        assert!(named.redis(&node).await.is_ok());
        let other = Who { namespace: Some("acme-2"), ..who };
        assert!(other.redis(&node).await.is_err());
    }
    // What is signed, and what stands before it, is taken apart and put together otherwise.
    let token = mint(SECRET, "1", &good);
    let parts: Vec<&str> = token.split('.').collect();
    let [header, body, signature] = parts[..] else { panic!("{token}") };
    // {"alg":"none"}
    let none = "eyJhbGciOiJub25lIn0";
    let of_ed = mint(PRIVATE, "ed", &good);
    let ed_header = of_ed.split('.').next().unwrap();
    let mut flipped = signature.to_owned();
    flipped.replace_range(..1, if signature.starts_with('A') { "B" } else { "A" });
    for (token, expected) in [
        (format!("{none}.{body}."), "unauthenticated"),
        (format!("{none}.{body}.{signature}"), "unauthenticated"),
        (format!("{header}.{body}.{flipped}"), "unauthenticated"),
        (format!("{header}.{body}."), "unauthenticated"),
        (format!("{header}.{body}"), "unauthenticated"),
        (format!("{ed_header}.{body}.{signature}"), "unauthenticated"),
        ("...".to_owned(), "unauthenticated"),
        (mint(OTHER_SECRET, "1", &good), "unauthenticated"),
        // The public key as if it were a shared secret.
        (mint(PUBLIC.lines().nth(1).unwrap(), "ed", &good), "unauthenticated"),
        (mint(SECRET, "2", &good), "unauthenticated"),
        (mint(SECRET, "", &good), "unauthenticated"),
        (mint(SECRET, "1", &claims(|it| it.iss = "foe".into())), "unauthenticated"),
        (mint(SECRET, "1", &claims(|it| it.iss = "nobody".into())), "unauthenticated"),
        (
            mint(SECRET, "1", &claims(|it| it.aud = Audience::One("other".into()))),
            "unauthenticated",
        ),
        (mint(SECRET, "1", &claims(|it| it.namespace = None)), "unauthenticated"),
        (mint(SECRET, "1", &claims(|it| it.namespace = Some("shop".into()))), "unauthenticated"),
        (mint(SECRET, "1", &claims(|it| it.exp = now_s() - 1)), "key_expired"),
        (mint(SECRET, "1", &claims(|it| it.nbf = Some(now_s() + 120))), "unauthenticated"),
        (format!("{header}.{}.{signature}", "x".repeat(9 << 10)), "unauthenticated"),
    ] {
        let verdict = Who::of(&token).ask_calls(&node, Ask::Publish("room:1")).await.unwrap();
        assert_eq!(verdict, [Err(expected.to_owned())], "{token}");
    }
    // A clock that is a little fast is nobody's fault.
    let soon = mint(SECRET, "1", &claims(|it| it.nbf = Some(now_s() + 30)));
    let verdict = Who::of(&soon).ask_calls(&node, Ask::Publish("room:1")).await.unwrap();
    assert_eq!(verdict, [Ok(())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tokens_end_ends_its_streams_and_so_does_its_issuers() {
    let mut keys = keys();
    let node = start(keys.config("a")).await;
    let node = node.handle();
    let short = mint(SECRET, "1", &claims(|it| it.exp = now_s() + 2));
    let mut ends = Session::open(&Who::of(&short), &node, v1::Hello::default()).await.unwrap();
    let long = Who::of(&mint(SECRET, "1", &claims(|_| ())));
    let mut goes = Session::open(&long, &node, v1::Hello::default()).await.unwrap();
    let of_ed = Who::of(&mint(PRIVATE, "ed", &claims(|_| ())));
    let mut stays = Session::open(&of_ed, &node, v1::Hello::default()).await.unwrap();
    let status = ends.end().await;
    assert_eq!((status.code(), code(&status)), (Code::Unauthenticated, "expired".to_owned()));
    // The secret is another: what it had signed is believed no longer.
    keys.files.insert("a.secret".to_owned(), OTHER_SECRET.to_owned());
    let clock = Clock::new();
    let began = clock.now();
    assert!(node.broker().set_access(&keys.access()).is_some_and(|ended| ended >= 1));
    let status = goes.end().await;
    assert_eq!((status.code(), code(&status)), (Code::Unauthenticated, "revoked".to_owned()));
    assert!(clock.now() - began < Duration::from_secs(1));
    assert_eq!(stays.ask(Ask::Publish("room:1")).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_taken_out_of_the_file_takes_its_tokens_along() {
    let mut keys = keys();
    for name in ["acme-2", "acme-1"] {
        keys.entries.push(format!("[[namespace]]\nname = \"{name}\"\n"));
    }
    let node = start(keys.config("a")).await;
    let node = node.handle();
    let of = |namespace: &str| {
        let claims = claims(|it| it.namespace = Some(namespace.to_owned()));
        Who::of(&mint(SECRET, "1", &claims))
    };
    let mut goes = Session::open(&of("acme-1"), &node, v1::Hello::default()).await.unwrap();
    let mut stays = Session::open(&of("acme-2"), &node, v1::Hello::default()).await.unwrap();
    keys.entries.pop();
    assert_eq!(node.broker().set_access(&keys.access()), Some(1));
    let status = goes.end().await;
    assert_eq!((status.code(), code(&status)), (Code::Unauthenticated, "revoked".to_owned()));
    assert_eq!(stays.ask(Ask::Publish("room:1")).await, Ok(()));
    let verdict = of("acme-1").ask_calls(&node, Ask::Publish("room:1")).await.unwrap();
    assert_eq!(verdict, [Err("unauthenticated".to_owned())]);
}
