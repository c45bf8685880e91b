//! Keeps floods away from measurements: tests run in parallel on few cores, and a test that fills them would make another one's
//! "within two seconds" meaningless.

use std::cell::Cell;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static GATE: RwLock<()> = RwLock::const_new(());

thread_local! {
    /// The test that runs on this thread (each has its own) has passed the gate.
    static PASSED: Cell<bool> = const { Cell::new(false) };
}

/// Held by tests that measure time; many may.
pub async fn measuring() -> RwLockReadGuard<'static, ()> {
    let guard = GATE.read().await;
    PASSED.set(true);
    guard
}

/// Held by every cluster whose test does not hold the gate itself, so that a flood is alone.
pub(crate) async fn beside() -> Option<RwLockReadGuard<'static, ()>> {
    if PASSED.get() { None } else { Some(measuring().await) }
}

/// Held by tests that use all the processor there is.
pub async fn flooding() -> RwLockWriteGuard<'static, ()> {
    let guard = GATE.write().await;
    PASSED.set(true);
    guard
}
