//! A wish that work under way should end, and why.

use crate::error::Error;
use std::fmt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Why work is to end before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The program ends.
    Shutdown,
    /// It took longer than it may.
    Deadline,
    /// Somebody asked for its end.
    Cancelled,
    /// Somebody else has the task now.
    LeaseLost,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StopReason::Shutdown => "stopped because the program ends",
            StopReason::Deadline => "stopped: it took longer than it may",
            StopReason::Cancelled => "stopped: somebody asked for its end",
            StopReason::LeaseLost => "stopped: somebody else has the task now",
        })
    }
}

/// Asks for an end; the first reason counts.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<Option<StopReason>>);

/// Hears of it.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Option<StopReason>>);

/// A wish that may still be uttered, and those who hear of it.
pub fn channel() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(None);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Asks for the end.
    pub fn stop(&self, reason: StopReason) {
        self.0.send_if_modified(|known| {
            known.is_none() && {
                *known = Some(reason);
                true
            }
        });
    }
}

impl Default for Stop {
    fn default() -> Self {
        Stop::never()
    }
}

impl Stop {
    /// For work that nothing ends early.
    pub fn never() -> Self {
        Stop(watch::channel(None).1)
    }

    /// Why to end, if somebody asked for it.
    pub fn reason(&self) -> Option<StopReason> {
        *self.0.borrow()
    }

    /// Waits until somebody asks for the end; for ever if nobody can any more.
    pub async fn wait(&self) -> StopReason {
        let mut receiver = self.0.clone();
        let heard = receiver.wait_for(Option::is_some).await.ok().and_then(|reason| *reason);
        match heard {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    /// Does the work unless the end is asked for first; the work is dropped then.
    pub async fn or<T, E: Into<Error>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            reason = self.wait() => Err(Error::Stopped(reason)),
            done = work => done.map_err(Into::into),
        }
    }
}

/// Hears Ctrl-C, SIGTERM, by which services and containers are ended, and that the terminal was closed.
pub async fn told_to_end() -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_ends_the_work_and_counts() {
        let (stopper, stop) = channel();
        assert!(matches!(stop.or(async { Ok::<_, Error>(1) }).await, Ok(1)));
        stopper.stop(StopReason::Deadline);
        stopper.stop(StopReason::Shutdown);
        let ended = stop.or(std::future::pending::<Result<(), Error>>()).await;
        assert!(matches!(ended, Err(Error::Stopped(StopReason::Deadline))), "{ended:?}");
        assert!(matches!(Stop::never().or(async { Ok::<_, Error>(2) }).await, Ok(2)));
    }
}
