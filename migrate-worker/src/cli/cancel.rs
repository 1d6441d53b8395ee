//! `migrate-worker cancel`

use super::history::{LISTS_ALL, existing_record};
use crate::Error;
use backup_agent::cli::history::find;
use backup_agent::cli::{Done, Failure, Global, put_line};
use clap::Args;
use shared::clock;
use shared::connect;
use shared::model::TaskState;

/// Asks for a job's end: one that waits is cancelled at once, one that runs by its worker
///
/// A migration that runs takes back what it has begun; one that is past its commit is finished.
#[derive(Debug, Args)]
#[command(after_help = "Example: migrate-worker cancel 0198c2e7")]
pub struct Cancel {
    /// Its id, or the beginning of it
    job: String,
}

impl Cancel {
    pub(super) async fn run(self, global: &Global) -> Done {
        // Not made where it is missing: then there is nothing to cancel.
        let task = find(&*existing_record(global).await?, &self.job, LISTS_ALL).await?;
        let log = connect::task_log(&global.config()?, clock::system()).await.map_err(Error::from)?;
        let job = task.job_id;
        let state = log.cancel(&job, &global.person()).await?;
        match state {
            TaskState::Cancelled => put_line(&format!("job {job} is cancelled")),
            TaskState::Running | TaskState::Recovering => put_line(&format!(
                "job {job} is {state}: its worker is asked to end it and takes back what it has begun; \
                 migrate-worker show {job} tells when"
            )),
            TaskState::Stuck => {
                let message = format!("job {job} is stuck: nobody works on it, so there is nothing to cancel");
                return Err(refused(message, format!("migrate-worker resolve {job}")));
            }
            ended => {
                let message = format!("job {job} is {ended} already; nothing was changed");
                return Err(refused(message, format!("migrate-worker show {job}")));
            }
        }
        Ok(())
    }
}

fn refused(message: String, hint: String) -> Failure {
    Error::Refused { message, hint: Some(hint) }.into()
}
