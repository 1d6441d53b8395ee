//! Taking in: one supervisor, for ever.

use super::convert::{buried, message};
use super::link::{Broker, words};
use super::publish::{Address, Publisher};
use super::topology::declare_all;
use super::{AmqpSettings, DEAD, PATIENCE};
use crate::clock::Clock;
use crate::queue::{Answer, Intake, Receiver, Verdict};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// The first pause before the broker is tried again; it doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// What is under way at the end is waited for.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Takes messages in.
pub struct Consumer {
    broker: Broker,
    publisher: Publisher,
    intake: Arc<dyn Intake>,
    clock: Arc<dyn Clock>,
    /// Messages taken in so far: a session that took none was no success.
    taken: AtomicU64,
}

/// How a session ended.
enum Ended {
    /// As it was asked to.
    Stopped,
    /// Messages cannot be recorded now.
    NotNow(String),
    /// The broker or the way to it failed.
    Lost(String),
}

impl Consumer {
    /// A consumer that has not connected yet. The error says what is wrong with the address, without repeating it.
    pub fn new(settings: AmqpSettings, intake: Arc<dyn Intake>, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let (broker, publisher) = (Broker::new(settings.clone())?, Publisher::new(settings)?);
        Ok(Consumer { broker, publisher, intake, clock, taken: AtomicU64::new(0) })
    }

    /// Takes messages in until `stop` says so; whatever happens to the broker, it is tried again for ever.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.intake.ready() => {}
            }
            let taken = self.taken.load(Ordering::Relaxed);
            let ended = self.session(&mut stop).await;
            let place = self.broker.place();
            match ended {
                Ended::Stopped => return,
                Ended::NotNow(why) => {
                    tracing::warn!(place, why, "messages stay with the broker until they can be recorded")
                }
                Ended::Lost(why) => tracing::warn!(place, why, "the broker is lost; it is tried again"),
            }
            pause = if self.taken.load(Ordering::Relaxed) > taken { FIRST_PAUSE } else { (pause * 2).min(LAST_PAUSE) };
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(jittered(pause)) => {}
            }
        }
    }

    async fn session(&self, stop: &mut watch::Receiver<bool>) -> Ended {
        let begun = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ended::Stopped,
            begun = self.begin() => begun,
        };
        let (connection, channel, consumer) = match begun {
            Ok(begun) => begun,
            Err(error) => return Ended::Lost(error),
        };
        tracing::info!(place = self.broker.place(), queue = self.broker.settings().queue(), "takes messages in");
        let ended = self.take_in(consumer, &channel, stop).await;
        // What is not acknowledged goes to others at once.
        let _ = tokio::time::timeout(PATIENCE, connection.close(200, "done".into())).await;
        ended
    }

    async fn begin(&self) -> Result<(Connection, Channel, lapin::Consumer), String> {
        let (broker, settings) = (&self.broker, self.broker.settings());
        let text = |error: crate::queue::PublishError| error.to_string();
        let connection = broker.connect("takes in").await.map_err(text)?;
        declare_all(broker, &connection).await.map_err(text)?;
        let channel = broker.within(PATIENCE, "opening a channel", connection.create_channel()).await.map_err(text)?;
        let qos = channel.basic_qos(settings.prefetch.max(1), BasicQosOptions::default());
        broker.within(PATIENCE, "setting the prefetch", qos).await.map_err(text)?;
        let queue = settings.queue();
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let consume = channel.basic_consume(queue.as_str().into(), "".into(), options, none);
        let consumer = broker.within(PATIENCE, "consuming", consume).await.map_err(text)?;
        Ok((connection, channel, consumer))
    }

    async fn take_in(
        &self,
        mut consumer: lapin::Consumer,
        channel: &Channel,
        stop: &mut watch::Receiver<bool>,
    ) -> Ended {
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                Some(done) = under_way.next(), if !under_way.is_empty() => {
                    if let Err(ended) = done {
                        return ended;
                    }
                }
                delivery = consumer.next() => match delivery {
                    Some(Ok(delivery)) => under_way.push(self.take(delivery)),
                    Some(Err(error)) => return Ended::Lost(words(&error)),
                    // The queue was deleted, or the connection ended: both look alike here.
                    None => return Ended::Lost("the broker ended the delivery of messages".into()),
                },
            }
        }
        let cancel = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
        let _ = tokio::time::timeout(PATIENCE, cancel).await;
        let rest = async { while under_way.next().await.is_some_and(|done| done.is_ok()) {} };
        let _ = tokio::time::timeout(LAST_WORDS, rest).await;
        Ended::Stopped
    }

    /// Takes a message in, or buries it, and acknowledges it then.
    async fn take(&self, delivery: Delivery) -> Result<(), Ended> {
        match self.intake.take(&message(&delivery)).await {
            Ok(Verdict::Taken) => {}
            Ok(Verdict::Buried { reason, answer }) => {
                self.bury(&delivery, &reason).await?;
                if let Some(answer) = answer {
                    self.tell(&answer).await;
                }
            }
            Err(not_now) => return Err(Ended::NotNow(not_now.0)),
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        crate::crash_point::reached("queue: recorded, not yet acknowledged");
        match tokio::time::timeout(PATIENCE, delivery.ack(BasicAckOptions::default())).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Ended::Lost(words(&error))),
            Err(_) => Err(Ended::Lost("the broker does not take acknowledgements".into())),
        }
    }

    /// Puts a message aside, with the reason. It is acknowledged only when it lies there.
    async fn bury(&self, delivery: &Delivery, reason: &str) -> Result<(), Ended> {
        let place = self.broker.place();
        tracing::warn!(place, routing_key = %delivery.routing_key, reason, "a message can never be taken: it is a dead letter now");
        let properties = buried(delivery, reason, &self.clock.now().to_string());
        let to = Address::new(DEAD, delivery.routing_key.to_string());
        let sent = self.publisher.send(&to, &delivery.data, properties, Receiver::Needed).await;
        sent.map_err(|error| Ended::Lost(format!("a dead letter could not be put aside: {error}")))
    }

    /// Tells a sender what became of its message. The dead letter is there in any case.
    async fn tell(&self, answer: &Answer) {
        let sent = self.publisher.publish(&Address::queue(&answer.to), &answer.message, Receiver::Optional).await;
        if let Err(error) = sent {
            tracing::warn!(%error, "who sent it could not be told");
        }
    }
}

/// Half to all of a pause, so that workers do not come back in step.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 2];
    // Without random numbers they come in step.
    let _ = getrandom::fill(&mut random);
    pause.mul_f64(0.5 + f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX) / 2.0)
}
