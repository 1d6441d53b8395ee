//! Messages signed with a shared key: who sent it, and that nobody changed it.
//!
//! The header `x-holdfast-key` names the key, `x-holdfast-signature` holds `v1=` and the HMAC-SHA256 of the body in
//! hexadecimal. A message that is sent again is the same job, so a signature needs no time.

use ring::hmac;
use shared::config::{Config, ConfigError};
use shared::model::Secret;
use shared::queue::Message;
use std::collections::BTreeMap;

/// Header that names the key.
pub const KEY: &str = "x-holdfast-key";
/// Header that holds the signature.
pub const SIGNATURE: &str = "x-holdfast-signature";

/// The keys that are known, by their id.
#[derive(Debug, Default)]
pub struct Keys(BTreeMap<String, Known>);

#[derive(Debug)]
struct Known {
    principal: String,
    key: hmac::Key,
}

impl Keys {
    /// Reads the configured keys.
    pub fn read(config: &Config) -> Result<Self, ConfigError> {
        let known = config.queue.key.iter().map(|(id, key)| {
            let secret = config.queue_key(id, key)?;
            Ok((id.clone(), Known { principal: key.principal.clone(), key: key_of(&secret) }))
        });
        Ok(Keys(known.collect::<Result<_, ConfigError>>()?))
    }

    /// Who sent a message: none where no keys are configured. Fails where a signature is missing or wrong.
    pub fn principal(&self, message: &Message) -> Result<Option<&str>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let header = |name: &str| message.headers.get(name).and_then(|value| value.as_str());
        let (Some(id), Some(signature)) = (header(KEY), header(SIGNATURE)) else {
            return Err(format!("it is not signed: the headers {KEY} and {SIGNATURE} are missing"));
        };
        // Neither says which half is wrong: that would help whoever tries.
        let wrong = || "its signature is not right".to_owned();
        let known = self.0.get(id).ok_or_else(wrong)?;
        let bytes = signature.strip_prefix("v1=").and_then(|text| hex::decode(text).ok()).ok_or_else(wrong)?;
        hmac::verify(&known.key, &message.body, &bytes).map_err(|_| wrong())?;
        Ok(Some(&known.principal))
    }
}

fn key_of(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes())
}

/// The value of the header [`SIGNATURE`].
pub fn sign(secret: &Secret, body: &[u8]) -> String {
    format!("v1={}", hex::encode(hmac::sign(&key_of(secret), body)))
}
