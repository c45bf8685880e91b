//! Sessions as operators see them.

use super::seat::{Card, Seat};
use super::sessions::SessionView;
use super::{Broker, BrokerError, Table};
use crate::pubsub::mailbox::MailboxReport;
use crate::types::{Namespace, SessionId};
use std::sync::Arc;

/// Topics and patterns of a described session, at most.
const NAMES_MAX: usize = 1_000;

/// Which sessions are asked for.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// Only those whose mailbox is over half full.
    pub slow: bool,
    /// Only those of this front; empty: of any.
    pub front: String,
    pub limit: usize,
}

#[derive(Debug, Clone)]
pub struct SessionReport {
    pub id: SessionId,
    pub namespace: Namespace,
    pub front: &'static str,
    pub client: String,
    pub address: String,
    pub attached: bool,
    pub epoch: u64,
    /// When its latest attachment here began; Unix time.
    pub since_ms: u64,
    pub subscriptions: usize,
    pub mailbox: MailboxReport,
    /// The first of them; only in a description.
    pub topics: Vec<String>,
    pub patterns: Vec<String>,
}

impl Broker {
    /// In order of id, and how many there are in all that the filter lets through.
    pub fn list(&self, filter: &SessionFilter) -> (Vec<SessionReport>, u64) {
        let mut found: Vec<_> = {
            let table = self.shared.table.lock();
            table.sessions.ids().filter_map(|id| table.row(id)).collect()
        };
        found.retain(|row| filter.lets_through(row));
        found.sort_unstable_by_key(|row| row.id);
        let total = found.len() as u64;
        (found.iter().take(filter.limit).map(Row::report).collect(), total)
    }

    pub fn describe(&self, id: &str) -> Result<SessionReport, BrokerError> {
        let session = SessionId::parse(id);
        let row = session.and_then(|session| self.shared.table.lock().row(session));
        let Some(row) = row else {
            return Err(BrokerError::UnknownSession(id.chars().take(64).collect()));
        };
        let mut report = row.report();
        if let Some(seat) = &row.seat {
            let held = seat.subscriptions.lock();
            report.topics = held.topics.iter().take(NAMES_MAX).map(ToString::to_string).collect();
            let text = |glob: &[u8]| String::from_utf8_lossy(glob).into_owned();
            report.patterns = held.patterns.iter().take(NAMES_MAX).map(|p| text(&p.glob)).collect();
            report.topics.sort_unstable();
            report.patterns.sort_unstable();
        }
        Ok(report)
    }
}

struct Row {
    id: SessionId,
    view: SessionView,
    card: Arc<Card>,
    seat: Option<Arc<Seat>>,
}

impl Table {
    fn row(&self, id: SessionId) -> Option<Row> {
        let view = self.sessions.view(id)?;
        let seat = view.attachment.or(view.older).and_then(|at| self.seats.get(&at)).cloned();
        let card = seat.as_ref().map(|seat| seat.card.clone());
        let card = card.or_else(|| self.cards.get(&id).cloned())?;
        Some(Row { id, view, card, seat })
    }
}

impl Row {
    fn mailbox(&self) -> MailboxReport {
        self.seat.as_ref().map(|seat| seat.mailbox.report()).unwrap_or_default()
    }

    fn report(&self) -> SessionReport {
        SessionReport {
            id: self.id,
            namespace: self.card.pass.namespace().clone(),
            front: self.card.front,
            client: self.card.client.lock().clone(),
            address: self.card.address.clone(),
            attached: self.view.attachment.is_some() || self.view.older.is_some(),
            epoch: self.view.epoch,
            since_ms: self.card.since_ms,
            subscriptions: self.seat.as_ref().map_or(0, |seat| seat.subscriptions.lock().len()),
            mailbox: self.mailbox(),
            topics: Vec::new(),
            patterns: Vec::new(),
        }
    }
}

impl SessionFilter {
    fn lets_through(&self, row: &Row) -> bool {
        if !self.front.is_empty() && self.front != row.card.front {
            return false;
        }
        if !self.slow {
            return true;
        }
        let mailbox = row.mailbox();
        mailbox.bytes > mailbox.limit / 2
    }
}
