//! A secret in every field of the configuration that takes one, all commands at the most talkative level, good ways and
//! failing ones: found in no output, no argument, no row of the record, no message, no byte of the store.

use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tests::agent::{Agent, Run};
use tests::amqp::{self, Message};
use tests::postgres::{self, TestDatabase};
use tests::rabbitmq::PrivateRabbit;
use tests::s3::{ACCESS_KEY_ID, S3Server, SECRET_ACCESS_KEY};
use tests::sqlite::{sqlite_dump_text, sqlite3};
use tests::store_files::StoreFiles;

const TOOL: &str = "canary-of-the-tool";
const BROKER: &str = "canary-of-the-broker";
const KEY: &str = "canary-of-the-message-key";
const HOOK: &str = "canary-in-the-hook";
const HOOK_SECRET: &str = "whsec_Y2FuYXJ5LW9mLXRoZS1ob29rLTEyMzQ1Njc4";
const PING: &str = "canary-in-the-ping";
const WRONG: &str = "canary-of-the-wrong-password";

/// Every secret, and what it looks like inside an address.
fn secrets() -> Vec<String> {
    let plain = [TOOL, BROKER, KEY, HOOK, HOOK_SECRET, PING, WRONG, SECRET_ACCESS_KEY, postgres::SCRAM_PASSWORD];
    plain
        .iter()
        .flat_map(|secret| [(*secret).to_owned(), secret.replace(' ', "%20")])
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// The secrets that `text` holds.
fn found(text: &str) -> Vec<String> {
    secrets().into_iter().filter(|secret| text.contains(secret)).collect()
}

/// Collects the arguments of every process there is, until stopped. The tests' own clients are told secrets as arguments.
struct Watch {
    stop: Arc<AtomicBool>,
    watching: std::thread::JoinHandle<BTreeSet<String>>,
}

impl Watch {
    fn begin(home: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, home) = (stop.clone(), home.to_owned());
        let watching = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !told.load(Ordering::SeqCst) {
                for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                    // Ours work in the home of this test, and so does whatever they start.
                    let is_ours = std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&home));
                    if is_ours && let Ok(bytes) = std::fs::read(entry.path().join("cmdline")) {
                        seen.insert(String::from_utf8_lossy(&bytes).replace('\0', " "));
                    }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            seen
        });
        Watch { stop, watching }
    }

    fn end(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.watching.join().unwrap()
    }
}

fn everything(run: &Run) -> String {
    format!("{}\n{}", run.stdout, run.stderr)
}

