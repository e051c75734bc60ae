//! The world of a scenario, as a table of its settings: section, name, bounds, and where the value
//! lies. Reading, writing and hints all follow this one table.

use std::collections::BTreeMap;

use super::fields::{Desk, Fields, Value};
use super::words::{self, TIME_US_MAX};
use crate::limits;
use crate::sim::Options;

/// One setting.
pub(super) struct Setting {
    /// The table that it stands in; empty = before all tables.
    section: &'static str,
    name: &'static str,
    /// Smallest and largest number; for times in microseconds.
    bounds: (u64, u64),
    slot: for<'a> fn(&'a mut Options) -> Slot<'a>,
}

/// Where the value of a setting lies, and what kind of value it is.
enum Slot<'a> {
    Byte(&'a mut u8),
    Short(&'a mut u16),
    Size(&'a mut usize),
    Long(&'a mut u64),
    Time(&'a mut u64),
    Times(&'a mut u64, &'a mut u64),
    Jump(&'a mut i64),
    Chance(&'a mut u32),
    Flag(&'a mut bool),
}

/// The tables of settings, in the order in which they are written.
pub(super) const SECTIONS: [&str; 4] = ["cluster", "network", "disk", "random"];
/// The largest whole number of TOML.
const NUMBER_MAX: u64 = i64::MAX.unsigned_abs();
/// Bounds of what has none of its own: any number, any time, a chance.
const ANY: (u64, u64) = (0, NUMBER_MAX);
const ANY_TIME: (u64, u64) = (0, TIME_US_MAX);
/// A wait of less than this between two faults would be all that ever happens.
const EVERY: (u64, u64) = (10_000, TIME_US_MAX);

/// Every setting. What is not here cannot be said in a file; the round trip of random scenarios
/// is a test, so nothing that varies can be forgotten.
pub(super) const SETTINGS: &[Setting] = &[
    setting("", "nodes", (1, 16), |o| Slot::Size(&mut o.nodes)),
    setting("", "seed", (0, u64::MAX), |o| Slot::Long(&mut o.seed)),
    setting("", "newcomers", (0, 15), |o| Slot::Size(&mut o.newcomers)),
    setting("", "duration", (1_000, TIME_US_MAX), |o| Slot::Time(&mut o.duration_us)),
    setting("cluster", "n", (1, 7), |o| Slot::Byte(&mut o.replicas)),
    setting("cluster", "partitions", (1, limits::PARTITIONS_MAX as u64), |o| {
        Slot::Short(&mut o.partitions)
    }),
    setting("cluster", "shards", (1, 3), |o| Slot::Short(&mut o.shards)),
    setting("cluster", "segment_bytes", (16 * 1024, 1 << 30), |o| Slot::Long(&mut o.segment_bytes)),
    setting("network", "delay", ANY_TIME, |o| {
        Slot::Times(&mut o.network.delay_min_us, &mut o.network.delay_max_us)
    }),
    setting("network", "loss", ANY, |o| Slot::Chance(&mut o.network.loss)),
    setting("network", "duplicate", ANY, |o| Slot::Chance(&mut o.network.duplicate)),
    setting("network", "corrupt", ANY, |o| Slot::Chance(&mut o.network.corrupt)),
    setting("network", "stale", ANY, |o| Slot::Chance(&mut o.network.stale)),
    setting("network", "queue", ANY, |o| Slot::Long(&mut o.network.queue)),
    setting("network", "straggler", ANY, |o| Slot::Chance(&mut o.network.straggler)),
    setting("network", "straggler_factor", (1, 10_000), |o| {
        Slot::Long(&mut o.network.straggler_factor)
    }),
    setting("disk", "delay", (1, TIME_US_MAX), |o| Slot::Time(&mut o.disk_us)),
    setting("disk", "read_error", ANY, |o| Slot::Chance(&mut o.disk.read_error)),
    setting("disk", "write_error", ANY, |o| Slot::Chance(&mut o.disk.write_error)),
    setting("disk", "sync_error", ANY, |o| Slot::Chance(&mut o.disk.sync_error)),
    setting("disk", "read_flip", ANY, |o| Slot::Chance(&mut o.disk.read_flip)),
    setting("disk", "open_error", ANY, |o| Slot::Chance(&mut o.disk.open_error)),
    setting("disk", "names_reorder", ANY, |o| Slot::Flag(&mut o.disk.names_reorder)),
    setting("disk", "capacity", ANY, |o| Slot::Long(&mut o.disk.capacity)),
    setting("random", "clients", (0, 1_000), |o| Slot::Size(&mut o.clients)),
    setting("random", "think", (2, TIME_US_MAX), |o| Slot::Time(&mut o.think_us)),
    setting("random", "keys", (1, 1_000_000), |o| Slot::Size(&mut o.keys)),
    setting("random", "bulks", (0, 100), |o| Slot::Byte(&mut o.bulks)),
    setting("random", "ends", (0, 100), |o| Slot::Byte(&mut o.ends)),
    setting("random", "ttl", (1_000, TIME_US_MAX), |o| Slot::Time(&mut o.ttl_us)),
    setting("random", "tries", (1, 10), |o| Slot::Byte(&mut o.tries)),
    setting("random", "birth_crashes", (0, 1_000), |o| Slot::Size(&mut o.birth_crashes)),
    setting("random", "core_first", ANY, |o| Slot::Flag(&mut o.core_first)),
    setting("random", "crash_every", EVERY, |o| Slot::Time(&mut o.crash_every_us)),
    setting("random", "power_loss_every", EVERY, |o| Slot::Time(&mut o.power_every_us)),
    setting("random", "partition_every", EVERY, |o| Slot::Time(&mut o.partition_every_us)),
    setting("random", "pause_every", EVERY, |o| Slot::Time(&mut o.pause_every_us)),
    setting("random", "clock_every", EVERY, |o| Slot::Time(&mut o.clock_every_us)),
    setting("random", "link_every", EVERY, |o| Slot::Time(&mut o.link_every_us)),
    setting("random", "slow_node_every", EVERY, |o| Slot::Time(&mut o.slow_node_every_us)),
    setting("random", "settings_every", EVERY, |o| Slot::Time(&mut o.settings_every_us)),
    setting("random", "birth_trouble", EVERY, |o| Slot::Time(&mut o.birth_trouble_us)),
    setting("random", "rot_every", EVERY, |o| Slot::Time(&mut o.rot_every_us)),
    setting("random", "disk_error_every", EVERY, |o| Slot::Time(&mut o.disk_error_every_us)),
    setting("random", "astray_every", EVERY, |o| Slot::Time(&mut o.astray_every_us)),
    setting("random", "disk_full_every", EVERY, |o| Slot::Time(&mut o.disk_full_every_us)),
    setting("random", "slow_disk_every", EVERY, |o| Slot::Time(&mut o.slow_disk_every_us)),
    setting("random", "client_every", EVERY, |o| Slot::Time(&mut o.client_every_us)),
    setting("random", "forgeries", (0, 1_000), |o| Slot::Short(&mut o.forgeries)),
    setting("random", "looks", (0, 1_000), |o| Slot::Short(&mut o.looks)),
    setting("random", "large", (0, 1_000), |o| Slot::Short(&mut o.large)),
    setting("random", "clock_jump", ANY, |o| Slot::Jump(&mut o.clock_jump_ms)),
];

const fn setting(
    section: &'static str,
    name: &'static str,
    bounds: (u64, u64),
    slot: for<'a> fn(&'a mut Options) -> Slot<'a>,
) -> Setting {
    Setting { section, name, bounds, slot }
}

/// The world of a file that says nothing: nobody asks and nothing goes wrong but by its steps.
pub(super) fn silent() -> Options {
    Options { clients: 0, ..Options::calm(1) }
}

/// Reads the settings of one section.
pub(super) fn read<'t>(
    desk: &Desk<'t>,
    section: &str,
    fields: &mut Fields<'t>,
    options: &mut Options,
) {
    for setting in SETTINGS.iter().filter(|setting| setting.section == section) {
        if let Some(value) = fields.take(setting.name) {
            setting.read(desk, value, options);
        }
    }
}

/// The lines of every setting that differs from [`silent`], by section.
pub(super) fn written(options: &Options) -> BTreeMap<&'static str, Vec<String>> {
    let (mut options, mut usual) = (options.clone(), silent());
    let mut lines: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for setting in SETTINGS {
        let text = (setting.slot)(&mut options).text();
        if text != (setting.slot)(&mut usual).text() || setting.section.is_empty() {
            lines.entry(setting.section).or_default().push(format!("{} = {text}", setting.name));
        }
    }
    lines
}

/// The names of the settings of a section.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    SETTINGS.iter().map(|setting| (setting.section, setting.name))
}

impl Setting {
    fn read<'t>(&self, desk: &Desk<'t>, value: &'t Value<'t>, options: &mut Options) {
        let (min, max) = self.bounds;
        let at = value.span().start;
        match (self.slot)(options) {
            Slot::Byte(slot) => store(slot, desk.number(value, min, max)),
            Slot::Short(slot) => store(slot, desk.number(value, min, max)),
            Slot::Size(slot) => store(slot, desk.number(value, min, max)),
            Slot::Long(slot) => store(slot, desk.number(value, min, max)),
            Slot::Time(slot) => {
                let time = desk.time(value, max).filter(|us| {
                    if *us < min {
                        desk.say(at, format!("at least {} is possible", words::time_text(min)));
                    }
                    *us >= min
                });
                store(slot, time);
            }
            Slot::Times(shortest, longest) => {
                let text = desk.text(value).unwrap_or("0s");
                let (from, to) = text.split_once("..").unwrap_or((text, text));
                let from = desk.read(at, words::time_us(from, max));
                let to = desk.read(at, words::time_us(to, max));
                if from > to && to.is_some() {
                    desk.say(at, format!("{text} begins with the longer time"));
                }
                store(shortest, from);
                store(longest, to);
            }
            Slot::Jump(slot) => {
                let text = desk.text(value).unwrap_or("0s");
                match desk.read(at, words::jump_ms(text)) {
                    Some(ms) if ms < 0 => desk.say(at, "it is drawn from -T to T; leave the sign"),
                    Some(ms) => *slot = ms,
                    None => {}
                }
            }
            Slot::Chance(slot) => *slot = desk.chance(value).unwrap_or_default(),
            Slot::Flag(slot) => *slot = desk.flag(value).unwrap_or_default(),
        }
    }
}

fn store<T: TryFrom<u64>>(slot: &mut T, number: Option<u64>) {
    if let Some(number) = number.and_then(|number| T::try_from(number).ok()) {
        *slot = number;
    }
}

impl Slot<'_> {
    /// The value as the file has it.
    fn text(&self) -> String {
        match self {
            Self::Byte(number) => number.to_string(),
            Self::Short(number) => number.to_string(),
            Self::Size(number) => number.to_string(),
            Self::Long(number) => number.to_string(),
            Self::Time(us) => words::quoted(&words::time_text(**us)),
            Self::Times(shortest, longest) => {
                let (from, to) = (words::time_text(**shortest), words::time_text(**longest));
                words::quoted(&format!("{from}..{to}"))
            }
            Self::Jump(ms) => words::quoted(&words::jump_text(**ms)),
            Self::Chance(per_million) => words::chance_text(**per_million),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}
