//! What a node was asked, so that an observer understands what its answers say.

use std::collections::BTreeMap;

use super::oracle::Statement;
use crate::api::Reply;
use crate::causality::{Dot, NodeId};
use crate::hash::{Key, PartitionId};
use crate::shard::Message;
use crate::shard::message::{CallId, ReadAnswer};

/// Questions that are remembered; those that nobody answers go when there are more.
const QUESTIONS_MAX: usize = 4_096;

/// The questions that were put to a node and are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Questions(BTreeMap<(NodeId, CallId), Question>);

#[derive(Debug)]
enum Question {
    Read(PartitionId, Key),
    Replicate(Vec<(PartitionId, Dot)>),
    Forward(PartitionId),
}

impl Questions {
    /// A message came in.
    pub(super) fn note(&mut self, from: NodeId, message: &Message) {
        let (call, question) = match message {
            Message::Read { call, partition, key, .. } => {
                (call, Question::Read(*partition, key.clone()))
            }
            Message::Replicate { call, partition, items, .. } => {
                let dots = items.iter().flat_map(|item| item.dots.iter().copied());
                (call, Question::Replicate(dots.map(|dot| (*partition, dot)).collect()))
            }
            Message::ReplicateBatch { call, items, .. } => {
                let dots =
                    items.iter().flat_map(|(home, item)| item.dots.iter().map(|&dot| (*home, dot)));
                (call, Question::Replicate(dots.collect()))
            }
            Message::Forward { call, partition, .. } => (call, Question::Forward(*partition)),
            Message::ForwardReply { .. }
            | Message::ReplicateAck { .. }
            | Message::ReadReply { .. }
            | Message::Page { .. }
            | Message::PageReply { .. }
            | Message::Count { .. }
            | Message::CountReply { .. }
            | Message::Explain { .. }
            | Message::ExplainReply { .. }
            | Message::Outcome { .. }
            | Message::OutcomeReply { .. }
            | Message::Hold { .. }
            | Message::Held { .. }
            | Message::Apply { .. }
            | Message::Applied { .. }
            | Message::Release { .. } => return,
        };
        if self.0.len() >= QUESTIONS_MAX {
            self.0.pop_first();
        }
        self.0.insert((from, *call), question);
    }

    /// What a message to another node says of its sender.
    pub(super) fn statements(&mut self, to: NodeId, message: &Message) -> Vec<Statement> {
        match message {
            Message::Replicate { partition, items, .. } => items
                .iter()
                .map(|item| Statement::Knows {
                    partition: *partition,
                    key: item.key.clone(),
                    dots: item.dots.clone(),
                    object: item.object.clone(),
                    holds: false,
                })
                .collect(),
            Message::ReplicateBatch { items, .. } => items
                .iter()
                .map(|(partition, item)| Statement::Knows {
                    partition: *partition,
                    key: item.key.clone(),
                    dots: item.dots.clone(),
                    object: item.object.clone(),
                    holds: false,
                })
                .collect(),
            Message::ReplicateAck { call, refusal } => match self.0.remove(&(to, *call)) {
                Some(Question::Replicate(events)) if refusal.is_none() => {
                    vec![Statement::Durable(events)]
                }
                Some(_) | None => Vec::new(),
            },
            Message::ReadReply { call, answer } => match (self.0.remove(&(to, *call)), answer) {
                (Some(Question::Read(partition, key)), ReadAnswer::Object(object)) => {
                    let (dots, object) = (Vec::new(), object.clone());
                    vec![Statement::Knows { partition, key, dots, object, holds: true }]
                }
                (Some(_) | None, _) => Vec::new(),
            },
            Message::ForwardReply { call, reply } => {
                match (self.0.remove(&(to, *call)), reply.as_ref()) {
                    (Some(Question::Forward(partition)), Reply::Written(written)) => {
                        vec![Statement::Durable(vec![(partition, written.dot)])]
                    }
                    (Some(_) | None, _) => Vec::new(),
                }
            }
            Message::Forward { .. }
            | Message::Read { .. }
            | Message::Page { .. }
            | Message::PageReply { .. }
            | Message::Count { .. }
            | Message::CountReply { .. }
            | Message::Explain { .. }
            | Message::Outcome { .. }
            | Message::OutcomeReply { .. }
            | Message::ExplainReply { .. }
            | Message::Hold { .. }
            | Message::Held { .. }
            | Message::Apply { .. }
            | Message::Applied { .. }
            | Message::Release { .. } => Vec::new(),
        }
    }
}
