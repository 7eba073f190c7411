//! `ioctl(2)` with the two kinds of argument that this crate's commands take.

use std::ffi::c_void;
use std::os::fd::BorrowedFd;

use rustix::io::Result;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};

struct Command {
    opcode: Opcode,
    argument: *mut c_void,
}

// SAFETY: Only `call` below makes a `Command`, and its own contract is what `Ioctl` demands of the
// pair of opcode and argument. `output_from_ptr` does not touch the argument.
unsafe impl Ioctl for Command {
    type Output = IoctlOutput;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.argument
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> Result<Self::Output> {
        Ok(output)
    }
}

/// Makes the ioctl and returns what it returned.
///
/// # Safety
///
/// Whatever file `fd` is, the command `opcode` must either be unknown to it or read and write
/// through `argument` only what is valid for that and initialised. (The opcodes used in this crate
/// belong to one device driver each.)
pub(crate) unsafe fn call(
    fd: BorrowedFd<'_>,
    opcode: Opcode,
    argument: *mut c_void,
) -> Result<IoctlOutput> {
    // SAFETY: passed on to the caller by this function's own contract.
    unsafe { rustix::ioctl::ioctl(fd, Command { opcode, argument }) }
}
