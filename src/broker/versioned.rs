//! A value behind a lock that says, without being locked, whether it was changed.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(super) struct Versioned<T> {
    version: AtomicU64,
    value: RwLock<T>,
}

/// The version rises when it is dropped, before anybody else sees the value.
pub(super) struct Change<'a, T> {
    version: &'a AtomicU64,
    value: RwLockWriteGuard<'a, T>,
}

impl<T> Versioned<T> {
    pub(super) fn new(value: T) -> Self {
        Self { version: AtomicU64::new(0), value: RwLock::new(value) }
    }

    /// While the value is read it stays the same.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.value.read()
    }

    pub(super) fn write(&self) -> Change<'_, T> {
        Change { version: &self.version, value: self.value.write() }
    }
}

impl<T> Deref for Change<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Change<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> Drop for Change<'_, T> {
    fn drop(&mut self) {
        self.version.fetch_add(1, Ordering::Release);
    }
}
