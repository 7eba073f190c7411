//! Touching a path like any process of the system: from outside the automounter's process group.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An access under way, in a process and process group of its own. Killed when dropped.
#[derive(Debug)]
pub struct Access {
    child: Option<Child>,
    begun: Instant,
}

/// What an access came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the process wrote: the names in a directory, the text of a file.
    pub text: String,
    /// The errno it met, if it failed.
    pub errno: Option<i32>,
    /// How long it took, the start of the process included.
    pub took: Duration,
}

impl Access {
    /// Lists a directory.
    pub fn list(path: impl AsRef<Path>) -> Self {
        let mut command = Command::new("ls");
        // With a slash at the end the last component is entered, and triggers.
        command.arg("-1A").arg("--").arg(path.as_ref().join(""));
        Self::start(command)
    }

    /// Reads a file.
    pub fn read(path: impl AsRef<Path>) -> Self {
        let mut command = Command::new("cat");
        command.arg("--").arg(path.as_ref());
        Self::start(command)
    }

    /// Any command.
    ///
    /// # Panics
    /// It cannot be started.
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        let begun = Instant::now();
        let child = command
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("starting a process");
        Self {
            child: Some(child),
            begun,
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It is not over within `limit`.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Answer {
        let mut child = self.child.take().expect("not waited for yet");
        let until = Instant::now() + limit;
        while child.try_wait().expect("waiting").is_none() {
            if Instant::now() >= until {
                let _ = child.kill();
                panic!("the access was not answered within {limit:?}");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let took = self.begun.elapsed();
        let output = child.wait_with_output().expect("its output");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let errno = (!output.status.success()).then(|| {
            errno_in(&errors).unwrap_or_else(|| panic!("no errno is in the message: {errors}"))
        });
        Answer {
            text: String::from_utf8_lossy(&output.stdout).into_owned(),
            errno,
            took,
        }
    }

    /// Whether it still waits for an answer.
    pub fn is_waiting(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
        }
    }
}

/// The errno whose text ends a program's message.
fn errno_in(message: &str) -> Option<i32> {
    let message = message.trim_end();
    (1..=133).find(|errno| {
        let text = std::io::Error::from_raw_os_error(*errno).to_string();
        let end = text.rfind(" (os error").unwrap_or(text.len());
        message.ends_with(&text[..end])
    })
}

/// How many bytes of up to four a user hears from a port of this host who sends this, as `wc` writes it.
///
/// # Panics
/// There is no bash.
pub fn heard_by(uid: u32, port: u16, message: &[u8]) -> String {
    let bytes = message.iter().map(|byte| format!("\\x{byte:02x}"));
    let bytes: String = bytes.collect();
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; printf '{bytes}' >&3; timeout 10 head -c 4 <&3 | wc -c"
    );
    let mut command = Command::new("bash");
    let output = command.args(["-c", &script]).uid(uid).gid(uid).output();
    let heard = output.expect("bash").stdout;
    String::from_utf8_lossy(&heard).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_tells_what_it_found_or_which_errno_it_met() {
        let limit = Duration::from_secs(20);
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("name"), "text").unwrap();
        assert_eq!(Access::list(scratch.path()).wait(limit).text, "name\n");
        assert_eq!(
            Access::read(scratch.path().join("name")).wait(limit).text,
            "text"
        );
        assert_eq!(
            Access::list(scratch.path().join("x")).wait(limit).errno,
            Some(2)
        );
        assert_eq!(
            Access::list(scratch.path().join("name")).wait(limit).errno,
            Some(20)
        );
    }

    #[test]
    fn the_text_of_an_errno_is_found() {
        assert_eq!(errno_in("ls: cannot open 'x': Host is down\n"), Some(112));
        assert_eq!(errno_in("Permission denied"), Some(13));
        assert_eq!(errno_in("nothing of the kind"), None);
    }
}
