//! Takes from the process what would make two runs of one seed differ: the C library's randomness and its clock.
//!
//! The Rust standard library, `getrandom` and through it every other crate find these symbols before the C library's. Keys of hash
//! maps, nonces, gossip's choice of peers: all follow from the seed. The clock stands still but for a nanosecond a look, so that it
//! rises: time in the world is tokio's, which is simulated.

use std::ffi::{c_int, c_long, c_uint, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

static STATE: AtomicU64 = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
static TICKS: AtomicU64 = AtomicU64::new(0);

/// From here on all randomness of this process follows from `seed`.
pub(crate) fn seed(seed: u64) {
    STATE.store(seed ^ 0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
}

fn next() -> u64 {
    let state = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    cluster_tests::chance::mix(state)
}

/// # Safety
/// As the C library's: `buffer` has room for `len` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getrandom(
    buffer: *mut c_void,
    len: usize,
    _flags: c_uint,
) -> isize {
    if len == 0 {
        return 0;
    }
    // SAFETY: the caller promises room for `len` bytes.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len) };
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&next().to_le_bytes()[..chunk.len()]);
    }
    len as isize
}

#[repr(C)]
#[derive(Debug)]
pub(crate) struct Timespec {
    seconds: c_long,
    nanoseconds: c_long,
}

/// # Safety
/// As the C library's: `time` may be written to.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn clock_gettime(_clock: c_int, time: *mut Timespec) -> c_int {
    const START_S: u64 = 1_700_000_000;
    let ticks = TICKS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the caller promises that it may be written to.
    unsafe {
        (*time).seconds = (START_S + ticks / 1_000_000_000) as c_long;
        (*time).nanoseconds = (ticks % 1_000_000_000) as c_long;
    }
    0
}
