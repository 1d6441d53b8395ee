//! Names that databases get while one of them is changed. OIDs decide; names only tell people what they see.

use super::PostgresLive;
use super::catalogue;
use crate::engine::EngineError;
use crate::engine::postgres::aside::{cut, eight_digits};
use crate::engine::postgres::session;
use serde::{Deserialize, Serialize};

/// Of the original behind the fence.
const FENCED: &str = "__mig_";

/// Of the placeholder while it does not bear the public name.
const PLACEHOLDER: &str = "__fence_";

/// Of an original that a migration failed on, and that was exchanged for a restored database.
const FAILED: &str = "__failed_";

/// Of an original that a backup took the place of because a person wished it.
const REPLACED: &str = "__replaced_";

/// Beginnings of the ends of databases that may be dropped at any time.
pub(super) const SCRATCH: [&str; 4] = ["__reh_", "__res_", "__restoring_", PLACEHOLDER];

/// Which database is fenced, and under which names. Written into a journal before anything is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FencePlan {
    /// OID of the database.
    pub oid: u32,
    /// Its public name, which the placeholder bears meanwhile.
    pub public: String,
    /// Its name behind the fence: `<db>__mig_<8 hex>_<epoch>`.
    pub fenced: String,
    /// The placeholder's name before and afterwards: `<db>__fence_<8 hex>`.
    pub placeholder: String,
    /// The eight hexadecimal digits that all names of this plan share.
    pub token: String,
    /// Epoch of the lease under which `fenced` was chosen.
    pub epoch: u64,
}

/// A restored database that takes the place of the fenced one. Written into a journal before anything is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapPlan {
    /// The fence behind which the exchange happens.
    pub fence: FencePlan,
    /// OID of the restored database.
    pub restored_oid: u32,
    /// The name the original keeps: `<db>__failed_<8 hex>` or `<db>__replaced_<8 hex>`.
    pub failed: String,
    /// Why the original has to go.
    #[serde(default)]
    pub why: Exchange,
}

/// Why a restored database takes the place of another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exchange {
    /// A migration failed on the original.
    #[default]
    Failed,
    /// Somebody wished to have the backup back.
    Replaced,
}

impl FencePlan {
    fn new(oid: u32, public: &str, token: String, epoch: u64) -> Self {
        FencePlan {
            oid,
            public: public.to_owned(),
            fenced: joined(public, &fenced_end(&token, epoch)),
            placeholder: joined(public, &format!("{PLACEHOLDER}{token}")),
            token,
            epoch,
        }
    }

    /// The same fence with the name of another epoch.
    pub fn at_epoch(&self, epoch: u64) -> Self {
        let fenced = joined(&self.public, &fenced_end(&self.token, epoch));
        FencePlan { fenced, epoch, ..self.clone() }
    }

    /// Whether `name` is one of this plan behind the fence, of whatever epoch.
    pub(super) fn is_fenced_name(&self, name: &str) -> bool {
        let end = format!("{FENCED}{}_", self.token);
        name.rsplit_once(&end)
            .is_some_and(|(before, epoch)| self.public.starts_with(before) && epoch.parse::<u64>().is_ok())
    }

    /// The name an exchanged original keeps.
    pub(super) fn kept_as(&self, why: Exchange) -> String {
        let infix = match why {
            Exchange::Failed => FAILED,
            Exchange::Replaced => REPLACED,
        };
        joined(&self.public, &format!("{infix}{}", self.token))
    }

    /// Whether `name` is one that an exchanged original keeps.
    pub(super) fn is_kept_name(&self, name: &str) -> bool {
        [Exchange::Failed, Exchange::Replaced].into_iter().any(|why| self.kept_as(why) == name)
    }

    /// Beginning of the comment by which this plan's placeholder is known.
    pub(super) fn mark(&self) -> String {
        format!("holdfast: placeholder {}:", self.placeholder)
    }
}

