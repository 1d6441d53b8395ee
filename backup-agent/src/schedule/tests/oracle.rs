//! Random schedules against a walk through every minute, which knows nothing of how slots are computed.

use super::{at, schedule_in};
use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

/// A small generator, so that a seed gives the same schedules for ever.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// A field as a text and as the plain set of what it stands for.
struct Drawn {
    text: String,
    values: BTreeSet<i8>,
}

fn draw(random: &mut Random, low: i8, high: i8) -> Drawn {
    let within = |random: &mut Random, low: i8| low + random.below((high - low + 1) as u64) as i8;
    match random.below(5) {
        0 | 1 => Drawn { text: "*".into(), values: (low..=high).collect() },
        2 => {
            let step = 1 + random.below(high as u64) as i8;
            Drawn { text: format!("*/{step}"), values: (low..=high).step_by(step as usize).collect() }
        }
        3 => {
            let first = within(random, low);
            let last = within(random, first);
            Drawn { text: format!("{first}-{last}"), values: (first..=last).collect() }
        }
        _ => {
            let values: Vec<i8> = (0..=random.below(3)).map(|_| within(random, low)).collect();
            let text: Vec<String> = values.iter().map(i8::to_string).collect();
            Drawn { text: text.join(","), values: values.into_iter().collect() }
        }
    }
}

/// Minute, hour, day, month, weekday.
struct Line([Drawn; 5]);

impl Line {
    fn draw(random: &mut Random) -> Self {
        Line([(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)].map(|(low, high)| draw(random, low, high)))
    }

    fn text(&self) -> String {
        self.0.iter().map(|field| field.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    fn matches(&self, time: DateTime) -> bool {
        let [minute, hour, day, month, weekday] = &self.0;
        let number = if time.weekday() == Weekday::Sunday { 0 } else { time.weekday().to_monday_one_offset() };
        let (in_month, in_week) = (day.values.contains(&time.day()), weekday.values.contains(&number));
        let is_free = day.text.starts_with('*') || weekday.text.starts_with('*');
        minute.values.contains(&time.minute())
            && hour.values.contains(&time.hour())
            && month.values.contains(&time.month())
            && if is_free { in_month && in_week } else { in_month || in_week }
    }
}

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// All slots in `(from, to]`: each minute is looked at on the wall clock.
fn walk(line: &Line, zone: &TimeZone, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let is_hourly = line.0[1].values.len() == 24;
    let (mut slots, mut now) = (Vec::new(), from);
    // The first wall-clock minute that was never shown; a day back is enough for a hand to be set.
    let mut unseen = zone.to_datetime(from) + MINUTE;
    while now < to {
        now += MINUTE;
        let shown = zone.to_datetime(now);
        let mut is_due = is_hourly && line.matches(shown);
        while unseen <= shown {
            is_due |= !is_hourly && line.matches(unseen);
            unseen += MINUTE;
        }
        if is_due {
            slots.push(now);
        }
    }
    slots
}

#[test]
fn random_schedules_fire_when_a_walk_through_every_minute_says_so() {
    const SEED: u64 = 20_250_330;
    let mut random = Random(SEED);
    let periods = [
        ("UTC", "2024-02-20T00:00Z", "2024-03-10T00:00Z"),
        ("Europe/Berlin", "2025-03-25T00:00Z", "2025-04-02T00:00Z"),
        ("Europe/Berlin", "2025-10-22T00:00Z", "2025-11-02T00:00Z"),
        ("America/New_York", "2025-03-06T00:00Z", "2025-03-12T00:00Z"),
        ("America/New_York", "2025-10-30T00:00Z", "2025-11-05T00:00Z"),
        ("Australia/Lord_Howe", "2025-10-02T00:00Z", "2025-10-08T00:00Z"),
        ("Australia/Lord_Howe", "2025-04-03T00:00Z", "2025-04-09T00:00Z"),
        ("Pacific/Apia", "2011-12-27T00:00Z", "2012-01-03T00:00Z"),
        ("America/Sao_Paulo", "2018-11-02T00:00Z", "2018-11-06T00:00Z"),
        ("America/Sao_Paulo", "2018-02-16T00:00Z", "2018-02-20T00:00Z"),
        ("Africa/Casablanca", "2025-02-20T00:00Z", "2025-04-10T00:00Z"),
    ];
    let mut fired = 0;
    for turn in 0..60 {
        let line = Line::draw(&mut random);
        for (name, from, to) in periods {
            let (from, to) = (at(from), at(to));
            // What never fires is refused, and has its own test.
            let Ok(schedule) = schedule_in(&line.text(), name) else { continue };
            let found: Vec<_> = schedule.slots_after(from).take_while(|slot| *slot <= to).collect();
            let expected = walk(&line, schedule.zone(), from, to);
            assert_eq!(found, expected, "seed {SEED}, turn {turn}: {} in {name}", line.text());
            assert_eq!(schedule.latest_slot(from, to), expected.last().copied(), "seed {SEED}, turn {turn}: {name}");
            fired += found.len();
        }
    }
    assert!(fired > 10_000, "only {fired} slots were compared");
}
