//! The revisions a database has beside those the code expects: a pure decision.

use super::Verdict;
use crate::runner::{Branches, Current, History, Revision, RunnerError, app};
use serde::Serialize;

/// A revision as people know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// What it says of itself; empty where no file tells.
    pub message: String,
}

/// What was found by revisions alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// As expected, behind, ahead or diverged.
    pub verdict: Verdict,
    /// The newest revisions the code expects.
    pub expected: Vec<String>,
    /// Expected and not applied, oldest first.
    pub missing: Vec<Named>,
    /// Applied and not expected, oldest first; those that no file tells of last.
    pub beyond: Vec<Named>,
    /// Why no more can be said, where that is so.
    pub because: Option<String>,
}

/// Compares where a database stands with the newest revisions of `history`, or with the one that is `pinned`.
///
/// Refuses a pinned revision nobody knows, and a tool without a list of revisions where none is pinned.
pub fn compare(history: &History, current: &Current, pinned: Option<&str>) -> Result<Comparison, RunnerError> {
    let files = Files { history };
    match pinned {
        Some(id) if history.revisions.is_empty() => Ok(unlisted(current, id)),
        None if history.revisions.is_empty() => {
            let error = RunnerError::new("the migration tool has no list of revisions to compare with");
            Err(error.hint("say which one the code expects: --expect REVISION"))
        }
        Some(id) => Ok(files.against(current, vec![files.known(id)?])),
        None => {
            let heads = files.heads();
            if !files.has_apps() && heads.len() > 1 {
                return Ok(forked(&heads));
            }
            Ok(files.against(current, heads))
        }
    }
}

/// Without a list of revisions only a database without any can be told to be behind.
fn unlisted(current: &Current, pinned: &str) -> Comparison {
    let expected = vec![pinned.to_owned()];
    let named = |ids: &[String]| ids.iter().map(|id| Named { id: id.clone(), message: String::new() }).collect();
    let because = "the migration tool has no list of revisions, so behind and ahead cannot be told apart";
    let (verdict, because) = match &current.heads[..] {
        [head] if head == pinned => {
            let verdict = Verdict::AsExpected;
            return Comparison { verdict, expected, missing: Vec::new(), beyond: Vec::new(), because: None };
        }
        [] => (Verdict::Behind, None),
        _ => (Verdict::Diverged, Some(because.to_owned())),
    };
    Comparison { verdict, missing: named(&expected), expected, beyond: named(&current.heads), because }
}

fn forked(heads: &[&Revision]) -> Comparison {
    let ids: Vec<String> = heads.iter().map(|head| head.id.clone()).collect();
    let because = format!("the migration directory has {} heads: {}", ids.len(), ids.join(", "));
    Comparison {
        verdict: Verdict::Diverged,
        expected: ids,
        missing: Vec::new(),
        beyond: Vec::new(),
        because: Some(because),
    }
}

/// The revisions of a directory.
struct Files<'a> {
    history: &'a History,
}

impl<'a> Files<'a> {
    /// Whether every application has a line of its own; else several newest revisions are a fork.
    fn has_apps(&self) -> bool {
        self.history.branches == Branches::Apps
    }

