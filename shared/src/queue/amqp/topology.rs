//! What must be there before messages can come or go.
//!
//! Everything is declared; what is there already in another form, or may only be looked at, is taken as it is.

use super::link::{Broker, words};
use super::{DEAD, DELIVERY_LIMIT, EVENTS, JOBS, PATIENCE, QueueKind};
use crate::queue::PublishError;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};

/// Something to be declared.
enum Thing {
    Exchange(&'static str),
    Queue { name: String, arguments: FieldTable },
    Binding { queue: String, exchange: &'static str, key: String },
}

/// Declares all that is needed to take messages in and to bury them.
pub(super) async fn declare_all(broker: &Broker, connection: &Connection) -> Result<(), PublishError> {
    let settings = broker.settings();
    let mut things: Vec<Thing> = [JOBS, DEAD, EVENTS].map(Thing::Exchange).into();
    // Kept by a classic queue: it never takes a message for poison because people looked at it often.
    things.push(Thing::Queue { name: DEAD.into(), arguments: FieldTable::default() });
    things.push(Thing::Binding { queue: DEAD.into(), exchange: DEAD, key: "#".into() });
    things.push(Thing::Queue { name: settings.queue(), arguments: arguments(settings.kind) });
    things.push(Thing::Binding { queue: settings.queue(), exchange: JOBS, key: format!("{}.*", settings.group) });
    declare(broker, connection, things).await
}

/// Declares where messages are sent to.
pub(super) async fn declare_exchanges(broker: &Broker, connection: &Connection) -> Result<(), PublishError> {
    declare(broker, connection, [JOBS, DEAD, EVENTS].map(Thing::Exchange).into()).await
}

fn arguments(kind: QueueKind) -> FieldTable {
    let mut table = FieldTable::default();
    table.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(DEAD.into()));
    if kind == QueueKind::Quorum {
        table.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        table.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
    }
    table
}

async fn declare(broker: &Broker, connection: &Connection, things: Vec<Thing>) -> Result<(), PublishError> {
    let mut channel = open(broker, connection).await?;
    for thing in things {
        let Err(error) = timed(thing.declare(&channel, false)).await else { continue };
        if !is_refusal(&error) {
            return Err(broker.unavailable(format!("declaring {}: {}", thing.name(), words(&error))));
        }
        // A refusal ends the channel.
        channel = open(broker, connection).await?;
        let place = broker.place();
        tracing::warn!(place, what = thing.name(), error = words(&error), "it is taken as it is");
        if let Err(error) = timed(thing.declare(&channel, true)).await {
            return Err(broker.unavailable(format!("{} is not there: {}", thing.name(), words(&error))));
        }
    }
    broker.within(PATIENCE, "closing a channel", channel.close(200, "declared".into())).await
}

async fn open(broker: &Broker, connection: &Connection) -> Result<Channel, PublishError> {
    broker.within(PATIENCE, "opening a channel", connection.create_channel()).await
}

async fn timed(work: impl Future<Output = lapin::Result<()>>) -> lapin::Result<()> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// 406: it is there in another form. 403: this user may not make it. 405: somebody else has it for himself.
fn is_refusal(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if [403, 405, 406].contains(&error.get_id()))
}

impl Thing {
    fn name(&self) -> String {
        match self {
            Thing::Exchange(name) => format!("the exchange {name}"),
            Thing::Queue { name, .. } => format!("the queue {name}"),
            Thing::Binding { queue, exchange, .. } => format!("the binding of {queue} to {exchange}"),
        }
    }

    /// Makes it, or where `passive` only looks whether it is there. Whether a binding is there cannot be asked.
    async fn declare(&self, channel: &Channel, passive: bool) -> lapin::Result<()> {
        match self {
            Thing::Exchange(name) => {
                let options = ExchangeDeclareOptions { passive, durable: true, ..Default::default() };
                let none = FieldTable::default();
                channel.exchange_declare((*name).into(), ExchangeKind::Topic, options, none).await
            }
            Thing::Queue { name, arguments } => {
                let options = QueueDeclareOptions { passive, durable: true, ..Default::default() };
                channel.queue_declare(name.as_str().into(), options, arguments.clone()).await.map(drop)
            }
            Thing::Binding { .. } if passive => Ok(()),
            Thing::Binding { queue, exchange, key } => {
                let (queue, exchange, key) = (queue.as_str().into(), (*exchange).into(), key.as_str().into());
                channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default()).await
            }
        }
    }
}
