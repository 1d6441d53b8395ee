//! Runs one step on a live PostgreSQL database, so that a test can kill it in the middle.
//!
//! `live-step URL STEP PLAN`: STEP is fence, cut-off, unfence, swap or lock, PLAN is JSON (for lock: nothing). `lock`
//! prints its holder as JSON and holds the lock until it is killed.
#![allow(clippy::unwrap_used)]

use anyhow::{Context, Result, bail};
use shared::engine::postgres::{FencePlan, PostgresLive, SwapPlan};
use shared::model::DatabaseUrl;
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, step, plan] = &arguments[..] else { bail!("usage: live-step URL STEP PLAN") };
    let DatabaseUrl::Postgres(url) = url.parse()? else { bail!("no PostgreSQL URL") };
    let live = PostgresLive::new(url.clone(), url);
    let fence = || serde_json::from_str::<FencePlan>(plan).context("the plan is not a fence's");
    match step.as_str() {
        "fence" => drop(live.fence(&fence()?).await?),
        "cut-off" => drop(live.cut_off(&fence()?, fence()?.epoch + 1).await?),
        "unfence" => drop(live.unfence(&fence()?).await?),
        "swap" => drop(live.swap(&serde_json::from_str::<SwapPlan>(plan)?).await?),
        "lock" => {
            let lock = live.lock(Duration::ZERO).await?;
            println!("{}", serde_json::to_string(lock.holder())?);
            std::future::pending::<()>().await;
        }
        other => bail!("no step is called {other}"),
    }
    Ok(())
}
