//! `backup-agent restore --in-place`

use super::progress::Meter;
use super::recorded::busy;
use super::{Done, Failure, Global, put_line, text};
use crate::agent::{self, Job, StoreSource, World};
use crate::choose::Chosen;
use crate::error::Error;
use crate::in_place::{self, InPlaceSpec, Replaced, Task};
use crate::record::{HeldLease, KeptAlive, TaskMeter, ending, succeeded, write_end};
use crate::state::state_is_apart;
use crate::stop::{self, StopReason};
use shared::clock;
use shared::connect;
use shared::model::{DatabaseName, NewTask, TaskKind};
use shared::task_log::{Claimed, TaskLog, Wanted, Worker};
use std::io::{BufRead, IsTerminal, Write};
use std::sync::Arc;

/// What was asked for.
pub(super) struct Wish {
    /// The backup.
    pub(super) chosen: Chosen,
    /// The database it is to replace, where that may be another one than it was taken of.
    pub(super) as_name: Option<DatabaseName>,
    /// Nobody is to be asked.
    pub(super) yes: bool,
    /// The result as JSON.
    pub(super) json: bool,
}

/// Replaces a configured database by a backup. What earlier tries left unfinished is finished first.
pub(super) async fn run(global: &Global, wish: Wish) -> Done {
    let config = global.config()?;
    state_is_apart(&config).await?;
    let header = &wish.chosen.manifest.header;
    let (backup, raw_bytes) = (format!("{}/{}", header.database, header.id), header.raw_bytes);
    let name = wish.as_name.clone().unwrap_or_else(|| header.database.clone());
    let Some(url) = config.database_url(&name).map_err(Error::from)? else {
        let hint = "--in-place replaces a database of holdfast.toml; --into names any other";
        return Err(Error::refused(format!("{name} is no configured database"), hint).into());
    };
    let source = StoreSource::Configured(global.store().map(str::to_owned));
    let world = Arc::new(World::new(config, clock::system(), source)?);
    let log = connect::task_log(&world.config, world.clock.clone()).await.map_err(Error::from)?;
    let here = Here { global, world, log, worker: Worker::here("backup-agent") };
    if !wish.yes {
        confirm(&name, &url.to_string(), &backup)?;
    }
    let finished = here.recover_lost(&name).await?;
    if let Some(replaced) = finished.into_iter().find(|replaced| replaced.backup == backup) {
        // The wish of somebody whose first try was killed.
        if wish.json {
            put_line(&serde_json::json!(replaced).to_string());
        }
        return Ok(());
    }
    let spec = InPlaceSpec { in_place: true, backup, other_identity: wish.as_name.is_some() };
    let task = NewTask {
        spec: serde_json::to_value(&spec).map_err(|error| Error::failed(error.to_string()))?,
        requested_by: global.person(),
        ..NewTask::new(TaskKind::Restore, Some(name.clone()))
    };
    let claimed = here.log.submit_claimed(&task, &here.worker, here.world.config.lease()).await.map_err(busy)?;
    let replaced = here.perform(claimed, &name, &spec, raw_bytes).await?;
    if wish.json {
        put_line(&serde_json::json!(replaced).to_string());
    }
    told(&name, &replaced);
    Ok(())
}

fn told(name: &DatabaseName, replaced: &Replaced) {
    let rows = text::count(replaced.rows);
    say!("{name} ({}) is backup {} now: {rows} rows, proven equal", replaced.into, replaced.backup);
    if let Some(kept) = &replaced.kept {
        say!("what was there is kept as {kept}: remove it when nobody needs it any more");
    }
    if let Some(ms) = replaced.blocked_ms.filter(|_| replaced.kept.is_some()) {
        say!("nobody else could use it for {ms} ms");
    }
}

/// Asks a person to type the database's name.
fn confirm(name: &DatabaseName, url: &str, backup: &str) -> Result<(), Failure> {
    let nobody = || Failure::Usage("--in-place replaces a database: type its name on a terminal, or give --yes".into());
    if !std::io::stdin().is_terminal() {
        return Err(nobody());
    }
    let mut stderr = std::io::stderr();
    let asked = write!(stderr, "{backup} will replace {name} ({url}). Type {name} to go on: ");
    asked.and_then(|()| stderr.flush()).map_err(|_| nobody())?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|_| nobody())?;
    if line.trim() == name.as_str() {
        return Ok(());
    }
    Err(Error::refused("another name was typed; nothing was touched", None).into())
}

/// This process as it works on one database.
struct Here<'a> {
    global: &'a Global,
    world: Arc<World>,
    log: Arc<dyn TaskLog>,
    worker: Worker,
}

impl Here<'_> {
    /// Finishes what lost workers left of restores of this database; returns those in place.
    async fn recover_lost(&self, name: &DatabaseName) -> Result<Vec<Replaced>, Error> {
        let mut finished = Vec::new();
        let wanted =
            Wanted { targets: Some(vec![name.clone()]), only_lost: true, ..Wanted::kinds(&[TaskKind::Restore]) };
        while let Some(claimed) = self.log.claim(&self.worker, &wanted, self.world.config.lease()).await? {
            let job = claimed.task.job_id;
            say!("job {job} lost its worker: going on with it");
            match InPlaceSpec::of(&claimed.task.spec) {
                Some(spec) => match self.perform(claimed, name, &spec, 0).await {
                    Ok(replaced) => {
                        told(name, &replaced);
                        finished.push(replaced);
                    }
                    Err(error @ Error::Unfinished(_)) => return Err(error),
                    Err(error) => say!("job {job}: {error}"),
                },
                None => {
                    let (stopper, stop) = stop::channel();
                    let job = Job::claimed(claimed, self.log.clone());
                    drop(agent::attempt(self.world.clone(), job, stopper, stop).await);
                }
            }
        }
        Ok(finished)
    }

    /// Does a task and writes its end down, unless its database is in the middle of it.
    async fn perform(
        &self,
        claimed: Claimed,
        name: &DatabaseName,
        spec: &InPlaceSpec,
        raw_bytes: u64,
    ) -> Result<Replaced, Error> {
        let Claimed { lease, is_recovery, .. } = claimed;
        let (world, clock) = (&*self.world, self.world.clock.clone());
        let (stopper, stop) = stop::channel();
        let interrupted = stopper.clone();
        let listener = tokio::spawn(async move {
            if stop::told_to_end().await.is_ok() {
                interrupted.stop(StopReason::Cancelled);
            }
        });
        let held = HeldLease::bearing_silence(self.log.clone(), lease.clone(), world.config.lease());
        let meter = Arc::new(TaskMeter::default());
        let alive = KeptAlive::begin(Some(held.clone()), clock.clone(), None, meter.clone(), stopper.clone());
        let bar = Meter::new(self.global, "restoring", raw_bytes);
        let (worker, progress) = (self.worker.clone(), bar.for_load());
        let task = Task { world, name, spec, held, is_recovery, worker, meter, progress, stop, stopper };
        let result = in_place::run(task).await;
        bar.finish();
        listener.abort();
        let ending = match &result {
            Err(Error::Unfinished(_)) => return result,
            Ok(replaced) => succeeded(replaced.report()),
            Err(error) => ending(error, 1, 1, &*clock),
        };
        drop(alive);
        if let Some(error) = write_end(&*self.log, &lease, &ending, &*clock).await {
            say!("warning: the end of this could not be recorded: {error}");
        }
        result
    }
}
