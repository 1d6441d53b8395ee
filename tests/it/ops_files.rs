//! The files in ops/ and docker-compose.yml say nothing that the program does not know.

use crate::http::{full_health, parsed};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::agent::{Agent, program};
use tests::fake_clock::FakeClock;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn text(path: &str) -> String {
    let file = top().join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A YAML file as JSON, read by PyYAML; keys that stand twice are an error.
fn yaml(path: &str) -> Value {
    let script = "
import sys, json
try:
    import yaml
except ImportError:
    sys.exit('PyYAML is missing: install Debian\\'s python3-yaml, or pip install pyyaml')
class Strict(yaml.SafeLoader): pass
def mapping(loader, node, deep=False):
    keys = [loader.construct_object(key) for key, _ in node.value]
    assert len(keys) == len(set(keys)), f'a key stands twice: {keys}'
    return {key: loader.construct_object(value, deep=True) for key, (_, value) in zip(keys, node.value)}
Strict.add_constructor('tag:yaml.org,2002:map', mapping)
json.dump(yaml.load(open(sys.argv[1]), Strict), sys.stdout)";
    let python = std::env::var("HOLDFAST_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    // The folder of the tests' own Python packages may lack PyYAML where the system's has it.
    let candidates = [python.as_str(), "python3", "/usr/bin/python3"];
    let mut errors = String::new();
    for python in candidates {
        let output = Command::new(python).args(["-c", script]).arg(top().join(path)).output();
        match output {
            Ok(output) if output.status.success() => return serde_json::from_slice(&output.stdout).unwrap(),
            Ok(output) => errors += &String::from_utf8_lossy(&output.stderr),
            Err(error) => errors += &error.to_string(),
        }
    }
    panic!("{path}: {errors}");
}

/// The metrics there are, as the program itself writes them.
fn metrics() -> BTreeMap<String, Vec<String>> {
    let clock = FakeClock::at("2025-01-31T12:00:00Z".parse().unwrap());
    let page = full_health(&clock).metrics();
    let values = parsed(&page);
    let typed = page.lines().filter(|line| line.starts_with("# TYPE ")).count();
    // A summary has two names; every other metric must have a value here, or its labels are not known below.
    assert_eq!(values.len(), typed + 1, "full_health leaves a metric out: {:?}", values.keys());
    values
}

/// The metrics an expression of Prometheus names, each with the labels it asks for.
fn used(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in expression.match_indices("holdfast_") {
        let rest = &expression[at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let labels =
            rest[end..].strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(labels, _)| labels);
        let labels = labels.split(',').filter_map(|label| Some(label.split_once(['=', '!'])?.0.trim().to_owned()));
        found.push((rest[..end].to_owned(), labels.collect()));
    }
    found
}

fn check_expression(expression: &str, metrics: &BTreeMap<String, Vec<String>>) {
    let open = |c| expression.matches(c).count();
    assert_eq!((open('('), open('{')), (open(')'), open('}')), "{expression}");
    for (name, labels) in used(expression) {
        let Some(lines) = metrics.get(&name) else { panic!("there is no metric {name}: {expression}") };
        for label in labels.iter().filter(|label| *label != "instance") {
            assert!(
                lines.iter().any(|line| line.contains(&format!("{label}=\""))),
                "{name} has no {label}: {expression}"
            );
        }
    }
}

#[test]
fn alerts_name_metrics_there_are_and_lead_to_headings_of_the_runbooks() {
    let metrics = metrics();
    let alerts = yaml("ops/prometheus/alerts.yml");
    let rules = alerts["groups"][0]["rules"].as_array().unwrap();
    let mut names = BTreeSet::new();
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        assert!(names.insert(name), "{name} stands twice");
        let known = ["alert", "expr", "for", "labels", "annotations"];
        assert!(rule.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{rule}");
        let expression = rule["expr"].as_str().unwrap();
        check_expression(expression, &metrics);
        assert!(expression.contains("holdfast"), "{expression}");
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()));
        for key in ["summary", "description"] {
            assert!(!rule["annotations"][key].as_str().unwrap().is_empty(), "{name} has no {key}");
        }
        let link = rule["annotations"]["runbook_url"].as_str().unwrap();
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let runbook = text(&format!("ops/runbooks/{}", file.rsplit_once('/').unwrap().1));
        let anchors: Vec<String> = headings(&runbook).map(anchor_of).collect();
        assert!(anchor.is_empty() || anchors.contains(&anchor.to_owned()), "{name}: no heading {anchor}: {anchors:?}");
    }
    for needed in ["newest_proven_backup_age", "last_success", "last_error", "unusable_backups", "deliveries", "stale"]
    {
        assert!(rules.iter().any(|rule| rule["expr"].to_string().contains(needed)), "nothing watches {needed}");
    }
}

#[test]
fn the_dashboard_names_metrics_there_are() {
    let metrics = metrics();
    let dashboard: Value = serde_json::from_str(&text("ops/grafana/holdfast.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut shown) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels have the same id");
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            check_expression(expression, &metrics);
            shown.extend(used(expression).into_iter().map(|(name, _)| name));
        }
        let (x, w) = (panel["gridPos"]["x"].as_u64().unwrap(), panel["gridPos"]["w"].as_u64().unwrap());
        assert!(x + w <= 24, "{} does not fit", panel["title"]);
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        for (name, _) in used(variable["definition"].as_str().unwrap_or_default()) {
            assert!(metrics.contains_key(&name), "{name}");
        }
    }
    assert!(panels.len() > 5 && shown.len() > 10, "{shown:?}");
}

