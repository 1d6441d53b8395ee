//! Dead letters: looked at, sent again, or dropped, by a person.

use super::convert::{AT, REASON, ROUTING_KEY, headers, unburied};
use super::link::Broker;
use super::publish::{Address, Publisher};
use super::topology::declare_all;
use super::{AmqpSettings, DEAD, JOBS, PATIENCE};
use crate::queue::{PublishError, Receiver};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicGetOptions};
use lapin::{Channel, Connection};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// A message that could not be taken.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetter {
    /// Its name: the same every time it is looked at.
    pub id: String,
    /// Why it could not be taken.
    pub reason: String,
    /// When that was found out, where it is known.
    pub at: Option<String>,
    /// Where it was sent first.
    pub routing_key: String,
    /// Bytes of its body.
    pub bytes: usize,
    /// Its body as text, as far as it is text.
    pub body: String,
    /// Its headers.
    pub headers: BTreeMap<String, Value>,
}

/// The queue of dead letters, while somebody looks at it. What is not sent again or dropped stays there, in its order.
pub struct DeadLetters {
    publisher: Publisher,
    _connection: Connection,
    channel: Channel,
    deliveries: Vec<Delivery>,
}

impl DeadLetters {
    /// Takes up to `limit` letters out, the oldest first, until this is dropped: nobody else sees them meanwhile.
    pub async fn open(settings: AmqpSettings, limit: usize) -> Result<Self, PublishError> {
        let wrong = |message| PublishError::Rejected { place: "url of [queue]".into(), message };
        let broker = Broker::new(settings.clone()).map_err(wrong)?;
        let publisher = Publisher::new(settings).map_err(wrong)?;
        let connection = broker.connect("looks at dead letters").await?;
        declare_all(&broker, &connection).await?;
        let channel = broker.within(PATIENCE, "opening a channel", connection.create_channel()).await?;
        let mut deliveries = Vec::new();
        while deliveries.len() < limit {
            let get = channel.basic_get(DEAD.into(), BasicGetOptions::default());
            match broker.within(PATIENCE, "getting a dead letter", get).await? {
                Some(found) => deliveries.push(found.delivery),
                None => break,
            }
        }
        Ok(DeadLetters { publisher, _connection: connection, channel, deliveries })
    }

    /// The letters, the oldest first.
    pub fn list(&self) -> Vec<DeadLetter> {
        self.deliveries.iter().map(letter).collect()
    }

    /// Sends letters whose id is in `ids` again, as they were; returns how many.
    ///
    /// Each is taken away when the broker has it where it goes: a crash between leaves it twice, which harms nobody.
    pub async fn requeue(&self, ids: &[String]) -> Result<usize, PublishError> {
        let mut done = 0;
        for delivery in self.chosen(ids) {
            let to = Address::new(JOBS, letter(delivery).routing_key);
            self.publisher.send(&to, &delivery.data, unburied(delivery), Receiver::Needed).await?;
            self.remove(delivery).await?;
            done += 1;
        }
        self.flushed().await?;
        Ok(done)
    }

    /// Removes letters whose id is in `ids` for good; returns how many.
    pub async fn discard(&self, ids: &[String]) -> Result<usize, PublishError> {
        let mut done = 0;
        for delivery in self.chosen(ids) {
            self.remove(delivery).await?;
            done += 1;
        }
        self.flushed().await?;
        Ok(done)
    }

    fn chosen<'a>(&'a self, ids: &'a [String]) -> impl Iterator<Item = &'a Delivery> {
        self.deliveries.iter().filter(|delivery| ids.contains(&id(delivery)))
    }

    async fn remove(&self, delivery: &Delivery) -> Result<(), PublishError> {
        let acknowledged = delivery.ack(BasicAckOptions::default()).await;
        acknowledged.map(drop).map_err(|error| self.unavailable(&error))
    }

    /// Acknowledgements have no answer; that of a later question says that they were heard.
    async fn flushed(&self) -> Result<(), PublishError> {
        let closed = tokio::time::timeout(PATIENCE, self.channel.close(200, "done".into())).await;
        match closed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.unavailable(&error)),
            Err(_) => Err(PublishError::Unavailable {
                place: self.publisher.place().to_owned(),
                message: "the broker does not answer".into(),
            }),
        }
    }

    fn unavailable(&self, error: &lapin::Error) -> PublishError {
        PublishError::Unavailable { place: self.publisher.place().to_owned(), message: super::link::words(error) }
    }
}

fn id(delivery: &Delivery) -> String {
    let mut hash = Sha256::new();
    hash.update(&delivery.data);
    let headers = headers(&delivery.properties);
    hash.update(headers.get(AT).map(Value::to_string).unwrap_or_default());
    hash.update(delivery.routing_key.as_str());
    hex::encode(&hash.finalize()[..6])
}

fn letter(delivery: &Delivery) -> DeadLetter {
    let headers = headers(&delivery.properties);
    let text = |name: &str| headers.get(name).and_then(Value::as_str).map(str::to_owned);
    DeadLetter {
        id: id(delivery),
        reason: text(REASON).unwrap_or_else(|| by_the_broker(&headers)),
        at: text(AT),
        routing_key: text(ROUTING_KEY).unwrap_or_else(|| delivery.routing_key.to_string()),
        bytes: delivery.data.len(),
        body: String::from_utf8_lossy(&delivery.data).into_owned(),
        headers,
    }
}

/// Why the broker itself put a message aside.
fn by_the_broker(headers: &BTreeMap<String, Value>) -> String {
    let reason = headers.get("x-death").and_then(|deaths| deaths.get(0)?.get("reason")?.as_str());
    match reason {
        Some("delivery_limit") => "workers died over it again and again".into(),
        Some(other) => format!("put aside by the broker: {other}"),
        None => "put aside by somebody else".into(),
    }
}
