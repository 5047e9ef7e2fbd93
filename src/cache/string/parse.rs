//! What the arguments of the string commands say.

use super::lcs::{LcsForm, LcsMatches};
use super::{GetExTtl, SetCondition, SetTtl, StringCommand};
use crate::cache::command::{Args, Arity, Command, Flags, Keys, Spec, is, parse_integer};
use crate::cache::deadline::Deadline;
use crate::cache::error::CacheError;
use crate::model::text::Text;

const READ: Flags = Flags::READONLY;
const FAST_READ: Flags = Flags::READONLY.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE.and(Flags::DENYOOM);
const FAST_WRITE: Flags = WRITE.and(Flags::FAST);
/// Writes that make no key larger.
const FAST_CHANGE: Flags = Flags::WRITE.and(Flags::FAST);

const KEYS: Keys = Keys::Range { first: 1, last: -1, step: 1 };
const PAIRS: Keys = Keys::Range { first: 1, last: -1, step: 2 };
const TWO_KEYS: Keys = Keys::Range { first: 1, last: 2, step: 1 };

pub(in crate::cache) const SPECS: &[Spec] = &[
    Spec::new("get", Arity::Exactly(1), |mut args| {
        Ok(Command::String(StringCommand::Get { key: args.next()? }))
    })
    .flags(FAST_READ)
    .key(),
    Spec::new("set", Arity::AtLeast(2), set).flags(WRITE).key(),
    Spec::new("setex", Arity::Exactly(3), |args| set_ex(args, Deadline::InSeconds))
        .flags(WRITE)
        .key(),
    Spec::new("psetex", Arity::Exactly(3), |args| set_ex(args, Deadline::InMs)).flags(WRITE).key(),
    Spec::new("setnx", Arity::Exactly(2), |mut args| {
        let (key, value) = (args.next()?, args.next()?);
        Ok(Command::String(StringCommand::SetNx { key, value }))
    })
    .flags(FAST_WRITE)
    .key(),
    Spec::new("getset", Arity::Exactly(2), |mut args| {
        let (key, value) = (args.next()?, args.next()?);
        Ok(Command::String(StringCommand::GetSet { key, value }))
    })
    .flags(FAST_WRITE)
    .key(),
    Spec::new("getdel", Arity::Exactly(1), |mut args| {
        Ok(Command::String(StringCommand::GetDel { key: args.next()? }))
    })
    .flags(FAST_CHANGE)
    .key(),
    Spec::new("getex", Arity::AtLeast(1), get_ex).flags(FAST_CHANGE).key(),
    Spec::new("mget", Arity::AtLeast(1), |mut args| {
        Ok(Command::String(StringCommand::MGet { keys: args.remaining() }))
    })
    .flags(FAST_READ)
    .keys(KEYS),
    Spec::new("mset", Arity::AtLeast(2), |args| mset(args, false)).flags(WRITE).keys(PAIRS),
    Spec::new("msetnx", Arity::AtLeast(2), |args| mset(args, true)).flags(WRITE).keys(PAIRS),
    Spec::new("incr", Arity::Exactly(1), |mut args| {
        Ok(Command::String(StringCommand::IncrBy { key: args.next()?, by: 1 }))
    })
    .flags(FAST_WRITE)
    .key(),
    Spec::new("incrby", Arity::Exactly(2), |mut args| {
        let (key, by) = (args.next()?, args.integer()?);
        Ok(Command::String(StringCommand::IncrBy { key, by }))
    })
    .flags(FAST_WRITE)
    .key(),
    Spec::new("decr", Arity::Exactly(1), |mut args| {
        Ok(Command::String(StringCommand::IncrBy { key: args.next()?, by: -1 }))
    })
    .flags(FAST_WRITE)
    .key(),
    Spec::new("decrby", Arity::Exactly(2), |mut args| {
        let (key, by) = (args.next()?, args.integer()?);
        let by = by.checked_neg().ok_or(CacheError::DecrementOverflow)?;
        Ok(Command::String(StringCommand::IncrBy { key, by }))
    })
    .flags(FAST_WRITE)
    .key(),
    Spec::new("incrbyfloat", Arity::Exactly(2), |mut args| {
        let (key, by) = (args.next()?, args.next()?);
        Ok(Command::String(StringCommand::IncrByFloat { key, by }))
    })
    .flags(FAST_WRITE)
    .key(),
    Spec::new("append", Arity::Exactly(2), |mut args| {
        let (key, value) = (args.next()?, args.next()?);
        Ok(Command::String(StringCommand::Append { key, value }))
    })
    .flags(FAST_WRITE)
    .key(),
    Spec::new("strlen", Arity::Exactly(1), |mut args| {
        Ok(Command::String(StringCommand::StrLen { key: args.next()? }))
    })
    .flags(FAST_READ)
    .key(),
    Spec::new("setrange", Arity::Exactly(3), |mut args| {
        let (key, offset, value) = (args.next()?, args.integer()?, args.next()?);
        let offset = usize::try_from(offset).map_err(|_| CacheError::OffsetOutOfRange)?;
        Ok(Command::String(StringCommand::SetRange { key, offset, value }))
    })
    .flags(WRITE)
    .key(),
    Spec::new("getrange", Arity::Exactly(3), get_range).flags(READ).key(),
    Spec::new("substr", Arity::Exactly(3), get_range).flags(READ).key(),
    Spec::new("lcs", Arity::AtLeast(2), lcs).flags(READ).keys(TWO_KEYS),
];

