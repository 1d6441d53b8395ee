//! Times as people write them.

use super::*;
use jiff::{SignedDuration, Timestamp};

fn at(agent: &Agent, time: &str) -> Run {
    agent.run(&["restore", "small", "--at", time, "--into", "sqlite:new.db", "--preview"])
}

#[test]
fn a_time_that_cannot_be_is_wrong_usage() {
    let (agent, _source, _id) = one_backup();
    for time in [
        "2026-02-30T10:00:00Z",
        "2026-02-30 10:00",
        "20260230_100000",
        "2026-13-01T00:00:00Z",
        "2026-01-01T25:00:00Z",
        "2026-01-01",
        "yesterday",
        "1.5 hours ago",
        "ago",
        "",
        "now; rm -rf /",
    ] {
        let run = at(&agent, time).expect_code(2);
        says(&run, "--at:");
        says(&run, "no time");
    }
    let run = agent.run(&["restore", "small/x", "--at", "latest", "--into", "sqlite:new.db"]).expect_code(2);
    says(&run, "with --at give a database");
}

#[test]
fn the_newest_not_after_the_time_is_chosen_and_both_are_printed() {
    let (agent, source, first) = one_backup();
    let created =
        |number: usize| -> Timestamp { agent.json(&["list"])[number]["created_at"].as_str().unwrap().parse().unwrap() };
    let second = agent.ok(&["backup", &source.url()]).stdout.trim().to_owned();
    let (one, two) = (created(0), created(1));
    let moment = SignedDuration::from_nanos(1);
    let future = Timestamp::now() + SignedDuration::from_hours(24);
    for (time, wanted) in [
        (one.to_string(), &first),
        ((two - moment).to_string(), &first),
        (two.to_string(), &second),
        // A time to the second is all of it, as the id has it.
        (two.strftime("%Y%m%d_%H%M%S").to_string(), &second),
        (two.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), &second),
        (future.to_string(), &second),
        ("latest".to_owned(), &second),
        (first.split_once('/').unwrap().1.to_owned(), &first),
        // Local time of the program, which runs in UTC here.
        (future.strftime("%Y%m%d_%H%M%S").to_string(), &second),
        (future.strftime("%Y-%m-%d %H:%M").to_string(), &second),
        ("0 seconds ago".to_owned(), &second),
    ] {
        let run = at(&agent, &time).expect_code(0);
        says(&run, &format!("chose {wanted}"));
        if time.parse::<Timestamp>().is_ok() {
            says(&run, "(UTC)");
        }
    }
    let early = (one - moment).to_string();
    let run = at(&agent, &early).expect_code(3);
    says(&run, "the first complete backup of small is of");
    says(&run, &early);
    at(&agent, "2 hours ago").expect_code(3);
    assert!(!agent.home().join("new.db").exists());
}

#[test]
fn a_local_time_that_does_not_exist_or_exists_twice_is_wrong_usage() {
    let (agent, _source, _id) = one_backup();
    let agent = agent.with_env("TZ", "Europe/Berlin");
    let run = at(&agent, "2026-03-29 02:30").expect_code(2);
    says(&run, "does not exist because clocks change");
    let run = at(&agent, "2025-10-26 02:30").expect_code(2);
    says(&run, "exists twice because clocks change");
    // With a zone both are plain instants, before the first backup.
    at(&agent, "2025-10-26T02:30:00+02:00").expect_code(3);
    let run = at(&agent, "2025-07-01 12:00").expect_code(3);
    says(&run, "2025-07-01T10:00:00Z");
}

#[test]
fn only_complete_backups_are_chosen_by_time() {
    let (agent, source, first) = one_backup();
    let second = agent.ok(&["backup", &source.url()]).stdout.trim().to_owned();
    let marks = agent.store_dir().join("marks").join(&second);
    std::fs::remove_dir_all(&marks).unwrap();
    says(&at(&agent, "latest").expect_code(0), &format!("chose {first}"));
    assert_eq!(agent.json(&["list"])[1]["complete"], false);
    std::fs::remove_dir_all(agent.store_dir().join("marks")).unwrap();
    let run = at(&agent, "latest").expect_code(3);
    says(&run, "none of the 2 backups of small");
}