#[test]
fn no_configured_secret_is_found_anywhere() {
    let (broker, store) = (PrivateRabbit::start(), S3Server::start());
    store.make_bucket("backups");
    broker.ctl(&["add_user", "holdfast", BROKER]);
    broker.ctl(&["set_permissions", "holdfast", ".*", ".*", ".*"]);
    let broker_url = broker.url().replace("guest:guest", &format!("holdfast:{BROKER}"));
    let shop = TestDatabase::new();
    shop.psql("CREATE TABLE item (id int PRIMARY KEY); INSERT INTO item VALUES (1), (2)");
    shop.psql(&format!("ALTER DATABASE \"{}\" OWNER TO scram_user; ALTER TABLE item OWNER TO scram_user", shop.name()));
    let settings = store.settings("backups", "canaries");
    let config = format!(
        r#"[store]
url = "s3://backups/canaries"
endpoint = "{endpoint}"
region = "us-east-1"
path_style = true
access_key_id = "{ACCESS_KEY_ID}"
secret_access_key = "{SECRET_ACCESS_KEY}"

[state]
lease = "3s"

[queue]
url = "{broker_url}"
[queue.key.deployer]
principal = "deployer"
secret = "{KEY}"

[database.shop]
url = "{shop}"
notify = {{ webhook_url = "http://127.0.0.1:1/{HOOK}", webhook_secret = "{HOOK_SECRET}", ping_url = "http://user:{PING}@127.0.0.1:1/{PING}", on = ["start", "success", "failure"] }}
migrations = {{ runner = "sql", directory = "m", required_env = ["SECRET_KEY"] }}

[database.lost]
url = "{lost}"
migrations = {{ runner = "sql", directory = "m" }}

[database.local]
url = "sqlite:local.db"
notify = {{ webhook_url = "http://127.0.0.1:1/{HOOK}", webhook_secret = "{HOOK_SECRET}" }}
migrations = {{ runner = "sql", directory = "m", required_env = ["SECRET_KEY"] }}
"#,
        endpoint = settings.endpoint.as_deref().unwrap(),
        shop = shop.scram_url(Some(postgres::SCRAM_PASSWORD)),
        lost = shop.scram_url(Some(WRONG)),
    );
    let worker = Agent::worker().with_store(None).with_config(&config);
    let worker =
        worker.with_env("SECRET_KEY", TOOL).with_env("HOLDFAST_LOG", "trace").with_env("RUST_BACKTRACE", "full");
    std::fs::create_dir(worker.home().join("m")).unwrap();
    std::fs::write(worker.home().join("m/1_note.sql"), "CREATE TABLE note (id INTEGER PRIMARY KEY);").unwrap();
    std::fs::write(worker.home().join("m/2_bad.sql"), "INSERT INTO nowhere VALUES (1);").unwrap();
    sqlite3(&worker.home().join("local.db"), "CREATE TABLE item (id INTEGER PRIMARY KEY);").unwrap();
    let agent = Agent::new().with_store(None).with_env("HOLDFAST_LOG", "trace").with_env("SECRET_KEY", TOOL);
    std::fs::copy(worker.home().join("holdfast.toml"), agent.home().join("holdfast.toml")).unwrap();

    let watches = [Watch::begin(worker.home()), Watch::begin(agent.home())];
    let mut said: Vec<(String, String)> = Vec::new();
    let mut listener = amqp::command(&broker.url());
    let running = worker.start(&["run"]);
    let begun = Instant::now();
    while amqp::depth(&broker.url(), "holdfast.jobs.default").is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", running.stderr_so_far());
        std::thread::sleep(Duration::from_millis(100));
    }
    let listener = listener.args(["listen", "#", "8"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    // Unsigned, wrongly signed, and no message at all: dead letters.
    let wish = json!({"id": "01970000-0000-7000-8000-000000000001", "kind": "backup", "target": "shop"});
    let forged = Message::json("backup", &wish)
        .with("headers", json!({"x-holdfast-key": "deployer", "x-holdfast-signature": "v1=00"}));
    amqp::publish(&broker.url(), &[Message::json("backup", &wish), forged, Message::raw("backup", "{")]);
    for (arguments, codes) in [
        (&["submit", "shop", "--to", "1", "--wait"][..], &[0, 3][..]),
        (&["submit", "lost", "--wait"], &[1, 3]),
        (&["apply", "local", "--to", "1"], &[0]),
        (&["apply", "local"], &[3, 4]),
        (&["apply", "shop"], &[3, 4]),
        (&["rehearse", "shop"], &[3]),
        (&["apply", "lost"], &[1, 3]),
        (&["submit", "shop", "--via", "amqp", "--key", "deployer"], &[0]),
        (&["submit", "shop", "--via", "amqp", "--key", "nobody"], &[1, 2, 3]),
        (&["current", "shop"], &[0]),
        (&["current", "lost"], &[1, 3]),
        (&["pending", "shop"], &[0]),
        (&["heads", "shop"], &[0]),
        (&["status"], &[0, 1, 5, 8]),
        (&["history", "--all"], &[0]),
        (&["history", "--all", "--json"], &[0]),
        (&["dead-letters", "list"], &[0]),
        (&["schema"], &[0]),
    ] {
        let run = worker.run(arguments);
        assert!(codes.contains(&run.code.unwrap_or(-1)), "{arguments:?} ended with {:?}: {}", run.code, run.stderr);
        said.push((format!("migrate-worker {arguments:?}"), everything(&run)));
    }
    for job in worker.json(&["history", "--all", "--limit", "0"]).as_array().unwrap() {
        let id = job["job_id"].as_str().unwrap();
        for command in ["show", "output"] {
            said.push((format!("{command} {id}"), everything(&worker.run(&[command, id]))));
        }
    }
    for arguments in [
        &["backup", "shop"][..],
        &["backup", "lost"],
        &["drill", "shop"],
        &["verify"],
        &["list"],
        &["status"],
        &["config", "check"],
        &["history"],
        &["prune"],
        &["forget", "shop"],
    ] {
        said.push((format!("backup-agent {arguments:?}"), everything(&agent.run(arguments))));
    }
    let told = listener.wait_with_output().unwrap();
    said.push(("events".into(), String::from_utf8_lossy(&told.stdout).into_owned()));
    // The broker goes: what is said of that must not say where it was with its password.
    drop(broker);
    said.push(("without a broker".into(), everything(&worker.run(&["dead-letters", "list"]).expect_code(1))));
    std::thread::sleep(Duration::from_secs(2));
    running.signal("TERM");
    said.push(("run".into(), everything(&running.wait())));
    for (watch, name) in watches.into_iter().zip(["worker", "agent"]) {
        let arguments = watch.end();
        assert!(!arguments.is_empty(), "no process of the {name} was seen");
        said.extend(arguments.into_iter().map(|line| ("arguments".to_owned(), line)));
    }
    for (name, home) in [("the worker's record", worker.home()), ("the agent's record", agent.home())] {
        let dump = sqlite_dump_text(&home.join("holdfast-state.db"));
        assert!(dump.contains("task_log"), "{name}");
        said.push((name.to_owned(), dump));
    }
    let mut stored = String::new();
    let objects = StoreFiles::at(&store.object_path("backups", "canaries"));
    for key in objects.all() {
        let bytes = objects.read(&key);
        let mut plain = Vec::new();
        let unpacked = std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&bytes[..]), &mut plain);
        stored.push_str(&String::from_utf8_lossy(if unpacked.is_ok() { &plain } else { &bytes }));
    }
    assert!(stored.len() > 1000, "the store is empty");
    said.push(("the store".into(), stored));

    let whole: usize = said.iter().map(|(_, text)| text.len()).sum();
    assert!(whole > 100_000, "only {whole} bytes were looked at: is trace on?");
    let leaks: Vec<String> = said
        .iter()
        .flat_map(|(name, text)| {
            found(text).into_iter().map(move |secret| {
                let at = text.find(&secret).unwrap_or(0);
                let around: String = text.chars().skip(at.saturating_sub(150)).take(250).collect();
                format!("{secret} in {name}: …{around}…")
            })
        })
        .collect();
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n\n"));
}

#[test]
fn the_search_for_secrets_finds_them() {
    assert_eq!(found(&format!("x {TOOL} y")), [TOOL]);
    let encoded = postgres::SCRAM_PASSWORD.replace(' ', "%20");
    assert_eq!(found(&format!("postgres://u:{encoded}@h")), [encoded]);
    assert!(found("nothing at all").is_empty());
}