    fn known(&self, id: &str) -> Result<&'a Revision, RunnerError> {
        self.history.find(id).ok_or_else(|| {
            let error = RunnerError::new(format!("the migration directory does not know the expected revision {id}"));
            let ids = self.history.revisions.iter().map(|revision| revision.id.as_str());
            match shared::config::nearest(id, ids) {
                Some(near) => error.hint(format!("did you mean {near}?")),
                None => error.hint("use the directory of the release that expects it"),
            }
        })
    }

    /// The revisions nothing builds on, of whatever application: so [`Current`] has them, too.
    fn heads(&self) -> Vec<&'a Revision> {
        let is_built_on = |id: &String| self.history.revisions.iter().any(|revision| revision.parents.contains(id));
        self.history.revisions.iter().filter(|revision| !is_built_on(&revision.id)).collect()
    }

    fn against(&self, current: &Current, expected: Vec<&Revision>) -> Comparison {
        let wanted = self.history.ancestry(expected.iter().map(|revision| revision.id.as_str()));
        let (known, unknown): (Vec<&String>, Vec<&String>) =
            current.heads.iter().partition(|head| self.history.find(head).is_some());
        let mut applied = self.history.ancestry(known.iter().map(|head| head.as_str()));
        current.gaps.iter().for_each(|gap| {
            applied.remove(gap.as_str());
        });
        // What lies below a revision without a file is not known: it may be everything.
        let is_told = |id: &str| match self.has_apps() {
            false => unknown.is_empty() || !known.is_empty(),
            true => !unknown.iter().any(|head| app(head) == app(id)),
        };
        let is_missing = |id: &str| {
            let is_gap = || current.gaps.iter().any(|gap| gap == id);
            wanted.contains(id) && !applied.contains(id) && (is_told(id) || is_gap())
        };
        let is_beyond = |id: &str| applied.contains(id) && !wanted.contains(id) && self.counts(id, &expected);
        let mut beyond = self.named(is_beyond);
        let foreign = unknown.iter().filter(|id| self.is_of_a_known_line(id));
        beyond.extend(foreign.map(|id| Named { id: (*id).clone(), message: String::new() }));
        let missing = self.named(is_missing);
        let verdict = match (missing.is_empty(), beyond.is_empty()) {
            (true, true) => Verdict::AsExpected,
            (false, true) => Verdict::Behind,
            (true, false) => Verdict::Ahead,
            (false, false) => Verdict::Diverged,
        };
        let expected = expected.into_iter().map(|revision| revision.id.clone()).collect();
        Comparison { verdict, expected, missing, beyond, because: None }
    }

    /// Whether an applied revision that is not wanted says anything: who pins one application says nothing of others.
    fn counts(&self, id: &str, expected: &[&Revision]) -> bool {
        let below = self.history.ancestry([id]);
        !self.has_apps() || expected.iter().any(|revision| below.contains(revision.id.as_str()))
    }

    /// Whether a revision without a file is of interest: applications that were taken out leave theirs behind.
    fn is_of_a_known_line(&self, id: &str) -> bool {
        !self.has_apps() || self.history.revisions.iter().any(|revision| app(&revision.id) == app(id))
    }

    fn named(&self, is_meant: impl Fn(&str) -> bool) -> Vec<Named> {
        let meant = self.history.revisions.iter().filter(|revision| is_meant(&revision.id));
        meant.map(|revision| Named { id: revision.id.clone(), message: revision.message.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `child < parent parent`, each behind those it builds on.
    fn history(lines: &[&str]) -> History {
        let revision = |line: &&str| {
            let (id, parents) = line.split_once(" < ").unwrap_or((line, ""));
            let parents: Vec<&str> = parents.split_whitespace().collect();
            json!({"id": id, "parents": parents, "message": format!("message of {id}"), "has_downgrade": true})
        };
        let revisions: Vec<_> = lines.iter().map(revision).collect();
        serde_json::from_value(json!({"revisions": revisions})).expect("a history")
    }

    fn at(heads: &[&str], gaps: &[&str]) -> Current {
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        Current { heads: owned(heads), gaps: owned(gaps), ..Current::default() }
    }

    /// The verdict and the revisions, as `behind -b -c +x`.
    fn said(compared: Result<Comparison, RunnerError>) -> String {
        let compared = match compared {
            Ok(compared) => compared,
            Err(error) => return format!("refused: {error}"),
        };
        let mut words = vec![compared.verdict.as_str().to_owned()];
        words.extend(compared.missing.iter().map(|revision| format!("-{}", revision.id)));
        words.extend(compared.beyond.iter().map(|revision| format!("+{}", revision.id)));
        words.extend(compared.because.map(|because| format!("({because})")));
        words.join(" ")
    }

    #[test]
    fn revisions_decide_whether_a_database_stands_where_the_code_expects_it() {
        let line = history(&["a", "b < a", "c < b"]);
        let fork = history(&["a", "b < a", "c < a"]);
        let joined = history(&["a", "b < a", "c < a", "m < b c"]);
        let none = History::default();
        for (files, heads, gaps, pinned, expected) in [
            (&line, &["c"][..], &[][..], None, "as expected"),
            (&line, &["b"], &[], None, "behind -c"),
            (&line, &[], &[], None, "behind -a -b -c"),
            (&line, &["c"], &["b"], None, "behind -b"),
            (&line, &["x"], &[], None, "ahead +x"),
            (&line, &["x"], &["b"], None, "diverged -b +x"),
            (&line, &["b", "x"], &[], None, "diverged -c +x"),
            // A release pins its revision.
            (&line, &["b"], &[], Some("b"), "as expected"),
            (&line, &["a"], &[], Some("b"), "behind -b"),
            (&line, &["c"], &[], Some("b"), "ahead +c"),
            (&line, &["x"], &[], Some("x"), "refused: the migration directory does not know the expected revision x"),
            (&line, &["c"], &[], Some("zz"), "refused: the migration directory does not know the expected revision zz"),
            // Branches.
            (&fork, &["b"], &[], None, "diverged (the migration directory has 2 heads: b, c)"),
            (&fork, &["b"], &[], Some("c"), "diverged -c +b"),
            (&fork, &["b", "c"], &[], Some("c"), "ahead +b"),
            (&joined, &["b"], &[], None, "behind -c -m"),
            (&joined, &["b", "c"], &[], None, "behind -m"),
            (&joined, &["m"], &[], Some("b"), "ahead +c +m"),
            // Tools without a list.
            (&none, &["7"], &[], Some("7"), "as expected"),
            (&none, &[], &[], Some("7"), "behind -7"),
            (
                &none,
                &["6"],
                &[],
                Some("7"),
                "diverged -7 +6 (the migration tool has no list of revisions, so behind and ahead cannot be told apart)",
            ),
            (&none, &["7"], &[], None, "refused: the migration tool has no list of revisions to compare with"),
        ] {
            let compared = compare(files, &at(heads, gaps), pinned);
            assert_eq!(said(compared), expected, "{heads:?} {gaps:?} {pinned:?}");
        }
    }

    #[test]
    fn each_application_has_a_line_of_its_own() {
        let lines = history(&["auth.1", "shop.1 < auth.1", "shop.2 < shop.1", "blog.1 < auth.1"]);
        let files = History { branches: Branches::Apps, ..lines };
        for (heads, pinned, expected) in [
            (&["auth.1", "shop.2", "blog.1"][..], None, "as expected"),
            (&["auth.1", "shop.1", "blog.1"], None, "behind -shop.2"),
            (&["auth.1", "shop.3", "blog.1"], None, "ahead +shop.3"),
            // Rows of an application that was taken out say nothing.
            (&["auth.1", "shop.2", "blog.1", "gone.4"], None, "as expected"),
            (&["auth.1", "shop.2", "blog.1"], Some("shop.2"), "as expected"),
            (&["auth.1", "shop.2", "blog.1"], Some("shop.1"), "ahead +shop.2"),
            (&["auth.1", "shop.2"], Some("shop.2"), "as expected"),
            (&["auth.1"], Some("blog.1"), "behind -blog.1"),
        ] {
            let compared = compare(&files, &at(heads, &[]), pinned);
            assert_eq!(said(compared), expected, "{heads:?} {pinned:?}");
        }
    }
}
