//! What an S3 server's answer means in the words of the store door.

use crate::store::StoreError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use std::error::Error;

/// A server may put a page of HTML into its error; a message stays one readable line.
const LONGEST_TEXT: usize = 400;

/// The parts of a failed call that decide what it means.
#[derive(Debug)]
pub(super) struct Answer {
    /// None when no answer was received.
    status: Option<u16>,
    /// The server's own word, as `NoSuchBucket`; often missing after HEAD.
    code: String,
    text: String,
    /// The request could not even be made, so repeating it is no use.
    unsent: bool,
}

impl<E> From<SdkError<E, HttpResponse>> for Answer
where
    E: ProvideErrorMetadata + Error + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Answer {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let unsent = matches!(error, SdkError::ConstructionFailure(_));
        let code = error.code().unwrap_or_default().to_owned();
        let text = match (error.as_service_error(), status) {
            (Some(told), Some(status)) => {
                let words: Vec<&str> = [told.code(), told.message()].into_iter().flatten().collect();
                one_line(&format!(
                    "{} (HTTP {status})",
                    if words.is_empty() { "refused".into() } else { words.join(": ") }
                ))
            }
            _ => chain(&error),
        };
        Answer { status, code, text, unsent }
    }
}

impl Answer {
    /// The condition "only if the key is free" did not hold.
    pub(super) fn says_exists(&self) -> bool {
        self.status == Some(412) || (self.status == Some(409) && self.code != "OperationAborted")
    }

    /// The object ends before the range begins.
    pub(super) fn says_beyond_the_end(&self) -> bool {
        self.status == Some(416) || self.code == "InvalidRange"
    }

    /// Object or bucket are not there.
    pub(super) fn is_not_found(&self) -> bool {
        self.status == Some(404)
    }

    /// Makes the store error; `key` names the object whose absence a 404 would mean.
    pub(super) fn into_error(self, place: &str, bucket: &str, doing: &str, key: Option<&str>) -> StoreError {
        let place = place.to_owned();
        let message = format!("{doing}: {}", self.text);
        match (self.code.as_str(), self.status) {
            ("NoSuchBucket", _) => missing_bucket(&place, bucket),
            ("NoSuchKey", _) | (_, Some(404)) if key.is_some() => {
                StoreError::NotFound { place, key: key.unwrap_or_default().to_owned() }
            }
            ("RequestTimeTooSkewed" | "RequestTimeout" | "SlowDown" | "OperationAborted" | "Throttling", _)
            | (_, Some(408 | 429)) => StoreError::Unavailable { place, message },
            ("NotImplemented", _) | (_, Some(501)) => StoreError::Unsupported { place, message },
            ("QuotaExceeded" | "XMinioStorageFull", _) | (_, Some(507)) => StoreError::Full { place, message },
            (code, Some(status @ 300..=499)) => {
                StoreError::Denied { place, message, hint: hint(code, status).map(str::to_owned) }
            }
            _ if self.unsent => StoreError::Denied { place, message, hint: None },
            _ => StoreError::Unavailable { place, message },
        }
    }
}

/// No such bucket.
pub(super) fn missing_bucket(place: &str, bucket: &str) -> StoreError {
    StoreError::Missing {
        place: place.to_owned(),
        message: format!("no bucket named {bucket}"),
        hint: Some(format!("make the bucket {bucket} first, or check its name and the endpoint")),
    }
}

fn hint(code: &str, status: u16) -> Option<&'static str> {
    match (code, status) {
        ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "InvalidTokenId", _) => {
            Some("check access_key_id and secret_access_key")
        }
        ("ExpiredToken" | "TokenRefreshRequired", _) => Some("renew the credentials"),
        (_, 301 | 307) | ("PermanentRedirect" | "AuthorizationHeaderMalformed", _) => Some("check the bucket's region"),
        (_, 401 | 403) => Some("the credentials need the rights to list, get, put and delete objects there"),
        _ => None,
    }
}

/// An error with its causes on one line, without repeating what a cause says again.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    one_line(&text)
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Class;

    fn error(status: Option<u16>, code: &str, key: Option<&str>) -> StoreError {
        let answer = Answer { status, code: code.to_owned(), text: "text".to_owned(), unsent: false };
        answer.into_error("s3://b", "b", "cannot x", key)
    }

    #[test]
    fn an_answer_becomes_what_a_caller_can_decide_on() {
        let key = Some("k");
        assert!(matches!(error(Some(404), "NoSuchBucket", key), StoreError::Missing { .. }));
        assert!(matches!(error(Some(404), "NoSuchKey", key), StoreError::NotFound { .. }));
        assert!(matches!(error(Some(404), "", key), StoreError::NotFound { .. }));
        assert!(matches!(error(Some(404), "", None), StoreError::Denied { .. }));
        assert!(matches!(error(Some(501), "NotImplemented", None), StoreError::Unsupported { .. }));
        for code in ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"] {
            assert!(matches!(error(Some(403), code, key), StoreError::Denied { hint: Some(_), .. }), "{code}");
        }
        for code in ["EntityTooLarge", "InvalidArgument"] {
            assert!(matches!(error(Some(400), code, key), StoreError::Denied { .. }), "{code}");
        }
    }

    #[test]
    fn what_may_pass_by_itself_is_transient() {
        let answers = [
            (Some(503), "SlowDown"),
            (Some(500), "InternalError"),
            (Some(403), "RequestTimeTooSkewed"),
            (Some(400), "RequestTimeout"),
            (Some(429), ""),
            (Some(502), ""),
            (Some(409), "OperationAborted"),
            (Some(200), "InternalError"),
            (None, ""),
        ];
        for (status, code) in answers {
            assert_eq!(error(status, code, None).class(), Class::Transient, "{status:?} {code}");
        }
    }

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        let line = one_line(&"<html>\n  ä</html>\n".repeat(100));
        assert!(!line.contains('\n') && line.chars().count() == LONGEST_TEXT + 1);
    }
}
