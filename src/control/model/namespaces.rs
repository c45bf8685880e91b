//! ● Namespaces and their quotas: made, changed, deleted.

use super::bounds::NAMESPACES_MAX;
use super::command::{Answer, Bound, Refusal};
use super::facts::{LeaseKey, NamespaceEntry, QuotaFacts, judge_template};
use super::state::{Doing, State, weigh_namespace};
use crate::pubsub::pattern::matches;

impl State {
    /// Is it one of those that there are, by its own name or a template's? None is told apart as long as there are none.
    pub fn is_namespace(&self, name: &str) -> bool {
        self.namespaces.is_empty() || self.quota_of(name).is_some()
    }

    /// Its own entry, else that of the longest template that takes its name, of two as long the first by name.
    pub fn quota_of(&self, name: &str) -> Option<&QuotaFacts> {
        if let Some(own) = self.namespaces.get(name) {
            return Some(&own.quota);
        }
        let takes = |said: &str| said.contains('*') && matches(said.as_bytes(), name.as_bytes());
        let templates = self.namespaces.iter().filter(|(said, _)| takes(said));
        let best = templates.min_by_key(|(said, _)| (usize::MAX - said.len(), said.to_owned()));
        best.map(|(_, entry)| &entry.quota)
    }

    pub(super) fn create_namespace(
        &mut self,
        name: &str,
        quota: &QuotaFacts,
        doing: &mut Doing<'_>,
    ) -> Result<Answer, Refusal> {
        judge_template(name).and_then(|()| quota.judge()).map_err(Refusal::Unlawful)?;
        if self.namespaces.contains_key(name) {
            return Err(Refusal::NamespaceExists);
        }
        if self.namespaces.len() >= NAMESPACES_MAX {
            let max = NAMESPACES_MAX as u64;
            return Err(Refusal::TooMany { bound: Bound::Namespaces, max });
        }
        self.room(weigh_namespace(name), 0)?;
        self.index.bytes += weigh_namespace(name);
        self.revision += 1;
        let entry = NamespaceEntry { quota: quota.clone(), revision: self.revision };
        self.namespaces.insert(name.into(), entry);
        Ok(self.changed(doing, format!("created the namespace {name}")))
    }

    pub(super) fn update_namespace(
        &mut self,
        name: &str,
        quota: &QuotaFacts,
        expected: Option<u64>,
        doing: &mut Doing<'_>,
    ) -> Result<Answer, Refusal> {
        quota.judge().map_err(Refusal::Unlawful)?;
        let entry = self.namespaces.get_mut(name).ok_or(Refusal::NoNamespace)?;
        if expected.is_some_and(|expected| expected != entry.revision) {
            return Err(Refusal::OtherRevision { revision: entry.revision });
        }
        self.revision += 1;
        *entry = NamespaceEntry { quota: quota.clone(), revision: self.revision };
        Ok(self.changed(doing, format!("changed the namespace {name}")))
    }

    /// A template has no contents: what its namespaces have stays.
    pub(super) fn delete_namespace(
        &mut self,
        name: &str,
        contents: bool,
        doing: &mut Doing<'_>,
    ) -> Result<Answer, Refusal> {
        if !self.namespaces.contains_key(name) {
            return Err(Refusal::NoNamespace);
        }
        let there = self.index.contents(name);
        if !contents && (there.keys > 0 || there.leases > 0) {
            return Err(Refusal::NamespaceInUse { keys: there.keys, leases: there.leases });
        }
        self.revision += 1;
        self.namespaces.remove(name);
        self.index.bytes -= weigh_namespace(name);
        if there.keys > 0 {
            let index = &mut self.index;
            self.keys.retain(|id, key| {
                let stays = *key.namespace != *name;
                if !stays {
                    index.remove_key(id, key);
                }
                stays
            });
        }
        if there.leases > 0 {
            let first = LeaseKey { namespace: name.into(), name: "".into() };
            let of_it = self.leases.range(first..).map(|(key, _)| key);
            let of_it = of_it.take_while(|key| *key.namespace == *name).cloned();
            for key in of_it.collect::<Vec<_>>() {
                self.take_lease(&key, doing);
            }
        }
        let with = match (there.keys, there.leases) {
            (0, 0) => String::new(),
            (keys, leases) => format!(", its {keys} keys and {leases} leases"),
        };
        Ok(self.changed(doing, format!("deleted the namespace {name}{with}")))
    }
}
