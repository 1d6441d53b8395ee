//! Alert rules and the dashboard against the metrics the program has.

use super::{anchor_of, headings, text, yaml};
use crate::http::{full_health, parsed};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tests::fake_clock::FakeClock;

/// The metrics there are, as the program itself writes them.
fn metrics() -> BTreeMap<String, Vec<String>> {
    let clock = FakeClock::at("2025-01-31T12:00:00Z".parse().unwrap());
    let page = full_health(&clock).metrics();
    let values = parsed(&page);
    let typed = page.lines().filter(|line| line.starts_with("# TYPE ")).count();
    // A summary has two names; every other metric must have a value here, or its labels are not known below.
    assert_eq!(values.len(), typed + 1, "full_health leaves a metric out: {:?}", values.keys());
    values
}

/// The metrics an expression of Prometheus names, each with the labels it asks for.
fn used(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in expression.match_indices("holdfast_") {
        let rest = &expression[at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let labels =
            rest[end..].strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(labels, _)| labels);
        let labels = labels.split(',').filter_map(|label| Some(label.split_once(['=', '!'])?.0.trim().to_owned()));
        found.push((rest[..end].to_owned(), labels.collect()));
    }
    found
}

fn check_expression(expression: &str, metrics: &BTreeMap<String, Vec<String>>) {
    let open = |c| expression.matches(c).count();
    assert_eq!((open('('), open('{')), (open(')'), open('}')), "{expression}");
    for (name, labels) in used(expression) {
        let Some(lines) = metrics.get(&name) else { panic!("there is no metric {name}: {expression}") };
        for label in labels.iter().filter(|label| *label != "instance") {
            assert!(
                lines.iter().any(|line| line.contains(&format!("{label}=\""))),
                "{name} has no {label}: {expression}"
            );
        }
    }
}

#[test]
fn alerts_name_metrics_there_are_and_lead_to_headings_of_the_runbooks() {
    let metrics = metrics();
    let alerts = yaml("ops/prometheus/alerts.yml");
    let rules = alerts["groups"][0]["rules"].as_array().unwrap();
    let mut names = BTreeSet::new();
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        assert!(names.insert(name), "{name} stands twice");
        let known = ["alert", "expr", "for", "labels", "annotations"];
        assert!(rule.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{rule}");
        let expression = rule["expr"].as_str().unwrap();
        check_expression(expression, &metrics);
        assert!(expression.contains("holdfast"), "{expression}");
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()));
        for key in ["summary", "description"] {
            assert!(!rule["annotations"][key].as_str().unwrap().is_empty(), "{name} has no {key}");
        }
        let link = rule["annotations"]["runbook_url"].as_str().unwrap();
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let runbook = text(&format!("ops/runbooks/{}", file.rsplit_once('/').unwrap().1));
        let anchors: Vec<String> = headings(&runbook).map(anchor_of).collect();
        assert!(anchor.is_empty() || anchors.contains(&anchor.to_owned()), "{name}: no heading {anchor}: {anchors:?}");
    }
    for needed in ["newest_proven_backup_age", "last_success", "last_error", "unusable_backups", "deliveries", "stale"]
    {
        assert!(rules.iter().any(|rule| rule["expr"].to_string().contains(needed)), "nothing watches {needed}");
    }
}

#[test]
fn the_dashboard_names_metrics_there_are() {
    let metrics = metrics();
    let dashboard: Value = serde_json::from_str(&text("ops/grafana/holdfast.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut shown) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels have the same id");
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            check_expression(expression, &metrics);
            shown.extend(used(expression).into_iter().map(|(name, _)| name));
        }
        let (x, w) = (panel["gridPos"]["x"].as_u64().unwrap(), panel["gridPos"]["w"].as_u64().unwrap());
        assert!(x + w <= 24, "{} does not fit", panel["title"]);
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        for (name, _) in used(variable["definition"].as_str().unwrap_or_default()) {
            assert!(metrics.contains_key(&name), "{name}");
        }
    }
    assert!(panels.len() > 5 && shown.len() > 10, "{shown:?}");
}
