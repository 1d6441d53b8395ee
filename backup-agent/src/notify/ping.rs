//! Pings, as healthchecks and services like it take them: a check is told that something began, succeeded or failed, and
//! raises the alarm itself when it hears nothing.

use super::{Address, Undelivered};
use jiff::{SignedDuration, Timestamp};
use reqwest::Url;
use shared::config::{ConfigError, NotifyConfig, NotifyOn};
use shared::model::{Task, TaskEvent, TaskKind};

/// The longest body of a failure's ping; healthchecks keeps so much.
const BODY_BYTES: usize = 10_000;
/// A check counts a ping at the time it arrives. A success that is older than this would hide that the next one failed.
const NEWS: SignedDuration = SignedDuration::from_hours(12);

/// A check.
#[derive(Debug)]
pub(super) struct Ping {
    url: Option<Address>,
    start: Option<Address>,
    success: Option<Address>,
    failure: Option<Address>,
}

impl Ping {
    /// The check of a section, if it has one.
    pub(super) fn read(section: &str, notify: &NotifyConfig) -> Result<Option<Ping>, ConfigError> {
        let ping = Ping {
            url: Address::parse(section, "ping_url", &notify.ping_url)?,
            start: Address::parse(section, "start_url", &notify.start_url)?,
            success: Address::parse(section, "success_url", &notify.success_url)?,
            failure: Address::parse(section, "failure_url", &notify.failure_url)?,
        };
        let there = [&ping.url, &ping.start, &ping.success, &ping.failure];
        Ok(there.iter().any(|address| address.is_some()).then_some(ping))
    }

    /// Whether the check can still learn something true from the ping.
    ///
    /// `newest` is the newest event that the check was told, as far as this run of the program knows.
    pub(super) fn is_news(
        &self,
        moment: NotifyOn,
        task: &Task,
        event: &TaskEvent,
        attempts: u32,
        newest: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), Undelivered> {
        let pointless = |why: &str| Err(Undelivered::Pointless(why.into()));
        if newest.is_some_and(|newest| newest > event.at) {
            return pointless("a ping about something newer went out before it");
        }
        if moment == NotifyOn::Start && attempts > 0 && task.state.is_terminal() {
            return pointless("the task has ended since, and its end is told");
        }
        if moment != NotifyOn::Failure && now.duration_since(event.at) > NEWS {
            return pointless("it is more than 12 hours old, and the check would take it for news");
        }
        Ok(())
    }

    /// Where the ping of this moment goes, if anywhere.
    pub(super) fn url(&self, moment: NotifyOn, task: &Task) -> Option<Url> {
        // The check answers for backups being made (for the prune section, for pruning): the proof of an old backup must
        // not hide that there is no new one. What fails is told whatever it is.
        let is_kept_work = matches!(task.kind, TaskKind::Backup | TaskKind::Prune);
        let (own, word) = match moment {
            NotifyOn::Start => (&self.start, Some("start")),
            NotifyOn::Success => (&self.success, None),
            NotifyOn::Failure => (&self.failure, Some("fail")),
        };
        match (own, &self.url) {
            _ if moment != NotifyOn::Failure && !is_kept_work => None,
            (Some(own), _) => Some(own.0.clone()),
            (None, Some(check)) => Some(of_check(&check.0, word, task)),
            (None, None) => None,
        }
    }

    /// The ping as it is sent.
    pub(super) fn message(
        &self,
        http: &reqwest::Client,
        url: Url,
        moment: NotifyOn,
        task: &Task,
        event: &TaskEvent,
    ) -> reqwest::RequestBuilder {
        match moment {
            NotifyOn::Failure => {
                http.post(url).header("content-type", "text/plain; charset=utf-8").body(body(task, event))
            }
            NotifyOn::Start | NotifyOn::Success => http.get(url),
        }
    }
}

/// The check's address with the signal's word behind its path and the run's id among its parameters.
fn of_check(check: &Url, word: Option<&str>, task: &Task) -> Url {
    let mut url = check.clone();
    // Addresses of http always have a path.
    if let (Some(word), Ok(mut path)) = (word, url.path_segments_mut()) {
        path.pop_if_empty().push(word);
    }
    url.query_pairs_mut().append_pair("rid", &task.job_id.to_string());
    url
}

/// What failed and why, in one line.
fn body(task: &Task, event: &TaskEvent) -> String {
    let why = task.report.error_message.as_deref().unwrap_or(&event.detail);
    let target = task.target.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
    let text = format!("{}{target} {}: {why}", task.kind, event.what);
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.truncate(text.floor_char_boundary(BODY_BYTES));
    text
}
