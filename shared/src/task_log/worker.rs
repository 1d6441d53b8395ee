//! Which process does a task, and whether it is still there.

use super::Worker;
use crate::model::JobId;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::path::Path;
use std::sync::LazyLock;

impl Worker {
    /// This process, as `program` (name and version), under a new id.
    pub fn here(program: &str) -> Self {
        let here = &*HERE;
        let pid = std::process::id();
        Worker {
            id: JobId::random().to_string(),
            program: program.to_owned(),
            host: here.host.clone(),
            boot_id: here.boot_id.clone(),
            pid,
            start_ticks: Process::of(pid).map_or(0, |process| process.start_ticks),
        }
    }
}

impl Worker {
    /// Whether this process has ended for certain; one of another machine may have, but that cannot be seen.
    pub fn is_gone(&self) -> bool {
        let ticks = i64::try_from(self.start_ticks).unwrap_or(i64::MAX);
        is_gone(&self.host, &self.boot_id, i64::from(self.pid), ticks)
    }

    /// Ends this process for good, where it is one of this machine and not this very one. Returns whether it is gone.
    pub fn end(&self) -> std::io::Result<bool> {
        if self.pid == std::process::id() || !is_visible(&self.host, &self.boot_id) {
            return Ok(self.is_gone());
        }
        if let (false, Some(pid)) = (self.is_gone(), Pid::from_raw(self.pid as i32)) {
            match rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
                Err(error) if error != Errno::SRCH => return Err(error.into()),
                _ => {}
            }
        }
        // A signal arrives in its own time; a process in a call to the disk ends after it.
        for _ in 0..500 {
            if self.is_gone() {
                return Ok(true);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Ok(false)
    }
}

/// The machine this process sees.
struct Here {
    host: String,
    boot_id: String,
}

static HERE: LazyLock<Here> = LazyLock::new(|| {
    let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    // Two containers of one machine share its boot, and may share its name, but not its process ids.
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let boot_id = format!("{} {}", read("/proc/sys/kernel/random/boot_id"), namespace.display());
    Here { host: read("/proc/sys/kernel/hostname"), boot_id }
});

/// Whether `host` and `boot_id` are of a process whose life can be seen from here.
fn is_visible(host: &str, boot_id: &str) -> bool {
    let here = &*HERE;
    !here.boot_id.is_empty() && here.host == host && here.boot_id == boot_id && Path::new("/proc/self/stat").exists()
}

/// Whether a process of this machine has ended for certain.
pub fn is_gone(host: &str, boot_id: &str, pid: i64, start_ticks: i64) -> bool {
    if !is_visible(host, boot_id) {
        return false;
    }
    let Ok(pid) = u32::try_from(pid) else { return false };
    match Process::of(pid) {
        Some(process) => process.has_ended || i64::try_from(process.start_ticks) != Ok(start_ticks),
        // A process of another user may be hidden from us in /proc; the kernel still says whether it is there.
        None => Pid::from_raw(pid as i32).is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH)),
    }
}

/// What `/proc/<pid>/stat` tells.
struct Process {
    start_ticks: u64,
    has_ended: bool,
}

impl Process {
    fn of(pid: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in brackets and may hold any of them, and spaces.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let start_ticks = fields.nth(18)?.parse().ok()?;
        Some(Process { start_ticks, has_ended: matches!(state, "Z" | "X" | "x") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_gone_when_it_ended_or_its_id_is_anothers() {
        let me = Worker::here("test 1");
        let ticks = me.start_ticks as i64;
        assert!(me.start_ticks > 0 && !me.host.is_empty() && me.boot_id.len() > 36);
        assert!(!is_gone(&me.host, &me.boot_id, i64::from(me.pid), ticks));
        assert!(is_gone(&me.host, &me.boot_id, i64::from(me.pid), ticks + 1));
        assert!(!is_gone("elsewhere", &me.boot_id, i64::from(me.pid), ticks + 1));
        assert!(!is_gone(&me.host, "another boot", i64::from(me.pid), ticks + 1));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep starts");
        let began = Process::of(child.id()).expect("there").start_ticks as i64;
        let pid = i64::from(child.id());
        assert!(!is_gone(&me.host, &me.boot_id, pid, began));
        child.kill().expect("kills");
        child.wait().expect("ends");
        assert!(is_gone(&me.host, &me.boot_id, pid, began));
    }
}
