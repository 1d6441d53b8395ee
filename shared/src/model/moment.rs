//! Moments as people write them on a command line.

use super::BackupId;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// Which backup is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// The newest.
    Latest,
    /// Exactly this one.
    Id(BackupId),
    /// The newest that is not after this instant.
    Instant(Timestamp),
}

/// A time that cannot be understood, does not exist or is not unique.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct InvalidAt(pub String);

/// Understands `latest`, an id, RFC 3339, `YYYYMMDD_HHMMSS`, `YYYY-MM-DD HH:MM[:SS]`, and `2 hours ago`.
///
/// A time without a zone is local to `zone`; one that does not exist there or exists twice (when clocks change) is
/// refused rather than guessed, and so is a day alone.
pub fn parse_at(text: &str, now: Timestamp, zone: &TimeZone) -> Result<At, InvalidAt> {
    let text = text.trim();
    if text == "latest" {
        return Ok(At::Latest);
    }
    if let Ok(id) = text.parse() {
        return Ok(At::Id(id));
    }
    if let Some(span) = text.strip_suffix(" ago") {
        return parse_ago(span, now).map(At::Instant);
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(At::Instant(instant));
    }
    const LOCAL: [&str; 5] =
        ["%Y%m%d_%H%M%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
    let local = LOCAL.iter().find_map(|format| DateTime::strptime(format, text).ok()).ok_or_else(|| {
        InvalidAt(format!(
            "{text:?} is no time: use latest, a backup id, 2025-01-31T03:00:00Z, \"2025-01-31 03:00\" (local), \
             20250131_030000 (local) or \"2 hours ago\""
        ))
    })?;
    resolve_local(local, zone).map(At::Instant)
}

fn resolve_local(local: DateTime, zone: &TimeZone) -> Result<Timestamp, InvalidAt> {
    let ambiguous = zone.to_ambiguous_zoned(local);
    let wrong = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => None,
        AmbiguousOffset::Gap { .. } => Some("does not exist"),
        AmbiguousOffset::Fold { .. } => Some("exists twice"),
    };
    if let Some(wrong) = wrong {
        return Err(InvalidAt(format!(
            "the local time {local} {wrong} because clocks change then: add a zone, for instance {local}Z"
        )));
    }
    ambiguous.unambiguous().map(|zoned| zoned.timestamp()).map_err(|error| InvalidAt(error.to_string()))
}

fn parse_ago(span: &str, now: Timestamp) -> Result<Timestamp, InvalidAt> {
    let wrong =
        || InvalidAt(format!("\"{span} ago\" is no time: a whole number of seconds, minutes, hours, days or weeks"));
    let (number, unit) = span.trim().split_once(' ').ok_or_else(wrong)?;
    let number: i64 = number.parse().ok().filter(|n| *n >= 0).ok_or_else(wrong)?;
    let seconds = match unit.trim().trim_end_matches('s') {
        "second" => 1,
        "minute" => 60,
        "hour" => 3600,
        "day" => 86_400,
        "week" => 604_800,
        _ => return Err(wrong()),
    };
    let span = number.checked_mul(seconds).ok_or_else(wrong)?;
    now.checked_sub(SignedDuration::from_secs(span)).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<String, String> {
        let now: Timestamp = "2025-06-01T12:00:00Z".parse().expect("valid");
        let zone = TimeZone::get("Europe/Berlin").expect("zone data");
        match parse_at(text, now, &zone) {
            Ok(At::Latest) => Ok("latest".into()),
            Ok(At::Id(id)) => Ok(id.to_string()),
            Ok(At::Instant(instant)) => Ok(instant.to_string()),
            Err(InvalidAt(text)) => Err(text),
        }
    }

    #[test]
    fn times_as_people_write_them() {
        for (text, expected) in [
            ("latest", "latest"),
            ("20250131T030000Z-1a2b3c", "20250131T030000Z-1a2b3c"),
            ("2025-01-31T03:00:00Z", "2025-01-31T03:00:00Z"),
            ("2025-01-31T03:00:00+02:00", "2025-01-31T01:00:00Z"),
            ("20250131_030000", "2025-01-31T02:00:00Z"),
            ("2025-07-31 03:00", "2025-07-31T01:00:00Z"),
            ("2 hours ago", "2025-06-01T10:00:00Z"),
            ("1 day ago", "2025-05-31T12:00:00Z"),
        ] {
            assert_eq!(at(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn times_that_do_not_exist_or_exist_twice_are_refused() {
        assert!(at("2025-03-30 02:30").expect_err("gap").contains("does not exist"));
        assert!(at("2025-10-26 02:30").expect_err("fold").contains("exists twice"));
        for bad in [
            "",
            "2025-02-30 10:00",
            "20250230_100000",
            "yesterday",
            "-2 hours ago",
            "2 parsecs ago",
            "99999999999999 days ago",
        ] {
            assert!(at(bad).is_err(), "{bad:?}");
        }
    }
}
