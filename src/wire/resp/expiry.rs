//! The commands about when a key ends, and the options of SET and GETEX that say it.
//!
//! Texts of errors and rounding are those of Redis 7.4: clients know them.

use super::arguments::Arguments;
use super::commands::{self, Verb};
use super::plan::{Refusal, not_an_integer, not_supported, syntax_error};
use crate::api::{EXPIRY_MS_MAX, Expiry};
use crate::wire::renew::Change;

/// The longest time that a value may live, in milliseconds: as long as that, the last instant of
/// all is not reached for some centuries.
const LIFE_MS_MAX: u64 = EXPIRY_MS_MAX - (1 << 45);

/// What an answer tells of when a key ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Seconds that are left, rounded.
    SecondsLeft,
    /// Milliseconds that are left.
    MsLeft,
    /// The instant in seconds since the Unix epoch, rounded.
    Second,
    /// The instant in milliseconds since the Unix epoch.
    Ms,
}

impl Moment {
    /// What a command asks for, if it is one that asks when a key ends.
    pub(super) fn of(verb: Verb) -> Option<Self> {
        const MOMENTS: [(Verb, Moment); 4] = [
            (Verb::Ttl, Moment::SecondsLeft),
            (Verb::Pttl, Moment::MsLeft),
            (Verb::Expiretime, Moment::Second),
            (Verb::Pexpiretime, Moment::Ms),
        ];
        MOMENTS.into_iter().find(|(known, _)| *known == verb).map(|(_, moment)| moment)
    }

    /// The number of the answer: -2 = there is no such key, -1 = it never ends.
    pub(super) fn number(self, expiry_ms: Option<u64>, unix_ms: u64) -> i64 {
        let Some(expiry_ms) = expiry_ms else { return -2 };
        if expiry_ms == 0 {
            return -1;
        }
        let left_ms = expiry_ms.saturating_sub(unix_ms);
        let number = match self {
            Self::SecondsLeft => left_ms.saturating_add(500) / 1_000,
            Self::MsLeft => left_ms,
            Self::Second => expiry_ms.saturating_add(500) / 1_000,
            Self::Ms => expiry_ms,
        };
        i64::try_from(number).unwrap_or(i64::MAX)
    }
}

/// How a number says when a key ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    ms: i64,
    absolute: bool,
}

impl Unit {
    const EX: Self = Self { ms: 1_000, absolute: false };
    const PX: Self = Self { ms: 1, absolute: false };
    const EXAT: Self = Self { ms: 1_000, absolute: true };
    const PXAT: Self = Self { ms: 1, absolute: true };

    /// The unit of an option.
    fn of_option(arguments: Arguments<'_>, index: usize) -> Option<Self> {
        let options =
            [("ex", Self::EX), ("px", Self::PX), ("exat", Self::EXAT), ("pxat", Self::PXAT)];
        options.into_iter().find(|(name, _)| arguments.is(index, name)).map(|(_, unit)| unit)
    }

    /// What a number of this unit says. `None` = it is too large; 0 and less are in the past.
    fn change(self, number: i64) -> Option<Change> {
        let ms = number.checked_mul(self.ms)?;
        let Ok(ms) = u64::try_from(ms) else { return Some(Change::End) };
        match (self.absolute, ms) {
            (_, 0) => Some(Change::End),
            (true, at_ms) => Some(Change::To(Expiry::At(at_ms))),
            (false, ms) => (ms <= LIFE_MS_MAX).then_some(Change::To(Expiry::After(ms))),
        }
    }

    /// The expiry of a new value; it must lie in the future as far as the number can tell.
    pub(super) fn expiry(
        self,
        arguments: Arguments<'_>,
        index: usize,
        command: &str,
    ) -> Result<Expiry, Refusal> {
        let number = arguments.number(index).ok_or_else(not_an_integer)?;
        match self.change(number) {
            Some(Change::To(expiry)) => Ok(expiry),
            Some(Change::End) | None => Err(invalid(command)),
        }
    }
}

/// The expiry of a SETEX or PSETEX.
pub(super) fn of_setex(verb: Verb, arguments: Arguments<'_>) -> Result<Expiry, Refusal> {
    let (unit, name) =
        if verb == Verb::Psetex { (Unit::PX, "psetex") } else { (Unit::EX, "setex") };
    unit.expiry(arguments, 2, name)
}

/// What the number of an EXPIRE and its like counts, and the name that errors repeat.
const NAMED: [(Verb, Unit, &str); 4] = [
    (Verb::Expire, Unit::EX, "expire"),
    (Verb::Pexpire, Unit::PX, "pexpire"),
    (Verb::Expireat, Unit::EXAT, "expireat"),
    (Verb::Pexpireat, Unit::PXAT, "pexpireat"),
];

/// The change that an EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT or PERSIST asks for.
pub(super) fn of_expire(verb: Verb, arguments: Arguments<'_>) -> Result<Change, Refusal> {
    let named = NAMED.into_iter().find(|(known, ..)| *known == verb);
    let Some((_, unit, name)) = named else { return Ok(Change::To(Expiry::Never)) };
    if arguments.len() > 3 {
        let known = ["NX", "XX", "GT", "LT"].into_iter().find(|word| arguments.is(3, word));
        let Some(word) = known else {
            let shown = arguments.shown(3, 128);
            return Err(Refusal::Text(format!("ERR Unsupported option {shown}")));
        };
        let what = format!("{} with {word}", name.to_ascii_uppercase());
        return Err(not_supported(&what, commands::CONDITIONAL).into());
    }
    let number = arguments.number(2).ok_or_else(not_an_integer)?;
    unit.change(number).ok_or_else(|| invalid(name))
}

/// The change that the options of a GETEX ask for; `None` = there are no options.
pub(super) fn of_getex(arguments: Arguments<'_>) -> Result<Option<Change>, Refusal> {
    match arguments.len() {
        2 => Ok(None),
        3 if arguments.is(2, "persist") => Ok(Some(Change::To(Expiry::Never))),
        4 => {
            let unit = Unit::of_option(arguments, 2).ok_or_else(syntax_error)?;
            unit.expiry(arguments, 3, "getex").map(Change::To).map(Some)
        }
        _ => Err(syntax_error()),
    }
}

/// Takes an option of SET that begins at `index`, if it is one about expiry: what it says, and how
/// many arguments it takes.
pub(super) fn of_set(
    arguments: Arguments<'_>,
    index: usize,
) -> Result<Option<(Expiry, usize)>, Refusal> {
    if arguments.is(index, "keepttl") {
        return Ok(Some((Expiry::Kept, 1)));
    }
    let Some(unit) = Unit::of_option(arguments, index) else { return Ok(None) };
    if index + 1 >= arguments.len() {
        return Err(syntax_error());
    }
    Ok(Some((unit.expiry(arguments, index + 1, "set")?, 2)))
}

fn invalid(command: &str) -> Refusal {
    Refusal::Text(format!("ERR invalid expire time in '{command}' command"))
}
