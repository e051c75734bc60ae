//! Whether a node may be reached from other machines, and what its operator is told about it.

use std::net::IpAddr;

use super::StartError;
use crate::config::Config;

/// What protects a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exposure {
    is_exposed: bool,
    has_secret: bool,
    has_tokens: bool,
}

impl Exposure {
    /// That of a node with these settings.
    pub(super) fn of(config: &Config, has_secret: bool, has_tokens: bool) -> Self {
        Self { is_exposed: !is_loopback(config.host), has_secret, has_tokens }
    }

    /// Refuses to be reached by other machines where something is missing, unless the operator
    /// insists.
    pub(super) fn check(self, config: &Config) -> Result<(), StartError> {
        let missing = match (self.has_secret, self.has_tokens) {
            (true, true) => None,
            (false, true) => Some("no cluster secret"),
            (true, false) => Some("no tokens of clients"),
            (false, false) => Some("neither a cluster secret nor tokens of clients"),
        };
        match missing {
            Some(missing) if self.is_exposed && !config.insecure_i_know => {
                Err(StartError::Exposed { host: config.host, missing })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What the operator is told when the node starts, and each minute.
    pub(super) fn warnings(self) -> Vec<&'static str> {
        let mut warnings = Vec::new();
        if self.is_exposed && !self.has_secret {
            warnings.push(
                "INSECURE, as asked for: every machine that reaches the port for nodes can join \
                 the cluster and read and write everything (no cluster secret)",
            );
        }
        if self.is_exposed && !self.has_tokens {
            warnings.push(
                "INSECURE, as asked for: every machine that reaches the port for clients can read \
                 and write everything (no tokens)",
            );
        }
        if self.is_exposed {
            warnings.push(
                "traffic is not encrypted: whoever can listen on the network reads keys, values \
                 and tokens; this version has no TLS, so use a tunnel or a network of its own",
            );
        }
        warnings
    }
}

/// The address or name by which others reach a node with these settings, IPv6 without brackets.
pub(super) fn advertised_host(config: &Config) -> Result<String, StartError> {
    let bad = |text: String| Err(StartError::BadConfig { text });
    let Some(host) = &config.advertise_host else {
        if config.host.to_canonical().is_unspecified() {
            return bad(format!(
                "{} stands for every address of this machine, and other nodes and cluster clients \
                 must be told one: add --advertise-host with the address or name by which they \
                 reach this node, or give that address as --host",
                config.host
            ));
        }
        return Ok(config.host.to_string());
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(addr) if addr.to_canonical().is_unspecified() => {
            bad(format!("advertise-host {host} is no address that anybody can reach"))
        }
        Ok(addr) => Ok(addr.to_string()),
        Err(_) if is_host_name(bare) => Ok(bare.to_owned()),
        Err(_) => bad(format!(
            "advertise-host {host:?} is neither an address nor a name; give it without a port, \
             such as 10.0.0.1 or node-1.example"
        )),
    }
}

/// Whether it may be the name of a host: labels of letters, digits and hyphens.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn is_loopback(host: IpAddr) -> bool {
    host.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_listens_everywhere_must_say_where_it_is_reached() {
        let advertised = |host: &str, advertise: Option<&str>| {
            let host = host.parse().unwrap();
            let advertise_host = advertise.map(str::to_owned);
            advertised_host(&Config { host, advertise_host, ..Config::default() })
        };
        for everywhere in ["0.0.0.0", "::", "::ffff:0.0.0.0"] {
            let error = advertised(everywhere, None).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("--advertise-host"), "{error}");
            assert_eq!(advertised(everywhere, Some("10.0.0.1")).unwrap(), "10.0.0.1");
        }
        assert_eq!(advertised("127.0.0.1", None).unwrap(), "127.0.0.1");
        assert_eq!(advertised("::1", None).unwrap(), "::1");
        assert_eq!(advertised("::1", Some("[2001:db8::1]")).unwrap(), "2001:db8::1");
        assert_eq!(advertised("10.0.0.1", Some("n-1.example")).unwrap(), "n-1.example");
        for wrong in ["", "0.0.0.0", "::", "n1:6379", "10.0.0.1:6379", "a b", "n..1", "\u{e9}.de"] {
            assert!(advertised("0.0.0.0", Some(wrong)).is_err(), "{wrong:?}");
        }
    }

    /// Host, `--insecure-i-know`, secret, tokens: what is missing if it does not start, or else how
    /// many warnings there are.
    type Case = (&'static str, bool, bool, bool, Result<usize, &'static str>);

    #[test]
    fn beyond_loopback_a_node_needs_a_secret_and_tokens_or_an_operator_who_insists() {
        const BOTH: &str = "neither a cluster secret nor tokens";
        let cases: [Case; 16] = [
            ("127.0.0.1", false, false, false, Ok(0)),
            ("127.0.0.1", false, true, true, Ok(0)),
            ("127.9.9.9", false, false, false, Ok(0)),
            ("::1", false, false, false, Ok(0)),
            ("::ffff:127.0.0.1", false, false, false, Ok(0)),
            ("127.0.0.1", true, false, false, Ok(0)),
            ("10.0.0.1", false, false, false, Err(BOTH)),
            ("10.0.0.1", false, true, false, Err("no tokens")),
            ("10.0.0.1", false, false, true, Err("no cluster secret")),
            ("10.0.0.1", false, true, true, Ok(1)),
            ("0.0.0.0", false, false, false, Err(BOTH)),
            ("::", false, true, false, Err("no tokens")),
            ("10.0.0.1", true, false, false, Ok(3)),
            ("10.0.0.1", true, true, false, Ok(2)),
            ("10.0.0.1", true, false, true, Ok(2)),
            ("10.0.0.1", true, true, true, Ok(1)),
        ];
        for (host, insecure_i_know, has_secret, has_tokens, expected) in cases {
            let config =
                Config { host: host.parse().unwrap(), insecure_i_know, ..Config::default() };
            let exposure = Exposure::of(&config, has_secret, has_tokens);
            match (exposure.check(&config), expected) {
                (Ok(()), Ok(count)) => {
                    assert_eq!(exposure.warnings().len(), count, "{host} {exposure:?}");
                }
                (Err(error), Err(missing)) => {
                    let text = error.to_string();
                    assert_eq!(error.exit_code(), 2);
                    for part in [missing, host, "127.0.0.1", "--tokens-file", "--insecure-i-know"] {
                        assert!(text.contains(part), "{part}: {text}");
                    }
                }
                (found, expected) => panic!("{host}: {found:?}, expected {expected:?}"),
            }
        }
    }
}
