//! ● No node took this command in: what was answered, if anything was, and what to do about it.

use super::codec::{CHECK_TOKEN, GIVE_KEY, OTHER_PORT};
use super::failure::Hinted;
use crate::rights::NotAdmitted;

const CLOSED: &str = "no node lets you in";
const FULL: &str = "no node takes you in";
const UNPROVEN: &str = "no node proves who it is";
const OTHERWISE: &str = "what answers speaks otherwise than a node's gRPC port";
pub(super) const SILENT: &str = "no node answers";

/// What an answer says, and what is then the matter, and what to do. The first that is found counts.
const ANSWERS: &[(&str, &str, &str)] = &[
    (
        "another namespace than the one named",
        CLOSED,
        "leave -n out: the namespace is the key's; or take a key of that one",
    ),
    ("the namespace has its", FULL, "see: waxwing sessions list; or raise it in [[namespace]]"),
    ("this node has its", FULL, "name another node, or raise its limit"),
    ("this node is draining", FULL, "name another node"),
    (
        "valid for name",
        UNPROVEN,
        "name it as its certificate does (waxwing certs show), or make one for this name, too: waxwing certs node NAME --host HOST.. --replace",
    ),
    ("NotValidForName", UNPROVEN, "name it as its certificate does; see: waxwing certs show"),
    ("certificate expired", UNPROVEN, "renew it: waxwing certs node NAME --replace"),
    (
        "invalid peer certificate",
        UNPROVEN,
        "--tls-ca FILE has to be the authority that signed its certificate; see: waxwing certs show",
    ),
    (
        "received fatal alert",
        CLOSED,
        "does it ask for a certificate? then: --client-cert FILE --client-key FILE",
    ),
    (
        "InvalidContentType",
        OTHERWISE,
        "does it speak TLS at all? if not, leave --tls-ca out; and is this the gRPC port? it is 7400 by default",
    ),
    // What tonic and hyper make of the HTTP port, of the peers', of Redis clients', and of TLS.
    ("is this a gRPC port?", OTHERWISE, OTHER_PORT),
    ("stream closed", OTHERWISE, OTHER_PORT),
    ("not implemented", OTHERWISE, OTHER_PORT),
    ("frame with invalid size", OTHERWISE, OTHER_PORT),
    ("http2 error", OTHERWISE, OTHER_PORT),
    ("connection reset", OTHERWISE, OTHER_PORT),
    ("connection closed", OTHERWISE, OTHER_PORT),
];

/// `tried`: a line for each address, what came of it.
pub(super) fn unreachable(tried: &str) -> anyhow::Error {
    let (matter, hint) = judge(tried);
    Hinted { what: format!("{matter}{tried}"), hint: hint.to_owned() }.into()
}

/// What is the matter, and what to do.
pub(super) fn judge(tried: &str) -> (&'static str, &'static str) {
    let says = |why: NotAdmitted| tried.contains(&why.to_string());
    if [NotAdmitted::Missing, NotAdmitted::Unknown, NotAdmitted::Expired].into_iter().any(says) {
        return (CLOSED, GIVE_KEY);
    }
    if says(NotAdmitted::BadToken) {
        return (CLOSED, CHECK_TOKEN);
    }
    let found = ANSWERS.iter().find(|(words, ..)| tried.contains(words));
    found.map_or((SILENT, "is it running? try: waxwing dev"), |(_, matter, hint)| (matter, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_answered_is_said() {
        for (answer, matter) in [
            (
                "this token is not believed here: its signature, audience, namespace or time is wrong; see: waxwing token inspect",
                CLOSED,
            ),
            ("this key is not known here; see: waxwing key list", CLOSED),
            (
                "this key is of another namespace than the one named; leave the namespace out: it is the key's",
                CLOSED,
            ),
            ("the namespace has its 1 sessions (namespace_sessions)", FULL),
            ("invalid peer certificate: BadSignature", UNPROVEN),
            (
                "invalid peer certificate: certificate not valid for name \"127.0.0.2\"; certificate is only valid for DnsName(\"a\")",
                UNPROVEN,
            ),
            ("connection error detected: frame with invalid size", OTHERWISE),
            ("Operation is not implemented or not supported", OTHERWISE),
            ("connection refused", SILENT),
            ("no answer within 5s", SILENT),
        ] {
            assert_eq!(judge(&format!("\n  127.0.0.1:7400: {answer}")).0, matter, "{answer}");
        }
    }
}
