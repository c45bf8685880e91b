//! Reads a message of chitchat before chitchat does. Pure.
//!
//! chitchat 0.11 inflates whatever a message claims, and panics on keys that don't start with an ASCII character and on deltas whose
//! versions contradict each other; all of its rows come from such messages. So every message is walked here first, and one that isn't
//! as a sound node would have made it never gets there.

use chitchat::{ChitchatId, Deserializable};

use super::envelope::INCARNATION_MAX;
use super::rejected::Rejected;
use super::row;
use crate::types::NodeName;

const MAGIC: u16 = 45_139;
const PROTOCOL: u8 = 0;
/// The most that chitchat gives one block when inflating.
const BLOCK_MAX: usize = u16::MAX as usize;
/// Leaves room for versions to rise for as long as anything runs.
const VERSION_MAX: u64 = 1 << 60;
const KEYS_MAX: usize = 64;

/// What a message may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of deltas once inflated.
    pub(super) inflated: usize,
    /// Incarnations that one message speaks of.
    pub(super) nodes: usize,
}

/// Every incarnation that the message speaks of.
pub(super) fn check(message: &[u8], bounds: Bounds) -> Result<Vec<ChitchatId>, Rejected> {
    let mut reader = Reader { rest: message };
    if reader.read::<u16>()? != MAGIC || reader.read::<u8>()? != PROTOCOL {
        return Err(Rejected::Content);
    }
    let mut nodes = Vec::new();
    match reader.read::<u8>()? {
        0 => {
            digest(&mut reader, &mut nodes, bounds)?;
            reader.read::<String>()?;
        }
        1 => {
            digest(&mut reader, &mut nodes, bounds)?;
            delta(&mut reader, &mut nodes, bounds)?;
        }
        2 => delta(&mut reader, &mut nodes, bounds)?,
        3 => {}
        _ => return Err(Rejected::Content),
    }
    if reader.rest.is_empty() { Ok(nodes) } else { Err(Rejected::Content) }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn read<T: Deserializable>(&mut self) -> Result<T, Rejected> {
        T::deserialize(&mut self.rest).map_err(|_| Rejected::Content)
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Rejected> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Rejected::Content)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn version(&mut self) -> Result<u64, Rejected> {
        let version = self.read()?;
        if version > VERSION_MAX { Err(Rejected::Content) } else { Ok(version) }
    }

    fn node(&mut self, nodes: &mut Vec<ChitchatId>, bounds: Bounds) -> Result<(), Rejected> {
        let id: ChitchatId = self.read()?;
        let lawful = NodeName::parse(&id.node_id).is_ok() && id.generation_id <= INCARNATION_MAX;
        if !lawful || nodes.len() >= bounds.nodes {
            return Err(Rejected::Content);
        }
        nodes.push(id);
        Ok(())
    }
}

fn digest(
    reader: &mut Reader<'_>,
    nodes: &mut Vec<ChitchatId>,
    bounds: Bounds,
) -> Result<(), Rejected> {
    for _ in 0..reader.read::<u16>()? {
        reader.node(nodes, bounds)?;
        reader.version()?;
        reader.version()?;
        reader.version()?;
    }
    Ok(())
}

/// Blocks of operations, each as it is or compressed.
fn delta(
    reader: &mut Reader<'_>,
    nodes: &mut Vec<ChitchatId>,
    bounds: Bounds,
) -> Result<(), Rejected> {
    let mut inflated = Vec::new();
    loop {
        let kind = reader.read::<u8>()?;
        if kind == 0 {
            break;
        }
        let len = reader.read::<u16>()?;
        let block = reader.bytes(usize::from(len))?;
        let room = (bounds.inflated - inflated.len()).min(BLOCK_MAX);
        match kind {
            // zstd refuses a block that would inflate to more than `room`, in the same way as one that is damaged.
            1 => {
                let block = zstd::bulk::decompress(block, room).map_err(|_| Rejected::Size)?;
                inflated.extend_from_slice(&block);
            }
            2 if block.len() <= room => inflated.extend_from_slice(block),
            2 => return Err(Rejected::Size),
            _ => return Err(Rejected::Content),
        }
    }
    operations(&mut Reader { rest: &inflated }, nodes, bounds)
}

fn operations(
    reader: &mut Reader<'_>,
    nodes: &mut Vec<ChitchatId>,
    bounds: Bounds,
) -> Result<(), Rejected> {
    /// Of the node that the operations speak of.
    struct Node {
        keys: usize,
        version: u64,
    }
    let mut of: Option<Node> = None;
    // The delta speaks of nodes that the digest named too.
    let mut named = Vec::new();
    while !reader.rest.is_empty() {
        match (reader.read::<u8>()?, &mut of) {
            (0, _) => {
                reader.node(&mut named, bounds)?;
                reader.version()?;
                reader.version()?;
                of = Some(Node { keys: 0, version: 0 });
            }
            (1, Some(node)) => {
                let (key, value): (String, String) = (reader.read()?, reader.read()?);
                let version = reader.version()?;
                let status = reader.read::<u8>()?;
                node.keys += 1;
                if !row::lawful(&key, &value)
                    || version <= node.version
                    || status > 2
                    || node.keys > KEYS_MAX
                {
                    return Err(Rejected::Content);
                }
                node.version = version;
            }
            // Only said of a node without keys; a lower version than its keys have would be a contradiction.
            (2, Some(node)) if node.keys == 0 => {
                node.version = reader.version()?;
            }
            _ => return Err(Rejected::Content),
        }
    }
    nodes.append(&mut named);
    Ok(())
}

#[cfg(test)]
mod tests;
