//! Whole migrations by the real `migrate-worker`, with real tools on real databases; judged by `sqlite3` and `psql`.

mod acknowledged;
mod around;
mod commands;
mod fence;
mod live_failures;
mod locks;
mod losses;
mod one_owner;
mod postgres_tools;
mod record;
mod refusals;
mod stories;
mod tools;
mod violations;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tests::agent::{Agent, Run};
use tests::alembic::{AlembicProject, alembic};
use tests::sqlite::TestFile;

/// A database that is called `shop`, its migrations, and a worker with a record and a store of its own.
struct Shop {
    agent: Agent,
    alembic: Option<AlembicProject>,
}

impl Shop {
    /// SQL files, as names and texts, that Holdfast runs itself.
    fn sql(url: &str, files: &[(&str, &str)]) -> Self {
        Self::sql_with(url, "", files)
    }

    /// The same with further lines for `[database.shop.migrations]`.
    fn sql_with(url: &str, more: &str, files: &[(&str, &str)]) -> Self {
        let agent = Agent::worker().with_config(&config(url, &format!("runner = \"sql\"\ndirectory = \"m\"\n{more}")));
        std::fs::create_dir(agent.home().join("m")).unwrap();
        let shop = Shop { agent, alembic: None };
        files.iter().for_each(|(name, text)| shop.add(name, text));
        shop
    }

    /// A project that the real Alembic runs.
    fn alembic(url: &str, project: AlembicProject) -> Self {
        Self::alembic_by(url, project, "", "exec \"$alembic\" \"$@\"")
    }

    /// The same, where Alembic is called by a shell script: `$alembic` is the real one, `$verb` what is asked of it, and
    /// `$home` a folder of the test's own.
    fn alembic_by(url: &str, project: AlembicProject, more: &str, script: &str) -> Self {
        let agent = Agent::worker();
        let (home, directory) = (agent.home().to_owned(), project.directory().to_owned());
        // As it is called: -c INI VERB …
        let head = format!("#!/bin/sh\nalembic={}\nhome={}\nverb=$3\n", alembic().display(), home.display());
        let program = home.join("alembic");
        std::fs::write(&program, format!("{head}{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let section = format!("runner = \"alembic\"\ndirectory = {directory:?}\nprogram = [\"./alembic\"]\n{more}");
        Shop { agent: agent.with_config(&config(url, &section)), alembic: Some(project) }
    }

    /// Adds or replaces a SQL file.
    fn add(&self, name: &str, text: &str) {
        std::fs::write(self.agent.home().join("m").join(name), text).unwrap();
    }

    /// A file in the working folder.
    fn file(&self, name: &str) -> PathBuf {
        self.agent.home().join(name)
    }

    /// Runs `apply shop` with further arguments and asserts how it ended, by exit code, story and record.
    #[track_caller]
    fn apply(&self, more: &[&str], outcome: &str) -> Run {
        let mut arguments = vec!["apply", "shop"];
        arguments.extend(more);
        self.ended(self.agent.run(&arguments), outcome)
    }

    /// The same for a run that has ended already.
    #[track_caller]
    fn ended(&self, run: Run, outcome: &str) -> Run {
        let codes = [("succeeded", 0), ("refused", 3), ("restored", 4), ("stuck", 5)];
        let code = codes.iter().find(|(name, _)| *name == outcome).unwrap().1;
        let run = run.expect_code(code);
        let told = run.stdout.lines().any(|line| line.starts_with(&format!("{outcome}: ")));
        assert!(told, "the story does not end as {outcome}: {}{}", run.stdout, run.stderr);
        let newest = &self.agent.json(&["history", "shop"])[0];
        assert_eq!(newest["state"], outcome, "the record says something else than the story: {newest:#}");
        if outcome != "stuck" {
            let id = newest["job_id"].as_str().unwrap();
            let left: Vec<PathBuf> = files_below(&self.file("holdfast-spool"))
                .into_iter()
                .filter(|file| file.to_string_lossy().contains(id))
                .collect();
            assert_eq!(left, Vec::<PathBuf>::new(), "files of the ended job are left");
        }
        run
    }

    /// Everything the record keeps of the newest job, and what its tools printed.
    #[track_caller]
    fn record(&self) -> String {
        let id = self.agent.json(&["history", "shop"])[0]["job_id"].as_str().unwrap().to_owned();
        let show = self.agent.ok(&["show", &id, "--json"]).stdout;
        format!("{show}\n{}", self.agent.ok(&["output", &id]).stdout)
    }
}

fn config(url: &str, migrations: &str) -> String {
    format!("[database.shop]\nurl = {url:?}\n\n[database.shop.migrations]\n{migrations}\n")
}

/// A project without migrations whose own address must never be used.
fn project() -> AlembicProject {
    AlembicProject::new("sqlite:////nowhere/else.db")
}

/// A SQLite file with `rows` rows in `orders`.
fn orders(rows: u32) -> TestFile {
    let file = TestFile::named("shop.db");
    file.sqlite3(&format!(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT, note TEXT);
         WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {rows})
         INSERT INTO orders SELECT i, 'item ' || i, 'note ' || i FROM c;"
    ));
    file
}

/// The parts of a story that every run has of its own, as `stories` shows them, are not compared here.
#[track_caller]
fn says(run: &Run, words: &[&str]) {
    for word in words {
        assert!(run.stdout.contains(word), "{word:?} is missing:\n{}\n{}", run.stdout, run.stderr);
    }
}

/// What lies beside a SQLite database, without its own files and the lock that is never removed.
fn beside(file: &TestFile) -> Vec<String> {
    let own = file.path().file_name().unwrap().to_str().unwrap().to_owned();
    let usual: Vec<String> =
        ["", "-wal", "-shm", "-journal", ".holdfast-lock"].iter().map(|end| format!("{own}{end}")).collect();
    let names =
        std::fs::read_dir(file.folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !usual.contains(name)).collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let below = entries.map(|entry| entry.unwrap().path());
    below.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Polls for at most 30 s.
#[track_caller]
fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !happened() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
