//! Code ahead of the schema: songs are not shown any more, and production is brought to order by the team's own plan.

mod off_host;
mod once;

use super::desk::Door;
use super::team::{Story, Team};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use tests::scripted_http::{ScriptedHttp, reply};

const AIPROXY: Story = Story { folder: "seeds/004", database: "aiproxy", role: "aiuser", revision: "0f864573b58a" };

/// Encodes the replacements of all rules; twice would be once too often.
const ENCODED: &str = "234ea0f4b6c3";
/// Adds what the new code selects.
const SKETCHES: &str = "d4641a241b98";

/// The replacements of the rules as they were typed, and as they are when they are encoded once; as digests.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Replacements {
    typed: String,
    encoded: String,
}

impl Replacements {
    #[track_caller]
    fn of(team: &Team) -> Self {
        assert_eq!(team.current(), AIPROXY.revision);
        let encoded = "encode(convert_to(replacement, 'UTF8'), 'base64')";
        let digest = |value: &str| {
            format!("SELECT md5(string_agg(id || ' ' || {value}, '|' ORDER BY id)) FROM lyric_parsing_rules")
        };
        Replacements { typed: team.psql(&digest("replacement")), encoded: team.psql(&digest(encoded)) }
    }

    /// `typed` or `encoded`; anything else is what must never be.
    #[track_caller]
    fn now(&self, team: &Team) -> &'static str {
        let sql = "SELECT md5(string_agg(id || ' ' || replacement, '|' ORDER BY id)) FROM lyric_parsing_rules";
        match team.psql(sql) {
            now if now == self.typed => "typed",
            now if now == self.encoded => "encoded",
            _ => panic!("{}", team.psql("SELECT id, replacement FROM lyric_parsing_rules ORDER BY id")),
        }
    }
}

const CHECKS: &str = "
[[database.aiproxy.checks]]
name = \"all songs\"
sql = \"SELECT count(*) FROM songs\"
expect = \"unchanged\"
";

/// Restarts both containers, and notes where the database under its public name stands then.
fn docker(team: &Team) -> String {
    let file = team.desk.file("docker");
    let script = format!(
        "#!/bin/sh\nat=$(psql -XqAt '{}' -c 'SELECT version_num FROM alembic_version')\necho \"docker $* at $at\" >> called\n",
        team.url()
    );
    std::fs::write(&file, script).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    let containers = "\"mac_ki_service-aiproxysrv-1\", \"mac_ki_service-celery-worker-1\"";
    format!(
        "[database.aiproxy.hooks]\nstop = [\"./docker\", \"stop\", {containers}]\nstart = [\"./docker\", \"start\", {containers}]\n"
    )
}

fn songs(team: &Team) -> String {
    team.psql("SELECT count(*), md5(string_agg(s::text, '|' ORDER BY id)) FROM (SELECT id, task_id, title, lyrics, status, created_at FROM songs) s")
}

fn the_missing_revisions_are_applied_one_by_one_with_a_look_in_between(door: Door) {
    let mut team = Team::new(AIPROXY, door, "");
    let health = ScriptedHttp::start(|_, _| reply("200 OK", "", "{\"status\": \"healthy\"}"));
    let hooks = format!("{}health_url = \"{}/health\"\n", docker(&team), health.endpoint());
    team.configure(&format!("{CHECKS}{hooks}"));
    let (rules, before) = (Replacements::of(&team), songs(&team));
    assert!(before.starts_with("348|"), "{before}");

    let first = team.migrate(json!({"to": "+1"}), "succeeded");
    first.says(&["it stands at 234ea0f4b6c3"]);
    assert_eq!(first.check("all songs")["passed"], true);
    assert_eq!((team.current().as_str(), rules.now(&team)), (ENCODED, "encoded"));
    assert_eq!(songs(&team), before);
    assert_eq!(team.psql("SELECT to_regclass('song_sketches') IS NULL"), "t");

    // Whoever comes with the same wish a second time does not go a step further than was meant.
    team.migrate(json!({"to": "+1", "expected_from": AIPROXY.revision}), "refused")
        .says(&["aiproxy stands at 234ea0f4b6c3, not at 0f864573b58a as was expected"]);
    let second = team.migrate(json!({"to": "+1", "expected_from": ENCODED}), "succeeded");
    second.says(&["it stands at d4641a241b98"]);
    assert_eq!(team.current(), "d4641a241b98 (head)");
    let column = "SELECT data_type, is_nullable FROM information_schema.columns WHERE table_name = 'songs' AND column_name = 'sketch_id'";
    assert_eq!(team.psql(column), "uuid|YES");
    assert_eq!(team.psql("SELECT count(*) FROM song_sketches"), "0");
    let key = "SELECT count(*) FROM pg_constraint WHERE conname = 'fk_songs_sketch_id' AND confrelid = 'song_sketches'::regclass";
    assert_eq!(team.psql(key), "1");
    assert_eq!((songs(&team), rules.now(&team)), (before, "encoded"));

    // Each time: down before, up behind.
    let called = std::fs::read_to_string(team.desk.file("called")).unwrap();
    let both = "mac_ki_service-aiproxysrv-1 mac_ki_service-celery-worker-1";
    let expected = [("stop", AIPROXY.revision), ("start", ENCODED), ("stop", ENCODED), ("start", SKETCHES)];
    let expected: String = expected.iter().map(|(verb, at)| format!("docker {verb} {both} at {at}\n")).collect();
    assert_eq!(called, expected);
    assert_eq!(health.requests().len(), 2);
}

