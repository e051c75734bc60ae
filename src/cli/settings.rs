//! The settings of a node: flags win over variables, which win over the TOML file, which wins over
//! the defaults of [`Config`].

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::client_settings::ClientSettings;
use super::failure::Failure;
use crate::config::{Config, Durability};
use crate::limits;

/// Settings that were given on the command line or as variables.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Another node, by the port for nodes; may be repeated, or hold several with commas
    #[arg(long, value_name = "HOST:CLUSTER_PORT", value_delimiter = ',')]
    #[arg(env = "PEERAGE_SEED", hide_env_values = true)]
    seed: Option<Vec<String>>,
    /// Where everything that the node must remember lies [default: peerage-data]
    #[arg(long, value_name = "DIR", env = "PEERAGE_DATA_DIR", hide_env_values = true)]
    data_dir: Option<PathBuf>,
    /// Address to listen on; beyond loopback the node needs a cluster secret and tokens
    /// [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", env = "PEERAGE_HOST", hide_env_values = true)]
    #[arg(value_parser = parse_host)]
    host: Option<IpAddr>,
    /// Address or name by which other nodes and cluster clients reach this node; needed where it
    /// listens on every address, such as 0.0.0.0 or :: [default: HOST]
    #[arg(long, value_name = "HOST", env = "PEERAGE_ADVERTISE_HOST", hide_env_values = true)]
    advertise_host: Option<String>,
    /// Port for clients, newline-JSON and RESP; 0 is any free one [default: 6379]
    #[arg(long, env = "PEERAGE_PORT", hide_env_values = true)]
    port: Option<u16>,
    /// Port for other nodes; 0 is any free one [default: PORT + 1000]
    #[arg(long, value_name = "PORT", env = "PEERAGE_CLUSTER_PORT", hide_env_values = true)]
    cluster_port: Option<u16>,
    /// File with the secret that the nodes of the cluster prove to each other; `peerage secret`
    /// makes one. The variable `PEERAGE_CLUSTER_SECRET` may hold the secret itself instead
    #[arg(long, value_name = "FILE", env = "PEERAGE_CLUSTER_SECRET_FILE", hide_env_values = true)]
    cluster_secret_file: Option<PathBuf>,
    /// File with the tokens of clients; `peerage token create` adds one
    #[arg(long, value_name = "FILE", env = "PEERAGE_TOKENS_FILE", hide_env_values = true)]
    tokens_file: Option<PathBuf>,
    /// Be reached from other machines without a secret or tokens; for labs, and said each minute
    #[arg(long, env = "PEERAGE_INSECURE_I_KNOW", hide_env_values = true)]
    #[arg(value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    insecure_i_know: Option<bool>,
    /// Name of the node, unique in the cluster [default: HOST:PORT]
    #[arg(long, value_name = "NAME", env = "PEERAGE_NODE_ID", hide_env_values = true)]
    node_id: Option<String>,
    /// Failure domain, such as a rack or data centre [default: default]
    #[arg(long, env = "PEERAGE_ZONE", hide_env_values = true)]
    zone: Option<String>,
    /// Shard threads, 1 to 64 [default: cores - 1, at least 1]
    #[arg(long, value_name = "N", env = "PEERAGE_SHARDS", hide_env_values = true)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=i64::from(limits::SHARDS_MAX)))]
    shards: Option<u16>,
    /// When a write is acknowledged [default: always]
    #[arg(long, env = "PEERAGE_DURABILITY", hide_env_values = true)]
    durability: Option<DurabilityWord>,
    /// Copies of each key, 1 to 7; the same on all nodes of a new cluster [default: 3]
    #[arg(long, value_name = "N", env = "PEERAGE_REPLICAS", hide_env_values = true)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=i64::from(limits::REPLICAS_MAX)))]
    replicas: Option<u8>,
    /// Partitions of the ring, a power of two up to 16384; the same on all nodes of a new cluster
    /// [default: 1024]
    #[arg(long, value_name = "Q", env = "PEERAGE_PARTITIONS", hide_env_values = true)]
    partitions: Option<u16>,
    /// Longest value in bytes, up to 16777216 [default: 1048576]
    #[arg(long, value_name = "BYTES", env = "PEERAGE_VALUE_BYTES_MAX", hide_env_values = true)]
    value_bytes_max: Option<usize>,
    /// Bytes of one log segment, 1048576 to 1073741824 [default: 67108864]
    #[arg(long, value_name = "BYTES", env = "PEERAGE_SEGMENT_BYTES", hide_env_values = true)]
    segment_bytes: Option<u64>,
    /// Bytes of memory that the node may take, 67108864 or more [default: 60 % of the machine or
    /// of the control group]
    #[arg(long, value_name = "BYTES", env = "PEERAGE_MEMORY_BYTES", hide_env_values = true)]
    memory_bytes: Option<u64>,
    /// TOML file with settings, named as these flags with _ for -; seeds is a list
    #[arg(long, value_name = "FILE", env = "PEERAGE_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Let requests with "debug":true inject faults; for tests only
    #[arg(long, env = "PEERAGE_ALLOW_FAULT_INJECTION", hide_env_values = true)]
    #[arg(value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    allow_fault_injection: Option<bool>,
    #[command(flatten)]
    clients: ClientSettings,
}

