//! The time within which the database may be migrated.

use crate::migration::halt::Halt;
use crate::migration::site::{Pace, Site};
use jiff::{SignedDuration, Zoned};
use shared::model::DatabaseUrl;
use std::time::Duration;

/// Refuses to begin outside the window.
pub fn within_window(site: &Site) -> Result<(), Halt> {
    let Some(window) = &site.around.window else { return Ok(()) };
    let now = site.world.clock.now();
    if window.closes(now).is_some() {
        return Ok(());
    }
    Err(Halt::refused_with(
        format!("{} is migrated only within its window, {window}", site.name),
        window.opens(now).map_or_else(|| "it never opens".into(), |at| format!("it opens at {}", moment(&at))),
    ))
}

/// Refuses what would not be done when the window closes, going back included, measured by the rehearsal.
pub fn fits_window(site: &Site, tool: Duration) -> Result<(), Halt> {
    let Some(window) = &site.around.window else { return Ok(()) };
    let now = site.world.clock.now();
    let Some(closes) = window.closes(now) else {
        return within_window(site);
    };
    let predicted = predicted(&site.pace, tool, matches!(site.url, DatabaseUrl::Postgres(_)));
    let there = predicted.forward.as_secs_f64();
    let back = predicted.back.as_secs_f64();
    let left = closes.timestamp().duration_since(now);
    let needed = SignedDuration::try_from(predicted.forward + predicted.back).unwrap_or(SignedDuration::MAX);
    if needed <= left {
        let said = format!(
            "predicted {there:.1} s, and {back:.1} s more to go back; the window closes at {}",
            moment(&closes)
        );
        site.story.detail(&said);
        return Ok(());
    }
    Err(Halt::refused_with(
        format!(
            "it is predicted to take {there:.1} s, and {back:.1} s more to go back, but the window closes in {} s",
            left.as_secs()
        ),
        window.opens(now).map_or_else(String::new, |at| format!("the next window opens at {}", moment(&at))),
    ))
}

/// How long the rest of a migration takes.
#[derive(Debug, PartialEq, Eq)]
struct Predicted {
    /// From the fence to the open database.
    forward: Duration,
    /// Back to what was, where it fails.
    back: Duration,
}

/// Behind a fence the backup is made once more, and going back restores it; a copy that is thrown away costs nothing.
fn predicted(pace: &Pace, tool: Duration, is_fenced: bool) -> Predicted {
    let back = if is_fenced { pace.look + pace.restore } else { Duration::ZERO };
    Predicted { forward: pace.backup + tool + pace.look, back }
}

fn moment(at: &Zoned) -> String {
    at.strftime("%Y-%m-%d %H:%M %Z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fenced_database_takes_time_to_go_back() {
        let s = Duration::from_secs;
        let pace = Pace { backup: s(10), restore: s(20), look: s(3) };
        assert_eq!(predicted(&pace, s(5), true), Predicted { forward: s(18), back: s(23) });
        assert_eq!(predicted(&pace, s(5), false), Predicted { forward: s(18), back: s(0) });
    }
}
