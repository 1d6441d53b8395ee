//! `0 3 * * *` a backup, `0 4 * * *` those of thirty days ago deleted; while backups fail, and for longer than that.

use jiff::{SignedDuration, Timestamp};
use shared::clock::Clock;
use shared::model::{Task, TaskKind, TaskState};
use tests::agent_world::AgentWorld;
use tests::sqlite::{TestFile, sqlite_dump_text};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The lines of the crontab, as the configuration has them.
///
/// A server dates its snapshots by a clock that no test turns; the agent's own work is the same for every product.
fn config(shop: &TestFile) -> String {
    format!(
        "[prune]\nschedule = {{ cron = \"0 4 * * *\" }}\n\n[database.etsy_sevdesk]\nurl = \"{}\"\n\
         schedule = {{ cron = \"0 3 * * *\" }}\nretention = {{ daily = 30 }}\n",
        shop.url()
    )
}

fn sells(shop: &TestFile, day: usize) {
    shop.sqlite3(&format!(
        "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, etsy_receipt_id INTEGER, status TEXT);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 7)
         INSERT INTO orders (etsy_receipt_id, status) SELECT 3000000000 + {day} * 100 + i, 'paid' FROM n;"
    ));
}

/// Ids of the backups that are kept, oldest first; each is complete.
async fn kept(world: &AgentWorld) -> Vec<String> {
    let backups = world.backups("etsy_sevdesk").await;
    assert!(backups.iter().all(|backup| backup.is_complete()), "{backups:?}");
    backups.iter().map(|backup| backup.id.to_string()).collect()
}

/// The backups that `find -mtime +30 -delete` would have left.
async fn left_by_age(world: &AgentWorld) -> usize {
    let now = world.clock.now();
    let backups = world.backups("etsy_sevdesk").await;
    // -mtime +30 means more than thirty whole days.
    backups.iter().filter(|backup| now.duration_since(backup.id.second()) < DAY * 31).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nights_at_three_with_thirty_days_kept_outlast_thirty_nights_that_fail() {
    let shop = TestFile::named("etsy_sevdesk.db");
    let away = shop.folder().join("away.db");
    sells(&shop, 0);
    let begin: Timestamp = "2024-11-01T12:00:00Z".parse().unwrap();
    let mut world = AgentWorld::new(&config(&shop), "2024-11-01T12:00:00Z");
    // Two months in which every fifth night fails.
    for day in 1..=60 {
        let fails = day % 5 == 0;
        if fails {
            std::fs::rename(shop.path(), &away).unwrap();
        }
        world.live_until(begin + DAY * i32::try_from(day).unwrap()).await;
        if fails {
            std::fs::rename(&away, shop.path()).unwrap();
        }
        sells(&shop, day);
    }
    let before = kept(&world).await;
    assert_eq!(before.len(), 30, "{before:?}");
    let newest = before.last().unwrap().clone();
    // The night of 30 December failed: 31 December is not over.
    assert!(newest.starts_with("20241230T0300"), "{newest}");
    let as_it_was = {
        let folder = tempfile::tempdir().unwrap();
        sqlite_dump_text(&world.restored_file("etsy_sevdesk", &newest, folder.path()).await)
    };

    // Forty nights in which all of them do.
    std::fs::rename(shop.path(), &away).unwrap();
    world.live_until(begin + DAY * 100).await;
    assert_eq!(kept(&world).await, before, "nights that fail cost backups that are good");
    assert_eq!(left_by_age(&world).await, 0, "and by their age all of them would be gone");
    let folder = tempfile::tempdir().unwrap();
    let restored = world.restored_file("etsy_sevdesk", &newest, folder.path()).await;
    assert_eq!(sqlite_dump_text(&restored), as_it_was);
    let tasks = world.tasks().await;
    let of = |kind, state| tasks.iter().filter(|task| task.kind == kind && task.state == state).collect::<Vec<_>>();
    let failed = of(TaskKind::Backup, TaskState::Refused);
    assert_eq!(failed.len(), 12 + 40, "every failed night is in the record");
    assert!(failed[0].report.error_message.as_deref().unwrap().contains("no database file"), "{:?}", failed[0]);
    // What removes does not while nothing new comes.
    let why = |task: &&Task| {
        task.report.error_message.as_deref().unwrap_or_default().contains("more than three intervals ago")
    };
    assert!(of(TaskKind::Prune, TaskState::Refused).iter().filter(|task| why(task)).count() >= 30);

    // Then it works again: the new one takes the place of the oldest, not of all.
    std::fs::rename(&away, shop.path()).unwrap();
    world.live_until(begin + DAY * 101).await;
    let after = kept(&world).await;
    assert_eq!(after[..29], before[1..]);
    assert!(world.backups("etsy_sevdesk").await.last().unwrap().proven_at().is_some());
    assert_eq!(after.len(), 30, "{after:?}");
}
