//! Which backups of a database stay: a pure function of the backups and the rules.
//!
//! - A backup stays when any rule keeps it. A rule like `daily = 7` keeps the newest of each of the newest seven days
//!   *that have one*, so that a database whose backups fail for a month loses nothing by that.
//! - The instant of a backup is the second in its id: ids only grow, whatever clocks say.
//! - Only complete backups are counted. The newest complete one, the newest proven one and all on hold stay.
//! - What is dated after now stays, and nothing counts it: some clock was wrong, and until it is known which, no backup
//!   is let go because of it. Apart from that nothing depends on now: a clock that jumps ahead ages no backup.
//! - One that is not complete stays while it is newer than the newest complete one, younger than two days, or the one a
//!   rule would keep if it were complete: a new backup stores damaged parts again, and `verify` completes an
//!   unfinished one. It takes nobody's place.

mod rules;
#[cfg(test)]
mod tests;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rules::{Periods, Rule};
use shared::config::{RetentionConfig, Time};
use shared::model::BackupId;
use std::collections::BTreeMap;
use std::fmt;

/// A policy that cannot be followed, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRetention {
    /// No rule, and no `min`.
    #[error(
        "retention keeps nothing: give at least one of last, hourly, daily, weekly, monthly, yearly, within and min"
    )]
    KeepsNothing,
    /// `min = 0`.
    #[error("retention min is 0, but the last backup is never let go: write 1 or more")]
    NoMinimum,
    /// More than anybody can have meant.
    #[error("retention {rule} = {number} is more than {MOST}; to keep everything, leave retention out")]
    Absurd {
        /// Name of the rule.
        rule: &'static str,
        /// What was written.
        number: u32,
    },
}

/// The largest number a rule may have: an hourly backup for eleven years.
pub const MOST: u32 = 100_000;
/// How long a backup that is not complete stays in any case: somebody may be looking at it.
const GRACE: SignedDuration = SignedDuration::from_hours(48);

/// What is kept of a database's backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    rules: Vec<Rule>,
}

/// A backup as retention sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: BackupId,
    /// Whether it was seen whole, and nothing it needs was found damaged since.
    pub is_complete: bool,
    /// Whether a restore of it was proven, and no later proof failed; whatever was found damaged since.
    pub is_proven: bool,
    /// Who holds it and why, for a person: `alice: audit`.
    pub holds: Vec<String>,
}

/// What becomes of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Its id.
    pub id: BackupId,
    /// Whether it stays.
    pub keep: bool,
    /// Why, for a person; never empty.
    pub reasons: Vec<String>,
}

impl Retention {
    /// Understands a policy as it stands in the configuration. A rule that is 0 is no rule; `min` is 1 if not given.
    pub fn from_config(config: &RetentionConfig) -> Result<Self, InvalidRetention> {
        let numbers = [
            ("last", config.last),
            ("hourly", config.hourly),
            ("daily", config.daily),
            ("weekly", config.weekly),
            ("monthly", config.monthly),
            ("yearly", config.yearly),
            ("min", config.min),
        ];
        for (rule, number) in numbers {
            if let Some(number) = number.filter(|number| *number > MOST) {
                return Err(InvalidRetention::Absurd { rule, number });
            }
        }
        let given = |number: Option<u32>| number.filter(|number| *number > 0).map(|number| number as usize);
        let within = config.within.filter(|time| !time.0.is_zero());
        let periods = [
            (Periods::Hours, config.hourly),
            (Periods::Days, config.daily),
            (Periods::Weeks, config.weekly),
            (Periods::Months, config.monthly),
            (Periods::Years, config.yearly),
        ];
        let mut rules: Vec<Rule> = given(config.last).map(Rule::Last).into_iter().collect();
        rules.extend(periods.into_iter().filter_map(|(periods, number)| Some(Rule::Each(periods, given(number)?))));
        rules.extend(within.map(Rule::Within));
        match config.min {
            Some(0) => return Err(InvalidRetention::NoMinimum),
            None if rules.is_empty() => return Err(InvalidRetention::KeepsNothing),
            min => rules.push(Rule::Min(min.unwrap_or(1) as usize)),
        }
        Ok(Retention { rules })
    }

