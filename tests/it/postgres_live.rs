//! A live PostgreSQL database that is fenced, cut off, given back and exchanged; judged by `psql`.

mod crash;
mod cut_off;
mod fence;
mod globals;
mod lock;
mod outward;
mod preflight;
mod swap;

use shared::engine::postgres::{FencePlan, FenceState, PostgresLive};
use shared::model::{DatabaseUrl, PostgresUrl};
use std::ops::Deref;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::postgres::{TestDatabase, client, literal, on_server, psql, quoted, url_as, url_of};

/// A database that changes its name during the test: everything whose name begins like its own is dropped with it.
struct Target {
    database: TestDatabase,
    prefix: String,
    roles: Vec<String>,
    live: PostgresLive,
}

impl Target {
    /// A database with a table `t` of one row and one setting, seen as superuser.
    fn new() -> Self {
        let reserved = TestDatabase::reserved();
        Self::called(&reserved.name().to_owned())
    }

    /// The same, under a name that begins with something random of 14 bytes.
    fn called(name: &str) -> Self {
        let database = TestDatabase::named(name);
        database.psql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
        let (url, prefix) = (database.url(), name[..14].to_owned());
        let live = PostgresLive::new(parsed(&url), parsed(&url));
        Target { database, prefix, roles: Vec::new(), live }
    }

    /// Makes a role whose name begins like the database's; it is dropped with it.
    fn role(&mut self, end: &str, options: &str) -> String {
        let role = format!("{}_{end}", self.prefix);
        on_server(&format!("CREATE ROLE {} LOGIN {options}", quoted(&role)));
        self.roles.push(role.clone());
        role
    }

    /// The database as this role sees it, fencing included.
    fn live_as(&self, role: &str) -> PostgresLive {
        let url = parsed(&url_as(&self.url(), role, None));
        PostgresLive::new(url.clone(), url)
    }

    /// Names of all databases that begin like this one.
    fn names(&self) -> Vec<String> {
        let sql =
            format!("SELECT datname FROM pg_database WHERE starts_with(datname, {}) ORDER BY 1", literal(&self.prefix));
        on_server(&sql).lines().map(str::to_owned).collect()
    }

    /// A session that stays until it is dropped, with its application name.
    fn session(&self, database: &str, application: &str) -> Idle {
        Idle::begin(&url_of(database), application, "SELECT pg_sleep(600)")
    }
}

impl Deref for Target {
    type Target = TestDatabase;

    fn deref(&self) -> &TestDatabase {
        &self.database
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        for name in self.names() {
            on_server(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&name)));
        }
        for role in &self.roles {
            on_server(&format!("DROP ROLE IF EXISTS {}", quoted(role)));
        }
    }
}

/// A `psql` that runs one statement; killed when dropped.
struct Idle {
    child: std::process::Child,
}

impl Idle {
    /// Returns when the statement runs.
    #[track_caller]
    fn begin(url: &str, application: &str, sql: &str) -> Self {
        let mut command = client("psql");
        command.args(["-Xq", "-d", url, "-c", sql]).env("PGAPPNAME", application);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let idle = Idle { child: command.spawn().unwrap() };
        let running = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = {} AND state = 'active' AND query = {}",
            literal(application),
            literal(sql)
        );
        until(&format!("{sql} runs"), || on_server(&running).trim() != "0");
        idle
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.kill();
    }
}

fn parsed(url: &str) -> PostgresUrl {
    let Ok(DatabaseUrl::Postgres(url)) = url.parse() else { panic!("{url} is no PostgreSQL URL") };
    url
}

/// Polls for at most 20 s.
#[track_caller]
fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !happened() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a login as superuser is told; empty if it is let in.
fn refusal(database: &str) -> String {
    psql(&url_of(database), "SELECT 1").err().unwrap_or_default()
}

/// Everything that belongs to the database with this OID and not to its content, its name excepted.
fn belongings(oid: u32) -> String {
    on_server(&format!(
        "SELECT d.oid, datdba::regrole, datacl, datallowconn, datconnlimit, shobj_description(d.oid, 'pg_database'),
                (SELECT string_agg(setrole || setconfig::text, ' ') FROM pg_db_role_setting WHERE setdatabase = d.oid)
         FROM pg_database d WHERE d.oid = {oid}"
    ))
}

/// A command that runs one step in a process of its own.
fn step(url: &str, step: &str, plan: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_live-step"));
    command.args([url, step, plan]);
    command
}

fn fenced_as(plan: &FencePlan) -> FenceState {
    FenceState::Fenced { name: plan.fenced.clone(), open: true }
}
