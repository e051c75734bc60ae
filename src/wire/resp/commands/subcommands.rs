//! Second words of commands. HELP and what COMMAND tells of them are made of these lists.

use super::Subcommand;

const fn sub(
    name: &'static str,
    arity: i8,
    usage: &'static str,
    summary: &'static str,
) -> Subcommand {
    Subcommand { name, arity, usage, summary }
}

const HELP: Subcommand = sub("help", 2, "", "this list");

pub(super) const CLIENT: &[Subcommand] = &[
    sub("getname", 2, "", "the name that the connection gave itself"),
    sub("getredir", 2, "", "-1: nothing is tracked"),
    HELP,
    sub("id", 2, "", "the number of this connection"),
    sub("info", 2, "", "one line about this connection"),
    sub("list", -2, "[filter ...]", "this connection, the only one that it is shown"),
    sub("no-evict", 3, "ON|OFF", "no connection is ended for want of memory"),
    sub("no-touch", 3, "ON|OFF", "no read changes what is kept"),
    sub("reply", 3, "ON", "every command is answered"),
    sub("setinfo", 4, "LIB-NAME|LIB-VER value", "notes which library speaks"),
    sub("setname", 3, "name", "gives the connection a name"),
    sub("tracking", 3, "OFF", "nothing is tracked"),
];

pub(super) const CLUSTER: &[Subcommand] = &[
    sub("countkeysinslot", 3, "slot", "the number of keys of a slot in the whole cluster"),
    sub("getkeysinslot", 4, "slot count", "keys of a slot, so many at most"),
    HELP,
    sub("info", 2, "", "whether this node can serve, how many members there are, the epoch"),
    sub("keyslot", 3, "key", "the slot of a key"),
    sub("myid", 2, "", "the name of this node, 40 hexadecimal digits"),
    sub("nodes", 2, "", "a line for each member, with the slots that it is the first owner of"),
    sub("shards", 2, "", "each row of owners with its slots"),
    sub("slots", 2, "", "each arc of slots with its owners, the first that can be reached first"),
];

pub(super) const COMMAND: &[Subcommand] = &[
    sub("count", 2, "", "how many commands are served"),
    sub("docs", -2, "[name ...]", "what commands do"),
    sub("getkeys", -3, "command [argument ...]", "the keys of a command with its arguments"),
    HELP,
    sub("info", -2, "[name ...]", "arity, flags and positions of keys"),
    sub("list", 2, "", "the names of the commands that are served"),
];

pub(super) const CONFIG: &[Subcommand] =
    &[sub("get", -3, "pattern [pattern ...]", "settings, by name or the start of it and *"), HELP];
