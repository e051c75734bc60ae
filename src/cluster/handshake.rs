//! The handshake: what a node says first, whom it talks to, and what it learns from a refusal.

use super::message::{
    CODE_BAD_HELLO, CODE_IDENTITY_CLONED, CODE_OTHER_CLUSTER, CODE_SEED_IS_SELF, CODE_STOPPING,
    Fact,
};
use super::{Cluster, Hello, LayoutHash, Output, Refusal, Role, Severity, layout, node_id};
use crate::time::Mono;

/// Longest name, zone or address in a hello, in bytes.
const TEXT_BYTES_MAX: usize = 255;
/// Time for which others must say that this node runs twice before it believes them, in
/// milliseconds: after a restart at another address the old link may not be gone yet.
const CLONED_MS: u64 = 3_000;
/// Time after which such a word is forgotten, in milliseconds.
const CLONED_FORGET_MS: u64 = 60_000;
/// Different refusals that are told to people.
const WARNINGS_MAX: usize = 100;

impl Cluster {
    /// What this node says first on every link, now.
    pub fn hello(&self) -> Hello {
        let link = self.chain.durable(&self.journal);
        Hello {
            node: self.me,
            public_key: self.settings.public_key,
            name: self.name().to_owned(),
            zone: self.settings.zone.clone(),
            generation: self.generation,
            cluster_addr: self.settings.cluster_addr.clone(),
            client_addr: self.settings.client_addr.clone(),
            cluster: link.map(|link| link.layout.cluster),
            layout_epoch: link.map_or(0, |link| link.layout.epoch),
            layout_hash: link.map_or(LayoutHash::default(), |link| link.hash),
            partitions: self.settings.partitions,
            replicas: self.settings.replicas,
        }
    }

    /// Whether this node talks to the one that said `hello`. On refusal the link is closed after
    /// the other side was told why.
    pub fn admit(&self, hello: &Hello) -> Result<(), Refusal> {
        check(hello)?;
        if self.stopping || self.refused.is_some() {
            let text = format!("{} is about to stop", self.settings.name);
            return Err(Refusal::new(CODE_STOPPING, text));
        }
        if hello.node == self.me {
            return Err(self.meets_itself(hello));
        }
        if let Some(peer) = self.links.peer(hello.node)
            && peer.is_reachable()
            && peer.hello.generation != hello.generation
            && peer.hello.cluster_addr != hello.cluster_addr
        {
            return Err(cloned(&peer.hello, hello));
        }
        let mine = self.chain.newest().map(|link| link.layout.cluster);
        match (mine, hello.cluster) {
            (Some(mine), Some(theirs)) if mine != theirs => Err(Refusal::new(
                CODE_OTHER_CLUSTER,
                format!(
                    "{} belongs to cluster {mine}, {} to cluster {theirs}; name only the nodes of \
                     one cluster as seeds",
                    self.settings.name, hello.name
                ),
            )),
            (Some(_) | None, _) => Ok(()),
        }
    }

    fn meets_itself(&self, hello: &Hello) -> Refusal {
        if hello.generation == self.generation && hello.cluster_addr == self.settings.cluster_addr {
            let text = format!("{} is this node itself", hello.cluster_addr);
            return Refusal::new(CODE_SEED_IS_SELF, text);
        }
        cloned(&self.hello(), hello)
    }

    /// This node refused another one.
    pub(super) fn on_not_admitted(
        &mut self,
        hello: &Hello,
        dialed: Option<String>,
        out: &mut Output,
    ) {
        let Err(refusal) = self.admit(hello) else { return };
        if hello.node != self.me {
            self.warn_once(&refusal, out);
            return;
        }
        if refusal.code == CODE_SEED_IS_SELF {
            self.on_own_addr(dialed);
        } else if hello.generation <= self.generation && self.refused.is_none() {
            // Whoever started later stops; the one that was there first goes on.
            self.refuse(refusal);
        } else {
            self.warn_once(&refusal, out);
        }
    }

    /// Another node refused this one, or this one itself did: who dials itself hears its own
    /// refusal as the dialler.
    pub(super) fn on_refused(
        &mut self,
        dialed: Option<String>,
        refusal: Refusal,
        out: &mut Output,
    ) {
        let now = self.now.mono;
        if refusal.code == CODE_SEED_IS_SELF {
            self.on_own_addr(dialed);
            return;
        }
        if refusal.code != CODE_IDENTITY_CLONED {
            self.warn_once(&refusal, out);
            return;
        }
        let first = self.cloned_since.filter(|&since| now.ms_since(since) < CLONED_FORGET_MS);
        let first: Mono = *self.cloned_since.insert(first.unwrap_or(now));
        if now.ms_since(first) >= CLONED_MS && self.refused.is_none() {
            self.refuse(refusal);
        }
    }

    /// This node answered at an address that it dialled.
    fn on_own_addr(&mut self, dialed: Option<String>) {
        if let Some(addr) = dialed {
            self.unborn.on_answer(addr, self.me);
            self.changed = true;
        }
    }

    /// A refusal comes again with every dial; people need it once.
    fn warn_once(&mut self, refusal: &Refusal, out: &mut Output) {
        let text = refusal.to_string();
        if self.warned.len() < WARNINGS_MAX && self.warned.insert(text.clone()) {
            out.notices.push((Severity::Warning, text));
        }
    }

    /// The name of this node: that of the layout, which others show, else its own.
    pub(super) fn name(&self) -> &str {
        let role = self.chain.newest().and_then(|link| link.layout.roles.get(&self.me));
        role.map_or(&self.settings.name, |role| &role.name)
    }

    /// This node cannot go on.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.refused = Some(refusal);
        self.changed = true;
    }
}

impl Hello {
    pub(super) fn role(&self) -> Role {
        Role {
            name: self.name.clone(),
            public_key: self.public_key,
            zone: self.zone.clone(),
            capacity: layout::CAPACITY_DEFAULT,
            cluster_addr: self.cluster_addr.clone(),
            client_addr: self.client_addr.clone(),
        }
    }

    /// What it says of its node, older than everything that the node says by gossip.
    pub(super) fn fact(&self) -> Fact {
        Fact {
            node: self.node,
            generation: self.generation,
            version: 0,
            cluster_addr: self.cluster_addr.clone(),
            client_addr: self.client_addr.clone(),
            layout_epoch: self.layout_epoch,
            layout_hash: self.layout_hash,
        }
    }
}

fn check(hello: &Hello) -> Result<(), Refusal> {
    let texts = [&hello.name, &hello.zone, &hello.cluster_addr, &hello.client_addr];
    let text = if node_id(&hello.public_key) != hello.node {
        "the hello names a node id that is not the digest of its public key"
    } else if texts.iter().any(|text| text.len() > TEXT_BYTES_MAX) {
        "the hello holds a name, zone or address of more than 255 bytes"
    } else if hello.name.is_empty() || hello.cluster_addr.is_empty() {
        "the hello holds no name or no address"
    } else if !layout::ring_is_valid(hello.partitions, hello.replicas) {
        "the hello names a ring that cannot be"
    } else {
        return Ok(());
    };
    Err(Refusal::new(CODE_BAD_HELLO, text))
}

fn cloned(one: &Hello, other: &Hello) -> Refusal {
    Refusal::new(
        CODE_IDENTITY_CLONED,
        format!(
            "{} at {} and {} at {} run with one identity; stop one of them and start it with an \
             empty data directory",
            one.name, one.cluster_addr, other.name, other.cluster_addr
        ),
    )
}
