//! What would be done, as a person approves it: the same for two rehearsals of one wish, whenever they were made.

use crate::effect::Effects;
use crate::migration::route_words;
use crate::runner::Route;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use shared::model::canonical_json;

/// How many differences of a kind are named; the rest is counted.
const NAMED: usize = 3;

/// A plan. Neither durations nor times belong to it, nor numbers that grow while the application goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The migration tool.
    pub runner: String,
    /// The way to go.
    pub route: Route,
    /// Digest of what the files of its revisions say, where the tool's files are known.
    pub contents: Option<String>,
    /// Digest of the schema after the rehearsal.
    pub schema: String,
    /// What happens to each table, a line each ([`Effects::outline`]).
    pub tables: Vec<String>,
    /// The data that is lost, with numbers, a line each.
    pub losses: Vec<String>,
    /// The data that may be lost, as it was asked for.
    pub may_drop: Vec<String>,
}

impl Plan {
    /// SHA-256 of all of it, in hex.
    pub fn digest(&self) -> String {
        // Fields that are added later make other plans: then it is asked once more.
        let text = serde_json::to_value(self).map(|value| canonical_json(&value)).unwrap_or_default();
        hex::encode(Sha256::digest(format!("holdfast plan\n{text}")))
    }

    /// The effects as a plan has them: what happens, and what is lost.
    pub fn told(effects: &Effects) -> (Vec<String>, Vec<String>) {
        (effects.outline(), effects.losses().iter().map(ToString::to_string).collect())
    }

    /// What is lost, on one line.
    pub fn loss_words(&self) -> String {
        if self.losses.is_empty() { "no data is lost".into() } else { format!("loses {}", self.losses.join(", ")) }
    }

    /// What is another than in the plan that was approved, a few words each; none where nothing is.
    pub fn differences(&self, approved: &Plan) -> Vec<String> {
        let mut list = Vec::new();
        if self.runner != approved.runner {
            list.push(format!("{} instead of {}", self.runner, approved.runner));
        }
        let is_same_way = self.route == approved.route;
        if !is_same_way {
            list.push(format!("{} instead of {}", way(&self.route), way(&approved.route)));
        } else if self.contents != approved.contents {
            list.push("the files of its revisions say something else".into());
        }
        list.extend(gone_and_come("effect", &approved.tables, &self.tables));
        list.extend(gone_and_come("loss", &approved.losses, &self.losses));
        list.extend(gone_and_come("may_drop", &approved.may_drop, &self.may_drop));
        // Named last and alone: whatever else differs leads to another schema as well.
        if list.is_empty() && self.schema != approved.schema {
            list.push("it leads to another schema".into());
        }
        list
    }
}

fn way(route: &Route) -> String {
    format!("{}: {}", route_words(route), route.revisions.join(", "))
}

fn gone_and_come(what: &str, before: &[String], now: &[String]) -> Vec<String> {
    let only = |some: &[String], others: &[String], word: &str| -> Vec<String> {
        let all: Vec<&String> = some.iter().filter(|line| !others.contains(line)).collect();
        let rest = all.len().saturating_sub(NAMED);
        let mut list: Vec<String> = all.iter().take(NAMED).map(|line| format!("{word} {what}: {line}")).collect();
        list.extend((rest > 0).then(|| format!("{rest} more of these")));
        list
    };
    let mut list = only(before, now, "no longer");
    list.extend(only(now, before, "new"));
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::Direction;

    fn plan() -> Plan {
        Plan {
            runner: "sql".into(),
            route: Route {
                direction: Direction::Upgrade,
                from: vec!["1".into()],
                to: vec!["2".into()],
                revisions: vec!["2".into()],
                target: Some("2".into()),
                open: false,
            },
            contents: Some("ab".into()),
            schema: "cd".into(),
            tables: vec!["table old: dropped".into()],
            losses: vec!["table old (3 rows)".into()],
            may_drop: vec!["old".into()],
        }
    }

    #[test]
    fn every_part_of_a_plan_makes_another_digest_and_is_named() {
        let (approved, mut way_on) = (plan(), plan().route);
        assert_eq!(plan().digest(), approved.digest());
        assert_eq!((plan().digest().len(), plan().differences(&approved)), (64, vec![]));
        (way_on.to, way_on.revisions) = (vec!["3".into()], vec!["2".into(), "3".into()]);
        let many = ["a", "b", "c", "d", "e"].map(|name| format!("table {name}: new"));
        for (other, words) in [
            (Plan { runner: "alembic".into(), ..plan() }, "alembic instead of sql"),
            (
                Plan { route: way_on, contents: None, schema: String::new(), ..plan() },
                "1 -> 3 (2 revisions): 2, 3 instead of 1 -> 2 (1 revision): 2",
            ),
            (Plan { contents: Some("ac".into()), ..plan() }, "the files of its revisions say something else"),
            (Plan { schema: "ce".into(), ..plan() }, "it leads to another schema"),
            (Plan { tables: vec![], ..plan() }, "no longer effect: table old: dropped"),
            (
                Plan { tables: [plan().tables, many.to_vec()].concat(), ..plan() },
                "new effect: table a: new; new effect: table b: new; new effect: table c: new; 2 more of these",
            ),
            (
                Plan { losses: vec!["table old (4 rows)".into()], ..plan() },
                "no longer loss: table old (3 rows); new loss: table old (4 rows)",
            ),
            (Plan { may_drop: vec![], ..plan() }, "no longer may_drop: old"),
        ] {
            assert_ne!(other.digest(), approved.digest(), "{words}");
            assert_eq!(other.differences(&approved).join("; "), words);
        }
    }
}
