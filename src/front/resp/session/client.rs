//! ● Who a client is: `HELLO`, `AUTH`, `CLIENT`.

use super::pubsub::help;
use super::{Act, Around, Replies, SYNTAX, Session, number};
use crate::front::resp::about;
use crate::front::resp::frame::Command;
use crate::pubsub::Resp;

/// Names of clients and of their libraries are kept no longer than this.
const NAME_LEN_MAX: usize = 256;

/// Which clients are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::front::resp) struct ClientFilter {
    /// Empty: any.
    pub(in crate::front::resp) ids: Vec<u64>,
    pub(in crate::front::resp) address: Option<String>,
    pub(in crate::front::resp) local_address: Option<String>,
    /// Only those that are subscribed to something, or only those that aren't.
    pub(in crate::front::resp) subscribed: Option<bool>,
    /// Of a kind or user that there is none of here.
    pub(in crate::front::resp) nobody: bool,
    pub(in crate::front::resp) except: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::front::resp) struct KillAsked {
    pub(in crate::front::resp) filter: ClientFilter,
    /// The old form names one address, and wants a word instead of a number.
    pub(in crate::front::resp) is_old_form: bool,
}

impl Session {
    pub(super) fn auth(
        &mut self,
        command: Command<'_>,
        around: &dyn Around,
        out: &mut Vec<u8>,
    ) -> Act {
        let (user, password) = match command.len() {
            2 => (&b"default"[..], command.get(1)),
            3 => (command.get(1), command.get(2)),
            _ => {
                self.say_error(out, SYNTAX);
                return Act::Done;
            }
        };
        if command.len() == 2 && !around.is_locked() {
            self.say_error(
                out,
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
            );
            return Act::Done;
        }
        match self.enter(user, password, around) {
            Err(error) => {
                self.say_error(out, error);
                Act::Done
            }
            Ok(act) => {
                self.say_ok(out);
                act
            }
        }
    }

    fn enter(
        &mut self,
        user: &[u8],
        password: &[u8],
        around: &dyn Around,
    ) -> Result<Act, &'static str> {
        let Some(pass) = around.let_in(user, password) else {
            return Err("WRONGPASS invalid username-password pair or user is disabled.");
        };
        if self.pass.as_ref().is_some_and(|own| *own != pass) {
            return Err("ERR this connection came by another key; RESET it, or open another");
        }
        self.pass = Some(pass.clone());
        Ok(match std::mem::replace(&mut self.is_stranger, false) {
            true => Act::Enter(pass),
            false => Act::Done,
        })
    }

    pub(super) fn hello(
        &mut self,
        command: Command<'_>,
        around: &dyn Around,
        out: &mut Vec<u8>,
    ) -> Act {
        match self.try_hello(command, around) {
            Err(error) => {
                self.say_error(out, &error);
                Act::Done
            }
            Ok(act) => {
                let id = self.id;
                self.say(out, |printer| about::hello(printer, id));
                act
            }
        }
    }

    /// Nothing has changed where it fails. So the authentication comes last: whoever is let in has to get a seat.
    fn try_hello(&mut self, command: Command<'_>, around: &dyn Around) -> Result<Act, String> {
        let resp = match command.get(1) {
            _ if command.len() == 1 => self.shown.resp,
            b"2" => Resp::Two,
            b"3" => Resp::Three,
            other if number(other).is_none() => {
                return Err("ERR Protocol version is not an integer or out of range".to_owned());
            }
            _ => return Err("NOPROTO unsupported protocol version".to_owned()),
        };
        let mut credentials = None;
        let mut name = None;
        let mut at = 2;
        while at < command.len() {
            let (option, left) = (command.get(at), command.len() - at - 1);
            if option.eq_ignore_ascii_case(b"auth") && left >= 2 {
                credentials = Some((command.get(at + 1), command.get(at + 2)));
                at += 3;
            } else if option.eq_ignore_ascii_case(b"setname") && left >= 1 {
                name = Some(lawful_name(command.get(at + 1), "Client names")?);
                at += 2;
            } else {
                return Err(format!("ERR Syntax error in HELLO option '{}'", command.text(at)));
            }
        }
        let act = match credentials {
            Some((user, password)) => self.enter(user, password, around)?,
            None => Act::Done,
        };
        if self.is_stranger {
            return Err("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time".to_owned());
        }
        if let Some(name) = name {
            self.shown.names().name = name;
        }
        self.shown.resp = resp;
        Ok(act)
    }

    pub(super) fn client(&mut self, word: &str, command: Command<'_>, out: &mut Vec<u8>) -> Act {
        match self.try_client(word, command, out) {
            Ok(act) => act,
            Err(error) => {
                self.say_error(out, &error);
                Act::Done
            }
        }
    }

    fn try_client(
        &mut self,
        word: &str,
        command: Command<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Act, String> {
        let argument = command.get(2);
        match word {
            "id" => self.say(out, |printer| printer.integer(self.id)),
            "getname" => self.say(out, |printer| {
                if self.shown.name().is_empty() {
                    printer.null();
                } else {
                    printer.bulk(self.shown.name());
                }
            }),
            "setname" => {
                self.shown.names().name = lawful_name(argument, "Client names")?;
                self.say_ok(out);
            }
            "setinfo" => {
                let value = command.get(3);
                if argument.eq_ignore_ascii_case(b"lib-name") {
                    self.shown.names().lib_name = lawful_name(value, "lib-name")?;
                } else if argument.eq_ignore_ascii_case(b"lib-ver") {
                    self.shown.names().lib_ver = lawful_name(value, "lib-ver")?;
                } else {
                    return Err(format!("ERR Unrecognized option '{}'", command.text(2)));
                }
                self.say_ok(out);
            }
            "no-evict" | "no-touch" => {
                let on = on_off(argument).ok_or(SYNTAX)?;
                let flag = match word {
                    "no-evict" => &mut self.shown.no_evict,
                    _ => &mut self.shown.no_touch,
                };
                *flag = on;
                self.say_ok(out);
            }
            "reply" => {
                if argument.eq_ignore_ascii_case(b"skip") {
                    if self.replies != Replies::Off {
                        self.replies = Replies::SkipNext;
                    }
                } else if on_off(argument).ok_or(SYNTAX)? {
                    self.replies = Replies::On;
                    self.muted = false;
                    self.say_ok(out);
                } else {
                    self.replies = Replies::Off;
                }
            }
            "info" => return Ok(Act::ClientInfo),
            "list" => return Ok(Act::ClientList(list_filter(command)?)),
            "kill" => return Ok(Act::ClientKill(self.kill_asked(command)?)),
            _ => self.say(out, |printer| help(printer, HELP)),
        }
        Ok(Act::Done)
    }

    fn kill_asked(&self, command: Command<'_>) -> Result<KillAsked, String> {
        let mut filter = ClientFilter::default();
        if command.len() == 3 {
            filter.address = Some(command.text(2).into_owned());
            return Ok(KillAsked { filter, is_old_form: true });
        }
        filter.except = Some(self.id);
        let mut at = 2;
        while at < command.len() {
            let (option, value) = (command.get(at), command.get(at + 1));
            if at + 1 >= command.len() {
                return Err(SYNTAX.to_owned());
            }
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            if is(b"id") {
                filter.ids = vec![client_id(value)?];
            } else if is(b"addr") {
                filter.address = Some(command.text(at + 1).into_owned());
            } else if is(b"laddr") {
                filter.local_address = Some(command.text(at + 1).into_owned());
            } else if is(b"type") {
                filter.of_type(command, at + 1)?;
            } else if is(b"user") {
                filter.nobody |= value != b"default";
            } else if is(b"skipme") {
                let skip = value.eq_ignore_ascii_case(b"yes");
                if !skip && !value.eq_ignore_ascii_case(b"no") {
                    return Err(SYNTAX.to_owned());
                }
                filter.except = skip.then_some(self.id);
            } else {
                return Err(SYNTAX.to_owned());
            }
            at += 2;
        }
        Ok(KillAsked { filter, is_old_form: false })
    }
}

