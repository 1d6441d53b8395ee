use super::*;

/// `id<parent,parent`; a `!` behind the id: no way back.
fn history(texts: &[&str]) -> History {
    let revision = |text: &&str| {
        let (id, parents) = text.split_once('<').unwrap_or((text, ""));
        let parents = parents.split(',').filter(|parent| !parent.is_empty()).map(str::to_owned).collect();
        Revision {
            id: id.trim_end_matches('!').to_owned(),
            parents,
            message: String::new(),
            has_downgrade: !id.ends_with('!'),
            replaces: Vec::new(),
        }
    };
    History { revisions: texts.iter().map(revision).collect(), ..History::default() }
}

fn at(heads: &[&str], gaps: &[&str]) -> Current {
    let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    Current { heads: owned(heads), gaps: owned(gaps), ..Current::default() }
}

/// `+1,2 of 2 to 2`, or what was refused with its hint.
fn told(history: &History, current: &Current, goal: &str) -> String {
    match route(history, current, &goal.parse().expect("a goal")) {
        Ok(route) => {
            let sign = if route.direction == Direction::Upgrade { "+" } else { "-" };
            let target = route.target.as_deref().unwrap_or("base");
            format!("{sign}{} of {target} to {}", route.revisions.join(","), route.to.join(","))
        }
        Err(error) => format!("{error}; {}", error.hint.as_deref().unwrap_or_default()),
    }
}

#[test]
fn a_straight_history_is_walked_both_ways() {
    let history = history(&["1", "2<1", "3<2", "4<3"]);
    for (heads, gaps, goal, expected) in [
        (&[][..], &[][..], "head", "+1,2,3,4 of 4 to 4"),
        (&["2"], &[], "head", "+3,4 of 4 to 4"),
        (&["4"], &[], "head", "+ of 4 to 4"),
        (&["2"], &[], "2", "+ of 2 to 2"),
        (&["2"], &[], "3", "+3 of 3 to 3"),
        (&["3"], &[], "1", "-3,2 of 1 to 1"),
        (&["3"], &[], "base", "-3,2,1 of base to "),
        (&[], &[], "base", "- of base to "),
        (&[], &[], "+2", "+1,2 of 2 to 2"),
        (&["4"], &[], "-1", "-4 of 3 to 3"),
        (&["2"], &[], "-2", "-2,1 of base to "),
        // Added below what was applied already.
        (&["4"], &["2"], "head", "+2 of 4 to 4"),
        (&["3"], &["2"], "+1", "+2 of 2 to 3"),
        (&["3"], &["2"], "+2", "+2,4 of 4 to 4"),
        (&["3"], &["2"], "-1", "-3 of 1 to 1"),
    ] {
        assert_eq!(told(&history, &at(heads, gaps), goal), expected, "{heads:?} {gaps:?} {goal}");
    }
}

#[test]
fn what_no_tool_could_do_is_refused_with_a_remedy() {
    let history = history(&["a1b2", "c3d4!<a1b2", "e5f6<c3d4"]);
    for (heads, goal, expected) in [
        (&["e5f6"][..], "a1b2", "revision c3d4 has no way back; write its downgrade"),
        (&["e5f6"], "-4", "-4 leads back beyond the first revision: only 3 are applied; write base"),
        (&["c3d4"], "+2", "+2 leads beyond the newest revision: only 1 are to be applied; write head"),
        (&[], "c3d", "the migrations have no revision c3d; did you mean c3d4?"),
        (&[], "zzzz", "the migrations have no revision zzzz; see all of them"),
        (&["dead"], "head", "the database stands at revision dead, which the migrations do not have; bring back"),
        (&["c3d5"], "head", "(the nearest known one is c3d4), write that down by `stamp`"),
    ] {
        let found = told(&history, &at(heads, &[]), goal);
        assert!(found.contains(expected), "{heads:?} {goal}: {found}");
    }
    assert_eq!(told(&History::default(), &at(&[], &[]), "head"), "there are no migrations; ");
}

