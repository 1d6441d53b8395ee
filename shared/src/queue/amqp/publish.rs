//! Sending: one connection, made when it is needed, dropped at any trouble.

use super::convert::{properties, short};
use super::link::{Broker, words};
use super::topology::declare_exchanges;
use super::{AmqpSettings, PATIENCE};
use crate::queue::{Outgoing, PublishError, Receiver};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ErrorKind};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Where a message is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The exchange; empty for a queue by its name.
    pub exchange: String,
    /// The routing key, or the queue's name.
    pub routing_key: String,
}

impl Address {
    /// An exchange and a routing key.
    pub fn new(exchange: &str, routing_key: impl Into<String>) -> Self {
        Address { exchange: exchange.to_owned(), routing_key: routing_key.into() }
    }

    /// A queue.
    pub fn queue(name: impl Into<String>) -> Self {
        Address::new("", name)
    }
}

/// Sends messages and waits until the broker has them on its disk.
#[derive(Debug)]
pub struct Publisher {
    broker: Broker,
    open: Mutex<Option<Arc<Open>>>,
}

#[derive(Debug)]
struct Open {
    // Dropped with the channel: that ends it.
    connection: Connection,
    channel: Channel,
}

impl Publisher {
    /// A publisher that has not connected yet. The error says what is wrong with the address, without repeating it.
    pub fn new(settings: AmqpSettings) -> Result<Self, String> {
        Ok(Publisher { broker: Broker::new(settings)?, open: Mutex::new(None) })
    }

    /// The broker, without credentials.
    pub fn place(&self) -> &str {
        self.broker.place()
    }

    /// What it works by.
    pub fn settings(&self) -> &AmqpSettings {
        self.broker.settings()
    }

    /// Sends a message; when this returns, the broker has it. After [`PublishError::Unavailable`] it may have it, too.
    pub async fn publish(&self, to: &Address, message: &Outgoing, receiver: Receiver) -> Result<(), PublishError> {
        self.send(to, &message.body, properties(message), receiver).await
    }

    pub(super) async fn send(
        &self,
        to: &Address,
        body: &[u8],
        properties: BasicProperties,
        receiver: Receiver,
    ) -> Result<(), PublishError> {
        let open = self.opened().await?;
        let sent = tokio::time::timeout(PATIENCE, sent(&open.channel, to, body, properties, receiver)).await;
        let problem = match sent {
            Ok(Ok(Confirmation::Ack(None) | Confirmation::NotRequested)) => return Ok(()),
            Ok(Ok(Confirmation::Ack(Some(_)))) => return Err(self.unroutable(to)),
            // A full queue, for example.
            Ok(Ok(Confirmation::Nack(_))) => {
                return Err(self.broker.unavailable("the broker did not take the message"));
            }
            Ok(Err(error)) if is_missing(&error) => self.unroutable(to),
            Ok(Err(error)) => self.broker.unavailable(format!("sending: {}", words(&error))),
            Err(_) => self.broker.unavailable(format!("the broker did not confirm within {} s", PATIENCE.as_secs())),
        };
        self.drop_link(&open).await;
        Err(problem)
    }

    fn unroutable(&self, to: &Address) -> PublishError {
        let address = if to.exchange.is_empty() {
            format!("the queue {:?}", to.routing_key)
        } else {
            format!("{} {:?}", to.exchange, to.routing_key)
        };
        PublishError::Unroutable { place: self.broker.place().to_owned(), address }
    }

    async fn opened(&self) -> Result<Arc<Open>, PublishError> {
        let mut slot = self.open.lock().await;
        if let Some(open) = slot.as_ref().filter(|open| open.is_usable()) {
            return Ok(open.clone());
        }
        *slot = None;
        let connection = self.broker.connect("sends").await?;
        declare_exchanges(&self.broker, &connection).await?;
        let channel = self.broker.within(PATIENCE, "opening a channel", connection.create_channel()).await?;
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        self.broker.within(PATIENCE, "asking for confirms", confirms).await?;
        let open = Arc::new(Open { connection, channel });
        *slot = Some(open.clone());
        Ok(open)
    }

    /// Lets go of a link in trouble, unless somebody has made a new one already.
    async fn drop_link(&self, open: &Arc<Open>) {
        let mut slot = self.open.lock().await;
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, open)) {
            *slot = None;
        }
    }
}

impl Open {
    fn is_usable(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }
}

async fn sent(
    channel: &Channel,
    to: &Address,
    body: &[u8],
    properties: BasicProperties,
    receiver: Receiver,
) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: receiver == Receiver::Needed, immediate: false };
    let (exchange, key) = (short(&to.exchange), short(&to.routing_key));
    channel.basic_publish(exchange, key, options, body, properties).await?.await
}

/// 404: there is no such exchange.
fn is_missing(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == 404)
}
