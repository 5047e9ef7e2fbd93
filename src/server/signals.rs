//! The signals that end a server.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Resolves at the first SIGTERM or SIGINT; the second ends the process at once.
pub struct Termination {
    asked: watch::Receiver<bool>,
}

impl Termination {
    /// Takes the signals from now on, on a task of its own, so that the second one works whatever the
    /// drain is waiting for.
    ///
    /// # Errors
    /// When the handlers can't be installed.
    pub fn watch() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (ask, asked) = watch::channel(false);
        tokio::spawn(async move {
            let first = next(&mut terminate, &mut interrupt).await;
            tracing::info!(signal = first.name(), "draining; a second signal ends it at once");
            ask.send_replace(true);
            let second = next(&mut terminate, &mut interrupt).await;
            std::process::exit(second.exit_code());
        });
        Ok(Self { asked })
    }

    pub async fn asked(mut self) {
        let _ = self.asked.wait_for(|asked| *asked).await;
    }
}

#[derive(Clone, Copy)]
enum Which {
    Terminate,
    Interrupt,
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }

    /// 128 and the signal's number, as a shell reports a process that the signal ended.
    fn exit_code(self) -> i32 {
        match self {
            Self::Terminate => 128 + 15,
            Self::Interrupt => 128 + 2,
        }
    }
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> Which {
    tokio::select! {
        _ = terminate.recv() => Which::Terminate,
        _ = interrupt.recv() => Which::Interrupt,
    }
}
