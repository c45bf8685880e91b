//! ● One Redis client: which protocol it speaks, what it may ask now, and what it is answered.
//!
//! Invariants: a command has one answer, in its place, unless the client wants none (`CLIENT REPLY`); acknowledgements of
//! subscriptions are no answers and always come, one for each name. What needs the node is an `Act` for the shell, which comes back with
//! the outcome.

mod client;
mod pubsub;
#[cfg(test)]
mod tests;

pub(super) use client::{ClientFilter, KillAsked};
pub(super) use pubsub::help;

use std::sync::Arc;

use super::about;
use super::command::{self, Meaning, Spec, Subcommand, Verb};
use super::frame::Command;
use super::print::Printer;
use crate::broker::Pass;
use crate::pubsub::Resp;

/// What is subscribed to: each is counted and acknowledged in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Channel,
    Pattern,
    Sharded,
}

/// What the shell must do; it has not been answered yet, unless it says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// Answered.
    Done,
    /// Answered. The client is no stranger any more.
    Enter(Pass),
    /// The arguments from the second on are names.
    Subscribe(Kind),
    /// The same; without any, all that there are.
    Unsubscribe(Kind),
    /// Second argument: the channel; third: the payload.
    Publish {
        sharded: bool,
    },
    /// The third argument, if any, is a pattern.
    Channels {
        sharded: bool,
    },
    /// The arguments from the third on are channels.
    Subscribers {
        sharded: bool,
    },
    Patterns,
    ClientList(ClientFilter),
    ClientInfo,
    ClientKill(KillAsked),
    /// Ends every subscription without a word, then `Session::is_reset`.
    Reset,
    /// Answered. The connection ends.
    Quit,
}

/// What a session must know of the node around it.
pub(super) trait Around {
    /// Must clients say who they are?
    fn is_locked(&self) -> bool;
    /// None: refused.
    fn let_in(&self, user: &[u8], secret: &[u8]) -> Option<Pass>;
    /// Microseconds since 1970.
    fn unix_us(&self) -> u64;
    /// A line that a client wants in the node's log.
    fn log(&self, line: &str);
    fn node(&self) -> about::NodeAbout;
    fn figures(&self) -> about::Figures;
    /// Where this client has reached the node.
    fn endpoint(&self) -> (String, u16);
}

/// What others may see of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// Many connections have none.
    names: Option<Arc<Names>>,
    pub(super) resp: Resp,
    pub(super) db: u8,
    pub(super) no_evict: bool,
    pub(super) no_touch: bool,
    pub(super) channels: u32,
    pub(super) patterns: u32,
    pub(super) sharded: u32,
    pub(super) last: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    name: Box<[u8]>,
    lib_name: Box<[u8]>,
    lib_ver: Box<[u8]>,
}

impl Shown {
    pub(super) fn name(&self) -> &[u8] {
        self.names.as_ref().map_or(&[], |names| &names.name)
    }

    pub(super) fn lib_name(&self) -> &[u8] {
        self.names.as_ref().map_or(&[], |names| &names.lib_name)
    }

    pub(super) fn lib_ver(&self) -> &[u8] {
        self.names.as_ref().map_or(&[], |names| &names.lib_ver)
    }

