//! `backup-agent export`

use super::progress::Meter;
use super::{Done, Global, open, put_line, text};
use crate::export::{default_name, to_file, to_writer};
use crate::repository::StoredBackup;
use clap::Args;
use std::path::{Path, PathBuf};

/// Writes a backup as one ordinary .tar.gz (or .tar.zst), which holds its own restore.sh
#[derive(Debug, Args)]
#[command(
    after_help = "Example: backup-agent export shop/20250131T030000Z-1a2b3c -o shop.tar.gz\n         tar -xzf shop.tar.gz && sh shop-20250131T030000Z-1a2b3c/restore.sh sqlite:restored.db"
)]
pub struct Export {
    /// <database>/<id>, or the beginning of an id
    backup: String,
    /// The file to write; - is standard output [default: <database>-<id>.tar.gz]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Export {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let repository = global.repository(&config).await?;
        let chosen = open::backup(&repository, &self.backup).await?;
        let backup = StoredBackup::open(&repository, chosen.manifest).await?;
        let path = self.output.unwrap_or_else(|| default_name(&backup));
        let meter = Meter::new(global, "exporting", backup.manifest().header.stored_bytes);
        let advance = |bytes| meter.advance(bytes);
        let result = if path == Path::new("-") {
            to_writer(&backup, &mut tokio::io::stdout(), &advance).await
        } else {
            to_file(&backup, &path, &advance).await
        };
        meter.finish();
        let bytes = result?;
        if path != Path::new("-") {
            put_line(&path.display().to_string());
        }
        say!("exported {} ({})", backup.name(), text::size(bytes));
        Ok(())
    }
}
