//! ● Keys, hashed: made and revoked. A key is never changed: another is made, and the old one revoked.

use super::bounds::KEYS_MAX;
use super::command::{Answer, Bound, NewKey, Refusal};
use super::facts::{KeyEntry, judge_namespace, judge_note};
use super::state::{Doing, State, weigh_key};
use crate::rights::key::is_id;

impl State {
    /// Asked twice, as after an answer that was lost, it is there once.
    pub(super) fn create_key(
        &mut self,
        new: &NewKey,
        doing: &mut Doing<'_>,
    ) -> Result<Answer, Refusal> {
        let NewKey { id, hash, namespace, note, ends_s, rights } = new;
        judge(new).map_err(Refusal::Unlawful)?;
        let entry = |revision| KeyEntry {
            hash: *hash,
            namespace: namespace.clone(),
            note: note.clone(),
            ends_s: *ends_s,
            rights: rights.clone(),
            revision,
        };
        if let Some(there) = self.keys.get(id) {
            return match there.revision {
                revision if *there == entry(revision) => Ok(Answer::Done { revision }),
                _ => Err(Refusal::KeyExists),
            };
        }
        if !self.is_namespace(namespace) {
            return Err(Refusal::NoNamespace);
        }
        if self.keys.len() >= KEYS_MAX {
            return Err(Refusal::TooMany { bound: Bound::Keys, max: KEYS_MAX as u64 });
        }
        let entry = entry(self.revision + 1);
        self.room(weigh_key(id, &entry), 0)?;
        self.revision += 1;
        self.index.add_key(id, &entry);
        self.keys.insert(id.clone(), entry);
        Ok(self.changed(doing, format!("created the key {id} of {namespace}")))
    }

    pub(super) fn revoke_key(
        &mut self,
        id: &str,
        doing: &mut Doing<'_>,
    ) -> Result<Answer, Refusal> {
        let key = self.keys.remove(id).ok_or(Refusal::NoKey)?;
        self.index.remove_key(id, &key);
        self.revision += 1;
        Ok(self.changed(doing, format!("revoked the key {id} of {}", key.namespace)))
    }
}

fn judge(new: &NewKey) -> Result<(), String> {
    if !is_id(&new.id) {
        return Err("a key's id must be 1 to 32 letters, digits or dashes".to_owned());
    }
    judge_namespace(&new.namespace)?;
    judge_note(&new.note)?;
    new.rights.said().rules().map(|_| ())
}
