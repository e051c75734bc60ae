//! What this version does not have yet, refused by name: with what it will be, and what to do
//! until then. A flag that is ignored would be a promise that is not kept.

use std::ffi::OsString;

use super::failure::Failure;

/// Commands of later versions.
const COMMANDS: [(&str, &str); 15] = [
    ("top", "will show the cluster live; use `peerage status` until then"),
    ("cluster", "will plan and commit changes of the layout; nodes join by --seed until then"),
    ("verify", "will compare the replicas; `peerage explain KEY` does it for one key"),
    ("check", "will test a live cluster for what it claims"),
    ("fault", "will inject faults; `peerage dev` has kill, partition and heal at its prompt"),
    ("audit", "will show and verify the audit log"),
    ("bucket", "will manage buckets; there is one, called default, until then"),
    ("policy", "will set the policy of a bucket"),
    ("index", "will manage search indexes"),
    ("search", "will search values; `peerage scan --match` finds keys by name"),
    ("backup", "will copy a cluster; `peerage export` writes all keys and values"),
    ("certs", "will make certificates for TLS; use a tunnel between machines until then"),
    ("completions", "will write completions for a shell; `peerage help` lists the commands"),
    ("man", "will write a manual page; `peerage help COMMAND` shows the same text"),
    ("config", "will check and show settings; `peerage serve --help` lists them"),
];

/// Flags of later versions, of `serve` and `dev`.
const FLAGS: [(&str, &str); 4] = [
    ("--http-port", "will serve HTTP, the console and metrics on a third port"),
    (
        "--mode",
        "will choose primary-secondary mode; this version is masterless: every node takes writes",
    ),
    ("--peers", "will name the nodes of a primary-secondary cluster; use --seed"),
    ("--primary", "will make this node the first primary; this version has no primary"),
];

/// The refusal of a command line that uses what comes later.
pub(crate) fn refusal(args: &[OsString]) -> Option<Failure> {
    let mut words = args.iter().skip(1).map(|word| word.to_string_lossy());
    let command = words.next()?;
    if let Some((name, what)) = COMMANDS.iter().find(|(name, _)| *name == command) {
        return Some(refuse(&format!("`peerage {name}`"), what));
    }
    if command != "serve" && command != "dev" {
        return None;
    }
    words.take_while(|word| word != "--").find_map(|word| {
        let flag = word.split('=').next().unwrap_or_default();
        let (name, what) = FLAGS.iter().find(|(name, _)| *name == flag)?;
        Some(refuse(name, what))
    })
}

fn refuse(name: &str, what: &str) -> Failure {
    Failure::Usage(format!("{name} is not in this version: it {what}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<&str>) {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let refusal = refusal(&args);
        let text = refusal.as_ref().map(ToString::to_string);
        assert_eq!(text.as_deref().and_then(|text| text.split(':').next()), expected, "{line}");
        assert!(refusal.is_none_or(|failure| failure.code() == 2));
    }

    #[test]
    fn what_comes_later_is_refused_by_its_name() {
        check("peerage serve --peers a", Some("--peers is not in this version"));
        check(
            "peerage serve --port 1 --mode=primary-secondary",
            Some("--mode is not in this version"),
        );
        check("peerage dev --http-port 8379", Some("--http-port is not in this version"));
        check("peerage verify k", Some("`peerage verify` is not in this version"));
    }

    #[test]
    fn what_exists_is_not_refused() {
        for line in [
            "peerage",
            "peerage serve --port 6379",
            "peerage get --mode",
            "peerage set sim --primary",
            "peerage serve -- --mode",
        ] {
            check(line, None);
        }
    }
}
