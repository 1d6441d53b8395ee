//! The door to time, so that a test can turn the clock of everything that has one.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Tells the time and waits.
///
/// The two times are different instruments: [`Clock::now`] is what people mean and may jump, [`Clock::monotonic`] only
/// ever grows, but may stand still while the machine is suspended.
#[async_trait]
pub trait Clock: Debug + Send + Sync {
    /// Wall-clock time, UTC.
    fn now(&self) -> Timestamp;

    /// Time since a fixed moment of this process.
    fn monotonic(&self) -> Duration;

    /// Time since the machine started, which nobody can set; also comparable between processes. None where the system
    /// does not tell.
    fn uptime(&self) -> Option<Uptime> {
        None
    }

    /// Waits. Safe to cancel.
    async fn sleep(&self, time: Duration);
}

/// How long a machine has been up, time asleep included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uptime {
    /// Name of this run of the machine: another one after every start.
    pub boot_id: String,
    /// Time since the start.
    pub time: Duration,
}

/// The machine's own clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }

    fn uptime(&self) -> Option<Uptime> {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        let text = std::fs::read_to_string("/proc/uptime").ok()?;
        let time = Duration::try_from_secs_f64(text.split_whitespace().next()?.parse().ok()?).ok()?;
        Some(Uptime { boot_id, time })
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// The machine's clocks as everything takes them.
pub fn system() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    wall: Timestamp,
    monotonic: Duration,
}

impl Moment {
    /// This moment.
    pub fn now(clock: &dyn Clock) -> Self {
        Moment { wall: clock.now(), monotonic: clock.monotonic() }
    }

    /// Time since then by the clock that says more: one stands still while the machine is suspended, the other may be
    /// set back.
    pub fn elapsed(&self, clock: &dyn Clock) -> Duration {
        let wall = Duration::try_from(clock.now().duration_since(self.wall)).unwrap_or_default();
        wall.max(clock.monotonic().saturating_sub(self.monotonic))
    }

    /// Time since then by the monotonic clock alone, which nobody can set.
    pub fn elapsed_monotonic(&self, clock: &dyn Clock) -> Duration {
        clock.monotonic().saturating_sub(self.monotonic)
    }

    /// The moment on the wall clock.
    pub fn wall(&self) -> Timestamp {
        self.wall
    }
}
