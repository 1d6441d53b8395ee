//! A SQLite database that others have locked.

use super::{Shop, beside, orders, says, until};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use tests::sqlite::TestFile;

/// An application that holds an exclusive lock until it is told to let go.
struct Holder {
    child: Child,
}

impl Holder {
    #[track_caller]
    fn of(file: &TestFile) -> Self {
        let program = "import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute('BEGIN EXCLUSIVE')
print('held', flush=True)
sys.stdin.readline()
c.execute('COMMIT')
print('free', flush=True)
sys.stdin.readline()";
        let mut python = Command::new("python3");
        let mut child = python
            .args(["-c", program])
            .arg(file.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is missing: run the tests by ops/test");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Holder { child }
    }

    fn let_go(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap()).unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ADD: &str = "ALTER TABLE orders ADD COLUMN colour TEXT;";

#[test]
fn a_database_that_stays_locked_is_refused_naming_who_has_it() {
    let file = orders(3);
    let shop = Shop::sql(&file.url(), &[("1_colour.sql", ADD)]);
    let before = file.dump_text();
    let holder = Holder::of(&file);
    let run = shop.apply(&[], "refused");
    says(&run, &[&format!("python3 (process {})", holder.child.id()), "shop was not touched"]);
    // More than one wait would leave people in the dark.
    assert!(run.elapsed.as_secs() < 25, "{:?}", run.elapsed);
    drop(holder);
    assert_eq!(file.dump_text(), before);
    assert_eq!(beside(&file), Vec::<String>::new());
}

#[test]
fn a_lock_that_is_released_in_time_is_waited_for() {
    let file = orders(3);
    let shop = Shop::sql(&file.url(), &[("1_colour.sql", ADD)]);
    let mut holder = Holder::of(&file);
    let mut running = shop.agent.start(&["apply", "shop"]);
    // It has begun when its journal is there, and cannot have read the database.
    until("the migration has begun", || !super::files_below(&shop.file("holdfast-spool")).is_empty());
    assert!(running.is_running());
    holder.let_go();
    shop.ended(running.wait(), "succeeded");
    assert_eq!(file.sqlite3("SELECT count(*), count(colour) FROM orders"), "3|0\n");
}