    /// Decides about each backup, oldest first, whatever their order was. Days and weeks are those of `zone`.
    ///
    /// Deciding again about what is kept keeps all of it.
    pub fn plan(&self, backups: &[Candidate], now: Timestamp, zone: &TimeZone) -> Vec<Verdict> {
        // Newest first; the map also joins an id that is given twice.
        let by_id: BTreeMap<&BackupId, &Candidate> = backups.iter().map(|backup| (&backup.id, backup)).collect();
        let newest_first: Vec<&Candidate> = by_id.into_values().rev().collect();
        let (future, past): (Vec<&Candidate>, Vec<&Candidate>) =
            newest_first.iter().partition(|backup| backup.id.second() > now);
        let whole: Vec<&Candidate> = past.iter().copied().filter(|backup| backup.is_complete).collect();

        let mut reasons = Reasons::default();
        for rule in &self.rules {
            for (backup, reason) in rule.keeps(&whole, zone) {
                reasons.add(backup, reason);
            }
        }
        for backup in future {
            reasons.add(backup, format!("dated after now, {}: some clock was wrong", backup.id.second()));
        }
        self.keep_unfinished(&past, &whole, now, zone, &mut reasons);
        keep_marked(&newest_first, &whole, &mut reasons);
        newest_first.iter().rev().map(|backup| reasons.verdict(backup)).collect()
    }

    /// Keeps what is not complete as long as it may become so.
    fn keep_unfinished<'a>(
        &self,
        past: &[&'a Candidate],
        whole: &[&Candidate],
        now: Timestamp,
        zone: &TimeZone,
        reasons: &mut Reasons<'a>,
    ) {
        let newest_whole = whole.first().map(|backup| &backup.id);
        for backup in past.iter().filter(|backup| !backup.is_complete) {
            if newest_whole.is_none_or(|newest| backup.id > *newest) {
                reasons.add(backup, "not complete: stays until a newer one is".into());
            }
            if now.duration_since(backup.id.second()) < GRACE {
                reasons.add(backup, "not complete, but younger than 2d".into());
            }
        }
        for rule in &self.rules {
            for (backup, reason) in rule.keeps(past, zone).into_iter().filter(|(backup, _)| !backup.is_complete) {
                reasons.add(backup, format!("not complete; if it were, {reason}"));
            }
        }
    }
}

/// Keeps what no rule may let go.
fn keep_marked<'a>(newest_first: &[&'a Candidate], whole: &[&'a Candidate], reasons: &mut Reasons<'a>) {
    if let Some(newest) = newest_first.iter().find(|backup| backup.is_complete) {
        reasons.add(newest, "the newest complete backup".into());
    }
    // A proof from before damage was found still says more than none.
    let proven = newest_first.iter().find(|backup| backup.is_proven);
    let proven_whole = newest_first.iter().find(|backup| backup.is_proven && backup.is_complete);
    // One in the future may be there by mistake, so that the newest of the past stays as well.
    let past_proven = whole.iter().find(|backup| backup.is_proven);
    for (backup, reason) in [
        (proven_whole, "the newest proven backup"),
        (proven.filter(|backup| !backup.is_complete), "the newest proven backup, though damaged"),
        (
            past_proven.filter(|backup| proven_whole.is_some_and(|newest| newest.id != backup.id)),
            "the newest proven backup of the past",
        ),
    ] {
        if let Some(backup) = backup {
            reasons.add(backup, reason.into());
        }
    }
    for backup in newest_first {
        for hold in &backup.holds {
            reasons.add(backup, format!("on hold by {hold}"));
        }
    }
}

/// Why backups stay.
#[derive(Default)]
struct Reasons<'a>(BTreeMap<&'a BackupId, Vec<String>>);

impl<'a> Reasons<'a> {
    fn add(&mut self, backup: &'a Candidate, reason: String) {
        self.0.entry(&backup.id).or_default().push(reason);
    }

    fn verdict(&mut self, backup: &Candidate) -> Verdict {
        let id = backup.id.clone();
        match self.0.remove(&backup.id) {
            Some(reasons) => Verdict { id, keep: true, reasons },
            None if backup.is_complete => Verdict { id, keep: false, reasons: vec!["no rule keeps it".into()] },
            None => Verdict { id, keep: false, reasons: vec!["not complete, and newer ones are".into()] },
        }
    }
}

impl fmt::Display for Retention {
    /// `last 7, daily 7, within 3d, min 1`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules: Vec<String> = self.rules.iter().map(Rule::to_string).collect();
        f.write_str(&rules.join(", "))
    }
}
