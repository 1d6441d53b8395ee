//! Looks before anything is done: what would fail later is refused now.

use crate::migration::facts::{heads, route_words};
use crate::migration::halt::Halt;
use crate::migration::site::{Live, Site};
use crate::runner::{Direction, Goal, History, InvalidGoal, Route, route};
use std::time::Instant;

/// What was found good.
pub struct Checked {
    /// The tool's revisions.
    pub history: History,
    /// The way to go.
    pub route: Route,
    /// The tool's own tables.
    pub own_tables: Vec<String>,
}

/// Only reads. Refuses naming the thing and the remedy.
pub async fn preflight(site: &Site) -> Result<Checked, Halt> {
    site.begins("preflight");
    let begun = Instant::now();
    let history = site.stop.or(async { Ok::<_, crate::Error>(site.runner.history().await) }).await??;
    super::space(site).await?;
    no_obstacles(site).await?;
    let current = site.runner.current(&*site.engine, &history).await?;
    let goal: Goal = site.spec.to.parse().map_err(|error: InvalidGoal| Halt::refused(error.to_string()))?;
    let way = route(&history, &current, &goal);
    if !current.faults.is_empty() {
        let message =
            format!("what {} wrote down is not what is there: {}", site.runner.name(), current.faults.join("; "));
        // Of a revision nobody has it knows which is near.
        let hint = way.err().and_then(|error| error.hint);
        let usual = || "mend it first; migrate-worker current and pending show more".to_owned();
        return Err(Halt::refused_with(message, hint.unwrap_or_else(usual)));
    }
    if let Some(expected) = &site.spec.expected_from
        && current.heads != [expected.clone()]
    {
        return Err(Halt::refused(format!(
            "{} stands at {}, not at {expected} as was expected",
            site.name,
            heads(&current.heads)
        )));
    }
    let way = way?;
    if goal == Goal::Base && !site.spec.yes {
        return Err(Halt::refused_with(
            "going back to base takes back every migration",
            "say --yes where that is meant",
        ));
    }
    site.story.step("preflight", &route_words(&way), begun.elapsed());
    if way.direction == Direction::Downgrade {
        site.story.detail(&format!("works only with the code of revision {}", heads(&way.to)));
    }
    Ok(Checked { history, route: way, own_tables: current.own_tables })
}

/// Refuses a server's database that cannot be fenced, naming every reason with its remedy.
async fn no_obstacles(site: &Site) -> Result<(), Halt> {
    let Live::Postgres(live) = site.live().await? else { return Ok(()) };
    let obstacles = live.preflight().await?;
    if obstacles.is_empty() {
        return Ok(());
    }
    let all: Vec<&str> = obstacles.iter().map(|obstacle| obstacle.what.as_str()).collect();
    let hints: Vec<&str> = obstacles.iter().filter_map(|obstacle| obstacle.hint.as_deref()).collect();
    let message = format!("{} cannot be changed safely: {}", site.name, all.join("; "));
    Err(if hints.is_empty() { Halt::refused(message) } else { Halt::refused_with(message, hints.join("; ")) })
}
