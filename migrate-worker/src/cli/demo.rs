//! `migrate-worker demo`

mod files;
mod narrator;
mod stage;

use super::history;
use crate::Error;
use crate::migration::Outcome;
use backup_agent::cli::demo::shop::Shop;
use backup_agent::cli::{Done, put_line, text};
use clap::Args;
use narrator::Accident;
use shared::model::TaskState;
use stage::Stage;
use std::path::PathBuf;

/// Shows the whole story on sample data: a backup, migrations that succeed, are refused and are taken back, a restore
///
/// Everything lies in ./holdfast-demo: database, migrations, configuration, store and record.
#[derive(Debug, Args)]
#[command(after_help = "Example: migrate-worker demo")]
pub struct Demo {
    /// Where everything is made; files of an earlier demo there are replaced
    #[arg(long, value_name = "DIR", default_value = "holdfast-demo")]
    directory: PathBuf,
}

impl Demo {
    pub(super) async fn run(self) -> Done {
        files::clear(&self.directory)?;
        let shop = Shop::open(&self.directory.join(files::DATABASE))?;
        let stage = Stage::set(&self.directory).await?;

        tell("A shop keeps its orders in SQLite. Every night they are backed up:");
        stage.back_up().await?;
        let (night, orders) = (stage.now(), shop.orders()?);

        good_migration(&stage, &shop).await?;
        careless_migration(&stage, &shop).await?;
        killed_migration(&stage, &shop).await?;

        let text = night.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
        tell(&format!("How was it last night? restore --at {text}, into a file of its own:"));
        let restored = stage.bring_back(night).await?;
        is_so(Shop::count_orders(&restored)? == orders, "the restored database holds other orders")?;
        put_line(&format!("   {} orders, before any migration, in {}", text::count(orders), restored.display()));

        tell("The TaskLog has it all, newest first (migrate-worker history):");
        for task in stage.tasks().await? {
            put_line(&format!("   {}", history::line(&task)));
        }
        put_line("");
        put_line(&format!(
            "Look around: migrate-worker history --config {}",
            self.directory.join(files::CONFIG).display()
        ));
        put_line("Your own database: write a holdfast.toml like that one, then migrate-worker rehearse NAME");
        Ok(())
    }
}

/// The application writes all the time and loses nothing.
async fn good_migration(stage: &Stage, shop: &Shop) -> Result<(), Error> {
    stage.add(&files::DELIVERY)?;
    tell(
        "A migration, while customers go on ordering. Rehearsed on a copy restored from a fresh backup, then applied:",
    );
    let before = shop.orders()?;
    let selling = shop.keep_selling()?;
    let outcome = stage.migrate(None).await?;
    let sold = selling.stop()?;
    ended(&outcome, TaskState::Succeeded)?;
    is_so(shop.orders()? == before + sold, "orders were lost")?;
    put_line(&format!("   meanwhile {} orders came in; all of them are there", text::count(sold)));
    Ok(())
}

/// What it would lose stops it.
async fn careless_migration(stage: &Stage, shop: &Shop) -> Result<(), Error> {
    stage.add(&files::CARELESS)?;
    tell("Then somebody tidies up: ALTER TABLE orders DROP COLUMN note. Nobody thought of what stands in it:");
    let before = shop.orders()?;
    let outcome = stage.migrate(None).await?;
    ended(&outcome, TaskState::Refused)?;
    is_so(shop.orders()? == before, "orders were lost")?;
    stage.take_away(&files::CARELESS)
}

/// Passes the rehearsal; then its tool is killed between the first file and the end of the second.
async fn killed_migration(stage: &Stage, shop: &Shop) -> Result<(), Error> {
    stage.add(&files::INVOICES)?;
    stage.add(&files::VAT)?;
    tell("Two more. The rehearsal is fine, but half-way through the real thing somebody does kill -9:");
    let before = shop.orders()?;
    let outcome = stage.migrate(Some(Accident { after_version: files::INVOICES.version })).await?;
    ended(&outcome, TaskState::Restored)?;
    is_so(shop.orders()? == before, "orders were lost")?;
    put_line(&format!(
        "   {} orders, the schema and the revision are as they were: looked at, not believed",
        text::count(before)
    ));
    Ok(())
}

fn tell(line: &str) {
    put_line("");
    put_line(line);
}

fn ended(outcome: &Outcome, state: TaskState) -> Result<(), Error> {
    is_so(outcome.state == state, &format!("it ended {} instead of {state}: {}", outcome.state, outcome.message))
}

fn is_so(holds: bool, otherwise: &str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::failed(format!("the demo failed: {otherwise}"))) }
}
