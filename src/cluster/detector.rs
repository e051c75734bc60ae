//! Whom this node can reach: evidence per link, and nothing else.
//!
//! A lost link is evidence at once. On a link that stands each node asks `Ping` every 250 ms, and
//! one that has not answered for a second cannot be reached until it answers. So a dead node costs
//! a request at most about 1.3 s, and 2 s after its death nobody is asked to wait for it. Nothing
//! is declared on behalf of others: two nodes may differ about a third one, and each routes by what
//! it sees itself (Dynamo, section 4.8.3). With more than [`PINGS_MAX`] links they are asked in
//! turn, so 1,000 silent links are found within six seconds; lost ones still at once.
//!
//! A link that stays silent for [`RESET_MS`] is closed, so that a new one can take its place: what
//! TCP holds back after a long cut may come minutes later.
//!
//! A process that was itself stopped for a while blames nobody for the silence of that time.

use std::collections::BTreeMap;

use super::message::Hello;
use super::{ClusterId, Message};
use crate::causality::NodeId;
use crate::marks::sometimes;
use crate::time::Mono;

/// Time between two questions on one link, in milliseconds.
pub(super) const PING_INTERVAL_MS: u64 = 250;
/// Silence after which a node counts as unreachable, in milliseconds: with the interval it leaves
/// 250 ms of the 1.5 s that a dead node may cost a request.
pub(super) const SILENCE_MS_MAX: u64 = 1_000;
/// Silence after which a link is closed and dialled anew, in milliseconds.
const RESET_MS: u64 = 5_000;
/// Questions per interval.
const PINGS_MAX: usize = 50;
/// How late a step may come before it is this process that was silent, in milliseconds.
const STALL_MS: u64 = 250;

/// A node to which at least one link stands.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) hello: Hello,
    /// Its cluster as far as it told: the hello may be older.
    pub(super) cluster: Option<ClusterId>,
    /// A member that said that this node is none.
    pub(super) knows_me_not: bool,
    /// Since when it owes an answer.
    owes_since: Option<Mono>,
    last_ping: u64,
    silent: bool,
    pub(super) leaving: bool,
}

impl Peer {
    pub(super) fn is_reachable(&self) -> bool {
        !self.silent && !self.leaving
    }
}

/// Every link, and what it has shown.
#[derive(Debug)]
pub(super) struct Links {
    peers: BTreeMap<NodeId, Peer>,
    next_ping: Mono,
    /// The node asked last, where not all are asked at once.
    cursor: Option<NodeId>,
    seq: u64,
    seen: Mono,
}

impl Links {
    pub(super) fn new(now: Mono, first_seq: u64) -> Self {
        Self { peers: BTreeMap::new(), next_ping: now, cursor: None, seq: first_seq, seen: now }
    }

    pub(super) fn peer(&self, node: NodeId) -> Option<&Peer> {
        self.peers.get(&node)
    }

    pub(super) fn peer_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.peers.get_mut(&node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.peers.iter().map(|(&node, peer)| (node, peer))
    }

    pub(super) fn reaches(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(Peer::is_reachable)
    }

    /// A handshake is an answer: the node is reachable. A hello of an older life is ignored, and a
    /// second link of one life says nothing about the first, which is the one that is used.
    pub(super) fn on_up(&mut self, hello: Hello) {
        if let Some(known) = self.peers.get_mut(&hello.node) {
            if known.hello.generation == hello.generation {
                known.cluster = hello.cluster.or(known.cluster);
                known.hello = hello;
                return;
            }
            if known.hello.generation > hello.generation {
                return;
            }
        }
        let peer = Peer {
            cluster: hello.cluster,
            knows_me_not: false,
            owes_since: None,
            last_ping: 0,
            silent: false,
            leaving: false,
            hello,
        };
        self.peers.insert(peer.hello.node, peer);
    }

    /// Whether the node was known.
    pub(super) fn on_down(&mut self, node: NodeId) -> bool {
        self.peers.remove(&node).is_some()
    }

    /// Whether the node became reachable by this.
    pub(super) fn on_ack(&mut self, node: NodeId, seq: u64, now: Mono) -> bool {
        let Some(peer) = self.peers.get_mut(&node) else { return false };
        // An answer to an earlier question: the later ones are owed from now on.
        peer.owes_since = (seq != peer.last_ping).then_some(now);
        let was_silent = peer.silent;
        sometimes!("a suspected member answered again", was_silent);
        peer.silent = false;
        was_silent
    }

    /// Asks whose turn it is, and returns whether somebody became unreachable.
    pub(super) fn on_time(&mut self, now: Mono, mut send: impl FnMut(NodeId, Message)) -> bool {
        let expected = self.deadline().unwrap_or(now).max(self.seen);
        let late_ms = now.ms_since(expected);
        if late_ms > STALL_MS {
            sometimes!("a node that had stood still blamed nobody");
            for peer in self.peers.values_mut() {
                peer.owes_since = peer.owes_since.map(|since| since.plus_ms(late_ms));
            }
        }
        self.seen = now;
        if now >= self.next_ping {
            self.next_ping = now.plus_ms(PING_INTERVAL_MS);
            self.seq += 1;
            for node in self.turn() {
                let peer = self.peers.get_mut(&node).expect("only peers have a turn");
                peer.last_ping = self.seq;
                peer.owes_since = peer.owes_since.or(Some(now));
                send(node, Message::Ping { seq: self.seq });
            }
        }
        let mut changed = false;
        for peer in self.peers.values_mut() {
            let owes = peer.owes_since.is_some_and(|since| now.ms_since(since) >= SILENCE_MS_MAX);
            changed |= owes && !peer.silent;
            peer.silent |= owes;
        }
        changed
    }

