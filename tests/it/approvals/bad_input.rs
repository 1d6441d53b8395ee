//! Approvals that cannot be meant.

use super::Shop;
use tests::agent::Agent;

#[test]
fn what_cannot_be_meant_approves_nothing() {
    let mut shop = Shop::on_sqlite();
    let (_, job) = shop.waits();
    let queued = shop.agent.ok(&["submit", "shop"]).stdout.trim().to_owned();
    let digest = shop.show(&job)["plan_digest"].as_str().unwrap().to_owned();
    let before = shop.show(&job);
    shop.be("ben");
    let wrong = if digest.starts_with('0') { "1".repeat(12) } else { "0".repeat(12) };
    let long = "x".repeat(1001);
    for (arguments, code, words) in [
        (vec!["ffffffff"], 3, "there is no job ffffffff"),
        (vec!["01980000-0000-7000-8000-000000000000"], 3, "there is no job"),
        (vec!["0"], 2, "more than one job id begins with 0"),
        (vec!["%"], 3, "there is no job %"),
        (vec![&queued], 3, "is queued, not waiting for approval; nothing was approved"),
        (vec![&job, "--plan", &wrong], 3, "not with"),
        (vec![&job, "--plan", &digest[..7]], 2, "at least 8 digits"),
        (vec![&job, "--plan", ""], 2, "at least 8 digits"),
        (vec![&job, "--plan", "no-digest"], 2, "at least 8 digits"),
        (vec![&job, "--plan", &digest[1..]], 3, "not with"),
        (vec![&job, "--comment", "  "], 2, "it is empty"),
        (vec![&job, "--comment", &long], 2, "more than 1000 characters"),
        (vec![], 2, "<JOB>"),
    ] {
        let run = shop.agent.run(&[&["approve"][..], &arguments].concat()).expect_code(code);
        assert!(run.stderr.contains(words), "{arguments:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{arguments:?}");
        assert_eq!(shop.show(&job), before, "{arguments:?}");
    }
    // The beginning of the digest as it is shown is enough, in any case, and words are kept as they are.
    let plan = digest[..12].to_uppercase();
    let odd = "fine\u{1b}[2J\nnew line";
    shop.agent.ok(&["approve", &job, "--plan", &plan, "--comment", odd]);
    let shown = shop.agent.ok(&["show", &job]).stdout;
    assert!(!shown.contains('\u{1b}') && shown.contains("\\u{1b}[2J\\nnew line"), "{shown}");
    assert_eq!(shop.show(&job)["approval_comment"], odd);
}

#[test]
fn without_a_record_nothing_is_approved_and_none_is_made() {
    let agent = Agent::worker().with_config("[database.shop]\nurl = \"sqlite:shop.db\"\n");
    let run = agent.run(&["approve", "0198c2e7"]).expect_code(3);
    assert!(run.stderr.contains("no record of tasks"), "{}", run.stderr);
    assert_eq!(std::fs::read_dir(agent.home()).unwrap().count(), 1, "only the configuration is there");
}

#[test]
fn a_key_that_is_no_yes_or_no_is_a_mistake_in_the_configuration() {
    let config = "[database.shop]\nurl = \"sqlite:shop.db\"\n\
                  migrations = { runner = \"sql\", directory = \"m\", approval = \"ben\" }\n";
    let run = Agent::worker().with_config(config).run(&["status"]);
    assert!(run.code != Some(0) && run.stderr.contains("expected a boolean"), "{}", run.stderr);
}
