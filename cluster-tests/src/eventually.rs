//! Waiting for a condition, never for a duration.

use std::time::Duration;

use waxwing::supervise::Clock;

use crate::process::POLL;

/// Asks until the answer is `Ok`. `Ok`: the value, and how long it took. `Err`: the last reason why not.
pub async fn poll<T>(
    clock: Clock,
    within: Duration,
    mut condition: impl AsyncFnMut() -> Result<T, String>,
) -> Result<(T, Duration), String> {
    let start = clock.now();
    loop {
        let reason = match condition().await {
            Ok(value) => return Ok((value, clock.now().since(start))),
            Err(reason) => reason,
        };
        if clock.now().since(start) > within {
            return Err(reason);
        }
        tokio::time::sleep(POLL).await;
    }
}
