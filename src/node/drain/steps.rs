//! ● What a departing node does next: decided from what it has, what it sees and what time it is.
//!
//! draining → clients told → attachments gone → presences handed over → messages acknowledged and presence known to all → leaving →
//! closed. No step comes before its time, none is skipped but by hurry, and each waiting step has a deadline; so a drain ends within
//! its grace, whatever clients and peers do. The seat in control's group is taken over by others meanwhile, and waited for before leaving.

use std::time::Duration;

use crate::supervise::DrainStep;
use crate::types::Time;

/// Kept of the grace for acknowledgements: a client that never leaves must not cost the messages of those that did.
const ACKNOWLEDGE_TIME: Duration = Duration::from_secs(2);
/// With nobody to take the clients, they get so long to read what waits for them.
const FAREWELL_TIME: Duration = Duration::from_secs(1);
/// How many looks in a row must find everything acknowledged: content on its way from an outbox to a link is in neither count.
const QUIET_LOOKS: u32 = 3;
/// A group that has a quorum gives the seat to another in less.
const SEAT_TIME: Duration = Duration::from_secs(5);
/// Progress of a waiting step is told at most so often.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// What the node does, before it asks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Row = draining.
    Announce,
    TellClients,
    /// A moment.
    Wait,
    /// Whatever is still attached is closed.
    CloseAttachments,
    /// What sessions still hold goes to a peer, within this time.
    HandOver(Duration),
    /// Row = leaving, told by gossip.
    Leave,
    /// Everything is done.
    Close,
}

/// What the node sees at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) attached: u64,
    /// Members that can take clients.
    pub(super) others: usize,
    /// For live peers: what still waits for its link, and what is sent and not acknowledged.
    pub(super) unacked_bytes: u64,
    /// Live peers that have not all of this node's presence.
    pub(super) behind: usize,
    /// This node votes in control's group, which can give its seat to another.
    pub(super) has_seat: bool,
    /// Somebody asked to leave at once.
    pub(super) hurry: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Announcing,
    Telling,
    Attachments,
    Handing,
    Acknowledging,
    Leaving,
    Closing,
}

#[derive(Debug)]
pub(super) struct Steps {
    stage: Stage,
    until: Time,
    attachments_until: Time,
    /// From when the seat is all that is waited for.
    seat_until: Option<Time>,
    quiet_looks: u32,
    told: Option<(Time, u64)>,
    /// To be told, oldest first.
    steps: Vec<DrainStep>,
}

impl Steps {
    pub(super) fn new(grace: Duration, now: Time) -> Self {
        let kept = ACKNOWLEDGE_TIME.min(grace / 4);
        Self {
            stage: Stage::Announcing,
            until: now + grace,
            attachments_until: now + (grace - kept),
            seat_until: None,
            quiet_looks: 0,
            told: None,
            steps: Vec::new(),
        }
    }

    /// What there is to tell since the last call.
    pub(super) fn take_told(&mut self) -> Vec<DrainStep> {
        std::mem::take(&mut self.steps)
    }

    #[must_use]
    pub(super) fn next(&mut self, seen: Seen, now: Time) -> Action {
        if seen.hurry && !matches!(self.stage, Stage::Leaving | Stage::Closing) {
            return self.leave(seen);
        }
        match self.stage {
            Stage::Announcing => {
                self.stage = Stage::Telling;
                self.tell("draining", "takes no new clients".to_owned(), true);
                Action::Announce
            }
            Stage::Telling => {
                self.stage = Stage::Attachments;
                if seen.others == 0 {
                    self.attachments_until = self.attachments_until.min(now + FAREWELL_TIME);
                }
                let whom = match seen.others {
                    0 => "no other member can take them".to_owned(),
                    1 => "1 other member can take them".to_owned(),
                    n => format!("{n} other members can take them"),
                };
                self.tell("clients", format!("{} told to move; {whom}", seen.attached), true);
                Action::TellClients
            }
            Stage::Attachments => self.await_attachments(seen, now),
            // Its outcome is told by `handed_over`.
            Stage::Handing => self.hand_over(now),
            Stage::Acknowledging => self.await_acknowledgements(seen, now),
            Stage::Leaving => {
                self.stage = Stage::Closing;
                self.tell("leave", "the members know".to_owned(), true);
                self.tell("close", "all ports".to_owned(), true);
                Action::Close
            }
            Stage::Closing => Action::Close,
        }
    }

