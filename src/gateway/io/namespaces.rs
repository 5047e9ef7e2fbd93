//! The namespaces of a server, by name.

use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::RwLock;

use super::namespace::Namespace;
use super::recovery::Keeping;
use crate::gateway::metrics::Metrics;
use crate::gateway::options::Limits;
use crate::wire::socket_io::ParseError;

pub struct Namespaces {
    root: Namespace,
    others: RwLock<AHashMap<Box<str>, Namespace>>,
    pub limits: Limits,
    pub metrics: Arc<Metrics>,
    keeping: Keeping,
}

impl Namespaces {
    #[expect(clippy::expect_used, reason = "the name of the root is one")]
    pub fn new(limits: Limits, metrics: Arc<Metrics>, keeping: Keeping) -> Self {
        let root = Namespace::new("/", limits.socket_rooms_max, Arc::clone(&metrics));
        let root = root.expect("the root has a name");
        root.hub().recover(&keeping);
        Self { root, others: RwLock::default(), limits, metrics, keeping }
    }

    pub fn root(&self) -> &Namespace {
        &self.root
    }

    /// # Errors
    /// [`ParseError::Namespace`].
    pub fn of(&self, name: &str) -> Result<Namespace, ParseError> {
        let with_slash;
        let name = if name.starts_with('/') {
            name
        } else {
            with_slash = format!("/{name}");
            &with_slash
        };
        if let Some(namespace) = self.find(name) {
            return Ok(namespace);
        }
        let metrics = Arc::clone(&self.metrics);
        let made = Namespace::new(name, self.limits.socket_rooms_max, metrics)?;
        let mut others = self.others.write();
        let namespace = others.entry(name.into()).or_insert_with(|| {
            made.hub().recover(&self.keeping);
            made
        });
        Ok(namespace.clone())
    }

    /// Waits until every event so far is sent.
    pub async fn caught_up(&self) {
        let others: Vec<Namespace> = self.others.read().values().cloned().collect();
        for namespace in others.iter().chain([&self.root]) {
            if let Some(recovery) = namespace.hub().recovery() {
                recovery.caught_up().await;
            }
        }
    }

    pub fn find(&self, name: &str) -> Option<Namespace> {
        match name {
            "/" => Some(self.root.clone()),
            name => self.others.read().get(name).cloned(),
        }
    }
}
