//! The way of a tool that has no list of revisions: known only when it was gone.

use crate::effect::Effects;
use crate::migration::facts::{State, heads};
use crate::migration::halt::Halt;
use crate::migration::site::Site;
use crate::runner::{Direction, Route};
use shared::model::DatabaseUrl;

/// Refuses a tool whose own answer is not what our query reads: one of the two looks elsewhere.
pub async fn agrees(site: &Site, route: &Route, copy: &DatabaseUrl) -> Result<(), Halt> {
    if !route.open {
        return Ok(());
    }
    let told = site.runner.probe(copy, &site.call()?).await?;
    if told == route.from {
        return Ok(());
    }
    Err(Halt::refused_with(
        format!(
            "probe says that a copy of it stands at {}, but by current it stands at {}",
            heads(&told),
            heads(&route.from)
        ),
        "let the probe look at DATABASE_URL, and current read the tool's own table",
    ))
}

/// The way as it turned out on the copy.
///
/// Refuses a change that no revision tells of: of a worker that was lost nobody could say how far it had come.
pub fn turned_out(tool: &str, route: &Route, before: &State, after: &State, effects: &Effects) -> Result<Route, Halt> {
    if !route.open {
        return Ok(route.clone());
    }
    let to = after.heads.clone();
    if to == route.from {
        if after.schema == before.schema && effects.tables.is_empty() {
            return Ok(Route { to, revisions: Vec::new(), ..route.clone() });
        }
        return Err(Halt::refused_with(
            format!("{tool} changed the database, but by current it still stands at {}", after.at()),
            "let every change have a revision; else nobody could tell before from after where a worker is lost",
        ));
    }
    let revisions = match route.direction {
        Direction::Upgrade if to.is_empty() => {
            return Err(Halt::refused(format!("{tool} ended well, but its copy stands at {} then", after.at())));
        }
        Direction::Upgrade => to.clone(),
        Direction::Downgrade => route.from.clone(),
    };
    Ok(Route { to, revisions, ..route.clone() })
}
