//! How generated types with a secret in them are shown: without it.

use std::fmt;

use super::v1;

impl fmt::Debug for v1::Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resume_token, client, linger, epoch, overlap } = self;
        f.debug_struct("Hello")
            .field("resumes", &!resume_token.is_empty())
            .field("client", client)
            .field("linger", linger)
            .field("epoch", epoch)
            .field("overlap", overlap)
            .finish()
    }
}

impl fmt::Debug for v1::Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session_id, resume_token: _, resumed, epoch, node, endpoints } = self;
        f.debug_struct("Welcome")
            .field("session_id", session_id)
            .field("resumed", resumed)
            .field("epoch", epoch)
            .field("node", node)
            .field("endpoints", endpoints)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::v1;

    #[test]
    fn resume_tokens_are_not_shown() {
        let token = bytes::Bytes::from_static(b"canary-canary-16");
        let hello = v1::Hello { resume_token: token.clone(), ..Default::default() };
        let welcome = v1::Welcome { resume_token: token, ..Default::default() };
        let shown = format!("{hello:?} {welcome:?}");
        assert!(!shown.contains("canary") && !shown.contains("99, 97"), "{shown}");
    }
}
