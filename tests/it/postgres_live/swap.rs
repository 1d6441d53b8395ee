//! A restored database takes the place of the fenced one.

use super::{Target, belongings, fenced_as, refusal};
use shared::engine::postgres::{Exchange, FenceState, PostgresLive};
use shared::model::Class;
use tests::postgres::{on_server, psql, quoted, url_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_restored_database_takes_the_name_and_the_failed_one_stays_closed() {
    let target = Target::new();
    let live = &target.live;
    on_server(&format!("COMMENT ON DATABASE {} IS 'The shop'", quoted(target.name())));
    let oid = live.oid().await.unwrap();
    let plan = live.plan_fence(1).await.unwrap();
    live.fence(&plan).await.unwrap();
    let plan = live.cut_off(&plan, 2).await.unwrap();
    let name = PostgresLive::scratch_name(target.name(), "__res_").unwrap();
    on_server(&format!("CREATE DATABASE {} TEMPLATE {}", quoted(&name), quoted(&plan.fenced)));
    on_server(&format!("ALTER DATABASE {} SET work_mem = '6MB'", quoted(&name)));
    psql(&url_of(&name), "INSERT INTO t VALUES (5)").unwrap();
    let restored = on_server(&format!("SELECT oid FROM pg_database WHERE datname = '{name}'")).trim().parse().unwrap();
    let own = belongings(restored);
    let _forgotten = target.session(&name, "holdfast-verify");

    let swap = live.plan_swap(&plan, restored, Exchange::Failed);
    for _ in 0..2 {
        assert_eq!(live.swap(&swap).await.unwrap().warnings, Vec::<String>::new());
        assert_eq!(live.observe(&plan).await.unwrap(), FenceState::Swapped { failed: swap.failed.clone() });
        assert_eq!((live.oid().await.unwrap(), belongings(restored)), (restored, own.clone()));
        assert_eq!(target.psql("TABLE t; SHOW work_mem"), "1\n5\n6MB\n");
        assert_eq!(live.name_of(oid).await.unwrap().unwrap(), swap.failed);
        assert!(refusal(&swap.failed).contains("not currently accepting connections"));
        assert!(belongings(oid).contains("holdfast: ") && belongings(oid).contains("The shop"), "{}", belongings(oid));
        assert_eq!(target.names(), [target.name(), &swap.failed]);
    }
    assert_eq!(live.unfence(&plan).await.unwrap_err().class(), Class::Refused);
    assert_eq!(live.drop_scratch(&swap.failed).await.unwrap_err().class(), Class::Refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_refuses_where_a_database_is_not_where_the_plan_expects_it() {
    let target = Target::new();
    let live = &target.live;
    let plan = live.plan_fence(1).await.unwrap();
    let oid = live.oid().await.unwrap();
    let template1: u32 = on_server("SELECT oid FROM pg_database WHERE datname = 'template1'").trim().parse().unwrap();
    let error = live.swap(&live.plan_swap(&plan, template1, Exchange::Failed)).await.unwrap_err();
    assert!(error.class() == Class::Refused && error.to_string().contains("bears its public name"), "{error}");
    let fence = live.fence(&plan).await.unwrap();
    for wrong in [4_000_000_000, fence.placeholder_oid, oid, template1] {
        let error = live.swap(&live.plan_swap(&plan, wrong, Exchange::Failed)).await.unwrap_err();
        assert_eq!(error.class(), Class::Refused, "{error}");
        assert_eq!(live.observe(&plan).await.unwrap(), fenced_as(&plan), "after OID {wrong}");
    }
    live.unfence(&plan).await.unwrap();
    assert_eq!(target.names(), [target.name()]);
}