    fn await_attachments(&mut self, seen: Seen, now: Time) -> Action {
        let over = now >= self.attachments_until;
        if seen.attached > 0 && !over {
            self.tell_progress("attachments", "still attached", seen.attached, now);
            return Action::Wait;
        }
        self.stage = Stage::Handing;
        self.told = None;
        if seen.attached == 0 {
            self.tell("attachments", "all have moved".to_owned(), true);
            return self.hand_over(now);
        }
        self.tell("attachments", format!("{} closed: the time is over", seen.attached), true);
        Action::CloseAttachments
    }

    fn hand_over(&mut self, now: Time) -> Action {
        self.stage = Stage::Acknowledging;
        Action::HandOver(self.until.since(now) / 2)
    }

    /// The outcome of `Action::HandOver`.
    pub(super) fn handed_over(&mut self, entries: usize, to: Option<&str>) {
        let outcome = match (entries, to) {
            (0, _) => "none left here".to_owned(),
            (_, Some(peer)) => format!("{entries} handed over to {peer}"),
            (_, None) => format!("{entries} that nobody took over: they leave after their linger"),
        };
        self.tell("presences", outcome, true);
    }

    fn await_acknowledgements(&mut self, seen: Seen, now: Time) -> Action {
        let quiet = seen.unacked_bytes == 0 && seen.behind == 0;
        self.quiet_looks = if quiet { self.quiet_looks + 1 } else { 0 };
        let over = now >= self.until;
        if self.quiet_looks < QUIET_LOOKS && !over {
            if seen.unacked_bytes > 0 {
                self.tell_progress("messages", "bytes unacknowledged", seen.unacked_bytes, now);
            }
            return Action::Wait;
        }
        let seat_until = *self.seat_until.get_or_insert(now + SEAT_TIME);
        if seen.has_seat && !over && now < seat_until {
            return Action::Wait;
        }
        if seen.has_seat {
            self.tell("control", "its seat is not taken over: the time is over".to_owned(), true);
        }
        let outcome = match seen.unacked_bytes {
            0 => "all acknowledged".to_owned(),
            bytes => format!("{bytes} bytes unacknowledged: the time is over"),
        };
        self.tell("messages", outcome, true);
        if seen.behind > 0 {
            let outcome =
                format!("{} members do not have all of it: the time is over", seen.behind);
            self.tell("presences", outcome, true);
        }
        self.leave(seen)
    }

    fn leave(&mut self, seen: Seen) -> Action {
        if seen.unacked_bytes > 0 {
            // Of one that leaves nobody misses anything. This one is found gone, and that it may have taken messages with it is told.
            self.stage = Stage::Closing;
            self.tell("leave", "not said, since the members miss something".to_owned(), true);
            self.tell("close", "all ports".to_owned(), true);
            return Action::Close;
        }
        self.stage = Stage::Leaving;
        self.tell("leave", "tells the members".to_owned(), false);
        Action::Leave
    }

    fn tell(&mut self, step: &'static str, detail: String, done: bool) {
        self.steps.push(DrainStep { step, detail, done });
    }

