//! A wish as a message of plain JSON.

use crate::runner::{Goal, is_revision};
use crate::spec::MigrateSpec;
use crate::wrap::WRAP;
use backup_agent::agent::RestoreSpec;
use jiff::Timestamp;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::model::{DatabaseName, JobId, NewTask, TaskDoor, TaskKind, parse_at};
use std::collections::BTreeMap;

/// Bytes a message may have.
pub const MOST_BYTES: usize = 256 * 1024;
/// Characters a free text may have.
const MOST_TEXT: usize = 200;
/// Labels a message may have.
const MOST_LABELS: usize = 32;
/// Names of data a migration may be allowed to lose.
const MOST_DROPS: usize = 200;
/// The longest deadline: 30 days.
const LONGEST_S: u64 = 30 * 86_400;

/// A wish; `S` are the details of its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobMessage<S> {
    /// The job's name, chosen by the sender. The same id with the same wish is the same job, however often it is sent.
    #[schemars(with = "String", extend("format" = "uuid"))]
    pub id: JobId,
    /// What is to be done.
    #[schemars(with = "String")]
    pub kind: TaskKind,
    /// A database of the worker's configuration; none for prune.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("pattern" = "^[a-z0-9][a-z0-9_-]{0,40}$"))]
    pub target: Option<DatabaseName>,
    /// Details; a restore needs them.
    pub spec: Option<S>,
    /// Of the jobs that bear the same key only one may wait: a second one is not taken in.
    #[serde(default)]
    #[schemars(length(max = MOST_TEXT))]
    pub unique_key: Option<String>,
    /// 0 (last) to 9 (first). Default: 4.
    #[serde(default = "usual_priority")]
    #[schemars(range(max = 9))]
    pub priority: u8,
    /// Not before this time.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub run_at: Option<Timestamp>,
    /// Not begun after this time.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub expires_at: Option<Timestamp>,
    /// How long it may take, in seconds. Default: what the worker's configuration says.
    #[serde(default)]
    #[schemars(range(min = 1, max = LONGEST_S))]
    pub deadline_s: Option<u64>,
    /// Who asks, for a person. A signed message is also known by its key's principal.
    #[serde(default)]
    #[schemars(length(max = MOST_TEXT))]
    pub requested_by: String,
    /// Words of the sender's own.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Details of a job that has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoDetails {}

fn usual_priority() -> u8 {
    4
}

/// Only what decides how the rest is read.
#[derive(Deserialize)]
struct Head {
    kind: TaskKind,
}

/// Reads a message. The error says in one line what is wrong with it.
pub fn decode(body: &[u8]) -> Result<NewTask, String> {
    if body.len() > MOST_BYTES {
        return Err(format!("{} bytes; {MOST_BYTES} are the most", body.len()));
    }
    if body.starts_with(b"\xef\xbb\xbf") {
        return Err("it begins with a byte order mark; JSON has none".into());
    }
    let text = std::str::from_utf8(body).map_err(|error| format!("not UTF-8: {error}"))?;
    let head: Head = json_of(text)?;
    match head.kind {
        TaskKind::Migrate | TaskKind::Rehearse => of(text, Some(MigrateSpec::default()), migration),
        TaskKind::Restore => of(text, None, restore),
        TaskKind::Backup | TaskKind::Verify | TaskKind::Drill | TaskKind::Prune => {
            of(text, Some(NoDetails {}), |_| Ok(()))
        }
    }
}

fn json_of<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| cut(&error.to_string()))
}

/// What serde says may repeat what it met: of a long text the beginning and the end, where the reason stands.
pub(super) fn cut(text: &str) -> String {
    let line: Vec<char> = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.len() {
        0..=300 => line.into_iter().collect(),
        length => line[..100].iter().chain(&[' ', '…', ' ']).chain(&line[length - 180..]).collect(),
    }
}

/// Reads a message with details of one type, which are `unsaid` where it has none.
fn of<S: Serialize + DeserializeOwned>(
    text: &str,
    unsaid: Option<S>,
    check: fn(&S) -> Result<(), String>,
) -> Result<NewTask, String> {
    let mut message: JobMessage<S> = json_of(text)?;
    let spec = message.spec.take().or(unsaid).ok_or_else(|| format!("{} needs a spec", message.kind))?;
    check(&spec)?;
    message.check()?;
    message.task(&spec)
}

