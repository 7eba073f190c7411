//! Whether a process that waits is about to end.
//!
//! The kernel tells of any signal that reaches who waits, for instance of a child's end or of a timer.
//! Only one that ends the process is a reason to stop waiting: programs do not expect that opening a
//! file is interrupted by anything else.

use std::fs;
use std::io::ErrorKind;

/// Signals that do nothing where no program asks for them, or that only halt it: CHLD, CONT, STOP,
/// TSTP, TTIN, TTOU, URG, WINCH.
const HARMLESS: u64 = set(17) | set(18) | set(19) | set(20) | set(21) | set(22) | set(23) | set(28);

const fn set(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// Whether this thread will never look at what it waits for. Who cannot be looked at is taken for
/// one: better an interrupted call than a process that cannot be killed.
pub(crate) fn is_doomed(thread: u32) -> bool {
    if thread == 0 {
        return true;
    }
    match fs::read_to_string(format!("/proc/{thread}/status")) {
        Ok(status) => is_fatal(&status),
        // No descriptor to look with says nothing of the thread.
        Err(error) => matches!(
            error.kind(),
            ErrorKind::NotFound | ErrorKind::PermissionDenied
        ),
    }
}

/// Whether a signal waits that ends the process.
fn is_fatal(status: &str) -> bool {
    let all = |wanted: &[&str]| {
        let sets = status.lines().filter_map(|line| {
            let (name, set) = line.split_once(':')?;
            let wanted = wanted.contains(&name);
            wanted.then(|| u64::from_str_radix(set.trim(), 16).ok())?
        });
        sets.fold(0, |all, set| all | set)
    };
    let pending = all(&["SigPnd", "ShdPnd"]);
    let handled = all(&["SigBlk", "SigIgn", "SigCgt"]) & !set(9);
    pending & !handled & !HARMLESS != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_handles_or_does_not_notice_is_not_fatal() {
        let fatal = |signal: u32, handled: &str| {
            let pending = set(signal);
            let (own, shared) = if signal.is_multiple_of(2) {
                (pending, 0)
            } else {
                (0, pending)
            };
            is_fatal(&format!(
                "Name:\tx\nSigQ:\t1/2\nSigPnd:\t{own:016x}\nShdPnd:\t{shared:016x}\n{handled}\n"
            ))
        };
        for signal in [1, 2, 3, 9, 10, 15, 34, 64] {
            assert!(fatal(signal, ""), "{signal}");
        }
        for signal in [17, 18, 20, 28] {
            assert!(!fatal(signal, ""), "{signal}");
        }
        for handled in ["SigBlk", "SigIgn", "SigCgt"] {
            let all = format!("{handled}:\tffffffffffffffff");
            assert!(!fatal(15, &all) && fatal(9, &all));
        }
        assert!(!is_fatal("SigPnd:\tnonsense\n"));
    }

    #[test]
    fn who_lives_is_not_doomed_and_who_is_not_there_is() {
        assert!(!is_doomed(std::process::id()));
        assert!(is_doomed(0));
        assert!(is_doomed(u32::MAX));
    }
}
