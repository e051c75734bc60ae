//! Every fault by its name: what it does, what it needs to be told, and what it waits for.
//!
//! One table for `sim list-faults`, for the words of scenario files and for the documents. A fault
//! that waits stays out of random runs: the code that guards against it is not there yet, and no
//! oracle is weakened for it.

use super::{Astray, ClientFault, Death, DiskFault, Fault, LinkFault, NodeFault, Rotting};
use crate::sim::network::Place;

/// One fault of [`CATALOGUE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its word in scenario files.
    pub name: &'static str,
    /// What it is a fault of.
    pub area: Area,
    /// What it does.
    pub does: &'static str,
    /// What it must be told, in this order.
    pub fields: &'static [(&'static str, Shape)],
    /// What it waits for before random runs may draw it; `None` = they do.
    pub waits_for: Option<&'static str>,
}

/// What a fault is a fault of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// The network between nodes.
    Network,
    /// Processes and clocks.
    Process,
    /// Disks.
    Disk,
    /// What people do to nodes.
    Operator,
    /// What clients do.
    Client,
}

/// What a field of a fault holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A node.
    Node,
    /// Nodes.
    Nodes,
    /// Groups of nodes.
    Groups,
    /// A time in microseconds.
    Time,
    /// A client.
    Client,
    /// A step of a wall clock in milliseconds, forward or back.
    Jump,
    /// A number.
    Number,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// A field of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// See [`Shape::Node`].
    Node(Place),
    /// See [`Shape::Nodes`].
    Nodes(Vec<Place>),
    /// See [`Shape::Groups`].
    Groups(Vec<Vec<Place>>),
    /// See [`Shape::Time`].
    Time(u64),
    /// See [`Shape::Client`]: its index in the scenario.
    Client(usize),
    /// See [`Shape::Jump`].
    Jump(i64),
    /// See [`Shape::Number`].
    Number(u64),
    /// See [`Shape::Word`].
    Word(&'static str),
}

const NODE: (&str, Shape) = ("node", Shape::Node);
const SPAN: (&str, Shape) = ("for", Shape::Time);
const ROTTING: &[&str] = &["anywhere", "record", "newest", "header", "sector", "sealed"];
const DEATHS: &[&str] = &["crash", "power_loss"];

