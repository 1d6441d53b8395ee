//! What a cell starts from: a database, its migrations, the program.

use std::cell::{OnceCell, RefCell};
use std::path::{Path, PathBuf};
use tests::agent::{Agent, Running};
use tests::postgres::pg_dump_text;
use tests::private_postgres::PrivatePostgres;
use tests::sqlite::{sqlite_dump_text, sqlite3};

/// How the database takes a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SQLite in WAL mode.
    SqliteWal,
    /// SQLite with a rollback journal.
    SqliteRollback,
    /// PostgreSQL, one revision in one transaction.
    PostgresWhole,
    /// PostgreSQL, three revisions committed one by one, one of them without a transaction.
    PostgresPieces,
}

/// What happens to the database if nothing goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Course {
    /// A migration is done.
    Good,
    /// A migration passes its rehearsal and fails on the database.
    FailsLive,
    /// Rows were lost, and a backup takes the database's place.
    InPlace,
}

/// A database and what happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scenario {
    pub kind: Kind,
    pub course: Course,
}

impl Scenario {
    pub const ALL: [Scenario; 11] = [
        Scenario { kind: Kind::SqliteWal, course: Course::Good },
        Scenario { kind: Kind::SqliteWal, course: Course::FailsLive },
        Scenario { kind: Kind::SqliteWal, course: Course::InPlace },
        Scenario { kind: Kind::SqliteRollback, course: Course::Good },
        Scenario { kind: Kind::SqliteRollback, course: Course::FailsLive },
        Scenario { kind: Kind::SqliteRollback, course: Course::InPlace },
        Scenario { kind: Kind::PostgresWhole, course: Course::Good },
        Scenario { kind: Kind::PostgresWhole, course: Course::FailsLive },
        Scenario { kind: Kind::PostgresWhole, course: Course::InPlace },
        Scenario { kind: Kind::PostgresPieces, course: Course::Good },
        Scenario { kind: Kind::PostgresPieces, course: Course::FailsLive },
    ];

    pub fn is_postgres(self) -> bool {
        matches!(self.kind, Kind::PostgresWhole | Kind::PostgresPieces)
    }

    /// For the table and for messages.
    pub fn name(self) -> String {
        let kind = match self.kind {
            Kind::SqliteWal => "SQLite (WAL)",
            Kind::SqliteRollback => "SQLite (rollback journal)",
            Kind::PostgresWhole if self.is_in_place() => "PostgreSQL",
            Kind::PostgresWhole => "PostgreSQL (one transaction)",
            Kind::PostgresPieces => "PostgreSQL (piece by piece)",
        };
        let course = match self.course {
            Course::Good => "good",
            Course::FailsLive => "fails live",
            Course::InPlace => "restored in place",
        };
        format!("{kind}, {course}")
    }

    pub fn is_in_place(self) -> bool {
        self.course == Course::InPlace
    }

    /// Whether the run that nothing disturbs leaves the database as it was.
    pub fn fails_live(self) -> bool {
        self.course == Course::FailsLive
    }

    /// What the program is asked for.
    pub fn arguments(self) -> &'static [&'static str] {
        if self.is_in_place() { IN_PLACE } else { APPLY }
    }

    /// How the record calls such a job.
    pub fn job_kind(self) -> &'static str {
        if self.is_in_place() { "restore" } else { "migrate" }
    }

    /// The files of the migration; `pause_s` keeps the tool busy for about so long in every revision with a transaction.
    fn files(self, pause_s: u32) -> Vec<(&'static str, String)> {
        if !self.is_postgres() {
            let rows = u64::from(pause_s) * 8_000_000;
            let pause = match rows {
                0 => String::new(),
                _ => format!(
                    "CREATE TABLE pause AS WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {rows})
                     SELECT count(*) FROM c; DROP TABLE pause;\n"
                ),
            };
            let guard = "CREATE TABLE guard (ok INTEGER CHECK (ok = 1));
                INSERT INTO guard SELECT file NOT LIKE '%/apply/%' FROM pragma_database_list WHERE name = 'main';
                DROP TABLE guard;\n";
            let guard = if self.fails_live() { guard } else { "" };
            let fill = "INSERT INTO people SELECT id, 'person ' || id FROM t WHERE id < 50;
                ALTER TABLE t ADD COLUMN note TEXT; UPDATE t SET note = 'n' || id WHERE id % 7 = 0;\n";
            return vec![
                ("1_people.sql", format!("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT);\n{pause}")),
                ("2_fill.sql", format!("{fill}{pause}{guard}")),
            ];
        }
        let pause = if pause_s == 0 { String::new() } else { format!("SELECT pg_sleep({pause_s});\n") };
        let guard = "DO $$ BEGIN IF current_database() LIKE '%\\_\\_mig\\_%' THEN RAISE EXCEPTION 'only live'; END IF; END $$;\n";
        let guard = if self.fails_live() { guard } else { "" };
        let people = "CREATE TABLE people (id serial PRIMARY KEY, name text);\n";
        let fill = "INSERT INTO people (name) SELECT 'person ' || id FROM t WHERE id < 50;
            ALTER TABLE t ADD COLUMN note text; UPDATE t SET note = 'n' || id WHERE id % 7 = 0;\n";
        match self.kind {
            Kind::PostgresWhole => vec![("1_people.sql", format!("{people}{fill}{pause}{guard}"))],
            _ => vec![
                ("1_people.sql", format!("{people}{pause}")),
                ("2_index.sql", "-- no-transaction\nCREATE INDEX CONCURRENTLY t_t ON t (t);\n".into()),
                ("3_fill.sql", format!("{fill}{pause}{guard}")),
            ],
        }
    }
}

