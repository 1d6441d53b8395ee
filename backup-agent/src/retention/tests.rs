//! Policies and their reasons as tables, and what must hold of any policy and any set of backups.

mod properties;

use super::*;

/// Rules written like those of the configuration: `last 7, daily 3, within 3d, min 2`.
pub(super) fn config(text: &str) -> RetentionConfig {
    let mut config = RetentionConfig::default();
    for rule in text.split(',').map(str::trim).filter(|rule| !rule.is_empty()) {
        let (name, value) = rule.split_once(' ').expect("a name and a number");
        let number = value.parse().ok();
        match name {
            "last" => config.last = number,
            "hourly" => config.hourly = number,
            "daily" => config.daily = number,
            "weekly" => config.weekly = number,
            "monthly" => config.monthly = number,
            "yearly" => config.yearly = number,
            "min" => config.min = number,
            "within" => config.within = Some(Time::try_from(value.to_owned()).expect("a time")),
            other => panic!("{other}"),
        }
    }
    config
}

pub(super) fn retention(text: &str) -> Retention {
    Retention::from_config(&config(text)).unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A complete backup of a moment; a letter behind it says what it is not or also is: i(ncomplete), p(roven), h(eld).
fn backup(text: &str) -> Candidate {
    let (moment, letters) = text.split_once(' ').unwrap_or((text, ""));
    Candidate {
        id: BackupId::new(at(moment), [1, 2, 3]),
        is_complete: !letters.contains('i'),
        is_proven: letters.contains('p'),
        holds: letters.contains('h').then(|| "alice: audit".into()).into_iter().collect(),
    }
}

/// The reasons of what stays and, in brackets, of what goes; newest first.
fn planned(rules: &str, zone: &str, now: &str, backups: &[&str]) -> Vec<String> {
    let zone = TimeZone::get(zone).expect("zone data");
    let backups: Vec<Candidate> = backups.iter().map(|text| backup(text)).collect();
    let verdicts = retention(rules).plan(&backups, at(now), &zone);
    let shown = verdicts.iter().rev().map(|verdict| {
        let text = verdict.reasons.join("; ");
        if verdict.keep { text } else { format!("({text})") }
    });
    shown.collect()
}

const NOW: &str = "2025-03-01T00:00Z";

#[test]
fn a_policy_that_keeps_nothing_or_too_much_is_refused() {
    let refused = |text: &str| Retention::from_config(&config(text)).expect_err(text).to_string();
    for nothing in ["", "last 0", "last 0, daily 0, yearly 0", "within 0s"] {
        assert!(refused(nothing).contains("keeps nothing"), "{nothing}");
    }
    for zero in ["min 0", "last 7, min 0"] {
        assert!(refused(zero).contains("min is 0"), "{zero}");
    }
    assert_eq!(
        refused("daily 100001"),
        "retention daily = 100001 is more than 100000; to keep everything, leave retention out"
    );
    for absurd in ["last 4294967295", "hourly 4294967295", "min 200000", "yearly 200000"] {
        assert!(refused(absurd).contains("is more than 100000"), "{absurd}");
    }
    for fine in ["min 1", "last 1", "within 3d", "last 100000, within 365000d"] {
        retention(fine);
    }
    assert_eq!(retention("within 72h, daily 7, last 3, weekly 0").to_string(), "last 3, daily 7, within 3d, min 1");
}

#[test]
fn each_rule_says_what_it_keeps() {
    for (rules, backups, expected) in [
        (
            "last 2",
            &["2025-02-01T02:00Z", "2025-02-02T02:00Z", "2025-02-03T02:00Z"][..],
            &["last 1 of 2; min 1; the newest complete backup", "last 2 of 2", "(no rule keeps it)"][..],
        ),
        (
            "daily 2",
            &["2025-01-31T23:59Z", "2025-02-02T02:00Z", "2025-02-02T23:00Z", "2025-01-31T01:00Z", "2025-01-30T02:00Z"],
            &[
                "daily 2025-02-02; min 1; the newest complete backup",
                "(no rule keeps it)",
                "daily 2025-01-31",
                "(no rule keeps it)",
                "(no rule keeps it)",
            ],
        ),
        (
            // Weeks begin on Monday: the 2nd of February 2025 is a Sunday. Years of weeks are ISO's.
            "weekly 3",
            &["2024-12-30T02:00Z", "2025-01-27T02:00Z", "2025-02-02T02:00Z", "2025-02-03T02:00Z"],
            &[
                "weekly 2025-W06; min 1; the newest complete backup",
                "weekly 2025-W05",
                "(no rule keeps it)",
                "weekly 2025-W01",
            ],
        ),
        (
            "monthly 2, yearly 2",
            &["2023-06-01T00:00Z", "2024-11-01T00:00Z", "2024-12-31T00:00Z", "2025-02-01T00:00Z"],
            &[
                "monthly 2025-02; yearly 2025; min 1; the newest complete backup",
                "monthly 2024-12; yearly 2024",
                "(no rule keeps it)",
                "(no rule keeps it)",
            ],
        ),
        (
            "within 1d, min 3",
            &[
                "2025-01-01T00:00Z",
                "2025-01-02T00:00Z",
                "2025-02-02T01:59:59Z",
                "2025-02-02T02:00Z",
                "2025-02-03T02:00Z",
            ],
            &[
                "within 1d; min 3; the newest complete backup",
                "within 1d; min 3",
                "min 3",
                "(no rule keeps it)",
                "(no rule keeps it)",
            ],
        ),
    ] {
        assert_eq!(planned(rules, "UTC", NOW, backups), expected, "{rules}");
    }
}

#[test]
fn periods_are_those_of_the_time_zone() {
    let two = ["2025-01-31T22:30Z", "2025-01-31T23:30Z"];
    let (berlin, utc) = (planned("daily 7", "Europe/Berlin", NOW, &two), planned("daily 7", "UTC", NOW, &two));
    assert_eq!(berlin, ["daily 2025-02-01; min 1; the newest complete backup", "daily 2025-01-31"]);
    assert_eq!(utc, ["daily 2025-01-31; min 1; the newest complete backup", "(no rule keeps it)"]);
    // The hour from two to three exists twice, and has a backup each time.
    let twice = ["2025-10-26T00:30Z", "2025-10-26T01:30Z"];
    assert_eq!(
        planned("hourly 2", "Europe/Berlin", "2026-01-01T00:00Z", &twice),
        ["hourly 2025-10-26 02h +01:00; min 1; the newest complete backup", "hourly 2025-10-26 02h +02:00"]
    );
}

#[test]
fn proven_newest_and_held_backups_stay_whatever_the_rules_say() {
    let backups = ["2025-01-01T00:00Z h", "2025-01-02T00:00Z p", "2025-01-03T00:00Z p", "2025-01-04T00:00Z"];
    assert_eq!(
        planned("last 1", "UTC", NOW, &backups),
        [
            "last 1 of 1; min 1; the newest complete backup",
            "the newest proven backup",
            "(no rule keeps it)",
            "on hold by alice: audit"
        ]
    );
}

#[test]
fn a_damaged_backup_stays_while_it_is_the_newest_proven_one_or_none_is_complete() {
    let damaged = ["2025-01-01T00:00Z p", "2025-01-02T00:00Z ip", "2025-01-04T00:00Z"];
    assert_eq!(
        planned("last 1", "UTC", NOW, &damaged),
        [
            "last 1 of 1; min 1; the newest complete backup",
            "the newest proven backup, though damaged",
            "the newest proven backup"
        ]
    );
    let none = planned("last 1", "UTC", NOW, &["2025-01-01T00:00Z i", "2025-01-02T00:00Z i"]);
    assert_eq!(none[1], "not complete: stays until a newer one is");
}

#[test]
fn an_unfinished_backup_stays_for_two_days_and_then_only_in_a_place_of_its_own() {
    let backups = [
        "2025-02-27T23:00Z i",
        "2025-01-15T00:00Z i",
        "2025-02-20T00:00Z i",
        "2025-02-28T12:00Z",
        "2025-02-28T18:00Z i",
    ];
    let mut backups = backups.to_vec();
    backups.push("2025-02-21T00:00Z");
    assert_eq!(
        planned("monthly 2", "UTC", NOW, &backups),
        [
            "not complete: stays until a newer one is; not complete, but younger than 2d; \
             not complete; if it were, monthly 2025-02; not complete; if it were, min 1",
            "monthly 2025-02; min 1; the newest complete backup",
            "not complete, but younger than 2d",
            "(no rule keeps it)",
            "(not complete, and newer ones are)",
            "not complete; if it were, monthly 2025-01",
        ]
    );
}

#[test]
fn a_wrong_clock_lets_nothing_go() {
    let backups = ["2025-01-01T00:00Z", "2025-01-02T00:00Z", "2025-01-03T00:00Z"];
    let at_1970 = planned("last 1", "UTC", "1970-01-01T00:00Z", &backups);
    assert!(at_1970.iter().all(|text| text.contains("dated after now")), "{at_1970:?}");
    // Forty days ahead, or a thousand years: age is counted from the newest.
    let soon = planned("within 1d", "UTC", "2025-01-03T00:00Z", &backups);
    assert_eq!(planned("within 1d", "UTC", "2025-02-12T00:00Z", &backups), soon);
    assert_eq!(planned("within 1d", "UTC", "3025-01-01T00:00Z", &backups), soon);
    // One that was made under a clock that ran ahead takes nobody's place.
    let ahead = planned("last 1", "UTC", NOW, &["2025-01-01T00:00Z p", "2025-01-02T00:00Z", "2099-01-03T00:00Z p"]);
    assert_eq!(
        ahead,
        [
            "dated after now, 2099-01-03T00:00:00Z: some clock was wrong; the newest complete backup; the newest proven backup",
            "last 1 of 1; min 1",
            "the newest proven backup of the past",
        ]
    );
    assert_eq!(planned("last 1", "UTC", NOW, &[]), Vec::<String>::new());
}
