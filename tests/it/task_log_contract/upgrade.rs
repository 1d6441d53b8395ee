//! A record of the first version keeps what it holds when its tables are brought to the present form.

use super::*;

exams! {
    a_record_of_the_first_version_is_upgraded_with_its_contents,
}

const SQLITE: &str = include_str!("../../../shared/src/task_log/schema/sqlite/0001_task_log.sql");
const POSTGRES: &str = include_str!("../../../shared/src/task_log/schema/postgres/0001_task_log.sql");

const TABLES: [&str; 6] = ["task_log", "task_attempt", "task_event", "worker", "schedule", "job_tombstone"];

/// The columns of a table as it is now.
fn columns(world: &World, table: &str) -> String {
    match world {
        World::Sqlite { .. } => {
            world.sql(&format!("SELECT group_concat(name, ', ') FROM pragma_table_info('{table}')"))
        }
        World::Postgres { .. } => world.sql(&format!(
            "SELECT string_agg(column_name, ', ' ORDER BY ordinal_position) FROM information_schema.columns
             WHERE table_schema = 'holdfast' AND table_name = '{table}'"
        )),
    }
}

/// Puts the same contents into tables made by the first version's own statements; returns the columns of each.
async fn take_back_to_the_first_version(world: &World) -> [String; 6] {
    let (attach, detach) = match world {
        World::Sqlite { .. } => {
            let (old, new) = (world.file(), world.file().with_file_name("newer.db"));
            // The connection is closed by a thread of the driver.
            until(async || world.try_sql("PRAGMA journal_mode = DELETE").is_ok()).await;
            std::fs::rename(&old, &new).unwrap();
            world.sql(&format!(
                "PRAGMA application_id = {}; {SQLITE}
                 CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL,
                     installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL,
                     checksum BLOB NOT NULL, execution_time BIGINT NOT NULL);",
                0x4846_544c
            ));
            (format!("ATTACH '{}' AS newer;", new.display()), "")
        }
        World::Postgres { .. } => {
            world.sql(&format!(
                "ALTER SCHEMA holdfast RENAME TO newer; CREATE SCHEMA holdfast; {POSTGRES}
                 CREATE TABLE _sqlx_migrations (LIKE newer._sqlx_migrations INCLUDING ALL);"
            ));
            (String::new(), "DROP SCHEMA newer CASCADE")
        }
    };
    let columns = TABLES.map(|table| columns(world, table));
    let copy = |(table, columns)| format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM newer.{table};");
    let copies: String = TABLES.iter().zip(&columns).map(copy).collect();
    let first = "INSERT INTO _sqlx_migrations SELECT * FROM newer._sqlx_migrations WHERE version = 1;";
    world.sql(&format!("{attach} {first} {copies} {detach}"));
    columns
}

async fn a_record_of_the_first_version_is_upgraded_with_its_contents(world: &World) {
    let log = world.open().await;
    submit(&*log, &backup("done")).await;
    let ended = claim(&*log, LONG).await.unwrap();
    log.finish(&ended.lease, &done()).await.unwrap();
    // The first version knew of no recovery: a migration whose holder was lost just looked so.
    let migration = NewTask { kind: TaskKind::Migrate, ..backup("shop") };
    log.submit_claimed(&migration, &worker(), world.short()).await.unwrap();
    world.let_lapse(&*log, migration.job_id).await;
    submit(&*log, &backup("lite")).await;
    drop(log);
    let columns = take_back_to_the_first_version(world).await;
    let contents = |(table, columns)| world.sql(&format!("SELECT {columns} FROM {table} ORDER BY 1, 2"));
    let tables = || TABLES.iter().zip(&columns).map(contents).collect::<Vec<_>>();
    let before = tables();
    assert!(before[0].contains("migrate") && before[2].contains("succeeded"));
    assert!(world.try_sql("SELECT * FROM task_step").is_err());

    // Who may only read says so; of several who may write one upgrades, and all go on.
    let reader = match world {
        World::Sqlite { clock, .. } => {
            SqliteTaskLog::open_existing(&world.file(), Arc::new(clock.clone())).await.err().unwrap()
        }
        World::Postgres { database } => {
            let shared::model::DatabaseUrl::Postgres(url) = database.url().parse().unwrap() else { panic!() };
            PostgresTaskLog::open_existing(url).await.err().unwrap()
        }
    };
    assert!(matches!(reader, TaskLogError::Unusable { .. }) && reader.to_string().contains("older"), "{reader}");
    assert_eq!(tables(), before);
    let opened = tokio::join!(world.open(), world.open(), world.open(), world.open());
    assert_eq!(tables(), before);
    assert_eq!(world.sql("SELECT max(version), count(*) FROM _sqlx_migrations"), "4|4");

    let log = opened.0;
    assert_eq!(whats(&*log, ended.task.job_id).await, ["queued", "running", "succeeded"]);
    let lost = opened.1.claim(&worker(), &Wanted::kinds(TaskKind::ALL), LONG).await.unwrap().unwrap();
    assert_eq!((lost.task.job_id, lost.task.state, lost.lease.epoch), (migration.job_id, TaskState::Recovering, 2));
    let note = shared::model::StepNote {
        seq: 1,
        epoch: 2,
        at: world.now().round(jiff::Unit::Microsecond).unwrap(),
        step: "apply".into(),
        phase: shared::model::Phase::Intent,
        data: serde_json::json!({}),
    };
    opened.2.note_step(&lost.lease, &note).await.unwrap();
    assert_eq!(opened.3.steps(&migration.job_id).await.unwrap(), [note]);
    let refused = log.submit_claimed(&backup("shop"), &worker(), LONG).await.unwrap_err();
    assert!(matches!(refused, TaskLogError::Busy { .. }), "{refused}");
}
