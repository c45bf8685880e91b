//! Reports of loss, and the counting of what is dropped until one can be made.

use std::collections::HashMap;
use std::sync::Arc;

use crate::plants::{self, Plant};
use crate::types::Topic;

/// So many (topic, origin) pairs are counted apart; what is dropped beyond them is counted together.
pub const DROPPED_TOPICS_MAX: usize = 4_096;

/// Gaps kept apart while a mailbox drops; beyond, see `Dropped::add_gap`.
const GAPS_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    SlowSubscriber,
    Link,
    MemberLost,
    Reconnected,
}

impl GapReason {
    /// In the order of their numbers.
    pub const ALL: [Self; 4] =
        [Self::SlowSubscriber, Self::Link, Self::MemberLost, Self::Reconnected];

    /// For metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SlowSubscriber => "slow_subscriber",
            Self::Link => "link",
            Self::MemberLost => "member_lost",
            Self::Reconnected => "reconnected",
        }
    }
}

/// How many gaps there were, by the number of their reason.
pub type GapCounts = [u64; GapReason::ALL.len()];

/// Final: nothing that it covers is delivered later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// None: any topic of the session.
    pub topics: Vec<Topic>,
    /// None: any origin.
    pub origin: Option<Arc<str>>,
    pub missing: Option<u64>,
    pub reason: GapReason,
    pub certain: bool,
}

impl Gap {
    /// Something of `origin` may have been lost, nobody knows what.
    pub fn possible(origin: Option<Arc<str>>, reason: GapReason) -> Self {
        Self { topics: Vec::new(), origin, missing: None, reason, certain: false }
    }
}

/// Counts what a full mailbox drops.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    by_topic: HashMap<(Topic, Arc<str>), u64>,
    elsewhere: u64,
    /// Gaps that arrived meanwhile; they stand behind the counted ones.
    gaps: Vec<Gap>,
    /// What is beyond them, by the number of its reason: something unknown, of anybody.
    anybody: [bool; GapReason::ALL.len()],
}

impl Dropped {
    pub(super) fn count(&mut self, topic: &Topic, origin: &Arc<str>, messages: u64) {
        let known = self.by_topic.len();
        match self.by_topic.get_mut(&(topic.clone(), origin.clone())) {
            Some(count) => *count += messages,
            None if known < DROPPED_TOPICS_MAX => {
                self.by_topic.insert((topic.clone(), origin.clone()), messages);
            }
            None => self.elsewhere += messages,
        }
    }

    /// One for each that can be told apart, and so many at most; the rest is counted together.
    pub(super) fn add_gap(&mut self, gap: Gap) {
        let same = |one: &&mut Gap| {
            (one.reason, one.certain, &one.origin, &one.topics)
                == (gap.reason, gap.certain, &gap.origin, &gap.topics)
        };
        if let Some(before) = self.gaps.iter_mut().find(same) {
            before.missing = before.missing.zip(gap.missing).map(|(before, more)| before + more);
        } else if self.gaps.len() < GAPS_MAX {
            self.gaps.push(gap);
        } else if let (true, Some(missing)) = (gap.certain, gap.missing) {
            self.elsewhere += missing;
        } else {
            self.anybody[gap.reason as usize] = true;
        }
    }

    /// One gap for each topic and origin, then one for all that was counted together.
    pub(super) fn into_gaps(self, reason: GapReason) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = self
            .by_topic
            .into_iter()
            .map(|((topic, origin), missing)| Gap {
                topics: vec![topic],
                origin: Some(origin),
                missing: Some(missing + u64::from(plants::is(Plant::GapCountOffByOne))),
                reason,
                certain: true,
            })
            .collect();
        gaps.sort_by(|a, b| a.topics[0].name().cmp(b.topics[0].name()));
        if self.elsewhere > 0 {
            gaps.push(Gap {
                topics: Vec::new(),
                origin: None,
                missing: Some(self.elsewhere),
                reason,
                certain: true,
            });
        }
        gaps.extend(self.gaps);
        let anybody = GapReason::ALL.into_iter().zip(self.anybody);
        gaps.extend(anybody.filter(|(_, due)| *due).map(|(reason, _)| Gap::possible(None, reason)));
        gaps
    }
}
