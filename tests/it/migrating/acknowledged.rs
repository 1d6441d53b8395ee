//! The oracle of acknowledged writes: an application writes rows all through migrations, whatever becomes of them, and
//! every row it was told is in the database is there afterwards.

use super::{Shop, project, until};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tests::alembic::AlembicProject;
use tests::private_postgres::PrivatePostgres;
use tests::sqlite::TestFile;

/// Inserts rows with growing ids, keeping its connection as long as it can, and prints each id it was told is safe.
const WRITER: &str = r"
import sqlite3, sys, threading, time
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
c, i = None, 0
while not stop.is_set():
    i += 1
    try:
        if c is None:
            c = sqlite3.connect(sys.argv[1], timeout=0.2, isolation_level=None)
        c.execute('INSERT INTO written (id) VALUES (?)', (i,))
        print(i, flush=True)
    except sqlite3.Error as e:
        print('refused', e, flush=True)
        if 'locked' not in str(e):
            c = None
    time.sleep(0.004)
";

/// Rows an application was told are safe, with the time it heard of each.
type Heard = Arc<Mutex<Vec<(u64, Instant)>>>;

/// What happened to the application during a run.
struct Phase {
    before: usize,
    during: usize,
    after: usize,
    locked_out: Duration,
}

/// Runs `work` while the application writes, and asserts that it wrote before, during and after it.
fn during<T>(heard: &Heard, work: impl FnOnce() -> T) -> (T, Phase) {
    let count = || heard.lock().unwrap().len();
    let first = count();
    until("the application writes", || count() > first + 5);
    let begun = count();
    let done = work();
    let ended = count();
    until("the application writes again", || count() > ended + 5);
    let heard = heard.lock().unwrap();
    let times = heard[begun - 1..].windows(2).map(|pair| pair[1].1 - pair[0].1);
    let locked_out = times.max().unwrap_or_default();
    let phase = Phase { before: begun - first, during: ended - begun, after: heard.len() - ended, locked_out };
    (done, phase)
}

/// Prints how a run was for the application. One that is open during most of a run writes there.
#[track_caller]
fn tell(product: &str, outcome: &str, phase: &Phase) {
    let Phase { before, during, after, locked_out } = phase;
    println!(
        "{product} {outcome}: {before} rows before, {during} during, {after} after; at most {} ms without one",
        locked_out.as_millis()
    );
    assert!(*before > 0 && *during > 0 && *after > 0, "{product} {outcome}: the application did not write all through");
}

/// Rows the application was told of and that are not among those found.
fn missing(heard: &Heard, ids: &dyn Fn() -> String) -> Vec<u64> {
    // First what was heard, then the look: the application goes on.
    let heard: Vec<u64> = heard.lock().unwrap().iter().map(|(id, _)| *id).collect();
    let found: BTreeSet<u64> = ids().split_whitespace().map(|id| id.parse().unwrap()).collect();
    heard.into_iter().filter(|id| !found.contains(id)).collect()
}

#[track_caller]
fn all_there(heard: &Heard, ids: &dyn Fn() -> String, what: &str) {
    assert_eq!(missing(heard, ids), Vec::<u64>::new(), "{what}: acknowledged rows are missing");
}

/// A python3 that writes into a SQLite file.
struct Application {
    child: Child,
    stdin: Option<ChildStdin>,
    reader: Option<JoinHandle<()>>,
    heard: Heard,
}

impl Application {
    fn on(file: &Path) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", WRITER]).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 is missing: run the tests by ops/test");
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let heard = Heard::default();
        let into = heard.clone();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(id) = line.parse() {
                    into.lock().unwrap().push((id, Instant::now()));
                }
            }
        });
        Application { child, stdin, reader: Some(reader), heard }
    }

    /// Lets it end by itself, and hears all it has to say.
    fn stop(&mut self) {
        self.stdin = None;
        assert!(self.child.wait().unwrap().success(), "the application failed");
        self.reader.take().unwrap().join().unwrap();
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Revisions that go well, lose data, and fail after all was done, the second time only.
fn shop(url: &str) -> (Shop, impl Fn(&str)) {
    let revisions = project();
    revisions.add_sql(
        "good",
        &[],
        "ALTER TABLE orders ADD COLUMN colour varchar(9)\nUPDATE orders SET colour = 'red'",
        "SELECT 1",
    );
    let script = "if [ $verb = upgrade ] && [ -e $home/fails ]; then
            \"$alembic\" \"$@\" || exit
            [ -e $home/once ] && exit 3
            touch $home/once
            exit 0
        fi
        exec \"$alembic\" \"$@\"";
    let shop = Shop::alembic_by(url, revisions, "", script);
    let directory = shop.alembic.as_ref().unwrap().directory().to_owned();
    let next = move |text: &str| std::fs::write(directory.join("migrations/versions/next.py"), text).unwrap();
    (shop, next)
}

/// A revision on top of `good`.
fn revision(id: &str, sql: &str) -> String {
    format!(
        "from alembic import op\nrevision = {id:?}\ndown_revision = 'good'\ndef upgrade():\n    op.execute({sql:?})\n"
    )
}

/// The four outcomes, one after the other, on a database at `address` in SQLAlchemy's form.
fn through_all_outcomes(product: &str, url: &str, address: &str, heard: &Heard, ids: &dyn Fn() -> String) {
    let (shop, next) = shop(url);
    let run = |outcome: &str| {
        let (_, phase) = during(heard, || shop.apply(&[], outcome));
        tell(product, outcome, &phase);
        all_there(heard, ids, &format!("{product} {outcome}"));
    };
    run("succeeded");
    next(&revision("loses", "ALTER TABLE orders DROP COLUMN note"));
    run("refused");
    next(&revision("fails", "UPDATE orders SET note = 'changed'"));
    std::fs::write(shop.file("fails"), "").unwrap();
    run("restored");
    std::fs::remove_file(shop.file("fails")).unwrap();
    next(&revision("around", "UPDATE orders SET note = 'around'"));
    around(shop.alembic.as_ref().unwrap(), address);
    run("stuck");
}

/// Upgrades go to the live database, whatever the tool is told.
fn around(project: &AlembicProject, address: &str) {
    let text = std::fs::read_to_string(project.env_py()).unwrap();
    let told = "config = context.config\n";
    let fixed = format!(
        "{told}import sys\nif 'upgrade' in sys.argv:\n    config.set_main_option('sqlalchemy.url', '{address}')\n"
    );
    std::fs::write(project.env_py(), text.replace(told, &fixed)).unwrap();
}

fn written_and_orders(journal: &str) -> TestFile {
    let file = TestFile::named("shop.db");
    file.sqlite3(&format!(
        "PRAGMA journal_mode = {journal};
         CREATE TABLE written (id INTEGER PRIMARY KEY);
         CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT);
         WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 2000)
         INSERT INTO orders SELECT i, 'note ' || i FROM c;"
    ));
    file
}

