//! Power cuts at every write and sync of a life: what was acknowledged is there afterwards, and what was not is there whole or not at all.

use super::super::disk::Disk;
use super::super::{Store, StoreError};
use super::faulty::Faulty;
use super::{Life, cluster, held, life};

fn store_on(disk: &Faulty) -> Result<Store, StoreError> {
    Store::judged(Disk::on(disk.clone())?, &cluster(), 1)
}

/// The same numbers for the same seed (splitmix64).
fn dice(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// Lives until the disk fails after so many operations; then what is there must be what was acknowledged, or that and the step on its way.
async fn crash_after(ops: u64, seed: u64) {
    let disk = Faulty::failing_after(ops);
    let mut dice = dice(seed.wrapping_add(ops));
    // One that isn't whole yet has another name, and is made anew.
    let Ok(store) = store_on(&disk) else { return };
    let mut life_of = Life::of(store);
    let mut on_its_way = None;
    for step in life() {
        let after = life_of.after(&step);
        if !life_of.take(&step).await {
            on_its_way = Some(after);
            break;
        }
    }
    // A cut in the middle of coming back, too.
    let image = disk.after_power_cut(&mut dice);
    let again = Faulty::failing_after(dice() % 20);
    again.refill(image.clone());
    drop(store_on(&again));
    for image in [image, again.after_power_cut(&mut dice)] {
        let store = store_on(&Faulty::holding(image));
        let store = store.unwrap_or_else(|error| panic!("operation {ops}, seed {seed}: {error}"));
        let there = held(store).await;
        let is_right = there == life_of.expected || Some(&there) == on_its_way.as_ref();
        assert!(is_right, "operation {ops}, seed {seed}: {there:#?}\n{:#?}", life_of.expected);
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_wherever_the_power_is_cut() {
    let whole = Faulty::default();
    let mut life_of = Life::of(store_on(&whole).unwrap());
    for step in life() {
        assert!(life_of.take(&step).await);
    }
    let all = whole.ops();
    assert!(all > 100, "{all} operations are no life");
    let every = std::env::var("WAXWING_CRASHES").ok().and_then(|text| text.parse().ok());
    for seed in 0..every.unwrap_or(1_u64) {
        for ops in 0..=all {
            crash_after(ops, seed).await;
        }
    }
}
