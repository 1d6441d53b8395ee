//! One file with everything about a job that somebody else needs to understand it, and nothing secret.

use crate::Error;
use backup_agent::cli::text;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use shared::config::Redacted;
use shared::model::{Phase, StepNote, Task, TaskEvent};
use shared::subprocess::Scrubber;
use shared::task_log::TaskOutput;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What is known of a job.
pub struct Known<'a> {
    /// The job.
    pub task: &'a Task,
    /// Its events.
    pub events: &'a [TaskEvent],
    /// Its steps.
    pub steps: &'a [StepNote],
    /// What its tools printed.
    pub outputs: &'a [TaskOutput],
    /// Its checklist, where it is a migration.
    pub checklist: Value,
    /// The configuration, and what must not be seen.
    pub config: &'a Redacted,
    /// What a look at this machine found.
    pub doctor: Value,
}

const README: &str = "\
A bundle about one job of Holdfast.

job.json        the job as the record has it: what was asked for, events, steps, result with its effect report
timeline.txt    what happened when, by whom
checklist.json  the checklist of a migration, ticked by the record
output.txt      what tools printed, step by step
config.toml     the configuration; texts that may be secret are (hidden), addresses of databases have no password
doctor.json     what a look at this machine found when the bundle was made
versions.txt    the program and the system it ran on

Left out: passwords, keys, tokens, values of environment variables, addresses of notifications, commands. Whatever of it
stood elsewhere was replaced by ***. Rows of your database are not in here, but samples of values may be: in samples of
checks, and in what tools printed.
";

/// Writes the bundle; only this user can read it. Refuses to replace a file.
pub fn write(path: &Path, known: &Known<'_>) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::failed(format!("{} cannot be written: {error}", path.display()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = file.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::refused(format!("{} is there already; it was not touched", path.display()), "name another --output")
        }
        _ => failed(error),
    })?;
    let scrubber = Scrubber::new(known.config.secrets.clone());
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let folder = format!("holdfast-{}", known.task.job_id);
    for (name, contents) in members(known) {
        let contents = scrubber.scrub(contents.as_bytes());
        let mut header = tar::Header::new_ustar();
        header.set_size(contents.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(known.task.created_at.as_second()).unwrap_or_default());
        archive.append_data(&mut header, format!("{folder}/{name}"), &*contents).map_err(failed)?;
    }
    let mut file = archive.into_inner().and_then(GzEncoder::finish).map_err(failed)?;
    file.flush().and_then(|()| file.sync_all()).map_err(failed)
}

fn members(known: &Known<'_>) -> Vec<(&'static str, String)> {
    let mut job = json!(known.task);
    job["events"] = json!(known.events);
    job["steps"] = json!(known.steps);
    vec![
        ("README.txt", README.to_owned()),
        ("job.json", format!("{job:#}\n")),
        ("timeline.txt", timeline(known)),
        ("checklist.json", format!("{:#}\n", known.checklist)),
        ("output.txt", output(known.outputs)),
        ("config.toml", known.config.text.clone()),
        ("doctor.json", format!("{:#}\n", known.doctor)),
        ("versions.txt", versions()),
    ]
}

/// Events and steps in the order of time.
fn timeline(known: &Known<'_>) -> String {
    let worker = known.task.worker.as_deref().unwrap_or("-");
    let events = known
        .events
        .iter()
        .map(|event| (event.at, format!("{}  {}", text::name(&event.what), text::name(&event.detail))));
    let steps = known.steps.iter().map(|note| {
        let phase = match note.phase {
            Phase::Intent => "begins",
            Phase::Done => "done",
        };
        (note.at, format!("  {} {phase} (epoch {})", text::name(&note.step), note.epoch))
    });
    let mut lines: Vec<_> = events.chain(steps).collect();
    lines.sort_by_key(|(at, _)| *at);
    let head = format!("asked for by {}; worker {worker}\n", text::name(&known.task.requested_by));
    lines.into_iter().fold(head, |all, (at, line)| format!("{all}{at}  {}\n", line.trim_end()))
}

fn output(outputs: &[TaskOutput]) -> String {
    outputs.iter().map(|output| format!("== {} at {}\n{}\n", output.step, output.at, output.text)).collect()
}

fn versions() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "migrate-worker {}\n{} {} {}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        release.trim(),
        std::env::consts::ARCH
    )
}
