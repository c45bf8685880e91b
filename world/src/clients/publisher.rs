//! Publishes to all topics, in frames of a few.

use std::time::Duration;

use cluster_tests::client::{Client, ClientError, Got};
use waxwing::wire::v1::{Confirm, Hello};

use super::{AGAIN, Phase, Place, TOPICS, marker_topic, publisher_name, topic};
use cluster_tests::chance::Chance;

const REST: Duration = Duration::from_millis(20);

pub(super) async fn run(place: Place, node: usize, mut chance: Chance) {
    let who = publisher_name(node);
    let mut attachment = 0;
    while place.stage.phase() < Phase::Over {
        if let Ok(mut client) = place.attach(node, &who, attachment, Hello::default()).await {
            // However it ends, it comes back as another attachment.
            let _ = publish(&place, node, &mut client, &mut chance).await;
        }
        attachment += 1;
        tokio::time::sleep(AGAIN).await;
    }
}

async fn publish(
    place: &Place,
    node: usize,
    client: &mut Client,
    chance: &mut Chance,
) -> Result<(), ClientError> {
    let who = publisher_name(node);
    loop {
        let phase = place.stage.phase();
        let done = place.stage.done.borrow().get(&who).copied();
        match phase {
            Phase::Over => return Ok(()),
            Phase::Faults => {
                some(client, chance).await?;
                tokio::time::sleep(chance.ms(10..200)).await;
            }
            Phase::Core | Phase::Final
                if place.stage.takes_part(node, phase) && done < Some(phase) =>
            {
                if place.stage.all_listen(phase) {
                    client.publish_numbered(&marker_topic(phase), Confirm::Node).await?;
                    place.stage.did(&who, phase);
                }
                tokio::time::sleep(REST).await;
            }
            Phase::Core | Phase::Settle | Phase::Final | Phase::Quiet => {
                tokio::time::sleep(REST).await
            }
        }
        while let Ok(Got::GoAway(_) | Got::Gap(_)) = client.event(Duration::ZERO).await {}
    }
}

async fn some(client: &mut Client, chance: &mut Chance) -> Result<(), ClientError> {
    let names: Vec<String> =
        (0..chance.within(1..6)).map(|_| topic(chance.below(TOPICS))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let size = *chance.pick(&[16, 16, 200, 1_500]);
    if chance.one_in(8) {
        client.publish_numbered(names[0], Confirm::Cluster).await?;
        return Ok(());
    }
    client.publish_frame(&names, size).await?;
    if chance.one_in(3) {
        client.flush().await?;
    }
    Ok(())
}
