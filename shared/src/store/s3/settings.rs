//! Where a bucket is and who asks: settings, checked, and the client made from them.

use super::fault::chain;
use crate::model::Secret;
use crate::store::{StoreError, key};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Credentials, ProvideCredentials, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use std::time::Duration;

/// How long to wait for a connection; the SDK's own 3 seconds are short across a continent and a proxy.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long bytes may stand still within a transfer.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// Servers beside AWS mostly take any region; they need one to be named in the signature.
const ANY_REGION: &str = "us-east-1";

/// Where a bucket is and who asks; what is left open comes from the usual AWS places.
#[derive(Debug, Clone, Default)]
pub struct S3Settings {
    /// Bucket; it must exist.
    pub bucket: String,
    /// Keys lie under this; may be empty, slashes around it do not matter.
    pub prefix: String,
    /// URL of a server other than AWS, without credentials in it.
    pub endpoint: Option<String>,
    /// Region; us-east-1 when nobody names one.
    pub region: Option<String>,
    /// The bucket in the path instead of the host name; yes by default at an endpoint of one's own.
    pub path_style: Option<bool>,
    /// Access key; together with the secret, or not at all.
    pub access_key_id: Option<String>,
    /// Secret key.
    pub secret_access_key: Option<Secret>,
    /// Token of temporary credentials.
    pub session_token: Option<Secret>,
}

impl S3Settings {
    /// The store's name for a person, after checking what can be checked without asking anybody.
    pub(super) fn place(&self) -> Result<String, StoreError> {
        let prefix = self.prefix.trim_matches('/');
        let mut place = format!("s3://{}", self.bucket);
        if !prefix.is_empty() {
            place = format!("{place}/{prefix}");
        }
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if self.bucket.is_empty() || !self.bucket.bytes().all(known) {
            return Err(denied(&place, format!("{:?} cannot be the name of a bucket", self.bucket)));
        }
        if !prefix.is_empty() {
            key::check(&place, prefix)?;
        }
        let Some(endpoint) = &self.endpoint else { return Ok(place) };
        // The endpoint itself is not shown before it is known to hold no password.
        let url =
            url::Url::parse(endpoint).map_err(|error| denied(&place, format!("the endpoint is no URL: {error}")))?;
        if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
            return Err(denied(&place, "the endpoint must begin with http:// or https://".to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(denied(&place, "the endpoint must be a plain URL, without credentials or `?`".to_owned()));
        }
        Ok(format!("{place} at {}", endpoint.trim_end_matches('/')))
    }

    /// Makes the client, asking the environment, profiles and instance services for what is open.
    pub(super) async fn client(&self, place: &str) -> Result<Client, StoreError> {
        let shared = self.shared_config(place).await?;
        if self.access_key_id.is_none() {
            find_credentials(&shared, place).await?;
        }
        let custom = self.endpoint.is_some() || shared.endpoint_url().is_some();
        let config = aws_sdk_s3::config::Builder::from(&shared)
            .force_path_style(self.path_style.unwrap_or(custom))
            // Pinned, since the environment could turn them on again: CRC headers break several servers. Bytes are
            // guarded on the way by the signature, which covers the body's SHA-256, and at rest by our own hashes.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_LIMIT).build())
            .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(STALL_LIMIT).build())
            .build();
        Ok(Client::from_conf(config))
    }

    async fn shared_config(&self, place: &str) -> Result<SdkConfig, StoreError> {
        let tls = Provider::Rustls(CryptoMode::Ring);
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(Builder::new().tls_provider(tls).build_https())
            .retry_config(RetryConfig::disabled());
        if let Some(endpoint) = &self.endpoint {
            loader = loader.endpoint_url(endpoint.trim_end_matches('/'));
        }
        match (&self.region, &self.endpoint) {
            (Some(region), _) => loader = loader.region(Region::new(region.clone())),
            // Nobody is asked: the instance service, which answers nowhere but at AWS, would cost seconds.
            (None, Some(_)) => loader = loader.region(Region::new(ANY_REGION)),
            (None, None) => {}
        }
        match (&self.access_key_id, &self.secret_access_key) {
            (Some(id), Some(secret)) => {
                let token = self.session_token.as_ref().map(|token| token.reveal().to_owned());
                loader = loader.credentials_provider(Credentials::new(id, secret.reveal(), token, None, "holdfast"));
            }
            (None, None) => {}
            _ => return Err(denied(place, "access_key_id and secret_access_key are needed together".to_owned())),
        }
        let shared = loader.load().await;
        match shared.region() {
            Some(_) => Ok(shared),
            None => Ok(shared.into_builder().region(Region::new(ANY_REGION)).build()),
        }
    }
}

/// Fails early and in plain words when nobody has credentials.
async fn find_credentials(shared: &SdkConfig, place: &str) -> Result<(), StoreError> {
    let found = match shared.credentials_provider() {
        Some(provider) => provider.provide_credentials().await.map(|_| ()).map_err(|error| chain(&error)),
        None => Err("no provider".to_owned()),
    };
    found.map_err(|why| StoreError::Denied {
        place: place.to_owned(),
        message: format!("no credentials found: {why}"),
        hint: Some(
            "set access_key_id and secret_access_key in [store], or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".into(),
        ),
    })
}

fn denied(place: &str, message: String) -> StoreError {
    StoreError::Denied { place: place.to_owned(), message, hint: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(bucket: &str, prefix: &str, endpoint: Option<&str>) -> S3Settings {
        let endpoint = endpoint.map(str::to_owned);
        S3Settings { bucket: bucket.to_owned(), prefix: prefix.to_owned(), endpoint, ..S3Settings::default() }
    }

    #[test]
    fn a_place_names_bucket_prefix_and_endpoint() {
        let place = |settings: S3Settings| settings.place().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(place(at("b", "", None)), "s3://b");
        assert_eq!(place(at("b", "/a/b/", None)), "s3://b/a/b");
        assert_eq!(place(at("b", "p", Some("http://127.0.0.1:9000/"))), "s3://b/p at http://127.0.0.1:9000");
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_without_showing_a_password() {
        let endpoints = ["", "host:9000", "ftp://host", "http://", "http://me:hunter2@host", "http://host/?hunter2=1"];
        for endpoint in endpoints {
            match at("b", "", Some(endpoint)).place() {
                Err(error) => assert!(!error.to_string().contains("hunter2"), "{error}"),
                Ok(place) => panic!("{endpoint:?} was allowed as {place}"),
            }
        }
        assert!(at("", "", None).place().is_err() && at("a/b", "", None).place().is_err());
        assert!(at("b", "a/../c", None).place().is_err());
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let secret = Some(Secret::new("hunter2"));
        let settings = S3Settings { secret_access_key: secret.clone(), session_token: secret, ..S3Settings::default() };
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
