//! Up and down, and who is in the way.

use super::{Target, belongings, fenced_as, parsed, refusal};
use shared::engine::postgres::{FenceState, PostgresLive};
use shared::model::Class;
use sqlx::{Connection, PgConnection};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tests::postgres::{on_server, psql, quoted, url_as, url_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_keeps_nobody_in_and_everything_that_belongs_to_the_database() {
    let mut target = Target::new();
    let role = target.role("reader", "");
    let name = quoted(target.name());
    on_server(&format!(
        "ALTER DATABASE {name} SET work_mem = '5MB'; ALTER DATABASE {name} CONNECTION LIMIT 77;
         ALTER ROLE {role} IN DATABASE {name} SET lock_timeout = '3s';
         GRANT CREATE ON DATABASE {name} TO {role}; COMMENT ON DATABASE {name} IS 'The shop'",
        role = quoted(&role)
    ));
    let oid = target.live.oid().await.unwrap();
    let before = belongings(oid);
    assert!(before.contains("The shop") && before.contains("work_mem=5MB") && before.contains("77"), "{before}");
    let mut inside = target.session(target.name(), "shop");

    let plan = target.live.plan_fence(3).await.unwrap();
    assert_eq!(target.names(), [target.name()], "a plan changes nothing");
    let fence = target.live.fence(&plan).await.unwrap();
    assert!(!inside.child.wait().unwrap().success(), "a session survived the fence");
    assert!(refusal(target.name()).contains("not currently accepting connections"), "{}", refusal(target.name()));
    assert_eq!(target.live.oid().await.unwrap(), fence.placeholder_oid);
    assert_eq!(target.live.name_of(oid).await.unwrap().unwrap(), plan.fenced);
    assert!(plan.fenced.starts_with(&format!("{}__mig_", target.name())) && plan.fenced.ends_with("_3"), "{plan:?}");
    assert_eq!(psql(&url_of(&plan.fenced), "SHOW work_mem; TABLE t").unwrap(), "5MB\n1\n");
    assert_eq!(target.live.fenced_url(&plan), parsed(&url_of(&plan.fenced)));
    assert_eq!(belongings(oid), before);
    assert_eq!(target.live.leftovers().await.unwrap().concat(), plan.fenced);

    assert_eq!(target.live.unfence(&plan).await.unwrap().warnings, Vec::<String>::new());
    assert_eq!(target.names(), [target.name()]);
    assert_eq!((target.live.oid().await.unwrap(), belongings(oid)), (oid, before));
    assert_eq!(target.psql("TABLE t"), "1\n");
    assert_eq!(target.live.name_of(4_000_000_000).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_can_be_repeated() {
    let target = Target::new();
    let live = &target.live;
    let plan = live.plan_fence(1).await.unwrap();
    assert_eq!(live.observe(&plan).await.unwrap(), FenceState::Open);
    assert_eq!(live.unfence(&plan).await.unwrap().warnings, Vec::<String>::new());
    let first = live.fence(&plan).await.unwrap();
    assert_eq!(live.fence(&plan).await.unwrap(), first);
    assert_eq!(live.observe(&plan).await.unwrap(), fenced_as(&plan));
    let second = live.cut_off(&plan, 2).await.unwrap();
    assert!(second.fenced.ends_with("_2") && second.fenced != plan.fenced, "{second:?}");
    for known in [&plan, &second] {
        assert_eq!(live.cut_off(known, 2).await.unwrap(), second);
        assert_eq!(live.observe(known).await.unwrap(), fenced_as(&second));
    }
    assert_eq!(live.fence(&plan).await.unwrap_err().class(), Class::Refused, "it bears the name of another epoch");
    for _ in 0..2 {
        live.unfence(&plan).await.unwrap();
        assert_eq!(live.observe(&plan).await.unwrap(), FenceState::Open);
    }
    assert_eq!(live.cut_off(&plan, 3).await.unwrap_err().class(), Class::Refused, "nothing is fenced");
    assert_eq!(target.names(), [target.name()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_did_to_the_names_is_seen_and_refused() {
    let target = Target::new();
    let live = &target.live;
    let plan = live.plan_fence(1).await.unwrap();
    live.fence(&plan).await.unwrap();
    let odd = format!("{}_odd", target.name());
    on_server(&format!("ALTER DATABASE {} RENAME TO {}", quoted(&plan.fenced), quoted(&odd)));
    assert_eq!(live.observe(&plan).await.unwrap(), FenceState::Elsewhere { name: odd.clone() });
    assert_eq!(live.unfence(&plan).await.unwrap_err().class(), Class::Refused);
    on_server(&format!("ALTER DATABASE {} RENAME TO {}", quoted(&odd), quoted(&plan.fenced)));

    // Somebody puts a database of their own in the placeholder's place.
    on_server(&format!("DROP DATABASE {}", quoted(target.name())));
    on_server(&format!("CREATE DATABASE {}", quoted(target.name())));
    let error = live.unfence(&plan).await.unwrap_err();
    assert!(error.to_string().contains("not ours"), "{error}");
    assert_eq!(live.observe(&plan).await.unwrap(), fenced_as(&plan));
    on_server(&format!("DROP DATABASE {}", quoted(target.name())));
    live.unfence(&plan).await.unwrap();
    assert_eq!(target.psql("TABLE t"), "1\n");
    on_server(&format!("DROP DATABASE {}", quoted(target.name())));
    assert_eq!(live.observe(&plan).await.unwrap(), FenceState::Gone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_63_bytes_are_cut_at_a_character() {
    let random = tests::postgres::TestDatabase::reserved().name().to_owned();
    let target = Target::called(&format!("{random}{}x", "ü".repeat(24)));
    assert_eq!(target.name().len(), 63);
    let live = &target.live;
    let oid = live.oid().await.unwrap();
    let plan = live.plan_fence(9).await.unwrap();
    live.fence(&plan).await.unwrap();
    let plan = live.cut_off(&plan, u64::MAX).await.unwrap();
    assert!(plan.fenced.len() <= 63 && plan.fenced.contains("ü__mig_"), "{plan:?}");
    let beside = PostgresLive::scratch_name(target.name(), "__reh_").unwrap();
    on_server(&format!("CREATE DATABASE {}", quoted(&beside)));
    let mut expected = vec![beside.clone(), plan.fenced.clone()];
    expected.sort();
    assert_eq!(live.leftovers().await.unwrap(), expected);
    live.drop_scratch(&beside).await.unwrap();
    live.unfence(&plan).await.unwrap();
    assert_eq!((live.oid().await.unwrap(), target.names()), (oid, vec![target.name().to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_that_cannot_be_raised_leaves_the_database_open_and_names_who_is_in_the_way() {
    let mut target = Target::new();
    target.psql("BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'half way'");
    let plan = target.live.plan_fence(1).await.unwrap();
    let error = target.live.fence(&plan).await.unwrap_err();
    assert_eq!(error.class(), Class::Refused);
    assert!(error.to_string().contains("half way") && error.to_string().contains("open again"), "{error}");
    assert_eq!(target.live.observe(&plan).await.unwrap(), FenceState::Open);
    target.psql("ROLLBACK PREPARED 'half way'");
    assert_eq!(target.names(), [target.name()]);

    // pg_signal_backend does not reach superusers.
    let role = target.role("admin", "CREATEDB IN ROLE pg_signal_backend");
    on_server(&format!("ALTER DATABASE {} OWNER TO {}", quoted(target.name()), quoted(&role)));
    let superuser = target.session(target.name(), "a-person");
    let live = target.live_as(&role);
    let error = live.fence(&plan).await.unwrap_err();
    assert_eq!(error.class(), Class::Refused);
    assert!(error.to_string().contains("a-person") && error.to_string().contains("postgres"), "{error}");
    assert_eq!(live.observe(&plan).await.unwrap(), FenceState::Open);
    assert_eq!(target.names(), [target.name()]);
    drop(superuser);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_behind_the_fence_that_are_not_ours_are_named() {
    let target = Target::new();
    let plan = target.live.plan_fence(1).await.unwrap();
    target.live.fence(&plan).await.unwrap();
    assert_eq!(target.live.foreign_sessions(&plan).await.unwrap(), Vec::<String>::new());
    let _tool = target.session(&plan.fenced, "holdfast-4711");
    assert_eq!(target.live.foreign_sessions(&plan).await.unwrap(), Vec::<String>::new());
    let _person = target.session(&plan.fenced, "psql");
    let found = target.live.foreign_sessions(&plan).await.unwrap();
    assert!(found.len() == 1 && found[0].contains("psql of postgres from 127.0.0.1"), "{found:?}");
}

/// Connects and writes for ever, each time on a new connection.
async fn storm(url: String, over: Arc<AtomicBool>, written: Arc<AtomicU64>) {
    while !over.load(Ordering::SeqCst) {
        let Ok(mut conn) = PgConnection::connect(&url).await else { continue };
        while sqlx::raw_sql("INSERT INTO t VALUES (2)").execute(&mut conn).await.is_ok() {
            written.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_that_come_back_at_once_do_not_get_through_the_fence() {
    let mut target = Target::new();
    let role = target.role("app", "");
    target.psql(&format!("GRANT ALL ON t TO {}", quoted(&role)));
    let (over, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let storms: Vec<_> = (0..8)
        .map(|at| {
            let url = if at % 2 == 0 { target.url() } else { url_as(&target.url(), &role, None) };
            tokio::spawn(storm(url, over.clone(), written.clone()))
        })
        .collect();
    let writes_again = async |count: u64| {
        while written.load(Ordering::SeqCst) < count + 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    for epoch in 1..=4 {
        writes_again(written.load(Ordering::SeqCst)).await;
        let plan = target.live.plan_fence(epoch).await.unwrap();
        let begun = Instant::now();
        target.live.fence(&plan).await.unwrap();
        println!("fenced after {:?}", begun.elapsed());
        let rows = || psql(&url_of(&plan.fenced), "SELECT count(*) FROM t").unwrap();
        let (count, tries) = (written.load(Ordering::SeqCst), rows());
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(target.live.foreign_sessions(&plan).await.unwrap(), Vec::<String>::new());
        assert_eq!((written.load(Ordering::SeqCst), rows()), (count, tries), "somebody wrote behind the fence");
        let begun = Instant::now();
        target.live.unfence(&plan).await.unwrap();
        println!("open after {:?}", begun.elapsed());
    }
    writes_again(written.load(Ordering::SeqCst)).await;
    over.store(true, Ordering::SeqCst);
    on_server(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'", target.name()));
    for storm in storms {
        storm.await.unwrap();
    }
}
