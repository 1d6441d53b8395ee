//! Objects in an S3 bucket, or in anything that speaks the S3 protocol.
//!
//! The SDK's habits that trouble other products' servers are off: no checksum trailers, no multipart uploads, one
//! object a delete. Its own retries are off too, because [`super::retry`] knows what may be repeated.

mod fault;
mod settings;

pub use settings::S3Settings;

use super::key;
use super::{ObjectMeta, PutMode, Store, StoreError};
use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use bytes::Bytes;
use fault::Answer;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a call may take, besides the time for its bytes.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// A connection slower than this fails: an object of 16 MiB then takes four minutes.
const SLOWEST_BYTES_PER_S: u64 = 64 * 1024;

/// What a signed 64-bit length can tell; a damaged manifest may ask for more.
const LONGEST_OBJECT: u64 = i64::MAX as u64;

/// A bucket, or what lies under one prefix of it, as a [`Store`].
///
/// [`PutMode::Create`] replaces silently until [`Store::use_conditional_put`] says that the server knows
/// `If-None-Match`; see [`super::probe_conditional_put`].
#[derive(Debug)]
pub struct S3Store {
    client: Client,
    bucket: String,
    /// Empty, or ends in `/`.
    prefix: String,
    place: String,
    conditional_put: AtomicBool,
}

impl S3Store {
    /// Prepares a client; asks the usual AWS places for what `settings` leaves open.
    ///
    /// Does not talk to the store: a bucket that is not there is found by the first call. Fails with
    /// [`StoreError::Denied`] when the settings make no sense or no credentials are found.
    pub async fn connect(settings: S3Settings) -> Result<S3Store, StoreError> {
        let place = settings.place()?;
        let client = settings.client(&place).await?;
        let prefix = settings.prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(S3Store { client, bucket: settings.bucket, prefix, place, conditional_put: AtomicBool::new(false) })
    }

    fn full_key(&self, key: &str) -> Result<String, StoreError> {
        key::check(&self.place, key)?;
        Ok(format!("{}{key}", self.prefix))
    }

    /// Ends a call that takes longer than `size_bytes` justify.
    async fn within<T>(
        &self,
        doing: &str,
        size_bytes: u64,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let limit = CALL_LIMIT + Duration::from_secs(size_bytes / SLOWEST_BYTES_PER_S);
        match tokio::time::timeout(limit, call).await {
            Ok(done) => done,
            Err(_) => Err(self.unavailable(format!("{doing}: no answer within {} s", limit.as_secs()))),
        }
    }

    async fn get_object(&self, key: &str, range: Option<String>) -> Result<GetObjectOutput, Answer> {
        let full = format!("{}{key}", self.prefix);
        let request = self.client.get_object().bucket(&self.bucket).key(full).set_range(range);
        request.send().await.map_err(Answer::from)
    }

    /// Reads a body to its end, and compares its length with what was announced.
    async fn body(&self, key: &str, output: GetObjectOutput) -> Result<Bytes, StoreError> {
        let announced = output.content_length.and_then(|length| u64::try_from(length).ok());
        let doing = format!("cannot read {key}");
        self.within(&doing, announced.unwrap_or(0), async {
            let body = output.body.collect().await;
            let bytes =
                body.map_err(|error| self.unavailable(format!("{doing}: {}", fault::chain(&error))))?.into_bytes();
            match announced {
                Some(announced) if announced != bytes.len() as u64 => {
                    Err(self.unavailable(format!("{doing}: {announced} bytes announced, {} received", bytes.len())))
                }
                _ => Ok(bytes),
            }
        })
        .await
    }