fn set_ex(mut args: Args<'_>, unit: fn(i64) -> Deadline) -> Result<Command, CacheError> {
    let (key, deadline, value) = (args.next()?, unit(args.integer()?), args.next()?);
    Ok(Command::String(StringCommand::SetEx { key, deadline, value }))
}

fn mset(mut args: Args<'_>, if_missing: bool) -> Result<Command, CacheError> {
    let mut pairs = Vec::with_capacity(args.len() / 2);
    while !args.is_empty() {
        pairs.push((args.next()?, args.next()?));
    }
    Ok(Command::String(StringCommand::MSet { pairs, if_missing }))
}

fn get_range(mut args: Args<'_>) -> Result<Command, CacheError> {
    let (key, start, stop) = (args.next()?, args.integer()?, args.integer()?);
    Ok(Command::String(StringCommand::GetRange { key, start, stop }))
}

/// The options EX, PX, EXAT and PXAT: the same one may come twice, and the last one counts; two
/// different ones clash.
#[derive(Default)]
struct Expire<'a>(Option<(&'static str, Unit, &'a Text)>);

type Unit = fn(i64) -> Deadline;

impl<'a> Expire<'a> {
    fn take(&mut self, option: &Text, args: &mut Args<'a>) -> Result<(), CacheError> {
        const UNITS: [(&str, Unit); 4] = [
            ("ex", Deadline::InSeconds),
            ("px", Deadline::InMs),
            ("exat", Deadline::AtSeconds),
            ("pxat", Deadline::AtMs),
        ];
        let (name, unit) =
            *UNITS.iter().find(|(name, _)| is(option, name)).ok_or(CacheError::Syntax)?;
        if self.0.is_some_and(|(other, ..)| other != name) {
            return Err(CacheError::Syntax);
        }
        self.0 = Some((name, unit, args.option().ok_or(CacheError::Syntax)?));
        Ok(())
    }

    /// `None` without the option; an error when the amount is no integer.
    fn deadline(&self) -> Option<Result<Deadline, CacheError>> {
        let (_, unit, amount) = self.0?;
        Some(parse_integer(amount).map(unit).ok_or(CacheError::NotAnInteger))
    }
}

fn set(mut args: Args<'_>) -> Result<Command, CacheError> {
    let (key, value) = (args.next()?, args.next()?);
    let mut condition = SetCondition::Always;
    let (mut get, mut keep_ttl) = (false, false);
    let mut expire = Expire::default();
    while let Some(option) = args.option() {
        if is(option, "nx") && condition != SetCondition::IfThere {
            condition = SetCondition::IfMissing;
        } else if is(option, "xx") && condition != SetCondition::IfMissing {
            condition = SetCondition::IfThere;
        } else if is(option, "get") {
            get = true;
        } else if is(option, "keepttl") && expire.0.is_none() {
            keep_ttl = true;
        } else if keep_ttl {
            return Err(CacheError::Syntax);
        } else {
            expire.take(option, &mut args)?;
        }
    }
    let ttl = match expire.deadline().transpose()? {
        Some(deadline) => SetTtl::Until(deadline),
        None if keep_ttl => SetTtl::Keep,
        None => SetTtl::None,
    };
    Ok(Command::String(StringCommand::Set { key, value, ttl, condition, get }))
}

fn get_ex(mut args: Args<'_>) -> Result<Command, CacheError> {
    let key = args.next()?;
    let mut persist = false;
    let mut expire = Expire::default();
    while let Some(option) = args.option() {
        if is(option, "persist") && expire.0.is_none() {
            persist = true;
        } else if persist {
            return Err(CacheError::Syntax);
        } else {
            expire.take(option, &mut args)?;
        }
    }
    let ttl = match expire.deadline() {
        Some(Ok(deadline)) => GetExTtl::Until(deadline),
        Some(Err(_)) => GetExTtl::NotAnInteger,
        None if persist => GetExTtl::Persist,
        None => GetExTtl::Keep,
    };
    Ok(Command::String(StringCommand::GetEx { key, ttl }))
}

fn lcs(mut args: Args<'_>) -> Result<Command, CacheError> {
    let keys = [args.next()?, args.next()?];
    Ok(Command::String(StringCommand::Lcs { keys, form: lcs_form(args) }))
}

fn lcs_form(mut args: Args<'_>) -> Result<LcsForm, CacheError> {
    let (mut len, mut idx) = (false, false);
    let mut matches = LcsMatches::default();
    while let Some(option) = args.option() {
        if is(option, "idx") {
            idx = true;
        } else if is(option, "len") {
            len = true;
        } else if is(option, "withmatchlen") {
            matches.with_len = true;
        } else if is(option, "minmatchlen") && !args.is_empty() {
            matches.len_min = usize::try_from(args.integer()?).unwrap_or(0);
        } else {
            return Err(CacheError::Syntax);
        }
    }
    match (len, idx) {
        (true, true) => Err(CacheError::LenAndIdx),
        (true, false) => Ok(LcsForm::Len),
        (false, true) => Ok(LcsForm::Matches(matches)),
        (false, false) => Ok(LcsForm::Text),
    }
}
