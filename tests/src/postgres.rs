//! Temporary PostgreSQL databases, driven by the real `psql`.

use crate::server::without_libpq_settings;
use crate::tools::{self, Held};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use crate::postgres_dump::{check_pg_dump, dump_differences, pg_dump_text, pg_dump_with_settings};
pub use crate::server::SCRAM_PASSWORD;

/// What NULL looks like in the answers of [`TestDatabase::query_rows`].
pub const NULL: &str = "\u{2205}";

/// The URL of the private server's maintenance database, as superuser.
///
/// Panics where no server was started for the tests: see `with-servers`.
#[track_caller]
pub fn server_url() -> String {
    std::env::var("HOLDFAST_TEST_PG").unwrap_or_else(|_| {
        panic!("HOLDFAST_TEST_PG is not set: run the tests by ops/test or `cargo run -p tests --bin with-servers -- …`")
    })
}

/// The URL of another database on the private server.
pub fn url_of(database: &str) -> String {
    let server = server_url();
    let base = server.rsplit_once('/').unwrap().0;
    format!("{base}/{}", percent_encoded(database))
}

/// The same URL for another role, with an optional password.
pub fn url_as(url: &str, role: &str, password: Option<&str>) -> String {
    let rest = url.split_once('@').unwrap().1;
    let secret = password.map_or(String::new(), |password| format!(":{}", percent_encoded(password)));
    format!("postgres://{}{secret}@{rest}", percent_encoded(role))
}

/// A program of the PostgreSQL client, with nothing of the caller's libpq settings.
///
/// Prefers the folder of the server's own programs, so that client and server are of one version.
pub fn client(program: &str) -> Command {
    let folder = std::env::var_os("HOLDFAST_TEST_PG_BIN").map(PathBuf::from);
    let real = folder.map(|folder| folder.join(program)).filter(|file| file.is_file());
    let mut command = Command::new(real.unwrap_or_else(|| program.into()));
    without_libpq_settings(&mut command).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    command
}

/// A database of its own for one test. Dropping it drops the database, whoever is connected.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
}

impl TestDatabase {
    /// Makes an empty UTF-8 database under a random name.
    #[track_caller]
    pub fn new() -> Self {
        Self::named(&format!("t_{}", random_hex()))
    }

    /// Makes an empty UTF-8 database called `name`; a test that wants an odd name adds something random itself.
    #[track_caller]
    pub fn named(name: &str) -> Self {
        Self::with_options(name, "TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'")
    }

    /// Makes a database under a random name, with the options of `CREATE DATABASE` given as SQL.
    #[track_caller]
    pub fn created(options: &str) -> Self {
        Self::with_options(&format!("t_{}", random_hex()), options)
    }

    /// Makes a database with the options of `CREATE DATABASE` given as SQL.
    #[track_caller]
    pub fn with_options(name: &str, options: &str) -> Self {
        on_server(&format!("CREATE DATABASE {} {options}", quoted(name)));
        Self { name: name.to_owned() }
    }

    /// Makes a copy of `template` by the server's own means; nobody may be connected to it.
    ///
    /// As the server does it, settings and grants of the database itself are not copied.
    #[track_caller]
    pub fn create_from_template(template: &str) -> Self {
        Self::created(&format!("TEMPLATE {} STRATEGY FILE_COPY", quoted(template)))
    }

    /// Makes a copy of a database that `fill` fills once for the whole test run, also across test processes.
    #[track_caller]
    pub fn filled_once(key: &str, fill: impl FnOnce(&Self)) -> Self {
        let template = format!("filled_{key}");
        let lock = File::create(server_folder().join(format!("filling-{key}"))).unwrap();
        lock.lock().unwrap();
        let found = on_server(&format!("SELECT 1 FROM pg_database WHERE datname = {}", literal(&template)));
        if found.trim().is_empty() {
            let fresh = Self::new();
            fill(&fresh);
            // Only a finished database gets the name, and nobody connects to it any more.
            on_server(&format!(
                "ALTER DATABASE {0} ALLOW_CONNECTIONS false;
                 SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {2};
                 ALTER DATABASE {0} RENAME TO {1}",
                quoted(&fresh.name),
                quoted(&template),
                literal(&fresh.name)
            ));
            std::mem::forget(fresh);
        }
        lock.unlock().unwrap();
        Self::create_from_template(&template)
    }

