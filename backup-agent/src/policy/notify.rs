//! Whether those who are to be told can be told.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use shared::config::NotifyConfig;
use shared::model::Secret;

/// What is wrong with a `notify`. Never repeats an address, a command or a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNotify {
    /// An address that cannot be requested.
    #[error("{key} is no http:// or https:// address")]
    Url {
        /// The key.
        key: &'static str,
    },
    /// A command without a program.
    #[error("command names no program")]
    Command,
    /// A key given more than once.
    #[error("give only one of webhook_secret, webhook_secret_env, webhook_secret_file")]
    Secrets,
    /// A key that signs nothing.
    #[error("webhook_secret is given, but no webhook_url")]
    Unused,
    /// A key that is none.
    #[error("webhook_secret is no key: it must be whsec_ and base64 of 24 to 64 bytes")]
    Secret,
    /// Nothing to tell.
    #[error("on is empty: leave it out, or leave out whom to tell")]
    Nothing,
}

/// Checks what can be checked without asking anybody. Values that stand elsewhere are not read.
pub(super) fn check(config: &NotifyConfig) -> Result<(), InvalidNotify> {
    for (key, url) in [
        ("ping_url", &config.ping_url),
        ("start_url", &config.start_url),
        ("success_url", &config.success_url),
        ("failure_url", &config.failure_url),
        ("webhook_url", &config.webhook_url),
    ] {
        if url.as_ref().is_some_and(|url| !is_web_address(url)) {
            return Err(InvalidNotify::Url { key });
        }
    }
    if config.command.as_ref().is_some_and(|command| command.first().is_none_or(|program| program.trim().is_empty())) {
        return Err(InvalidNotify::Command);
    }
    let secrets =
        [config.webhook_secret.is_some(), config.webhook_secret_env.is_some(), config.webhook_secret_file.is_some()];
    match secrets.iter().filter(|given| **given).count() {
        0 => {}
        1 if config.webhook_url.is_none() => return Err(InvalidNotify::Unused),
        1 => {}
        _ => return Err(InvalidNotify::Secrets),
    }
    if config.webhook_secret.as_ref().is_some_and(|secret| !is_key(secret.reveal())) {
        return Err(InvalidNotify::Secret);
    }
    if config.on.as_ref().is_some_and(Vec::is_empty) { Err(InvalidNotify::Nothing) } else { Ok(()) }
}

fn is_web_address(url: &Secret) -> bool {
    let url = reqwest::Url::parse(url.reveal());
    url.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Whether this is a key as Standard Webhooks has them.
fn is_key(text: &str) -> bool {
    let bytes = text.trim().strip_prefix("whsec_").and_then(|text| BASE64_STANDARD.decode(text).ok());
    bytes.is_some_and(|bytes| (24..=64).contains(&bytes.len()))
}