fn on_sqlite(journal: &str) {
    let file = written_and_orders(journal);
    let mut application = Application::on(&file.path());
    let address = format!("sqlite:///{}", file.path().display());
    let heard = application.heard.clone();
    let ids = || file.sqlite3(".timeout 5000\nSELECT id FROM written");
    through_all_outcomes(&format!("SQLite ({journal})"), &file.url(), &address, &heard, &ids);
    application.stop();
    all_there(&heard, &ids, journal);
    assert_eq!(file.sqlite3("PRAGMA journal_mode; PRAGMA integrity_check"), format!("{journal}\nok\n"));
}

#[test]
fn on_sqlite_with_a_write_ahead_log_no_acknowledged_row_is_lost() {
    on_sqlite("wal");
}

#[test]
fn on_sqlite_with_a_rollback_journal_no_acknowledged_row_is_lost() {
    on_sqlite("delete");
}

/// Would the oracle see it? Without the look for rows written since the copy, a migration must lose some.
#[test]
fn a_commit_that_does_not_look_for_writes_loses_rows_and_is_seen() {
    let file = written_and_orders("wal");
    let mut application = Application::on(&file.path());
    let heard = application.heard.clone();
    let (mut shop, _) = shop(&file.url());
    shop.agent.set_env("HOLDFAST_RULES_OFF", "look-for-writes");
    let (_, phase) = during(&heard, || shop.apply(&[], "succeeded"));
    tell("SQLite without a rule", "succeeded", &phase);
    application.stop();
    let lost = missing(&heard, &|| file.sqlite3("SELECT id FROM written"));
    assert!(!lost.is_empty(), "nobody would notice that rows are lost");
}

/// Inserts rows until it is told to stop, connecting anew whenever it is refused.
async fn write(url: String, heard: Heard, stop: Arc<AtomicBool>) {
    use sqlx::Connection;
    let mut connection: Option<sqlx::PgConnection> = None;
    let mut id = 0_i64;
    while !stop.load(Ordering::Relaxed) {
        if connection.is_none() {
            connection = sqlx::PgConnection::connect(&url).await.ok();
        }
        if let Some(open) = &mut connection {
            id += 1;
            match sqlx::query("INSERT INTO written (id) VALUES ($1)").bind(id).execute(open).await {
                Ok(_) => heard.lock().unwrap().push((id.unsigned_abs(), Instant::now())),
                Err(_) => connection = None,
            }
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}

#[test]
fn on_postgresql_no_acknowledged_row_is_lost() {
    let server = PrivatePostgres::start();
    server.create("shop");
    server.psql(
        "shop",
        "CREATE TABLE written (id bigint PRIMARY KEY); CREATE TABLE orders (id int PRIMARY KEY, note text);
         INSERT INTO orders SELECT i, 'note ' || i FROM generate_series(1, 2000) i",
    );
    let (heard, stop) = (Heard::default(), Arc::new(AtomicBool::new(false)));
    let writer = {
        let (url, heard, stop) = (server.url("shop"), heard.clone(), stop.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::spawn(move || runtime.block_on(write(url, heard, stop)))
    };
    let address = server.url("shop").replace("postgres://", "postgresql://");
    let ids = || server.psql("shop", "SELECT id FROM written");
    through_all_outcomes("PostgreSQL", &server.url("shop"), &address, &heard, &ids);
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    all_there(&heard, &ids, "PostgreSQL");
}
