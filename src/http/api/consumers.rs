//! Who consumes over HTTP, and what they have not settled.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::backend::Delivery;

/// Consumers over HTTP at once.
const CONSUMERS_MAX: usize = 1_000;

pub(super) struct Consumers {
    open: Mutex<AHashMap<String, Arc<Unsettled>>>,
    stopped: watch::Sender<bool>,
}

impl Default for Consumers {
    fn default() -> Self {
        Self { open: Mutex::default(), stopped: watch::Sender::new(false) }
    }
}

/// The deliveries of one consumer by tag.
pub(super) struct Unsettled {
    deliveries: Mutex<BTreeMap<u64, Delivery>>,
    cancelled: watch::Sender<bool>,
}

/// Keeps a consumer registered. What is unsettled at its end is its holder's to return.
pub(super) struct Registered {
    consumers: Arc<Consumers>,
    pub id: String,
    pub unsettled: Arc<Unsettled>,
    pub cancelled: watch::Receiver<bool>,
    pub stopped: watch::Receiver<bool>,
}

impl Consumers {
    /// `None`: there are as many as may be, or the server stops.
    pub(super) fn register(self: &Arc<Self>) -> Option<Registered> {
        let stopped = self.stopped.subscribe();
        let mut open = self.open.lock();
        if open.len() == CONSUMERS_MAX || *stopped.borrow() {
            return None;
        }
        let id = uuid::Uuid::new_v4().to_string();
        let (cancelling, cancelled) = watch::channel(false);
        let unsettled = Arc::new(Unsettled { deliveries: Mutex::default(), cancelled: cancelling });
        open.insert(id.clone(), unsettled.clone());
        let consumers = self.clone();
        Some(Registered { consumers, id, unsettled, cancelled, stopped })
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Unsettled>> {
        self.open.lock().get(id).cloned()
    }

    pub(super) fn stop(&self) {
        self.stopped.send_replace(true);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.consumers.open.lock().remove(&self.id);
    }
}

impl Unsettled {
    pub(super) fn add(&self, tag: u64, delivery: Delivery) {
        self.deliveries.lock().insert(tag, delivery);
    }

    pub(super) fn take(&self, tag: u64) -> Option<Delivery> {
        self.deliveries.lock().remove(&tag)
    }

    pub(super) fn take_all(&self) -> BTreeMap<u64, Delivery> {
        std::mem::take(&mut *self.deliveries.lock())
    }

    /// Resolves when the consumer has ended and everything is back in its queue.
    pub(super) async fn cancel(&self) {
        self.cancelled.send_replace(true);
        self.cancelled.closed().await;
    }
}