    /// Takes charge of a database that somebody else made, a restore for example: it is dropped with the value.
    pub fn adopt(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// A name nobody uses, in charge of dropping the database that a test lets the product create there.
    pub fn reserved() -> Self {
        Self::adopt(&format!("t_{}", random_hex()))
    }

    /// Like [`TestDatabase::reserved`], with a name that begins with `prefix`.
    pub fn named_later(prefix: &str) -> Self {
        Self::adopt(&format!("{prefix}{}", random_hex()))
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL as superuser.
    pub fn url(&self) -> String {
        url_of(&self.name)
    }

    /// The URL as `scram_user`, the one role that is asked for a password.
    pub fn scram_url(&self, password: Option<&str>) -> String {
        url_as(&self.url(), "scram_user", password)
    }

    /// Whether the database exists.
    pub fn exists(&self) -> bool {
        !on_server(&format!("SELECT 1 FROM pg_database WHERE datname = {}", literal(&self.name))).trim().is_empty()
    }

    /// Runs SQL by `psql` with ON_ERROR_STOP and returns what it printed, unaligned and without headers.
    ///
    /// Panics with psql's words if a statement fails.
    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        match self.try_psql(sql) {
            Ok(text) => text,
            Err(error) => panic!("psql on {}: {error}", self.name),
        }
    }

    /// Like [`TestDatabase::psql`], but returns psql's error text.
    #[track_caller]
    pub fn try_psql(&self, sql: &str) -> Result<String, String> {
        psql(&self.url(), sql)
    }

    /// Has a session of its own lock a table against everybody, readers too, until the lock is dropped.
    #[track_caller]
    pub fn lock_table(&self, table: &str) -> Held {
        self.held(&format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;"))
    }

    /// Has a session of its own run statements, and stay there until it is dropped.
    #[track_caller]
    pub fn held(&self, sql: &str) -> Held {
        Held::start(&mut psql_command(&self.url()), format!("{sql}\n\\echo held\n").as_bytes())
    }

    /// Runs a file by `psql -f` with ON_ERROR_STOP.
    #[track_caller]
    pub fn psql_file(&self, file: &Path) {
        let answer = tools::run(psql_command(&self.url()).arg("-f").arg(file), b"");
        answer.expect(&format!("psql -f {} on {}", file.display(), self.name));
    }

    /// The rows of one query, each value as text, NULL as [`NULL`].
    #[track_caller]
    pub fn query_rows(&self, sql: &str) -> Vec<Vec<String>> {
        let text = format!("\\pset null {NULL}\n\\pset fieldsep '\\x1f'\n\\pset recordsep '\\x1e'\n{sql}");
        let answer = self.psql(&text);
        let answer = answer.strip_suffix('\n').unwrap_or(&answer);
        if answer.is_empty() {
            return Vec::new();
        }
        answer.split('\u{1e}').map(|row| row.split('\u{1f}').map(str::to_owned).collect()).collect()
    }

    /// The one value of a query.
    #[track_caller]
    pub fn query_value(&self, sql: &str) -> String {
        let rows = self.query_rows(sql);
        assert!(rows.len() == 1 && rows[0].len() == 1, "one value expected from {sql}, got {rows:?}");
        rows.into_iter().flatten().next().unwrap()
    }
}

impl Default for TestDatabase {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&self.name));
        if let Err(error) = psql(&server_url(), &sql)
            && !std::thread::panicking()
        {
            panic!("dropping {}: {error}", self.name);
        }
    }
}

/// Runs SQL on the maintenance database of the private server.
#[track_caller]
pub fn on_server(sql: &str) -> String {
    match psql(&server_url(), sql) {
        Ok(text) => text,
        Err(error) => panic!("psql on the server: {error}"),
    }
}

/// Runs SQL by `psql` at any URL; the error is what psql said.
#[track_caller]
pub fn psql(url: &str, sql: &str) -> Result<String, String> {
    let answer = tools::run(&mut psql_command(url), sql.as_bytes());
    if answer.success {
        Ok(String::from_utf8(answer.stdout).map_err(|error| error.to_string())?)
    } else {
        Err(answer.stderr.trim().to_owned())
    }
}

/// An SQL identifier in quotes.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An SQL string literal.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn psql_command(url: &str) -> Command {
    let mut command = client("psql");
    command.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", url]);
    command
}

/// A folder that goes away with the server.
#[track_caller]
fn server_folder() -> PathBuf {
    let data = std::env::var_os("HOLDFAST_TEST_PG_DATA").map(PathBuf::from);
    data.and_then(|data| Some(data.parent()?.to_path_buf())).expect("HOLDFAST_TEST_PG_DATA is set by with-servers")
}

fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

pub(crate) fn random_hex() -> String {
    let mut random = [0; 6];
    getrandom::fill(&mut random).unwrap();
    hex::encode(random)
}
