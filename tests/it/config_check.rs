//! `backup-agent config check`: what it tells, what it warns of, what it refuses; and that it changes nothing.

use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tests::agent::{Agent, Run};
use tests::postgres::TestDatabase;
use tests::sqlite::TestFile;

const CONFIG: &str = "holdfast.toml";

/// An agent without `--store` whose configuration is this text, readable by its owner alone.
fn configured(text: &str) -> Agent {
    let agent = Agent::new().with_store(None);
    write(&agent, CONFIG, text, 0o600);
    agent
}

fn write(agent: &Agent, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = agent.home().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn check(agent: &Agent) -> Value {
    agent.json(&["config", "check"])
}

#[track_caller]
fn refused(agent: &Agent, expected: &str) -> Run {
    let before = everything_in(agent.home());
    let run = agent.run(&["config", "check", "--json"]).expect_code(3);
    assert!(run.stderr.starts_with("refused: ") && run.stderr.contains(expected), "{expected:?}: {}", run.stderr);
    assert_eq!(run.stdout, "");
    assert_eq!(everything_in(agent.home()), before, "a refusal touches nothing");
    run
}

/// Every file below a folder with its content.
fn everything_in(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path.clone(), std::fs::read(&path).ok());
        }
    }
    found
}

fn warnings(report: &Value) -> Vec<&str> {
    report["warnings"].as_array().unwrap().iter().map(|warning| warning.as_str().unwrap()).collect()
}

fn small() -> TestFile {
    let file = TestFile::named("small.db");
    file.sqlite3("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)");
    file
}

#[test]
fn paths_are_absolute_and_counted_from_the_file_and_without_one_from_the_working_directory() {
    let agent = Agent::new().with_store(None);
    let folder = agent.home().join("etc");
    std::fs::create_dir(&folder).unwrap();
    write(
        &agent,
        "etc/h.toml",
        "[store]\nurl = \"file:backups\"\n[state]\nspool = \"sp\"\n[database.a]\nurl = \"sqlite:a.db\"",
        0o600,
    );
    let named = agent.json(&["--config", "etc/h.toml", "config", "check"]);
    let path = |name: &str| folder.join(name).display().to_string();
    assert_eq!(named["config"], path("h.toml"));
    assert_eq!(named["store"], format!("file:{}", path("backups")));
    assert_eq!(named["state"], format!("sqlite:{}", path("holdfast-state.db")));
    assert_eq!(named["spool"], path("sp"));
    assert_eq!(named["databases"][0]["url"], format!("sqlite:{}", path("a.db")));

    let other = agent.json(&["--config", "etc/h.toml", "--store", "file:here", "config", "check"]);
    assert_eq!(other["store"], format!("file:{}", agent.home().join("here").display()));

    let none = check(&agent);
    let home = |name: &str| agent.home().join(name).display().to_string();
    assert_eq!(none["config"], Value::Null);
    assert_eq!(none["store"], format!("file:{}", home("./holdfast-store")).replace("/./", "/"));
    assert_eq!(none["spool"], home("holdfast-spool"));
    assert!(!Path::new(&home("holdfast-store")).exists() && !Path::new(&home("holdfast-state.db")).exists());
}

