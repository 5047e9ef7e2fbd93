//! What redb sees of the file, and calls.

use std::io;

use redb::StorageBackend;

use super::{Extent, check};

/// Where redb says which tree is the last.
pub(super) const HEADER_PAGE: u64 = 0;

impl StorageBackend for Extent {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.state.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.state.lock();
        check(&state, offset, out.len())?;
        self.0.base.read(self.0.begins_at + offset, out)?;
        state.pages.lay_over(offset, out);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        {
            let mut state = self.0.state.lock();
            state.check_failure()?;
            if (state.len..=state.base_len).contains(&len) {
                state.len = len;
                return Ok(());
            }
        }
        if len < self.len()? {
            return self.0.shrink(len);
        }
        self.0.step(|file, state| {
            // What was cut comes back at once, as it will be needed.
            file.set_base_len(state, len.max(file.extent_bytes))?;
            file.owe_sync(state);
            state.len = len;
            Ok(())
        })
    }

    /// A transaction is synced by [`Extent::finish_commits`], and the file's length before anything counts on it.
    /// It ends here, with redb's header: what redb writes next may lie in pages that the tree on disk has still.
    fn sync_data(&self) -> io::Result<()> {
        let is_transaction = {
            let state = self.0.state.lock();
            state.check_failure()?;
            state.published && !state.closing && state.changed.contains(&HEADER_PAGE)
        };
        if is_transaction {
            self.commit()?;
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        let begun = self.0.step(|file, state| {
            file.owe_sync(state);
            Ok(())
        });
        let closed = begun.and_then(|()| {
            self.0.step(|file, state| {
                // Without room for the record the file stays as the last commit left it, as after a crash.
                Ok(state.closing && state.published && file.write_record(state)?)
            })
        });
        let closed = closed.and_then(|closed| {
            self.0.step(|file, state| match closed && state.len < state.base_len {
                true => file.set_base_len(state, state.len),
                false => Ok(()),
            })
        });
        closed.and(self.0.base.close())
    }
}
