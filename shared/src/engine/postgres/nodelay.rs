//! Sends small messages at once.
//!
//! The driver leaves Nagle's algorithm on (libpq turns it off) and sends the end of a COPY as a message of its own, which
//! then waits for the server's delayed acknowledgement of the rows: 40 ms for every small table. The driver does not
//! give its socket out, so every socket of this process is duplicated for a moment and told. Where the system does not
//! allow that, loading is slower and nothing else.

use rustix::fs::{Dir, Mode, OFlags, open};
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Turns Nagle's algorithm off on all TCP connections of this process.
pub(crate) fn send_at_once() {
    if let Err(error) = try_all() {
        tracing::debug!(%error, "TCP_NODELAY could not be set; loading many small tables will be slower");
    }
}

fn try_all() -> rustix::io::Result<()> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    let folder = open("/proc/self/fd", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for entry in Dir::read_from(&folder)? {
        let Some(number) = entry?.file_name().to_str().ok().and_then(|name| name.parse().ok()) else { continue };
        if let Ok(duplicate) = pidfd_getfd(&own, number, PidfdGetfdFlags::empty()) {
            // Files and other sockets refuse, and that is all right.
            let _ = set_tcp_nodelay(&duplicate, true);
        }
    }
    Ok(())
}
