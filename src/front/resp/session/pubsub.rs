//! ● Acknowledgements and counts of subscriptions, and what is told of other clients' ones.

use super::{Act, Kind, Session};
use crate::front::resp::print::Printer;

impl Kind {
    fn words(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Channel => (b"subscribe", b"unsubscribe"),
            Self::Pattern => (b"psubscribe", b"punsubscribe"),
            Self::Sharded => (b"ssubscribe", b"sunsubscribe"),
        }
    }
}

impl Session {
    /// The subscription stands, or stood already.
    pub(in crate::front::resp) fn subscribed(
        &mut self,
        kind: Kind,
        name: &[u8],
        is_new: bool,
        out: &mut Vec<u8>,
    ) {
        *self.count(kind) += u32::from(is_new);
        self.acknowledge(kind, kind.words().0, Some(name), out);
    }

    /// The subscription has ended, or there was none. No name: there was nothing to end.
    pub(in crate::front::resp) fn unsubscribed(
        &mut self,
        kind: Kind,
        name: Option<&[u8]>,
        was_there: bool,
        out: &mut Vec<u8>,
    ) {
        let count = self.count(kind);
        *count = count.saturating_sub(u32::from(was_there));
        self.acknowledge(kind, kind.words().1, name, out);
    }

    fn count(&mut self, kind: Kind) -> &mut u32 {
        match kind {
            Kind::Channel => &mut self.shown.channels,
            Kind::Pattern => &mut self.shown.patterns,
            Kind::Sharded => &mut self.shown.sharded,
        }
    }

    fn acknowledge(&self, kind: Kind, word: &[u8], name: Option<&[u8]>, out: &mut Vec<u8>) {
        let count = match kind {
            Kind::Channel | Kind::Pattern => self.shown.channels + self.shown.patterns,
            Kind::Sharded => self.shown.sharded,
        };
        let mut printer = Printer::new(out, self.shown.resp);
        printer.push(3);
        printer.bulk(word);
        match name {
            Some(name) => printer.bulk(name),
            None => printer.null(),
        }
        printer.integer(count.into());
    }

    pub(super) fn pubsub(&mut self, word: &str, out: &mut Vec<u8>) -> Act {
        match word {
            "channels" => Act::Channels { sharded: false },
            "shardchannels" => Act::Channels { sharded: true },
            "numsub" => Act::Subscribers { sharded: false },
            "shardnumsub" => Act::Subscribers { sharded: true },
            "numpat" => Act::Patterns,
            _ => {
                self.say(out, |printer| help(printer, HELP));
                Act::Done
            }
        }
    }
}

const HELP: &[&str] = &[
    "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CHANNELS [<pattern>]",
    "    Channels with subscribers in the whole cluster.",
    "NUMPAT",
    "    Number of different patterns subscribed to in the whole cluster.",
    "NUMSUB [<channel> ...]",
    "    Subscribers of each channel in the whole cluster, those by pattern not counted.",
    "SHARDCHANNELS [<pattern>]",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    The same of sharded channels.",
    "HELP",
    "    Prints this help.",
];

pub(in crate::front::resp) fn help(printer: &mut Printer<'_>, lines: &[&'static str]) {
    printer.array(lines.len());
    for line in lines {
        printer.simple(line);
    }
}
