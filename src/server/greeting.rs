//! How two nodes get to know each other on a new connection, and which of several they keep.
//!
//! ```text
//! dialler  -> Hello        who I am, which lane this is
//! answerer -> HelloAck     who I am       (or Refused: why I do not talk to you)
//! dialler  -> HelloAck     let us begin   (or Refused)
//! ```
//!
//! Where nodes share a secret, each side has proven it to the other before any of this (`entry`),
//! and the hello must be of the node that was proven.
//!
//! Where both dial each other at once, each lane keeps the connection that the smaller node id
//! dialled; both sides decide so by themselves. A connection of a newer start of a node replaces
//! all of an older one.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::bug;
use super::control::Control;
use super::entry::{self, Door};
use super::links::{self, Link, PeerLinks, Seat};
use super::shard_thread::Mail;
use crate::causality::NodeId;
use crate::cluster::{Hello, Input, Refusal};
use crate::wire::peer::{self, Frame, FrameError, Greeting, Link as Lane};

/// Time that a connection may take to come up.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// Time that a greeting may take.
const GREETING_PATIENCE: Duration = Duration::from_secs(5);
/// Most data links of a pair of nodes.
const LANES_MAX: u16 = 4;

/// A connection whose other end is known.
struct Acquaintance {
    stream: TcpStream,
    received: BytesMut,
    hello: Hello,
    lane: Lane,
    dialer: NodeId,
}

/// What became of a connection after its greeting.
enum Seating {
    /// It is one of the links now.
    Seated(Arc<Link>),
    /// Another one of the same pair and lane is kept.
    Spare,
    /// It is from a past life of the other node, or a data link without its control link.
    Stale,
}

/// Dials a node for its control link; returns who answered.
pub(super) async fn dial(control: &Rc<Control>, addr: &str) -> Result<NodeId, String> {
    let met = meet(control, addr, Lane::Control).await?;
    let (node, hello) = (met.hello.node, met.hello.clone());
    match seat(control, met) {
        Seating::Seated(link) => {
            control.step(Input::LinkUp { hello, dialed: Some(addr.to_owned()) });
            let lanes = control.shared.shard_count().min(LANES_MAX);
            for number in 0..u8::try_from(lanes).expect("there are at most four lanes") {
                let (addr, lane) = (addr.to_owned(), Lane::Data(number));
                let task = keep_lane(Rc::clone(control), addr, Arc::clone(&link), lane);
                bug::spawn(&control.shared, "the dial of a data link", task);
            }
        }
        // The node is linked already; that it answers at this address is news.
        Seating::Spare => {
            control.step(Input::LinkUp { hello, dialed: Some(addr.to_owned()) });
        }
        Seating::Stale => return Err(String::from("a past life of the node answered")),
    }
    Ok(node)
}

/// Greets a node that dialled this one.
pub(super) async fn answer(control: Rc<Control>, mut stream: TcpStream) {
    let greeted = timeout(GREETING_PATIENCE, listen(&control, &mut stream)).await;
    let (hello, lane, received) = match greeted {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(reason)) => {
            tracing::debug!(node = %control.shared.name, reason, "a node was not greeted");
            return;
        }
        Err(_) => return,
    };
    let dialer = hello.node;
    let is_control = lane == Lane::Control;
    let met = Acquaintance { stream, received, hello: hello.clone(), lane, dialer };
    if let Seating::Seated(_) = seat(&control, met)
        && is_control
    {
        control.step(Input::LinkUp { hello, dialed: None });
    }
}

/// Keeps one data link up as long as the control link that it belongs to.
async fn keep_lane(control: Rc<Control>, addr: String, parent: Arc<Link>, lane: Lane) {
    loop {
        let current = control.shared.peers.control(parent.node);
        if current.is_none_or(|link| link.id != parent.id) {
            return;
        }
        if let Ok(met) = meet(&control, &addr, lane).await
            && met.hello.node == parent.node
            && let Seating::Seated(link) = seat(&control, met)
        {
            control.until_closed(&link).await;
        }
        control.pause_briefly().await;
    }
}

/// Dials and greets.
async fn meet(control: &Rc<Control>, addr: &str, lane: Lane) -> Result<Acquaintance, String> {
    let mut stream = match timeout(CONNECT_PATIENCE, TcpStream::connect(addr)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(String::from("no answer")),
    };
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let greeted = timeout(GREETING_PATIENCE, introduce(control, &mut stream, addr, lane)).await;
    let (hello, received) =
        greeted.unwrap_or_else(|_| Err(String::from("no answer to the greeting")))?;
    Ok(Acquaintance { stream, received, hello, lane, dialer: control.shared.identity.node })
}

