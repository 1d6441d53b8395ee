//! The main job over S3: two servers that share no code, driven by the program and a configuration file.

use shared::store::s3::{S3Settings, S3Store};
use shared::store::{PutMode, Store};
use std::path::PathBuf;
use std::sync::Arc;
use tests::agent::{Agent, Run};
use tests::fixtures;
use tests::postgres::{TestDatabase, dump_differences, pg_dump_text};
use tests::s3::{ACCESS_KEY_ID, MotoServer, S3Server, SECRET_ACCESS_KEY};
use tests::sqlite::{TestFile, sqlite_differences, sqlite_dump_text};

/// How the configuration tells the credentials.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Told {
    Plainly,
    ByEnvironment,
    ByFile,
}

/// A program whose only settings stand in its holdfast.toml.
fn agent(settings: &S3Settings, told: Told) -> Agent {
    let mut agent = Agent::new().with_store(None);
    let keys = match told {
        Told::Plainly => {
            format!("access_key_id = \"{ACCESS_KEY_ID}\"\nsecret_access_key = \"{SECRET_ACCESS_KEY}\"")
        }
        Told::ByEnvironment => {
            agent = agent.with_env("THE_ID", ACCESS_KEY_ID).with_env("THE_KEY", SECRET_ACCESS_KEY);
            "access_key_id_env = \"THE_ID\"\nsecret_access_key_env = \"THE_KEY\"".to_owned()
        }
        Told::ByFile => {
            std::fs::create_dir(agent.home().join("keys")).unwrap();
            std::fs::write(agent.home().join("keys/id"), format!("{ACCESS_KEY_ID}\n")).unwrap();
            std::fs::write(agent.home().join("keys/key"), format!("{SECRET_ACCESS_KEY}\n")).unwrap();
            "access_key_id_file = \"keys/id\"\nsecret_access_key_file = \"keys/key\"".to_owned()
        }
    };
    configure(&agent, settings, &keys);
    agent
}

fn configure(agent: &Agent, settings: &S3Settings, keys: &str) {
    let S3Settings { bucket, prefix, endpoint, .. } = settings;
    let endpoint = endpoint.as_deref().unwrap();
    let text = format!(
        "[store]\nurl = \"s3://{bucket}/{prefix}\"\nendpoint = \"{endpoint}\"\nregion = \"us-east-1\"\n\
         path_style = true\n{keys}\n"
    );
    std::fs::write(agent.home().join("holdfast.toml"), text).unwrap();
}

fn small() -> TestFile {
    let file = TestFile::named("small.db");
    file.sqlite3("CREATE TABLE t (id INTEGER PRIMARY KEY, t TEXT); INSERT INTO t VALUES (1, 'one'), (2, 'two');");
    file
}

/// Runs with all there is to say, asserts the code, and that the secret is not said.
#[track_caller]
fn loud(agent: &Agent, arguments: &[&str], code: i32) -> Run {
    let run = agent.run(&[&["-vv"], arguments].concat()).expect_code(code);
    run.never_says(SECRET_ACCESS_KEY);
    run
}

/// Init, backup, list, show, verify, restore, drill, export: for both engines.
#[track_caller]
fn the_main_job(agent: &Agent) {
    let sqlite = fixtures::sqlite("chinook.sqlite");
    let postgres = fixtures::postgres("chinook-postgres.sql");
    let restored = TestDatabase::reserved();
    let file = agent.home().join("restored.db");
    loud(agent, &["init"], 0);
    for (name, url, target) in
        [("lite", sqlite.url(), format!("sqlite:{}", file.display())), ("big", postgres.url(), restored.url())]
    {
        let id = loud(agent, &["backup", &url, "--name", name], 0).stdout.trim().to_owned();
        let listed = agent.json(&["list", name]);
        assert_eq!((&listed[0]["id"], &listed[0]["complete"]), (&id.as_str().into(), &true.into()), "{listed}");
        loud(agent, &["show", &id], 0);
        loud(agent, &["verify", name], 0);
        let report = loud(agent, &["restore", name, "--at", "latest", "--into", &target, "--json"], 0).json();
        assert_eq!(report["proven"], true, "{report}");
        assert!(agent.json(&["list", name])[0]["proven_at"].is_string());
        let archive = format!("{name}.tar.gz");
        loud(agent, &["export", &id, "-o", &archive], 0);
        assert!(std::fs::metadata(agent.home().join(archive)).unwrap().len() > 10_000);
        let again = agent.json(&["backup", &url, "--name", name]);
        // pg_dump writes the time into its archive, so the piece that begins it is new each time.
        let limit = if name == "big" { 8 * 1024 } else { 0 };
        assert!(again["new_bytes"].as_u64().unwrap() <= limit, "an unchanged database stored: {again}");
    }
    loud(agent, &["drill", "lite"], 0);
    // Without --name there the database has another one, of which there is no backup.
    loud(agent, &["drill", &postgres.url(), "--scratch", &TestDatabase::reserved().url()], 3);
    loud(agent, &["drill", "big", "--scratch", &TestDatabase::reserved().url()], 0);
    let found = sqlite_differences(&sqlite.dump_text(), &sqlite_dump_text(&file));
    assert_eq!(found, Vec::<String>::new());
    let found = dump_differences(&pg_dump_text(&postgres.url()), &pg_dump_text(&restored.url()));
    assert_eq!(found, Vec::<String>::new());
}

