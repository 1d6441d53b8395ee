//! Sends small messages at once.
//!
//! The driver leaves Nagle's algorithm on (libpq turns it off) and sends the end of a COPY as a message of its own, which
//! then waits for the server's delayed acknowledgement of the rows: 40 ms for every small table. The driver does not
//! give its socket out, so every socket of this process is duplicated for a moment and told. Where the system does not
//! allow that, loading is slower and nothing else.
//!
//! Of sockets only: who closes a file, even a duplicate, loses all locks this process has on it, and with them SQLite loses
//! the record of tasks to whoever opens it next.

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, open, statat};
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
        let entry = entry?;
        let Some(number) = entry.file_name().to_str().ok().and_then(|name| name.parse().ok()) else { continue };
        if !statat(&folder, entry.file_name(), AtFlags::empty()).is_ok_and(is_socket) {
            continue;
        }
        let Ok(duplicate) = pidfd_getfd(&own, number, PidfdGetfdFlags::empty()) else { continue };
        if !fstat(duplicate.as_fd()).is_ok_and(is_socket) {
            // Meanwhile the number is somebody else's: rather never closed than a lock lost.
            std::mem::forget(duplicate);
            continue;
        }
        // Sockets of another kind refuse, and that is all right.
        let _ = set_tcp_nodelay(&duplicate, true);
    }
    Ok(())
}

fn is_socket(found: Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Socket
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FlockOperation, fcntl_lock};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn sockets_are_told_and_locks_on_files_stay() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let socket = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
        let file = tempfile::tempfile().expect("a file");
        fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).expect("nobody else has it");
        // `1: POSIX  ADVISORY  WRITE 4711 fe:01:815 0 EOF`
        let (process, inode) =
            (format!(" {} ", std::process::id()), format!(":{} ", file.metadata().expect("open").ino()));
        let is_locked = || {
            let locks = std::fs::read_to_string("/proc/locks").expect("Linux has it");
            locks.lines().any(|line| line.contains("POSIX") && line.contains(&process) && line.contains(&inode))
        };
        assert!(is_locked());
        try_all().expect("allowed");
        assert!(socket.nodelay().expect("open"));
        assert!(is_locked(), "a duplicate of the file was closed");
    }
}
