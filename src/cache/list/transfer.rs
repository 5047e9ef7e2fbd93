//! LMOVE, RPOPLPUSH and LMPOP. Those that block call the same operations.

use bytes::Bytes;

use super::{End, List, ListCommand};
use crate::cache::command::{Args, Command, is};
use crate::cache::error::CacheError;
use crate::cache::keyspace::{Edit, Keyspace};
use crate::cache::notifications::Events;
use crate::cache::pop_of_many::PopOfMany;
use crate::model::text::Text;

pub(super) fn parse_move(mut args: Args<'_>) -> Result<Command, CacheError> {
    let (source, destination) = (args.next()?, args.next()?);
    let (from, to) = (End::parse(&args.next()?)?, End::parse(&args.next()?)?);
    Ok(Command::List(ListCommand::Move { source, destination, from, to }))
}

pub(super) fn parse_pop_of_many(args: Args<'_>) -> Result<Command, CacheError> {
    let PopOfMany { keys, end, count } = PopOfMany::parse(args, End::parse)?;
    Ok(Command::List(ListCommand::PopOfMany { keys, end, count }))
}

impl End {
    /// LEFT or RIGHT.
    pub(in crate::cache) fn parse(text: &[u8]) -> Result<Self, CacheError> {
        match text {
            text if is(text, "left") => Ok(Self::Left),
            text if is(text, "right") => Ok(Self::Right),
            _ => Err(CacheError::Syntax),
        }
    }
}

impl Keyspace {
    /// LMOVE and RPOPLPUSH: the value that was moved; `None` when there is no such source.
    pub(in crate::cache) fn list_move(
        &mut self,
        source: &[u8],
        destination: &[u8],
        from: End,
        to: End,
    ) -> Result<Option<Bytes>, CacheError> {
        if source == destination {
            // The key, and its deadline, stay while its only element turns around.
            return self
                .edit(source, |list: &mut Edit<'_, List>| {
                    let value = list.pop(from);
                    if let Some(value) = value.clone() {
                        list.push(to, value);
                    }
                    value.map(Text::into_bytes)
                })
                .map(|moved| {
                    if moved.is_some() {
                        self.notify(Events::LIST, to.name("lpush", "rpush"), source);
                        self.notify(Events::LIST, from.name("lpop", "rpop"), source);
                    }
                    moved.flatten()
                });
        }
        let Some(list) = self.looked_at::<List>(source)? else { return Ok(None) };
        let outermost = match from {
            End::Left => list.values().next(),
            End::Right => list.values().next_back(),
        };
        let Some(value) = outermost.cloned() else { return Ok(None) };
        // It leaves the source when the destination has it: that may be of another type.
        self.push(to, destination, std::iter::once(value.clone()))?;
        self.pop(from, source, 1)?;
        Ok(Some(value.into_bytes()))
    }

    /// LMPOP: from the first of the keys that is there; `None` when none is.
    pub(in crate::cache) fn list_pop_of_many(
        &mut self,
        keys: &[Text],
        end: End,
        count: usize,
    ) -> Result<Option<(Bytes, Vec<Bytes>)>, CacheError> {
        for key in keys {
            if let Some(popped) = self.pop(end, key, count)? {
                return Ok(Some((key.to_bytes(), popped)));
            }
        }
        Ok(None)
    }
}
