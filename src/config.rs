//! Every setting of a node: unit, default, range, and why one would change it.
//!
//! Flags win over `PEERAGE_*` variables, which win over the TOML file, which wins over these
//! defaults.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::limits;

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After its bytes are on stable storage (fdatasync). Survives the loss of power.
    #[default]
    Always,
    /// After its bytes are with the operating system, which is told to store them every 50 ms.
    /// Survives the death of the process; the loss of power may take the last 50 ms.
    Interval,
    /// After its bytes are with the operating system, which stores them when it pleases.
    Os,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name shown to people; unique in the cluster. Default: HOST:PORT.
    pub node_id: Option<String>,
    /// Where everything that the node must remember lies.
    pub data_dir: PathBuf,
    /// Address to listen on; beyond loopback it needs a secret and tokens.
    pub host: IpAddr,
    /// Address or name by which other nodes, and clients that know the cluster, reach this node.
    /// Default: `host`, which says nothing where it stands for every address of the machine.
    pub advertise_host: Option<String>,
    /// Port for clients (newline-JSON and RESP). 0 = any free one.
    pub port: u16,
    /// Port for other nodes. Default: `port` + 1000. 0 = any free one.
    pub cluster_port: Option<u16>,
    /// `HOST:CLUSTER_PORT` of other nodes. None: a new cluster of one.
    pub seeds: Vec<String>,
    /// File with the cluster secret, which every node of the cluster must prove that it holds.
    pub cluster_secret_file: Option<PathBuf>,
    /// File with the digests of the tokens of clients.
    pub tokens_file: Option<PathBuf>,
    /// Whether other machines may reach the node without a secret or tokens.
    pub insecure_i_know: bool,
    /// Failure domain.
    pub zone: String,
    /// Shard threads, 1 to 64. Default: cores - 1, at least 1.
    pub shards: Option<u16>,
    /// When a write is acknowledged.
    pub durability: Durability,
    /// Copies of each key, 1 to 7; fixed at the birth of the cluster for now.
    pub replicas: u8,
    /// Partitions of the ring, a power of two up to 16,384; fixed at the birth of the cluster.
    pub partitions: u16,
    /// Longest value in bytes, up to 16 MiB.
    pub value_bytes_max: usize,
    /// Bytes of one log segment.
    pub segment_bytes: u64,
    /// Connections of clients.
    pub connections_max: usize,
    /// Connections of clients from one address; of IPv6 from one /64. Default: 1,000, and no bound
    /// for this machine.
    pub connections_per_address_max: Option<usize>,
    /// Milliseconds in which the first request of a connection must begin.
    pub first_request_ms: u64,
    /// Milliseconds in which a client must show its token, where one is needed.
    pub auth_ms: u64,
    /// Milliseconds from the first byte of a request to its last; large ones have more.
    pub request_ms: u64,
    /// Milliseconds in which answers must be read; who reads on has more.
    pub unread_ms: u64,
    /// Bytes that all connections of clients may keep: parts of requests, unread answers.
    pub client_bytes_max: usize,
    /// Bytes of memory that the node may take. Default: 60 % of what the machine, or the control
    /// group of the process, has.
    pub memory_bytes: Option<u64>,
    /// Whether the `debug` flag of requests injects faults.
    pub allow_fault_injection: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_id: None,
            data_dir: PathBuf::from("peerage-data"),
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            advertise_host: None,
            port: 6379,
            cluster_port: None,
            seeds: Vec::new(),
            cluster_secret_file: None,
            tokens_file: None,
            insecure_i_know: false,
            zone: String::from("default"),
            shards: None,
            durability: Durability::default(),
            replicas: limits::REPLICAS_DEFAULT,
            partitions: limits::PARTITIONS_DEFAULT,
            value_bytes_max: limits::VALUE_BYTES_MAX_DEFAULT,
            segment_bytes: limits::SEGMENT_BYTES,
            connections_max: limits::CONNECTIONS_MAX_DEFAULT,
            connections_per_address_max: None,
            first_request_ms: limits::FIRST_REQUEST_MS_DEFAULT,
            auth_ms: limits::AUTH_MS_DEFAULT,
            request_ms: limits::REQUEST_MS_DEFAULT,
            unread_ms: limits::UNREAD_MS_DEFAULT,
            client_bytes_max: limits::CLIENT_BYTES_MAX_DEFAULT,
            memory_bytes: None,
            allow_fault_injection: false,
        }
    }
}
