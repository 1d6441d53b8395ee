//! What the demo works with: the same functions as the commands.

use super::files::{self, Migration};
use super::narrator::{Accident, Narrator};
use crate::Error;
use crate::cli::apply::PROGRAM;
use crate::migration::Outcome;
use crate::spec::MigrateSpec;
use crate::worker::{self, Performance};
use crate::world::World;
use backup_agent::backup::{BackupOptions, backup};
use backup_agent::choose;
use backup_agent::cli::{put_line, text};
use backup_agent::record::{TaskMeter, of_backup, of_restore, succeeded, write_end};
use backup_agent::repository::StoredBackup;
use backup_agent::restore::{RestoreOptions, restore};
use backup_agent::stop;
use jiff::Timestamp;
use shared::clock;
use shared::config::Config;
use shared::connect;
use shared::engine::DumpOptions;
use shared::model::{At, DatabaseName, DatabaseUrl, NewTask, Task, TaskKind, TaskReport};
use shared::task_log::{TaskFilter, TaskLog, Worker};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// The demo's folder with everything in it.
pub struct Stage {
    folder: PathBuf,
    world: Arc<World>,
    log: Arc<dyn TaskLog>,
    worker: Worker,
    name: DatabaseName,
}

impl Stage {
    /// Opens what the folder's configuration names.
    pub async fn set(folder: &Path) -> Result<Self, Error> {
        let config = Config::load(Some(&folder.join(files::CONFIG)))?;
        let clock = clock::system();
        let log = connect::task_log(&config, clock.clone()).await?;
        let name = "shop".parse().map_err(|error| Error::failed(format!("{error}")))?;
        let world = Arc::new(World::new(config, clock, None));
        Ok(Stage { folder: folder.to_owned(), world, log, worker: Worker::here(PROGRAM), name })
    }

    /// The time on the demo's clock.
    pub fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    /// Puts a migration where the tool finds it.
    pub fn add(&self, migration: &Migration) -> Result<(), Error> {
        migration.write(&self.folder)
    }

    /// Takes it away again.
    pub fn take_away(&self, migration: &Migration) -> Result<(), Error> {
        let path = migration.path(&self.folder);
        std::fs::remove_file(&path).map_err(|error| files::failed(&path, &error))
    }

    /// What `backup-agent backup` does.
    pub async fn back_up(&self) -> Result<(), Error> {
        let begun = Instant::now();
        let engine = connect::engine(self.world.url(&self.name)?);
        let repository = self.world.repository().await?;
        let dump = DumpOptions { spool: self.world.config.spool(), ..DumpOptions::default() };
        let options = BackupOptions { dump, ..BackupOptions::default() };
        let work = backup(&repository, &self.name, &*engine, &options, Arc::new(TaskMeter::default()));
        let manifest = self.recorded(TaskKind::Backup, work, of_backup).await?;
        let (rows, took) = (text::count(manifest.rows()), begun.elapsed().as_secs_f64());
        let header = &manifest.header;
        put_line(&format!(
            "   {}/{}, {rows} rows, read back from the store, in {took:.2} s",
            header.database, header.id
        ));
        Ok(())
    }

    /// What `migrate-worker apply` does.
    pub async fn migrate(&self, accident: Option<Accident>) -> Result<Outcome, Error> {
        let spec = MigrateSpec { to: "head".into(), expected_from: None, mode: None, may_drop: Vec::new(), yes: false };
        let spec = serde_json::to_value(spec).map_err(|error| Error::failed(error.to_string()))?;
        let task = NewTask { spec, ..self.task(TaskKind::Migrate) };
        let claimed = self.log.submit_claimed(&task, &self.worker, self.world.config.lease()).await?;
        let folder = self.world.folder(&task.job_id);
        let (stopper, stop) = stop::channel();
        let with = Performance {
            world: self.world.clone(),
            log: self.log.clone(),
            worker: self.worker.clone(),
            story: Arc::new(Narrator::new(task.job_id, &folder, accident)),
            meter: Arc::new(TaskMeter::default()),
            stopper,
            stop,
            is_changing: Arc::new(AtomicBool::new(false)),
        };
        worker::perform(with, claimed).await
    }

    /// What `backup-agent restore shop --at …` does.
    pub async fn bring_back(&self, at: Timestamp) -> Result<PathBuf, Error> {
        let begun = Instant::now();
        let path = self.folder.join(files::RESTORED);
        let repository = self.world.repository().await?;
        let chosen = choose::by_time(&repository, &self.name, &At::Instant(at)).await?;
        let stored = Arc::new(StoredBackup::open(&repository, chosen.manifest).await?);
        let bytes = stored.manifest().header.raw_bytes;
        let target = connect::engine(DatabaseUrl::Sqlite(path.clone()));
        let options = RestoreOptions::default();
        let work = restore(&repository, stored, &*target, &options, Arc::new(|_| {}));
        let restored = self.recorded(TaskKind::Restore, work, |restored| of_restore(restored, bytes)).await?;
        super::is_so(restored.proven, "what was restored was not proven")?;
        let (rows, took) = (text::count(restored.rows), begun.elapsed().as_secs_f64());
        put_line(&format!(
            "   {}: all {rows} rows read anew and equal to what was backed up, in {took:.2} s",
            restored.backup
        ));
        Ok(path)
    }

    /// Everything that was done, newest first.
    pub async fn tasks(&self) -> Result<Vec<Task>, Error> {
        Ok(self.log.tasks(&TaskFilter::default()).await?)
    }

    fn task(&self, kind: TaskKind) -> NewTask {
        NewTask { requested_by: "the demo".into(), ..NewTask::new(kind, Some(self.name.clone())) }
    }

    /// Does something that the record knows of.
    async fn recorded<T>(
        &self,
        kind: TaskKind,
        work: impl Future<Output = Result<T, Error>>,
        report: impl FnOnce(&T) -> TaskReport,
    ) -> Result<T, Error> {
        let claimed = self.log.submit_claimed(&self.task(kind), &self.worker, self.world.config.lease()).await?;
        let done = work.await?;
        match write_end(&*self.log, &claimed.lease, &succeeded(report(&done)), &*self.world.clock).await {
            None => Ok(done),
            Some(error) => Err(error.into()),
        }
    }
}