#[test]
fn the_missing_revisions_are_applied_one_by_one_with_a_look_in_between_by_command() {
    the_missing_revisions_are_applied_one_by_one_with_a_look_in_between(Door::Command);
}

#[test]
fn the_missing_revisions_are_applied_one_by_one_with_a_look_in_between_by_message() {
    the_missing_revisions_are_applied_one_by_one_with_a_look_in_between(Door::Message);
}

fn the_way_back_says_which_code_it_needs_and_keeps_sketches_until_it_is_told_otherwise(door: Door) {
    let mut team = Team::new(AIPROXY, door, CHECKS);
    let (rules, before) = (Replacements::of(&team), songs(&team));
    team.migrate(json!({"to": "head"}), "succeeded").says(&["it stands at d4641a241b98"]);
    team.psql(
        "INSERT INTO song_sketches (id, prompt) VALUES (md5('sketch')::uuid, 'something slow');
         UPDATE songs SET sketch_id = md5('sketch')::uuid WHERE id IN (SELECT id FROM songs ORDER BY id LIMIT 3)",
    );
    let refused = team.migrate(json!({"to": AIPROXY.revision}), "refused");
    refused.says(&["column songs.sketch_id (3 values)", "table song_sketches (1 row)"]);
    assert_eq!(team.current(), "d4641a241b98 (head)");
    let allowed = json!({"to": AIPROXY.revision, "may_drop": ["song_sketches", "songs:sketch_id"]});
    let back = team.migrate(allowed, "succeeded");
    back.says(&["it stands at 0f864573b58a"]);
    if door == Door::Command {
        back.says(&["works only with the code of revision 0f864573b58a"]);
    }
    assert_eq!((rules.now(&team), songs(&team)), ("typed", before));
    assert_eq!(team.psql("SELECT to_regclass('song_sketches') IS NULL"), "t");
}

#[test]
fn the_way_back_says_which_code_it_needs_and_keeps_sketches_until_it_is_told_otherwise_by_command() {
    the_way_back_says_which_code_it_needs_and_keeps_sketches_until_it_is_told_otherwise(Door::Command);
}

#[test]
fn the_way_back_says_which_code_it_needs_and_keeps_sketches_until_it_is_told_otherwise_by_message() {
    the_way_back_says_which_code_it_needs_and_keeps_sketches_until_it_is_told_otherwise(Door::Message);
}

fn the_gate_keeps_code_from_a_schema_that_does_not_know_it(door: Door) {
    let mut team = Team::new(AIPROXY, door, "");
    let gate = |team: &Team, more: &[&str], code: i32| {
        let arguments: Vec<&str> = ["gate", AIPROXY.database].iter().chain(more).copied().collect();
        team.desk.agent.run(&arguments).expect_code(code).stdout
    };
    // What the new models select.
    let shown = |team: &Team| team.server.try_psql(AIPROXY.database, "SELECT count(*), count(sketch_id) FROM songs");
    assert!(shown(&team).unwrap_err().contains("sketch_id"));
    let said = gate(&team, &[], 10);
    let both = "aiproxy: behind by 2: 234ea0f4b6c3 base64_encode_lyric_parsing_rule_replacements, \
                d4641a241b98 add_song_sketches_table\n";
    assert!(said.starts_with(both) && said.contains("it stands at 0f864573b58a"), "{said}");
    // The code that is deployed still fits.
    assert!(gate(&team, &["--expect", AIPROXY.revision], 0).contains("as expected"));

    team.migrate(json!({"to": ENCODED}), "succeeded");
    let said = gate(&team, &[], 10);
    assert!(said.starts_with("aiproxy: behind by 1: d4641a241b98 add_song_sketches_table\n"), "{said}");
    team.migrate(json!({}), "succeeded");
    assert!(gate(&team, &[], 0).starts_with("aiproxy: as expected: it stands at d4641a241b98\n"));
    assert_eq!(shown(&team).unwrap(), "348|0");
    // "That would only work if the old code were deployed."
    assert!(gate(&team, &["--expect", AIPROXY.revision], 11).contains("ahead by 2: "));
}

#[test]
fn the_gate_keeps_code_from_a_schema_that_does_not_know_it_by_command() {
    the_gate_keeps_code_from_a_schema_that_does_not_know_it(Door::Command);
}

#[test]
fn the_gate_keeps_code_from_a_schema_that_does_not_know_it_by_message() {
    the_gate_keeps_code_from_a_schema_that_does_not_know_it(Door::Message);
}