/// Every fault.
pub const CATALOGUE: &[Kind] = &[
    Kind {
        name: "start",
        area: Area::Process,
        does: "a process is started where there is none",
        fields: &[NODE],
        waits_for: None,
    },
    Kind {
        name: "crash",
        area: Area::Process,
        does: "a process dies; its disk keeps what the operating system has",
        fields: &[NODE],
        waits_for: None,
    },
    Kind {
        name: "power_loss",
        area: Area::Process,
        does: "power goes: what was not synced is gone or not, sector by sector",
        fields: &[("nodes", Shape::Nodes)],
        waits_for: None,
    },
    Kind {
        name: "partition",
        area: Area::Network,
        does: "only nodes of one group can talk; a node of several groups is a bridge",
        fields: &[("groups", Shape::Groups)],
        waits_for: None,
    },
    Kind {
        name: "one_way",
        area: Area::Network,
        does: "nothing passes from one node to another",
        fields: &[("from", Shape::Node), ("to", Shape::Node)],
        waits_for: None,
    },
    Kind {
        name: "heal",
        area: Area::Network,
        does: "all links are whole",
        fields: &[],
        waits_for: None,
    },
    Kind {
        name: "pause",
        area: Area::Process,
        does: "a node stands still for a while",
        fields: &[NODE, SPAN],
        waits_for: None,
    },
    Kind {
        name: "clock",
        area: Area::Process,
        does: "a wall clock is wrong from now on by so much",
        fields: &[NODE, ("by", Shape::Jump)],
        waits_for: None,
    },
    Kind {
        name: "clog",
        area: Area::Network,
        does: "nothing arrives that goes from one node to another; then all of it does, in order",
        fields: &[("from", Shape::Node), ("to", Shape::Node), SPAN],
        waits_for: None,
    },
    Kind {
        name: "cut_short",
        area: Area::Network,
        does: "the next message from one node to another arrives in part, and its link breaks",
        fields: &[("from", Shape::Node), ("to", Shape::Node)],
        waits_for: None,
    },
    Kind {
        name: "slow_node",
        area: Area::Process,
        does: "every turn of a node takes so many times as long for a while",
        fields: &[NODE, ("factor", Shape::Number), SPAN],
        waits_for: None,
    },
    Kind {
        name: "drift",
        area: Area::Process,
        does: "a wall clock gains so many milliseconds in 1,000 s from now on, or loses them",
        fields: &[NODE, ("by", Shape::Jump)],
        waits_for: None,
    },
    Kind {
        name: "freeze_clock",
        area: Area::Process,
        does: "a wall clock stands still for a while",
        fields: &[NODE, SPAN],
        waits_for: None,
    },
    Kind {
        name: "reshard",
        area: Area::Operator,
        does: "a node is started anew with so many shards",
        fields: &[NODE, ("shards", Shape::Number)],
        waits_for: None,
    },
    Kind {
        name: "wipe",
        area: Area::Operator,
        does: "the data directory of a node is emptied, and it is started under its name",
        fields: &[NODE],
        waits_for: Some("a guard against a member that comes back without its memory"),
    },
    Kind {
        name: "backup",
        area: Area::Operator,
        does: "a copy is made of the data directory of a node",
        fields: &[NODE],
        waits_for: Some("`restore`, without which it changes nothing"),
    },
    Kind {
        name: "restore",
        area: Area::Operator,
        does: "the data directory of a node is replaced by its copy",
        fields: &[NODE],
        waits_for: Some("a guard against a member that comes back with an old memory"),
    },
    Kind {
        name: "clone",
        area: Area::Operator,
        does: "a node runs from a copy of the directory of another one, until things are mended",
        fields: &[NODE, ("of", Shape::Node)],
        waits_for: Some("an epoch that two copies of one directory cannot both start under"),
    },
    Kind {
        name: "rot",
        area: Area::Disk,
        does: "a bit flips at rest: anywhere, in a record, in the newest record of a key or its \
               header, or in a record of a sealed segment; or a sector with such a record is zeros",
        fields: &[NODE, ("where", Shape::Word(ROTTING))],
        waits_for: None,
    },
    Kind {
        name: "disk_error",
        area: Area::Disk,
        does: "the operation of this number from now on fails, 1 being the next",
        fields: &[NODE, ("call", Shape::Number)],
        waits_for: None,
    },
    Kind {
        name: "die_at_name",
        area: Area::Disk,
        does: "a node goes down once so many names of files have changed, a file that is \
               made included, and comes back after a while: its process dies, or its power goes",
        fields: &[
            NODE,
            ("change", Shape::Number),
            ("how", Shape::Word(DEATHS)),
            ("back", Shape::Time),
        ],
        waits_for: None,
    },
    Kind {
        name: "lost_write",
        area: Area::Disk,
        does: "the next write is acknowledged and synced, and never reaches the disk",
        fields: &[NODE],
        waits_for: None,
    },
    Kind {
        name: "misdirected_write",
        area: Area::Disk,
        does: "the next write is acknowledged and synced, and goes elsewhere in its file",
        fields: &[NODE],
        waits_for: None,
    },
    Kind {
        name: "lost_file",
        area: Area::Disk,
        does: "a log segment is gone",
        fields: &[NODE],
        waits_for: Some("rebuilding a partition of which an unknown part is lost"),
    },
    Kind {
        name: "disk_full",
        area: Area::Disk,
        does: "only so many more bytes fit on a disk for a while",
        fields: &[NODE, ("room", Shape::Number), SPAN],
        waits_for: None,
    },
    Kind {
        name: "slow_disk",
        area: Area::Disk,
        does: "every operation of a disk takes up to so long for a while",
        fields: &[NODE, ("up_to", Shape::Time), SPAN],
        waits_for: None,
    },
    Kind {
        name: "stuck_disk",
        area: Area::Disk,
        does: "no operation of a disk completes for a while",
        fields: &[NODE, SPAN],
        waits_for: None,
    },
    Kind {
        name: "half_request",
        area: Area::Client,
        does: "a client sends half of its next request, and its connection dies",
        fields: &[("client", Shape::Client)],
        waits_for: None,
    },
    Kind {
        name: "silence",
        area: Area::Client,
        does: "a client sends half of its next request, and nothing more until it hangs up",
        fields: &[("client", Shape::Client)],
        waits_for: None,
    },
];

impl Kind {
    /// The fault of this name.
    pub fn of(name: &str) -> Option<&'static Self> {
        CATALOGUE.iter().find(|kind| kind.name == name)
    }
}

impl Area {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Process => "process",
            Self::Disk => "disk",
            Self::Operator => "operator",
            Self::Client => "client",
        }
    }
}

