//! The runner `alembic`.

use super::{Fresh, call, go, planned, refused};
use migrate_worker::runner::alembic::AlembicRunner;
use migrate_worker::runner::{Environment, Runner, refusal_of_alembic};
use tests::alembic::{AlembicProject, alembic};
use tests::postgres::TestDatabase;

/// An address of the project's own that nobody may ever use.
const ELSEWHERE: &str = "sqlite:////nowhere/else.db";

fn project() -> AlembicProject {
    let project = AlembicProject::new(ELSEWHERE);
    project.add_sql("r1", &[], "CREATE TABLE a (x integer)", "DROP TABLE a");
    project.add_sql("r2", &["r1"], "ALTER TABLE a ADD COLUMN y integer", "ALTER TABLE a DROP COLUMN y");
    project
}

fn runner(project: &AlembicProject) -> AlembicRunner {
    AlembicRunner::new(project.directory().to_owned(), alembic(), Vec::new(), Environment::default()).unwrap()
}

#[tokio::test]
async fn alembic_goes_up_and_down_where_it_is_told_to() {
    let project = project();
    let runner = runner(&project);
    for database in Fresh::both() {
        let url = database.url();
        assert_eq!(runner.probe(&url, &call()).await.unwrap(), Vec::<String>::new());
        let (history, _, _) = planned(&runner, &url, "head").await.unwrap();
        let told: Vec<_> = history.revisions.iter().map(|r| (&*r.id, r.parents.join(","), &*r.message)).collect();
        assert_eq!(told, [("r1", String::new(), "revision r1"), ("r2", "r1".into(), "revision r2")]);
        let (run, current) = go(&runner, &url, "head").await;
        assert_eq!((run.exit, current.faults.len(), current.own_tables.len()), (Some(0), 0, 1), "{}", run.output);
        assert_eq!(database.columns("a"), "x,y");
        assert_eq!(runner.probe(&url, &call()).await.unwrap(), ["r2"]);
        assert_eq!(go(&runner, &url, "-1").await.0.exit, Some(0));
        assert_eq!(database.columns("a"), "x");
        assert_eq!(go(&runner, &url, "base").await.0.exit, Some(0));
        assert_eq!(database.columns("a"), "");
        let run = runner.stamp(&url, "r2", &call()).await.unwrap();
        assert_eq!(run.exit, Some(0), "{}", run.output);
        assert_eq!(
            (runner.probe(&url, &call()).await.unwrap(), database.columns("a")),
            (vec!["r2".into()], String::new())
        );
    }
}

#[tokio::test]
async fn alembic_applies_a_half_on_sqlite_and_nothing_on_postgresql() {
    let project = project();
    project.add_sql("r3", &["r2"], "ALTER TABLE a ADD COLUMN c integer\nINSERT INTO nowhere VALUES (1)", "SELECT 1");
    let [sqlite, postgres] = Fresh::both();
    for (database, heads, columns) in [(sqlite, vec!["r2".to_owned()], "x,y,c"), (postgres, vec![], "")] {
        let (run, current) = go(&runner(&project), &database.url(), "head").await;
        assert!(run.exit != Some(0) && run.output.contains("nowhere"), "{run:?}");
        assert_eq!((current.heads, database.columns("a")), (heads, columns.to_owned()));
    }
}

#[tokio::test]
async fn alembics_leftovers_and_unknown_revisions_are_told_and_a_stamp_repairs() {
    let project = project();
    let runner = runner(&project);
    for database in Fresh::both() {
        let url = database.url();
        go(&runner, &url, "head").await;
        database
            .execute("UPDATE alembic_version SET version_num = 'deadbeef'; CREATE TABLE _alembic_tmp_a (x integer)");
        let history = runner.history().await.unwrap();
        let engine = shared::connect::engine(url.clone());
        let current = runner.current(engine.as_ref(), &history).await.unwrap();
        let faults = current.faults.join("; ");
        assert!(faults.contains("_alembic_tmp_a") && faults.contains("says deadbeef"), "{faults}");
        let said = refused(planned(&runner, &url, "head").await);
        assert!(said.contains("stands at revision deadbeef") && said.contains("stamp"), "{said}");
        let said = refused(runner.probe(&url, &call()).await);
        assert!(said.starts_with("unknown revision: Can't locate revision") && said.contains("stamp"), "{said}");
        assert_eq!(runner.stamp(&url, "r2", &call()).await.unwrap().exit, Some(0));
        assert_eq!(runner.current(engine.as_ref(), &history).await.unwrap().heads, ["r2"]);
    }
}

