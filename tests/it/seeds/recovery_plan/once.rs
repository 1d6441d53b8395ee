//! A revision that must not run twice does not, whatever is killed and however often the wish comes.

use super::{AIPROXY, ENCODED, Replacements};
use crate::seeds::desk::Door;
use crate::seeds::team::Team;
use serde_json::json;
use shared::model::JobId;

/// The rooms whose points lie around the tool's work on the database itself.
const ROOMS: [&str; 7] = ["apply:", "fence:", "in place:", "commit:", "swap:", "unfence:", "outcome:"];

/// How many points are tried where time is short.
const SOME: usize = 3;

const APPLY: [&str; 4] = ["apply", AIPROXY.database, "--to", ENCODED];

/// The points an undisturbed migration comes by, each once, in its order; some of them, or all in the long run.
fn points(team: &mut Team) -> Vec<String> {
    let trace = team.desk.file("trace");
    team.desk.set_env("HOLDFAST_CRASH_TRACE", trace.to_str().unwrap());
    team.desk.agent.ok(&APPLY);
    team.desk.set_env("HOLDFAST_CRASH_TRACE", "");
    let mut found: Vec<String> = Vec::new();
    for label in std::fs::read_to_string(trace).unwrap().lines() {
        if ROOMS.iter().any(|room| label.starts_with(room)) && !found.iter().any(|known| known == label) {
            found.push(label.to_owned());
        }
    }
    assert!(found.len() >= SOME, "{found:?}");
    let apart = if tests::is_long() { 1 } else { found.len().div_ceil(SOME) };
    found.into_iter().step_by(apart).collect()
}

/// As it was in the beginning; by hand, so that the record knows nothing of it.
fn start_again(team: &mut Team, rules: &Replacements) {
    team.desk.close();
    team.alembic(&["downgrade", AIPROXY.revision]);
    assert_eq!(rules.now(team), "typed");
}

/// What a job that has ended says must be what is there.
#[track_caller]
fn is_what_it_says(team: &Team, rules: &Replacements, state: &str, place: &str) {
    let expected = if state == "succeeded" { (ENCODED, "encoded") } else { (AIPROXY.revision, "typed") };
    assert_eq!((team.current().as_str(), rules.now(team)), expected, "{place}: {state}");
}

#[test]
fn rules_are_encoded_once_although_the_command_is_killed_and_given_again() {
    let mut team = Team::new(AIPROXY, Door::Command, "");
    let rules = Replacements::of(&team);
    for point in points(&mut team) {
        println!("{point}");
        start_again(&mut team, &rules);
        team.desk.agent.killed_at(&point, &APPLY);
        for _ in 0..2 {
            team.desk.agent.ok(&APPLY);
            is_what_it_says(&team, &rules, "succeeded", &point);
        }
    }
}

#[test]
fn rules_are_encoded_once_although_the_worker_is_killed_and_the_message_comes_again() {
    let mut team = Team::new(AIPROXY, Door::Message, "");
    let rules = Replacements::of(&team);
    let points = points(&mut team);
    team.desk.open();
    for point in points {
        println!("{point}");
        start_again(&mut team, &rules);
        let id = JobId::random().to_string();
        team.send("migrate", &id, json!({"to": ENCODED}));
        team.desk.agent.start_and_stop_at(&point, &["run"]).kill();
        // Whoever sent it has heard nothing, and says it again.
        (0..3).for_each(|_| team.send("migrate", &id, json!({"to": ENCODED})));
        team.desk.open();
        let ended = team.desk.end_of(&id);
        let state = ended.job["state"].as_str().unwrap().to_owned();
        assert!(["succeeded", "restored"].contains(&state.as_str()), "{point}: {:#}", ended.job);
        is_what_it_says(&team, &rules, &state, &point);

        let jobs = || team.desk.agent.json(&["history", "--all", "--limit", "0"]).as_array().unwrap().len();
        let before = jobs();
        team.send("migrate", &id, json!({"to": ENCODED}));
        let next = team.by_message("migrate", json!({"to": ENCODED}), "succeeded");
        is_what_it_says(&team, &rules, "succeeded", &point);
        let jobs = team.desk.agent.json(&["history", "--all", "--limit", "0"]).as_array().unwrap().len();
        assert_eq!(jobs, before + 1, "{point}: the message was taken for another wish");
        assert_eq!(next.job["attempt"], 1);
    }
}

/// A sleep behind the last rule, in production only.
fn sleeping(text: &str) -> String {
    let encodes = "    rewrite(lambda text: base64.b64encode(text.encode(\"utf-8\")).decode(\"ascii\"))\n";
    assert!(text.contains(encodes), "{text}");
    let sleep = "    op.execute(\"SELECT pg_sleep(CASE WHEN current_database() LIKE '%\\\\_\\\\_mig\\\\_%' THEN 600 ELSE 0 END)\")\n";
    text.replace(encodes, &format!("{encodes}{sleep}"))
}

fn rules_are_encoded_once_although_the_worker_dies_behind_the_last_of_them(door: Door) {
    let mut team = Team::new(AIPROXY, door, "");
    let rules = Replacements::of(&team);
    let file = team.file("alembic/versions/234ea0f4b6c3_base64_encode_lyric_parsing_rule_replacements.py");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, sleeping(&text)).unwrap();
    let id = JobId::random().to_string();
    let worker = match door {
        Door::Command => team.desk.agent.start(&APPLY),
        Door::Message => {
            team.desk.open();
            team.desk.close();
            team.send("migrate", &id, json!({"to": ENCODED}));
            team.desk.agent.start(&["run"])
        }
    };
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'aiproxy\\_\\_mig\\_%' AND query LIKE 'SELECT pg_sleep%'";
    let server = &team.server;
    let begun = std::time::Instant::now();
    while server.psql("postgres", sleeps) != "1" {
        assert!(begun.elapsed() < std::time::Duration::from_secs(90), "the rules are not being encoded");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    worker.kill();
    std::fs::write(&file, text).unwrap();
    if door == Door::Message {
        team.send("migrate", &id, json!({"to": ENCODED}));
        team.desk.open();
        let ended = team.desk.end_of(&id);
        ended.is("restored");
        is_what_it_says(&team, &rules, "restored", "behind the last rule");
    }
    // The command takes back what was lost before it begins.
    team.migrate(json!({"to": ENCODED}), "succeeded");
    is_what_it_says(&team, &rules, "succeeded", "behind the last rule");
    assert_eq!(team.server.psql("postgres", sleeps), "0", "what was killed goes on");
    let states: Vec<_> = team
        .desk
        .agent
        .json(&["history", AIPROXY.database])
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["state"].clone())
        .collect();
    assert_eq!(states, ["succeeded", "restored"]);
}

#[test]
fn rules_are_encoded_once_although_the_worker_dies_behind_the_last_of_them_by_command() {
    rules_are_encoded_once_although_the_worker_dies_behind_the_last_of_them(Door::Command);
}

#[test]
fn rules_are_encoded_once_although_the_worker_dies_behind_the_last_of_them_by_message() {
    rules_are_encoded_once_although_the_worker_dies_behind_the_last_of_them(Door::Message);
}
