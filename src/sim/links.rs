//! Links between simulated nodes: greetings, frames, and word that the other end is gone.
//!
//! As with sockets, a link belongs to one life of each end. What arrives for a connection that a
//! node does not know is answered by a reset, as a kernel does, and a frame that does not parse
//! closes the link on both sides.

use bytes::{Bytes, BytesMut};
use rand::RngExt as _;

use super::chance::Family;
use super::door;
use super::facts::{self, Facts, Said};
use super::network::{Copy, Place};
use super::process::{Process, place_of};
use super::trace::Lane;
use super::world::{Happening, World};
use crate::causality::NodeId;
use crate::cluster::{self, Hello, Secret};
use crate::wire::peer::{self, Frame};

/// Time between two attempts to reach an address.
const REDIAL_US: u64 = 100_000;

/// What the secret of the cluster is drawn for, and the nonces of a dial.
const SECRET: u64 = 0x5ec2_e700_0000_0000;
const NONCE: u64 = 0x0a0c_e000_0000_0000;

/// Where a handshake stands.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The dialler says who it is.
    Hello(String, Bytes),
    /// The dialled node says who it is, or why it does not talk.
    Back(String, Result<Bytes, cluster::Refusal>),
    /// The dialler admits it too.
    Done(Bytes),
}

impl World {
    /// Sends a frame to a node, if there is a link.
    pub(super) fn send(&mut self, place: Place, to: NodeId, bytes: &Bytes) {
        let Some((to, to_life)) = self.linked(place, to) else { return };
        self.tally.messages += 1;
        let lives = (self.machines[place].life, to_life);
        let copies = self.pass(place, to, bytes.len());
        let cut = !self.network.passes(place, to);
        self.keep(Lane::Node(place), "send", || facts::sent(bytes, to, copies.len(), cut));
        for copy in copies {
            // The rest of a message that is cut short never comes: the receiver gives up on it.
            let length = if copy.cut_short { bytes.len() / 2 } else { bytes.len() };
            let bytes = bytes.slice(..length);
            let bytes = match copy.flipped_bit.filter(|bit| *bit / 8 < length as u64) {
                None => bytes.clone(),
                Some(bit) => {
                    let mut damaged = BytesMut::from(bytes.as_ref());
                    let byte = usize::try_from(bit / 8).expect("a frame fits memory");
                    damaged[byte] ^= 1 << (bit % 8);
                    damaged.freeze()
                }
            };
            self.schedule(copy.delay_us, Happening::Frame { place: to, from: place, lives, bytes });
        }
    }

    /// Where the link of a node to another one leads, and to which life. Where a directory was
    /// cloned, two machines are one node.
    fn linked(&self, place: Place, node: NodeId) -> Option<(Place, u64)> {
        let links = &self.machines[place].links;
        let usual = self.places.get(&node).and_then(|to| links.get_key_value(to));
        let is_node = |to: &Place| self.machines[*to].settings.node() == node;
        let found = usual.filter(|(to, _)| is_node(to));
        found.or_else(|| links.iter().find(|(to, _)| is_node(to))).map(|(to, life)| (*to, *life))
    }

    /// What the network makes of so many bytes from one node to another.
    fn pass(&mut self, from: Place, to: Place, bytes: usize) -> Vec<Copy> {
        let what = ((to as u64) << 32) | bytes as u64;
        let mut chance = self.chance.at(Family::Network, from, self.now_us, what);
        self.network.send(from, to, bytes, self.now_us, &mut chance)
    }

    /// A frame arrives, sent in one life of its sender to one life of its receiver. One for a past
    /// life of the receiver goes unheard: until nodes remember request ids, a leader that refused a
    /// write before it died would else make it now.
    pub(super) fn on_frame(
        &mut self,
        place: Place,
        from: Place,
        (from_life, to_life): (u64, u64),
        bytes: Bytes,
    ) {
        let life = self.machines[place].life;
        let is_linked = self.machines[place].links.contains_key(&from);
        if !self.is_alive(place, to_life) || !is_linked {
            let facts = Facts::Arrived { from, heard: false };
            self.keep(Lane::Node(place), "unheard", || Said { facts, ..Said::default() });
            // What a kernel does with bytes for a connection that it does not know.
            return self.reset(from, from_life, place, to_life);
        }
        self.note(place, "frame", &bytes);
        let facts = Facts::Arrived { from, heard: true };
        self.trace.explain(|| Said { facts, ..Said::default() });
        let node = self.machines[from].node;
        let mut understood = true;
        self.with(place, |process, now, out| understood = process.on_frame(now, node, bytes, out));
        if !understood {
            self.unlink(place, from);
            self.reset(from, from_life, place, life);
        }
    }

    /// Tells a node, if word can reach it, that its link to `from` is gone.
    pub(super) fn reset(&mut self, place: Place, life: u64, from: Place, from_life: u64) {
        if let Some(copy) = self.pass(from, place, 0).first() {
            self.schedule(copy.delay_us, Happening::Reset { place, life, from, from_life });
        }
    }

    /// A node closes its end of a link.
    pub(super) fn close_link(&mut self, place: Place, node: NodeId) {
        if let Some((peer, peer_life)) = self.linked(place, node) {
            let life = self.machines[place].life;
            self.unlink(place, peer);
            self.reset(peer, peer_life, place, life);
        }
    }