/// What a migration asks for.
pub fn migration(spec: &MigrateSpec) -> Result<(), String> {
    spec.to.parse::<Goal>().map_err(|error| cut(&error.to_string()))?;
    if let Some(from) = &spec.expected_from
        && !is_revision(from)
    {
        return Err("expected_from is no revision".into());
    }
    if spec.mode.as_deref() == Some(WRAP) {
        return Err("mode \"wrap\" is with-lock's own: no message starts a command".into());
    }
    if let Some(mode) = &spec.mode {
        return Err(format!("mode {:?} is not known; leave it out", cut(mode)));
    }
    if spec.may_drop.len() > MOST_DROPS {
        return Err(format!("may_drop has {} entries; {MOST_DROPS} are the most", spec.may_drop.len()));
    }
    spec.may_drop.iter().try_for_each(|name| plain("may_drop", name))
}

fn restore(spec: &RestoreSpec) -> Result<(), String> {
    // A time of day without a zone would mean another instant on every worker.
    let at = parse_at(&spec.at, Timestamp::now(), &jiff::tz::TimeZone::UTC);
    at.map(drop).map_err(|error| format!("at: {}", cut(&error.to_string())))
}

fn plain(what: &str, text: &str) -> Result<(), String> {
    let length = text.chars().count();
    if length > MOST_TEXT {
        return Err(format!("{what} has {length} characters; {MOST_TEXT} are the most"));
    }
    if text.chars().any(|c| c.is_control() || is_invisible(c)) {
        return Err(format!("{what} holds a character that cannot be seen"));
    }
    Ok(())
}

/// Marks that change the direction of writing, or have no width: they make a text look like another one.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

impl<S: Serialize> JobMessage<S> {
    fn check(&self) -> Result<(), String> {
        if self.priority > 9 {
            return Err(format!("priority is {}; 0 to 9", self.priority));
        }
        if self.deadline_s.is_some_and(|seconds| !(1..=LONGEST_S).contains(&seconds)) {
            return Err(format!("deadline_s is 1 to {LONGEST_S}"));
        }
        if (self.kind == TaskKind::Prune) != self.target.is_none() {
            return Err(format!(
                "{} {}",
                self.kind,
                if self.target.is_none() { "needs a target" } else { "has no target" }
            ));
        }
        plain("requested_by", &self.requested_by)?;
        plain("unique_key", self.unique_key.as_deref().unwrap_or_default())?;
        if self.labels.len() > MOST_LABELS {
            return Err(format!("{} labels; {MOST_LABELS} are the most", self.labels.len()));
        }
        self.labels.iter().try_for_each(|(name, value)| {
            plain("a label", name)?;
            plain("a label", value)
        })
    }

    fn task(self, spec: &S) -> Result<NewTask, String> {
        let max_attempts = if self.kind.is_saga() || self.kind == TaskKind::Rehearse { 1 } else { 3 };
        Ok(NewTask {
            job_id: self.id,
            spec: serde_json::to_value(spec).map_err(|error| error.to_string())?,
            unique_key: self.unique_key,
            run_at: self.run_at,
            expires_at: self.expires_at,
            deadline_s: self.deadline_s,
            priority: self.priority,
            max_attempts,
            door: TaskDoor::Amqp,
            requested_by: self.requested_by,
            labels: self.labels,
            ..NewTask::new(self.kind, self.target)
        })
    }
}

/// A migration as a message.
pub fn encode(task: &NewTask) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&JobMessage {
        id: task.job_id,
        kind: task.kind,
        target: task.target.clone(),
        spec: Some(task.spec.clone()),
        unique_key: task.unique_key.clone(),
        priority: task.priority,
        run_at: task.run_at,
        expires_at: task.expires_at,
        deadline_s: task.deadline_s,
        requested_by: task.requested_by.clone(),
        labels: task.labels.clone(),
    })
}

/// The JSON Schema of a message, made from the types above.
pub fn schema() -> Value {
    // Written out where it is used: three short schemas are easier to read than one with references.
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut generator = settings.into_generator();
    let kinds = [
        (&[TaskKind::Migrate, TaskKind::Rehearse][..], JobMessage::<MigrateSpec>::json_schema(&mut generator)),
        (&[TaskKind::Restore], JobMessage::<RestoreSpec>::json_schema(&mut generator)),
        (
            &[TaskKind::Backup, TaskKind::Verify, TaskKind::Drill, TaskKind::Prune],
            JobMessage::<NoDetails>::json_schema(&mut generator),
        ),
    ];
    let one_of: Vec<Value> = kinds
        .into_iter()
        .map(|(kinds, schema)| {
            let mut schema = schema.to_value();
            schema["properties"]["kind"] = json!({"enum": kinds, "description": "What is to be done."});
            schema
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Holdfast job",
        "description": "A wish sent to the exchange holdfast.jobs with the routing key <group>.<kind>. At most 262144 bytes.",
        "oneOf": one_of,
    })
}

#[cfg(test)]
mod tests;
