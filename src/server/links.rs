//! Links to other nodes once they are greeted: queues of frames out, frames in to their readers.
//!
//! A pair of nodes has one control link, owned by the control threads, and a few data links, each
//! owned by one shard thread and shared by all. Messages may be lost: a node without a link, or
//! whose queue is full, gets nothing, and whoever asked runs into its deadline. Bytes that do not
//! parse or whose checksum is wrong close the link.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::{Duration, timeout};

use super::control::ControlMail;
use super::metrics::Metrics;
use super::shard_thread::Mail;
use super::shared::Shared;
use crate::causality::NodeId;
use crate::cluster::Hello;
use crate::limits::{INBOX_BYTES_MAX, INBOX_INPUTS_MAX, LINK_QUEUE_BYTES_MAX};
use crate::shard::{Message, ShardId};
use crate::wire::peer::{self, Frame};

/// What a message counts at least against the bytes of an inbox, so that one bound serves for
/// both its bytes and its inputs.
const MESSAGE_WEIGHT_MIN: usize = INBOX_BYTES_MAX / INBOX_INPUTS_MAX;
/// Room for bytes that is made before a read.
const READ_BYTES: usize = 64 * 1024;
/// Chunks of one vectored write.
const WRITE_PARTS_MAX: usize = 64;
/// Silence after which a control link is given up. Control planes speak several times a second;
/// where the network swallows everything, TCP would not try again for minutes after it heals.
const CONTROL_SILENCE_MAX: Duration = Duration::from_secs(10);

/// One link, as those see it who send over it.
#[derive(Debug)]
pub(crate) struct Link {
    /// No two links of a process have the same.
    pub(crate) id: u64,
    /// Who is at the other end.
    pub(crate) node: NodeId,
    /// Its name.
    pub(crate) name: String,
    /// Which start of that node.
    pub(crate) generation: u32,
    /// What it carries.
    pub(crate) lane: peer::Link,
    /// Who dialled it.
    pub(crate) dialer: NodeId,
    queue: Mutex<Queue>,
    bell: Notify,
    closed: AtomicBool,
    closing: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: Vec<Bytes>,
    bytes: usize,
}

/// A link with its socket, on the way to the thread that serves it.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The link.
    pub(crate) link: Arc<Link>,
    /// Its socket.
    pub(crate) stream: std::net::TcpStream,
    /// What was read beyond the greeting.
    pub(crate) received: BytesMut,
}

/// The links to every node that is connected now.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<BTreeMap<NodeId, PeerLinks>>);

/// The links to one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerLinks {
    pub(crate) control: Option<Arc<Link>>,
    pub(crate) data: BTreeMap<u8, Option<Arc<Link>>>,
}

/// The messages of one turn for other nodes, encoded.
#[derive(Debug, Default)]
pub(crate) struct Outgoing(BTreeMap<NodeId, (BytesMut, u64)>);

impl Outgoing {
    /// Adds a message for `to`.
    pub(crate) fn add(&mut self, to: NodeId, message: Message) {
        let (bytes, count) = self.0.entry(to).or_default();
        match peer::encode(&Frame::Shard(message), bytes) {
            Ok(()) => *count += 1,
            // The limits of requests keep messages below the limit of frames.
            Err(error) => tracing::error!(%error, "a message was dropped"),
        }
    }
}

impl Peers {
    /// Queues the messages of one turn of a shard.
    pub(crate) fn send(&self, shard: ShardId, outgoing: Outgoing, metrics: &Metrics) {
        for (node, (bytes, count)) in outgoing.0 {
            let link = self.with(node, |links| links.lane_of(shard)).flatten();
            if !link.is_some_and(|link| link.push(bytes.freeze())) {
                metrics.messages_dropped.add(count);
            }
        }
    }

    /// The control link to a node.
    pub(crate) fn control(&self, node: NodeId) -> Option<Arc<Link>> {
        self.with(node, |links| links.control.clone()).flatten()
    }

    /// Whether every control link has handed all that was queued to its socket.
    pub(crate) fn are_flushed(&self) -> bool {
        self.change(|peers| {
            peers.values().filter_map(|links| links.control.as_ref()).all(|link| link.is_flushed())
        })
    }

    /// Forgets a link that ended; with the control link all links of its node end. Returns whether
    /// it was the control link in use.
    pub(crate) fn remove(&self, link: &Link) -> bool {
        self.change(|peers| {
            let Some(links) = peers.get_mut(&link.node) else { return false };
            if links.control.as_ref().is_some_and(|control| control.id == link.id) {
                links.all().for_each(|link| link.close());
                peers.remove(&link.node);
                return true;
            }
            for data in links.data.values_mut() {
                data.take_if(|data| data.id == link.id);
            }
            false
        })
    }

