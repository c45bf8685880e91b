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

/// Of the lease's holder, as which anybody could renew it.
const fn is_said(secret: &[u8]) -> bool {
    !secret.is_empty()
}

impl fmt::Debug for v1::AcquireLeaseRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, ttl, session, owner, note, wait } = self;
        f.debug_struct("AcquireLeaseRequest")
            .field("name", name)
            .field("ttl", ttl)
            .field("session", &is_said(session))
            .field("owner", &is_said(owner))
            .field("note", note)
            .field("wait", wait)
            .finish()
    }
}

impl fmt::Debug for v1::AcquireLeaseResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { granted, token, owner: _, held } = self;
        f.debug_struct("AcquireLeaseResponse")
            .field("granted", granted)
            .field("token", token)
            .field("held", held)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::RenewLeaseRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, session: _, owner: _, token, ttl } = self;
        f.debug_struct("RenewLeaseRequest")
            .field("name", name)
            .field("token", token)
            .field("ttl", ttl)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::ReleaseLeaseRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, session: _, owner: _, token } = self;
        f.debug_struct("ReleaseLeaseRequest")
            .field("name", name)
            .field("token", token)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::CreateKeyResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, text: _ } = self;
        f.debug_struct("CreateKeyResponse").field("key", key).finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::BackupPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupPart").field("bytes", &self.data.len()).finish()
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
