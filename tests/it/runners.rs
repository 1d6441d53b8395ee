//! The migration tools as they are called: sqlx's migrator and Alembic, the real ones, on real databases.

mod alembic;
mod command;
mod configured;
mod django;
mod ending;
mod sql;

use backup_agent::stop::Stop;
use migrate_worker::runner::{Current, History, Route, Runner, RunnerError, ToolCall, ToolRun, route};
use shared::model::{DatabaseUrl, JobId};
use std::sync::Arc;
use std::time::Duration;
use tests::postgres::TestDatabase;
use tests::sqlite::TestFile;

/// A fresh database of either product.
enum Fresh {
    Sqlite(TestFile),
    Postgres(TestDatabase),
}

impl Fresh {
    /// One of each, the SQLite file made already.
    fn both() -> [Fresh; 2] {
        [Fresh::sqlite(), Fresh::Postgres(TestDatabase::new())]
    }

    fn sqlite() -> Fresh {
        let file = TestFile::new();
        file.sqlite3("CREATE TABLE keep (x)");
        Fresh::Sqlite(file)
    }

    fn url(&self) -> DatabaseUrl {
        match self {
            Fresh::Sqlite(file) => file.url().parse().unwrap(),
            Fresh::Postgres(database) => database.url().parse().unwrap(),
        }
    }

    /// The table's columns, or what is said where there is no such table.
    fn columns(&self, table: &str) -> String {
        match self {
            Fresh::Sqlite(file) => {
                file.sqlite3(&format!("SELECT group_concat(name) FROM pragma_table_info('{table}')")).trim().to_owned()
            }
            Fresh::Postgres(database) => {
                let rows = database.query_rows(&format!(
                    "SELECT column_name FROM information_schema.columns
                     WHERE table_name = '{table}' ORDER BY ordinal_position"
                ));
                rows.concat().join(",")
            }
        }
    }

    fn execute(&self, sql: &str) -> String {
        match self {
            Fresh::Sqlite(file) => file.sqlite3(sql),
            Fresh::Postgres(database) => database.psql(sql),
        }
    }
}

fn call() -> ToolCall {
    ToolCall { job: JobId::random(), deadline: Duration::from_secs(120), stop: Stop::never(), begun: Arc::new(|_| {}) }
}

/// History, where the database stands, and the way to `goal`.
async fn planned(runner: &dyn Runner, url: &DatabaseUrl, goal: &str) -> Result<(History, Current, Route), RunnerError> {
    let history = runner.history().await?;
    let current = runner.current(shared::connect::engine(url.clone()).as_ref(), &history).await?;
    let route = route(&history, &current, &goal.parse().unwrap())?;
    Ok((history, current, route))
}

/// Runs the tool to `goal`, and tells where the database stands then.
async fn go(runner: &dyn Runner, url: &DatabaseUrl, goal: &str) -> (ToolRun, Current) {
    let (history, _, route) = planned(runner, url, goal).await.unwrap();
    let run = runner.run(url, &route, &call()).await.unwrap();
    let current = runner.current(shared::connect::engine(url.clone()).as_ref(), &history).await.unwrap();
    assert!(run.strays == 0 && run.ended_early.is_none(), "{run:?}");
    if run.exit == Some(0) {
        assert_eq!(current.heads, route.to, "{run:?}");
    }
    (run, current)
}

/// Message and hint of a refusal.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, RunnerError>) -> String {
    let error = result.expect_err("a refusal");
    format!("{error}; {}", error.hint.as_deref().unwrap_or_default())
}
