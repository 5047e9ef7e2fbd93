//! What a process has used, as the kernel counts it.

use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const PAGE_BYTES: f64 = 4096.0;

/// CPU seconds of its threads so far, in the kernel and outside; to the nanosecond, where the process's own
/// count has hundredths of a second. Servers keep their threads, or what has ended would be missing.
pub fn cpu_s(pid: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    let spent_ns = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    spent_ns.sum::<f64>() / 1e9
}

/// Bytes of memory that are resident.
pub fn resident_bytes(pid: u32) -> f64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).expect("the process lives");
    let pages: f64 = statm.split_whitespace().nth(1).expect("a field").parse().expect("a number");
    pages * PAGE_BYTES
}

/// Counts system calls with perf, if it is there and may.
pub struct SystemCalls(Option<Child>);

impl SystemCalls {
    pub fn of(pid: u32) -> Self {
        let perf = Command::new("perf")
            .args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", &pid.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        Self(perf.ok())
    }

    pub fn count(self) -> Option<f64> {
        let perf = self.0?;
        kill_process(Pid::from_child(&perf), Signal::INT).ok()?;
        let output = perf.wait_with_output().ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.lines().find(|line| line.contains("sys_enter"))?.split(',').next()?.parse().ok()
    }
}