#[tokio::test]
async fn two_heads_are_refused_until_they_are_joined() {
    let project = project();
    project.add_sql("r3a", &["r2"], "CREATE TABLE b (x integer)", "DROP TABLE b");
    project.add_sql("r3b", &["r2"], "CREATE TABLE c (x integer)", "DROP TABLE c");
    let runner = runner(&project);
    let database = Fresh::sqlite();
    let url = database.url();
    let said = refused(planned(&runner, &url, "head").await);
    assert!(said.starts_with("multiple heads: ") && said.contains("alembic merge heads"), "{said}");
    go(&runner, &url, "r3a").await;
    assert_eq!(go(&runner, &url, "r3b").await.1.heads, ["r3a", "r3b"]);
    project.add("m", &["r3a", "r3b"], "", "");
    assert_eq!(go(&runner, &url, "head").await.1.heads, ["m"]);
    assert_eq!(go(&runner, &url, "r3a").await.1.heads, ["r3a", "r3b"]);
    assert_eq!(go(&runner, &url, "base").await.1.heads, Vec::<String>::new());
    let said = "FAILED: Multiple head revisions are present for given argument 'head'; please specify a revision";
    assert!(refusal_of_alembic(said).is_some_and(|error| error.message.starts_with("multiple heads: Multiple")));
}

#[tokio::test]
async fn an_odd_password_and_name_reach_alembic_and_are_not_shown() {
    const PASSWORD: &str = "p@:/?#% \"'";
    let database = TestDatabase::named_later("odd % name ");
    tests::postgres::on_server(&format!("CREATE DATABASE {}", tests::postgres::quoted(database.name())));
    let role = format!("odd_{}", database.name().rsplit(' ').next().unwrap());
    tests::postgres::on_server(&format!(
        "CREATE ROLE {role} LOGIN SUPERUSER PASSWORD {}",
        tests::postgres::literal(PASSWORD)
    ));
    let project = project();
    project.add(
        "r3",
        &["r2"],
        "import os\nprint('told', op.get_bind().engine.url.password)\nprint(os.environ['DATABASE_URL'], os.environ)",
        "",
    );
    let url = tests::postgres::url_as(&database.url(), &role, Some(PASSWORD)).parse().unwrap();
    let (run, current) = go(&runner(&project), &url, "head").await;
    tests::postgres::on_server(&format!(
        "DROP DATABASE {} WITH (FORCE); DROP ROLE {role}",
        tests::postgres::quoted(database.name())
    ));
    assert_eq!((run.exit, current.heads), (Some(0), vec!["r3".to_owned()]), "{}", run.output);
    assert!(run.output.contains("told ***") && !run.output.contains("application_name"), "{}", run.output);
    assert!(!run.output.contains("p@:") && !run.output.contains("p%40"), "{}", run.output);
}

#[tokio::test]
async fn sessions_of_alembic_bear_the_job_and_end_when_it_is_killed() {
    let project = project();
    let show = "for name in ('application_name', 'client_connection_check_interval', 'lock_timeout'):\n    \
                print(name, op.get_bind().exec_driver_sql(f'SHOW {name}').scalar())";
    project.add("r3", &["r2"], show, "");
    let database = Fresh::Postgres(TestDatabase::new());
    let (run, _) = go(&runner(&project), &database.url(), "head").await;
    for line in ["application_name holdfast-", "client_connection_check_interval 500ms", "lock_timeout 1min"] {
        assert!(run.output.contains(line), "{line}: {}", run.output);
    }
}

#[tokio::test]
async fn a_migration_that_cannot_be_read_is_told() {
    let project = project();
    std::fs::write(project.file("bad"), "revision = 'bad'\ndown_revision = 'gone'\n").unwrap();
    let said = refused(runner(&project).history().await);
    assert!(said.contains("gone"), "{said}");
    std::fs::write(project.file("bad"), "import nothing_of_this_name\n").unwrap();
    let said = refused(runner(&project).history().await);
    assert!(said.contains("nothing_of_this_name"), "{said}");
    let empty = AlembicProject::new(ELSEWHERE);
    assert!(refused(runner(&empty).history().await).starts_with("there is no migration in the project of "));
    let folder = tempfile::tempdir().unwrap();
    let missing = AlembicRunner::new(folder.path().to_owned(), alembic(), Vec::new(), Environment::default());
    assert!(refused(missing).starts_with("there is no alembic.ini in "));
}

#[tokio::test]
async fn an_edited_revision_of_alembic_has_other_contents_where_it_is_on_the_way() {
    let project = project();
    let (runner, database) = (runner(&project), Fresh::sqlite());
    let way = planned(&runner, &database.url(), "r1").await.unwrap().2;
    let before = runner.contents(&way).await.unwrap().unwrap();
    project.add_sql("r2", &["r1"], "ALTER TABLE a ADD COLUMN z integer", "SELECT 1");
    assert_eq!(runner.contents(&way).await.unwrap().unwrap(), before, "it is not on the way");
    project.add_sql("r1", &[], "CREATE TABLE a (x text)", "DROP TABLE a");
    assert_ne!(runner.contents(&way).await.unwrap().unwrap(), before);
}