#[test]
fn the_next_runs_are_told_in_local_time_and_utc_with_their_delay() {
    let agent = configured(
        "[database.shop]\nurl = \"sqlite:shop.db\"
         schedule = { cron = \"0 2 * * *\", timezone = \"Europe/Berlin\", jitter = \"10m\" }
         drill = { cron = \"30 5 * * 0\" }",
    );
    let report = check(&agent);
    let shop = &report["databases"][0];
    assert_eq!(shop["schedule"], "0 2 * * * (Europe/Berlin, up to 10m later)");
    assert_eq!((shop["timezone"].as_str(), shop["jitter_s"].as_u64()), (Some("Europe/Berlin"), Some(600)));
    let delay_s = shop["delay_s"].as_u64().unwrap();
    let runs = shop["next_runs"].as_array().unwrap();
    assert_eq!((runs.len(), shop["next_drills"].as_array().unwrap().len()), (5, 5));
    let now = jiff::Timestamp::now();
    let mut last = now.checked_sub(jiff::SignedDuration::from_mins(5)).unwrap();
    for run in runs {
        let (utc, local) = (run["utc"].as_str().unwrap(), run["local"].as_str().unwrap());
        let instant: jiff::Timestamp = utc.parse().unwrap();
        assert_eq!(instant, local.parse().unwrap());
        assert!(instant > last, "{runs:?}");
        last = instant;
        // 02:00, or 03:00 on the day clocks go forward.
        let shown: jiff::civil::DateTime = local.get(..19).unwrap().parse().unwrap();
        let late_s = i64::from(shown.hour()) * 3600 + i64::from(shown.minute()) * 60 + i64::from(shown.second());
        assert!([7200, 10_800].contains(&(late_s - delay_s as i64)), "{local} with a delay of {delay_s} s");
    }
    assert!(last.duration_since(now) < jiff::SignedDuration::from_hours(5 * 24 + 2));
    let text = agent.ok(&["config", "check"]).stdout;
    let first = runs[0]["utc"].as_str().unwrap().replace('T', " ").replace('Z', " UTC");
    for expected in
        ["0 2 * * * (Europe/Berlin, up to 10m later); begins", &first, "30 5 * * 0 (UTC)", "30 4 * * 0 (UTC"]
    {
        assert!(text.contains(expected), "{expected:?}: {text}");
    }
}

#[test]
fn what_retention_would_keep_is_told_of_what_is_in_the_store_and_nothing_is_written() {
    let file = small();
    let text = format!(
        "[database.lite]\nurl = \"{}\"\nschedule = {{ cron = \"@daily\" }}\nretention = {{ last = 1 }}",
        file.url()
    );
    let agent = configured(&text);
    let empty = check(&agent);
    assert!(empty["store_error"].as_str().unwrap().contains("holdfast-store"), "{empty}");
    assert!(agent.ok(&["config", "check"]).stdout.contains("the store was not read"));

    agent.ok(&["init"]);
    assert!(agent.ok(&["config", "check"]).stdout.contains("no backups yet"));
    let backup = || agent.ok(&["backup", "lite"]).stdout.trim().to_owned();
    let first = backup();
    agent.ok(&["drill", "lite"]);
    let ids = [first, backup(), backup()];
    let before = everything_in(agent.home());
    let report = check(&agent);
    assert_eq!(everything_in(agent.home()), before);
    assert_eq!((&report["store_error"], warnings(&report).len()), (&Value::Null, 0), "{report}");
    let lite = &report["databases"][0];
    assert_eq!(lite["retention"], "last 1, min 1");
    let backups = lite["backups"].as_array().unwrap();
    let verdicts: Vec<_> = backups.iter().map(|b| (b["id"].as_str().unwrap(), b["keep"].as_bool().unwrap())).collect();
    assert_eq!(verdicts, [(ids[0].as_str(), true), (ids[1].as_str(), false), (ids[2].as_str(), true)]);
    assert_eq!(backups[0]["reasons"][0], "the newest proven backup");
    let printed = agent.ok(&["config", "check"]).stdout;
    assert!(printed.contains(&format!("let go     {}  no rule keeps it", ids[1])), "{printed}");
}

#[test]
fn two_entries_with_one_identity_are_a_warning() {
    let file = small();
    let folder = file.path().parent().unwrap().join("link.db");
    std::os::unix::fs::symlink(file.path(), &folder).unwrap();
    let agent = configured(&format!(
        "[database.blue]\nurl = \"{}\"\n[database.green]\nurl = \"sqlite:{}\"",
        file.url(),
        folder.display()
    ));
    let run = agent.ok(&["config", "check", "--json"]);
    assert!(run.stderr.contains("warning: blue and green are one database"), "{}", run.stderr);
    let report = run.json();
    assert_eq!(report["databases"][0]["identity"], report["databases"][1]["identity"]);
}

#[test]
fn a_database_that_does_not_answer_is_a_warning_and_its_password_is_not_told() {
    // Nobody listens on port 1; the other one accepts and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let agent = configured(&format!(
        "[database.away]\nurl = \"postgres://u:s3cret@127.0.0.1:1/x\"
         [database.mute]\nurl = \"postgres://u:s3cret@127.0.0.1:{port}/x\"
         [database.none]\nurl = \"sqlite:none.db\"\nretention = {{ last = 3 }}
         [agent]\nlisten = \"0.0.0.0:9187\""
    ));
    let run = agent.ok(&["config", "check", "--json"]);
    run.never_says("s3cret");
    let report = run.json();
    let said = warnings(&report).join("\n");
    for expected in [
        "away does not answer: cannot connect to postgres://u@127.0.0.1:1/x",
        "mute does not answer: no answer within 5 seconds",
        "none does not answer: ",
        "none has retention, but no schedule",
        "the agent answers everybody who reaches 0.0.0.0:9187",
    ] {
        assert!(said.contains(expected), "{expected:?}: {said}");
    }
    assert!(!agent.home().join("none.db").exists());
    assert_eq!(report["databases"][2]["identity"], Value::Null);
}

