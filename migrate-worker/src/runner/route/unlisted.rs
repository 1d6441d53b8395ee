//! The way where only the tool knows it.

use crate::runner::{Current, Direction, Goal, Route, RunnerError};

/// As far as the tool goes, or one step back.
pub(super) fn route(has_downgrade: bool, current: &Current, goal: &Goal) -> Result<Route, RunnerError> {
    let way = |direction, open| Route {
        direction,
        from: current.heads.clone(),
        to: current.heads.clone(),
        revisions: Vec::new(),
        target: None,
        open,
    };
    match goal {
        Goal::Head => Ok(way(Direction::Upgrade, true)),
        Goal::Down(1) if has_downgrade => Ok(way(Direction::Downgrade, true)),
        Goal::Down(1) => Err(RunnerError::new("there is no command that goes back")
            .hint("add downgrade = [\"PROGRAM\", …], or go back by restoring a backup")),
        Goal::Revision(id) if current.heads == [id.clone()] => Ok(way(Direction::Upgrade, false)),
        _ => Err(RunnerError::new(format!("{goal} cannot be asked for: the runner command has no list of revisions"))
            .hint("write head, or -1 for one step back")),
    }
}