impl ClientFilter {
    fn of_type(&mut self, command: Command<'_>, at: usize) -> Result<(), String> {
        match command.get(at).to_ascii_lowercase().as_slice() {
            b"normal" => self.subscribed = Some(false),
            b"pubsub" => self.subscribed = Some(true),
            b"master" | b"replica" | b"slave" => self.nobody = true,
            _ => return Err(format!("ERR Unknown client type '{}'", command.text(at))),
        }
        Ok(())
    }
}

fn list_filter(command: Command<'_>) -> Result<ClientFilter, String> {
    let mut filter = ClientFilter::default();
    let option = command.get(2);
    match command.len() {
        2 => {}
        4 if option.eq_ignore_ascii_case(b"type") => filter.of_type(command, 3)?,
        4.. if option.eq_ignore_ascii_case(b"id") => {
            let ids = command.from(3).map(client_id).collect::<Result<_, _>>();
            filter.ids = ids.map_err(|_| "ERR Invalid client ID")?;
        }
        _ => return Err(SYNTAX.to_owned()),
    }
    Ok(filter)
}

fn client_id(text: &[u8]) -> Result<u64, String> {
    number(text)
        .and_then(|id| u64::try_from(id).ok())
        .filter(|id| *id > 0)
        .ok_or_else(|| "ERR client-id should be greater than 0".to_owned())
}

fn on_off(word: &[u8]) -> Option<bool> {
    match word {
        _ if word.eq_ignore_ascii_case(b"on") => Some(true),
        _ if word.eq_ignore_ascii_case(b"off") => Some(false),
        _ => None,
    }
}

/// It stands in lines that people and programs read.
fn lawful_name(name: &[u8], what: &str) -> Result<Box<[u8]>, String> {
    if !name.iter().all(u8::is_ascii_graphic) {
        return Err(format!("ERR {what} cannot contain spaces, newlines or special characters."));
    }
    if name.len() > NAME_LEN_MAX {
        return Err(format!("ERR {what} cannot be longer than {NAME_LEN_MAX} bytes."));
    }
    Ok(name.into())
}

const HELP: &[&str] = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GETNAME",
    "ID",
    "INFO",
    "KILL <ip:port> | KILL <option> <value> [<option> <value> [...]]",
    "LIST [ID <id> ...|TYPE (NORMAL|PUBSUB)]",
    "NO-EVICT (ON|OFF)",
    "NO-TOUCH (ON|OFF)",
    "REPLY (ON|OFF|SKIP)",
    "SETINFO (LIB-NAME|LIB-VER) <value>",
    "SETNAME <name>",
    "HELP",
];
