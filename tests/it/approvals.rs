//! Plans that wait for somebody else's word, by the real `migrate-worker`: `apply`, `submit`, `run`, `approve`.

mod bad_input;
mod by_message;
mod crashes;
mod moved;
mod on_postgres;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tests::agent::{Agent, Run};
use tests::sqlite::{sqlite_dump_text, sqlite3};

/// A database that is called `shop`, whose migrations somebody must approve; `anna` asks and `ben` approves.
struct Shop {
    agent: Agent,
}

/// The migration drops a table with rows: without these it is refused, and does not wait.
const MAY_DROP: [&str; 2] = ["--may-drop", "old"];

impl Shop {
    /// A SQLite database with a table `old` of three rows, and a migration that drops it and makes another one.
    fn on_sqlite() -> Self {
        let shop = Self::of("sqlite:shop.db", "");
        let sql = "PRAGMA journal_mode = WAL; CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT);
                   INSERT INTO item (name) VALUES ('one'), ('two'); CREATE TABLE old (id INTEGER PRIMARY KEY, t TEXT);
                   INSERT INTO old (t) VALUES ('a'), ('b'), ('c')";
        shop.sqlite3(sql);
        shop
    }

    /// Another database, and further sections of the configuration.
    fn of(url: &str, sections: &str) -> Self {
        let agent = Agent::worker().with_config(&format!(
            "[state]\nlease = \"3s\"\n\n{sections}\n[database.shop]\nurl = {url:?}\n\n\
             [database.shop.migrations]\nrunner = \"sql\"\ndirectory = \"m\"\napproval = true\n"
        ));
        std::fs::create_dir(agent.home().join("m")).unwrap();
        let mut shop = Shop { agent };
        shop.migration("1_note.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY); DROP TABLE old;");
        shop.be("anna");
        shop
    }

    /// From now on commands are this person's.
    fn be(&mut self, person: &str) {
        self.agent.set_env("USER", person);
    }

    fn migration(&self, name: &str, sql: &str) {
        std::fs::write(self.agent.home().join("m").join(name), sql).unwrap();
    }

    fn database(&self) -> PathBuf {
        self.agent.home().join("shop.db")
    }

    #[track_caller]
    fn sqlite3(&self, sql: &str) -> String {
        sqlite3(&self.database(), sql).unwrap()
    }

    fn tables(&self) -> String {
        self.sqlite3(
            "SELECT group_concat(name, ' ') FROM (SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1)",
        )
    }

    /// Runs `apply shop`, which must end waiting; returns the run and the job.
    #[track_caller]
    fn waits(&self) -> (Run, String) {
        let run = self.agent.run(&[&["apply", "shop"][..], &MAY_DROP].concat()).expect_code(9);
        let job = self.newest()["job_id"].as_str().unwrap().to_owned();
        self.is(&job, "waiting");
        (run, job)
    }

    /// Ben approves a job.
    #[track_caller]
    fn approve(&mut self, job: &str) -> Run {
        self.be("ben");
        let run = self.agent.ok(&["approve", job]);
        self.be("anna");
        run
    }

    /// A worker does what there is to do, and finds nothing to complain about.
    #[track_caller]
    fn work(&self) {
        self.agent.ok(&["run", "--until-idle"]);
    }

    #[track_caller]
    fn newest(&self) -> Value {
        self.agent.json(&["history"])[0].clone()
    }

    #[track_caller]
    fn show(&self, job: &str) -> Value {
        self.agent.json(&["show", job])
    }

    /// Asserts the state of a job, and that nothing of one that nobody works on lies on this machine.
    #[track_caller]
    fn is(&self, job: &str, state: &str) -> Value {
        let shown = self.show(job);
        assert_eq!(shown["state"], state, "{shown:#}");
        if !["running", "recovering", "stuck"].contains(&state) {
            assert_eq!(self.left(job), Vec::<PathBuf>::new(), "files of a job that is {state}");
        }
        shown
    }

    /// Files of a job in the spool.
    fn left(&self, job: &str) -> Vec<PathBuf> {
        let files = below(&self.agent.home().join("holdfast-spool"));
        files.into_iter().filter(|file| file.to_string_lossy().contains(job)).collect()
    }

