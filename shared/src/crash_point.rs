//! Labelled points at which tests kill or stop the program for real.
//!
//! Only debug builds have them: in a release build [`reached`] is empty. A test sets one of these variables:
//! `HOLDFAST_CRASH_TRACE=FILE` appends the label of every point reached to a file, a line each; `HOLDFAST_CRASH_AT=N`
//! ends the process by SIGKILL at the N-th point reached (from 1); `HOLDFAST_STOP_AT=LABEL` stops it by SIGSTOP when it
//! first reaches a point of that label, and `HOLDFAST_STOP_AT_NUMBER=N` at the N-th point. So a test that first traces
//! and then kills at 1, 2, 3 … hits every new point without being told of it.
//!
//! `HOLDFAST_RULES_OFF=a,b` switches rules of the recovery off ([`is_off`]), so that a test can show that it would see
//! what they prevent.

/// The program has reached the point `label`.
#[inline]
pub fn reached(label: &'static str) {
    #[cfg(debug_assertions)]
    armed::reached(label);
    #[cfg(not(debug_assertions))]
    let _ = label;
}

/// The program has reached a point that every step passes, in the step `step`: the label is `<step>: <label>`.
#[inline]
pub fn reached_in(step: &str, label: &'static str) {
    #[cfg(debug_assertions)]
    armed::reached(&format!("{step}: {label}"));
    #[cfg(not(debug_assertions))]
    let _ = (step, label);
}

/// Whether a test has switched this rule of the recovery off; never in a release build.
#[inline]
pub fn is_off(rule: &str) -> bool {
    #[cfg(debug_assertions)]
    let off = armed::is_off(rule);
    #[cfg(not(debug_assertions))]
    let off = {
        let _ = rule;
        false
    };
    off
}

#[cfg(debug_assertions)]
mod armed {
    use rustix::process::{Signal, getpid, kill_process};
    use std::io::Write;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    struct Order {
        trace: Option<std::fs::File>,
        crash_at: Option<u64>,
        stop_at: Option<String>,
        stop_at_number: Option<u64>,
        rules_off: Vec<String>,
    }

    static ORDER: LazyLock<Order> = LazyLock::new(|| Order {
        trace: std::env::var_os("HOLDFAST_CRASH_TRACE")
            .and_then(|file| std::fs::OpenOptions::new().create(true).append(true).open(file).ok()),
        crash_at: std::env::var("HOLDFAST_CRASH_AT").ok().and_then(|text| text.parse().ok()),
        stop_at: std::env::var("HOLDFAST_STOP_AT").ok(),
        stop_at_number: std::env::var("HOLDFAST_STOP_AT_NUMBER").ok().and_then(|text| text.parse().ok()),
        rules_off: std::env::var("HOLDFAST_RULES_OFF").map(split).unwrap_or_default(),
    });
    static REACHED: AtomicU64 = AtomicU64::new(0);
    static STOPPED: AtomicBool = AtomicBool::new(false);

    fn split(list: String) -> Vec<String> {
        list.split(',').map(str::to_owned).collect()
    }

    pub fn is_off(rule: &str) -> bool {
        ORDER.rules_off.iter().any(|off| off == rule)
    }

    pub fn reached(label: &str) {
        let order = &*ORDER;
        let number = REACHED.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(mut trace) = order.trace.as_ref() {
            let _ = trace.write_all(format!("{label}\n").as_bytes());
        }
        if order.crash_at == Some(number) {
            let _ = kill_process(getpid(), Signal::KILL);
        }
        if order.stop_at_number == Some(number) {
            let _ = kill_process(getpid(), Signal::STOP);
        }
        if order.stop_at.as_deref() == Some(label) && !STOPPED.swap(true, Ordering::SeqCst) {
            let _ = kill_process(getpid(), Signal::STOP);
        }
    }
}