#[test]
fn branches_are_never_guessed_at() {
    let open = history(&["a", "b<a", "c<a"]);
    let merged = history(&["a", "b<a", "c<a", "m<b,c"]);
    for (history, heads, goal, expected) in [
        (&open, &["a"][..], "head", "multiple heads: b, c; join them (`alembic merge heads`)"),
        (&open, &["a"], "+1", "+1 is not clear: after 0 it could be b or c; name"),
        (&open, &["b"], "c", "+c of c to b,c"),
        (&open, &["b", "c"], "-1", "-n is not clear: the database stands at b and c; name"),
        (&open, &["b", "c"], "a", "-c,b of a to a"),
        (&merged, &["b"], "head", "+c,m of m to m"),
        (&merged, &["m"], "-1", "-1 leads back through m, which merges several revisions; name one of b, c"),
        (&merged, &["m"], "b", "-m of b to b,c"),
        (&merged, &["m"], "base", "-m,c,b,a of base to "),
    ] {
        let found = told(history, &at(heads, &[]), goal);
        assert!(found.starts_with(expected), "{heads:?} {goal}: {found}");
    }
}

#[test]
fn every_application_has_a_line_of_its_own() {
    let texts = ["c.1", "c.2<c.1", "a.1<c.1", "a.2<a.1,c.2", "l.1<a.1", "l.2<l.1", "l.3!<l.2", "s.1<l.2"];
    let history = History { branches: Branches::Apps, ..history(&texts) };
    let all = "a.2,l.3,s.1";
    for (heads, goal, expected) in [
        (&[][..], "head", format!("+c.1,c.2,a.1,a.2,l.1,l.2,l.3,s.1 of base to {all}")),
        (&["a.2", "l.1"], "head", format!("+l.2,l.3,s.1 of base to {all}")),
        (&["a.2", "l.3", "s.1"], "head", format!("+ of base to {all}")),
        (&["a.2", "s.1"], "l.1", "-s.1,l.2 of l.1 to a.2,l.1".into()),
        (&["a.2", "s.1"], "l.2", "+ of l.2 to a.2,s.1".into()),
        (&["a.2", "s.1"], "l.zero", "-s.1,l.2,l.1 of l.zero to a.2".into()),
        (&["c.1"], "l.1", "+a.1,l.1 of l.1 to l.1".into()),
        (
            &["a.2", "l.3"],
            "l.1",
            "revision l.3 has no way back; write its downgrade, or go back by restoring a backup".into(),
        ),
    ] {
        assert_eq!(told(&history, &at(heads, &[]), goal), expected, "{heads:?} {goal}");
    }
    for (goal, expected) in
        [("+1", "not clear"), ("-1", "not clear"), ("base", "not clear"), ("x.zero", "no application"), ("l.9", "l.9")]
    {
        assert!(told(&history, &at(&["a.2"], &[]), goal).contains(expected), "{goal}");
    }
    let twice = History { branches: Branches::Apps, ..super::tests::history(&["l.1", "l.2<l.1", "l.3<l.1"]) };
    assert!(told(&twice, &at(&["l.1"], &[]), "head").starts_with("l has multiple heads: l.2, l.3; "));
}

#[test]
fn a_tool_without_a_list_goes_as_far_as_it_goes_or_one_step_back() {
    for (has_downgrade, goal, expected) in [
        (true, "head", "+ of base to 7"),
        (true, "-1", "- of base to 7"),
        (true, "7", "+ of base to 7"),
        (false, "-1", "no command that goes back"),
        (true, "-2", "no list of revisions"),
        (true, "+1", "no list of revisions"),
        (true, "base", "no list of revisions"),
        (true, "8", "no list of revisions"),
    ] {
        let history = History { branches: Branches::Unlisted { has_downgrade }, ..History::default() };
        let told = told(&history, &at(&["7"], &[]), goal);
        assert!(told.contains(expected), "{goal}: {told}");
    }
}
