//! What must hold of any policy and any set of backups.

use super::{at, config, retention};
use crate::retention::{Candidate, Verdict};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use shared::config::RetentionConfig;
use shared::model::BackupId;
use std::collections::BTreeSet;

const SEED: u64 = 7_412;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn backups(&mut self) -> Vec<Candidate> {
        // From minutes to weeks apart, so that every period is met.
        let scale = [600, 7200, 86_400, 1_000_000][self.below(4) as usize];
        let mut second = at("2023-12-20T00:00Z").as_second();
        let mut backups = Vec::new();
        for number in 0..self.below(60) {
            second += 1 + self.below(scale) as i64;
            let instant = Timestamp::from_second(second).expect("in range");
            backups.push(Candidate {
                id: BackupId::new(instant, [0, 0, number as u8]),
                is_complete: self.below(5) > 0,
                is_proven: self.below(4) == 0,
                holds: if self.below(12) == 0 { vec!["bob: why".into()] } else { vec![] },
            });
        }
        backups
    }

    fn rules(&mut self) -> String {
        let names = ["last", "hourly", "daily", "weekly", "monthly", "yearly", "min"];
        let mut rules = Vec::new();
        for name in names {
            if self.below(3) == 0 {
                rules.push(format!("{name} {}", 1 + self.below(9)));
            }
        }
        if self.below(4) == 0 || rules.is_empty() {
            rules.push(format!("within {}h", 1 + self.below(400)));
        }
        rules.join(", ")
    }
}

fn kept(verdicts: &[Verdict]) -> BTreeSet<BackupId> {
    verdicts.iter().filter(|verdict| verdict.keep).map(|verdict| verdict.id.clone()).collect()
}

/// Runs a check on 600 random cases: rules, backups, now, zone.
fn on_random_cases(check: impl Fn(&mut Random, &str, &[Candidate], Timestamp, &TimeZone)) {
    let mut random = Random(SEED);
    for turn in 0..600 {
        let (backups, rules) = (random.backups(), random.rules());
        let end = backups.last().map_or(at("2025-01-01T00:00Z"), |backup| backup.id.second());
        // Mostly soon after the newest, sometimes between them.
        let shift = random.below(400_000) as i64 - if turn % 5 == 0 { 3_000_000 } else { 0 };
        let now = Timestamp::from_second(end.as_second() + shift).expect("in range");
        let zone = TimeZone::get(["UTC", "Europe/Berlin", "Pacific/Apia"][turn % 3]).expect("zone data");
        println!("seed {SEED}, turn {turn}: {rules}, {} backups, now {now}", backups.len());
        check(&mut random, &rules, &backups, now, &zone);
    }
}

#[test]
fn what_must_never_go_stays_under_any_policy() {
    on_random_cases(|_, rules, backups, now, zone| {
        let verdicts = retention(rules).plan(backups, now, zone);
        let kept = kept(&verdicts);
        assert_eq!(verdicts.len(), backups.len());
        assert!(verdicts.iter().all(|verdict| !verdict.reasons.is_empty()));
        let newest = |wanted: &dyn Fn(&Candidate) -> bool| backups.iter().filter(|b| wanted(b)).max_by_key(|b| &b.id);
        let is_past = |backup: &Candidate| backup.id.second() <= now;
        for must in [
            newest(&|backup| backup.is_complete),
            newest(&|backup| backup.is_proven),
            newest(&|backup| backup.is_proven && backup.is_complete),
            newest(&|backup| backup.is_complete && is_past(backup)),
            newest(&|backup| backup.is_proven && backup.is_complete && is_past(backup)),
            newest(&|_| true),
        ] {
            assert!(must.is_none_or(|must| kept.contains(&must.id)), "{must:?}");
        }
        for backup in backups.iter().filter(|backup| !backup.holds.is_empty() || !is_past(backup)) {
            assert!(kept.contains(&backup.id), "{backup:?}");
        }
        let complete = || backups.iter().filter(|backup| backup.is_complete);
        let min = config(rules).min.unwrap_or(1) as usize;
        let left = complete().filter(|backup| kept.contains(&backup.id)).count();
        assert!(left >= min.min(complete().count()), "{left} left, min {min}");
        if complete().next().is_none() {
            assert_eq!(kept.len(), backups.len(), "none is complete");
        }
    });
}

#[test]
fn one_more_rule_lets_nothing_go_that_stayed() {
    on_random_cases(|random, rules, backups, now, zone| {
        let more = format!("{rules}, {}", random.rules());
        let (fewer_rules, more_rules) = (config(rules), config(&more));
        // A rule that stands twice counts with its larger number.
        let larger = RetentionConfig {
            last: fewer_rules.last.max(more_rules.last),
            hourly: fewer_rules.hourly.max(more_rules.hourly),
            daily: fewer_rules.daily.max(more_rules.daily),
            weekly: fewer_rules.weekly.max(more_rules.weekly),
            monthly: fewer_rules.monthly.max(more_rules.monthly),
            yearly: fewer_rules.yearly.max(more_rules.yearly),
            within: [fewer_rules.within, more_rules.within].into_iter().flatten().max_by_key(|time| time.0),
            min: fewer_rules.min.max(more_rules.min),
        };
        let larger = crate::retention::Retention::from_config(&larger).expect("valid");
        let before = kept(&retention(rules).plan(backups, now, zone));
        assert!(before.is_subset(&kept(&larger.plan(backups, now, zone))), "{more}");
    });
}

#[test]
fn deciding_again_about_what_is_kept_keeps_all_of_it() {
    on_random_cases(|_, rules, backups, now, zone| {
        let first = kept(&retention(rules).plan(backups, now, zone));
        let left: Vec<Candidate> = backups.iter().filter(|backup| first.contains(&backup.id)).cloned().collect();
        assert_eq!(kept(&retention(rules).plan(&left, now, zone)), first);
    });
}

#[test]
fn the_order_backups_come_in_does_not_matter() {
    on_random_cases(|random, rules, backups, now, zone| {
        let mut shuffled = backups.to_vec();
        for at in (1..shuffled.len()).rev() {
            shuffled.swap(at, random.below(at as u64 + 1) as usize);
        }
        assert_eq!(retention(rules).plan(&shuffled, now, zone), retention(rules).plan(backups, now, zone));
    });
}

#[test]
fn the_random_cases_let_enough_go_to_test_anything() {
    let gone = std::cell::Cell::new(0);
    on_random_cases(|_, rules, backups, now, zone| {
        let verdicts = retention(rules).plan(backups, now, zone);
        gone.set(gone.get() + verdicts.iter().filter(|verdict| !verdict.keep).count());
    });
    assert!(gone.get() > 3000, "the cases let only {} backups go, and so test little", gone.get());
}
