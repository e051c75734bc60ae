//! Random work: what clients ask next, drawn from their stream.
//!
//! Values describe themselves: `w17` is the value of write 17 and of no other. A few are long, so
//! that records span many sectors and small segments.

use std::collections::BTreeSet;

use bytes::Bytes;
use rand::RngExt as _;

use super::network::Place;
use super::scenario::{Context, Forgery, Operation, Request};
use super::world::{Happening, World};
use crate::api::Level;
use crate::hash::Key;

/// The longest that a drawn value may be: more than the largest page of a disk.
pub(super) const VALUE_BYTES_MAX: usize = 9_000;

impl World {
    /// Lets every client that draws its work begin.
    pub(super) fn begin_work(&mut self) {
        for client in 0..self.clients.len() {
            if self.clients[client].draws {
                self.think(client);
            }
        }
    }

    /// Lets every client stop after the operation of now, and ask in whole again.
    pub(super) fn end_work(&mut self) {
        for client in &mut self.clients {
            client.draws = false;
            client.next_is_half = None;
        }
    }

    /// A client pauses before its next operation.
    pub(super) fn think(&mut self, client: usize) {
        let longest = self.scenario.options.think_us.max(2);
        let delay = self.chance.client.random_range(1..=longest);
        self.schedule(delay, Happening::Client { client });
    }

    /// A client begins its next operation.
    pub(super) fn on_client(&mut self, client: usize) {
        if !self.clients[client].draws || !self.clients[client].is_idle() {
            return;
        }
        if self.is_driven(client) {
            self.drive(client);
        } else {
            let via = self.draw_via(client);
            let level = self.draw_level();
            let request = self.draw_request();
            self.on_operation(Operation { client, via, request, level, expect: None });
        }
    }

    /// The node of before, and now and then another one.
    pub(super) fn draw_via(&mut self, client: usize) -> Option<Place> {
        let stays = self.is_connected(client) && self.chance.client.random_range(0..10_u8) > 0;
        let connected = self.clients[client].connected.map(|(place, _)| place);
        let nodes = self.machines.len();
        connected.filter(|_| stays).or_else(|| Some(self.chance.client.random_range(0..nodes)))
    }

    fn draw_request(&mut self) -> Request {
        let looks = self.scenario.options.looks;
        if looks > 0 && self.chance.client.random_range(0..1_000) < looks {
            return self.draw_look();
        }
        if self.chance.client.random_range(0..100_u8) < self.scenario.options.bulks {
            return self.draw_bulk();
        }
        let key = self.draw_key();
        match self.chance.client.random_range(0..92_u8) {
            0..25 => Request::Get { key, siblings: true },
            25..40 => Request::Get { key, siblings: false },
            40..80 => {
                let context = self.draw_context();
                let ttl_us = self.draw_ttl();
                Request::Set { key, value: self.draw_value(1), context, ttl_us }
            }
            _ => Request::Delete { key, context: self.draw_context() },
        }
    }

    fn draw_key(&mut self) -> Key {
        let number = self.chance.client.random_range(0..self.scenario.options.keys);
        key(number)
    }

    fn draw_look(&mut self) -> Request {
        match self.chance.client.random_range(0..4_u8) {
            0 => Request::Scan { limit: [3, 10, 100][self.chance.client.random_range(0..3)] },
            1 => Request::Count,
            _ => Request::Explain { key: self.draw_key() },
        }
    }

    /// The value of the next write but so many.
    fn draw_value(&mut self, ahead: u64) -> Bytes {
        let mut value = format!("w{}", self.writes + ahead);
        let large = self.scenario.options.large;
        if large > 0 && self.chance.client.random_range(0..1_000) < large {
            let length = self.chance.client.random_range(500..VALUE_BYTES_MAX);
            value.extend(std::iter::repeat_n('.', length));
        }
        Bytes::from(value)
    }

    /// How long the next value lasts; 0 = for ever.
    fn draw_ttl(&mut self) -> u64 {
        let (ends, longest_us) = (self.scenario.options.ends, self.scenario.options.ttl_us);
        if ends == 0 || self.chance.client.random_range(0..100_u8) >= ends {
            return 0;
        }
        self.chance.client.random_range(1..=longest_us.div_ceil(1_000)) * 1_000
    }

    fn draw_context(&mut self) -> Context {
        let forgeries = self.scenario.options.forgeries;
        if forgeries > 0 && self.chance.client.random_range(0..1_000) < forgeries {
            let all = [Forgery::OtherCluster, Forgery::Future, Forgery::OtherKey, Forgery::Damaged];
            return Context::Forged(all[self.chance.client.random_range(0..all.len())]);
        }
        match self.chance.client.random_range(0..10_u8) {
            0 => Context::Empty,
            1..7 => Context::LastRead,
            _ => Context::Absent,
        }
    }

    fn draw_level(&mut self) -> Level {
        match self.chance.client.random_range(0..10_u8) {
            0 => Level::One,
            1..4 => Level::Sloppy,
            4..8 => Level::Quorum,
            8 => Level::Strict,
            _ => Level::All,
        }
    }

    fn draw_bulk(&mut self) -> Request {
        let tagged = self.chance.client.random::<bool>();
        let most = [6, 6, 6, 40][self.chance.client.random_range(0..4)];
        let keys: BTreeSet<Key> = (0..self.chance.client.random_range(2..most))
            .map(|_| {
                let number = self.chance.client.random_range(0..self.scenario.options.keys);
                key(if tagged { number / 3 * 3 } else { number })
            })
            .collect();
        let items = (1..).zip(keys).map(|(ahead, key)| (key, self.draw_value(ahead))).collect();
        let isolated = self.chance.client.random_range(0..10_u8) == 0;
        Request::Bulk { items, isolated, ttl_us: self.draw_ttl() }
    }
}

/// The key of a write of this number, where none is drawn from this many keys.
pub(super) fn key_of_write(number: u64, keys: usize) -> Key {
    let keys = u64::try_from(keys.max(2)).expect("a count fits 64 bits");
    key(usize::try_from(number % keys).expect("less than a count"))
}

/// A third of the keys share a tag, so that batches of one partition come up too.
fn key(number: usize) -> Key {
    Key::plain(if number.is_multiple_of(3) {
        format!("{{t}}{number}")
    } else {
        format!("k{number}")
    })
}
