//! Connections: made within a time, named without credentials.

use super::{AmqpSettings, PATIENCE};
use crate::queue::PublishError;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use std::time::Duration;

/// A broker that can be connected to.
#[derive(Debug, Clone)]
pub(super) struct Broker {
    settings: AmqpSettings,
    place: String,
}

impl Broker {
    /// Reads the address; the error never repeats it.
    pub(super) fn new(settings: AmqpSettings) -> Result<Self, String> {
        let place = place(&uri(&settings)?);
        Ok(Broker { settings, place })
    }

    pub(super) fn settings(&self) -> &AmqpSettings {
        &self.settings
    }

    /// Where it is, without credentials.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Connects; `purpose` shows in the broker's list of connections.
    pub(super) async fn connect(&self, purpose: &str) -> Result<Connection, PublishError> {
        crate::connect::install_tls();
        let uri = uri(&self.settings).map_err(|message| self.unavailable(message))?;
        let name = format!("holdfast {purpose} (process {})", std::process::id());
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        self.within(PATIENCE, "connecting", Connection::connect_uri(uri, properties)).await
    }

    /// Waits for the broker's answer, but not for ever.
    pub(super) async fn within<T>(
        &self,
        time: Duration,
        what: &str,
        work: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, PublishError> {
        match tokio::time::timeout(time, work).await {
            Ok(done) => done.map_err(|error| self.unavailable(format!("{what}: {}", words(&error)))),
            Err(_) => Err(self.unavailable(format!("{what}: no answer within {} s", time.as_secs()))),
        }
    }

    pub(super) fn unavailable(&self, message: impl Into<String>) -> PublishError {
        PublishError::Unavailable { place: self.place.clone(), message: message.into() }
    }
}

/// An error on one line. lapin's own words hold no credentials.
pub(super) fn words(error: &lapin::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn uri(settings: &AmqpSettings) -> Result<AMQPUri, String> {
    let text = settings.url.reveal().trim();
    if !text.starts_with("amqp://") && !text.starts_with("amqps://") {
        return Err("not an address that begins with amqp:// or amqps://".into());
    }
    // What the parser says may repeat the address.
    let mut uri: AMQPUri = text.parse().map_err(|_| "not an address of the form amqp://user:password@host:5672/%2f")?;
    // As every other client reads it: no path, or an empty one, is the usual virtual host.
    if uri.vhost.is_empty() {
        uri.vhost = "/".into();
    }
    let seconds = settings.heartbeat.as_secs().clamp(1, 3600);
    uri.query.heartbeat.get_or_insert(u16::try_from(seconds).unwrap_or(u16::MAX));
    Ok(uri)
}

fn place(uri: &AMQPUri) -> String {
    let vhost = if uri.vhost == "/" { String::new() } else { format!("/{}", uri.vhost) };
    format!("{}://{}:{}{vhost}", uri.scheme, uri.authority.host, uri.authority.port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;
    use crate::queue::amqp::QueueKind;

    fn broker(url: &str) -> Result<Broker, String> {
        Broker::new(AmqpSettings {
            url: Secret::new(url),
            group: "default".into(),
            kind: QueueKind::Quorum,
            heartbeat: Duration::from_secs(30),
            prefetch: 1,
        })
    }

    #[test]
    fn a_broker_is_named_without_its_credentials() {
        for (url, expected) in [
            ("amqp://u:s3cret@mq.example:5673/jobs", "amqp://mq.example:5673/jobs"),
            ("amqp://mq.example/%2f", "amqp://mq.example:5672"),
            ("amqp://mq.example", "amqp://mq.example:5672"),
            ("amqps://u:s3cret@mq.example", "amqps://mq.example:5671"),
        ] {
            assert_eq!(broker(url).expect(url).place(), expected);
        }
        for bad in ["", "mq.example", "http://u:s3cret@mq", "amqp://u:s3cret@:x/"] {
            let error = broker(bad).expect_err(bad);
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
