//! The five fields of a crontab line, as people write them.

use super::InvalidSchedule;

/// What a field may hold.
pub(super) struct Kind {
    /// Its name in messages.
    pub(super) name: &'static str,
    low: u8,
    high: u8,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const KINDS: [Kind; 5] = [
    Kind { name: "minute", low: 0, high: 59, names: &[] },
    Kind { name: "hour", low: 0, high: 23, names: &[] },
    Kind { name: "day of month", low: 1, high: 31, names: &[] },
    Kind { name: "month", low: 1, high: 12, names: &MONTHS },
    // 0 and 7 are both Sunday.
    Kind { name: "day of week", low: 0, high: 7, names: &WEEKDAYS },
];
const SHORTHANDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
/// Longer texts are no mistake worth repeating in a message.
const LONGEST: usize = 200;

/// One field: which values it allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// Bit n stands for value n; Sunday is 0 only.
    values: u64,
    /// Whether it begins with `*`, which decides how the two fields of days go together.
    pub(super) is_star: bool,
}

impl Field {
    /// The values, ascending.
    pub(super) fn values(self) -> impl Iterator<Item = u8> {
        (0..64).filter(move |value| self.values >> value & 1 == 1)
    }

    /// Whether it allows each of `0..count`.
    pub(super) fn has_all_below(self, count: u8) -> bool {
        self.values().count() == usize::from(count)
    }
}

/// The five fields in the order they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) minute: Field,
    pub(super) hour: Field,
    pub(super) day: Field,
    pub(super) month: Field,
    pub(super) weekday: Field,
}

impl Fields {
    /// Understands five fields, or `@daily` and the like.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidSchedule> {
        if text.len() > LONGEST {
            return Err(InvalidSchedule::Long { bytes: text.len() });
        }
        let text = text.trim();
        if text.starts_with('@') {
            let known = SHORTHANDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
            let (_, fields) = known.ok_or_else(|| InvalidSchedule::Shorthand { text: text.to_owned() })?;
            return Self::parse(fields);
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let &[minute, hour, day, month, weekday] = words.as_slice() else {
            return Err(InvalidSchedule::Count { text: text.to_owned(), count: words.len() });
        };
        let [minutes, hours, days, months, weekdays] = &KINDS;
        let mut weekday = parse(weekdays, weekday)?;
        weekday.values = (weekday.values | weekday.values >> 7) & 0x7f;
        Ok(Fields {
            minute: parse(minutes, minute)?,
            hour: parse(hours, hour)?,
            day: parse(days, day)?,
            month: parse(months, month)?,
            weekday,
        })
    }
}

fn parse(kind: &Kind, text: &str) -> Result<Field, InvalidSchedule> {
    let mut values = 0;
    for part in text.split(',') {
        values |= element(kind, part).map_err(|why| InvalidSchedule::Field {
            field: kind.name,
            text: text.to_owned(),
            why,
        })?;
    }
    Ok(Field { values, is_star: text.starts_with('*') })
}

/// One element of a list: `*`, a value, a range, each but the value with a step.
fn element(kind: &Kind, text: &str) -> Result<u64, String> {
    let (range, step) = match text.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (text, None),
    };
    let (first, last) = match range.split_once('-') {
        _ if range == "*" => (kind.low, kind.high - u8::from(kind.high == 7)),
        Some((first, last)) => {
            let (first, end) = (value(kind, first)?, value(kind, last)?);
            // fri-sun: at the end of a range sun is day 7.
            let last = if end == 0 && first > 0 && !last.starts_with('0') { 7 } else { end };
            (first, last)
        }
        None if step.is_some() => return Err(format!("a step needs a range: write {range}-{}/…", kind.high)),
        None => value(kind, range).map(|value| (value, value))?,
    };
    if first > last {
        return Err(format!(
            "the range {range} runs backwards: write two, like {first}-{},{}-{last}",
            kind.high, kind.low
        ));
    }
    let step = step.map_or(Ok(1), |step| step_of(kind, step))?;
    Ok((first..=last).step_by(step).fold(0, |values, value| values | 1 << value))
}

fn step_of(kind: &Kind, text: &str) -> Result<usize, String> {
    match digits(text) {
        Some(0) => Err("a step of 0 goes nowhere".into()),
        Some(step) if step <= u32::from(kind.high) => Ok(step as usize),
        Some(step) => Err(format!("a step of {step} is wider than the field, which ends at {}", kind.high)),
        None => Err(format!("{text:?} is no step: write a number")),
    }
}

fn value(kind: &Kind, text: &str) -> Result<u8, String> {
    let (low, high) = (kind.low, kind.high);
    if let Some(at) = kind.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        return Ok(at as u8 + low);
    }
    match digits(text).and_then(|number| u8::try_from(number).ok()).filter(|value| (low..=high).contains(value)) {
        Some(value) => Ok(value),
        None if kind.names.is_empty() => Err(format!("{text:?} is no number from {low} to {high}")),
        None => Err(format!("{text:?} is neither a number from {low} to {high} nor one of {}", kind.names.join(", "))),
    }
}

/// A number of at most four plain digits; no sign, which `parse` would take.
fn digits(text: &str) -> Option<u32> {
    let is_number = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}
