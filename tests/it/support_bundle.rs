//! `migrate-worker support-bundle`: everything about a job, and nothing secret.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use tests::agent::Agent;
use tests::sqlite::TestFile;

const SECRETS: [&str; 4] =
    ["canary-in-the-env", "canary-in-the-ping", "canary-of-the-signature", "canary-in-a-command"];

/// A worker with secrets everywhere, whose only job failed while its tool printed one of them.
fn worker(file: &TestFile) -> Agent {
    let [env, ping, signature, command] = SECRETS;
    let agent = Agent::worker().with_config(&format!(
        "[database.shop]\nurl = {:?}\nnotify = {{ ping_url = \"https://127.0.0.1:9/{ping}\", webhook_url = \"https://127.0.0.1:9/x\", \
         webhook_secret = \"whsec_{signature}\" }}\n[database.shop.hooks]\nstop = [\"true\", \"{command}\"]\n\
         [database.shop.migrations]\nrunner = \"sql\"\ndirectory = \"m\"\nenv = {{ SECRET_KEY = \"{env}\" }}\n\
         [[database.shop.migrations.then]]\nname = \"says too much\"\ncommand = [\"sh\", \"-c\", \"echo it is $SECRET_KEY; exit 3\"]\n",
        file.url()
    ));
    std::fs::set_permissions(agent.home().join("holdfast.toml"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::create_dir(agent.home().join("m")).unwrap();
    std::fs::write(agent.home().join("m/1_more.sql"), "CREATE TABLE more (x);").unwrap();
    agent.run(&["apply", "shop"]).expect_code(3);
    agent
}

fn unpacked(agent: &Agent, archive: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(agent.home().join(archive)).arg("-C").arg(folder.path()).arg("--strip-components=1");
    assert!(tar.status().unwrap().success(), "{tar:?}");
    folder
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn a_bundle_holds_what_a_person_needs() {
    let file = TestFile::named("shop.db");
    file.sqlite3("CREATE TABLE kept (x)");
    let agent = worker(&file);
    let id = agent.json(&["history", "shop"])[0]["job_id"].as_str().unwrap().to_owned();
    agent.ok(&["support-bundle", &id[..8], "--output", "bundle.tar.gz"]);
    let mode = std::fs::metadata(agent.home().join("bundle.tar.gz")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let folder = unpacked(&agent, "bundle.tar.gz");
    let job: serde_json::Value = serde_json::from_str(&read(folder.path(), "job.json")).unwrap();
    assert_eq!((job["job_id"].as_str(), job["state"].as_str()), (Some(&*id), Some("refused")));
    assert!(job["events"].as_array().unwrap().len() >= 3 && !job["steps"].as_array().unwrap().is_empty());
    let timeline = read(folder.path(), "timeline.txt");
    let times: Vec<&str> = timeline.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert!(times.is_sorted() && times.len() > 5, "{timeline}");
    assert!(
        timeline.contains("queued") && timeline.contains("backup-a done") && timeline.contains("refused"),
        "{timeline}"
    );
    assert!(read(folder.path(), "output.txt").contains("it is ***"), "the tool's words, without its secret");
    assert!(read(folder.path(), "config.toml").contains("runner = \"sql\""));
    assert!(read(folder.path(), "doctor.json").contains("shop"));
    assert!(read(folder.path(), "versions.txt").contains("migrate-worker"));
    assert!(read(folder.path(), "README.txt").contains("Left out"));
    assert!(read(folder.path(), "checklist.json").contains("backup made"));

    let again = agent.run(&["support-bundle", &id, "--output", "bundle.tar.gz"]).expect_code(3);
    assert!(again.stderr.contains("is there already; it was not touched"), "{}", again.stderr);
    agent.run(&["support-bundle", "ffffffff"]).expect_code(3);
}

#[test]
fn no_secret_is_found_in_a_bundle() {
    let file = TestFile::named("shop.db");
    file.sqlite3("CREATE TABLE kept (x)");
    let agent = worker(&file);
    let id = agent.json(&["history", "shop"])[0]["job_id"].as_str().unwrap().to_owned();
    agent.ok(&["support-bundle", &id]);
    let folder = unpacked(&agent, &format!("holdfast-{id}.tar.gz"));
    let mut looked_at = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let text = std::fs::read_to_string(entry.as_ref().unwrap().path()).unwrap();
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} stands in {:?}", entry.as_ref().unwrap().file_name());
        }
        looked_at += text.len();
    }
    assert!(looked_at > 4000, "only {looked_at} bytes were looked at");
    let config = std::fs::read_to_string(agent.home().join("holdfast.toml")).unwrap();
    assert!(SECRETS.iter().all(|secret| config.contains(secret)), "there was something to find");
}
