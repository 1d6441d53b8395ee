//! Where a migration is to lead, as people write it.

use super::Goal;
use std::fmt;
use std::str::FromStr;

/// A text that names no goal.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no goal of a migration: write head, base, +n, -n or a revision (letters, digits and _.@:-, at most 128)"
)]
pub struct InvalidGoal(pub String);

/// Whether `text` can be a revision's id: `^[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,127}$`.
///
/// Such a text is an argument of every tool and an option of none, and needs no quotes in SQL.
pub fn is_revision(text: &str) -> bool {
    let first = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    matches!(text.as_bytes(), [head, rest @ ..] if first(*head) && rest.len() <= 127
        && rest.iter().all(|c| first(*c) || b".@:-".contains(c)))
}

impl FromStr for Goal {
    type Err = InvalidGoal;

    fn from_str(text: &str) -> Result<Self, InvalidGoal> {
        let wrong = || InvalidGoal(text.to_owned());
        let steps = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
            digits.parse().ok().filter(|steps| plain && *steps > 0).ok_or_else(wrong)
        };
        match (text, text.split_at_checked(1)) {
            ("head", _) => Ok(Goal::Head),
            ("base", _) => Ok(Goal::Base),
            (_, Some(("+", digits))) => steps(digits).map(Goal::Up),
            (_, Some(("-", digits))) => steps(digits).map(Goal::Down),
            _ if is_revision(text) => Ok(Goal::Revision(text.to_owned())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Goal::Head => f.write_str("head"),
            Goal::Revision(id) => f.write_str(id),
            Goal::Up(steps) => write!(f, "+{steps}"),
            Goal::Down(steps) => write!(f, "-{steps}"),
            Goal::Base => f.write_str("base"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_read_as_they_are_written() {
        let longest = "a".repeat(128);
        for text in ["head", "base", "+1", "-12", "20240101", "ae1027a6acf", "shop@r1.2:x-y", "_x", &longest] {
            assert_eq!(text.parse::<Goal>().map(|goal| goal.to_string()), Ok(text.to_owned()));
        }
        let too_long = "a".repeat(129);
        for text in
            ["", "+", "-", "+0", "-x", "+-1", "--sql", "++1", ".x", "a b", "a;b", "ä", "é", "a\n", "r1:r2 ", &too_long]
        {
            assert_eq!(text.parse::<Goal>(), Err(InvalidGoal(text.to_owned())));
        }
    }
}
