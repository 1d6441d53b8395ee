//! Time zones by the names people write.

use super::InvalidSchedule;
use jiff::tz::TimeZone;
use shared::config::nearest;

/// The zone of this name in the machine's time zone database.
pub(super) fn named(name: &str) -> Result<TimeZone, InvalidSchedule> {
    match TimeZone::get(name) {
        Ok(zone) if !zone.is_unknown() => Ok(zone),
        _ => Err(InvalidSchedule::Zone { name: name.chars().take(60).collect(), hint: hint(name) }),
    }
}

/// What was probably meant: a place of that name (`berlin`), or a name that looks like it.
fn hint(name: &str) -> String {
    let database = jiff::tz::db();
    let known: Vec<_> = database.available().collect();
    if known.is_empty() {
        return ": this machine has no time zone database; install tzdata".into();
    }
    let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_lowercase();
    let place = known.iter().map(|known| known.as_str()).find(|known| last(known) == last(name));
    match place.or_else(|| nearest(name, known.iter().map(|known| known.as_str()))) {
        Some(name) => format!("; did you mean {name:?}?"),
        None => ": write one like \"Europe/Berlin\" or \"UTC\"".into(),
    }
}
