//! The mount table as text: what `/proc/PID/mountinfo` (proc_pid_mountinfo(5)) says, line by line, and
//! what of it one sees. No file is opened here.

mod line;
mod table;

pub use line::{Mount, unescaped};
pub use table::Table;