/// What cells need that is made once: a server, if one is asked for.
#[derive(Default)]
pub struct Bench(OnceCell<RefCell<PrivatePostgres>>);

impl Bench {
    /// The server. What it has committed survives its sudden end.
    pub fn server(&self) -> &RefCell<PrivatePostgres> {
        self.0.get_or_init(|| RefCell::new(PrivatePostgres::with_settings("synchronous_commit = on")))
    }
}

/// The database and the program of one cell.
pub struct World<'a> {
    pub scenario: Scenario,
    pub agent: Agent,
    pub bench: &'a Bench,
    /// PostgreSQL's number of the database that is there in the beginning.
    pub oid: String,
    /// The server has crashed meanwhile.
    pub has_crashed: std::cell::Cell<bool>,
    /// The dump of what was backed up, where a backup is restored in place.
    pub whole: String,
}

impl<'a> World<'a> {
    /// A fresh one.
    pub fn new(bench: &'a Bench, scenario: Scenario, pause_s: u32) -> Self {
        let url = if scenario.is_postgres() { bench.server().borrow().url("shop") } else { "sqlite:shop.db".into() };
        let agent = if scenario.is_in_place() { Agent::new() } else { Agent::worker() };
        let agent = agent.with_config(&format!(
            "[state]\nlease = \"3s\"\n\n[database.shop]\nurl = \"{url}\"\n\
             migrations = {{ runner = \"sql\", directory = \"migrations\" }}\n"
        ));
        let folder = agent.home().join("migrations");
        std::fs::create_dir(&folder).unwrap();
        let mut world =
            World { scenario, agent, bench, oid: String::new(), has_crashed: false.into(), whole: String::new() };
        world.write(scenario.files(pause_s));
        world.fill();
        if scenario.is_in_place() {
            world.agent.ok(&["backup", "shop"]);
            world.whole = world.dump();
            world.lose_rows();
        }
        world
    }

    /// What somebody does who then wishes the backup back.
    fn lose_rows(&self) {
        let sql = "DELETE FROM t WHERE id > 100";
        if self.scenario.is_postgres() {
            self.bench.server().borrow().psql("shop", sql);
        } else {
            sqlite3(&self.file(), sql).unwrap();
        }
    }

    fn write(&self, files: Vec<(&'static str, String)>) {
        for (name, text) in files {
            std::fs::write(self.agent.home().join("migrations").join(name), text).unwrap();
        }
    }

    /// Writes the migration without its fault, as somebody does who has read why it failed.
    pub fn mend(&self) {
        self.write(Scenario { course: Course::Good, ..self.scenario }.files(0));
    }

    fn fill(&mut self) {
        if self.scenario.is_postgres() {
            let server = self.bench.server().borrow();
            server.create("shop");
            server.psql(
                "shop",
                "CREATE TABLE t (id serial PRIMARY KEY, t text); INSERT INTO t (t) SELECT md5(i::text) FROM generate_series(1, 300) i;
                 CREATE TABLE other (id int, t_id int REFERENCES t)",
            );
            if self.scenario.kind == Kind::PostgresWhole {
                // sqlx makes its table outside the transaction; an earlier migration would have left it.
                server.psql("shop", SQLX_TABLE);
            }
            self.oid = server.psql("postgres", "SELECT oid FROM pg_database WHERE datname = 'shop'");
            return;
        }
        let mode = if self.scenario.kind == Kind::SqliteWal { "wal" } else { "delete" };
        let sql = format!(
            "PRAGMA journal_mode = {mode}; CREATE TABLE t (id INTEGER PRIMARY KEY, t TEXT); CREATE TABLE other (x);
             WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 300)
             INSERT INTO t SELECT i, 'text ' || i FROM c;"
        );
        sqlite3(&self.file(), &sql).unwrap();
    }

