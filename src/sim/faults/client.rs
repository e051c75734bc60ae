//! What clients do that no node may suffer from: requests that end in the middle.
//!
//! Half a request is no request. The world takes the bytes that its client did not send as proof
//! that nothing of it may ever be carried out, and notes its writes as refused.

use rand::RngExt as _;

use super::Fault;
use crate::sim::world::World;

/// What a client does to its next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFault {
    /// It sends the first half, and its connection dies.
    HalfRequest,
    /// It sends the first half, and nothing more until it hangs up.
    Silence,
}

impl World {
    pub(super) fn on_client_fault(&mut self, client: usize, fault: ClientFault) {
        if let Some(client) = self.clients.get_mut(client) {
            client.next_is_half = Some(fault);
        }
    }

    pub(super) fn draw_client_fault(&mut self) -> Vec<(u64, Fault)> {
        let clients = self.scenario.options.clients;
        if clients == 0 {
            return Vec::new();
        }
        let client = self.scenario.clients.len() + self.chance.fault.random_range(0..clients);
        let silent = self.chance.fault.random();
        let fault = if silent { ClientFault::Silence } else { ClientFault::HalfRequest };
        vec![(0, Fault::Client(client, fault))]
    }
}
