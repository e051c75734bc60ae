//! A shopping cart that loses what was put into it, and the line that mends it.
//!
//! Four clients fill one cart: each reads it, adds something, and writes it back with the context
//! of its read. On a good day that works. The careless version takes the first value that it is
//! shown; the careful one takes them all. Whoever runs this sees in which simulated world the
//! careless cart lost something, and that the careful one holds in all of them.
//!
//! `cargo run --release --example lost_update`

use std::collections::BTreeSet;

use peerage::sim::application::{
    Answer, Application, Draws, End, Next, Question, Trial, first_failure,
};

const CART: &str = "cart";
const CLIENTS: usize = 4;
/// Things that each client puts into the cart.
const THINGS: u64 = 10;

/// The program: what each of its clients is about to do, and what they were promised.
pub(crate) struct Cart {
    careful: bool,
    clients: Vec<Client>,
    /// Things of which the store has said that they are in the cart.
    promised: BTreeSet<String>,
}

#[derive(Default)]
struct Client {
    added: u64,
    /// The thing to be added now.
    thing: String,
    /// What the cart held when this client read it.
    read: Option<BTreeSet<String>>,
}

impl Cart {
    /// `careful`: whether concurrent versions of the cart are merged.
    pub(crate) fn new(careful: bool) -> Self {
        let clients = (0..CLIENTS).map(|_| Client::default()).collect();
        Self { careful, clients, promised: BTreeSet::new() }
    }
}

impl Application for Cart {
    fn clients(&self) -> usize {
        CLIENTS
    }

    fn next(&mut self, client: usize, draws: &mut Draws<'_>) -> Next {
        let state = &mut self.clients[client];
        if let Some(read) = &state.read {
            let things = read.iter().map(String::as_str).chain([state.thing.as_str()]);
            return Next::Ask(Question::set(CART, things.collect::<Vec<_>>().join(" ")));
        }
        if state.added == THINGS {
            return Next::Stop;
        }
        if state.thing.is_empty() {
            state.thing = format!("{client}.{}", state.added);
            return Next::Wait(draws.below(2_000_000));
        }
        Next::Ask(Question::get(CART))
    }

    fn answered(&mut self, client: usize, answer: Answer) {
        let state = &mut self.clients[client];
        match answer {
            Answer::Values(versions) => {
                // This is the mistake: where two clients wrote at once there are two versions, and
                // whoever writes with a context takes the place of both.
                let known = if self.careful { versions.len() } else { 1 };
                let things = versions.iter().take(known).flat_map(|version| version.split(' '));
                state.read = Some(things.map(str::to_owned).collect());
            }
            Answer::Done => {
                self.promised.insert(std::mem::take(&mut state.thing));
                state.added += 1;
                state.read = None;
            }
            // Read again: the cart may have changed, and may hold the thing already.
            Answer::Refused(_) | Answer::Unknown => state.read = None,
        }
    }

    fn judge(&self, end: &End) -> Result<(), String> {
        let found: BTreeSet<&str> =
            end.values(CART).iter().flat_map(|version| version.split(' ')).collect();
        let lost: Vec<&String> =
            self.promised.iter().filter(|thing| !found.contains(thing.as_str())).collect();
        if lost.is_empty() {
            return Ok(());
        }
        let all = self.promised.len();
        Err(format!("of {all} things that were put into the cart, these are gone: {lost:?}"))
    }
}

/// The first of these seeds in which a cart is wrong.
pub(crate) fn failure(careful: bool, seeds: std::ops::Range<u64>) -> Option<Trial> {
    first_failure(seeds, || Cart::new(careful))
}

fn main() {
    match failure(false, 1..101) {
        Some(trial) => println!("careless cart: {trial}"),
        None => println!("careless cart: right in 100 worlds"),
    }
    match failure(true, 1..101) {
        Some(trial) => println!("careful cart: {trial}"),
        None => println!("careful cart: right in 100 worlds"),
    }
}
