//! What a process has used, as the kernel counts it.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};

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

/// Keeps threads to one processor for as long as it lives.
pub struct Pinned(Vec<(Pid, CpuSet)>);

impl Pinned {
    pub fn process(pid: u32, cpu: usize) -> Self {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
        let number = |name: std::ffi::OsString| name.to_str()?.parse().ok();
        let threads = threads.filter_map(|thread| Pid::from_raw(number(thread.ok()?.file_name())?));
        Self::threads(threads, cpu)
    }

    /// The calling thread.
    pub fn me(cpu: usize) -> Self {
        Self::threads([gettid()].into_iter(), cpu)
    }

    fn threads(threads: impl Iterator<Item = Pid>, cpu: usize) -> Self {
        let mut only = CpuSet::new();
        only.set(cpu);
        let pin = |thread| {
            let before = sched_getaffinity(Some(thread)).ok()?;
            sched_setaffinity(Some(thread), &only).ok()?;
            Some((thread, before))
        };
        Self(threads.filter_map(pin).collect())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        for (thread, before) in &self.0 {
            let _ = sched_setaffinity(Some(*thread), before);
        }
    }
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
    /// How long perf takes until it counts.
    const BEGINNING: Duration = Duration::from_millis(300);

    pub fn of(pid: u32) -> Self {
        let perf = Command::new("perf")
            .args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", &pid.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        if perf.is_ok() {
            std::thread::sleep(Self::BEGINNING);
        }
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
