//! What is in the way, and whether the remedy that is named helps.

use super::{Idle, Target, parsed};
use shared::engine::postgres::{Exchange, FenceState, Obstacle, PostgresLive};
use shared::model::Class;
use tests::postgres::{on_server, psql, quoted, url_as, url_of};
use tests::server::PrivateServer;

fn hints(list: &[Obstacle]) -> Vec<&str> {
    list.iter().filter_map(|obstacle| obstacle.hint.as_deref()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_without_rights_is_told_the_statements_and_then_can_do_everything() {
    let mut target = Target::new();
    let (owner, app) = (target.role("owner", ""), target.role("app", ""));
    let role = target.role("admin", "");
    let name = quoted(target.name());
    on_server(&format!(
        "ALTER DATABASE {name} OWNER TO {0}; REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
        quoted(&owner)
    ));
    on_server(&format!("GRANT CONNECT ON DATABASE {name} TO {}, {}", quoted(&role), quoted(&app)));
    let live =
        PostgresLive::new(parsed(&url_as(&target.url(), &app, None)), parsed(&url_as(&target.url(), &role, None)));
    let list = live.preflight().await.unwrap();
    let expected = [
        format!("GRANT {} TO {}", quoted(&owner), quoted(&role)),
        format!("ALTER ROLE {} CREATEDB", quoted(&role)),
        format!("GRANT pg_signal_backend TO {}", quoted(&role)),
    ];
    assert_eq!(hints(&list), expected, "{list:?}");
    let plan = live.plan_fence(1).await.unwrap();
    assert!(live.fence(&plan).await.is_err());
    assert_eq!(live.observe(&plan).await.unwrap(), FenceState::Open);
    for hint in expected {
        on_server(&hint);
    }
    assert_eq!(live.preflight().await.unwrap(), []);

    let _client = Idle::begin(&url_as(&target.url(), &app, None), "shop", "SELECT pg_sleep(601)");
    live.fence(&plan).await.unwrap();
    let plan = live.cut_off(&plan, 2).await.unwrap();
    assert_eq!(live.foreign_sessions(&plan).await.unwrap(), Vec::<String>::new());
    live.unfence(&plan).await.unwrap();
    let plan = live.plan_fence(3).await.unwrap();
    live.fence(&plan).await.unwrap();
    let restored = PostgresLive::scratch_name(target.name(), "__res_").unwrap();
    psql(&url_as(&url_of("postgres"), &role, None), &format!("CREATE DATABASE {}", quoted(&restored))).unwrap();
    let oid = on_server(&format!("SELECT oid FROM pg_database WHERE datname = '{restored}'")).trim().parse().unwrap();
    live.swap(&live.plan_swap(&plan, oid, Exchange::Failed)).await.unwrap();
    assert_eq!(live.oid().await.unwrap(), oid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn superusers_that_an_ordinary_role_cannot_end_are_named() {
    let mut target = Target::new();
    let role = target.role("admin", "CREATEDB IN ROLE pg_signal_backend");
    on_server(&format!("ALTER DATABASE {} OWNER TO {}", quoted(target.name()), quoted(&role)));
    let live = target.live_as(&role);
    assert_eq!(live.preflight().await.unwrap(), []);
    let _superuser = target.session(target.name(), "a-person");
    let list = live.preflight().await.unwrap();
    assert!(list.len() == 1 && list[0].what.contains("a-person"), "{list:?}");
    assert_eq!(target.live.preflight().await.unwrap(), [], "a superuser can");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_things_in_the_database_are_named() {
    let target = Target::new();
    target.psql(
        "INSERT INTO t VALUES (1); CREATE SCHEMA \"s.x\";
         CREATE TABLE parent (a int) PARTITION BY LIST (a);
         CREATE TABLE part1 PARTITION OF parent FOR VALUES IN (1);
         CREATE TABLE part2 PARTITION OF parent FOR VALUES IN (2)",
    );
    target.try_psql("CREATE UNIQUE INDEX CONCURRENTLY broken ON t (a)").unwrap_err();
    {
        let _reader =
            Idle::begin(&target.url(), "reader", "SELECT pg_sleep(602) FROM (SELECT count(*) FROM parent) AS p");
        let detach = "SET statement_timeout = '700ms'; ALTER TABLE parent DETACH PARTITION part1 CONCURRENTLY";
        let refused = psql(&target.url(), &detach.replace("; ", ";\n")).unwrap_err();
        assert!(refused.contains("statement timeout"), "{refused}");
        // The statement would go on without its client.
        let name = target.name();
        on_server(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"));
    }
    target.psql("BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'it''s'");
    let list = target.live.preflight().await.unwrap();
    let expected = [
        format!("in {}: COMMIT PREPARED 'it''s' or ROLLBACK PREPARED 'it''s'", target.name()),
        "REINDEX INDEX public.broken, or drop it".to_owned(),
        "ALTER TABLE public.parent DETACH PARTITION public.part1 FINALIZE".to_owned(),
    ];
    assert_eq!(hints(&list), expected, "{list:?}");
    target.psql(&format!("ROLLBACK PREPARED 'it''s'; DROP INDEX broken; {}", expected[2]));
    assert_eq!(target.live.preflight().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_that_cannot_be_fenced_at_all_are_named() {
    let target = Target::new();
    let name = quoted(target.name());
    let says = async |live: &PostgresLive, text: &str| {
        let list = live.preflight().await.unwrap();
        assert!(list.iter().any(|obstacle| obstacle.what.contains(text)), "{text}: {list:?}");
    };
    on_server(&format!("ALTER DATABASE {name} IS_TEMPLATE true"));
    says(&target.live, "template").await;
    on_server(&format!("ALTER DATABASE {name} IS_TEMPLATE false ALLOW_CONNECTIONS false"));
    says(&target.live, "accepts no connections").await;
    for (database, text) in
        [("postgres", "belongs to the server"), ("template1", "belongs"), ("t_no", "does not exist")]
    {
        let url = parsed(&url_of(database));
        says(&PostgresLive::new(url.clone(), url), text).await;
    }
    let gone = parsed("postgres://postgres@127.0.0.1:1/x");
    let error = PostgresLive::new(gone.clone(), gone).preflight().await.unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    let missing = parsed(&url_of("t_no"));
    assert_eq!(PostgresLive::new(missing.clone(), missing).oid().await.unwrap_err().class(), Class::Refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_and_subscriptions_are_in_the_way_and_go_with_a_scratch_database() {
    let server = PrivateServer::start("wal_level = logical; max_wal_senders = 4; max_replication_slots = 4").unwrap();
    let environment = server.environment();
    let base = environment.iter().find(|(name, _)| *name == "HOLDFAST_TEST_PG").unwrap().1.clone();
    let at = |database: &str| format!("{}/{database}", base.rsplit_once('/').unwrap().0);
    let scratch = "shop__reh_0123abcd";
    psql(&base, "CREATE DATABASE shop").unwrap();
    psql(&base, &format!("CREATE DATABASE {scratch}")).unwrap();
    let hang = "SELECT pg_create_logical_replication_slot(current_database() || '_slot', 'pgoutput');
        CREATE SUBSCRIPTION feed CONNECTION 'host=127.0.0.1 port=1 dbname=none' PUBLICATION p
            WITH (connect = false, slot_name = 'elsewhere')";
    psql(&at("shop"), hang).unwrap();
    psql(&at(scratch), hang).unwrap();
    let live = PostgresLive::new(parsed(&at("shop")), parsed(&at("shop")));
    let list = live.preflight().await.unwrap();
    assert_eq!(hints(&list), ["SELECT pg_drop_replication_slot('shop_slot')", "in shop: DROP SUBSCRIPTION \"feed\""]);

    let enabled = "SELECT string_agg(subenabled::text || coalesce(subslotname, '-'), ' ') FROM pg_subscription
        WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    psql(&at(scratch), "ALTER SUBSCRIPTION feed ENABLE").unwrap();
    let lines = PostgresLive::neutralise(&parsed(&at(scratch))).await.unwrap();
    assert_eq!(lines, ["subscription feed is disabled"]);
    assert_eq!(psql(&at(scratch), enabled).unwrap().trim(), "false-");
    psql(&at(scratch), "ALTER SUBSCRIPTION feed SET (slot_name = 'elsewhere')").unwrap();
    live.drop_scratch(scratch).await.unwrap();
    assert_eq!(psql(&base, "SELECT slot_name FROM pg_replication_slots").unwrap().trim(), "shop_slot");
    assert_eq!(psql(&at("shop"), enabled).unwrap().trim(), "falseelsewhere");
    assert!(live.leftovers().await.unwrap().is_empty());
}
