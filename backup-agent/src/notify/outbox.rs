//! The outbox of the TaskLog: taking what is due, trying, noting what became of it.

use super::{Notifier, Undelivered, queue, warn};
use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};
use shared::clock::Clock;
use shared::model::TaskKind;
use shared::task_log::{Delivered, Delivery, TaskLog, TaskLogError};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How many deliveries are taken from the outbox at once.
const BATCH: u32 = 32;
/// How many receivers are served at once.
const PARALLEL: usize = 8;
/// How long one receiver is served before its other messages are left for the next turn.
const TURN: Duration = Duration::from_secs(120);
/// How long taken deliveries are kept from others: longer than any turn, with the last message's deadline.
const HOLD: Duration = Duration::from_secs(600);
/// Pause after the first failure; it doubles with every further one.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(3600);
/// How long after its event a message is tried.
const GIVE_UP: SignedDuration = SignedDuration::from_hours(24);
/// How often a message is tried that the receiver itself turns down.
const REJECTIONS: u32 = 5;

impl Notifier {
    /// Makes the deliveries that are due and notes what became of them; returns how many were due.
    ///
    /// Call again at once until that is 0: of one task the record gives out its events one by one.
    ///
    /// Messages to one receiver go one after the other, oldest first, and stop at the first that cannot be delivered; so
    /// a receiver that is down or slow costs one time limit and does not hold up the others.
    pub async fn deliver_due(&self, log: &dyn TaskLog, clock: &dyn Clock) -> Result<usize, TaskLogError> {
        let due = log.take_deliveries(BATCH, HOLD).await?;
        let count = due.len();
        let mut queues: BTreeMap<_, Vec<Delivery>> = BTreeMap::new();
        for delivery in due {
            let (target, kind) = (delivery.task.target.clone(), delivery.task.kind);
            queues.entry((target, kind == TaskKind::Prune, delivery.channel.clone())).or_default().push(delivery);
        }
        let turns = queues.into_values().map(|queue| self.serve(queue, log, clock));
        let turns: Vec<_> = futures_util::stream::iter(turns).buffer_unordered(PARALLEL).collect().await;
        turns.into_iter().collect::<Result<(), TaskLogError>>().map(|()| count)
    }

    /// One receiver's messages, in order.
    async fn serve(&self, mut queue: Vec<Delivery>, log: &dyn TaskLog, clock: &dyn Clock) -> Result<(), TaskLogError> {
        queue.sort_by_key(|delivery| delivery.id);
        let began = clock.monotonic();
        let mut not_before = None;
        for delivery in queue {
            if clock.monotonic().saturating_sub(began) > TURN {
                not_before.get_or_insert(clock.now());
            }
            let outcome = match not_before {
                Some(at) => Delivered::Again { at, error: "waits behind another message to the same receiver".into() },
                None => {
                    let sent = self.send_delivery(&delivery, clock).await;
                    let is_down = matches!(sent, Err(Undelivered::Unreachable(_)));
                    let outcome = judged(sent, &delivery, clock.now());
                    if let (true, Delivered::Again { at, .. }) = (is_down, &outcome) {
                        not_before = Some(*at);
                    }
                    outcome
                }
            };
            self.count(&outcome, &delivery);
            shared::crash_point::reached("notify: before a delivery is noted");
            log.delivered(delivery.id, &outcome).await?;
            shared::crash_point::reached("notify: after a delivery is noted");
        }
        Ok(())
    }

    async fn send_delivery(&self, delivery: &Delivery, clock: &dyn Clock) -> Result<(), Undelivered> {
        let task = &delivery.task;
        if [queue::EVENTS_CHANNEL, queue::REPLY_CHANNEL].contains(&delivery.channel.as_str()) {
            return match self.broker {
                Some(_) => self.send(&delivery.channel, task, &delivery.event, delivery.attempts, clock).await,
                // Another program that shares the record may know it.
                None => Err(Undelivered::Unreachable("no broker is configured here".into())),
            };
        }
        let Some(receivers) = self.receivers(task.target.as_ref(), task.kind) else {
            // Agents that share a record need not all know the same databases: another one may.
            return Err(Undelivered::Unreachable("the configuration here does not know the database".into()));
        };
        if !receivers.channels().contains(&delivery.channel.as_str()) {
            return Err(Undelivered::Pointless(format!("{} is not configured any more", delivery.channel)));
        }
        self.send(&delivery.channel, task, &delivery.event, delivery.attempts, clock).await
    }

    fn count(&self, outcome: &Delivered, delivery: &Delivery) {
        let (at, error) = match outcome {
            Delivered::Done => (0, None),
            Delivered::Again { error, .. } => (1, Some(error)),
            Delivered::GivenUp { error } => (2, Some(error)),
        };
        self.tally[at].fetch_add(1, Ordering::Relaxed);
        if let Some(error) = error {
            warn(&delivery.channel, &delivery.task, &delivery.event, error);
        }
    }
}

/// What is noted of a try. Tries so far are those before this one.
fn judged(sent: Result<(), Undelivered>, delivery: &Delivery, now: Timestamp) -> Delivered {
    let Err(error) = sent else { return Delivered::Done };
    let is_hopeless = match &error {
        Undelivered::Unreachable(_) => now.duration_since(delivery.event.at) >= GIVE_UP,
        Undelivered::Rejected(_) => delivery.attempts + 1 >= REJECTIONS,
        Undelivered::Pointless(_) => true,
    };
    let pause = FIRST_PAUSE.saturating_mul(1 << delivery.attempts.min(20)).min(LAST_PAUSE);
    let error = error.text().to_owned();
    match SignedDuration::try_from(pause).ok().and_then(|pause| now.checked_add(pause).ok()) {
        Some(at) if !is_hopeless => Delivered::Again { at, error },
        _ => Delivered::GivenUp { error },
    }
}
