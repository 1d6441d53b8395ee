//! The webhook: a POST with a JSON body, signed as Standard Webhooks says where there is a key.

use super::{Address, message};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ring::hmac;
use shared::config::{Config, ConfigError, NotifyConfig};
use shared::model::{Task, TaskEvent};
use std::fmt;

/// Who gets the messages.
pub(super) struct Webhook {
    address: Address,
    key: Option<hmac::Key>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("is_signed", &self.key.is_some()).finish_non_exhaustive()
    }
}

impl Webhook {
    /// The webhook of a section, if it has one.
    pub(super) fn read(config: &Config, section: &str, notify: &NotifyConfig) -> Result<Option<Webhook>, ConfigError> {
        let address = Address::parse(section, "webhook_url", &notify.webhook_url)?;
        let secret = config.webhook_secret(section, notify)?;
        let key = secret.map(|secret| key(section, secret.reveal())).transpose()?;
        Ok(address.map(|address| Webhook { address, key }))
    }

    /// The message of an event as it is sent.
    pub(super) fn message(
        &self,
        http: &reqwest::Client,
        task: &Task,
        event: &TaskEvent,
        now: Timestamp,
    ) -> reqwest::RequestBuilder {
        let (id, time) = (message::id(task, event), now.as_second().to_string());
        let body = message::body(task, event);
        let mut post = http.post(self.address.0.clone()).header("content-type", message::CONTENT_TYPE);
        post = post.header("webhook-id", &id).header("webhook-timestamp", &time);
        if let Some(key) = &self.key {
            let signed = hmac::sign(key, format!("{id}.{time}.{body}").as_bytes());
            post = post.header("webhook-signature", format!("v1,{}", STANDARD.encode(signed)));
        }
        post.body(body)
    }
}

fn key(section: &str, secret: &str) -> Result<hmac::Key, ConfigError> {
    let bytes = secret.trim().strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
    match bytes {
        Some(bytes) if (24..=64).contains(&bytes.len()) => Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes)),
        _ => Err(ConfigError::Value(format!(
            "webhook_secret of {section}: must be whsec_ and the base64 of 24 to 64 random bytes"
        ))),
    }
}
