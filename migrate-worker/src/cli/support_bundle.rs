//! `migrate-worker support-bundle`

use super::history::{LISTS_ALL, existing_record};
use crate::Error;
use crate::bundle::{self, Known};
use crate::checklist::checklist;
use backup_agent::cli::history::find;
use backup_agent::cli::{Done, Global, put_line};
use backup_agent::doctor::{Patient, examine};
use clap::Args;
use serde_json::{Value, json};
use shared::clock;
use std::path::PathBuf;
use std::time::Duration;

/// How long this machine is looked at; a bundle is made without it, too.
const DOCTOR_DEADLINE: Duration = Duration::from_secs(60);

/// Writes one file with all that is known of a job, without secrets, to be sent to somebody who helps
#[derive(Debug, Args)]
#[command(after_help = "Example: migrate-worker support-bundle 0198c2e7
Look into it before you send it: samples of your data may be in what tools printed.")]
pub struct SupportBundle {
    /// Its id, or the beginning of it
    job: String,
    /// Where to write it. Default: holdfast-JOB.tar.gz in this folder
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl SupportBundle {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let log = existing_record(global).await?;
        let task = find(&*log, &self.job, LISTS_ALL).await?;
        let job = task.job_id;
        let (events, steps, outputs) = (log.events(&job).await?, log.steps(&job).await?, log.outputs(&job).await?);
        let patient = Patient { config: &config, store: global.store(), clock: clock::system() };
        let doctor = match tokio::time::timeout(DOCTOR_DEADLINE, examine(&patient)).await {
            Ok(findings) => json!(findings),
            Err(_) => Value::String(format!("not done within {} s", DOCTOR_DEADLINE.as_secs())),
        };
        let path = self.output.unwrap_or_else(|| PathBuf::from(format!("holdfast-{job}.tar.gz")));
        let known = Known {
            task: &task,
            events: &events,
            steps: &steps,
            outputs: &outputs,
            checklist: json!(checklist(&task, &steps, !outputs.is_empty())),
            config: &config.redacted().map_err(Error::from)?,
            doctor,
        };
        bundle::write(&path, &known)?;
        put_line(&path.display().to_string());
        Ok(())
    }
}
