//! The unit, the image and the compose file.

use super::{strings, text, top, yaml};
use crate::http::full_health;
use std::collections::BTreeMap;
use std::process::Command;
use tests::agent::program;
use tests::fake_clock::FakeClock;

#[test]
fn the_compose_file_pins_images_checks_health_and_keeps_secrets_out() {
    let compose = yaml("docker-compose.yml");
    let services = compose["services"].as_object().unwrap();
    let volumes = compose["volumes"].as_object().unwrap();
    for (name, service) in services {
        let image = service["image"].as_str().unwrap();
        let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
        assert!(tag.starts_with(|c: char| c.is_ascii_digit()), "{name}: {image} is not pinned");
        for other in service["depends_on"].as_object().into_iter().flatten() {
            let condition = other.1["condition"].as_str().unwrap();
            assert!(services.contains_key(other.0), "{name} waits for {}", other.0);
            let is_checked =
                condition == "service_completed_successfully" || services[other.0]["healthcheck"].is_object();
            assert!(is_checked, "{name} waits for the health of {}, which is not checked", other.0);
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            let is_there = volumes.contains_key(source) || top().join(source).exists();
            assert!(is_there, "{name}: {source} is neither a volume nor a file");
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name} is open to the world");
        }
        for file in service["env_file"].as_array().into_iter().flatten() {
            let file = file.as_str().unwrap();
            assert!(top().join(format!("{file}.example")).exists(), "{file} has no example");
            assert!(text(".gitignore").lines().any(|line| line == format!("/{file}")), "{file} is not ignored");
        }
    }
    let whole = compose.to_string().to_lowercase();
    assert!(!whole.contains("password") && !whole.contains("secret_access"), "a secret stands in docker-compose.yml");
}

#[test]
fn the_configuration_of_the_compose_file_fits_the_services() {
    // The broker's address is among the secrets.
    let secrets = text("ops/compose/holdfast.env.example");
    let secret = |name: &str| secrets.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap();
    let broker = secret("AMQP_URL");
    let (user, password) = (secret("RABBITMQ_DEFAULT_USER"), secret("RABBITMQ_DEFAULT_PASS"));
    assert!(broker.starts_with(&format!("amqp://{user}:{password}@")), "{broker}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("holdfast.toml");
    let whole = text("ops/compose/holdfast.toml");
    assert!(whole.contains("url_env = \"AMQP_URL\""));
    std::fs::write(&file, whole.replace("url_env = \"AMQP_URL\"", &format!("url = \"{broker}\""))).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let config = shared::config::Config::load(Some(&file)).unwrap();
    let compose = yaml("docker-compose.yml");
    let host = |url: &str| {
        let rest = url.split("://").nth(1).unwrap();
        rest.rsplit('@').next().unwrap().split([':', '/']).next().unwrap().to_owned()
    };
    for url in [config.store.endpoint.as_deref().unwrap(), broker] {
        assert!(compose["services"][host(url)].is_object(), "{url}");
    }
    // The record is made with the server, and is no database that is backed up.
    let record = config.state.url.as_ref().unwrap().reveal().rsplit('/').next().unwrap().to_owned();
    assert!(text("ops/compose/record.sql").contains(&format!("CREATE DATABASE {record};")));
    assert!(!config.databases.contains_key(&record.parse().unwrap()));
    let database =
        config.databases[&"shop".parse().unwrap()].url.as_ref().unwrap().reveal().rsplit('@').next().unwrap();
    assert!(compose["services"][database.split(':').next().unwrap()].is_object());
    let port = config.agent.listen.rsplit(':').next().unwrap();
    let published = compose["services"]["agent"]["ports"][0].as_str().unwrap();
    assert!(published.ends_with(&format!(":{port}")), "{published}");
    assert!(text("ops/Dockerfile").contains(&format!("/127.0.0.1/{port} ")), "the health check asks elsewhere");
    let bucket = config.store.url.as_deref().unwrap().strip_prefix("s3://").unwrap();
    let made = compose["services"]["bucket"]["command"].to_string();
    assert!(made.contains(&format!("s3.bucket.create -name {bucket}")), "{made}");
    backup_agent::notify::Notifier::new(&config).unwrap();
}

/// A unit file as sections of keys and values; panics on what systemd would not read.
fn unit(text: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let mut sections: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut current = None;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            assert!(!sections.contains_key(name), "[{name}] stands twice");
            sections.insert(name.to_owned(), Vec::new());
            current = Some(name.to_owned());
        } else {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("not KEY=VALUE: {line}"));
            assert!(key.chars().all(|c| c.is_ascii_alphanumeric()), "{line}");
            let section = sections.get_mut(current.as_ref().expect("a section comes first")).unwrap();
            section.push((key.to_owned(), value.to_owned()));
        }
    }
    sections
}

