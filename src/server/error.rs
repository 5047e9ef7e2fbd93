//! Why the program did not do what it was asked to.

use std::error::Error as _;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::backend::BackendError;
use crate::gateway::GatewayError;
use crate::journal::{JournalError, OpenError};

/// One line for people, and an exit code for scripts.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument, an environment variable or the configuration file is wrong. Exit code 2.
    #[error("{0}")]
    Usage(String),
    #[error("the data folder can't be opened")]
    Journal(#[from] OpenError),
    #[error("the data folder was not closed cleanly")]
    Close(#[source] JournalError),
    #[error("can't listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("{}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the secret in {} is damaged: delete the file to get another one", path.display())]
    DamagedSecret { path: PathBuf },
    #[error("no random bytes")]
    Random(#[from] getrandom::Error),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("the token can't be made")]
    Token(#[from] GatewayError),
    #[error("{0}")]
    Refused(String),
    #[error("can't write to standard output")]
    Output(#[source] io::Error),
    #[error("the runtime can't start")]
    Runtime(#[source] io::Error),
}

impl Error {
    /// The error and its causes in one line.
    pub fn line(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            let reason = cause.to_string();
            // Some errors say their cause themselves.
            if !text.ends_with(&reason) {
                let _ = write!(text, ": {reason}");
            }
            source = cause.source();
        }
        one_line(&text)
    }

    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Folds line breaks and runs of blanks: what others report comes in paragraphs.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
