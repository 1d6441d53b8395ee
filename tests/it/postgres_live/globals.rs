//! What a migration did outside its database.

use super::Target;
use shared::engine::postgres::{GlobalChange, Globals, differences};
use tests::postgres::{on_server, quoted};

/// Changes of this test alone: others work on the same server.
fn own(target: &Target, before: &Globals, after: &Globals) -> Vec<GlobalChange> {
    let prefix = target.prefix.as_str();
    differences(before, after).into_iter().filter(|change| change.what.contains(prefix)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_outside_is_named_with_the_statement_that_undoes_it() {
    let mut target = Target::new();
    let (old, gone) = (target.role("old", "CONNECTION LIMIT 5"), target.role("gone", ""));
    let new = format!("{}_new", target.prefix);
    target.roles.push(new.clone());
    let name = quoted(target.name());
    on_server(&format!(
        "ALTER DATABASE {name} SET search_path = public, \"$user\"; GRANT CREATE ON DATABASE {name} TO {0};
         GRANT pg_monitor TO {0}; ALTER ROLE {0} SET work_mem = '5MB'; GRANT {1} TO {0}",
        quoted(&old),
        quoted(&gone)
    ));
    let before = target.live.globals().await.unwrap();
    assert!(own(&target, &before, &target.live.globals().await.unwrap()).is_empty());
    on_server(&format!(
        "CREATE ROLE {new}; GRANT pg_read_all_data TO {old} WITH ADMIN OPTION; REVOKE pg_monitor FROM {old};
         ALTER ROLE {old} CREATEDB CONNECTION LIMIT 6; ALTER ROLE {old} SET work_mem = '6MB';
         ALTER ROLE {old} IN DATABASE {name} SET lock_timeout = '1s';
         ALTER DATABASE {name} SET search_path = pg_catalog; ALTER DATABASE {name} SET \"my.flag\" = 'it''s on';
         ALTER DATABASE {name} CONNECTION LIMIT 9; REVOKE CREATE ON DATABASE {name} FROM {old};
         GRANT TEMPORARY ON DATABASE {name} TO {old}; REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
        new = quoted(&new),
        old = quoted(&old)
    ));
    let after = target.live.globals().await.unwrap();
    let changes = own(&target, &before, &after);
    assert_eq!(changes.len(), 12, "{changes:#?}");
    let lines: Vec<&str> = changes.iter().map(|change| change.what.as_str()).collect();
    assert!(lines.contains(&format!("role {new} is new (NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOLOGIN NOREPLICATION NOBYPASSRLS CONNECTION LIMIT -1 VALID UNTIL 'infinity')").as_str()), "{lines:#?}");
    for change in &changes {
        let undo = change.undo_sql.as_ref().unwrap_or_else(|| panic!("nothing undoes: {}", change.what));
        for statement in undo.split("; ") {
            on_server(statement);
        }
    }
    let undone = target.live.globals().await.unwrap();
    assert_eq!(own(&target, &before, &undone), [], "the statements did not undo everything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fences_and_scratch_databases_are_no_change() {
    let target = Target::new();
    let before = target.live.globals().await.unwrap();
    let plan = target.live.plan_fence(1).await.unwrap();
    target.live.fence(&plan).await.unwrap();
    on_server(&format!("CREATE DATABASE \"{}__reh_0123abcd\"", target.name()));
    let fenced = target.live.globals().await.unwrap();
    assert_eq!(own(&target, &before, &fenced), []);
    target.live.unfence(&plan).await.unwrap();
    let after = target.live.globals().await.unwrap();
    assert_eq!(own(&target, &fenced, &after), []);
    assert_eq!(own(&target, &before, &after), []);
}