impl Fault {
    /// Its name in [`CATALOGUE`].
    pub fn word(&self) -> &'static str {
        self.parts().0
    }

    /// Its name in [`CATALOGUE`], and its fields in the order that stands there.
    pub fn parts(&self) -> (&'static str, Vec<Part>) {
        match self {
            Self::Start(place) => ("start", vec![Part::Node(*place)]),
            Self::Crash(place) => ("crash", vec![Part::Node(*place)]),
            Self::PowerLoss(places) => ("power_loss", vec![Part::Nodes(places.clone())]),
            Self::Partition(groups) => ("partition", vec![Part::Groups(groups.clone())]),
            Self::OneWay(from, to) => ("one_way", vec![Part::Node(*from), Part::Node(*to)]),
            Self::Heal => ("heal", Vec::new()),
            Self::Pause(place, us) => ("pause", vec![Part::Node(*place), Part::Time(*us)]),
            Self::Clock(place, ms) => ("clock", vec![Part::Node(*place), Part::Jump(*ms)]),
            Self::Link(from, to, LinkFault::Clog(us)) => {
                ("clog", vec![Part::Node(*from), Part::Node(*to), Part::Time(*us)])
            }
            Self::Link(from, to, LinkFault::CutShort) => {
                ("cut_short", vec![Part::Node(*from), Part::Node(*to)])
            }
            Self::Node(place, fault) => {
                let (name, rest) = fault.parts();
                (name, [Part::Node(*place)].into_iter().chain(rest).collect())
            }
            Self::Client(client, ClientFault::HalfRequest) => {
                ("half_request", vec![Part::Client(*client)])
            }
            Self::Client(client, ClientFault::Silence) => ("silence", vec![Part::Client(*client)]),
            Self::Disk(place, fault) => {
                let (name, rest) = fault.parts();
                (name, [Part::Node(*place)].into_iter().chain(rest).collect())
            }
        }
    }

    /// The fault of this name with these fields; `None` = they do not fit it.
    pub fn of_parts(name: &str, parts: &[Part]) -> Option<Self> {
        Some(match (name, parts) {
            ("start", [Part::Node(place)]) => Self::Start(*place),
            ("crash", [Part::Node(place)]) => Self::Crash(*place),
            ("power_loss", [Part::Nodes(places)]) => Self::PowerLoss(places.clone()),
            ("partition", [Part::Groups(groups)]) => Self::Partition(groups.clone()),
            ("one_way", [Part::Node(from), Part::Node(to)]) => Self::OneWay(*from, *to),
            ("heal", []) => Self::Heal,
            ("pause", [Part::Node(place), Part::Time(us)]) => Self::Pause(*place, *us),
            ("clock", [Part::Node(place), Part::Jump(ms)]) => Self::Clock(*place, *ms),
            ("clog", [Part::Node(from), Part::Node(to), Part::Time(us)]) => {
                Self::Link(*from, *to, LinkFault::Clog(*us))
            }
            ("cut_short", [Part::Node(from), Part::Node(to)]) => {
                Self::Link(*from, *to, LinkFault::CutShort)
            }
            ("half_request", [Part::Client(client)]) => {
                Self::Client(*client, ClientFault::HalfRequest)
            }
            ("silence", [Part::Client(client)]) => Self::Client(*client, ClientFault::Silence),
            (name, [Part::Node(place), rest @ ..]) => match DiskFault::of_parts(name, rest) {
                Some(fault) => Self::Disk(*place, fault),
                None => Self::Node(*place, NodeFault::of_parts(name, rest)?),
            },
            (_, _) => return None,
        })
    }
}

impl DiskFault {
    fn parts(&self) -> (&'static str, Vec<Part>) {
        match *self {
            Self::Rot(rotting) => ("rot", vec![Part::Word(rotting.name())]),
            Self::Error(call) => ("disk_error", vec![Part::Number(call)]),
            Self::Death(Death { after, has_no_power, back_us }) => {
                let how = Part::Word(DEATHS[usize::from(has_no_power)]);
                ("die_at_name", vec![Part::Number(after), how, Part::Time(back_us)])
            }
            Self::Astray(Astray::Lost) => ("lost_write", Vec::new()),
            Self::Astray(Astray::Misdirected) => ("misdirected_write", Vec::new()),
            Self::LoseFile => ("lost_file", Vec::new()),
            Self::Full { room, span_us } => {
                ("disk_full", vec![Part::Number(room), Part::Time(span_us)])
            }
            Self::Slow { longest_us, span_us } => {
                ("slow_disk", vec![Part::Time(longest_us), Part::Time(span_us)])
            }
            Self::Stuck(span_us) => ("stuck_disk", vec![Part::Time(span_us)]),
        }
    }

