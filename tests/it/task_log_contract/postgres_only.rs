//! What only a server can have: sessions that end, passwords, roles, later tables.

use super::*;
use shared::model::Class;
use tests::postgres;

fn terminate(database: &str) {
    postgres::on_server(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid()"
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_sessions_are_replaced_and_nothing_is_lost() {
    let database = TestDatabase::new();
    let log = Arc::new(open_postgres(&database.url()).await.unwrap());
    // At rest nobody notices.
    for at in 0..3 {
        submit(&*log, &backup(&format!("rest{at}"))).await;
        terminate(database.name());
    }
    // In use a call may fail; the same call again is the same task.
    let (url, stop) = (database.url(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let (name, stopped) = (database.name().to_owned(), stop.clone());
    let killer = tokio::task::spawn_blocking(move || {
        while !stopped.load(std::sync::atomic::Ordering::SeqCst) {
            terminate(&name);
        }
    });
    let mut failures = 0;
    for at in 0..40 {
        let task = backup(&format!("use{at}"));
        until(async || match log.submit(&task).await {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.class(), Class::Transient, "{error}");
                failures += 1;
                false
            }
        })
        .await;
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    killer.await.unwrap();
    println!("{failures} calls failed");
    let log = open_postgres(&url).await.unwrap();
    let tasks = log.tasks(&TaskFilter::default()).await.unwrap();
    assert_eq!(tasks.len(), 43);
    for task in tasks {
        assert_eq!(whats(&log, task.job_id).await, ["queued"]);
    }
}

#[tokio::test]
async fn few_sessions_are_held_and_none_is_left_in_a_transaction() {
    let database = TestDatabase::new();
    let log = Arc::new(open_postgres(&database.url()).await.unwrap());
    let calls: Vec<_> = (0..30)
        .map(|at| {
            let log = log.clone();
            tokio::spawn(async move { submit(&*log, &backup(&format!("shop{at}"))).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    log.finish(&shared::task_log::TaskLease { job_id: JobId::random(), epoch: 1, worker: "x".into() }, &done())
        .await
        .unwrap_err();
    let states = database.query_rows(
        "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'holdfast'",
    );
    assert!(!states.is_empty() && states.len() <= 4, "{states:?}");
    assert!(states.iter().all(|state| state[0] == "idle"), "{states:?}");
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database =
        (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(database.query_value(locks), "0");
}

#[tokio::test]
async fn errors_name_the_place_and_never_the_password() {
    let database = TestDatabase::new();
    let wrong = open_postgres(&database.scram_url(Some("s3cret-wrong"))).await.err().unwrap();
    assert!(matches!(wrong, TaskLogError::Unusable { .. }) && wrong.hint().is_some(), "{wrong}");
    let nobody = open_postgres("postgres://me:s3cret@127.0.0.1:1/state").await.err().unwrap();
    assert!(matches!(nobody, TaskLogError::Unavailable { .. }), "{nobody}");
    let gone = open_postgres(&postgres::url_of("no_such_database")).await.err().unwrap();
    assert!(matches!(gone, TaskLogError::Unusable { .. }), "{gone}");
    for error in [wrong, nobody, gone] {
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn a_reader_makes_nothing_and_later_tables_are_refused() {
    let database = TestDatabase::new();
    let shared::model::DatabaseUrl::Postgres(url) = database.url().parse().unwrap() else { panic!() };
    let none = PostgresTaskLog::open_existing(url.clone()).await.err().unwrap();
    assert!(matches!(none, TaskLogError::Missing { .. }), "{none}");
    assert_eq!(database.query_value("SELECT count(*) FROM pg_namespace WHERE nspname = 'holdfast'"), "0");
    let openers: Vec<_> = (0..4)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { PostgresTaskLog::open(url).await.map(drop) })
        })
        .collect();
    for opener in openers {
        opener.await.unwrap().unwrap();
    }
    let reader = PostgresTaskLog::open_existing(url.clone()).await.unwrap();
    let error = reader.describe();
    assert!(error.ends_with(database.name()) && error.starts_with("postgres://"), "{error}");
    database.psql("INSERT INTO holdfast._sqlx_migrations (version, description, success, checksum, execution_time) VALUES (999, 'x', true, '', 0)");
    for opened in [PostgresTaskLog::open(url.clone()).await, PostgresTaskLog::open_existing(url).await] {
        let error = opened.err().unwrap();
        assert!(
            matches!(error, TaskLogError::Unusable { .. }) && error.to_string().contains("later version"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_locked_table_is_told_in_time() {
    let database = TestDatabase::new();
    let log = open_postgres(&database.url()).await.unwrap();
    submit(&log, &backup("shop")).await;
    let blocker = database.url();
    let lock = tokio::task::spawn_blocking(move || {
        postgres::psql(&blocker, "BEGIN; LOCK TABLE holdfast.task_log; SELECT pg_sleep(600)")
    });
    until(async || {
        let locks = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted
            AND relation = to_regclass('holdfast.task_log')";
        database.query_value(locks) == "1"
    })
    .await;
    let begun = Instant::now();
    let error = log.submit(&backup("lite")).await.unwrap_err();
    assert!(matches!(error, TaskLogError::Unavailable { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    postgres::on_server(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND query LIKE '%pg_sleep(600)%'",
        database.name()
    ));
    lock.await.unwrap().unwrap_err();
    submit(&log, &backup("lite")).await;
    assert_eq!(log.tasks(&TaskFilter::default()).await.unwrap().len(), 2);
}