    async fn put_once(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let full = self.full_key(key)?;
        let size_bytes = body.len() as u64;
        let conditional = mode == PutMode::Create && self.conditional_put.load(Ordering::Relaxed);
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(full)
            .content_type("application/octet-stream")
            .set_if_none_match(conditional.then(|| "*".to_owned()))
            .body(ByteStream::from(body));
        let doing = format!("cannot write {key}");
        self.within(&doing, size_bytes, async {
            match request.send().await.map_err(Answer::from) {
                Ok(_) => Ok(()),
                Err(answer) if conditional && answer.says_exists() => {
                    Err(StoreError::Exists { place: self.place.clone(), key: key.to_owned() })
                }
                Err(answer) => Err(answer.into_error(&self.place, &self.bucket, &doing, None)),
            }
        })
        .await
    }

    /// Reads a range that is not empty.
    async fn range_once(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let header = format!("bytes={}-{}", range.start, range.end - 1);
        let doing = format!("cannot read {key}");
        let sent = self.within(&doing, 0, async { Ok(self.get_object(key, Some(header)).await) }).await?;
        let output = match sent {
            Ok(output) => output,
            Err(answer) if answer.says_beyond_the_end() => {
                return Err(self.truncated(key, range.end, self.head(key).await?.size_bytes));
            }
            Err(answer) => return Err(answer.into_error(&self.place, &self.bucket, &doing, Some(key))),
        };
        let sent_range = output.content_range.as_deref().map(parse_content_range);
        let bytes = self.body(key, output).await?;
        match sent_range {
            // The server knows no ranges and sent the whole object.
            None => self.cut(key, &bytes, range),
            Some(Some((start, _))) if start != range.start => {
                Err(self.unavailable(format!("{doing}: another range was sent than asked for")))
            }
            Some(_) if bytes.len() as u64 == range.end - range.start => Ok(bytes),
            Some(Some((_, Some(size)))) if size < range.end => Err(self.truncated(key, range.end, size)),
            Some(_) => Err(self.unavailable(format!("{doing}: {} bytes sent for {range:?}", bytes.len()))),
        }
    }

    fn cut(&self, key: &str, whole: &Bytes, range: Range<u64>) -> Result<Bytes, StoreError> {
        match (usize::try_from(range.start), usize::try_from(range.end)) {
            (Ok(start), Ok(end)) if end <= whole.len() => Ok(whole.slice(start..end)),
            _ => Err(self.truncated(key, range.end, whole.len() as u64)),
        }
    }

    /// Fetches one page of a listing into `objects`, and returns where the next one begins.
    async fn page(
        &self,
        prefix: &str,
        from: Option<String>,
        objects: &mut Vec<ObjectMeta>,
    ) -> Result<Option<String>, StoreError> {
        let doing = format!("cannot list {prefix:?}");
        let request = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(format!("{}{prefix}", self.prefix))
            .set_continuation_token(from.clone());
        let page = self
            .within(&doing, 0, async {
                let page = request.send().await.map_err(Answer::from);
                page.map_err(|answer| answer.into_error(&self.place, &self.bucket, &doing, None))
            })
            .await?;
        let contents = page.contents.unwrap_or_default();
        // The SDK takes XML that breaks off for a shorter list; every object missing here might look like garbage.
        let complete = page.key_count.is_none_or(|count| usize::try_from(count) == Ok(contents.len()));
        let Some(more) = page.is_truncated.filter(|_| complete) else {
            return Err(self.unavailable(format!("{doing}: the answer breaks off")));
        };
        for object in contents {
            let key = object.key.unwrap_or_default();
            // What cannot be a key is not ours: the marker of a console's "folder", say.
            let Some(key) = key.strip_prefix(&self.prefix).filter(|key| key::check("", key).is_ok()) else { continue };
            objects.push(self.meta(key, object.size, object.last_modified)?);
        }
        match page.next_continuation_token {
            _ if !more => Ok(None),
            None => Err(self.unavailable(format!("{doing}: the list breaks off"))),
            next if next == from => Err(self.unavailable(format!("{doing}: the list repeats itself"))),
            next => Ok(next),
        }
    }

