//! Tools that do not do what they say: never believed, always looked at; on SQLite, where they only get copies.

use super::{Shop, beside, files_below, orders, project, says, until};
use tests::alembic::AlembicProject;
use tests::sqlite::TestFile;

/// One revision that adds a table.
fn one_table() -> AlembicProject {
    let project = project();
    project.add_sql("r1", &[], "CREATE TABLE a (x integer)", "DROP TABLE a");
    project
}

/// A file of a few rows, what it holds, and a worker whose `upgrade` is this script.
fn shop(more: &str, upgrade: &str) -> (TestFile, String, Shop) {
    let file = orders(3);
    let text = file.dump_text();
    let script = format!("if [ $verb = upgrade ]; then\n{upgrade}\nfi\nexec \"$alembic\" \"$@\"");
    let shop = Shop::alembic_by(&file.url(), one_table(), more, &script);
    (file, text, shop)
}

/// Asserts that the database is what it was and that nothing lies beside it.
#[track_caller]
fn untouched(file: &TestFile, before: &str) {
    assert_eq!(file.dump_text(), before);
    assert_eq!(beside(file), Vec::<String>::new());
}

#[test]
fn a_tool_that_ends_well_and_did_nothing_is_refused() {
    let (file, before, shop) = shop("", "exit 0");
    let run = shop.apply(&[], "refused");
    says(&run, &["its copy stands at base instead of r1", "alembic did not do what it was told to"]);
    untouched(&file, &before);
}

#[test]
fn a_tool_that_reaches_its_goal_and_ends_badly_is_refused() {
    let (file, before, shop) = shop("", "\"$alembic\" \"$@\"; exit 1");
    says(&shop.apply(&[], "refused"), &["the rehearsal failed: alembic ended with exit code 1"]);
    untouched(&file, &before);
}

#[test]
fn a_tool_that_hangs_is_ended_and_one_that_ignores_it_killed() {
    let hang = "echo $$ > $home/pid; trap 'echo politely > $home/asked; exit 1' TERM; while :; do sleep 0.1; done";
    let (file, before, asked) = shop("deadline = \"5s\"", hang);
    says(&asked.apply(&[], "refused"), &["alembic was ended: stopped: it did not end within 5 s"]);
    assert_eq!(std::fs::read_to_string(asked.file("asked")).unwrap(), "politely\n");
    untouched(&file, &before);

    let deaf = "trap '' TERM; echo $$ > $home/pid; while :; do sleep 0.1; done";
    let (file, before, deaf) = shop("deadline = \"5s\"", deaf);
    says(&deaf.apply(&[], "refused"), &["it did not end within 5 s"]);
    assert!(!is_alive(&deaf), "the tool outlives the run");
    untouched(&file, &before);
}

/// Whether the process whose id the tool wrote down is still there.
#[track_caller]
fn is_alive(shop: &Shop) -> bool {
    let pid = std::fs::read_to_string(shop.file("pid")).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

#[test]
fn a_daemon_that_a_tool_leaves_is_ended_before_it_writes() {
    // It holds no pipe of the tool, is no member of its group and of no session of ours.
    let daemon = "path=${DATABASE_URL#sqlite:///}
        setsid sh -c 'echo $$ > $0/pid; while [ ! -e $0/go ]; do sleep 0.05; done
                      sqlite3 \"$1\" \"CREATE TABLE late (x)\"; touch $0/written' \
            $home \"$path\" </dev/null >/dev/null 2>&1 &
        while [ ! -s $home/pid ]; do sleep 0.02; done";
    let (file, _, shop) = shop("", daemon);
    shop.apply(&[], "succeeded");
    assert!(!is_alive(&shop), "the daemon outlives the run");
    assert!(shop.record().contains(" it left running were ended]"), "nobody is told of the daemon");
    std::fs::write(shop.file("go"), "").unwrap();
    assert_eq!(file.sqlite3(".tables").split_whitespace().collect::<Vec<_>>(), ["a", "alembic_version", "orders"]);
    assert!(!shop.file("written").exists());
}

#[test]
fn a_tool_that_prints_without_end_is_cut_in_the_middle_and_needs_no_memory() {
    let print =
        "echo first words; yes 'a line of forty characters, again and again' | head -c 200000000; echo last words";
    let (_file, _, shop) = shop("", print);
    let run = shop.apply(&[], "succeeded");
    assert!(run.peak_rss_bytes < 200 << 20, "{} MiB", run.peak_rss_bytes >> 20);
    let id = shop.agent.json(&["history", "shop"])[0]["job_id"].as_str().unwrap().to_owned();
    let output = shop.agent.ok(&["output", &id]).stdout;
    assert!(output.len() < 5 << 20, "{} bytes are kept", output.len());
    for words in ["== rehearse, ", "== apply, ", "first words\n", "last words\n", "bytes left out"] {
        assert!(output.contains(words), "{words:?} is missing");
    }
}

#[test]
fn a_secret_that_a_tool_prints_is_seen_nowhere() {
    const SECRET: &str = "sw0rdfish and more";
    let print = "echo \"the key is $SECRET_KEY\"; echo \"again $SECRET_KEY\" >&2; \"$alembic\" \"$@\"; echo $SECRET_KEY; exit 1";
    let (_file, _, mut shop) = shop("required_env = [\"SECRET_KEY\"]", print);
    shop.agent.set_env("SECRET_KEY", SECRET);
    shop.agent.set_env("HOLDFAST_LOG", "trace");
    let run = shop.apply(&[], "refused");
    run.never_says(SECRET);
    let record = shop.record();
    assert!(record.contains("the key is ***"), "{record}");
    assert!(!record.contains(SECRET), "the record tells the secret");
    for file in files_below(shop.agent.home()).into_iter().filter(|file| file.is_file()) {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "{} holds the secret", file.display());
    }
}

