//! A rehearsal's copy does not reach out; what a tool leaves behind is named; scratch databases go.

use super::{Idle, Target, parsed};
use shared::engine::postgres::PostgresLive;
use shared::model::Class;
use tests::postgres::{on_server, quoted};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_neutralised_copy_cannot_reach_a_foreign_server_any_more() {
    let target = Target::new();
    let port = on_server("SHOW port").trim().to_owned();
    target.psql(&format!(
        "CREATE EXTENSION postgres_fdw; CREATE EXTENSION dblink; CREATE EXTENSION file_fdw;
         CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (hostaddr '127.0.0.1', port '{port}', dbname '{name}');
         CREATE SERVER near FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname '{name}');
         CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
         CREATE USER MAPPING FOR postgres SERVER far OPTIONS (user 'postgres');
         CREATE USER MAPPING FOR postgres SERVER near OPTIONS (user 'postgres');
         CREATE USER MAPPING FOR PUBLIC SERVER files;
         CREATE FOREIGN TABLE mirror (a int) SERVER far OPTIONS (table_name 't')",
        name = target.name()
    ));
    assert_eq!(target.psql("TABLE mirror; SELECT * FROM dblink('far', 'TABLE t') AS t (a int)"), "1\n1\n");
    for _ in 0..2 {
        let lines = PostgresLive::neutralise(&parsed(&target.url())).await.unwrap().join("\n");
        for part in
            ["far (postgres_fdw) points nowhere", "near (postgres_fdw) points", "files (file_fdw): ", "dblink is there"]
        {
            assert!(lines.contains(part), "{part} is not in {lines}");
        }
        for sql in
            ["TABLE mirror", "INSERT INTO mirror VALUES (3)", "SELECT * FROM dblink('near', 'TABLE t') AS t (a int)"]
        {
            let refused = target.try_psql(sql).unwrap_err();
            assert!(refused.contains("could not") || refused.contains("refused"), "{sql}: {refused}");
        }
        assert_eq!(target.psql("SELECT count(*) FROM pg_user_mappings WHERE srvname = 'files'"), "0\n");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_tool_left_behind_is_named() {
    let target = Target::new();
    let url = parsed(&target.url());
    assert_eq!(target.live.left_over_in(&url).await.unwrap(), Vec::<String>::new());
    target.psql("INSERT INTO t VALUES (1)");
    target.try_psql("CREATE UNIQUE INDEX CONCURRENTLY broken ON t (a)").unwrap_err();
    let _tool = Idle::begin(&target.url(), "tool", "SELECT pg_advisory_lock(8888888888), pg_sleep(603)");
    let left = target.live.left_over_in(&url).await.unwrap();
    assert!(left.len() == 2 && left[0] == "index public.broken is invalid", "{left:?}");
    assert!(left[1].starts_with("advisory lock 8888888888 is held by session "), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_whose_removal_a_crash_interrupted_is_removed() {
    let target = Target::new();
    let scratch = PostgresLive::scratch_name(target.name(), "__reh_").unwrap();
    target.live.create_scratch(&scratch).await.unwrap();
    // So DROP DATABASE marks it before it begins; nobody can change or enter it any more.
    on_server(&format!("UPDATE pg_database SET datconnlimit = -2 WHERE datname = '{scratch}'"));
    target.live.drop_scratch(&scratch).await.unwrap();
    assert_eq!(target.names(), [target.name()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_databases_made_for_a_while_are_dropped() {
    let target = Target::new();
    let scratch = PostgresLive::scratch_name(target.name(), "__reh_").unwrap();
    on_server(&format!("CREATE DATABASE {}", quoted(&scratch)));
    let odd = format!("{}__reh_shop", target.name());
    let failed = format!("{}__failed_0123abcd", target.name());
    for name in [&odd, &failed] {
        on_server(&format!("CREATE DATABASE {}", quoted(name)));
    }
    let _busy = target.session(&scratch, "holdfast-tool");
    for _ in 0..2 {
        target.live.drop_scratch(&scratch).await.unwrap();
    }
    for name in [target.name(), "postgres", &odd, &failed, "__reh_0123abcd"] {
        assert_eq!(target.live.drop_scratch(name).await.unwrap_err().class(), Class::Refused, "{name}");
    }
    assert_eq!(target.live.leftovers().await.unwrap().concat(), failed);
    assert_eq!(target.names(), [target.name(), &failed, &odd]);
}