    pub(super) fn unlink(&mut self, place: Place, from: Place) {
        if self.machines[place].links.remove(&from).is_some() {
            let node = self.machines[from].node;
            self.note(place, "link down", &from.to_le_bytes());
            let input = cluster::Input::LinkDown { node };
            self.with(place, |process, now, out| process.on_control(now, input, out));
        }
    }

    fn link(
        &mut self,
        place: Place,
        to: Place,
        to_life: u64,
        hello: Hello,
        dialed: Option<String>,
    ) {
        let known = self.machines[place].links.get(&to).copied();
        if known.is_some_and(|known| known >= to_life) {
            return;
        }
        if known.is_some() {
            self.unlink(place, to);
        }
        self.machines[place].links.insert(to, to_life);
        self.note(place, "link up", &to.to_le_bytes());
        let input = cluster::Input::LinkUp { hello, dialed };
        self.with(place, |process, now, out| process.on_control(now, input, out));
    }

    /// Tries to reach an address, and plans the next try.
    pub(super) fn on_dial(&mut self, place: Place, life: u64, addr: String) {
        if !self.is_alive(place, life) || !self.machines[place].dials.contains(&addr) {
            return;
        }
        let mut chance = self.chance.at(Family::Process, place, self.now_us, REDIAL_US);
        let pause = chance.random_range(REDIAL_US / 2..REDIAL_US * 2);
        self.schedule(pause, Happening::Dial { place, life, addr: addr.clone() });
        let Some(to) = place_of(&addr).filter(|&to| to < self.machines.len()) else { return };
        if self.machines[place].links.contains_key(&to) {
            return;
        }
        let Some(bytes) = self.machines[place].process.as_ref().and_then(Process::greeting) else {
            return;
        };
        self.greet(place, None, to, Step::Hello(addr, bytes));
    }

    fn greet(&mut self, from: Place, life: Option<u64>, place: Place, step: Step) {
        let delay_us = if from == place {
            Some(1)
        } else {
            let copies = self.pass(from, place, 100);
            copies.first().map(|copy| copy.delay_us)
        };
        let from_life = self.machines[from].life;
        if let Some(delay_us) = delay_us {
            self.schedule(delay_us, Happening::Greeting { place, life, from, from_life, step });
        }
    }

    pub(super) fn on_greeting(
        &mut self,
        place: Place,
        life: Option<u64>,
        from: Place,
        from_life: u64,
        step: Step,
    ) {
        let is_current = life.is_none_or(|life| life == self.machines[place].life);
        if self.machines[place].process.is_none() {
            if let Step::Hello(addr, _) = step {
                let reason = String::from("connection refused");
                let input = cluster::Input::DialFailed { addr, reason };
                self.with(from, |process, now, out| process.on_control(now, input, out));
            }
            return;
        }
        if !is_current {
            return;
        }
        match step {
            Step::Hello(addr, bytes) => {
                let Some(hello) = hello_of(&bytes) else { return };
                let mine = self.machines[place].process.as_ref().and_then(Process::greeting);
                if let Some(mine) = mine.as_ref().and_then(hello_of) {
                    self.prove(place, from, &hello, &mine);
                }
                let answer = self.admit(place, &hello, None);
                let answer = answer.and_then(|()| mine.ok_or_else(starting));
                self.greet(place, Some(from_life), from, Step::Back(addr, answer));
            }
            Step::Back(addr, Err(refusal)) => {
                let input = cluster::Input::Refused { dialed: Some(addr), refusal };
                self.with(place, |process, now, out| process.on_control(now, input, out));
            }
            Step::Back(addr, Ok(bytes)) => {
                let Some(hello) = hello_of(&bytes) else { return };
                if self.admit(place, &hello, Some(addr.clone())).is_ok() {
                    let mine = self.machines[place].process.as_ref().and_then(Process::greeting);
                    self.link(place, from, from_life, hello, Some(addr));
                    if let Some(mine) = mine {
                        self.greet(place, Some(from_life), from, Step::Done(mine));
                    }
                }
            }
            Step::Done(bytes) => {
                let Some(hello) = hello_of(&bytes) else { return };
                self.link(place, from, from_life, hello, None);
            }
        }
    }

    /// Both ends of a dial prove that they hold the secret of the cluster.
    fn prove(&self, place: Place, from: Place, dialler: &Hello, answerer: &Hello) {
        let secret = Secret::new(self.chance.at(Family::Process, 0, 0, SECRET).random());
        let what = NONCE ^ from as u64;
        let mut chance = self.chance.at(Family::Process, place, self.now_us, what);
        door::pass(&secret, dialler, answerer, &mut chance);
    }

    fn admit(
        &mut self,
        place: Place,
        hello: &Hello,
        dialed: Option<String>,
    ) -> Result<(), cluster::Refusal> {
        let mut admitted = Ok(());
        self.with(place, |process, now, out| {
            admitted = process.admit(now, hello, dialed, out);
        });
        admitted
    }
}

fn hello_of(bytes: &Bytes) -> Option<Hello> {
    let mut buffer = BytesMut::from(bytes.as_ref());
    match peer::decode(&mut buffer) {
        Ok(Some(Frame::Hello(greeting) | Frame::HelloAck(greeting))) => Some(greeting.hello),
        Ok(Some(Frame::Refusal(_) | Frame::Cluster(_) | Frame::Shard(_)) | None) | Err(_) => None,
    }
}

fn starting() -> cluster::Refusal {
    let text = String::from("the node is still reading its log");
    cluster::Refusal { code: String::from("starting"), text }
}
