//! `PUBSUB`: who is subscribed to what. Of one namespace one looks at a time, and gives way as it goes: what it has may be much.

use bytes::Bytes;

use super::Talk;
use crate::broker::{BrokerError, Ending};
use crate::front::resp::command;
use crate::front::resp::frame::Command;
use crate::types::topic::BadTopic;

/// So many names are judged in one go; a key may have many patterns.
const NAMES_AT_ONCE: usize = 64;

impl Talk<'_> {
    pub(super) async fn channels(
        &mut self,
        sharded: bool,
        command: Command<'_>,
    ) -> Result<(), Ending> {
        if command.len() > 3 {
            let error = command::wrong_subcommand("PUBSUB", command);
            self.connection.session.say_error(&mut self.answers, &error);
            return Ok(());
        }
        let glob = Bytes::copy_from_slice(command.get(2));
        if glob.len() > self.limits.topic {
            let error = BadTopic::TooLong { len: glob.len(), max: self.limits.topic };
            self.refuse(&error.into());
            return Ok(());
        }
        // To the router no pattern means all names.
        let is_of_no_name = command.len() > 2 && glob.is_empty();
        let Some(seat) = &self.connection.seat else {
            self.refuse(&BrokerError::Invalid("not authenticated".to_owned()));
            return Ok(());
        };
        let (router, pass) = (self.connection.shared.deps.router.clone(), seat.pass.clone());
        let namespace = seat.namespace(sharded).clone();
        let look = async {
            let _turn = pass.turn_to_look().await;
            let mut names = Vec::new();
            for (n, name) in router.names(&namespace, glob).await.into_iter().enumerate() {
                if n % NAMES_AT_ONCE == NAMES_AT_ONCE - 1 {
                    tokio::task::yield_now().await;
                }
                if pass.may_know(&name) && (name.is_empty() || !is_of_no_name) {
                    names.push(name);
                }
            }
            names
        };
        let names = self.connection.wait(look).await?;
        self.say(|printer| {
            printer.array(names.len());
            names.iter().for_each(|name| printer.bulk(name));
        });
        Ok(())
    }

    pub(super) async fn patterns(&mut self) -> Result<(), Ending> {
        let Some(seat) = &self.connection.seat else {
            self.refuse(&BrokerError::Invalid("not authenticated".to_owned()));
            return Ok(());
        };
        let (router, pass) = (self.connection.shared.deps.router.clone(), seat.pass.clone());
        let namespace = seat.namespace(false).clone();
        let look = async {
            let _turn = pass.turn_to_look().await;
            router.patterns(&namespace).await
        };
        let patterns = self.connection.wait(look).await?;
        self.say(|printer| printer.integer(patterns));
        Ok(())
    }

    pub(super) async fn subscribers(
        &mut self,
        sharded: bool,
        command: Command<'_>,
    ) -> Result<(), Ending> {
        let Some(seat) = &self.connection.seat else {
            self.refuse(&BrokerError::Invalid("not authenticated".to_owned()));
            return Ok(());
        };
        let (router, pass) = (self.connection.shared.deps.router.clone(), seat.pass.clone());
        let namespace = seat.namespace(sharded).clone();
        let len_max = self.limits.topic;
        let look = async {
            let mut counts = Vec::new();
            for (n, name) in command.from(2).enumerate() {
                if n % NAMES_AT_ONCE == NAMES_AT_ONCE - 1 {
                    tokio::task::yield_now().await;
                }
                let topic = router.hasher().binary_topic(&namespace, name, len_max).ok();
                let topic = topic.filter(|_| pass.may_know(name));
                counts.push(topic.map_or(0, |topic| router.subscriptions(&topic)));
            }
            counts
        };
        let counts = self.connection.wait(look).await?;
        self.say(|printer| {
            printer.array(2 * counts.len());
            for (name, count) in command.from(2).zip(&counts) {
                printer.bulk(name);
                printer.integer(*count);
            }
        });
        Ok(())
    }
}
