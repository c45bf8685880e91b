//! ● Keys and quotas that are kept elsewhere than in the file: what the cluster agrees on, beside what a node was told by itself.
//!
//! The file comes first. Keys are not copied from where they are kept: each is looked up when somebody shows it, so a hundred thousand of
//! them cost nothing to have.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::Quota;
use super::key::KeyHash;
use super::said::RightsSaid;

/// Where the keys are kept.
pub trait AgreedKeys: std::fmt::Debug + Send + Sync {
    fn key(&self, id: &str) -> Option<AgreedKey>;

    /// Of the entry as it is now.
    fn mark(&self, id: &str) -> Option<Mark>;

    /// How many there are.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[derive(Debug, Clone)]
pub struct AgreedKey {
    pub mark: Mark,
    pub namespace: Box<str>,
    /// Unix time in seconds.
    pub ends_s: Option<u64>,
    pub rights: RightsSaid,
}

/// What tells an entry from every other of its id: an entry is never changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub hash: KeyHash,
    pub revision: u64,
}

/// Quotas by name or template. Of templates the longest comes first, then by name.
pub type AgreedQuotas = Vec<(Box<str>, Arc<Quota>)>;

/// What is agreed on, as a node's door looks at it.
#[derive(Debug, Clone)]
pub struct Agreed {
    pub keys: Arc<dyn AgreedKeys>,
    pub quotas: AgreedQuotas,
    /// Nobody is let in by these keys: whether they still hold can't be known.
    pub closed: bool,
    /// Keys of the same ids as the file has: nobody looks at those.
    pub overridden: usize,
}

impl std::fmt::Debug for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mark").field("revision", &self.revision).finish_non_exhaustive()
    }
}

impl Mark {
    /// What a grant remembers of the entry that granted it.
    pub(super) fn digest(self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"agreed");
        hash.update(self.hash.bytes());
        hash.update(self.revision.to_le_bytes());
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::super::key::{KeyHash, RANDOM_LEN, make};
    use super::super::said::RightsSaid;
    use super::super::{Access, Ask, NotAdmitted, Quota};
    use super::{Agreed, AgreedKey, AgreedKeys, Mark};
    use crate::types::Namespace;

    #[derive(Debug, Default)]
    struct Book(Mutex<BTreeMap<String, AgreedKey>>);

    impl AgreedKeys for Book {
        fn key(&self, id: &str) -> Option<AgreedKey> {
            self.0.lock().get(id).cloned()
        }

        fn mark(&self, id: &str) -> Option<Mark> {
            self.0.lock().get(id).map(|key| key.mark)
        }

        fn len(&self) -> usize {
            self.0.lock().len()
        }
    }

    impl Book {
        fn put(&self, id: &str, text: &str, revision: u64) {
            let all = || vec!["*".to_owned()];
            let mark = Mark { hash: KeyHash::of(text.as_bytes()), revision };
            let rights = RightsSaid { publish: all(), ..RightsSaid::default() };
            let key = AgreedKey { mark, namespace: "acme".into(), ends_s: Some(100), rights };
            self.0.lock().insert(id.to_owned(), key);
        }
    }

    fn file(text: &str) -> Access {
        Access::parse(text, &|_, _| Err(String::new())).unwrap()
    }

    fn entry(id: &str, text: &str) -> String {
        let hash = KeyHash::of(text.as_bytes());
        format!("[[key]]\nid = \"{id}\"\nhash = \"{hash}\"\nsubscribe = [\"*\"]\n")
    }

    fn agreed(book: &Arc<Book>) -> Agreed {
        Agreed { keys: book.clone(), quotas: Vec::new(), closed: false, overridden: 0 }
    }