#[test]
fn the_units_are_ones_systemd_takes() {
    for (name, of_program, fixed) in [
        ("holdfast-agent", "backup-agent", [("Type", "notify"), ("RestartPreventExitStatus", "2")]),
        ("holdfast-worker", "migrate-worker", [("Type", "exec"), ("KillMode", "mixed")]),
    ] {
        let path = format!("ops/systemd/{name}.service");
        let sections = unit(&text(&path));
        assert_eq!(sections.keys().collect::<Vec<_>>(), ["Install", "Service", "Unit"]);
        let of = |key: &str| {
            let found: Vec<_> = sections["Service"].iter().filter(|(known, _)| known == key).collect();
            assert!(found.len() == 1, "{path}: {key} stands {} times", found.len());
            found[0].1.clone()
        };
        let same = [("User", "holdfast"), ("Restart", "on-failure"), ("StateDirectory", "holdfast")];
        let safe = [("NoNewPrivileges", "yes"), ("ProtectSystem", "strict")];
        for (key, value) in fixed.into_iter().chain(same).chain(safe) {
            assert_eq!(of(key), value, "{path}: {key}");
        }
        if of("Type") == "notify" {
            assert!(of("WatchdogSec").parse::<u32>().unwrap() >= 60);
            assert!(of("TimeoutStopSec").parse::<u32>().unwrap() > 30, "the agent itself has 30 s to stop");
        }
        assert!(of("ExecStart").starts_with(&format!("/usr/local/bin/{of_program} run ")));
        systemd_takes(name, of_program);
    }
}

/// The judge that knows best, where it is there: own rules hold everywhere.
fn systemd_takes(name: &str, of_program: &str) {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join(format!("{name}.service"));
    // The program need not be installed for its unit to be right.
    let there = program(of_program).display().to_string();
    let text = text(&format!("ops/systemd/{name}.service")).replace(&format!("/usr/local/bin/{of_program}"), &there);
    std::fs::write(&copy, text).unwrap();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("holdfast")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}

/// Instructions of a Dockerfile, a stage each, the line FROM first.
fn stages(path: &str) -> Vec<Vec<(String, String)>> {
    let dockerfile = text(path).replace("\\\n", " ");
    let lines = dockerfile.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '));
    let mut stages: Vec<Vec<(String, String)>> = Vec::new();
    for (word, rest) in lines.filter(|(word, _)| !word.is_empty()) {
        if word == "FROM" {
            stages.push(Vec::new());
        }
        stages.last_mut().expect("FROM comes first").push((word.to_owned(), rest.to_owned()));
    }
    stages
}

#[test]
fn the_images_pin_what_they_build_on_and_do_not_run_as_root() {
    let known = [
        "FROM",
        "WORKDIR",
        "COPY",
        "RUN",
        "ARG",
        "ENV",
        "USER",
        "VOLUME",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    ];
    for (path, bases) in [("ops/Dockerfile", 2), ("ops/compose/shop/Dockerfile", 1)] {
        let stages = stages(path);
        let (mut names, mut pinned) = (Vec::new(), 0);
        for stage in &stages {
            let stray: Vec<_> = stage.iter().filter(|(word, _)| !known.contains(&word.as_str())).collect();
            assert!(stray.is_empty(), "{path}: {stray:?}");
            let words: Vec<&str> = stage[0].1.split(' ').collect();
            if !names.contains(&words[0]) {
                let tag = words[0].split_once(':').expect("a tag").1;
                assert!(tag.starts_with(|c: char| c.is_ascii_digit()), "{path}: {} is not pinned", words[0]);
                pinned += 1;
            }
            names.extend(words.get(2));
            let is_run = stage.iter().any(|(word, _)| word == "CMD");
            let user = stage.iter().rev().find(|(word, _)| word == "USER").map(|(_, user)| user.as_str());
            let is_root = user.is_none_or(|user| ["root", "0"].contains(&user.split(':').next().unwrap()));
            assert!(!is_run || !is_root, "{path}: {} runs as {user:?}", stage[0].1);
        }
        assert_eq!(pinned, bases, "{path}");
    }
    let dockerfile = text("ops/Dockerfile");
    // Rust there is Rust here: the version the workspace asks for.
    let asked =
        text("Cargo.toml").lines().find_map(|line| line.strip_prefix("rust-version = \"").map(str::to_owned)).unwrap();
    assert!(dockerfile.contains(&format!("FROM rust:{}-", asked.trim_end_matches('"'))), "{asked}");
    let ignored = text("ops/Dockerfile.dockerignore");
    let members =
        text("Cargo.toml").lines().find_map(|line| line.strip_prefix("members = ").map(str::to_owned)).unwrap();
    for member in members.split('"').skip(1).step_by(2) {
        assert!(ignored.lines().any(|line| line == format!("!{member}")), "the build does not get {member}");
    }
}

#[tokio::test]
async fn the_health_check_of_the_image_asks_the_agent() {
    let clock = FakeClock::at("2025-01-31T12:00:00Z".parse().unwrap());
    let health = std::sync::Arc::new(full_health(&clock));
    let door = backup_agent::http::open("127.0.0.1:0").await.unwrap().unwrap();
    let port = door.address().port().to_string();
    let serving = tokio::spawn(door.serve(health.clone(), std::future::pending()));
    let dockerfile = text("ops/Dockerfile");
    let (_, check) = dockerfile.split_once("HEALTHCHECK --").unwrap();
    let command = check.lines().find_map(|line| line.trim().strip_prefix("CMD ")).unwrap();
    let words = strings(&serde_json::from_str(command).unwrap());
    let ask = || async {
        let words = words.iter().map(|word| word.replace("9187", &port)).collect::<Vec<_>>();
        let asked = tokio::task::spawn_blocking(move || Command::new(&words[0]).args(&words[1..]).status().unwrap());
        asked.await.unwrap().success()
    };
    assert!(ask().await, "an agent that lives is taken for dead");
    clock.advance(std::time::Duration::from_secs(3600));
    assert!(!ask().await, "an agent that hangs is taken for alive");
    serving.abort();
    let _ = serving.await;
    assert!(!ask().await, "an agent that is away is taken for alive");
}