/// Everything in a bucket.
async fn objects(settings: S3Settings) -> Vec<(String, Vec<u8>)> {
    let store = S3Store::connect(settings).await.unwrap();
    let mut found = Vec::new();
    for meta in store.list("").await.unwrap() {
        found.push((meta.key.clone(), store.get(&meta.key).await.unwrap().to_vec()));
    }
    found
}

async fn nothing_stored_tells_the_secret(settings: S3Settings) {
    let objects = objects(settings).await;
    assert!(objects.len() > 10, "{}", objects.len());
    for (key, body) in &objects {
        assert!(!contains(body, SECRET_ACCESS_KEY.as_bytes()), "{key} holds the secret");
    }
    let config = objects.iter().find(|(key, _)| key == "holdfast.json").unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config.1).unwrap();
    assert_eq!(config["conditional_put"], true, "{config}");
}

fn contains(body: &[u8], wanted: &[u8]) -> bool {
    body.windows(wanted.len()).any(|part| part == wanted)
}

#[test]
fn the_main_job_over_s3s() {
    let server = S3Server::start();
    server.make_bucket("backups");
    let settings = server.settings("backups", "team/shop");
    the_main_job(&agent(&settings, Told::Plainly));
    block_on(nothing_stored_tells_the_secret(settings));
}

#[test]
fn the_main_job_over_moto() {
    let server = MotoServer::start();
    server.make_bucket("backups");
    server.keep_versions("backups");
    let settings = server.settings("backups", "");
    the_main_job(&agent(&settings, Told::ByFile));
    block_on(nothing_stored_tells_the_secret(settings));
}

#[test]
fn credentials_come_from_the_file_the_environment_or_files() {
    let server = S3Server::start();
    server.make_bucket("backups");
    let source = small();
    for told in [Told::Plainly, Told::ByEnvironment, Told::ByFile] {
        let agent = agent(&server.settings("backups", &format!("{told:?}")), told);
        let id = loud(&agent, &["backup", &source.url()], 0).stdout.trim().to_owned();
        loud(&agent, &["restore", &id, "--into", "sqlite:restored.db"], 0);
    }
    // The usual AWS places, where the configuration is silent.
    let usual = Agent::new().with_store(None).with_env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID);
    let usual = usual.with_env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
    configure(&usual, &server.settings("backups", "usual"), "");
    loud(&usual, &["backup", &source.url()], 0);
}

#[test]
fn missing_and_wrong_credentials_are_told_without_repeating_them() {
    let server = S3Server::start();
    server.make_bucket("backups");
    let settings = server.settings("backups", "");
    let agent = Agent::new().with_store(None).with_env("AWS_EC2_METADATA_DISABLED", "true");
    configure(&agent, &settings, "access_key_id_env = \"THE_ID\"\nsecret_access_key_env = \"THE_KEY\"");
    let run = agent.run(&["list"]).expect_code(3);
    assert!(run.stderr.contains("the environment variable THE_ID is not set"), "{}", run.stderr);
    configure(&agent, &settings, "access_key_id = \"holdfast-test\"\nsecret_access_key_file = \"absent\"");
    let run = agent.run(&["list"]).expect_code(3);
    assert!(run.stderr.contains("absent"), "{}", run.stderr);
    configure(&agent, &settings, "access_key_id = \"holdfast-test\"\nsecret_access_key = \"a-wrong-canary\"");
    let run = agent.run(&["-vv", "list"]).expect_code(1);
    run.never_says("a-wrong-canary");
    assert!(run.stderr.contains("hint: check access_key_id and secret_access_key"), "{}", run.stderr);
}

#[test]
fn a_missing_bucket_is_refused_by_name_and_not_made() {
    let server = S3Server::start();
    let moto = MotoServer::start();
    let source = small();
    for settings in [server.settings("absent", "x"), moto.settings("absent", "x")] {
        let agent = agent(&settings, Told::Plainly);
        for arguments in [vec!["list"], vec!["init"], vec!["backup", &source.url()], vec!["verify"]] {
            let run = loud(&agent, &arguments, 3);
            assert!(run.stderr.contains("no bucket named absent"), "{arguments:?}: {}", run.stderr);
            assert!(run.stderr.contains("hint: make the bucket absent first"), "{}", run.stderr);
        }
    }
    assert!(!server.object_path("absent", "").exists());
}