#[test]
fn a_secret_everybody_can_read_is_refused_and_one_the_group_can_read_is_a_warning() {
    let with_password = "[database.a]\nurl = \"postgres://u:s3cret@127.0.0.1:1/x\"";
    let agent = configured(with_password);
    write(&agent, CONFIG, with_password, 0o644);
    let run = refused(&agent, "holdfast.toml holds a secret and can be read by everybody (mode 644)");
    assert!(run.stderr.contains("hint: make it private: chmod 600 "), "{}", run.stderr);
    run.never_says("s3cret");
    write(&agent, CONFIG, with_password, 0o640);
    assert!(warnings(&check(&agent))[0].contains("can be read by its group (mode 640)"));

    let password = "postgres://u:s3cret@127.0.0.1:1/x\n";
    for (config, secret) in [
        ("[database.a]\nurl_file = \"secret\"", password),
        ("[state]\nurl_file = \"secret\"", password),
        ("[store]\nsecret_access_key_file = \"secret\"", "s3cret"),
        ("[prune.notify]\nwebhook_url = \"http://h/\"\nwebhook_secret_file = \"secret\"", "s3cret"),
    ] {
        let agent = configured(config);
        write(&agent, "secret", secret, 0o604);
        refused(&agent, "secret holds a secret and can be read by everybody (mode 604)").never_says("s3cret");
        write(&agent, "secret", secret, 0o600);
        assert!(!warnings(&check(&agent)).iter().any(|warning| warning.contains("can be read by")), "{config}");
    }
    for (text, mode) in [("ping_url = \"https://h/s3cret\"", 0o602), ("webhook_url = \"https://h/s3cret\"", 0o666)] {
        let agent = configured("");
        write(&agent, CONFIG, &format!("[prune.notify]\n{text}"), mode);
        refused(&agent, "can be read by everybody").never_says("s3cret");
    }

    // What is no secret may be read.
    let agent = configured("");
    write(
        &agent,
        CONFIG,
        "[database.a]\nurl_file = \"address\"\n[database.b]\nurl = \"postgres://u@127.0.0.1:1/x\"",
        0o644,
    );
    write(&agent, "address", "sqlite:a.db\n", 0o644);
    assert!(!warnings(&check(&agent)).iter().any(|warning| warning.contains("can be read by")));
}

