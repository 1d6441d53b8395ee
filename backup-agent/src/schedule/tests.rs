//! A table written by hand, what is refused, and a walk through every minute as the oracle.

mod oracle;
mod table;

use super::*;
use jiff::Timestamp;
use std::time::Instant;

pub(super) fn schedule_in(cron: &str, zone: &str) -> Result<Schedule, InvalidSchedule> {
    Schedule::parse(&ScheduleConfig { cron: cron.into(), timezone: Some(zone.into()), jitter: None })
}

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn with_jitter(cron: &str, seconds: u64) -> Result<Schedule, InvalidSchedule> {
    let jitter = Some(Time(Duration::from_secs(seconds)));
    Schedule::parse(&ScheduleConfig { cron: cron.into(), timezone: None, jitter })
}

#[test]
fn what_is_no_schedule_is_refused_and_the_field_named() {
    for (cron, expected) in [
        ("", "has 0 fields; it needs five: minute, hour, day of month, month, day of week"),
        (" \t ", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("* * * * * *", "has 6 fields"),
        ("0 0 2 * * * 2025", "has 7 fields"),
        ("@reboot", "\"@reboot\" is not known"),
        ("@every 5m", "is not known"),
        ("@", "is not known"),
        ("60 25 * * *", "the minute of cron, \"60\", is wrong: \"60\" is no number from 0 to 59"),
        ("0 25 * * *", "the hour of cron, \"25\""),
        ("0 24 * * *", "the hour of cron, \"24\""),
        ("0 0 0 * *", "the day of month of cron, \"0\""),
        ("0 0 32 * *", "no number from 1 to 31"),
        ("0 0 * 0 *", "the month of cron, \"0\""),
        ("0 0 * 13 *", "the month of cron, \"13\""),
        ("0 0 * * 8", "the day of week of cron, \"8\", is wrong: \"8\" is neither a number from 0 to 7"),
        ("0 0 * * monday", "nor one of sun, mon,"),
        ("0 0 * mon *", "the month of cron"),
        ("0 0 jan * *", "the day of month of cron"),
        ("*/0 * * * *", "a step of 0 goes nowhere"),
        ("*/90 * * * *", "a step of 90 is wider than the field, which ends at 59"),
        ("*/ * * * *", "\"\" is no step"),
        ("*/x * * * *", "\"x\" is no step"),
        ("5/15 * * * *", "a step needs a range: write 5-59/…"),
        ("*/5/5 * * * *", "\"5/5\" is no step"),
        ("10-5 * * * *", "runs backwards: write two, like 10-59,0-5"),
        ("0 22-4 * * *", "runs backwards: write two, like 22-23,0-4"),
        ("0 0 * * sat-mon", "runs backwards"),
        ("1, * * * *", "\"\" is no number"),
        (",1 * * * *", "\"\" is no number"),
        ("1-2-3 * * * *", "\"2-3\" is no number"),
        ("- * * * *", "the minute of cron"),
        ("-1 * * * *", "the minute of cron"),
        ("+5 * * * *", "\"+5\" is no number"),
        ("0x5 * * * *", "\"0x5\" is no number"),
        ("٣ * * * *", "is no number"),
        ("4294967296 * * * *", "is no number"),
        ("** * * * *", "\"**\" is no number"),
        ("? * * * *", "\"?\" is no number"),
        ("0 0 L * *", "\"L\" is no number"),
        ("0 0 * * 5#2", "the day of week of cron"),
        ("0 0 * * 1-5 # weekdays", "has 7 fields"),
        ("CRON_TZ=UTC 0 0 * * *", "has 6 fields"),
        ("0 0 31 2 *", "cron \"0 0 31 2 *\" never fires"),
        ("0 0 30 feb *", "never fires"),
        ("0 0 31 2,4,6,9,11 *", "never fires"),
        ("0 0 31 2 */2", "never fires"),
    ] {
        let error = schedule_in(cron, "UTC").expect_err(cron).to_string();
        assert!(error.contains(expected), "{cron:?}: {error}");
    }
    let error = schedule_in(&"* ".repeat(5000), "UTC").expect_err("long").to_string();
    assert!(error.contains("10000 bytes long") && error.len() < 100, "{error}");
}

#[test]
fn an_unknown_time_zone_is_refused_with_the_nearest_one() {
    for (zone, expected) in [
        ("Berlin", "did you mean \"Europe/Berlin\"?"),
        ("Europe/Berln", "did you mean \"Europe/Berlin\"?"),
        ("Mars/X", "\"Mars/X\" is not known"),
        ("", "\"\" is not known"),
        ("+02:00", "is not known"),
        ("Etc/Unknown", "is not known"),
        ("../../etc/passwd", "is not known"),
    ] {
        let error = schedule_in("0 2 * * *", zone).expect_err(zone).to_string();
        assert!(error.contains(expected), "{zone:?}: {error}");
    }
    assert!(schedule_in("0 2 * * *", "Europe/Berlin").is_ok_and(|schedule| schedule.zone().iana_name().is_some()));
}

#[test]
fn a_0230_job_has_exactly_one_slot_on_each_local_day_of_three_years() {
    for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"] {
        let schedule = schedule_in("30 2 * * *", zone).expect("valid");
        let mut day: jiff::civil::Date = "2024-06-01".parse().expect("valid");
        let noon = day.at(12, 0, 0, 0).to_zoned(schedule.zone().clone()).expect("noon exists").timestamp();
        for slot in schedule.slots_after(noon).take(3 * 365) {
            day = day.tomorrow().expect("not the last day");
            assert_eq!(slot.to_zoned(schedule.zone().clone()).date(), day, "{zone}");
        }
    }
}

