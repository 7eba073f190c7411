//! How accesses reach the engine, and how its answers reach those who wait.
//!
//! A [`FrontEnd`] puts triggers in place and turns their use into [`Incoming`] events. Each
//! carries a [`Ticket`], the duty to answer: it can be spent once, and answers with an error
//! when it is dropped. [`KernelFrontEnd`] is Linux's autofs; [`LoopbackFrontEnd`] serves links to
//! a kernel's NFS client, as automounters did before there was autofs; [`FuseFrontEnd`] serves the same
//! links by FUSE, to users without root; [`SimFrontEnd`] keeps everything in memory. What all must do
//! alike is written down in [`conformance`], what only some can in their [`Capabilities`].

mod adopt;
mod answer;
mod backstage;
mod capabilities;
pub mod conformance;
mod expire;
mod front_end;
mod kernel;
mod let_go;
mod limits;
mod links;
mod listing;
mod local;
mod mark;
mod registry;
mod sim;
mod staged;
mod survey;
mod ticket;

pub use capabilities::{Capabilities, Unanswered};
pub use front_end::{FrontEnd, Incoming, Resumed, Silent};
pub use kernel::{KernelFrontEnd, KernelSettings, as_path};
pub use links::{
    FuseFrontEnd, FuseSettings, KernelSeat, LoopbackFrontEnd, LoopbackSettings, Seat, ServeOnly,
    abandon_dead,
};
pub use mark::Mark;
pub use piton_fuse::Audience;
pub use piton_mount::perform::{Failure, Triggers};
pub use sim::{SimAnswer, SimFrontEnd};
pub use survey::{Owned, Stray, Survey};
pub use ticket::{Answering, Ticket};