    fn of_parts(name: &str, parts: &[Part]) -> Option<Self> {
        Some(match (name, parts) {
            ("rot", [Part::Word(word)]) => Self::Rot(Rotting::of(word)?),
            ("disk_error", [Part::Number(call)]) => Self::Error(*call),
            ("die_at_name", [Part::Number(after), Part::Word(how), Part::Time(back_us)]) => {
                let has_no_power = *how == DEATHS[1];
                Self::Death(Death { after: *after, has_no_power, back_us: *back_us })
            }
            ("lost_write", []) => Self::Astray(Astray::Lost),
            ("misdirected_write", []) => Self::Astray(Astray::Misdirected),
            ("lost_file", []) => Self::LoseFile,
            ("disk_full", [Part::Number(room), Part::Time(span_us)]) => {
                Self::Full { room: *room, span_us: *span_us }
            }
            ("slow_disk", [Part::Time(longest_us), Part::Time(span_us)]) => {
                Self::Slow { longest_us: *longest_us, span_us: *span_us }
            }
            ("stuck_disk", [Part::Time(span_us)]) => Self::Stuck(*span_us),
            (_, _) => return None,
        })
    }
}

impl NodeFault {
    fn parts(self) -> (&'static str, Vec<Part>) {
        match self {
            Self::Slow { factor, span_us } => {
                ("slow_node", vec![Part::Number(factor), Part::Time(span_us)])
            }
            Self::Drift(ppm) => ("drift", vec![Part::Jump(ppm)]),
            Self::Freeze(us) => ("freeze_clock", vec![Part::Time(us)]),
            Self::Reshard(shards) => ("reshard", vec![Part::Number(shards)]),
            Self::Wipe => ("wipe", Vec::new()),
            Self::Backup => ("backup", Vec::new()),
            Self::Restore => ("restore", Vec::new()),
            Self::Clone(of) => ("clone", vec![Part::Node(of)]),
        }
    }

    fn of_parts(name: &str, parts: &[Part]) -> Option<Self> {
        Some(match (name, parts) {
            ("slow_node", [Part::Number(factor), Part::Time(span_us)]) => {
                Self::Slow { factor: *factor, span_us: *span_us }
            }
            ("drift", [Part::Jump(ppm)]) => Self::Drift(*ppm),
            ("freeze_clock", [Part::Time(us)]) => Self::Freeze(*us),
            ("reshard", [Part::Number(shards)]) => Self::Reshard(*shards),
            ("wipe", []) => Self::Wipe,
            ("backup", []) => Self::Backup,
            ("restore", []) => Self::Restore,
            ("clone", [Part::Node(of)]) => Self::Clone(*of),
            (_, _) => return None,
        })
    }
}

impl Rotting {
    const ALL: [Self; 6] =
        [Self::Anywhere, Self::Record, Self::Newest, Self::Header, Self::Sector, Self::Sealed];

    fn name(self) -> &'static str {
        match self {
            Self::Anywhere => "anywhere",
            Self::Record => "record",
            Self::Newest => "newest",
            Self::Header => "header",
            Self::Sector => "sector",
            Self::Sealed => "sealed",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rotting| rotting.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_the_catalogue_is_one_that_its_fields_make_and_that_has_them() {
        for kind in CATALOGUE {
            let parts: Vec<Part> = kind.fields.iter().map(|(_, shape)| some(*shape)).collect();
            let fault = Fault::of_parts(kind.name, &parts);
            let fault = fault.unwrap_or_else(|| panic!("{} is in the catalogue", kind.name));
            assert_eq!(fault.parts(), (kind.name, parts));
        }
        assert_eq!(Rotting::ALL.map(Rotting::name), ROTTING);
    }

    fn some(shape: Shape) -> Part {
        match shape {
            Shape::Node => Part::Node(1),
            Shape::Nodes => Part::Nodes(vec![0, 2]),
            Shape::Groups => Part::Groups(vec![vec![0], vec![1, 2]]),
            Shape::Time => Part::Time(5),
            Shape::Client => Part::Client(3),
            Shape::Jump => Part::Jump(-7),
            Shape::Number => Part::Number(9),
            Shape::Word(words) => Part::Word(words[0]),
        }
    }
}