fn headings(runbook: &str) -> impl Iterator<Item = &str> {
    runbook.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches(['#', ' ']))
}

fn anchor_of(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect()
}

#[test]
fn runbooks_have_the_five_parts_and_their_links_lead_somewhere() {
    for path in ["ops/runbooks/restore.md", "ops/runbooks/backup-failed.md"] {
        let runbook = text(path);
        let parts: Vec<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(parts, ["Symptom", "Look", "Decide", "Do", "Check"], "{path}");
        let anchors: BTreeSet<String> = headings(&runbook).map(anchor_of).collect();
        for link in runbook.split("](#").skip(1) {
            let anchor = link.split(')').next().unwrap();
            assert!(anchors.contains(anchor), "{path}: no heading {anchor}");
        }
        assert_eq!(runbook.matches("```").count() % 2, 0, "{path}: a block is not closed");
    }
}

/// Words of a shell line, with the two kinds of quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    assert!(quote.is_none(), "a quote is not closed: {line}");
    words.extend(word);
    words
}

/// The calls of backup-agent in the blocks and the `…` of a text, without the program's name.
fn calls(text: &str) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    for (at, part) in text.split("```").enumerate() {
        match at % 2 {
            1 => lines.extend(part.lines()),
            _ => lines.extend(part.split('`').skip(1).step_by(2)),
        }
    }
    let call = |line: &str| {
        let all = words(line);
        let at = all.iter().position(|word| word == "backup-agent" || word.ends_with("/backup-agent"))?;
        Some(all[at + 1..].to_vec())
    };
    lines.into_iter().filter_map(call).collect()
}

/// Whether the program's own parser takes the arguments: with `--help` behind them it looks at all, and does nothing.
fn refusal(arguments: &[String]) -> Option<String> {
    let mut all = arguments.to_vec();
    all.push("--help".into());
    let run = Agent::new().with_store(None).run(&all);
    // What is wrong before --help is said with code 2; a command that does not exist too.
    (run.code != Some(0)).then(|| format!("{arguments:?}: {}", run.stderr.lines().next().unwrap_or_default()))
}

