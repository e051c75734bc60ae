//! Cuts the links between the nodes of one process, as a broken network would.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// Which nodes of a local cluster can talk to one another. Clones share one state; nodes that
/// were started with clones of one value obey it at once.
#[derive(Clone, Debug)]
pub struct LinkControl {
    groups: watch::Sender<Groups>,
}

/// The group of each node that was named; nodes that were not form one more group together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Groups(BTreeMap<String, usize>);

impl Default for LinkControl {
    fn default() -> Self {
        Self { groups: watch::Sender::new(Groups::default()) }
    }
}

impl LinkControl {
    /// Cuts every link between nodes of different groups, given by node names. Nodes in none of
    /// the groups stay connected with one another. Replaces the cut before.
    pub fn partition(&self, groups: &[Vec<String>]) {
        let members = groups
            .iter()
            .enumerate()
            .flat_map(|(index, names)| names.iter().map(move |name| (name.clone(), index)));
        self.groups.send_replace(Groups(members.collect()));
    }

    /// Lets every node talk to every other again.
    pub fn heal(&self) {
        self.groups.send_replace(Groups::default());
    }

    /// The state as it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Groups> {
        self.groups.subscribe()
    }
}

impl Groups {
    /// Whether two nodes can talk.
    pub(crate) fn connects(&self, one: &str, other: &str) -> bool {
        self.0.get(one) == self.0.get(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nodes_of_one_group_can_talk_until_it_is_healed() {
        let links = LinkControl::default();
        let watch = links.watch();
        links.clone().partition(&[vec!["a".into(), "b".into()], vec!["c".into()]]);
        let check = |one, other, expected| {
            assert_eq!(watch.borrow().connects(one, other), expected, "{one} {other}");
            assert_eq!(watch.borrow().connects(other, one), expected, "{other} {one}");
        };
        check("a", "b", true);
        check("a", "c", false);
        check("c", "d", false);
        check("d", "e", true);
        links.heal();
        check("a", "c", true);
    }
}
