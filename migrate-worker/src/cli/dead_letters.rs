//! `migrate-worker dead-letters`

use crate::Error;
use backup_agent::cli::{Done, Failure, Global, put_line, text};
use clap::{Args, Subcommand};
use shared::queue::amqp::{AmqpSettings, DeadLetter, DeadLetters as Open};

/// Messages that could never be taken in: why, and what to do with them
#[derive(Debug, Args)]
#[command(after_help = "Example: migrate-worker dead-letters list
         migrate-worker dead-letters requeue 5f0c3a9e81d2")]
pub struct DeadLetters {
    #[command(subcommand)]
    what: What,
    /// So many are looked at, the oldest first
    #[arg(long, global = true, default_value_t = 1000)]
    limit: usize,
}

#[derive(Debug, Subcommand)]
enum What {
    /// One line each, the oldest first
    List {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Everything about one
    Show {
        /// Its id
        id: String,
    },
    /// Send them again, as they were
    Requeue(Which),
    /// Remove them for good
    Drop(Which),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Their ids
    ids: Vec<String>,
    /// All that are looked at
    #[arg(long)]
    all: bool,
}

impl DeadLetters {
    pub(super) async fn run(self, global: &Global) -> Done {
        let opened = Open::open(broker(global)?, self.limit).await.map_err(unavailable)?;
        let letters = opened.list();
        match self.what {
            What::List { json: true } => put_line(&serde_json::json!(letters).to_string()),
            What::List { json: false } => letters.iter().for_each(|letter| put_line(&line(letter))),
            What::Show { id } => show(found(&letters, &id)?),
            What::Requeue(which) => {
                let done = opened.requeue(&which.ids(&letters)?).await.map_err(unavailable)?;
                put_line(&format!("{} sent again", text::counted(done, "message")));
            }
            What::Drop(which) => {
                let done = opened.discard(&which.ids(&letters)?).await.map_err(unavailable)?;
                put_line(&format!("{} removed", text::counted(done, "message")));
            }
        }
        Ok(())
    }
}

/// The configured broker.
pub(super) fn broker(global: &Global) -> Result<AmqpSettings, Failure> {
    let settings = global.config()?.queue().map_err(Error::from)?;
    settings.ok_or_else(|| Error::refused("no message broker is configured", "add [queue] with its url").into())
}

/// The broker's own words, as a failure.
pub(super) fn unavailable(error: shared::queue::PublishError) -> Failure {
    Error::failed(error.to_string()).into()
}

impl Which {
    fn ids(&self, letters: &[DeadLetter]) -> Result<Vec<String>, Failure> {
        if self.all {
            return Ok(letters.iter().map(|letter| letter.id.clone()).collect());
        }
        self.ids.iter().map(|id| found(letters, id).map(|letter| letter.id.clone())).collect()
    }
}

fn found<'a>(letters: &'a [DeadLetter], id: &str) -> Result<&'a DeadLetter, Failure> {
    letters.iter().find(|letter| letter.id == id).ok_or_else(|| {
        let message = format!("there is no dead letter {}; nothing was changed", text::name(id));
        Error::refused(message, "migrate-worker dead-letters list shows what there is").into()
    })
}

fn line(letter: &DeadLetter) -> String {
    let at = letter.at.as_deref().unwrap_or("-");
    let (key, reason) = (text::name(&letter.routing_key), text::name(&letter.reason));
    format!("{}  {at}  {key}  {}  {reason}", letter.id, text::size(letter.bytes as u64))
}

fn show(letter: &DeadLetter) {
    put_line(&line(letter));
    for (name, value) in &letter.headers {
        put_line(&format!("{}: {}", text::name(name), text::name(&value.to_string())));
    }
    put_line("");
    put_line(&text::name(&letter.body));
}
