//! Tries again what a moment's trouble prevented, with growing pauses and within a deadline.

use super::{ObjectMeta, PutMode, Store, StoreError};
use crate::model::Class;
use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;
use std::time::Duration;
use tokio::time::Instant;

/// How often and how long to try; every call ends by `deadline`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, at least 1.
    pub attempts: u32,
    /// The longest pause after the first try; it doubles from try to try.
    pub base: Duration,
    /// No pause is longer.
    pub cap: Duration,
    /// Limit of one try.
    pub attempt_limit: Duration,
    /// Limit of all tries and pauses together.
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    /// Bears a server's restart (40 s of pauses on average, 81 s at most) and an uplink of 1 Mbit/s.
    fn default() -> RetryPolicy {
        RetryPolicy {
            attempts: 10,
            base: Duration::from_millis(200),
            cap: Duration::from_secs(30),
            attempt_limit: Duration::from_secs(10 * 60),
            deadline: Duration::from_secs(15 * 60),
        }
    }
}

impl RetryPolicy {
    /// A random pause after try number `attempt` ("full jitter": many clients of one server do not return together).
    fn pause(&self, attempt: u32) -> Duration {
        let longest = self.longest_pause(attempt);
        let mut random = [0; 4];
        match getrandom::fill(&mut random) {
            Ok(()) => longest.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX)),
            Err(_) => longest,
        }
    }

    fn longest_pause(&self, attempt: u32) -> Duration {
        self.base.saturating_mul(2u32.saturating_pow(attempt.saturating_sub(1))).min(self.cap)
    }
}

/// A store whose transient failures are tried again.
///
/// A [`PutMode::Create`] that failed may have had its effect; when a later try finds the key taken, the object is read
/// back and counts as ours if it holds exactly our bytes.
#[derive(Debug, Clone)]
pub struct Retrying<S> {
    inner: S,
    policy: RetryPolicy,
}

/// The failed try at which a call says so aloud: nobody should wonder for a minute why nothing happens.
const TOLD_AT: u32 = 3;

/// What one call has been through so far.
struct Tries {
    begun: Instant,
    count: u32,
}

impl Tries {
    fn begin() -> Tries {
        Tries { begun: Instant::now(), count: 0 }
    }
}

impl<S: Store> Retrying<S> {
    /// Wraps `inner`.
    pub fn new(inner: S, policy: RetryPolicy) -> Retrying<S> {
        Retrying { inner, policy }
    }

    /// Calls until the outcome is one that a repetition would not change, or the policy says enough.
    async fn repeat<T, F>(&self, tries: &mut Tries, mut call: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        loop {
            tries.count += 1;
            let left = self.policy.deadline.saturating_sub(tries.begun.elapsed());
            let limit = self.policy.attempt_limit.min(left);
            let outcome = match tokio::time::timeout(limit, call()).await {
                Ok(outcome) => outcome,
                Err(_) => Err(self.silent(limit)),
            };
            let error = match outcome {
                Err(error) if error.class() == Class::Transient => error,
                final_outcome => return final_outcome,
            };
            let pause = self.policy.pause(tries.count);
            let spent = tries.begun.elapsed();
            if tries.count >= self.policy.attempts || spent + pause >= self.policy.deadline {
                return Err(gave_up(error, tries.count, spent));
            }
            if tries.count == TOLD_AT {
                tracing::warn!(store.error = %error, "the store does not answer; trying again for a while");
            } else {
                tracing::debug!(store.error = %error, store.attempt = tries.count, "trying again");
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Tells whether `key` holds exactly `body`, which then an earlier try of ours has written.
    async fn holds(&self, tries: &mut Tries, key: &str, body: &Bytes) -> Result<bool, StoreError> {
        let found = self.repeat(tries, || self.inner.head(key)).await?;
        if found.size_bytes != body.len() as u64 {
            return Ok(false);
        }
        Ok(self.repeat(tries, || self.inner.get(key)).await? == body)
    }

    fn silent(&self, limit: Duration) -> StoreError {
        let message = format!("no answer within {:.1} s", limit.as_secs_f64());
        StoreError::Unavailable { place: self.inner.describe(), message }
    }
}

#[async_trait]
impl<S: Store> Store for Retrying<S> {
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let mut tries = Tries::begin();
        let outcome = self.repeat(&mut tries, || self.inner.put(key, body.clone(), mode)).await;
        match outcome {
            Err(StoreError::Exists { place, key }) if tries.count > 1 => {
                // A fresh count: the write itself may have used up all but its last try.
                let mut reading = Tries { begun: tries.begun, count: 0 };
                match self.holds(&mut reading, &key, &body).await? {
                    true => Ok(()),
                    false => Err(StoreError::Exists { place, key }),
                }
            }
            outcome => outcome,
        }
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.repeat(&mut Tries::begin(), || self.inner.get(key)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.repeat(&mut Tries::begin(), || self.inner.get_range(key, range.clone())).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        self.repeat(&mut Tries::begin(), || self.inner.head(key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.repeat(&mut Tries::begin(), || self.inner.list(prefix)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.repeat(&mut Tries::begin(), || self.inner.delete(key)).await
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn use_conditional_put(&self, yes: bool) {
        self.inner.use_conditional_put(yes);
    }
}

fn gave_up(error: StoreError, attempts: u32, spent: Duration) -> StoreError {
    match error {
        StoreError::Unavailable { place, message } if attempts > 1 => StoreError::Unavailable {
            place,
            message: format!("{message}; gave up after {attempts} tries in {:.1} s", spent.as_secs_f64()),
        },
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_never_overflow() {
        let policy =
            RetryPolicy { base: Duration::from_secs(1), cap: Duration::from_secs(5), ..RetryPolicy::default() };
        for (attempt, longest_s) in [(1, 1), (2, 2), (3, 4), (4, 5), (100, 5), (u32::MAX, 5)] {
            assert_eq!(policy.longest_pause(attempt), Duration::from_secs(longest_s), "after try {attempt}");
            assert!(policy.pause(attempt) <= policy.longest_pause(attempt));
        }
    }

    #[test]
    fn the_default_pauses_bear_a_restart_but_end_within_a_minute_and_a_half() {
        let policy = RetryPolicy::default();
        let longest: Duration = (1..policy.attempts).map(|attempt| policy.longest_pause(attempt)).sum();
        assert_eq!(longest.as_secs(), 81);
    }
}