    /// Looks at, or changes, the links of all nodes.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut BTreeMap<NodeId, PeerLinks>) -> T,
    ) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with<T>(&self, node: NodeId, look: impl FnOnce(&PeerLinks) -> T) -> Option<T> {
        self.change(|peers| peers.get(&node).map(look))
    }
}

impl PeerLinks {
    /// The link for the messages of a shard: always the same one while the set of links is the
    /// same. Without a data link the control link carries them.
    fn lane_of(&self, shard: ShardId) -> Option<Arc<Link>> {
        let up = self.data.values().flatten();
        let count = up.clone().count();
        if count == 0 {
            return self.control.clone();
        }
        up.into_iter().nth(usize::from(shard.0) % count).cloned()
    }

    /// Every link of the node.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.control.iter().chain(self.data.values().flatten())
    }
}

impl Link {
    /// A link that is not served yet.
    pub(crate) fn new(id: u64, hello: &Hello, lane: peer::Link, dialer: NodeId) -> Self {
        Self {
            id,
            node: hello.node,
            name: hello.name.clone(),
            generation: hello.generation,
            lane,
            dialer,
            queue: Mutex::default(),
            bell: Notify::new(),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
        }
    }

    /// Queues whole frames; returns whether there was room for them.
    pub(crate) fn push(&self, frames: Bytes) -> bool {
        let first = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let full = queue.bytes + frames.len() > LINK_QUEUE_BYTES_MAX && queue.bytes > 0;
            if full || self.closed.load(Ordering::Relaxed) {
                return false;
            }
            queue.bytes += frames.len();
            queue.chunks.push(frames);
            queue.chunks.len() == 1
        };
        if first {
            self.bell.notify_one();
        }
        true
    }

    /// Whether everything queued was handed to the socket.
    pub(crate) fn is_flushed(&self) -> bool {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).bytes == 0
    }

    /// Whether it has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Ends the task that serves it.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.closing.notify_one();
    }
}

/// Serves a link until it breaks, is closed, or is cut. Runs on the thread that owns it.
pub(crate) async fn serve(shared: Arc<Shared>, seat: Seat) {
    let Seat { link, stream, received } = seat;
    let reason = match TcpStream::from_std(stream) {
        Err(error) => error.to_string(),
        Ok(stream) => {
            let (reader, writer) = stream.into_split();
            tokio::select! {
                biased;
                () = link.closing.notified() => String::from("another link took its place"),
                () = cut(&shared, &link) => String::from("cut"),
                reason = read(&shared, &link, reader, received) => reason,
                error = write(&link, writer) => error.to_string(),
            }
        }
    };
    link.close();
    shared.control.post(ControlMail::LinkClosed { link, reason }, 0);
}

/// Waits until the link is cut from outside.
async fn cut(shared: &Shared, link: &Link) {
    let mut groups = shared.links.watch();
    // The sender lives as long as the node, so the wait cannot fail.
    let _ = groups.wait_for(|groups| !groups.connects(&shared.name, &link.name)).await;
}

async fn write(link: &Link, mut writer: OwnedWriteHalf) -> io::Error {
    loop {
        link.bell.notified().await;
        let mut chunks = {
            let mut queue = link.queue.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut queue.chunks)
        };
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        for chunks in chunks.chunks_mut(WRITE_PARTS_MAX) {
            if let Err(error) = write_all(&mut writer, chunks).await {
                return error;
            }
        }
        link.queue.lock().unwrap_or_else(PoisonError::into_inner).bytes -= bytes;
    }
}

/// Writes all chunks, with one system call where the socket takes them.
async fn write_all(writer: &mut OwnedWriteHalf, chunks: &mut [Bytes]) -> io::Result<()> {
    let mut first = 0;
    while first < chunks.len() {
        let slices: Vec<IoSlice<'_>> =
            chunks[first..].iter().map(|chunk| IoSlice::new(chunk)).collect();
        let mut written = writer.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(chunk) = chunks.get_mut(first)
            && chunk.len() <= written
        {
            written -= chunk.len();
            first += 1;
        }
        if let Some(chunk) = chunks.get_mut(first) {
            chunk.advance(written);
        }
    }
    Ok(())
}

async fn read(
    shared: &Shared,
    link: &Link,
    mut reader: OwnedReadHalf,
    mut received: BytesMut,
) -> String {
    let mut post = Post::new(shared, link);
    let patience = match link.lane {
        peer::Link::Control => CONTROL_SILENCE_MAX,
        peer::Link::Data(_) => Duration::MAX,
    };
    loop {
        loop {
            let before = received.len();
            match peer::decode(&mut received) {
                Ok(Some(frame)) => {
                    if let Err(reason) = post.sort(frame, before - received.len()) {
                        return reason;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    shared.metrics.links_damaged.increment();
                    return error.to_string();
                }
            }
        }
        post.deliver().await;
        if received.capacity() - received.len() < READ_BYTES / 4 {
            received.reserve(READ_BYTES);
        }
        match timeout(patience, reader.read_buf(&mut received)).await {
            Ok(Ok(0)) => return String::from("closed by the other side"),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return String::from("silence"),
        }
    }
}

/// The frames of one read, sorted by who is to get them.
struct Post<'a> {
    shared: &'a Shared,
    link: &'a Link,
    control: Vec<crate::cluster::Message>,
    shards: Vec<(Vec<(NodeId, Message)>, usize)>,
}

