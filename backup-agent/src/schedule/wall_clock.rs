//! From local times to instants, across the days when clocks change.

use super::pattern::Pattern;
use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, TimeZone};

/// The first instant after `after` at which a pattern is due, all in seconds since 1970.
///
/// Where not every hour is meant, every local time counts once: one that clocks skip at the first instant after the
/// gap, one that exists twice the first time. Where every hour is meant, the pattern follows real time: what is skipped
/// is not made up for, and an hour that exists twice counts twice.
pub(super) fn next(pattern: &Pattern, zone: &TimeZone, after: i64) -> Option<i64> {
    if pattern.is_hourly { next_in_real_time(pattern, zone, after) } else { next_by_wall_clock(pattern, zone, after) }
}

fn next_by_wall_clock(pattern: &Pattern, zone: &TimeZone, after: i64) -> Option<i64> {
    let mut local = after.checked_add(offset(zone, after)?)?;
    loop {
        local = pattern.after(local)?;
        // In the second pass of an hour that exists twice, the rest of it was due in the first.
        let instant = first_instant(zone, local)?;
        if instant > after {
            return Some(instant);
        }
    }
}

fn next_in_real_time(pattern: &Pattern, zone: &TimeZone, after: i64) -> Option<i64> {
    let (mut from, mut offset_s) = (after, offset(zone, after)?);
    let mut changes = zone.following(Timestamp::from_second(after).ok()?);
    loop {
        let instant = pattern.after(from.checked_add(offset_s)?)? - offset_s;
        match changes.next() {
            // What lies behind the next change of clocks is asked for anew, with the offset that holds there.
            Some(change) if change.timestamp().as_second() <= instant => {
                from = change.timestamp().as_second() - 1;
                offset_s = i64::from(change.offset().seconds());
            }
            _ => return Some(instant),
        }
    }
}

/// The first instant at which the wall clock shows `local` or something later that it never showed before.
fn first_instant(zone: &TimeZone, local: i64) -> Option<i64> {
    let shown = TimeZone::UTC.to_datetime(Timestamp::from_second(local).ok()?);
    match zone.to_ambiguous_timestamp(shown).offset() {
        AmbiguousOffset::Unambiguous { offset } => Some(local - i64::from(offset.seconds())),
        AmbiguousOffset::Fold { before, .. } => Some(local - i64::from(before.seconds())),
        AmbiguousOffset::Gap { after, .. } => {
            // With the later offset a skipped time lies before the change that skipped it.
            let before_change = Timestamp::from_second(local - i64::from(after.seconds())).ok()?;
            let change = zone.following(before_change).find(|change| change.offset() == after)?;
            Some(change.timestamp().as_second())
        }
    }
}

fn offset(zone: &TimeZone, instant: i64) -> Option<i64> {
    Some(i64::from(zone.to_offset(Timestamp::from_second(instant).ok()?).seconds()))
}