    fn names(&mut self) -> &mut Names {
        Arc::make_mut(self.names.get_or_insert_default())
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.channels + self.patterns + self.sharded > 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replies {
    On,
    Off,
    SkipNext,
}

#[derive(Debug)]
pub(super) struct Session {
    id: u64,
    is_stranger: bool,
    /// By which it came in. None: a stranger, or nobody is asked.
    pass: Option<Pass>,
    replies: Replies,
    /// The command that is being answered wants no answer.
    muted: bool,
    shown: Shown,
}

impl Session {
    pub(super) fn new(id: u64, is_stranger: bool) -> Self {
        Self {
            id,
            is_stranger,
            pass: None,
            replies: Replies::On,
            muted: false,
            shown: Shown::default(),
        }
    }

    pub(super) fn resp(&self) -> Resp {
        self.shown.resp
    }

    pub(super) fn is_stranger(&self) -> bool {
        self.is_stranger
    }

    pub(super) fn shown(&self) -> &Shown {
        &self.shown
    }

    /// A publish may skip `handle`, after `begin`.
    pub(super) fn may_publish(&self) -> bool {
        !self.is_stranger && !self.is_in_subscribed_mode()
    }

    /// A command begins. Does it want an answer?
    pub(super) fn begin(&mut self) -> bool {
        self.muted = match self.replies {
            Replies::On => false,
            Replies::Off => true,
            Replies::SkipNext => {
                self.replies = Replies::On;
                true
            }
        };
        !self.muted
    }

    /// An answer to the command that began last.
    pub(super) fn say(&self, out: &mut Vec<u8>, answer: impl FnOnce(&mut Printer<'_>)) {
        if !self.muted {
            answer(&mut Printer::new(out, self.shown.resp));
        }
    }

    fn say_ok(&self, out: &mut Vec<u8>) {
        self.say(out, |printer| printer.ok());
    }

    pub(super) fn say_error(&self, out: &mut Vec<u8>, text: &str) {
        self.say(out, |printer| printer.error(text));
    }

    fn is_in_subscribed_mode(&self) -> bool {
        self.shown.resp == Resp::Two && self.shown.is_subscribed()
    }

    pub(super) fn handle(
        &mut self,
        command: Command<'_>,
        around: &dyn Around,
        out: &mut Vec<u8>,
    ) -> Act {
        self.begin();
        match self.judge(command) {
            Err(error) => {
                self.say_error(out, &error);
                Act::Done
            }
            Ok((spec, subcommand)) => {
                self.shown.last = spec.name;
                self.obey(spec, subcommand, command, around, out)
            }
        }
    }

    /// In Redis's order: the name, the number of arguments, whether this client may ask it now.
    fn judge(
        &self,
        command: Command<'_>,
    ) -> Result<(&'static Spec, Option<&'static Subcommand>), String> {
        let spec = match command::meaning(command.get(0)) {
            Meaning::Unknown => return Err(command::unknown(command)),
            Meaning::Elsewhere { name, what } => {
                self.may_ask(name, None)?;
                return Err(command::elsewhere(name, what));
            }
            Meaning::Known(spec) => spec,
        };
        let mut subcommand = None;
        if !spec.subcommands.is_empty() && command.len() > 1 {
            let found = spec
                .subcommand(command)
                .ok_or_else(|| command::unknown_subcommand(spec, command))?;
            subcommand = Some(found);
        }
        let full_name = subcommand.map_or_else(
            || spec.name.to_owned(),
            |subcommand| format!("{}|{}", spec.name, subcommand.name),
        );
        let fits = subcommand.map_or_else(|| spec.takes(command), |one| one.takes(command));
        if !fits {
            return Err(command::wrong_number(&full_name));
        }
        self.may_ask(&full_name, Some(spec.verb))?;
        Ok((spec, subcommand))
    }

    fn may_ask(&self, full_name: &str, verb: Option<Verb>) -> Result<(), String> {
        use Verb as V;
        if self.is_stranger && !matches!(verb, Some(V::Auth | V::Hello | V::Quit | V::Reset)) {
            return Err("NOAUTH Authentication required.".to_owned());
        }
        let is_always_allowed = matches!(
            verb,
            Some(
                V::Subscribe
                    | V::Unsubscribe
                    | V::Psubscribe
                    | V::Punsubscribe
                    | V::Ssubscribe
                    | V::Sunsubscribe
                    | V::Ping
                    | V::Quit
                    | V::Reset
            )
        );
        if self.is_in_subscribed_mode() && !is_always_allowed {
            return Err(format!(
                "ERR Can't execute '{full_name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
            ));
        }
        Ok(())
    }

    fn obey(
        &mut self,
        spec: &Spec,
        subcommand: Option<&Subcommand>,
        command: Command<'_>,
        around: &dyn Around,
        out: &mut Vec<u8>,
    ) -> Act {
        let word = subcommand.map_or("", |subcommand| subcommand.name);
        match spec.verb {
            Verb::Subscribe => return Act::Subscribe(Kind::Channel),
            Verb::Psubscribe => return Act::Subscribe(Kind::Pattern),
            Verb::Ssubscribe => return Act::Subscribe(Kind::Sharded),
            Verb::Unsubscribe => return Act::Unsubscribe(Kind::Channel),
            Verb::Punsubscribe => return Act::Unsubscribe(Kind::Pattern),
            Verb::Sunsubscribe => return Act::Unsubscribe(Kind::Sharded),
            Verb::Publish => return Act::Publish { sharded: false },
            Verb::Spublish => return Act::Publish { sharded: true },
            Verb::Reset => return Act::Reset,
            Verb::Auth => return self.auth(command, around, out),
            Verb::Hello => return self.hello(command, around, out),
            Verb::Client => return self.client(word, command, out),
            Verb::Pubsub => return self.pubsub(word, out),
            Verb::Quit => {
                self.say_ok(out);
                return Act::Quit;
            }
            Verb::Ping if command.len() > 2 => {
                self.say_error(out, &command::wrong_number("ping"));
            }
            Verb::Ping if self.is_in_subscribed_mode() => self.say(out, |printer| {
                printer.array(2);
                printer.bulk(b"pong");
                printer.bulk(command.get(1));
            }),
            Verb::Ping if command.len() == 1 => self.say(out, |printer| printer.simple("PONG")),
            Verb::Ping | Verb::Echo => self.say(out, |printer| printer.bulk(command.get(1))),
            Verb::Select => match number(command.get(1)) {
                Some(db @ 0..=15) => {
                    self.shown.db = u8::try_from(db).unwrap_or(0);
                    self.say_ok(out);
                }
                Some(_) => self.say_error(out, "ERR DB index is out of range"),
                None => self.say_error(out, NOT_AN_INTEGER),
            },
            Verb::Readonly | Verb::Readwrite | Verb::Asking | Verb::Function => self.say_ok(out),
            // Nothing is stored, so nothing is left.
            Verb::Flush => match command.get(1).to_ascii_lowercase().as_slice() {
                b"" | b"async" | b"sync" if command.len() <= 2 => self.say_ok(out),
                _ => self.say_error(out, SYNTAX),
            },
            Verb::Debug if word == "log" => {
                around.log(&command.text(2));
                self.say_ok(out);
            }
            Verb::Debug => self.say(out, |printer| {
                help(
                    printer,
                    &["DEBUG <subcommand> [<arg>]. Subcommands are:", "LOG <message>", "HELP"],
                );
            }),
            Verb::Time => self.say(out, |printer| about::time(printer, around.unix_us())),
            Verb::Info => {
                let (node, figures) = (around.node(), around.figures());
                self.say(out, |printer| about::info(printer, command, &node, &figures));
            }
            Verb::Command => self.say(out, |printer| about::command(printer, word, command)),
            Verb::Config => self.say(out, |printer| about::config(printer, word, command)),
            Verb::Cluster => self.say(out, |printer| {
                about::cluster(printer, word, command, &around.node(), around.endpoint());
            }),
        }
        Act::Done
    }

    /// Its subscriptions have ended, and with them everything it had said.
    pub(super) fn is_reset(&mut self, around: &dyn Around, out: &mut Vec<u8>) {
        self.shown = Shown { last: "reset", ..Shown::default() };
        // Of a client that wants none at all it ends that, and says so; what was to be skipped is.
        self.muted &= self.replies != Replies::Off;
        self.replies = Replies::On;
        self.is_stranger = around.is_locked();
        self.pass = None;
        self.say(out, |printer| printer.simple("RESET"));
    }
}

const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
const SYNTAX: &str = "ERR syntax error";

/// As Redis reads numbers: no blanks, no plus, no leading zeros.
fn number(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}
