//! A backup takes the place of the configured database: the real program, judged by psql, pg_dump and sqlite3.

use serde_json::Value;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tests::agent::{Agent, Run};
use tests::postgres::{TestDatabase, client, on_server, quoted, url_of};
use tests::postgres_dump::{dump_differences, pg_dump_text};
use tests::sqlite::{sqlite_differences, sqlite_dump_text, sqlite3};

/// An agent whose configuration knows `shop`, an SQLite file in its home with a backup, and changed since.
fn sqlite_shop(journal: &str) -> (Agent, String) {
    let agent = Agent::new().with_config("[database.shop]\nurl = \"sqlite:shop.db\"\n");
    let file = agent.home().join("shop.db");
    let sql = format!(
        "PRAGMA journal_mode = {journal}; CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
         WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 500)
         INSERT INTO item SELECT i, 'item ' || i FROM c;"
    );
    sqlite3(&file, &sql).unwrap();
    agent.ok(&["backup", "shop"]);
    let dump = sqlite_dump_text(&file);
    sqlite3(&file, "UPDATE item SET name = name || ' broken'; CREATE TABLE stray (x);").unwrap();
    (agent, dump)
}

fn postgres_shop() -> (Agent, TestDatabase, String) {
    let shop = TestDatabase::new();
    shop.psql("CREATE TABLE item (id serial PRIMARY KEY, name text); INSERT INTO item (name) SELECT 'item ' || i FROM generate_series(1, 500) i");
    shop.psql(&format!("ALTER DATABASE {} SET statement_timeout = '77s'", quoted(shop.name())));
    let config = format!(
        "[state]\nlease = \"1s\"\n\n[database.shop]\nurl = \"{}\"\nmigrations = {{ runner = \"sql\", directory = \".\" }}\n",
        shop.url()
    );
    let agent = Agent::new().with_config(&config);
    agent.ok(&["backup", "shop"]);
    let dump = pg_dump_text(&shop.url());
    shop.psql("UPDATE item SET name = name || ' broken'; CREATE TABLE stray (x int)");
    (agent, shop, dump)
}

fn in_place(agent: &Agent) -> Run {
    agent.run(&["restore", "shop", "--at", "latest", "--in-place", "--yes", "--json"])
}

#[track_caller]
fn shows(dump: &str, agent: &Agent) {
    let differences = sqlite_differences(dump, &sqlite_dump_text(&agent.home().join("shop.db")));
    assert_eq!(differences, Vec::<String>::new());
}

/// The newest task of the record.
fn newest(agent: &Agent) -> Value {
    agent.json(&["history", "--limit", "1"])[0].clone()
}

/// Databases that Holdfast made beside `shop`.
fn beside(shop: &TestDatabase) -> Vec<String> {
    let query = format!("SELECT datname FROM pg_database WHERE datname LIKE '{}\\_\\_%' ORDER BY 1", shop.name());
    on_server(&query).lines().map(str::to_owned).collect()
}

#[test]
fn a_sqlite_database_is_replaced_and_what_it_was_is_kept() {
    for journal in ["WAL", "DELETE"] {
        let (agent, dump) = sqlite_shop(journal);
        let file = agent.home().join("shop.db");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let broken = sqlite_dump_text(&file);
        let inode = std::fs::metadata(&file).unwrap().ino();
        let replaced = in_place(&agent).expect_code(0).json();
        shows(&dump, &agent);
        assert_eq!(std::fs::metadata(&file).unwrap().ino(), inode, "programs that have it open go on with it");
        assert_eq!(sqlite3(&file, "PRAGMA journal_mode").unwrap().trim(), journal.to_lowercase());
        let kept = PathBuf::from(replaced["kept"].as_str().unwrap());
        assert_eq!(sqlite_differences(&broken, &sqlite_dump_text(&kept)), Vec::<String>::new());
        assert_eq!(std::fs::metadata(&kept).unwrap().mode() & 0o777, 0o640);
        assert_eq!(replaced["rows"], 500);
        assert!(replaced["blocked_ms"].is_u64());
        let task = newest(&agent);
        assert_eq!((task["kind"].as_str(), task["state"].as_str()), (Some("restore"), Some("succeeded")), "{task:#}");
        // Again: the backup replaces itself, and what was there is kept once more.
        let again = in_place(&agent).expect_code(0).json();
        assert_ne!(again["kept"], replaced["kept"]);
        shows(&dump, &agent);
        assert!(is_empty(&agent, "journal") && is_empty(&agent, "jobs"));
    }
}

