//! Reading what `alembic history --verbose` prints.

use crate::runner::{History, Revision, RunnerError, is_revision};
use std::collections::{BTreeMap, BTreeSet};

/// One revision as it is printed.
#[derive(Default)]
struct Block {
    id: String,
    below: Vec<String>,
    labels: Vec<String>,
    path: String,
    message: String,
}

/// The history, each revision behind those it builds on.
pub(super) fn parse(text: &str) -> Result<History, RunnerError> {
    let blocks = blocks(text);
    let labels: BTreeMap<&str, &str> =
        blocks.iter().flat_map(|block| block.labels.iter().map(|label| (label.as_str(), block.id.as_str()))).collect();
    let mut revisions: Vec<Revision> = Vec::with_capacity(blocks.len());
    for block in &blocks {
        if !is_revision(&block.id) {
            return Err(RunnerError::new(format!("the revision {:?} has a name that cannot be used", block.id))
                .hint("letters, digits and _.@:- only, at most 128, beginning with a letter, a digit or _"));
        }
        // A dependency may be named by a branch.
        let parents = block.below.iter().map(|id| labels.get(id.as_str()).copied().unwrap_or(id).to_owned());
        revisions.push(Revision {
            id: block.id.clone(),
            parents: parents.collect(),
            message: block.message.clone(),
            has_downgrade: has_downgrade(&block.path),
            replaces: Vec::new(),
        });
    }
    // Printed is the newest first.
    revisions.reverse();
    Ok(History { revisions: sorted(revisions)?, ..History::default() })
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for line in text.lines() {
        // What a migration says of itself is indented.
        if let Some(id) = line.strip_prefix("Rev: ") {
            let id = id.split(' ').next().unwrap_or_default().to_owned();
            blocks.push(Block { id, ..Block::default() });
            continue;
        }
        let Some(block) = blocks.last_mut() else { continue };
        if let Some(below) = ["Parent: ", "Merges: ", "Also depends on: "].iter().find_map(|key| line.strip_prefix(key))
        {
            block.below.extend(list(below).filter(|id| id != "<base>"));
        } else if let Some(labels) = line.strip_prefix("Branch names: ") {
            block.labels.extend(list(labels));
        } else if let Some(path) = line.strip_prefix("Path: ") {
            block.path = path.to_owned();
        } else if let Some(message) = line.strip_prefix("    ")
            && block.message.is_empty()
        {
            block.message = message.trim().to_owned();
        }
    }
    blocks
}

fn list(text: &str) -> impl Iterator<Item = String> {
    text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty())
}

/// Each behind those it builds on, otherwise as it came.
fn sorted(mut open: Vec<Revision>) -> Result<Vec<Revision>, RunnerError> {
    let mut done: Vec<Revision> = Vec::with_capacity(open.len());
    let mut placed: BTreeSet<String> = BTreeSet::new();
    while !open.is_empty() {
        let before = done.len();
        let mut rest = Vec::new();
        for revision in open {
            if revision.parents.iter().all(|parent| placed.contains(parent)) {
                placed.insert(revision.id.clone());
                done.push(revision);
            } else {
                rest.push(revision);
            }
        }
        open = rest;
        if done.len() == before {
            let ids: Vec<&str> = open.iter().map(|revision| revision.id.as_str()).collect();
            return Err(RunnerError::new(format!("these revisions build on what is not there: {}", ids.join(", "))));
        }
    }
    Ok(done)
}

/// Whether a migration's file has a `downgrade` that does more than refuse. A file that cannot be read may have one.
fn has_downgrade(path: &str) -> bool {
    std::fs::read(path).map_or(true, |text| goes_back(&String::from_utf8_lossy(&text)))
}

fn goes_back(text: &str) -> bool {
    let Some((_, body)) = text.split_once("\ndef downgrade(") else { return text.contains("downgrade") };
    let body = body.lines().skip(1).map(str::trim);
    let first = body.into_iter().find(|line| {
        let comment = line.starts_with(['#', '"', '\'']) || line.is_empty();
        !comment
    });
    !first.is_some_and(|line| line.starts_with("raise"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
Rev: m1 (head) (mergepoint)
Merges: b1, c1
Path: /nowhere/m1.py

    merge b1 and c1
    Rev: not_a_revision

Rev: c1
Parent: a1
Also depends on: other
Path: /nowhere/c1.py

    c

Rev: b1
Parent: a1
Path: /nowhere/b1.py

    b

Rev: o1
Parent: <base>
Branch names: other
Path: /nowhere/o1.py

    another base

Rev: a1 (branchpoint)
Parent: <base>
Branches into: b1, c1
Path: /nowhere/a1.py

    a
";

    #[test]
    fn branches_merges_and_dependencies_are_read() {
        let history = parse(PRINTED).expect("read");
        let told: Vec<(&str, String, &str)> = history
            .revisions
            .iter()
            .map(|revision| (revision.id.as_str(), revision.parents.join("+"), revision.message.as_str()))
            .collect();
        let expected = [
            ("a1", "", "a"),
            ("o1", "", "another base"),
            ("b1", "a1", "b"),
            ("c1", "a1+o1", "c"),
            ("m1", "b1+c1", "merge b1 and c1"),
        ];
        assert_eq!(told, expected.map(|(id, parents, message)| (id, parents.to_owned(), message)));
        assert_eq!(parse("").expect("nothing").revisions, []);
        assert!(parse("Rev: b\nParent: a\n").is_err());
    }

    #[test]
    fn a_downgrade_that_only_refuses_is_none() {
        for (body, expected) in [
            ("\ndef downgrade() -> None:\n    op.drop_table('a')\n", true),
            ("\ndef downgrade():\n    pass\n", true),
            ("\ndef downgrade():\n    \"\"\"Never.\"\"\"\n    # no\n    raise NotImplementedError\n", false),
            ("\ndef upgrade():\n    pass\n", false),
        ] {
            assert_eq!(goes_back(body), expected, "{body}");
        }
    }
}
