//! `backup-agent hold` and `backup-agent release`

use super::forget::anywhere;
use super::{Done, Failure, Global, put_line, text};
use crate::choose;
use crate::error::Error;
use crate::hold::{hold, release};
use crate::repository::Owner;
use clap::Args;

/// Puts a backup on hold: nobody forgets it until it is released
#[derive(Debug, Args)]
#[command(after_help = "Example: backup-agent hold shop/20250131T030000Z-1a2b3c --reason \"audit of January\"")]
pub struct Hold {
    /// <database>/<id>, or the beginning of an id
    backup: String,
    /// Who holds it [default: your user name]
    #[arg(long, value_name = "NAME")]
    owner: Option<Owner>,
    /// Why, for whoever wonders later
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Hold {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let repository = global.repository(&config).await?;
        let (database, id) = choose::key(&repository, &self.backup).await?;
        let owner = self.owner.map_or_else(user, Ok)?;
        let held = hold(&repository, &database, &id, &owner, &self.reason).await?;
        if self.json {
            let mut value = serde_json::json!(held);
            value["id"] = format!("{database}/{id}").into();
            put_line(&value.to_string());
        }
        say!("{database}/{id} is on hold by {owner}");
        Ok(())
    }
}

/// Takes a hold back; the backup stays, but may be forgotten again
#[derive(Debug, Args)]
#[command(after_help = "Example: backup-agent release shop/20250131T030000Z-1a2b3c")]
pub struct Release {
    /// <database>/<id>, or the beginning of an id
    backup: String,
    /// Whose hold [default: your user name]
    #[arg(long, value_name = "NAME")]
    owner: Option<Owner>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Release {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let repository = global.repository(&config).await?;
        let (database, id) = anywhere(&repository, &self.backup).await?;
        let owner = self.owner.map_or_else(user, Ok)?;
        let released = release(&repository, &database, &id, &owner).await?;
        let others = repository.marks(&database, &id).await.map_err(Error::from)?;
        let mut names: Vec<String> = others.holds().iter().map(|hold| hold.owner.to_string()).collect();
        names.dedup();
        if released == 0 {
            let who = if names.is_empty() { "nobody does".into() } else { format!("{} does", names.join(", ")) };
            let message = format!("{owner} does not hold {database}/{id}; {who}");
            return Err(Error::refused(message, "backup-agent show tells of holds; choose with --owner").into());
        }
        if self.json {
            put_line(
                &serde_json::json!({
                    "id": format!("{database}/{id}"), "owner": owner, "released": released, "still_held_by": names,
                })
                .to_string(),
            );
        }
        let rest = if names.is_empty() { String::new() } else { format!("; still held by {}", names.join(", ")) };
        say!("released {} of {owner} on {database}/{id}{rest}", text::counted(released, "hold"));
        Ok(())
    }
}

/// The person's name as far as it can own a hold.
fn user() -> Result<Owner, Failure> {
    let name = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    owner_of(&name).parse().map_err(|error| Failure::Usage(format!("{error}; choose with --owner")))
}

fn owner_of(user: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = user.chars().map(plain).collect();
    let name: String = name.trim_start_matches('-').chars().take(31).collect();
    if name.is_empty() { "operator".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_s_name_becomes_an_owner() {
        let long = "x".repeat(60);
        for (user, owner) in [
            ("bob", "bob"),
            ("Bob Ä. Miller", "bob----miller"),
            ("_svc", "svc"),
            ("", "operator"),
            (&long, &long[..31]),
        ] {
            assert_eq!(owner_of(user), owner);
            assert!(owner.parse::<Owner>().is_ok());
        }
    }
}