#[test]
fn a_bucket_without_a_repository_is_refused_by_commands_that_only_read() {
    let server = S3Server::start();
    server.make_bucket("backups");
    let agent = agent(&server.settings("backups", "shop"), Told::Plainly);
    for arguments in [vec!["list"], vec!["verify"], vec!["drill"], vec!["show", "x"]] {
        let run = loud(&agent, &arguments, 3);
        assert!(run.stderr.contains("s3://backups/shop at http://127.0.0.1:"), "{}", run.stderr);
        assert!(run.stderr.contains("holds no Holdfast repository"), "{}", run.stderr);
    }
}

#[test]
fn a_wrong_endpoint_is_told_in_the_end() {
    let agent = Agent::new().with_store(None);
    let mut server = S3Server::start();
    let settings = server.settings("backups", "");
    server.stop();
    configure(&agent, &settings, "access_key_id = \"a\"\nsecret_access_key = \"the-canary\"");
    let run = agent.run(&["list"]).expect_code(1);
    run.never_says("the-canary");
    assert!(run.stderr.contains("the store does not answer; trying again for a while"), "{}", run.stderr);
    assert!(run.stderr.contains(settings.endpoint.as_deref().unwrap()), "{}", run.stderr);
    for (endpoint, why) in [
        ("127.0.0.1:9000", "endpoint"),
        ("ftp://127.0.0.1/", "must begin with http:// or https://"),
        ("http://user:the-canary@127.0.0.1:1/", "without credentials"),
    ] {
        let settings =
            S3Settings { endpoint: Some(endpoint.into()), bucket: "backups".into(), ..S3Settings::default() };
        configure(&agent, &settings, "access_key_id = \"a\"\nsecret_access_key = \"the-canary\"");
        let run = agent.run(&["list"]).expect_code(1);
        run.never_says("the-canary");
        assert!(run.stderr.contains(why), "{}", run.stderr);
    }
}

#[test]
fn damage_at_rest_in_a_bucket_is_found() {
    let server = S3Server::start();
    server.make_bucket("backups");
    let settings = server.settings("backups", "");
    let agent = agent(&settings, Told::Plainly);
    let id = agent.ok(&["backup", &small().url()]).stdout.trim().to_owned();
    let pack = block_on(objects(settings)).into_iter().map(|(key, _)| key).find(|key| key.starts_with("packs/"));
    let file: PathBuf = server.object_path("backups", &pack.unwrap());
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    loud(&agent, &["verify"], 6);
    loud(&agent, &["restore", &id, "--into", "sqlite:x.db"], 6);
    assert!(!agent.home().join("x.db").exists());
    assert_eq!(agent.json(&["list"])[0]["damaged_packs"], 1);
}

#[test]
fn a_repository_of_more_than_a_thousand_objects_is_listed_whole() {
    let server = MotoServer::start();
    server.make_bucket("backups");
    let settings = server.settings("backups", "many");
    let agent = agent(&settings, Told::Plainly);
    let source = small();
    let first = agent.ok(&["backup", &source.url()]).stdout.trim().to_owned();
    block_on(multiply(settings, &first, 1100));
    let last = agent.ok(&["backup", &source.url()]).stdout.trim().to_owned();
    let listed = agent.json(&["list"]);
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!((&listed[0]["id"], &listed[1]["id"]), (&first.as_str().into(), &last.as_str().into()));
    let shown = agent.json(&["show", &first]);
    assert_eq!(shown["marks"].as_array().unwrap().len(), 1 + 1100);
    agent.ok(&["restore", "small", "--at", "latest", "--into", "sqlite:restored.db"]);
}

/// Adds marks to a backup and other databases' folders until every listing has more than one page.
async fn multiply(settings: S3Settings, id: &str, count: usize) {
    let store = Arc::new(S3Store::connect(settings).await.unwrap());
    let (mark, body) =
        (format!("marks/{id}/verified-"), "{\"kind\":\"verified\",\"at\":\"2025-01-31T03:00:00Z\",\"detail\":\"x\"}");
    let puts = (0..count).map(|number| {
        let (store, key) = (store.clone(), format!("{mark}{number:032x}.json"));
        async move { store.put(&key, body.into(), PutMode::Replace).await.unwrap() }
    });
    let done = futures_util::StreamExt::buffer_unordered(futures_util::stream::iter(puts), 8);
    assert_eq!(futures_util::StreamExt::count(done).await, count);
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}
