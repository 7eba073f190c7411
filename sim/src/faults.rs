//! What may go wrong in one world. Each seed has its own mixture: many worlds in which one
//! thing often fails find more than one world in which everything sometimes does.

use crate::rng::Rng;

/// How often, of 1,000, each thing goes wrong.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// A mount fails.
    pub mount: u64,
    /// A trigger cannot be put in place.
    pub install: u64,
    /// A directory cannot be made.
    pub directory: u64,
    /// An unmount or a removal fails although nobody uses it.
    pub busy: u64,
    /// What was done cannot be taken back.
    pub undo: u64,
    /// A look-up fails.
    pub fetch: u64,
    /// A server's name is unknown.
    pub host: u64,
    /// A mount or an answer takes seconds.
    pub slow: u64,
    /// A mount or an answer takes longer than any deadline.
    pub stuck: u64,
    /// A mount that should be given up at its deadline is not.
    pub overrun: u64,
    /// Somebody unmounts by hand.
    pub tamper: u64,
    /// The daemon dies.
    pub crash: u64,
    /// The daemon is stopped and started again.
    pub restart: u64,
    /// The configuration changes.
    pub reload: u64,
    /// Operators ask for something.
    pub operate: u64,
    /// Processes are killed while they wait.
    pub kill: u64,
}

impl Faults {
    /// The mixture of a seed.
    pub fn new(rng: &mut Rng) -> Self {
        let mut some = |most: u64| match rng.below(3) {
            0 => 0,
            1 => rng.below(most / 4 + 1),
            _ => rng.below(most + 1),
        };
        Self {
            mount: some(400),
            install: some(200),
            directory: some(100),
            busy: some(300),
            undo: some(300),
            fetch: some(300),
            host: some(300),
            slow: some(300),
            stuck: some(30),
            overrun: some(1_000),
            tamper: some(150),
            crash: some(60),
            restart: some(60),
            reload: some(150),
            operate: some(200),
            kill: some(200),
        }
    }
}