/// The dialler's half of the greeting.
async fn introduce(
    control: &Rc<Control>,
    stream: &mut TcpStream,
    addr: &str,
    lane: Lane,
) -> Result<(Hello, BytesMut), String> {
    let dialed = (lane == Lane::Control).then(|| addr.to_owned());
    let mut received = BytesMut::new();
    let mut door = Door { control, stream, received: &mut received };
    let claim = match entry::prove_dialled(&mut door).await {
        Ok(claim) => claim,
        Err(closed) => {
            if let (Some(refusal), Some(_)) = (&closed.refusal, &dialed) {
                control.step(Input::Refused { dialed, refusal: refusal.clone() });
            }
            return Err(closed.to_string());
        }
    };
    say(stream, Frame::Hello(Greeting::new(lane, control.hello()))).await?;
    let hello = match hear(stream, &mut received).await? {
        Frame::HelloAck(Greeting { hello, .. }) => hello,
        Frame::Refusal(refusal) => {
            let reason = refusal.to_string();
            if dialed.is_some() {
                control.step(Input::Refused { dialed, refusal });
            }
            return Err(reason);
        }
        Frame::Hello(_) | Frame::Cluster(_) | Frame::Shard(_) => return Err(out_of_turn()),
    };
    if claim.is_some_and(|claim| !claim.is_of(&hello)) {
        return Err(not_as_proven(&hello));
    }
    if let Err(refusal) = control.admit(&hello) {
        // The other side may be gone already; what counts is that this side does not go on.
        let _ = say(stream, Frame::Refusal(refusal.clone())).await;
        if dialed.is_some() {
            control.step(Input::NotAdmitted { hello, dialed });
        }
        return Err(refusal.to_string());
    }
    if !control.shared.connects(&hello.name) {
        return Err(format!("the link to {} is cut", hello.name));
    }
    say(stream, Frame::HelloAck(Greeting::new(lane, control.hello()))).await?;
    Ok((hello, received))
}

/// The answerer's half of the greeting.
async fn listen(
    control: &Rc<Control>,
    stream: &mut TcpStream,
) -> Result<(Hello, Lane, BytesMut), String> {
    let mut received = BytesMut::new();
    let mut door = Door { control, stream, received: &mut received };
    let claim = entry::prove_answering(&mut door).await.map_err(|closed| closed.to_string())?;
    let Frame::Hello(Greeting { hello, link: lane, .. }) = hear(stream, &mut received).await?
    else {
        return Err(out_of_turn());
    };
    if claim.is_some_and(|claim| !claim.is_of(&hello)) {
        return Err(not_as_proven(&hello));
    }
    if let Err(refusal) = control.admit(&hello) {
        let _ = say(stream, Frame::Refusal(refusal.clone())).await;
        if lane == Lane::Control {
            control.step(Input::NotAdmitted { hello, dialed: None });
        }
        return Err(refusal.to_string());
    }
    if !control.shared.connects(&hello.name) {
        return Err(format!("the link to {} is cut", hello.name));
    }
    say(stream, Frame::HelloAck(Greeting::new(lane, control.hello()))).await?;
    match hear(stream, &mut received).await? {
        Frame::HelloAck(_) => Ok((hello, lane, received)),
        Frame::Refusal(refusal) => {
            let reason = refusal.to_string();
            if lane == Lane::Control {
                control.step(Input::Refused { dialed: None, refusal });
            }
            Err(reason)
        }
        Frame::Hello(_) | Frame::Cluster(_) | Frame::Shard(_) => Err(out_of_turn()),
    }
}

fn out_of_turn() -> String {
    String::from("the other side does not know how to greet")
}

fn not_as_proven(hello: &Hello) -> String {
    format!("{} is not the node that was proven", hello.name)
}

async fn say(stream: &mut TcpStream, frame: Frame) -> Result<(), String> {
    let mut out = BytesMut::new();
    peer::encode(&frame, &mut out).map_err(|error| error.to_string())?;
    stream.write_all(&out).await.map_err(|error| error.to_string())
}

async fn hear(stream: &mut TcpStream, received: &mut BytesMut) -> Result<Frame, String> {
    loop {
        match peer::decode_greeting(received) {
            Ok(Some(frame)) => return Ok(frame),
            Ok(None) => {}
            Err(error) => {
                if let Some(refusal) = refusal_of(&error) {
                    // Courtesy: this side closes in any case.
                    let _ = say(stream, Frame::Refusal(refusal)).await;
                }
                return Err(error.to_string());
            }
        }
        let count = stream.read_buf(received).await.map_err(|error| error.to_string())?;
        if count == 0 {
            return Err(String::from("closed during the greeting"));
        }
    }
}

/// What the other side is told of a first frame that does not parse.
fn refusal_of(error: &FrameError) -> Option<Refusal> {
    match error {
        FrameError::NoCommonVersion { .. } => {
            Some(Refusal { code: String::from("no_common_version"), text: error.to_string() })
        }
        FrameError::SecretAsked => Some(entry::no_secret()),
        FrameError::TooLong { .. }
        | FrameError::TooShort { .. }
        | FrameError::Checksum
        | FrameError::UnknownKind { .. }
        | FrameError::UnknownVersion { .. }
        | FrameError::Malformed { .. } => None,
    }
}