    /// At once when a step begins to wait, then when the count has changed and some time has passed.
    fn tell_progress(&mut self, step: &'static str, what: &str, count: u64, now: Time) {
        let due = self.told.is_none_or(|(at, told)| told != count && now - at >= TELL_INTERVAL);
        if due {
            self.told = Some((now, count));
            self.tell(step, format!("{count} {what}"), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Action, Seen, Steps};
    use crate::types::Time;

    const GRACE: Duration = Duration::from_secs(30);

    /// What is seen at a time, and what must follow.
    type Look = (u64, Seen, Action);

    fn check(grace: Duration, looks: &[Look], told: &[&str]) {
        let mut steps = Steps::new(grace, Time::ZERO);
        let mut heard = Vec::new();
        for (ms, seen, expected) in looks {
            let action = steps.next(*seen, Time::from_millis(*ms));
            if let Action::HandOver(_) = action {
                steps.handed_over(0, None);
            }
            assert_eq!(action, *expected, "at {ms} ms, seeing {seen:?}");
            heard.extend(steps.take_told().into_iter().map(|step| {
                let end = if step.done { "." } else { "..." };
                format!("{}: {}{end}", step.step, step.detail)
            }));
        }
        assert_eq!(heard, told);
    }

    fn seen(attached: u64, others: usize, unacked_bytes: u64) -> Seen {
        Seen { attached, others, unacked_bytes, behind: 0, has_seat: false, hurry: false }
    }

    #[test]
    fn an_idle_node_goes_through_every_step_without_waiting_for_anybody() {
        check(
            GRACE,
            &[
                (0, seen(0, 2, 0), Action::Announce),
                (0, seen(0, 2, 0), Action::TellClients),
                (0, seen(0, 2, 0), Action::HandOver(Duration::from_millis(15000))),
                (0, seen(0, 2, 0), Action::Wait),
                (10, seen(0, 2, 0), Action::Wait),
                (20, seen(0, 2, 0), Action::Leave),
                (30, seen(0, 2, 0), Action::Close),
                (30, seen(0, 2, 0), Action::Close),
            ],
            &[
                "draining: takes no new clients.",
                "clients: 0 told to move; 2 other members can take them.",
                "attachments: all have moved.",
                "presences: none left here.",
                "messages: all acknowledged.",
                "leave: tells the members...",
                "leave: the members know.",
                "close: all ports.",
            ],
        );
    }

    #[test]
    fn it_waits_for_attachments_and_then_for_acknowledgements() {
        check(
            GRACE,
            &[
                (0, seen(3, 1, 0), Action::Announce),
                (0, seen(3, 1, 0), Action::TellClients),
                (10, seen(3, 1, 0), Action::Wait),
                (20, seen(2, 1, 9), Action::Wait),
                (1_020, seen(1, 1, 9), Action::Wait),
                (1_030, seen(0, 1, 9), Action::HandOver(Duration::from_millis(14485))),
                (1_035, seen(0, 1, 9), Action::Wait),
                (1_040, seen(0, 1, 0), Action::Wait),
                (1_050, seen(0, 1, 5), Action::Wait),
                (1_060, seen(0, 1, 0), Action::Wait),
                (1_070, seen(0, 1, 0), Action::Wait),
                (1_080, seen(0, 1, 0), Action::Leave),
            ],
            &[
                "draining: takes no new clients.",
                "clients: 3 told to move; 1 other member can take them.",
                "attachments: 3 still attached...",
                "attachments: 1 still attached...",
                "attachments: all have moved.",
                "presences: none left here.",
                "messages: 9 bytes unacknowledged...",
                "messages: all acknowledged.",
                "leave: tells the members...",
            ],
        );
    }

    #[test]
    fn the_seat_is_waited_for_but_not_for_long() {
        let seated = Seen { has_seat: true, ..seen(0, 2, 0) };
        let begin = [
            (0, seated, Action::Announce),
            (0, seated, Action::TellClients),
            (0, seated, Action::HandOver(Duration::from_millis(15000))),
            (0, seated, Action::Wait),
            (10, seated, Action::Wait),
            (20, seated, Action::Wait),
        ];
        let told = [
            "draining: takes no new clients.",
            "clients: 0 told to move; 2 other members can take them.",
            "attachments: all have moved.",
            "presences: none left here.",
        ];
        let given = [&begin[..], &[(900, seen(0, 2, 0), Action::Leave)]].concat();
        let end = ["messages: all acknowledged.", "leave: tells the members..."];
        check(GRACE, &given, &[&told[..], &end].concat());
        let kept = [(5_019, seated, Action::Wait), (5_020, seated, Action::Leave)];
        let end = [
            "control: its seat is not taken over: the time is over.",
            "messages: all acknowledged.",
            "leave: tells the members...",
        ];
        check(GRACE, &[&begin[..], &kept].concat(), &[&told[..], &end].concat());
    }

    #[test]
    fn those_who_stay_are_closed_in_time_for_acknowledgements() {
        check(
            GRACE,
            &[
                (0, seen(1, 1, 0), Action::Announce),
                (0, seen(1, 1, 0), Action::TellClients),
                (27_999, seen(1, 1, 7), Action::Wait),
                (28_000, seen(1, 1, 7), Action::CloseAttachments),
                (28_001, seen(0, 1, 7), Action::HandOver(Duration::from_micros(999_500))),
                (29_999, seen(0, 1, 7), Action::Wait),
                (30_000, seen(0, 1, 7), Action::Close),
            ],
            &[
                "draining: takes no new clients.",
                "clients: 1 told to move; 1 other member can take them.",
                "attachments: 1 still attached...",
                "attachments: 1 closed: the time is over.",
                "presences: none left here.",
                "messages: 7 bytes unacknowledged...",
                "messages: 7 bytes unacknowledged: the time is over.",
                "leave: not said, since the members miss something.",
                "close: all ports.",
            ],
        );
    }

    #[test]
    fn without_others_clients_get_a_moment_only() {
        check(
            GRACE,
            &[
                (0, seen(1, 0, 0), Action::Announce),
                (0, seen(1, 0, 0), Action::TellClients),
                (999, seen(1, 0, 0), Action::Wait),
                (1_000, seen(1, 0, 0), Action::CloseAttachments),
            ],
            &[
                "draining: takes no new clients.",
                "clients: 1 told to move; no other member can take them.",
                "attachments: 1 still attached...",
                "attachments: 1 closed: the time is over.",
            ],
        );
    }

    #[test]
    fn no_grace_waits_for_nothing() {
        check(
            Duration::ZERO,
            &[
                (0, seen(1, 2, 8), Action::Announce),
                (0, seen(1, 2, 8), Action::TellClients),
                (0, seen(1, 2, 8), Action::CloseAttachments),
                (0, seen(0, 2, 8), Action::HandOver(Duration::ZERO)),
                (0, seen(0, 2, 8), Action::Close),
            ],
            &[
                "draining: takes no new clients.",
                "clients: 1 told to move; 2 other members can take them.",
                "attachments: 1 closed: the time is over.",
                "presences: none left here.",
                "messages: 8 bytes unacknowledged: the time is over.",
                "leave: not said, since the members miss something.",
                "close: all ports.",
            ],
        );
    }

    #[test]
    fn presences_are_handed_over_and_everybody_must_have_heard_of_it() {
        let behind = |peers| Seen { behind: peers, ..seen(0, 2, 0) };
        let mut steps = Steps::new(GRACE, Time::ZERO);
        for expected in
            [Action::Announce, Action::TellClients, Action::HandOver(Duration::from_secs(15))]
        {
            assert_eq!(steps.next(behind(0), Time::ZERO), expected);
        }
        steps.handed_over(7, Some("b"));
        for (ms, peers) in [(0, 1), (10, 0), (20, 1), (30, 0), (40, 0)] {
            assert_eq!(steps.next(behind(peers), Time::from_millis(ms)), Action::Wait, "{ms}");
        }
        assert_eq!(steps.next(behind(0), Time::from_millis(50)), Action::Leave);
        let told = steps.take_told();
        assert!(told.iter().any(|step| step.detail == "7 handed over to b"), "{told:?}");

        let mut steps = Steps::new(GRACE, Time::ZERO);
        for _ in 0..3 {
            let _before = steps.next(behind(2), Time::ZERO);
        }
        steps.handed_over(7, None);
        assert_eq!(steps.next(behind(2), Time::from_millis(30_000)), Action::Leave);
        let told = steps.take_told();
        assert!(told.iter().any(|step| step.detail.starts_with("2 members do not")), "{told:?}");
    }

    #[test]
    fn hurry_leaves_at_once_from_any_step() {
        let hurry = Seen { hurry: true, ..seen(4, 2, 0) };
        let in_debt = Seen { unacked_bytes: 8, ..hurry };
        check(
            GRACE,
            &[(0, in_debt, Action::Close)],
            &["leave: not said, since the members miss something.", "close: all ports."],
        );
        check(
            GRACE,
            &[(0, hurry, Action::Leave), (5, hurry, Action::Close)],
            &["leave: tells the members...", "leave: the members know.", "close: all ports."],
        );
        check(
            GRACE,
            &[
                (0, seen(1, 1, 0), Action::Announce),
                (0, seen(1, 1, 0), Action::TellClients),
                (9, seen(1, 1, 0), Action::Wait),
                (10, hurry, Action::Leave),
                (20, hurry, Action::Close),
            ],
            &[
                "draining: takes no new clients.",
                "clients: 1 told to move; 1 other member can take them.",
                "attachments: 1 still attached...",
                "leave: tells the members...",
                "leave: the members know.",
                "close: all ports.",
            ],
        );
    }
}