#[test]
fn every_command_in_the_runbooks_and_ops_files_is_one_the_program_takes() {
    let mut all = BTreeSet::new();
    for path in ["ops/runbooks/restore.md", "ops/runbooks/backup-failed.md"] {
        let found = calls(&text(path));
        assert!(found.len() > 10, "{path}: only {} commands were found", found.len());
        all.extend(found);
    }
    for alert in yaml("ops/prometheus/alerts.yml")["groups"][0]["rules"].as_array().unwrap() {
        let description = alert["annotations"]["description"].as_str().unwrap();
        // As in `backup-agent history says …`: the first word is the command.
        if let Some((_, rest)) = description.split_once("backup-agent ") {
            all.insert(vec![rest.split(' ').next().unwrap().to_owned()]);
        }
    }
    let unit = text("ops/systemd/holdfast-agent.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/backup-agent ")).unwrap();
    all.insert(words(start));
    let compose = yaml("docker-compose.yml");
    all.insert(strings(&compose["services"]["agent"]["command"]));
    let dockerfile = text("ops/Dockerfile");
    let command = dockerfile.lines().find_map(|line| line.strip_prefix("CMD [")).unwrap();
    all.insert(strings(&serde_json::from_str(&format!("[{command}")).unwrap()));
    assert!(dockerfile.contains("ENTRYPOINT [\"backup-agent\"]"));
    let refused: Vec<String> = all.iter().filter_map(|call| refusal(call)).collect();
    assert!(refused.is_empty(), "{} of {} are refused:\n{}", refused.len(), all.len(), refused.join("\n"));
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_parser_that_judges_the_runbooks_does_refuse() {
    let call = |line: &str| refusal(&words(line));
    assert!(call("restore shop --at latest --into sqlite:x.db").is_none());
    for wrong in ["restor shop", "restore shop --ad latest", "list --jsn", "list shop extra"] {
        assert!(call(wrong).is_some(), "{wrong}");
    }
    let text =
        "see `backup-agent list`\n\n```\nPGPASSWORD=x backup-agent show \"a b\"\n```\nbackup-agent is the program";
    assert_eq!(calls(text), [vec!["list".to_owned()], vec!["show".to_owned(), "a b".to_owned()]]);
}

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
    let config = shared::config::Config::load(Some(&top().join("ops/compose/holdfast.toml"))).unwrap();
    let compose = yaml("docker-compose.yml");
    let host = |url: &str| url.split("://").nth(1).unwrap().split([':', '/']).next().unwrap().to_owned();
    assert!(compose["services"][host(config.store.endpoint.as_deref().unwrap())].is_object());
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
fn the_unit_is_one_systemd_takes() {
    let path = "ops/systemd/holdfast-agent.service";
    let sections = unit(&text(path));
    assert_eq!(sections.keys().collect::<Vec<_>>(), ["Install", "Service", "Unit"]);
    let of = |key: &str| {
        let found: Vec<_> = sections["Service"].iter().filter(|(known, _)| known == key).collect();
        assert!(found.len() == 1, "{key} stands {} times", found.len());
        found[0].1.clone()
    };
    let fixed = [("Type", "notify"), ("User", "holdfast"), ("Restart", "on-failure"), ("StateDirectory", "holdfast")];
    for (key, value) in fixed.into_iter().chain([("NoNewPrivileges", "yes"), ("ProtectSystem", "strict")]) {
        assert_eq!(of(key), value, "{key}");
    }
    assert!(of("WatchdogSec").parse::<u32>().unwrap() >= 60);
    assert!(of("TimeoutStopSec").parse::<u32>().unwrap() > 30, "the agent itself has 30 s to stop");
    assert!(of("ExecStart").starts_with("/usr/local/bin/backup-agent run "));
    // The judge that knows best, where it is there: own rules above hold everywhere.
    if Command::new("systemd-analyze").arg("--version").output().is_ok() {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("holdfast-agent.service");
        // The program need not be installed for its unit to be right.
        let text = text(path).replace("/usr/local/bin/backup-agent", &program("backup-agent").display().to_string());
        std::fs::write(&copy, text).unwrap();
        let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("holdfast")).collect();
        assert!(output.status.success() && ours.is_empty(), "{said}");
    }
}
