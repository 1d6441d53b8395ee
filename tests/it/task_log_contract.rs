//! One exam for every record of tasks: what the rest of Holdfast may rely on.

mod approvals;
mod claiming;
mod damage;
mod holding;
mod outbox;
mod postgres_only;
mod racing;
mod sagas;
mod sqlite_only;
mod steps;
mod submitting;
mod upgrade;

use jiff::{SignedDuration, Timestamp};
use shared::model::{DatabaseName, JobId, NewTask, Task, TaskDoor, TaskKind, TaskReport, TaskState};
use shared::task_log::postgres::PostgresTaskLog;
use shared::task_log::sqlite::SqliteTaskLog;
use shared::task_log::{Claimed, Ending, Submitted, TaskFilter, TaskLog, TaskLogError, TaskProgress, Wanted, Worker};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::fake_clock::FakeClock;
use tests::postgres::TestDatabase;

/// A lease that does not run out while a test of something else works.
const LONG: Duration = Duration::from_secs(3600);
/// How long a condition is waited for before it counts as not met.
const DEADLINE: Duration = Duration::from_secs(60);

/// Where a record is examined.
enum World {
    Sqlite { folder: tempfile::TempDir, clock: FakeClock },
    Postgres { database: TestDatabase },
}

impl World {
    fn sqlite() -> Self {
        let clock = FakeClock::at("2025-06-01T12:00:00Z".parse().unwrap());
        World::Sqlite { folder: tempfile::tempdir().unwrap(), clock }
    }

    fn postgres() -> Self {
        World::Postgres { database: TestDatabase::new() }
    }

    fn file(&self) -> PathBuf {
        let World::Sqlite { folder, .. } = self else { panic!("PostgreSQL has no file") };
        folder.path().join("state.db")
    }

    /// A record of its own, with connections of its own.
    async fn open(&self) -> Arc<dyn TaskLog> {
        match self {
            World::Sqlite { clock, .. } => Arc::new(open_sqlite(&self.file(), clock).await.unwrap()),
            World::Postgres { database } => Arc::new(open_postgres(&database.url()).await.unwrap()),
        }
    }

    /// Runs SQL behind the record's back; the answer is unaligned text.
    #[track_caller]
    fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn try_sql(&self, sql: &str) -> Result<String, String> {
        let answer = match self {
            World::Sqlite { .. } => tests::sqlite::sqlite3(&self.file(), &format!("PRAGMA foreign_keys = ON; {sql}")),
            World::Postgres { database } => database.try_psql(&format!("SET search_path = holdfast; {sql}")),
        };
        answer.map(|text| text.trim().to_owned())
    }

    /// Everything that is recorded, as text.
    fn contents(&self) -> String {
        ["task_log", "task_attempt", "task_event", "event_delivery", "schedule", "job_tombstone"]
            .map(|table| self.sql(&format!("SELECT * FROM {table} ORDER BY 1, 2, 3")))
            .join("\n--\n")
    }

    fn now(&self) -> Timestamp {
        match self {
            World::Sqlite { clock, .. } => shared::clock::Clock::now(clock),
            World::Postgres { .. } => Timestamp::now(),
        }
    }

    /// A lease that [`World::let_lapse`] makes run out.
    fn short(&self) -> Duration {
        match self {
            World::Sqlite { .. } => Duration::from_secs(60),
            World::Postgres { .. } => Duration::from_secs(1),
        }
    }

    /// Time passes until the short lease of `job` has run out.
    async fn let_lapse(&self, log: &dyn TaskLog, job: JobId) {
        self.pass(self.short());
        until(async || one(log, job).await.is_lapsed).await;
    }

    /// Time passes where a test has it in hand; elsewhere conditions are waited for.
    fn pass(&self, time: Duration) {
        if let World::Sqlite { clock, .. } = self {
            clock.advance(time);
        }
    }
}

async fn open_sqlite(path: &Path, clock: &FakeClock) -> Result<SqliteTaskLog, TaskLogError> {
    SqliteTaskLog::open(path, Arc::new(clock.clone())).await
}

async fn open_postgres(url: &str) -> Result<PostgresTaskLog, TaskLogError> {
    let shared::model::DatabaseUrl::Postgres(url) = url.parse().unwrap() else { panic!("{url} is no PostgreSQL") };
    PostgresTaskLog::open(url).await
}

/// Asks until the answer is yes. Panics after a minute.
async fn until(mut met: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !met().await {
        assert!(begun.elapsed() < DEADLINE, "a condition was not met within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs each exam on both databases.
macro_rules! exams {
    ($($name:ident,)+) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(&crate::task_log_contract::World::sqlite()).await })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(&crate::task_log_contract::World::postgres()).await })+
        }
    };
}
use exams;

fn database(name: &str) -> Option<DatabaseName> {
    Some(name.parse().unwrap())
}

fn backup(name: &str) -> NewTask {
    let mut task = NewTask::new(TaskKind::Backup, database(name));
    task.max_attempts = 3;
    task.channels = vec!["webhook".into()];
    task.requested_by = "the exam".into();
    task
}

fn worker() -> Worker {
    Worker::here("exam 1")
}

async fn submit(log: &dyn TaskLog, task: &NewTask) {
    assert_eq!(log.submit(task).await.unwrap(), Submitted::New);
}

async fn claim(log: &dyn TaskLog, lease: Duration) -> Option<Claimed> {
    log.claim(&worker(), &Wanted::kinds(TaskKind::ALL), lease).await.unwrap()
}

async fn one(log: &dyn TaskLog, job: JobId) -> Task {
    let filter = TaskFilter { job_id: Some(job), ..TaskFilter::default() };
    let found = log.tasks(&filter).await.unwrap();
    assert_eq!(found.len(), 1, "{job}");
    found.into_iter().next().unwrap()
}

async fn whats(log: &dyn TaskLog, job: JobId) -> Vec<String> {
    log.events(&job).await.unwrap().into_iter().map(|event| event.what).collect()
}

fn done() -> Ending {
    let report = TaskReport { backup_id: Some("shop/1".into()), rows: Some(7), ..TaskReport::default() };
    Ending { state: TaskState::Succeeded, again_at: None, report }
}

fn retry(again_at: Option<Timestamp>) -> Ending {
    let report = TaskReport {
        error_class: Some("transient".into()),
        error_message: Some("no answer".into()),
        ..TaskReport::default()
    };
    Ending { state: TaskState::Queued, again_at, report }
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

fn progress() -> TaskProgress {
    TaskProgress { step: Some("reading".into()), bytes_done: 5, bytes_expected: Some(10) }
}