    /// The SQLite file.
    pub fn file(&self) -> PathBuf {
        self.agent.home().join("shop.db")
    }

    /// The file of the points reached.
    pub fn trace(&self) -> PathBuf {
        self.agent.home().join("trace")
    }

    /// The labels of the points reached, in order.
    pub fn labels(&self) -> Vec<String> {
        std::fs::read_to_string(self.trace()).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// What a database of the server holds, by its own tools; without the times the migration tool notes.
    pub fn dump_of(&self, name: &str) -> String {
        without_times(&pg_dump_text(&self.bench.server().borrow().url(name)))
    }

    /// The same of the database that is migrated, under its public name.
    pub fn dump(&self) -> String {
        if self.scenario.is_postgres() {
            return self.dump_of("shop");
        }
        dump_of_file(&self.file())
    }

    /// Starts a later worker that finishes or takes back what an earlier one left.
    ///
    /// Of a migration it is one with a wish of its own, which is refused; a restore in place is gone on with by a worker
    /// of the record.
    pub fn start_recovery(&self) -> Running {
        if self.scenario.is_in_place() {
            return self.agent.start_program("migrate-worker", &["run", "--until-idle"]);
        }
        self.agent.start(RECOVER)
    }

    /// The exit code of a recovery that went well.
    pub fn recovered_code(&self) -> i32 {
        if self.scenario.is_in_place() { 0 } else { 3 }
    }

    /// Databases or files in which what was replaced is kept, by name; a migration replaces nothing.
    pub fn kept(&self) -> Vec<String> {
        if !self.scenario.is_in_place() {
            return Vec::new();
        }
        if self.scenario.is_postgres() {
            let query = "SELECT datname FROM pg_database WHERE datname LIKE 'shop\\_\\_replaced\\_%' ORDER BY 1";
            return self.bench.server().borrow().psql("postgres", query).lines().map(str::to_owned).collect();
        }
        let files = std::fs::read_dir(self.agent.home()).unwrap().flatten();
        let names = files.map(|entry| entry.file_name().into_string().unwrap());
        let is_kept =
            |name: &String| name.starts_with("shop.db.replaced-") && !name.ends_with("-wal") && !name.ends_with("-shm");
        names.filter(is_kept).collect()
    }

    /// What a kept database holds.
    pub fn dump_of_kept(&self, name: &str) -> String {
        if self.scenario.is_postgres() {
            let open = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
            self.bench.server().borrow().psql("postgres", &open);
            return self.dump_of(name);
        }
        dump_of_file(&self.agent.home().join(name))
    }
}

const SQLX_TABLE: &str = "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL,
    installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL, checksum BYTEA NOT NULL,
    execution_time BIGINT NOT NULL)";

pub const APPLY: &[&str] = &["apply", "shop"];

const IN_PLACE: &[&str] = &["restore", "shop", "--at", "latest", "--in-place", "--yes"];

/// Recovers what was lost, then refuses a wish of its own: the database does not stand where that expects it.
pub const RECOVER: &[&str] = &["apply", "shop", "--expected-from", "nowhere"];

impl Drop for World<'_> {
    fn drop(&mut self) {
        if self.scenario.is_postgres() {
            // Whatever a red cell left must not disturb the next.
            let remove = || self.bench.server().borrow().remove("shop");
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(remove));
        }
    }
}

/// What an SQLite file holds, by its own tool; without the times the migration tool notes.
fn dump_of_file(file: &Path) -> String {
    let text = sqlite_dump_text(file);
    let is_hash = |line: &str| line.len() >= 56 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    let kept = text.lines().filter(|line| !line.starts_with("INSERT INTO _sqlx_migrations") && !is_hash(line));
    let mut text: String = kept.flat_map(|line| [line, "\n"]).collect();
    if text.contains("_sqlx_migrations") {
        let query = "SELECT 'migration', version, success FROM _sqlx_migrations ORDER BY version";
        text.push_str(&sqlite3(file, query).unwrap());
    }
    text
}

/// Version and success of each migration are the tool's truth; when and how long is not.
fn without_times(dump: &str) -> String {
    let mut is_inside = false;
    let line = |line: &str| -> String {
        is_inside = line.starts_with("COPY public._sqlx_migrations ") || (is_inside && line != "\\.");
        if is_inside && !line.starts_with("COPY ") {
            let mut fields: Vec<&str> = line.split('\t').collect();
            // installed_on, checksum, execution_time
            for at in [2, 4, 5] {
                fields[at] = "-";
            }
            return fields.join("\t") + "\n";
        }
        format!("{line}\n")
    };
    dump.lines().map(line).collect()
}