impl<'a> Post<'a> {
    fn new(shared: &'a Shared, link: &'a Link) -> Self {
        let shards = shared.shards.iter().map(|_| (Vec::new(), 0)).collect();
        Self { shared, link, control: Vec::new(), shards }
    }

    fn sort(&mut self, frame: Frame, bytes: usize) -> Result<(), String> {
        match frame {
            Frame::Cluster(message) => self.control.push(message),
            Frame::Shard(message) => {
                let (letters, weight) = &mut self.shards[self.shared.shard_of(&message)];
                letters.push((self.link.node, message));
                *weight += bytes.max(MESSAGE_WEIGHT_MIN);
            }
            Frame::Refusal(refusal) => return Err(format!("{}: {}", refusal.code, refusal.text)),
            Frame::Hello(_) | Frame::HelloAck(_) => {
                return Err(String::from("a greeting in the middle of a link"));
            }
        }
        Ok(())
    }

    /// Hands everything over, waiting where an inbox is full: then the other side's queue fills,
    /// and what it cannot keep it drops.
    async fn deliver(&mut self) {
        if !self.control.is_empty() {
            let messages = std::mem::take(&mut self.control);
            self.shared.control.post(ControlMail::Messages(self.link.node, messages), 0);
        }
        for (mailbox, (letters, weight)) in self.shared.shards.iter().zip(&mut self.shards) {
            if !letters.is_empty() {
                mailbox.room(INBOX_BYTES_MAX).await;
                let weight = std::mem::take(weight);
                mailbox.post(Mail::Messages(std::mem::take(letters)), weight);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(lane: peer::Link) -> Link {
        let hello = Hello {
            node: NodeId([2; 16]),
            public_key: [0; 32],
            name: String::from("peer"),
            zone: String::new(),
            generation: 1,
            cluster_addr: String::new(),
            client_addr: String::new(),
            cluster: None,
            layout_epoch: 0,
            layout_hash: crate::cluster::LayoutHash::default(),
            partitions: 16,
            replicas: 3,
        };
        Link::new(7, &hello, lane, NodeId([1; 16]))
    }

    #[test]
    fn a_link_queues_up_to_its_bound_and_nothing_once_it_is_closed() {
        let full = link(peer::Link::Control);
        let half = Bytes::from(vec![0; LINK_QUEUE_BYTES_MAX / 2]);
        assert!(full.is_flushed());
        assert!(full.push(half.clone()));
        assert!(full.push(half.clone()));
        assert!(!full.push(Bytes::from_static(b"x")));
        assert!(!full.is_flushed());
        let empty = link(peer::Link::Control);
        // A frame may be longer than the bound; alone it still goes.
        assert!(empty.push(vec![0; LINK_QUEUE_BYTES_MAX + 1].into()));
        let closed = link(peer::Link::Control);
        closed.close();
        assert!(!closed.push(half));
    }

    #[test]
    fn shards_share_the_data_links_and_fall_back_on_the_control_link() {
        let control = Arc::new(link(peer::Link::Control));
        let mut links = PeerLinks { control: Some(Arc::clone(&control)), ..PeerLinks::default() };
        let lane_of = |links: &PeerLinks, shard| links.lane_of(ShardId(shard)).unwrap().lane;
        assert_eq!(lane_of(&links, 0), peer::Link::Control);
        for number in [0, 1] {
            links.data.insert(number, Some(Arc::new(link(peer::Link::Data(number)))));
        }
        assert_eq!(
            [0, 1, 2, 3].map(|shard| lane_of(&links, shard)),
            [0, 1, 0, 1].map(peer::Link::Data)
        );
        links.data.insert(0, None);
        assert_eq!([0, 1].map(|shard| lane_of(&links, shard)), [1, 1].map(peer::Link::Data));
    }

    #[test]
    fn chunks_are_written_whole_and_in_order() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut other, _) = listener.accept().await.unwrap();
            let (_reader, mut writer) = stream.into_split();
            // Longer together than what a socket takes at once.
            let mut chunks: Vec<Bytes> =
                (0..60).map(|index| Bytes::from(vec![index; 200_000])).collect();
            let expected = chunks.concat();
            let mut received = Vec::new();
            let write = async {
                write_all(&mut writer, &mut chunks).await.unwrap();
                drop(writer);
            };
            let ((), read) = tokio::join!(write, other.read_to_end(&mut received));
            read.unwrap();
            assert!(received == expected, "the bytes differ");
        });
    }
}
