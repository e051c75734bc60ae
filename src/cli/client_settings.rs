//! The settings that keep clients in bounds: how many, how long, how much memory.

use clap::Args;

use crate::config::Config;

/// Settings about clients that were given on the command line or as variables.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Clients in bounds")]
pub(crate) struct ClientSettings {
    /// Connections of clients, as far as the limit of open files allows [default: 10000]
    #[arg(long, value_name = "N", env = "PEERAGE_CONNECTIONS_MAX", hide_env_values = true)]
    connections_max: Option<usize>,
    /// Connections from one address, of IPv6 from one /64 [default: 1000, this machine without
    /// bound]
    #[arg(long, value_name = "N", hide_env_values = true)]
    #[arg(env = "PEERAGE_CONNECTIONS_PER_ADDRESS_MAX")]
    connections_per_address_max: Option<usize>,
    /// Time for the first request of a connection to begin [default: 60000]
    #[arg(long, value_name = "MS", env = "PEERAGE_FIRST_REQUEST_MS", hide_env_values = true)]
    first_request_ms: Option<u64>,
    /// Time to show a token, where the node asks for one [default: 10000]
    #[arg(long, value_name = "MS", env = "PEERAGE_AUTH_MS", hide_env_values = true)]
    auth_ms: Option<u64>,
    /// Time from the first byte of a request to its last; a second more for each 16 KiB that
    /// arrive [default: 30000]
    #[arg(long, value_name = "MS", env = "PEERAGE_REQUEST_MS", hide_env_values = true)]
    request_ms: Option<u64>,
    /// Time in which answers must be read; a second more for each 16 KiB that are
    /// [default: 30000]
    #[arg(long, value_name = "MS", env = "PEERAGE_UNREAD_MS", hide_env_values = true)]
    unread_ms: Option<u64>,
    /// Memory for parts of requests and unread answers of all connections, at least 16777216
    /// [default: 268435456]
    #[arg(long, value_name = "BYTES", env = "PEERAGE_CLIENT_BYTES_MAX", hide_env_values = true)]
    client_bytes_max: Option<usize>,
}

impl ClientSettings {
    /// `base` with everything that was given in its place.
    pub(super) fn over(&self, base: Config) -> Config {
        Config {
            connections_max: self.connections_max.unwrap_or(base.connections_max),
            connections_per_address_max: self
                .connections_per_address_max
                .or(base.connections_per_address_max),
            first_request_ms: self.first_request_ms.unwrap_or(base.first_request_ms),
            auth_ms: self.auth_ms.unwrap_or(base.auth_ms),
            request_ms: self.request_ms.unwrap_or(base.request_ms),
            unread_ms: self.unread_ms.unwrap_or(base.unread_ms),
            client_bytes_max: self.client_bytes_max.unwrap_or(base.client_bytes_max),
            ..base
        }
    }
}
