//! Clients that are somewhere, and clients that look who is: owners track, change their minds, move, break off and come back in time or too
//! late; watchers keep lists. What they run on (a simulated world, processes) is behind a door.

mod owner;
mod watcher;

use std::time::Duration;

use waxwing::wire::v1::Hello;

use crate::client::{Client, ClientError};
use crate::history::Presence;

pub use owner::Owner;
pub use watcher::Watcher;

pub const ROOMS: usize = 2;
/// In milliseconds; one for each session, by chance. Whoever waits for quiet waits for longer.
const LINGERS_MS: [u64; 5] = [0, 400, 1_000, 1_500, 1_500];
/// Between two tries to attach.
const AGAIN: Duration = Duration::from_millis(150);
/// What doesn't answer by then is given up, before the linger is over where that can be.
const ATTACHED_WITHIN: Duration = Duration::from_secs(1);

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Whatever comes to mind.
    Busy,
    /// Owners say that they are here, under this mark; watchers wait for as many.
    Show {
        mark: String,
        owners: usize,
    },
    /// Nobody changes anything; who is away comes back.
    Still,
    Over,
}

/// The way to the nodes.
#[expect(
    async_fn_in_trait,
    reason = "each test bed knows whether its clients are sent between threads"
)]
pub trait Door {
    fn nodes(&self) -> usize;

    /// What the client of this node is to do.
    fn stage(&self, home: usize) -> Stage;

    /// The same whenever it is asked: what one client leaves behind shows to the next.
    fn room(&self, number: usize) -> String {
        format!("room:{number}")
    }

    /// One try.
    async fn attach(
        &self,
        node: usize,
        who: &str,
        attachment: u32,
        hello: Hello,
    ) -> Result<Client, ClientError>;

    /// A mark is shown, or seen.
    fn did(&self, who: &str, mark: &str);

    /// What only a fault excuses.
    fn trouble(&self, what: String);
}

async fn attach(
    door: &impl Door,
    node: usize,
    who: &str,
    attachment: u32,
    hello: Hello,
) -> Option<Client> {
    let attaching = door.attach(node, who, attachment, hello);
    tokio::time::timeout(ATTACHED_WITHIN, attaching).await.ok()?.ok()
}

/// Has every node list every room, at a time when nothing has happened for long. Who could not be asked.
pub async fn list_everywhere(door: &impl Door) -> Vec<String> {
    let mut silent = Vec::new();
    for node in 0..door.nodes() {
        let who = format!("lister{node}");
        let listed = async {
            let mut client = door.attach(node, &who, 0, Hello::default()).await?;
            for room in 0..ROOMS {
                client.list(&door.room(room)).await?;
            }
            client.bye(false).await
        };
        if let Err(error) = listed.await {
            silent.push(format!("node {node} does not list: {error}"));
        }
    }
    silent
}

fn mark_of(door: &impl Door, mark: &str, who: &str) -> Presence {
    Presence { topic: door.room(0), key: format!("mark:{mark}"), id: who.to_owned() }
}