/// Whether nothing is left in a folder of the spool.
fn is_empty(agent: &Agent, folder: &str) -> bool {
    let folder = agent.home().join("holdfast-spool").join(folder);
    !folder.read_dir().is_ok_and(|mut entries| entries.next().is_some())
}

#[test]
fn a_postgresql_database_is_replaced_under_the_eyes_of_its_sessions() {
    let (agent, shop, dump) = postgres_shop();
    let broken = pg_dump_text(&shop.url());
    let mut idle = client("psql");
    let mut idle = idle.args(["-Xq", "-d", &shop.url()]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    idle.stdin.as_mut().unwrap().write_all(b"BEGIN; SELECT count(*) FROM item;\n").unwrap();
    let replaced = in_place(&agent).expect_code(0).json();
    idle.kill().unwrap();
    idle.wait().unwrap();
    assert_eq!(dump_differences(&dump, &pg_dump_text(&shop.url())), Vec::<String>::new());
    assert_eq!(shop.query_value("SHOW statement_timeout"), "77s");
    let kept = replaced["kept"].as_str().unwrap();
    assert!(kept.starts_with(&format!("{}__replaced_", shop.name())), "{kept}");
    assert_eq!(beside(&shop), [kept]);
    let comment = format!("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{kept}'");
    assert!(on_server(&comment).contains("as it was when a restored backup took its place"));
    on_server(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", quoted(kept)));
    assert_eq!(dump_differences(&broken, &pg_dump_text(&url_of(kept))), Vec::<String>::new());
    on_server(&format!("DROP DATABASE {}", quoted(kept)));
    assert_eq!(newest(&agent)["state"], "succeeded");
}

#[test]
fn nothing_is_replaced_unless_its_name_is_typed() {
    let (agent, _) = sqlite_shop("WAL");
    let before = sqlite_dump_text(&agent.home().join("shop.db"));
    let run = agent.run(&["restore", "shop", "--at", "latest", "--in-place"]).expect_code(2);
    assert!(run.stderr.contains("type its name on a terminal, or give --yes"), "{}", run.stderr);
    // A terminal of its own for the program; what is typed comes by the pipe.
    let typed = |text: &str| {
        let command = agent.command(&["restore", "shop", "--at", "latest", "--in-place"]);
        let words: Vec<String> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        let mut script = Command::new("script");
        script.args(["-qec", &words.join(" "), "/dev/null"]).current_dir(agent.home());
        script.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let wrong = typed("sho\n");
    assert_eq!(wrong.status.code(), Some(3), "{}", String::from_utf8_lossy(&wrong.stdout));
    assert!(String::from_utf8_lossy(&wrong.stdout).contains("another name was typed"));
    assert_eq!(sqlite_dump_text(&agent.home().join("shop.db")), before);
    let right = typed("shop\n");
    assert_eq!(right.status.code(), Some(0), "{}", String::from_utf8_lossy(&right.stdout));
    assert_ne!(sqlite_dump_text(&agent.home().join("shop.db")), before);
}

#[test]
fn another_database_is_replaced_only_where_that_is_said() {
    let (agent, dump) = sqlite_shop("WAL");
    let agent = agent
        .with_config("[database.shop]\nurl = \"sqlite:other.db\"\n\n[database.staging]\nurl = \"sqlite:shop.db\"\n");
    sqlite3(&agent.home().join("other.db"), "CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);").unwrap();
    let theirs = sqlite_dump_text(&agent.home().join("other.db"));
    let run = in_place(&agent).expect_code(3);
    assert!(run.stderr.contains("another database; nothing was touched"), "{}", run.stderr);
    assert!(run.stderr.contains("--as shop says that this database is meant"), "{}", run.stderr);
    assert_eq!(sqlite_dump_text(&agent.home().join("other.db")), theirs);
    assert_eq!(newest(&agent)["state"], "refused");
    assert!(is_empty(&agent, "journal") && is_empty(&agent, "jobs"));
    agent.ok(&["restore", "shop", "--at", "latest", "--in-place", "--as", "staging", "--yes"]);
    shows(&dump, &agent);
    agent.ok(&["restore", "shop", "--at", "latest", "--in-place", "--as", "shop", "--yes"]);
    assert_eq!(sqlite_dump_text(&agent.home().join("other.db")), dump);
    let run = agent.run(&["restore", "shop", "--at", "latest", "--in-place", "--as", "nobody", "--yes"]).expect_code(3);
    assert!(run.stderr.contains("nobody is no configured database"), "{}", run.stderr);
}

#[test]
fn a_database_that_is_gone_comes_back() {
    let (agent, dump) = sqlite_shop("WAL");
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(agent.home().join(format!("shop.db{end}")));
    }
    let replaced = in_place(&agent).expect_code(0).json();
    assert_eq!(replaced["kept"], Value::Null);
    shows(&dump, &agent);

    let (agent, shop, dump) = postgres_shop();
    on_server(&format!("DROP DATABASE {}", quoted(shop.name())));
    let replaced = in_place(&agent).expect_code(0).json();
    assert_eq!(replaced["kept"], Value::Null);
    assert_eq!(dump_differences(&dump, &pg_dump_text(&shop.url())), Vec::<String>::new());
    assert_eq!(beside(&shop), Vec::<String>::new());
}

#[test]
fn an_exchange_that_was_announced_is_brought_to_its_end_without_the_store() {
    let (agent, shop, dump) = postgres_shop();
    agent.killed_at("restore in place: fenced", &["restore", "shop", "--at", "latest", "--in-place", "--yes"]);
    std::fs::rename(agent.store_dir(), agent.home().join("away")).unwrap();
    agent.run_program("migrate-worker", &["run", "--until-idle"]).expect_code(0);
    assert_eq!(dump_differences(&dump, &pg_dump_text(&shop.url())), Vec::<String>::new());
    let task = newest(&agent);
    assert_eq!((task["state"].as_str(), task["rows"].as_u64()), (Some("succeeded"), Some(500)), "{task:#}");
    for kept in beside(&shop) {
        assert!(kept.contains("__replaced_"), "{kept}");
        on_server(&format!("DROP DATABASE {}", quoted(&kept)));
    }
}

#[test]
fn what_stands_in_the_way_is_named_and_nothing_is_replaced() {
    // Pages of another size cannot be exchanged in WAL mode.
    let (agent, _) = sqlite_shop("WAL");
    let file = agent.home().join("shop.db");
    sqlite3(&file, "PRAGMA journal_mode = DELETE; PRAGMA page_size = 8192; VACUUM; PRAGMA journal_mode = WAL;")
        .unwrap();
    let before = sqlite_dump_text(&file);
    let run = in_place(&agent).expect_code(3);
    assert!(run.stderr.contains("pages of 8192 bytes and is in WAL mode"), "{}", run.stderr);
    assert_eq!(sqlite_dump_text(&file), before);
    let kept = std::fs::read_dir(agent.home()).unwrap();
    let kept = kept.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains(".replaced-"));
    assert_eq!(kept.count(), 0, "no copy of what was not replaced stays");

    // A prepared transaction keeps a database where it is.
    let (agent, shop, _) = postgres_shop();
    shop.psql("BEGIN; INSERT INTO item (name) VALUES ('late'); PREPARE TRANSACTION 'stays'");
    let before = pg_dump_text(&shop.url());
    let run = in_place(&agent);
    assert!(run.code != Some(0) && run.stderr.contains("prepared transaction"), "{}", run.stderr);
    assert_eq!(dump_differences(&before, &pg_dump_text(&shop.url())), Vec::<String>::new());
    assert_eq!(beside(&shop), Vec::<String>::new());
    assert!(is_empty(&agent, "journal") && is_empty(&agent, "jobs"));
    shop.psql("ROLLBACK PREPARED 'stays'");
}