    #[track_caller]
    fn events(&self, job: &str) -> Vec<String> {
        let shown = self.show(job);
        shown["events"].as_array().unwrap().iter().map(|event| event["what"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until the newest job is in this state.
    #[track_caller]
    fn until(&self, state: &str) -> String {
        let begun = Instant::now();
        loop {
            let jobs = self.agent.json(&["history"]);
            if jobs[0]["state"] == state {
                return jobs[0]["job_id"].as_str().unwrap().to_owned();
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "never {state}: {jobs:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

#[test]
fn what_is_applied_waits_with_its_plan_until_somebody_else_has_approved_it() {
    let mut shop = Shop::on_sqlite();
    let before = sqlite_dump_text(&shop.database());
    let (run, job) = shop.waits();
    let last = run.stdout.lines().last().unwrap();
    assert!(last.starts_with("waiting: base -> 1 (1 revision), loses table old (3 rows); plan "), "{last}");
    assert!(last.ends_with(&format!("; migrate-worker approve {job}")), "{last}");
    for step in ["preflight", "backup", "rehearse", "plan"] {
        assert!(run.stdout.lines().any(|line| line.trim_start().starts_with(step)), "{step}: {}", run.stdout);
    }
    assert_eq!(sqlite_dump_text(&shop.database()), before);
    // The backup made for it stays, on hold like that of any other migration.
    let waits = shop.show(&job);
    let backup = waits["backup_id"].as_str().unwrap();
    let held = shop.agent.run_program("backup-agent", &["show", backup]).expect_code(0).stdout;
    assert!(held.contains("on hold") && held.contains(&job), "{held}");
    // Nobody holds anything meanwhile: others are let in, and a rehearsal never waits.
    let rehearsal = shop.agent.ok(&[&["rehearse", "shop"][..], &MAY_DROP].concat());
    assert!(rehearsal.stdout.contains("succeeded: rehearsed base -> 1"), "{}", rehearsal.stdout);
    shop.work();
    shop.is(&job, "waiting");

    // What there is to see, and to do.
    let shown = shop.agent.ok(&["show", &job]).stdout;
    let digest = waits["plan_digest"].as_str().unwrap();
    for words in [
        "waits for approval\n",
        &format!("  plan      {digest}\n"),
        "  route     base -> 1\n",
        "  revisions 1\n",
        "  losses    table old (3 rows)\n",
        "  effect    table old: dropped, 3 rows lost\n",
        "  effect    table note: new, 0 rows\n",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let hint = format!("hint: migrate-worker approve {job}");
    let status = shop.agent.ok(&["status"]).stdout;
    assert!(status.contains("shop         waiting") && status.trim_end().ends_with(&hint), "{status}");
    assert_eq!(shop.agent.json(&["status"])[0]["remedy"], format!("migrate-worker approve {job}"));
    let listed = shop.agent.ok(&["history"]).stdout;
    assert!(listed.lines().any(|line| line.ends_with(&format!("hint: migrate-worker approve {}", &job[..18]))));

    let own = shop.agent.run(&["approve", &job]).expect_code(3);
    assert!(own.stderr.contains(&format!("job {job} was asked for by anna, so anna may not approve it")));
    assert!(own.stderr.contains("nothing was approved") && own.stderr.contains("hint: "), "{}", own.stderr);
    shop.is(&job, "waiting");
    let approved = shop.approve(&job).stdout;
    for words in ["is approved by ben", digest, "base -> 1", "table old (3 rows)"] {
        assert!(approved.contains(words), "{words}: {approved}");
    }
    shop.is(&job, "queued");
    assert_eq!(sqlite_dump_text(&shop.database()), before, "approving changes nothing");
    shop.work();
    let done = shop.is(&job, "succeeded");
    assert!(shop.tables().contains("note") && !shop.tables().contains("old"), "{}", shop.tables());
    assert_eq!(shop.events(&job), ["queued", "running", "waiting", "approved", "running", "succeeded"]);
    assert_eq!((done["approved_by"].as_str(), done["attempt"].as_u64()), (Some("ben"), Some(1)));
    assert_ne!(done["backup_id"], backup, "a backup of its own before it is changed");
    assert!(shop.agent.ok(&["history"]).stdout.contains("approved by ben"));
    let again = shop.agent.run(&["approve", &job]).expect_code(3);
    assert!(again.stderr.contains("is succeeded, not waiting for approval"), "{}", again.stderr);
}

#[test]
fn whoever_waits_for_a_job_hears_that_it_waits_and_what_to_say() {
    let mut shop = Shop::on_sqlite();
    let worker = shop.agent.start(&["run"]);
    let run = shop.agent.run(&[&["submit", "shop", "--wait"][..], &MAY_DROP].concat()).expect_code(9);
    let lines: Vec<&str> = run.stdout.lines().collect();
    let job = lines[0];
    assert!(lines[1].starts_with("waiting: base -> 1 (1 revision), loses table old (3 rows); plan "), "{lines:?}");
    assert_eq!(lines[2], format!("hint: migrate-worker approve {job}"));
    // The one that runs takes it up again.
    shop.be("ben");
    let approved = shop.agent.json(&["approve", job, "--comment", " tables are backed up "]);
    crate::json_shapes::matches_golden("worker-approve", &[approved]);
    assert_eq!(shop.until("succeeded"), job);
    let shown = shop.show(job);
    assert_eq!(shown["approval_comment"], "tables are backed up");
    let detail = shown["events"][3]["detail"].as_str().unwrap();
    assert!(detail.ends_with(" by ben: tables are backed up"), "{detail}");
    worker.signal("TERM");
    worker.wait().expect_code(0);
    // Where nothing is to be done nobody need say anything.
    let nothing = shop.agent.ok(&["apply", "shop"]);
    assert!(nothing.stdout.contains("succeeded: nothing to do"), "{}", nothing.stdout);
}

#[test]
fn a_job_that_waits_is_cancelled_and_its_database_is_as_it_was() {
    let shop = Shop::on_sqlite();
    let before = sqlite_dump_text(&shop.database());
    let (_, job) = shop.waits();
    let cancelled = shop.agent.ok(&["cancel", &job]).stdout;
    assert!(cancelled.ends_with("is cancelled\n"), "{cancelled}");
    shop.is(&job, "cancelled");
    shop.work();
    shop.is(&job, "cancelled");
    assert_eq!(sqlite_dump_text(&shop.database()), before);
    assert_eq!(shop.events(&job), ["queued", "running", "waiting", "cancelled"]);
}

#[test]
fn the_json_of_an_apply_that_waits_says_so() {
    let shop = Shop::on_sqlite();
    let run = shop.agent.run(&[&["apply", "shop", "--json"][..], &MAY_DROP].concat()).expect_code(9);
    let told = run.json();
    assert_eq!(told["outcome"], "waiting");
    assert_eq!(told["result"]["plan_digest"].as_str().unwrap().len(), 64);
    assert_eq!(told["result"]["plan"]["losses"][0], "table old (3 rows)");
    // A plan that must not lose anything is refused as ever, and does not wait.
    let refused = shop.agent.run(&["apply", "shop"]).expect_code(3);
    assert!(refused.stdout.contains("--may-drop old"), "{}", refused.stdout);
}
