//! Tells people and services what became of a task: pings, a webhook, a command.
//!
//! A task carries the names of its channels (`ping`, `webhook`, `command`), never an address: the outbox of the TaskLog
//! holds one delivery an event and channel, and this module looks up in the configuration where it goes. Deliveries are
//! made at least once: a receiver may hear the same message twice, under the same id.
//!
//! Told are three of a task's moments. Start: it is running. Success: it succeeded. Failure: it ended in any other way
//! (failed, refused, expired, restored, and also cancelled: what was to be done was not done) or is stuck.

mod command;
mod message;
mod ping;
mod webhook;

use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};
use shared::clock::Clock;
use shared::config::{Config, ConfigError, NotifyConfig, NotifyOn};
use shared::model::{DatabaseName, Secret, Task, TaskEvent, TaskKind, TaskState};
use shared::task_log::{Delivered, Delivery, TaskLog, TaskLogError};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
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
/// Pauses between the tries of [`Notifier::tell`].
const TELL_PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(8)];

/// Knows who is told of what, and tells them.
#[derive(Debug)]
pub struct Notifier {
    databases: BTreeMap<DatabaseName, Receivers>,
    prune: Receivers,
    http: Option<reqwest::Client>,
    limits: Limits,
    /// Of the pings that arrived, the newest event a check was told: see [`ping::Ping::is_news`].
    told: Mutex<BTreeMap<Option<DatabaseName>, Timestamp>>,
    tally: [AtomicU64; 3],
}

/// How long a receiver may take for a message.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the connection to the answer's head.
    pub request: Duration,
    /// From the start of the command to its end.
    pub command: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { request: Duration::from_secs(10), command: Duration::from_secs(60) }
    }
}

/// What became of deliveries since the program began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// They arrived, or there was nothing to tell.
    pub done: u64,
    /// They did not, and are tried again.
    pub again: u64,
    /// They never will.
    pub given_up: u64,
}

/// The receivers of one section of the configuration.
#[derive(Debug, Default)]
struct Receivers {
    ping: Option<ping::Ping>,
    webhook: Option<webhook::Webhook>,
    command: Option<command::Hook>,
    on: Vec<NotifyOn>,
}

/// Why a message did not arrive; never with an address, which may hold a secret.
#[derive(Debug)]
enum Undelivered {
    /// The receiver could not be reached, or cannot take it now.
    Unreachable(String),
    /// The receiver does not want it.
    Rejected(String),
    /// It is not to be sent any more.
    Pointless(String),
}

/// An address that may hold a secret.
struct Address(reqwest::Url);

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Address {
    /// Reads `key` of `section`. The error never repeats the address.
    fn parse(section: &str, key: &str, text: &Option<Secret>) -> Result<Option<Address>, ConfigError> {
        let Some(text) = text else { return Ok(None) };
        let wrong = |why: String| ConfigError::Value(format!("{key} of {section}: {why}"));
        let url: reqwest::Url =
            text.reveal().trim().parse().map_err(|error| wrong(format!("not an address: {error}")))?;
        match url.scheme() {
            "http" | "https" => Ok(Some(Address(url))),
            _ => Err(wrong("not an address that begins with http:// or https://".into())),
        }
    }
}

impl Receivers {
    fn read(config: &Config, section: &str, notify: &NotifyConfig) -> Result<Receivers, ConfigError> {
        Ok(Receivers {
            ping: ping::Ping::read(section, notify)?,
            webhook: webhook::Webhook::read(config, section, notify)?,
            command: command::Hook::read(config, section, notify)?,
            on: notify.told().to_vec(),
        })
    }

    fn channels(&self) -> Vec<&'static str> {
        let there = [self.ping.is_some(), self.webhook.is_some(), self.command.is_some()];
        ["ping", "webhook", "command"]
            .into_iter()
            .zip(there)
            .filter(|(_, there)| *there)
            .map(|(name, _)| name)
            .collect()
    }
}