/// The durability levels as words of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityWord {
    /// When it is on stable storage: survives the loss of power
    Always,
    /// When the system has it, which stores it every 50 ms: survives the death of the process
    Interval,
    /// When the system has it, which stores it when it pleases
    Os,
}

impl Settings {
    /// The settings of the node, read from the file if there is one.
    pub(crate) fn load(&self) -> Result<Config, Failure> {
        let base = match &self.config {
            None => Config::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    Failure::Usage(format!("cannot read {}: {error}", path.display()))
                })?;
                parse_file(path, &text)?
            }
        };
        let config = self.over(base);
        match config.seeds.iter().find(|seed| !is_address(seed)) {
            None => Ok(config),
            Some(seed) => Err(Failure::Usage(format!(
                "{seed:?} is no seed; give HOST:CLUSTER_PORT, such as 127.0.0.1:7379"
            ))),
        }
    }

    /// `base` with everything that was given in its place.
    fn over(&self, base: Config) -> Config {
        let given = self.clone();
        let base = given.clients.over(base);
        Config {
            node_id: given.node_id.or(base.node_id),
            data_dir: given.data_dir.unwrap_or(base.data_dir),
            host: given.host.unwrap_or(base.host),
            advertise_host: given.advertise_host.or(base.advertise_host),
            port: given.port.unwrap_or(base.port),
            cluster_port: given.cluster_port.or(base.cluster_port),
            seeds: given.seed.unwrap_or(base.seeds),
            cluster_secret_file: given.cluster_secret_file.or(base.cluster_secret_file),
            tokens_file: given.tokens_file.or(base.tokens_file),
            insecure_i_know: given.insecure_i_know.unwrap_or(base.insecure_i_know),
            zone: given.zone.unwrap_or(base.zone),
            shards: given.shards.or(base.shards),
            durability: given.durability.map_or(base.durability, DurabilityWord::level),
            replicas: given.replicas.unwrap_or(base.replicas),
            partitions: given.partitions.unwrap_or(base.partitions),
            value_bytes_max: given.value_bytes_max.unwrap_or(base.value_bytes_max),
            segment_bytes: given.segment_bytes.unwrap_or(base.segment_bytes),
            memory_bytes: given.memory_bytes.or(base.memory_bytes),
            allow_fault_injection: given
                .allow_fault_injection
                .unwrap_or(base.allow_fault_injection),
            ..base
        }
    }
}

impl DurabilityWord {
    pub(crate) fn level(self) -> Durability {
        match self {
            Self::Always => Durability::Always,
            Self::Interval => Durability::Interval,
            Self::Os => Durability::Os,
        }
    }
}

