//! Keeps floods away from measurements: tests run in parallel on few cores, and a test that fills them would make another one's
//! "within two seconds" meaningless.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static GATE: RwLock<()> = RwLock::const_new(());

/// Held by tests that measure time; many may.
pub async fn measuring() -> RwLockReadGuard<'static, ()> {
    GATE.read().await
}

/// Held by tests that use all the processor there is.
pub async fn flooding() -> RwLockWriteGuard<'static, ()> {
    GATE.write().await
}