#[test]
fn a_tool_that_always_asks_one_database_is_refused_by_the_probe() {
    let file = orders(3);
    let project = one_table();
    let shop = Shop::alembic(&file.url(), project);
    shop.apply(&[], "succeeded");
    let project = shop.alembic.as_ref().unwrap();
    project.add_sql("r2", &["r1"], "CREATE TABLE b (x integer)", "DROP TABLE b");
    always_uses(project, &file, "True");
    let before = file.dump_text();
    let run = shop.apply(&[], "refused");
    says(&run, &["an empty database stands at r1: it looks at another database", "sqlalchemy.url or DATABASE_URL"]);
    untouched(&file, &before);
}

#[test]
fn a_tool_that_upgrades_another_database_than_it_looks_at_ends_stuck_naming_the_backup() {
    let file = orders(3);
    let before = file.dump_text();
    let project = one_table();
    always_uses(&project, &file, "'upgrade' in sys.argv");
    let shop = Shop::alembic(&file.url(), project);
    let run = shop.apply(&[], "stuck");
    let shown = &shop.agent.json(&["history", "shop"])[0];
    let backup = shown["report"]["backup_id"].as_str().or(shown["backup_id"].as_str()).unwrap_or_default().to_owned();
    assert!(backup.starts_with("shop/"), "{shown:#}");
    says(&run, &["shop moved while the copy was rehearsed on: it stands at r1 instead of base", &backup]);
    // What was, comes back from that backup.
    let restored = shop.file("restored.db");
    let agent = tests::agent::program("backup-agent");
    let mut restore = std::process::Command::new(agent);
    restore.current_dir(shop.agent.home()).arg("--store").arg(format!("file:{}", shop.agent.store_dir().display()));
    let done =
        restore.args(["restore", &backup, "--into"]).arg(format!("sqlite:{}", restored.display())).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(tests::sqlite::sqlite_dump_text(&restored), before);
}

/// Lets the project's `env.py` use `file` whatever it is told, where this Python condition holds.
fn always_uses(project: &AlembicProject, file: &TestFile, condition: &str) {
    let text = std::fs::read_to_string(project.env_py()).unwrap();
    let told = "config = context.config\n";
    assert!(text.contains(told), "alembic init writes another env.py: {text}");
    let url = format!("sqlite:///{}", file.path().display());
    let fixed = format!("{told}import sys\nif {condition}:\n    config.set_main_option('sqlalchemy.url', '{url}')\n");
    std::fs::write(project.env_py(), text.replace(told, &fixed)).unwrap();
}

#[test]
fn what_alembic_leaves_half_done_is_left_on_a_copy() {
    let file = orders(3);
    let project = project();
    project.add_sql("r1", &[], "CREATE TABLE a (x integer)", "DROP TABLE a");
    project.add_sql(
        "r2",
        &["r1"],
        "ALTER TABLE orders ADD COLUMN c integer\nINSERT INTO nowhere VALUES (1)",
        "SELECT 1",
    );
    let shop = Shop::alembic(&file.url(), project);
    let before = file.dump_text();
    // The second time the same: on the database itself the column would be there already.
    for _ in 0..2 {
        says(&shop.apply(&[], "refused"), &["no such table: nowhere"]);
        untouched(&file, &before);
    }
    let project = shop.alembic.as_ref().unwrap();
    project.add_sql("r2", &["r1"], "ALTER TABLE orders ADD COLUMN c integer\nINSERT INTO a VALUES (1)", "SELECT 1");
    shop.apply(&[], "succeeded");
    assert_eq!(file.sqlite3("SELECT count(*) FROM a"), "1\n");
    until("the database is not in use", || file.try_sqlite3("BEGIN EXCLUSIVE; COMMIT").is_ok());
}
