//! ● The bounds of what is agreed on. Constants, never settings: members must refuse the same commands.
//!
//! Changing one changes what old entries of a log do when they are applied again, so a change is a new format of the state.

pub const NAMESPACES_MAX: usize = 10_000;
/// As in the access file.
pub const KEYS_MAX: usize = 100_000;
pub const LEASES_MAX: usize = 100_000;
/// So that one tenant can't take them all.
pub const LEASES_PER_NAMESPACE_MAX: usize = 10_000;
/// Of all facts together, about as they stand in a snapshot.
pub const FACTS_BYTES_MAX: u64 = 64 << 20;

pub const LEASE_NAME_LEN_MAX: usize = 256;
pub const NOTE_LEN_MAX: usize = 200;
/// Of who asked, for the audit.
pub const BY_LEN_MAX: usize = 128;
pub const KEY_ID_LEN_MAX: usize = 32;

pub const TTL_MS_MIN: u64 = 1_000;
pub const TTL_MS_MAX: u64 = 24 * 3_600_000;

/// The newest are kept.
pub const AUDIT_LINES_MAX: usize = 1_000;

/// Commands of one entry; each of them is answered.
pub const COMMANDS_MAX: usize = 1_000;
/// Of one command: leases that ran out, or reports of sessions.
pub const ITEMS_MAX: usize = 1_000;