/// Whether it has the form HOST:PORT; whether anybody answers there is seen later.
fn is_address(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
}

fn parse_file(path: &Path, text: &str) -> Result<Config, Failure> {
    toml::from_str(text).map_err(|error| {
        Failure::Usage(format!("{} is not a settings file:\n{error}", path.display()))
    })
}

fn parse_host(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    text.parse().map_err(|error| format!("{error}; give an address such as 127.0.0.1 or ::1"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    fn settings(line: &str) -> Settings {
        let words = std::iter::once("test").chain(line.split_whitespace());
        Line::try_parse_from(words).unwrap().settings
    }

    fn file(text: &str) -> Result<Config, Failure> {
        parse_file(Path::new("node.toml"), text)
    }

    #[test]
    fn flags_win_over_the_file_which_wins_over_the_defaults() {
        let base = file("port = 7000\nzone = \"b\"\nseeds = [\"127.0.0.1:1\"]\n").unwrap();
        let config = settings("--port 7001 --durability os").over(base);
        assert_eq!(config.port, 7001);
        assert_eq!(config.zone, "b");
        assert_eq!(config.seeds, ["127.0.0.1:1"]);
        assert_eq!(config.durability, Durability::Os);
        assert_eq!(config.replicas, Config::default().replicas);
        let config = settings("--seed 127.0.0.1:2").over(config);
        assert_eq!(config.seeds, ["127.0.0.1:2"]);
    }

    #[test]
    fn the_bounds_of_clients_are_settings_as_the_others() {
        let base = file("unread_ms = 5\nconnections_max = 7\n").unwrap();
        let config = settings("--connections-max 8 --connections-per-address-max 2").over(base);
        assert_eq!(config.connections_max, 8);
        assert_eq!(config.connections_per_address_max, Some(2));
        assert_eq!(config.unread_ms, 5);
        assert_eq!(config.request_ms, Config::default().request_ms);
    }

    #[test]
    fn without_anything_the_defaults_hold() {
        assert_eq!(settings("").over(Config::default()), Config::default());
    }

    #[test]
    fn seeds_are_repeated_or_listed() {
        let config =
            settings("--seed 127.0.0.1:1,127.0.0.1:2 --seed 127.0.0.1:3").over(Config::default());
        assert_eq!(config.seeds, ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
    }

    #[test]
    fn a_seed_has_a_host_and_a_port() {
        let load = |line: &str| settings(line).load().map(|config| config.seeds);
        assert_eq!(load("--seed [::1]:7379").unwrap(), ["[::1]:7379"]);
        for wrong in ["here", ":7379", "here:0", "here:70000"] {
            let failure = load(&format!("--seed {wrong}")).unwrap_err();
            assert_eq!(failure.code(), 2);
            assert!(failure.to_string().contains("is no seed"), "{failure}");
        }
    }

    #[test]
    fn a_flag_without_a_value_switches_fault_injection_on() {
        let allowed = |line| settings(line).over(Config::default()).allow_fault_injection;
        assert!(allowed("--allow-fault-injection"));
        assert!(!allowed("--allow-fault-injection=false"));
    }

    #[test]
    fn what_the_file_does_not_know_is_refused_with_its_name() {
        let failure = file("prot = 7000\n").unwrap_err();
        assert_eq!(failure.code(), 2);
        assert!(failure.to_string().contains("prot"), "{failure}");
        assert!(file("port = 70000\n").unwrap_err().to_string().contains("port"));
    }

    #[test]
    fn values_out_of_range_are_bad_usage() {
        for line in ["--shards 0", "--shards 65", "--replicas 8", "--port 65536", "--host here"] {
            let words = std::iter::once("test").chain(line.split_whitespace());
            assert!(Line::try_parse_from(words).is_err(), "{line}");
        }
        assert_eq!(settings("--host localhost").host, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