#[test]
fn the_latest_slot_is_the_last_of_those_between_and_found_quickly() {
    let now = at("2025-11-21T11:18:02.5Z");
    let since = ["1970-01-01T00:00Z", "-000500-01-01T00:00Z", "2025-10-12T11:18:02Z", "2025-11-21T11:00Z"];
    for cron in ["* * * * *", "0 2 * * *", "*/7 0-5 * 1 *", "30 2 29 2 *", "@yearly", "15 2 * * sun"] {
        for zone in ["UTC", "Europe/Berlin", "Pacific/Apia"] {
            let schedule = schedule_in(cron, zone).expect("valid");
            for since in since.map(at) {
                let began = Instant::now();
                let found = schedule.latest_slot(since, now);
                assert!(began.elapsed() < Duration::from_secs(2), "{cron} {zone} {since}");
                // Four hours and forty days are walked through; since 1970 only what is rare.
                let is_rare = cron.contains("29 2") || cron == "@yearly";
                if since > at("2000-01-01T00:00Z") || is_rare {
                    let all = schedule.slots_after(since).take_while(|slot| *slot <= now).last();
                    assert_eq!(found, all, "{cron} {zone} {since}");
                }
                let Some(found) = found else { continue };
                assert!(found > since && found <= now);
                assert!(schedule.slots_after(found).next().is_none_or(|next| next > now), "{cron} {zone} {since}");
            }
        }
    }
    let daily = schedule_in("0 2 * * *", "UTC").expect("valid");
    let slot = at("2025-11-21T02:00Z");
    assert_eq!(daily.latest_slot(at("2025-11-20T02:00Z"), slot), Some(slot), "now itself counts");
    assert_eq!(daily.latest_slot(slot, at("2025-11-22T01:59:59.999Z")), None, "since itself does not");
    assert_eq!(daily.latest_slot(now, at("1970-01-01T00:00Z")), None, "a clock that was set back");
}

#[test]
fn a_slot_is_found_at_any_time_jiff_knows() {
    let schedule = schedule_in("0 2 * * *", "America/New_York").expect("valid");
    assert_eq!(schedule.slots_after(Timestamp::MIN).next(), Some(at("1970-01-01T02:00-05:00")));
    assert_eq!(schedule.slots_after(at("1969-12-31T23:59:59.999Z")).next(), Some(at("1970-01-01T02:00-05:00")));
    assert_eq!(schedule.slots_after(Timestamp::MAX).next(), None);
    assert_eq!(schedule.latest_slot(Timestamp::MIN, Timestamp::MAX), Some(at("2100-12-31T02:00-05:00")));
    let last = schedule.slots_after(at("2100-12-31T00:00Z")).last();
    assert_eq!(last, Some(at("2100-12-31T02:00-05:00")));
}

#[test]
fn a_delay_is_the_same_for_one_name_and_spread_over_many() {
    let schedule = with_jitter("0 2 * * *", 600).expect("valid");
    assert_eq!(schedule.delay("shop"), schedule.delay("shop"));
    let delays: Vec<u64> = (0..1000).map(|n| schedule.delay(&format!("db-{n}")).as_secs()).collect();
    assert!(delays.iter().all(|delay| *delay < 600));
    for tenth in 0..10 {
        let within = delays.iter().filter(|delay| **delay / 60 == tenth).count();
        assert!((60..=140).contains(&within), "{within} of 1000 in minute {tenth}");
    }
    assert_eq!(schedule_in("0 2 * * *", "UTC").expect("valid").delay("shop"), Duration::ZERO);
    assert_eq!(with_jitter("0 2 * * *", 0).expect("valid").delay("shop"), Duration::ZERO);
    assert!(with_jitter("0 2 * * *", 86_400).is_ok());
    assert_eq!(with_jitter("0 2 * * *", 90_000).expect_err("25 h").to_string(), "jitter 1d 1h is longer than a day");
}

#[test]
fn the_interval_is_the_longest_gap_ahead() {
    let hours = |cron: &str, zone: &str, around: &str| {
        let schedule = schedule_in(cron, zone).expect(cron);
        schedule.interval(at(around)).as_secs() / 3600
    };
    assert_eq!(hours("0 2 * * *", "UTC", "2025-01-01T00:00Z"), 24);
    assert_eq!(hours("0 2 * * *", "Europe/Berlin", "2025-10-01T00:00Z"), 25, "clocks go back within two months");
    assert_eq!(hours("0 2 * * 1-5", "UTC", "2025-01-01T00:00Z"), 72, "over the weekend");
    assert_eq!(hours("* * * * 1-5", "UTC", "2025-01-06T00:00Z"), 48, "even for a busy one");
    assert_eq!(hours("0 0 1 * *", "UTC", "2025-01-15T00:00Z"), 31 * 24, "three where two months hold fewer");
    assert_eq!(hours("@yearly", "UTC", "2025-06-01T00:00Z"), 365 * 24);
    assert_eq!(hours("0 0 29 2 *", "UTC", "2025-06-01T00:00Z"), 1461 * 24);
    assert_eq!(hours("@yearly", "UTC", "2100-06-01T00:00Z"), 0);
}

#[test]
fn a_schedule_says_what_it_is() {
    let shown = |cron: &str, timezone: Option<&str>, jitter: Option<u64>| {
        let jitter = jitter.map(|seconds| Time(Duration::from_secs(seconds)));
        let config = ScheduleConfig { cron: cron.into(), timezone: timezone.map(str::to_owned), jitter };
        Schedule::parse(&config).expect(cron).to_string()
    };
    assert_eq!(shown(" 0  2 * *\t* ", None, None), "0 2 * * * (UTC)");
    let all = shown("0 2 * * *", Some("europe/berlin"), Some(600));
    assert_eq!(all, "0 2 * * * (Europe/Berlin, up to 10m later)");
}