    /// Whose links have been silent for so long that they are to be closed.
    pub(super) fn take_dead(&mut self, now: Mono) -> Vec<NodeId> {
        let mut dead = Vec::new();
        for (&node, peer) in &mut self.peers {
            if peer.owes_since.is_some_and(|since| now.ms_since(since) >= RESET_MS) {
                sometimes!("a dead link was closed");
                // Asked again only after another such time, should the link still be there.
                peer.owes_since = Some(now);
                dead.push(node);
            }
        }
        dead
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let judged = self
            .peers
            .values()
            .filter(|peer| !peer.silent)
            .filter_map(|peer| peer.owes_since)
            .map(|since| since.plus_ms(SILENCE_MS_MAX));
        let asked = (!self.peers.is_empty()).then_some(self.next_ping);
        judged.chain(asked).min()
    }

    fn turn(&mut self) -> Vec<NodeId> {
        let after = self.cursor.filter(|_| self.peers.len() > PINGS_MAX);
        let later = self.peers.keys().filter(|&&node| after.is_none_or(|after| node > after));
        let earlier = self.peers.keys().filter(|&&node| after.is_some_and(|after| node <= after));
        let turn: Vec<NodeId> = later.chain(earlier).copied().take(PINGS_MAX).collect();
        self.cursor = turn.last().copied();
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::hello_of;
    use super::*;

    /// Links to this many nodes at 0 ms.
    fn links(count: usize) -> Links {
        let mut links = Links::new(Mono(0), 0);
        for index in 0..count {
            links.on_up(hello_of(index));
        }
        links
    }

    /// Steps every 10 ms; the nodes in `answering` acknowledge at once.
    fn run(links: &mut Links, from_ms: u64, to_ms: u64, answering: &[NodeId]) {
        for ms in (from_ms..to_ms).step_by(10) {
            let now = Mono(0).plus_ms(ms);
            let mut asked = Vec::new();
            links.on_time(now, |node, message| asked.push((node, message)));
            for (node, message) in asked {
                let Message::Ping { seq } = message else { panic!("only pings are sent") };
                if answering.contains(&node) {
                    links.on_ack(node, seq, now);
                }
            }
        }
    }

    fn reachable(links: &Links) -> usize {
        links.iter().filter(|(_, peer)| peer.is_reachable()).count()
    }

    #[test]
    fn silence_of_a_second_is_noticed_and_one_answer_ends_it() {
        let mut links = links(2);
        let nodes: Vec<NodeId> = links.iter().map(|(node, _)| node).collect();
        run(&mut links, 0, 5_000, &nodes);
        assert_eq!(reachable(&links), 2);
        run(&mut links, 5_000, 5_900, &nodes[..1]);
        assert_eq!(reachable(&links), 2);
        run(&mut links, 5_900, 6_300, &nodes[..1]);
        assert_eq!(reachable(&links), 1);
        assert!(!links.reaches(nodes[1]));
        run(&mut links, 6_300, 6_600, &nodes);
        assert_eq!(reachable(&links), 2);
    }

    #[test]
    fn a_process_that_was_stopped_itself_blames_nobody() {
        let mut links = links(2);
        let nodes: Vec<NodeId> = links.iter().map(|(node, _)| node).collect();
        run(&mut links, 0, 1_000, &nodes);
        run(&mut links, 1_000, 1_300, &[]);
        // Stopped for ten seconds with a question open.
        run(&mut links, 11_300, 11_320, &[]);
        assert_eq!(reachable(&links), 2);
        run(&mut links, 11_320, 12_600, &[]);
        assert_eq!(reachable(&links), 0);
    }

    #[test]
    fn many_links_are_asked_in_turn() {
        let mut links = links(120);
        let nodes: Vec<NodeId> = links.iter().map(|(node, _)| node).collect();
        run(&mut links, 0, 10_000, &nodes);
        assert_eq!(reachable(&links), 120);
        run(&mut links, 10_000, 12_000, &nodes[..119]);
        assert_eq!(reachable(&links), 119);
    }

    #[test]
    fn a_dead_link_is_closed_once_per_span() {
        let mut links = links(1);
        run(&mut links, 0, 4_900, &[]);
        assert_eq!(links.take_dead(Mono(0).plus_ms(4_900)), []);
        assert_eq!(links.take_dead(Mono(0).plus_ms(5_000)).len(), 1);
        assert_eq!(links.take_dead(Mono(0).plus_ms(5_100)), []);
    }

    #[test]
    fn a_hello_of_a_past_life_changes_nothing() {
        let mut links = links(1);
        let hello = hello_of(0);
        links.on_up(Hello { generation: hello.generation - 1, name: String::from("old"), ..hello });
        assert_eq!(links.peer(hello_of(0).node).unwrap().hello, hello_of(0));
    }
}