#[test]
fn a_configuration_that_cannot_be_followed_is_refused_by_section() {
    for (text, expected) in [
        ("[databse.a]\nurl = \"sqlite:a\"", "did you mean `database`?"),
        ("[database.a]\nurl = \"sqlite:a\"\nshedule = {}", "did you mean `schedule`?"),
        ("[database.a]\nurl = \"sqlite:a\"\n[database.a]\nurl = \"sqlite:b\"", "line 3"),
        ("[database.a]\nurl = \"sqlite:a\"\nschedule = { cron = \"* * * * * *\" }", "[database.a] schedule: cron"),
        ("[database.a]\nurl = \"sqlite:a\"\nschedule = { cron = \"60 25 * * *\" }", "the minute of cron, \"60\""),
        ("[database.a]\nurl = \"sqlite:a\"\nschedule = { cron = \"0 0 31 2 *\" }", "never fires"),
        ("[database.a]\nurl = \"sqlite:a\"\nschedule = { cron = \"@reboot\" }", "\"@reboot\" is not known"),
        ("[database.a]\nurl = \"sqlite:a\"\nschedule = { cron = \"@daily\", timezone = \"Mars/X\" }", "\"Mars/X\""),
        ("[database.a]\nurl = \"sqlite:a\"\nschedule = { cron = 5 }", "line 3"),
        ("[database.a]\nurl = \"sqlite:a\"\nretention = { last = 0 }", "[database.a]: retention keeps nothing"),
        ("[database.a]\nurl = \"sqlite:a\"\nretention = { last = -1 }", "line 3"),
        ("[database.a]\nurl = \"sqlite:a\"\nretention = { last = 1000000000000 }", "line 3"),
        ("[database.a]\nurl = \"sqlite:a\"\nretention = { last = 1000000 }", "last = 1000000 is more than 100000"),
        ("[database.a]\nurl = \"mysql://h/d\"", "url of [database.a]"),
        ("[database.a]\nurl = \"postgres://u:s3cret@h/d?options=-cx\"", "url of [database.a]: the PostgreSQL URL has"),
        ("[database.a]\nurl = \"postgres://u:s3cret@a,b/d\"", "names several hosts"),
        ("[database.a]\nurl = \"postgres://u:s3cret@h/d?service=s\"", "\"service\""),
        ("[database.a]\nurl = \"sqlite:a\"\nscratch_url = \"s3cret\"", "scratch_url of [database.a]"),
        ("[database.a]\nurl_env = \"NOT_SET\"", "NOT_SET is not set or empty"),
        ("[database.a]\nurl_env = \"BLANK\"", "BLANK is not set or empty"),
        ("[database.a]\nurl_file = \"not-there\"", "not-there"),
        ("[database.a]\nurl = \"sqlite:a\"\nnotify = { ping_url = \"s3cret\" }", "[database.a.notify]: ping_url"),
        ("[store]\nurl = \"ftp://x\"", "begins neither with file: nor with s3://"),
        ("[store]\nurl = \"s3://key:s3cret@bucket\"", "must be s3://BUCKET"),
        ("[state]\nurl = \"holdfast.db\"", "url of [state]"),
        ("[prune]\ngrace = \"1h\"", "[prune] grace is 1h; it must be at least 1d"),
        ("[agent]\nparallel = 0", "[agent] parallel is 0"),
        ("[agent]\nparallel = 65536", "line 2"),
    ] {
        let agent = configured(text).with_env("BLANK", " \n");
        refused(&agent, expected).never_says("s3cret");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_refused_by_its_absolute_path() {
    let agent = Agent::new().with_store(None);
    std::fs::create_dir(agent.home().join("folder")).unwrap();
    std::os::unix::fs::symlink("loop", agent.home().join("loop")).unwrap();
    std::fs::write(agent.home().join("binary"), b"\xff\xfe\x00").unwrap();
    for name in ["folder", "loop", "binary", "not-there"] {
        let run = agent.run(&["--config", name, "config", "check"]).expect_code(3);
        assert!(run.stderr.contains(&agent.home().join(name).display().to_string()), "{}", run.stderr);
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn migrations_are_shown_without_passwords_and_without_what_variables_hold() {
    let agent = configured(
        r#"
[state]
lease = "90s"
[database.a]
url = "postgres://app:s3cret@127.0.0.1:1/shop"
admin_url = "postgres://admin:s3cret@127.0.0.1:1/shop"
scratch_url = "postgres://app:s3cret@127.0.0.2:1/shop"
[database.a.migrations]
runner = "alembic"
directory = "project"
env = { TOKEN = "s3cret" }
required_env = ["SECRET_KEY"]
"#,
    );
    let run = agent.ok(&["config", "check", "--json"]);
    run.never_says("s3cret");
    let report = run.json();
    assert_eq!(report["lease_s"], 90);
    let migrations = &report["databases"][0]["migrations"];
    assert_eq!(migrations["directory"], agent.home().join("project").display().to_string());
    assert_eq!(migrations["admin_url"], "postgres://admin@127.0.0.1:1/shop");
    assert_eq!(migrations["env"], serde_json::json!(["TOKEN"]));
    assert!(warnings(&report).iter().any(|warning| warning.contains("the migrations of a are not there")), "{report}");
    let run = agent.ok(&["config", "check"]);
    run.never_says("s3cret");
    for expected in
        ["lease          1m 30s", "alembic in ", "needs SECRET_KEY", "fenced as postgres://admin@127.0.0.1:1/shop"]
    {
        assert!(run.stdout.contains(expected), "{expected:?}: {}", run.stdout);
    }
    assert!(run.stdout.contains("rehearsed at postgres://app@127.0.0.2:1/shop"), "{}", run.stdout);
}

#[test]
fn an_address_from_the_environment_may_end_with_a_newline_and_a_password_may_hold_anything() {
    let database = TestDatabase::new();
    let url = database.url();
    let agent = configured(
        "[database.a]\nurl_env = \"A\"\n[database.b]\nurl = \"postgres://u:p%40s3%3A%2Fret%3F%23%0A@[::1]:1/d%2Fx\"",
    )
    .with_env("A", format!("{url}\n"));
    let run = agent.ok(&["config", "check", "--json"]);
    run.never_says("p@s3").never_says("p%40s3");
    let report = run.json();
    assert!(report["databases"][0]["identity"].as_str().unwrap().contains("PostgreSQL cluster"), "{report}");
    assert_eq!(report["databases"][1]["url"], "postgres://u@[::1]:1/d/x");
}

#[test]
fn config_without_check_is_wrong_usage() {
    Agent::new().run(&["config"]).expect_code(2);
    Agent::new().run(&["config", "chekc"]).expect_code(2);
}