impl Notifier {
    /// Reads who is told of what. Every section is checked; nobody is contacted.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let mut databases = BTreeMap::new();
        for (name, database) in &config.databases {
            let section = format!("[database.{name}.notify]");
            databases.insert(name.clone(), Receivers::read(config, &section, &database.notify)?);
        }
        let prune = Receivers::read(config, "[prune.notify]", &config.prune.notify)?;
        let by_http = |receivers: &Receivers| receivers.ping.is_some() || receivers.webhook.is_some();
        let http = if databases.values().chain([&prune]).any(by_http) { Some(http_client()?) } else { None };
        let (limits, told) = (Limits::default(), Mutex::default());
        Ok(Notifier { databases, prune, http, limits, told, tally: Default::default() })
    }

    /// Sets how long receivers may take; 10 s a request and 60 s a command if not set.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The names of those who are told of a task's events, for [`shared::model::NewTask::channels`].
    pub fn channels(&self, target: Option<&DatabaseName>, kind: TaskKind) -> Vec<String> {
        let receivers = self.receivers(target, kind);
        receivers.map(|receivers| receivers.channels().into_iter().map(str::to_owned).collect()).unwrap_or_default()
    }

    /// Makes the deliveries that are due and notes what became of them; returns how many were due.
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

    /// Tells everybody at once, with a few tries, and logs who could not be reached: for when there is no record.
    pub async fn tell(&self, task: &Task, event: &TaskEvent, clock: &dyn Clock) {
        let channels = self.channels(task.target.as_ref(), task.kind);
        let tell_one = |channel: String| async move {
            let mut pauses = TELL_PAUSES.iter();
            loop {
                let Err(error) = self.send(&channel, task, event, 0, clock).await else { return };
                match (&error, pauses.next()) {
                    (Undelivered::Unreachable(_), Some(pause)) => clock.sleep(*pause).await,
                    _ => return warn(&channel, task, event, error.text()),
                }
            }
        };
        futures_util::future::join_all(channels.into_iter().map(tell_one)).await;
    }

    /// What became of deliveries so far.
    pub fn tally(&self) -> Tally {
        let [done, again, given_up] = [0, 1, 2].map(|at| self.tally[at].load(Ordering::Relaxed));
        Tally { done, again, given_up }
    }

    fn receivers(&self, target: Option<&DatabaseName>, kind: TaskKind) -> Option<&Receivers> {
        if kind == TaskKind::Prune { Some(&self.prune) } else { self.databases.get(target?) }
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
        let Some(receivers) = self.receivers(task.target.as_ref(), task.kind) else {
            // Agents that share a record need not all know the same databases: another one may.
            return Err(Undelivered::Unreachable("the configuration here does not know the database".into()));
        };
        if !receivers.channels().contains(&delivery.channel.as_str()) {
            return Err(Undelivered::Pointless(format!("{} is not configured any more", delivery.channel)));
        }
        self.send(&delivery.channel, task, &delivery.event, delivery.attempts, clock).await
    }

    async fn send(
        &self,
        channel: &str,
        task: &Task,
        event: &TaskEvent,
        attempts: u32,
        clock: &dyn Clock,
    ) -> Result<(), Undelivered> {
        let Some(receivers) = self.receivers(task.target.as_ref(), task.kind) else { return Ok(()) };
        let Some(moment) = moment_of(event) else { return Ok(()) };
        match (channel, &self.http) {
            ("ping", Some(http)) => {
                let Some(ping) = &receivers.ping else { return Ok(()) };
                let Some(url) = ping.url(moment, task) else { return Ok(()) };
                let check = if task.kind == TaskKind::Prune { None } else { task.target.clone() };
                let newest = self.told.lock().unwrap_or_else(PoisonError::into_inner).get(&check).copied();
                ping.is_news(moment, task, event, attempts, newest, clock.now())?;
                self.request(ping.message(http, url, moment, task, event)).await?;
                let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                let newest = told.entry(check).or_insert(event.at);
                *newest = event.at.max(*newest);
                Ok(())
            }
            ("webhook", Some(http)) if receivers.on.contains(&moment) => match &receivers.webhook {
                Some(webhook) => self.request(webhook.message(http, task, event, clock.now())).await,
                None => Ok(()),
            },
            ("command", _) if receivers.on.contains(&moment) => match &receivers.command {
                Some(hook) => hook.run(task, event, self.limits.command).await,
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Sends a request; what is not a success tells whether another try makes sense.
    async fn request(&self, request: reqwest::RequestBuilder) -> Result<(), Undelivered> {
        let status = match request.timeout(self.limits.request).send().await {
            Ok(response) => response.status(),
            Err(error) if error.is_timeout() => {
                let seconds = self.limits.request.as_secs();
                return Err(Undelivered::Unreachable(format!("no answer within {seconds} s")));
            }
            Err(error) => return Err(Undelivered::Unreachable(reason(error.without_url()))),
        };
        let text = format!("the answer was {status}");
        match status.as_u16() {
            200..300 => Ok(()),
            300..400 => Err(Undelivered::Rejected(format!("{text}: a redirect is not followed, name where it leads"))),
            408 | 425 | 429 | 500.. => Err(Undelivered::Unreachable(text)),
            _ => Err(Undelivered::Rejected(text)),
        }
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

impl Undelivered {
    fn text(&self) -> &str {
        match self {
            Undelivered::Unreachable(text) | Undelivered::Rejected(text) | Undelivered::Pointless(text) => text,
        }
    }
}

/// What an event says, where it is one that is told.
fn moment_of(event: &TaskEvent) -> Option<NotifyOn> {
    match event.what.parse::<TaskState>().ok()? {
        TaskState::Running => Some(NotifyOn::Start),
        TaskState::Succeeded => Some(NotifyOn::Success),
        state if state.is_terminal() || state == TaskState::Stuck => Some(NotifyOn::Failure),
        _ => None,
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

fn warn(channel: &str, task: &Task, event: &TaskEvent, error: &str) {
    let target = task.target.as_ref().map(DatabaseName::as_str).unwrap_or("-");
    tracing::warn!(job = %task.job_id, kind = %task.kind, target, event = event.what, channel, error, "nobody was told");
}

/// One client for all. No redirect is followed, because what is sent is meant for the address that is
/// configured, and a redirected POST would become an empty GET.
fn http_client() -> Result<reqwest::Client, ConfigError> {
    shared::connect::install_tls();
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")));
    client.build().map_err(|error| ConfigError::Value(format!("the HTTP client of notify cannot start: {error}")))
}

/// An error and its causes in one line.
fn reason(error: reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