/// Makes an acquaintance one of the links, unless a better one is there.
fn seat(control: &Rc<Control>, met: Acquaintance) -> Seating {
    let Acquaintance { stream, received, hello, lane, dialer } = met;
    let Ok(stream) = stream.into_std() else { return Seating::Stale };
    let link = Arc::new(Link::new(control.next_link(), &hello, lane, dialer));
    let me = control.shared.identity.node;
    let seating = control
        .shared
        .peers
        .change(|peers| peers.entry(hello.node).or_default().take_in(&link, me.min(hello.node)));
    let restarted = match seating {
        TakenIn::Yes { restarted } => restarted,
        TakenIn::Spare => return Seating::Spare,
        TakenIn::Stale => return Seating::Stale,
    };
    if restarted {
        control.step(Input::LinkDown { node: hello.node });
    }
    control.links_changed.notify_waiters();
    control.shared.metrics.links.increment();
    let seat = Seat { link: Arc::clone(&link), stream, received };
    match lane {
        Lane::Control => {
            tracing::info!(node = %control.shared.name, peer = %hello.name, "the link is up");
            let task = links::serve(Arc::clone(&control.shared), seat);
            bug::spawn(&control.shared, "a control link", task);
        }
        Lane::Data(number) => {
            let shards = &control.shared.shards;
            shards[usize::from(number) % shards.len()].post(Mail::Link(seat), 0);
        }
    }
    Seating::Seated(link)
}

/// What the links of a node did with one more.
enum TakenIn {
    /// It is in; `restarted` = those before it were of an older start of the node.
    Yes {
        restarted: bool,
    },
    Spare,
    Stale,
}

impl PeerLinks {
    /// Takes a link in, closing what it replaces; `preferred` is whose dials are kept.
    fn take_in(&mut self, link: &Arc<Link>, preferred: NodeId) -> TakenIn {
        let generation = self.control.as_ref().map(|control| control.generation);
        let restarted = generation.is_some_and(|old| old < link.generation);
        if generation.is_some_and(|old| old > link.generation) {
            return TakenIn::Stale;
        }
        let place = match link.lane {
            Lane::Control => {
                if restarted {
                    self.all().for_each(|old| old.close());
                    *self = Self::default();
                }
                &mut self.control
            }
            Lane::Data(_) if generation != Some(link.generation) => return TakenIn::Stale,
            Lane::Data(number) => self.data.entry(number).or_default(),
        };
        if let Some(old) = place {
            if old.dialer == preferred && link.dialer != preferred {
                return TakenIn::Spare;
            }
            old.close();
        }
        *place = Some(Arc::clone(link));
        TakenIn::Yes { restarted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId([1; 16]);
    const PEER: NodeId = NodeId([2; 16]);

    fn link(generation: u32, lane: Lane, dialer: NodeId) -> Arc<Link> {
        let hello = Hello {
            node: PEER,
            public_key: [0; 32],
            name: String::from("peer"),
            zone: String::new(),
            generation,
            cluster_addr: String::new(),
            client_addr: String::new(),
            cluster: None,
            layout_epoch: 0,
            layout_hash: crate::cluster::LayoutHash::default(),
            partitions: 16,
            replicas: 3,
        };
        Arc::new(Link::new(0, &hello, lane, dialer))
    }

    #[test]
    fn both_sides_keep_the_link_that_the_smaller_node_dialled() {
        for [first, second] in [[ME, PEER], [PEER, ME]] {
            let mut links = PeerLinks::default();
            let (old, new) = (link(1, Lane::Control, first), link(1, Lane::Control, second));
            assert!(matches!(links.take_in(&old, ME), TakenIn::Yes { restarted: false }));
            match links.take_in(&new, ME) {
                TakenIn::Yes { restarted } => {
                    assert!(!restarted);
                    assert_eq!(second, ME);
                }
                TakenIn::Spare => assert_eq!(first, ME),
                TakenIn::Stale => panic!("neither is from a past life"),
            }
            let kept = links.control.unwrap();
            assert_eq!(kept.dialer, ME);
            assert!(!kept.is_closed());
            assert_eq!(old.is_closed(), first == PEER);
        }
    }

    #[test]
    fn a_new_life_of_a_node_replaces_all_links_of_the_old_one() {
        let mut links = PeerLinks::default();
        let old = [link(1, Lane::Control, ME), link(1, Lane::Data(0), ME)];
        for link in &old {
            assert!(matches!(links.take_in(link, ME), TakenIn::Yes { restarted: false }));
        }
        let new = link(2, Lane::Control, PEER);
        assert!(matches!(links.take_in(&new, ME), TakenIn::Yes { restarted: true }));
        assert!(old.iter().all(|link| link.is_closed()));
        assert_eq!(links.all().count(), 1);
        for stale in [link(1, Lane::Control, ME), link(1, Lane::Data(1), ME)] {
            assert!(matches!(links.take_in(&stale, ME), TakenIn::Stale));
        }
        assert!(!new.is_closed());
    }

    #[test]
    fn a_data_link_needs_its_control_link() {
        let mut links = PeerLinks::default();
        let data = link(1, Lane::Data(0), ME);
        assert!(matches!(links.take_in(&data, ME), TakenIn::Stale));
    }
}
