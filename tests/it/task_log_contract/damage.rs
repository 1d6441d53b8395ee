//! Hands in the record: what was changed is named, the rest stays usable.

use super::*;
use shared::model::Class;

exams! {
    events_are_neither_changed_nor_removed_by_the_database,
    a_changed_missing_or_added_event_is_found,
    a_row_of_an_unknown_state_is_named_and_others_go_on,
}

async fn ended(log: &dyn TaskLog, name: &str) -> JobId {
    let task = backup(name);
    submit(log, &task).await;
    let claimed = claim(log, LONG).await.unwrap();
    log.finish(&claimed.lease, &done()).await.unwrap();
    task.job_id
}

async fn events_are_neither_changed_nor_removed_by_the_database(world: &World) {
    let log = world.open().await;
    let (job, other) = (ended(&*log, "shop").await, backup("lite"));
    submit(&*log, &other).await;
    let before = world.contents();
    let tombstone = |hash: &str, job: JobId| {
        format!(
            "INSERT INTO job_tombstone SELECT job_id, kind, target, state, spec_sha256, event_seq, {hash}, created_at,
                 finished_at, 1 FROM task_log WHERE job_id = '{job}';"
        )
    };
    for (sql, words) in [
        (format!("UPDATE task_event SET detail = 'x' WHERE job_id = '{job}'"), "append-only"),
        (format!("DELETE FROM task_event WHERE job_id = '{job}' AND seq = 3"), "append-only"),
        (format!("DELETE FROM task_event WHERE job_id = '{job}'"), "append-only"),
        (format!("DELETE FROM task_log WHERE job_id = '{job}'"), "tombstone"),
        (format!("BEGIN; {} DELETE FROM task_log WHERE job_id = '{job}'; COMMIT", tombstone("'x'", job)), "tombstone"),
        (format!("BEGIN; {} DELETE FROM task_event WHERE job_id = '{job}'; COMMIT", tombstone("event_hash", job)), "append-only"),
        (
            format!("BEGIN; {} DELETE FROM task_log WHERE job_id = '{1}'; COMMIT", tombstone("event_hash", other.job_id), other.job_id),
            "tombstone",
        ),
    ] {
        let error = world.try_sql(&sql).expect_err(&sql);
        assert!(error.contains(words), "{sql}: {error}");
        assert_eq!(world.contents(), before, "{sql}");
    }
    if matches!(world, World::Postgres { .. }) {
        assert!(world.try_sql("TRUNCATE task_event").unwrap_err().contains("append-only"));
    }
    world.sql(&format!("BEGIN; {} DELETE FROM task_log WHERE job_id = '{job}'; COMMIT", tombstone("event_hash", job)));
    assert_eq!(world.sql(&format!("SELECT count(*) FROM task_event WHERE job_id = '{job}'")), "0");
}

async fn a_changed_missing_or_added_event_is_found(world: &World) {
    let log = world.open().await;
    let untouched = ended(&*log, "untouched").await;
    match world {
        World::Sqlite { .. } => world.sql(
            "DROP TRIGGER task_event_is_not_changed; DROP TRIGGER task_event_goes_with_its_task",
        ),
        World::Postgres { .. } => world.sql("ALTER TABLE task_event DISABLE TRIGGER USER"),
    };
    let hash = "0123456789012345678901234567890123456789012345678901234567890123";
    for (at, change) in [
        "UPDATE task_event SET detail = 'nothing happened' WHERE seq = 2 AND job_id = ",
        "UPDATE task_event SET what = 'failed' WHERE seq = 3 AND job_id = ",
        "UPDATE task_event SET at = at + 1 WHERE seq = 1 AND job_id = ",
        "DELETE FROM task_event WHERE seq = 3 AND job_id = ",
        "DELETE FROM task_event WHERE seq = 2 AND job_id = ",
        "DELETE FROM task_event WHERE job_id = ",
        &format!("INSERT INTO task_event SELECT job_id, 4, at, 'failed', '', '{hash}' FROM task_event WHERE seq = 3 AND job_id = "),
        "UPDATE task_log SET spec = '{\"other\":1}' WHERE job_id = ",
        "UPDATE task_log SET target = 'other' WHERE job_id = ",
    ]
    .iter()
    .enumerate()
    {
        let job = ended(&*log, &format!("shop{at}")).await;
        world.sql(&format!("{change}'{job}'"));
        let error = log.events(&job).await.expect_err(change);
        assert!(matches!(error, TaskLogError::Damaged { .. }) && error.class() == Class::Corrupt, "{change}: {error}");
        assert!(error.to_string().contains(&job.to_string()), "{error}");
    }
    assert_eq!(whats(&*log, untouched).await, ["queued", "running", "succeeded"]);
}

async fn a_row_of_an_unknown_state_is_named_and_others_go_on(world: &World) {
    let log = world.open().await;
    let changes = [
        "state = 'pondering'",
        "kind = 'dance'",
        "spec = 'no json'",
        "door = 'window'",
        "channels = '7'",
        "target = 'No Such Name'",
        "attempt = -1",
    ];
    let mut odd = Vec::new();
    for (at, change) in changes.iter().enumerate() {
        let task = NewTask { priority: 9, ..backup(&format!("odd{at}")) };
        submit(&*log, &task).await;
        world.sql(&format!("UPDATE task_log SET {change} WHERE job_id = '{}'", task.job_id));
        odd.push(task.job_id);
    }
    let good = backup("good");
    submit(&*log, &good).await;
    assert_eq!(claim(&*log, LONG).await.unwrap().task.job_id, good.job_id);
    assert_eq!(claim(&*log, LONG).await, None);
    let listed = log.tasks(&TaskFilter::default()).await.unwrap();
    // Only whom to tell cannot be read of the one with odd channels.
    assert_eq!(listed.iter().map(|task| task.job_id).collect::<Vec<_>>(), [good.job_id, odd[4]]);
    for (at, job) in odd.iter().enumerate().filter(|(at, _)| *at != 4) {
        let error = log.tasks(&TaskFilter { job_id: Some(*job), ..TaskFilter::default() }).await.unwrap_err();
        assert!(matches!(error, TaskLogError::Damaged { .. }), "{}: {error}", changes[at]);
        assert!(error.to_string().contains(&job.to_string()), "{error}");
    }
    // An active one that cannot be read does not stop the others either.
    world.sql(&format!("UPDATE task_log SET state = 'running' WHERE job_id = '{}'", odd[2]));
    submit(&*log, &backup("more")).await;
    assert!(claim(&*log, LONG).await.is_some());
    log.tidy().await.unwrap();
}
