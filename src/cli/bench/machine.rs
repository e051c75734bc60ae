//! What figures rest on: the machine, and how the nodes are set up.

use std::fs;
use std::path::Path;

use crate::client::{Call, Client};

/// Facts with their names, as text.
pub(crate) type Facts = Vec<(&'static str, String)>;

/// The machine as Linux tells of it; what is not known is left out.
pub(crate) fn machine(data_dir: Option<&Path>) -> Facts {
    let read = |path: &str| fs::read_to_string(path).ok();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = read("/proc/cpuinfo").and_then(|text| field(&text, "model name"));
    let cores = std::thread::available_parallelism().ok().map(|cores| cores.to_string());
    let memory = read("/proc/meminfo").and_then(|text| field(&text, "MemTotal"));
    let kernel = read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned());
    let load = read("/proc/loadavg").and_then(|text| Some(text.split_once(' ')?.0.to_owned()));
    let mounts = read("/proc/mounts");
    let disk = data_dir.zip(mounts).and_then(|(path, text)| file_system(&text, path));
    let facts = [
        ("processor", model),
        ("cores", cores),
        ("memory", memory),
        ("kernel", kernel),
        ("file_system", disk),
        ("load_before", load),
    ];
    facts.into_iter().filter_map(|(name, fact)| Some((name, fact?))).collect()
}

/// The set-up of nodes as the first of them tells it.
pub(crate) async fn set_up(addrs: &[String]) -> Facts {
    let info = Client::new(addrs).call(&Call::read("INFO")).await;
    let mut facts = vec![("nodes", addrs.len().to_string())];
    if let Ok(info) = info {
        let members = info.number("members").map(|members| members.to_string());
        let shards = info.number("shards").map(|shards| shards.to_string());
        let known = [
            ("members", members),
            ("shards", shards),
            ("durability", info.text("durability")),
            ("version", info.text("version")),
        ];
        facts.extend(known.into_iter().filter_map(|(name, fact)| Some((name, fact?))));
    }
    facts
}

/// `name: fact` after `name: fact`, for people.
pub(crate) fn line(facts: &Facts) -> String {
    let words: Vec<String> = facts.iter().map(|(name, fact)| format!("{name}: {fact}")).collect();
    words.join("; ").replace('_', " ")
}

/// The facts as a JSON object.
pub(crate) fn json(facts: &Facts) -> serde_json::Value {
    facts.iter().map(|(name, fact)| (*name, fact.as_str())).collect()
}

/// The type of the file system that holds a path: of the mount point that is its longest prefix.
fn file_system(mounts: &str, path: &Path) -> Option<String> {
    let mount = |line: &str| {
        let mut columns = line.split(' ').skip(1);
        let point = columns.next()?;
        let prefix = path.starts_with(point).then_some(point.len())?;
        Some((prefix, columns.next()?.to_owned()))
    };
    mounts.lines().filter_map(mount).max_by_key(|(prefix, _)| *prefix).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_of_a_path_is_that_of_its_nearest_mount() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tm xfs rw 0 0\n";
        let of = |path: &str| file_system(mounts, Path::new(path));
        assert_eq!(of("/tmp/x").as_deref(), Some("tmpfs"));
        assert_eq!(of("/var/x").as_deref(), Some("ext4"));
    }
}
