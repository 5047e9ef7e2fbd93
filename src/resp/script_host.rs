//! What scripts see of the listener: commands about the server, and the slow log.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::client::Client;
use super::command::Row;
use super::reply;
use super::shared::Shared;
use crate::cache::script::{Host, HostAnswer};
use crate::cache::{CacheError, Flags};
use crate::model::text::Text;
use crate::wire::resp::Version;

/// The listener, for the scripts of one request.
pub(super) struct ScriptHost {
    pub shared: Arc<Shared>,
    /// Whose request it is.
    pub client_address: String,
    pub client_name: Bytes,
    /// What its steps were asked as.
    pub requests: Vec<Vec<Text>>,
    /// Microseconds from which on what runs is slow; `None`: nothing is.
    pub slow_us: Option<u64>,
}

impl ScriptHost {
    fn log_slow(&self, request: &[Text], took: Duration, address: &str, name: &Bytes) {
        self.shared.log_slow(self.slow_us, request, took, (address, name));
    }
}

impl Host for ScriptHost {
    fn answer(&self, request: &[Text]) -> Option<HostAnswer> {
        let (name, rest) = request.split_first()?;
        let row = match Row::find(name)?.resolve(rest) {
            Ok((row, _)) => row,
            Err(CacheError::WrongArity { .. }) => return Some(HostAnswer::WrongArity),
            Err(_) => return Some(HostAnswer::Unknown),
        };
        if row.flags.has(Flags::NOSCRIPT) {
            return Some(HostAnswer::NotForScripts);
        }
        let mut client = Client::of_script(Arc::clone(&self.shared));
        // The version that tells the most; what a script sees of it, it says itself.
        client.info.version = Version::Resp3;
        let cache = self.shared.cache.clone();
        cache.visit_with(None, |visit| (row.run)(&mut client, visit, request));
        // A row that scripts may run answers at once.
        Some(reply::read(&client.out).map_or(HostAnswer::NotForScripts, HostAnswer::Reply))
    }

    fn called(&self, request: &[Text], took: Duration) {
        // As Redis shows the client that a script has for itself.
        self.log_slow(request, took, "?:0", &Bytes::new());
    }

    fn ran(&self, step: usize, took: Duration) {
        if let Some(request) = self.requests.get(step) {
            self.log_slow(request, took, &self.client_address, &self.client_name);
        }
    }
}
