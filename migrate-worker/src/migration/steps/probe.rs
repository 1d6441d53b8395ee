//! Asks the tool where an empty database stands: a tool that answers anything but "nothing applied" looks elsewhere.

use super::preflight::Checked;
use super::scratch::{Purpose, ScratchSite};
use crate::migration::facts::heads;
use crate::migration::halt::Halt;
use crate::migration::site::Site;

/// Refuses a tool that does not look where it is told to.
pub async fn probe(site: &mut Site, _checked: &Checked) -> Result<(), Halt> {
    if site.runner.name() == "sql" {
        // Run by this very program, which looks nowhere else.
        return Ok(());
    }
    let scratch = ScratchSite::choose(site, Purpose::Probe).await?;
    scratch.make_empty().await?;
    let answer = site.runner.probe(&scratch.url, &site.call()?).await;
    scratch.remove(site)?;
    let answer = answer?;
    if answer.is_empty() {
        return Ok(());
    }
    Err(Halt::refused_with(
        format!(
            "{} says that an empty database stands at {}: it looks at another database than it is told to",
            site.runner.name(),
            heads(&answer)
        ),
        "let its configuration take the address from sqlalchemy.url or DATABASE_URL",
    ))
}
