//! The steps that bring the record's tables to the newest form.

use super::TaskLogError;
use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// The steps for SQLite.
pub fn sqlite() -> Migrator {
    migrator([
        include_str!("schema/sqlite/0001_task_log.sql"),
        include_str!("schema/sqlite/0002_steps.sql"),
        include_str!("schema/sqlite/0003_large_queues.sql"),
        include_str!("schema/both/0004_approval.sql"),
    ])
}

/// The steps for PostgreSQL.
pub fn postgres() -> Migrator {
    migrator([
        include_str!("schema/postgres/0001_task_log.sql"),
        include_str!("schema/postgres/0002_steps.sql"),
        include_str!("schema/postgres/0003_large_queues.sql"),
        include_str!("schema/both/0004_approval.sql"),
    ])
}

fn migrator<const N: usize>(steps: [&'static str; N]) -> Migrator {
    let migrations = (1..).zip(steps).map(|(version, sql)| {
        Migration::new(version, "task log".into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect())
}

/// What is to be done about tables of the version `applied`.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are as they should be.
    Current,
    /// Steps are missing.
    Older,
}

/// Compares the newest step that was applied with the newest one known.
pub fn judge(place: &str, migrator: &Migrator, applied: i64) -> Result<Verdict, TaskLogError> {
    let known = migrator.iter().map(|migration| migration.version).max().unwrap_or(0);
    if applied > known {
        return Err(TaskLogError::Unusable {
            place: place.to_owned(),
            message: format!("it was written by a later version (tables of version {applied}, known is {known})"),
            hint: Some("use the version of Holdfast that wrote it, or a newer one; it was not touched".into()),
        });
    }
    Ok(if applied == known { Verdict::Current } else { Verdict::Older })
}

/// The error of a reader that may not bring the tables to their newest form.
pub fn too_old(place: &str) -> TaskLogError {
    TaskLogError::Unusable {
        place: place.to_owned(),
        message: "its tables are of an older version".into(),
        hint: Some("backup-agent run brings them to the present one".into()),
    }
}
