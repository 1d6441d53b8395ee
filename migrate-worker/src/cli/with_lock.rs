//! `migrate-worker with-lock`

use super::apply::{Here, PROGRAM, open_world};
use super::teller::{Teller, Voice};
use crate::Error;
use crate::story::Story;
use crate::worker::Performance;
use crate::wrap::{self, Ended, WrapSpec, Wrapped};
use backup_agent::cli::{Done, Failure, Global};
use backup_agent::record::TaskMeter;
use backup_agent::say;
use backup_agent::stop;
use clap::Args;
use shared::config::Time;
use shared::connect;
use shared::model::{DatabaseName, JobId, NewTask, TaskKind, TaskState};
use shared::subprocess::JOB_VARIABLE;
use shared::task_log::{Claimed, TaskLogError, Worker};
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Runs a command of your own while nobody else changes the database; for migrations in a container's entrypoint
///
/// One after the other gets the database, whatever works on it: with-lock, migrations, restores, backups. Where
/// [database.NAME.migrations] is configured, whoever comes second finds the database as expected and does not start the
/// command. There is neither a rehearsal nor a way back: apply has them. The exit code is the command's; 3 where it was
/// not started because others have the database.
#[derive(Debug, Args)]
#[command(after_help = "Example: migrate-worker with-lock shop -- alembic upgrade head
         migrate-worker with-lock shop --wait 2m -- npm run migrate:prod")]
pub struct WithLock {
    /// A name from holdfast.toml
    database: DatabaseName,
    /// How long others are waited for
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    wait: Time,
    /// Print how it ended as JSON, to stderr: stdout is the command's
    #[arg(long)]
    json: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn time(text: &str) -> Result<Time, String> {
    Time::try_from(text.to_owned())
}

/// Looked at so often whether the database is free.
const POLL: Duration = Duration::from_millis(250);

impl WithLock {
    pub(super) async fn run(self, global: &Global) -> Done {
        let Some((program, args)) = self.command.split_first() else {
            return Err(Failure::Usage("name the command behind --".into()));
        };
        let mut signals = listen().map_err(|error| Error::failed(format!("signals cannot be heard: {error}")))?;
        let world = open_world(global).await?;
        world.url(&self.database)?;
        let log = connect::task_log(&world.config, world.clock.clone()).await.map_err(Error::from)?;
        let story = Teller::new(global, Voice::Stderr);
        let here = Here { world, log, worker: Worker::here(PROGRAM), story };
        let spec = WrapSpec::new(program, args);
        let task = NewTask {
            spec: serde_json::to_value(&spec).map_err(|error| Error::failed(error.to_string()))?,
            requested_by: global.person(),
            ..NewTask::new(TaskKind::Migrate, Some(self.database.clone()))
        };
        let begun = Instant::now();
        let claimed = self.claimed(&here, &task, begun, &mut signals).await?;
        let patience = self.wait.0.saturating_sub(begun.elapsed());
        let wrapped = Wrapped { program: program.clone(), args: args.to_vec(), patience };
        let ended = wrap::perform(performance(&here), claimed, &wrapped, &mut signals).await?;
        if self.json {
            say!("{}", json(&task.job_id, &ended));
        }
        match ended.code {
            0 => Ok(()),
            code => Err(Failure::Said(code)),
        }
    }

    /// The task, claimed; whoever has the database is waited for, and what lost workers left is ended first.
    async fn claimed(
        &self,
        here: &Here,
        task: &NewTask,
        begun: Instant,
        signals: &mut UnboundedReceiver<SignalKind>,
    ) -> Result<Claimed, Failure> {
        let mut told = None;
        loop {
            here.recover_lost(&self.database).await?;
            let busy = match here.log.submit_claimed(task, &here.worker, here.world.config.lease()).await {
                Ok(claimed) => return Ok(claimed),
                Err(busy @ TaskLogError::Busy { .. }) => busy,
                Err(error) => return Err(error.into()),
            };
            let TaskLogError::Busy { job, state, .. } = &busy else { return Err(busy.into()) };
            if *state == TaskState::Stuck {
                return Err(refused(&busy, format!("migrate-worker resolve {job} shows what is there, and ends it")));
            }
            if is_inside(job) {
                return Err(refused(
                    &busy,
                    "this command is part of that very job, which would wait for itself".into(),
                ));
            }
            if begun.elapsed() >= self.wait.0 {
                let hint = format!("migrate-worker show {job} tells how far it is; --wait says how long to wait");
                return Err(refused(&busy, hint));
            }
            if told.replace(*job) != Some(*job) {
                say!("waiting, for {} at most: {busy}", self.wait);
            }
            tokio::select! {
                Some(signal) = signals.recv() => {
                    say!("ended by signal {} while waiting; the command was not started", signal.as_raw_value());
                    return Err(Failure::Said(u8::try_from(128 + signal.as_raw_value()).unwrap_or(1)));
                }
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
}

fn performance(here: &Here) -> Performance {
    let (stopper, stop) = stop::channel();
    let story: Arc<dyn Story> = here.story.clone();
    Performance {
        world: here.world.clone(),
        log: here.log.clone(),
        worker: here.worker.clone(),
        story,
        meter: Arc::new(TaskMeter::default()),
        stopper,
        stop,
        is_changing: Arc::new(AtomicBool::new(false)),
    }
}

/// Nothing was begun.
fn refused(busy: &TaskLogError, hint: String) -> Failure {
    Error::Refused { message: format!("{busy}; the command was not started"), hint: Some(hint) }.into()
}

/// Whether this process was itself started by the job.
fn is_inside(job: &JobId) -> bool {
    std::env::var(JOB_VARIABLE).is_ok_and(|outer| outer == job.to_string())
}

fn json(job: &JobId, ended: &Ended) -> serde_json::Value {
    let outcome = &ended.outcome;
    serde_json::json!({
        "job_id": job, "outcome": outcome.state, "message": outcome.message, "hint": outcome.hint,
        "exit_code": ended.code, "result": outcome.result,
    })
}

/// The signals by which a person, a service manager or a container ends a program.
fn listen() -> std::io::Result<UnboundedReceiver<SignalKind>> {
    let (sender, receiver) = unbounded_channel();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()] {
        let (mut heard, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move { while heard.recv().await.is_some() && sender.send(kind).is_ok() {} });
    }
    Ok(receiver)
}
