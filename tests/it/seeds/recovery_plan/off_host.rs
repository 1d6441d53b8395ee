//! The backup that was copied away brings the songs back, on another machine, with and without Holdfast.

use super::{AIPROXY, CHECKS, SKETCHES};
use crate::seeds::desk::{Desk, Door};
use crate::seeds::team::Team;
use serde_json::json;
use tests::agent::Agent;
use tests::plain_tools::PlainTools;
use tests::postgres::pg_dump_text;
use tests::private_postgres::PrivatePostgres;
use tests::store_files::StoreFiles;

/// Another machine's server, on which the role is known.
fn elsewhere() -> PrivatePostgres {
    let server = PrivatePostgres::start();
    server.psql("postgres", "CREATE ROLE aiuser SUPERUSER LOGIN");
    server
}

fn address(server: &PrivatePostgres, database: &str) -> String {
    server.url(database).replace("//postgres@", "//aiuser@")
}

#[test]
fn a_backup_copied_off_the_host_brings_the_songs_back_by_command_and_with_tar_and_psql_alone() {
    let mut team = Team::new(AIPROXY, Door::Command, CHECKS);
    let before = team.dump();
    let id = team.backup_agent(&["backup", AIPROXY.database]).expect_code(0).stdout.trim().to_owned();
    team.desk.upgrade(AIPROXY.database, "succeeded");
    // scp rob@<production-server>:… ~/Desktop/
    let desktop = tempfile::tempdir().unwrap();
    let copy = desktop.path().join("backups");
    StoreFiles::at(&team.desk.agent.store_dir()).copy_to(&copy);
    let after = team.dump();
    drop(team);

    let (server, store) = (elsewhere(), format!("file:{}", copy.display()));
    let agent = Agent::new().with_store(Some(&store));
    let newest = address(&server, "newest");
    // The newest one was made for the migration.
    let said = agent.run(&["restore", AIPROXY.database, "--at", "latest", "--into", &newest]).expect_code(0).stderr;
    assert!(said.contains("proven"), "{said}");
    assert_eq!(pg_dump_text(&newest), before);
    let named = address(&server, "named");
    agent.run(&["restore", &id, "--into", &named]).expect_code(0);
    assert_eq!(pg_dump_text(&named), before);
    assert_ne!(before, after);

    // Whoever has no Holdfast: sh, tar, gzip and psql.
    let tools = PlainTools::with(&["psql"]);
    let script = copy.join("restore.sh").display().to_string();
    let plain = address(&server, "plain");
    server.create("plain");
    tools.ok(desktop.path(), "sh", &[&script, &id, &plain]);
    assert_eq!(pg_dump_text(&plain), before);
    // Or as one file, fetched to the desk.
    let archive = desktop.path().join("aiproxy.tar.gz").display().to_string();
    agent.ok(&["export", &id, "-o", &archive]);
    tools.ok(desktop.path(), "tar", &["-xf", &archive]);
    let folder = id.replace('/', "-");
    let unpacked = address(&server, "unpacked");
    server.create("unpacked");
    tools.ok(desktop.path(), "sh", &[&format!("{folder}/restore.sh"), &unpacked]);
    assert_eq!(pg_dump_text(&unpacked), before);
}

#[test]
fn a_backup_copied_off_the_host_brings_the_songs_back_by_message() {
    let mut team = Team::new(AIPROXY, Door::Message, CHECKS);
    team.migrate(json!({"to": SKETCHES}), "succeeded");
    team.by_message("backup", json!({}), "succeeded");
    let before = team.dump();
    // A worker of its own beside the other server, and nothing of the first but the copied store.
    let (server, mut desk) = (elsewhere(), Desk::new(Door::Message));
    StoreFiles::at(&team.desk.agent.store_dir()).copy_to(&desk.agent.store_dir());
    drop(team);
    let (lost, url) = (address(&server, AIPROXY.database), address(&server, "recovered"));
    desk.configure(&format!(
        "[database.aiproxy]\nurl = \"{lost}\"\nmigrations = {{ runner = \"sql\", directory = \".\" }}\n\n\
         [database.recovered]\nurl = \"{url}\"\n"
    ));
    desk.open();
    let id = shared::model::JobId::random().to_string();
    let wish = json!({"id": id, "kind": "restore", "target": "aiproxy", "spec": {"at": "latest", "into": "recovered"}});
    desk.publish("restore", &wish);
    desk.end_of(&id).is("succeeded");
    assert_eq!(pg_dump_text(&url), before);
}
