//! How accesses reach the engine, and how its answers reach those who wait.
//!
//! A [`FrontEnd`] puts triggers in place and turns their use into [`Incoming`] events. Each
//! carries a [`Ticket`], the duty to answer: it can be spent once, and answers with an error
//! when it is dropped. [`KernelFrontEnd`] is Linux's autofs; [`LoopbackFrontEnd`] serves links to
//! a kernel's NFS client, as automounters did before there was autofs; [`SimFrontEnd`] keeps everything
//! in memory. What both must do alike is written down in [`conformance`].

mod adopt;
mod answer;
mod backstage;
pub mod conformance;
mod expire;
mod front_end;
mod kernel;
mod let_go;
mod limits;
mod listing;
mod local;
mod loopback;
mod mark;
mod registry;
mod sim;
mod survey;
mod ticket;

pub use front_end::{Capabilities, FrontEnd, Incoming, Resumed};
pub use kernel::{KernelFrontEnd, KernelSettings, as_path};
pub use loopback::{KernelSeat, LoopbackFrontEnd, LoopbackSettings, Seat};
pub use mark::Mark;
pub use piton_mount::perform::{Failure, Triggers};
pub use sim::{SimAnswer, SimFrontEnd};
pub use survey::{Owned, Stray, Survey};
pub use ticket::{Answering, Ticket};