    fn meta(&self, key: &str, size: Option<i64>, modified: Option<DateTime>) -> Result<ObjectMeta, StoreError> {
        let size = size.and_then(|size| u64::try_from(size).ok());
        let modified = modified.and_then(|time| {
            jiff::Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).unwrap_or_default()).ok()
        });
        match (size, modified) {
            (Some(size_bytes), Some(modified)) => Ok(ObjectMeta { key: key.to_owned(), size_bytes, modified }),
            _ => Err(self.unavailable(format!("the answer about {key} lacks its length or its time"))),
        }
    }

    /// Tells a missing bucket from a missing object where the answer could not, having no body.
    async fn bucket_is_there(&self) -> Result<(), StoreError> {
        let asked = self.client.head_bucket().bucket(&self.bucket).send().await.map_err(Answer::from);
        match asked {
            Err(answer) if answer.is_not_found() => Err(fault::missing_bucket(&self.place, &self.bucket)),
            // The right to ask this may be lacking, and then the object's own answer stands.
            _ => Ok(()),
        }
    }

    fn truncated(&self, key: &str, wanted: u64, found: u64) -> StoreError {
        StoreError::Truncated { place: self.place.clone(), key: key.to_owned(), wanted, found }
    }

    fn unavailable(&self, message: String) -> StoreError {
        StoreError::Unavailable { place: self.place.clone(), message }
    }
}

#[async_trait]
impl Store for S3Store {
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        self.put_once(key, body, mode).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.full_key(key)?;
        let doing = format!("cannot read {key}");
        let sent = self.within(&doing, 0, async { Ok(self.get_object(key, None).await) }).await?;
        let output = sent.map_err(|answer| answer.into_error(&self.place, &self.bucket, &doing, Some(key)))?;
        self.body(key, output).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.full_key(key)?;
        if !range.is_empty() && range.end <= LONGEST_OBJECT {
            return self.range_once(key, range).await;
        }
        // HTTP has no empty range and servers know no larger one, but the promise about the end holds all the same.
        match self.head(key).await?.size_bytes {
            found if found < range.end => Err(self.truncated(key, range.end, found)),
            _ => Ok(Bytes::new()),
        }
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        let full = self.full_key(key)?;
        let doing = format!("cannot look at {key}");
        self.within(&doing, 0, async {
            match self.client.head_object().bucket(&self.bucket).key(full).send().await.map_err(Answer::from) {
                Ok(found) => self.meta(key, found.content_length, found.last_modified),
                Err(answer) => {
                    if answer.is_not_found() {
                        self.bucket_is_there().await?;
                    }
                    Err(answer.into_error(&self.place, &self.bucket, &doing, Some(key)))
                }
            }
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        key::check_prefix(&self.place, prefix)?;
        let mut objects = Vec::new();
        let mut next = self.page(prefix, None, &mut objects).await?;
        while next.is_some() {
            next = self.page(prefix, next, &mut objects).await?;
        }
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let full = self.full_key(key)?;
        let doing = format!("cannot delete {key}");
        self.within(&doing, 0, async {
            let sent = self.client.delete_object().bucket(&self.bucket).key(full).send().await.map_err(Answer::from);
            match sent.map_err(|answer| answer.into_error(&self.place, &self.bucket, &doing, Some(key))) {
                Ok(_) | Err(StoreError::NotFound { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    fn describe(&self) -> String {
        self.place.clone()
    }

    fn use_conditional_put(&self, yes: bool) {
        self.conditional_put.store(yes, Ordering::Relaxed);
    }
}

/// Reads `bytes 2-5/10` as where the sent range begins and how long the object is, `*` standing for a length unknown.
fn parse_content_range(header: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, size.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::parse_content_range;

    #[test]
    fn a_content_range_tells_start_and_size() {
        let cases = [
            ("bytes 2-5/10", Some((2, Some(10)))),
            ("bytes 0-0/*", Some((0, None))),
            ("bytes */10", None),
            ("lines 1-2/3", None),
            ("", None),
        ];
        for (header, expected) in cases {
            assert_eq!(parse_content_range(header), expected, "{header:?}");
        }
    }
}