    #[test]
    fn keys_of_both_open_and_the_file_comes_first() {
        let [(of_file, file_text), (of_book, book_text), (of_both, both_text)] =
            [1, 2, 3].map(|random| make(&[random; RANDOM_LEN]));
        let book = Arc::new(Book::default());
        book.put(&of_book, &book_text, 1);
        // The same id with another secret: as good as not there.
        let shadow = format!("wx_{of_both}_another");
        book.put(&of_both, &shadow, 2);
        let said = entry(&of_file, &file_text) + &entry(&of_both, &both_text);
        let access = file(&said).beside(agreed(&book));
        let admit = |shown: &str| access.admit(shown.as_bytes(), 50);
        assert!(admit(&file_text).unwrap().rules.may(Ask::Subscribe(b"t")));
        let grant = admit(&book_text).unwrap();
        assert!(grant.rules.may(Ask::Publish(b"t")) && !grant.rules.may(Ask::Subscribe(b"t")));
        assert_eq!(grant.namespace.as_str(), "acme");
        assert_eq!(grant.who.to_string(), format!("key {of_book}"));
        assert!(admit(&both_text).is_ok());
        assert_eq!(admit(&shadow), Err(NotAdmitted::Unknown));
        assert_eq!(access.overridden_of(&*book), 1);
        let late = access.admit(book_text.as_bytes(), 100);
        assert_eq!(late, Err(NotAdmitted::Expired));
        assert_eq!(admit(&format!("{book_text}x")), Err(NotAdmitted::Unknown));
        // Without what is agreed there is the file alone.
        assert_eq!(file(&said).admit(book_text.as_bytes(), 50), Err(NotAdmitted::Unknown));
    }

    #[test]
    fn what_a_key_had_granted_holds_as_long_as_the_very_entry_is_there() {
        let (id, text) = make(&[1; RANDOM_LEN]);
        let book = Arc::new(Book::default());
        book.put(&id, &text, 1);
        let access = Access::default().beside(agreed(&book));
        let grant = access.admit(text.as_bytes(), 0).unwrap();
        assert!(access.upholds(&grant));
        // Nobody new is let in, and whoever is here was known once.
        let closed = Access::default().beside(Agreed { closed: true, ..agreed(&book) });
        assert_eq!(closed.admit(text.as_bytes(), 0), Err(NotAdmitted::Unknown));
        assert!(closed.upholds(&grant));
        book.put(&id, &text, 2);
        assert!(!access.upholds(&grant), "made again, it is another");
        book.put(&id, &text, 1);
        assert!(access.upholds(&grant));
        let overridden = file(&entry(&id, &text)).beside(agreed(&book));
        assert!(!overridden.upholds(&grant), "the file has its own word on it now");
        let of_file = file(&entry(&id, &text)).admit(text.as_bytes(), 0).unwrap();
        assert!(!access.upholds(&of_file), "what the file granted is not what control grants");
        book.0.lock().clear();
        assert!(!access.upholds(&grant));
        assert!(!Access::default().upholds(&grant));
    }

    #[test]
    fn a_quota_is_the_files_then_controls_then_the_files_template_then_controls() {
        let quota = |sessions| Quota { sessions: Some(sessions), ..Quota::NONE }.into();
        let said = |name: &str, sessions: u64| -> String {
            format!("[[namespace]]\nname = \"{name}\"\nsessions = {sessions}\n")
        };
        let file = file(&(said("a", 1) + &said("t-*", 2)));
        let quotas = [("*", 10), ("a", 11), ("b", 12), ("t-1", 13), ("t-*", 14), ("u-*", 15)];
        let quotas = quotas.map(|(name, sessions)| (name.into(), quota(sessions)));
        let book = Arc::new(Book::default());
        let of = |access: &Access, name: &str| {
            let quota = access.quotas().of(&Namespace::parse(name).unwrap()).cloned();
            quota.and_then(|quota| quota.sessions)
        };
        let both = file.beside(Agreed { quotas: quotas.to_vec(), ..agreed(&book) });
        for (name, sessions) in
            [("a", 1), ("b", 12), ("t-1", 13), ("t-2", 2), ("u-1", 15), ("whoever", 10)]
        {
            assert_eq!(of(&both, name), Some(sessions), "{name}");
        }
        // What is agreed on later takes the place of what was, and the file's stays.
        let later = both.beside(Agreed { quotas: quotas[2..3].to_vec(), ..agreed(&book) });
        for (name, sessions) in [("a", Some(1)), ("b", Some(12)), ("t-1", Some(2)), ("u-1", None)] {
            assert_eq!(of(&later, name), sessions, "{name}");
        }
    }
}
