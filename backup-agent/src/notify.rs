//! Tells people and services what became of a task: pings, a webhook, a command, messages.
//!
//! A task carries the names of its channels (`ping`, `webhook`, `command`, `events`), never an address: the outbox of the TaskLog
//! holds one delivery an event and channel, and this module looks up in the configuration where it goes. Deliveries are
//! made at least once: a receiver may hear the same message twice, under the same id.
//!
//! Told are three of a task's moments. Start: it is running. Success: it succeeded. Failure: it ended in any other way
//! (failed, refused, expired, restored, and also cancelled: what was to be done was not done) or is stuck. The exchange of
//! events hears of every one of these, and besides of a plan that waits for approval (`waiting`) and of the approval
//! (`approved`).

pub mod celery;
mod command;
mod message;
mod outbox;
mod ping;
pub mod queue;
mod webhook;

pub use message::CONTENT_TYPE;

use jiff::Timestamp;
use shared::clock::Clock;
use shared::config::{Config, ConfigError, NotifyConfig, NotifyOn};
use shared::model::{DatabaseName, Secret, Task, TaskEvent, TaskKind, TaskState};
use shared::queue::amqp::Publisher;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Pauses between the tries of [`Notifier::tell`].
const TELL_PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(8)];

/// Knows who is told of what, and tells them.
#[derive(Debug)]
pub struct Notifier {
    databases: BTreeMap<DatabaseName, Receivers>,
    prune: Receivers,
    http: Option<reqwest::Client>,
    broker: Option<Publisher>,
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
        let broker = config.queue()?.map(Publisher::new).transpose().map_err(ConfigError::Value)?;
        let (limits, told) = (Limits::default(), Mutex::default());
        Ok(Notifier { databases, prune, http, broker, limits, told, tally: Default::default() })
    }

    /// Sets how long receivers may take; 10 s a request and 60 s a command if not set.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The names of those who are told of a task's events, for [`shared::model::NewTask::channels`].
    pub fn channels(&self, target: Option<&DatabaseName>, kind: TaskKind) -> Vec<String> {
        let receivers = self.receivers(target, kind).map(Receivers::channels).unwrap_or_default();
        let events = self.broker.iter().map(|_| queue::EVENTS_CHANNEL);
        receivers.into_iter().chain(events).map(str::to_owned).collect()
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

    async fn send(
        &self,
        channel: &str,
        task: &Task,
        event: &TaskEvent,
        attempts: u32,
        clock: &dyn Clock,
    ) -> Result<(), Undelivered> {
        match (channel, &self.broker) {
            (queue::EVENTS_CHANNEL, Some(broker)) => return queue::tell(broker, task, event).await,
            (queue::REPLY_CHANNEL, Some(broker)) => return queue::answer(broker, task, event).await,
            _ => {}
        }
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
