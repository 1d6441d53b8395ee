//! A tool whose client is dead may still be at work on the server.

use super::{Idle, Target, refusal};
use std::time::Duration;
use tests::postgres::{on_server, psql, url_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_goes_on_without_its_client_and_the_cut_off_stops_it() {
    let target = Target::new();
    let live = &target.live;
    let oid = live.oid().await.unwrap();
    let plan = live.plan_fence(1).await.unwrap();
    live.fence(&plan).await.unwrap();
    let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE datid = {oid}");
    let mut tool = Idle::begin(&url_of(&plan.fenced), "holdfast-tool", "CREATE TABLE zombie AS SELECT pg_sleep(3)");
    tool.kill();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(on_server(&sessions).trim(), "1", "the statement ended with its client, so this test shows nothing");

    let new = live.cut_off(&plan, 2).await.unwrap();
    assert_eq!(on_server(&sessions).trim(), "0");
    assert!(refusal(&plan.fenced).contains("does not exist"), "{}", refusal(&plan.fenced));
    assert_eq!(psql(&url_of(&new.fenced), "SELECT to_regclass('zombie')").unwrap(), "\n");
    live.unfence(&new).await.unwrap();
    assert_eq!(target.psql("SELECT to_regclass('zombie'); TABLE t"), "\n1\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_prepared_behind_the_fence_is_named_and_nothing_is_opened() {
    let target = Target::new();
    let live = &target.live;
    let plan = live.plan_fence(1).await.unwrap();
    live.fence(&plan).await.unwrap();
    psql(&url_of(&plan.fenced), "BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'left by the tool'").unwrap();
    let admin = live.fenced_admin_url(&plan);
    let left = live.left_over_in(&admin).await.unwrap();
    assert_eq!(left, [r#"transaction "left by the tool" is prepared and not ended"#]);
    let error = live.cut_off(&plan, 2).await.unwrap_err();
    assert!(error.to_string().contains("left by the tool"), "{error}");
    assert!(refusal(&plan.fenced).contains("not currently accepting connections"), "{}", refusal(&plan.fenced));
    assert!(refusal(target.name()).contains("not currently accepting connections"));

    on_server(&format!("ALTER DATABASE \"{}\" ALLOW_CONNECTIONS true", plan.fenced));
    psql(&url_of(&plan.fenced), "ROLLBACK PREPARED 'left by the tool'").unwrap();
    let new = live.cut_off(&plan, 2).await.unwrap();
    live.unfence(&new).await.unwrap();
    assert_eq!(target.psql("TABLE t"), "1\n");
}
