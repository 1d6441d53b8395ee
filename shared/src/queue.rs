//! The door to a message broker: wishes come in, answers go out.
//!
//! A message is a doorbell, not the truth: it is acknowledged when the record has it, and from then on the broker may lose
//! whatever it likes. So a message may come twice, and one that cannot be recorded now is left where it is.

pub mod amqp;

use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeMap;

/// A message as it came in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    /// What it says.
    pub body: Vec<u8>,
    /// Media type of the body, where it was said.
    pub content_type: Option<String>,
    /// How the body is encoded beyond that, where it was said.
    pub content_encoding: Option<String>,
    /// Words beside the body; nested deeper than [`amqp::MAX_DEPTH`] they are left out.
    pub headers: BTreeMap<String, Value>,
    /// Where an answer is wished.
    pub reply_to: Option<String>,
    /// What the answer is to be told apart by.
    pub correlation_id: Option<String>,
    /// Where it was sent.
    pub routing_key: String,
}

/// What becomes of a message that came in.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The record has it, now or from before.
    Taken,
    /// It can never be taken.
    Buried {
        /// Why, for a person; never repeats a secret.
        reason: String,
        /// What its sender is told, where it waits for an answer.
        answer: Option<Answer>,
    },
}

/// A message to one who waits for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The queue it waits at.
    pub to: String,
    /// What it is told.
    pub message: Outgoing,
}

/// Why a message cannot be taken now: it stays with the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotNow(pub String);

/// Whoever takes messages in.
#[async_trait]
pub trait Intake: Send + Sync {
    /// Takes a message in, durably: when this returns, its sender may forget it.
    async fn take(&self, message: &Message) -> Result<Verdict, NotNow>;

    /// Waits until messages can be taken again. Safe to cancel.
    async fn ready(&self);
}

/// What is sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outgoing {
    /// What it says.
    pub body: Vec<u8>,
    /// Media type of the body.
    pub content_type: String,
    /// Its own id, the same at every try.
    pub message_id: Option<String>,
    /// What an answer is told apart by.
    pub correlation_id: Option<String>,
    /// Words beside the body.
    pub headers: BTreeMap<String, Value>,
    /// 0 (last) to 9 (first), where it matters.
    pub priority: Option<u8>,
}

/// Whether somebody must be there to receive it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// A message that nobody receives was not sent: [`PublishError::Unroutable`].
    Needed,
    /// It is for whoever listens.
    Optional,
}

/// Why a message was not sent.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// The broker cannot be reached, or did not confirm in time: it may have the message, or not.
    #[error("{place}: {message}")]
    Unavailable {
        /// The broker, without credentials.
        place: String,
        /// Facts.
        message: String,
    },
    /// No queue takes messages of that address.
    #[error("{place}: no queue takes messages for {address}")]
    Unroutable {
        /// The broker.
        place: String,
        /// Exchange and routing key.
        address: String,
    },
    /// The broker will not take it, now or later.
    #[error("{place}: {message}")]
    Rejected {
        /// The broker.
        place: String,
        /// Facts.
        message: String,
    },
}
