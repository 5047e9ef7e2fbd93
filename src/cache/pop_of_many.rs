//! What the arguments of LMPOP and ZMPOP say, and of BLMPOP and BZMPOP behind their timeout.

use super::command::{Args, is, parse_integer};
use super::error::CacheError;
use crate::model::text::Text;

/// Pops from the first of these keys that holds something. `End` is the side that they come from.
pub(super) struct PopOfMany<End> {
    pub keys: Vec<Text>,
    pub end: End,
    /// At least 1.
    pub count: usize,
}

impl<End> PopOfMany<End> {
    pub(super) fn parse(
        mut args: Args<'_>,
        parse_end: impl FnOnce(&[u8]) -> Result<End, CacheError>,
    ) -> Result<Self, CacheError> {
        let positive = |text: &[u8]| {
            let number = parse_integer(text).and_then(|number| usize::try_from(number).ok());
            number.filter(|number| *number > 0)
        };
        let key_count = positive(&args.next()?).ok_or(CacheError::NumKeysNotPositive)?;
        if key_count >= args.len() {
            return Err(CacheError::Syntax);
        }
        let keys = (0..key_count).map(|_| args.next()).collect::<Result<Vec<_>, _>>()?;
        let end = parse_end(&args.next()?)?;
        let mut count = None;
        while let Some(option) = args.option() {
            if count.is_some() || !is(option, "count") || args.is_empty() {
                return Err(CacheError::Syntax);
            }
            count = Some(positive(&args.next()?).ok_or(CacheError::CountNotPositive)?);
        }
        Ok(Self { keys, end, count: count.unwrap_or(1) })
    }
}
