//! What an application keeps beside a socket, by type.

use std::any::{Any, TypeId};
use std::sync::Arc;

use smallvec::SmallVec;

/// One value a type.
#[derive(Default)]
pub struct Extensions(SmallVec<[(TypeId, Arc<dyn Any + Send + Sync>); 1]>);

impl Extensions {
    /// Puts a value in the place of the one of its type.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: Arc<T>) {
        self.remove::<T>();
        self.0.push((TypeId::of::<T>(), value));
    }

    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let (_, value) = self.0.iter().find(|(id, _)| *id == TypeId::of::<T>())?;
        Arc::clone(value).downcast().ok()
    }

    pub fn remove<T: 'static>(&mut self) {
        self.0.retain(|(id, _)| *id != TypeId::of::<T>());
    }
}
