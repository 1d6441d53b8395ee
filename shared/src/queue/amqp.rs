//! RabbitMQ by AMQP 0-9-1: the only module that knows lapin.
//!
//! lapin's own recovery is not used: it gives up after some tries, and what it restores is not what was there. Each
//! connection has one supervisor instead, that drops it at any error, at the end of a stream and at silence, and begins
//! anew. So nothing here is ever half connected, and a message that comes twice harms nobody.
//!
//! One connection takes in, another one sends: a broker that is short of memory stops whoever sends, and must not keep
//! messages from being acknowledged.

mod consume;
mod convert;
mod dead;
mod link;
mod publish;
mod topology;

pub use consume::Consumer;
pub use convert::MAX_DEPTH;
pub use dead::{DeadLetter, DeadLetters};
pub use publish::{Address, Publisher};

use crate::model::Secret;
use std::time::Duration;

/// Where wishes are sent to: a durable topic exchange. Routing keys are `<group>.<kind>`.
pub const JOBS: &str = "holdfast.jobs";
/// Where messages go that can never be taken: a durable topic exchange, and the queue behind it.
pub const DEAD: &str = "holdfast.dead";
/// Where answers are told: a durable topic exchange. Routing keys are `job.<state>.<database>`.
pub const EVENTS: &str = "holdfast.events";
/// What names of exchanges and queues of ours begin with.
pub const OURS: &str = "holdfast.";

/// How often a message may come back from workers that died over it before the broker takes it for poison.
const DELIVERY_LIMIT: i64 = 20;
/// How long the broker may take for anything that is not a message.
const PATIENCE: Duration = Duration::from_secs(15);

/// How the jobs' queue keeps its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueKind {
    /// On the disks of several brokers, where there are several.
    #[default]
    Quorum,
    /// On one broker's disk.
    Classic,
}

/// How a broker is reached and what is there.
#[derive(Debug, Clone)]
pub struct AmqpSettings {
    /// `amqp://` or `amqps://` with user, password, host, port and virtual host (`%2f` is the usual one).
    pub url: Secret,
    /// The workers that share a queue: `holdfast.jobs.<group>`.
    pub group: String,
    /// How that queue keeps its messages.
    pub kind: QueueKind,
    /// How often either side gives a sign of life; one that gave none for twice as long is taken for gone.
    pub heartbeat: Duration,
    /// Messages that are taken in at once.
    pub prefetch: u16,
}

impl AmqpSettings {
    /// Says what is wrong with the address, without repeating it.
    pub fn check(&self) -> Result<(), String> {
        link::Broker::new(self.clone()).map(drop)
    }

    /// The broker, without credentials.
    pub fn place(&self) -> String {
        link::Broker::new(self.clone()).map_or_else(|why| why, |broker| broker.place().to_owned())
    }

    /// The queue of the group.
    pub fn queue(&self) -> String {
        format!("{JOBS}.{}", self.group)
    }

    /// The routing key of a kind of job.
    pub fn routing_key(&self, kind: &str) -> String {
        format!("{}.{kind}", self.group)
    }
}
