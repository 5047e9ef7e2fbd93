//! What a process has used, as the kernel counts it.

use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const TICKS_A_SECOND: f64 = 100.0;
const PAGE_BYTES: f64 = 4096.0;

/// CPU seconds of all its threads so far, in the kernel and outside.
pub fn cpu_s(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let after_name = stat.rsplit_once(')').expect("a name").1;
    let fields: Vec<f64> =
        after_name.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
    (fields[11] + fields[12]) / TICKS_A_SECOND
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