impl PostgresLive {
    /// Chooses the names of a fence around the database that bears the public name now; does nothing else.
    pub async fn plan_fence(&self, epoch: u64) -> Result<FencePlan, EngineError> {
        let oid = self.oid().await?;
        let mut conn = self.maintenance().await?;
        loop {
            let plan = FencePlan::new(oid, self.public(), eight_digits()?, epoch);
            let kept = [Exchange::Failed, Exchange::Replaced].map(|why| plan.kept_as(why));
            let names = [plan.fenced.clone(), plan.placeholder.clone(), kept[0].clone(), kept[1].clone()];
            if catalogue::names_taken(&mut conn, &names).await?.is_empty() {
                session::close(conn).await;
                return Ok(plan);
            }
        }
    }

    /// Chooses the name that the original keeps when `restored_oid` takes its place; does nothing else.
    pub fn plan_swap(&self, plan: &FencePlan, restored_oid: u32, why: Exchange) -> SwapPlan {
        SwapPlan { fence: plan.clone(), restored_oid, failed: plan.kept_as(why), why }
    }

    /// A new name for a scratch database beside `public`: `<db><infix><8 hex>`, with `infix` like `__reh_`.
    pub fn scratch_name(public: &str, infix: &str) -> Result<String, EngineError> {
        scratch_name(public, infix)
    }
}

/// A new name for a scratch database beside `public`: `<db><infix><8 hex>`, with `infix` like `__reh_`.
pub fn scratch_name(public: &str, infix: &str) -> Result<String, EngineError> {
    Ok(joined(public, &format!("{infix}{}", eight_digits()?)))
}

/// Whether a database of this name may be dropped at any time, because we made it for a while.
pub(super) fn is_scratch(name: &str) -> bool {
    SCRATCH
        .iter()
        .any(|infix| name.rsplit_once(infix).is_some_and(|(before, digits)| !before.is_empty() && is_token(digits)))
}

/// Whether `name` is one that we give to databases beside `public`.
pub(super) fn is_beside(public: &str, name: &str) -> bool {
    parts(name).is_some_and(|(before, end_bytes)| before == cut(public, end_bytes))
}

/// Whether `name` is one that we give to databases at all.
pub(super) fn is_ours(name: &str) -> bool {
    parts(name).is_some()
}

/// What stands before our end of a name, and how many bytes that end has.
fn parts(name: &str) -> Option<(&str, usize)> {
    let ends = SCRATCH.iter().chain(&[FENCED, FAILED, REPLACED]);
    ends.filter_map(|infix| name.rsplit_once(infix)).find_map(|(before, rest)| {
        let (token, epoch) = rest.split_once('_').unwrap_or((rest, "0"));
        let ours = !before.is_empty() && is_token(token) && epoch.parse::<u64>().is_ok();
        ours.then(|| (before, name.len() - before.len()))
    })
}

fn is_token(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn fenced_end(token: &str, epoch: u64) -> String {
    format!("{FENCED}{token}_{epoch}")
}

fn joined(public: &str, end: &str) -> String {
    format!("{}{end}", cut(public, end.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_by_their_ends() {
        let long = "ü".repeat(31);
        for public in ["shop", "shop__reh_0123abcd", long.as_str()] {
            let plan = FencePlan::new(1, public, "0123abcd".into(), 9).at_epoch(u64::MAX);
            let kept = [Exchange::Failed, Exchange::Replaced].map(|why| plan.kept_as(why));
            for name in [&plan.fenced, &plan.placeholder].into_iter().chain(&kept) {
                assert!(name.len() <= 63 && is_beside(public, name) && is_ours(name), "{name}");
                assert_eq!(plan.is_kept_name(name), kept.contains(name), "{name}");
            }
            assert!(plan.is_fenced_name(&plan.fenced) && plan.is_fenced_name(&plan.at_epoch(1).fenced));
            assert!(!plan.is_fenced_name(public) && !plan.is_fenced_name(&plan.placeholder));
        }
        for (name, scratch, beside) in [
            ("shop__reh_0123abcd", true, true),
            ("shop2__reh_0123abcd", true, false),
            ("shop__mig_0123abcd_3", false, true),
            ("shop__failed_0123abcd", false, true),
            ("shop__replaced_0123abcd", false, true),
            ("shop__reh_0123abc", false, false),
            ("shop__reh_0123abcx", false, false),
            ("shop__reh_shop", false, false),
            ("__reh_0123abcd", false, false),
            ("shop", false, false),
        ] {
            assert_eq!((is_scratch(name), is_beside("shop", name)), (scratch, beside), "{name}");
        }
    }
}
