//! The files in ops/ and docker-compose.yml say nothing that the program does not know.

mod metrics;
mod sample;
mod services;

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::agent::Agent;

const RUNBOOKS: [&str; 4] = [
    "ops/runbooks/restore.md",
    "ops/runbooks/backup-failed.md",
    "ops/runbooks/migration-stuck.md",
    "ops/runbooks/dead-letters.md",
];

/// The programs whose calls are looked for.
const PROGRAMS: [&str; 2] = ["backup-agent", "migrate-worker"];

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

fn headings(runbook: &str) -> impl Iterator<Item = &str> {
    runbook.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches(['#', ' ']))
}

fn anchor_of(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect()
}

#[test]
fn runbooks_have_the_five_parts_and_their_links_lead_somewhere() {
    for path in RUNBOOKS {
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

/// The calls of our programs in the blocks and the `…` of a text, each with the program's name first.
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
        let name = |word: &String| word.rsplit('/').next().and_then(|name| PROGRAMS.into_iter().find(|it| *it == name));
        let at = all.iter().position(|word| name(word).is_some())?;
        Some([&[name(&all[at])?.to_owned()], &all[at + 1..]].concat())
    };
    lines.into_iter().filter_map(call).collect()
}

/// Whether the program's own parser takes the arguments: with `--help` behind them it looks at all, and does nothing.
fn refusal(call: &[String]) -> Option<String> {
    let (program, arguments) = call.split_first().unwrap();
    let mut all = arguments.to_vec();
    all.push("--help".into());
    let agent = if program == "migrate-worker" { Agent::worker() } else { Agent::new() };
    let run = agent.with_store(None).run(&all);
    // What is wrong before --help is said with code 2; a command that does not exist too.
    (run.code != Some(0)).then(|| format!("{call:?}: {}", run.stderr.lines().next().unwrap_or_default()))
}

#[test]
fn every_command_in_the_runbooks_and_ops_files_is_one_the_program_takes() {
    let mut all = BTreeSet::new();
    let of = |program: &str, arguments: Vec<String>| [vec![program.to_owned()], arguments].concat();
    for path in RUNBOOKS {
        let found = calls(&text(path));
        assert!(found.len() > 10, "{path}: only {} commands were found", found.len());
        all.extend(found);
    }
    for alert in yaml("ops/prometheus/alerts.yml")["groups"][0]["rules"].as_array().unwrap() {
        let description = alert["annotations"]["description"].as_str().unwrap();
        // As in `backup-agent history says …`: the first word is the command.
        if let Some((_, rest)) = description.split_once("backup-agent ") {
            all.insert(of("backup-agent", vec![rest.split(' ').next().unwrap().to_owned()]));
        }
    }
    for unit in ["ops/systemd/holdfast-agent.service", "ops/systemd/holdfast-worker.service"] {
        let unit = text(unit);
        let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/")).unwrap();
        all.insert(words(start));
    }
    let compose = yaml("docker-compose.yml");
    let dockerfile = text("ops/Dockerfile");
    let stages: Vec<&str> = dockerfile.split("\nFROM ").collect();
    for (service, program) in [("agent", "backup-agent"), ("worker", "migrate-worker")] {
        all.insert(of(program, strings(&compose["services"][service]["command"])));
        let target = compose["services"][service]["build"]["target"].as_str().unwrap();
        let stage = stages.iter().find(|stage| stage.lines().next().unwrap().ends_with(&format!(" AS {target}")));
        let stage = stage.unwrap_or_else(|| panic!("ops/Dockerfile has no stage {target}"));
        assert!(stage.contains(&format!("ENTRYPOINT [\"{program}\"]")), "{stage}");
        let command = stage.lines().find_map(|line| line.strip_prefix("CMD [")).unwrap();
        all.insert(of(program, strings(&serde_json::from_str(&format!("[{command}")).unwrap())));
    }
    let refused: Vec<String> = all.iter().filter_map(|call| refusal(call)).collect();
    assert!(refused.is_empty(), "{} of {} are refused:\n{}", refused.len(), all.len(), refused.join("\n"));
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_parser_that_judges_the_runbooks_does_refuse() {
    let call = |line: &str| refusal(&words(line));
    assert!(call("backup-agent restore shop --at latest --into sqlite:x.db").is_none());
    assert!(call("migrate-worker apply shop --to -1").is_none());
    for wrong in [
        "backup-agent restor shop",
        "backup-agent restore shop --ad latest",
        "backup-agent list --jsn",
        "backup-agent list shop extra",
        "migrate-worker list",
        "migrate-worker apply shop --two -1",
    ] {
        assert!(call(wrong).is_some(), "{wrong}");
    }
    let text =
        "see `backup-agent list`\n\n```\nPGPASSWORD=x backup-agent show \"a b\"\n```\nbackup-agent is the program";
    let expected: [&[&str]; 2] = [&["backup-agent", "list"], &["backup-agent", "show", "a b"]];
    assert_eq!(calls(text), expected);
}
