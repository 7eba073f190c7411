//! What the commands that talk to the daemon have in common.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};
use std::io::{self, Write as _};
use std::path::{Component, Path};

use anstyle::{AnsiColor, Style};
use piton_control::message::{Holder, Left, Requester, Status};
use piton_control::{Client, ClientError, RuntimeDir};

use crate::exit::Exit;

/// Headings.
pub(crate) const HEADING: Style = Style::new().bold();
/// What is as it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What keeps something busy, or is under way.
pub(crate) const ATTENTION: Style = AnsiColor::Yellow.on_default();
/// What failed.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// What is said by the way.
pub(crate) const FAINT: Style = Style::new().dimmed();

/// Connects to the daemon that the environment names.
pub(crate) fn connect() -> Result<Client, ClientError> {
    Client::connect(&RuntimeDir::from_env())
}

/// Says on standard error what went wrong.
pub(crate) fn complain(what: &dyn Display) -> Exit {
    // Nothing can be done about a standard error that is gone.
    let _ = writeln!(
        anstream::stderr(),
        "{BAD}piton:{BAD:#} {}",
        Clean(&what.to_string())
    );
    Exit::Failure
}

/// Prints text with styles: colour on terminals, plain in pipes. A reader that has left is fine.
pub(crate) fn print(text: &str) -> Exit {
    let mut out = anstream::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format_args!("standard output: {error}"))
        }
        _ => Exit::Success,
    }
}

/// Prints a message of the daemon as JSON.
pub(crate) fn print_json<T: serde::Serialize>(message: &T) -> Exit {
    match serde_json::to_string_pretty(message) {
        Ok(mut text) => {
            text.push('\n');
            print(&text)
        }
        Err(error) => complain(&error),
    }
}

/// The absolute form of a path, without `.` and `..`, and without touching it: a touch mounts.
pub(crate) fn absolute(path: &Path) -> Result<String, String> {
    let whole =
        std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut clean = std::path::PathBuf::new();
    for component in whole.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean.into_os_string().into_string().map_err(|_| {
        format!(
            "{}: only paths in UTF-8 can be asked for at the control socket",
            path.display()
        )
    })
}

/// Text from elsewhere, safe for a terminal: control characters become visible.
///
/// Keys and program names are chosen by any user, and escape sequences can do mischief.
#[derive(Clone, Copy)]
pub(crate) struct Clean<'a>(pub(crate) &'a str);

impl Display for Clean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if character.is_control() && character != '\n' {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// Text as a field of a line of fields: blanks that part fields and lines are written in octal, as
/// the mount table of the kernel does.
pub(crate) fn field(text: &str) -> Cow<'_, str> {
    let special = |character: char| character.is_control() || character == '\\';
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::new();
    for character in text.chars() {
        if special(character) {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a string does not fail.
                let _ = write!(escaped, "\\{byte:03o}");
            }
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// A time as people write it, in seconds: `90s`, `30m`, `8h`, `2d`, `1h30m`.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no time: write 90s, 30m, 8h or 2d");
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|it: char| !it.is_ascii_digit());
        let (number, unit) = rest.split_at(end.ok_or_else(wrong)?);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let each = match unit.as_bytes()[0] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            _ => return Err(wrong()),
        };
        let more = number.checked_mul(each);
        total = more
            .and_then(|more| total.checked_add(more))
            .ok_or_else(wrong)?;
        rest = &unit[1..];
    }
    match total {
        0 => Err(wrong()),
        total => Ok(total),
    }
}

/// A span of time in its two largest units.
pub(crate) fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let pair = |large: u64, large_unit, small: u64, small_unit| {
        if small == 0 {
            format!("{large} {large_unit}")
        } else {
            format!("{large} {large_unit} {small} {small_unit}")
        }
    };
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..10 => format!("{}.{} s", seconds, milliseconds % 1000 / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => pair(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => pair(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => pair(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

/// A process that touched a path.
pub(crate) fn requester(requester: &Requester) -> String {
    let Requester { uid, pid, .. } = *requester;
    let home = home(requester.unit.as_deref(), requester.container.as_deref());
    match (&requester.comm, pid) {
        (_, 0) => format!("an unknown process of uid {uid}"),
        (Some(comm), pid) => format!("{} (pid {pid}) of uid {uid}{home}", Clean(comm)),
        (None, pid) => format!("pid {pid} of uid {uid}{home}"),
    }
}

/// The unit or container of a process; a container says more than the unit that runs it.
pub(crate) fn home(unit: Option<&str>, container: Option<&str>) -> String {
    match (container, unit) {
        (Some(id), _) => format!(", container {}", Clean(id)),
        (None, Some(unit)) => format!(", {}", Clean(unit)),
        (None, None) => String::new(),
    }
}

/// Who keeps something busy.
pub(crate) fn holder(holder: &Holder) -> String {
    let path = match &holder.path {
        Some(path) => format!(" {}", Clean(path)),
        None => String::new(),
    };
    if holder.pid == 0 {
        return format!("{}{path}", Clean(&holder.how));
    }
    let elsewhere = if holder.elsewhere {
        ", in another mount namespace"
    } else {
        ""
    };
    format!(
        "{} (pid {}) of uid {}{}: {}{path}{elsewhere}",
        Clean(&holder.comm),
        holder.pid,
        holder.uid,
        home(holder.unit.as_deref(), holder.container.as_deref()),
        Clean(&holder.how)
    )
}

/// What stays, why, and (as far as the daemon still answers) who keeps it busy.
pub(crate) fn explain_left(client: Option<&mut Client>, left: &[Left]) -> String {
    // One question for all: a daemon with many busy mounts is not asked for each.
    let status = match (client, left) {
        (_, []) | (None, _) => Status::default(),
        (Some(client), [one]) => client.status(Some(&one.path)).unwrap_or_default(),
        (Some(client), _) => client.status(None).unwrap_or_default(),
    };
    let mut text = String::new();
    for Left { path, reason } in left {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{ATTENTION}stays{ATTENTION:#} {}: {}",
            Clean(path),
            Clean(reason)
        );
        let mounts = status.mounts.iter().filter(|mount| mount.path == *path);
        for found in mounts.flat_map(|mount| &mount.holders) {
            let _ = writeln!(text, "        {}", holder(found));
        }
    }
    text
}

/// `1 mount`, `2 mounts`, `2 accesses`.
pub(crate) fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ if what.ends_with('s') => format!("{number} {what}es"),
        _ => format!("{number} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short_and_exact_enough() {
        let texts = [
            0, 999, 1000, 9_999, 59_999, 60_000, 61_000, 3_600_000, 7_380_000, 90_000_000,
        ]
        .map(span);
        assert_eq!(
            texts,
            [
                "0 ms",
                "999 ms",
                "1.0 s",
                "9.9 s",
                "59 s",
                "1 min",
                "1 min 1 s",
                "1 h",
                "2 h 3 min",
                "1 d 1 h"
            ]
        );
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("8h"), Ok(28_800));
        assert_eq!(seconds("1d2h3m4s"), Ok(93_784));
        for wrong in [
            "",
            "0s",
            "8",
            "h",
            "8x",
            "-1s",
            "99999999999999999999d",
            "8 h",
            "1hé",
        ] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(
            Clean("a\u{1b}]0;x\u{7}b\u{9b}é").to_string(),
            "a\\u{1b}]0;x\\u{7}b\\u{9b}é"
        );
        assert_eq!(field("a\tb\\c\nd"), "a\\011b\\134c\\012d");
        assert_eq!(field("/home/ann é"), "/home/ann é");
    }

    #[test]
    fn paths_are_made_absolute_without_being_touched() {
        let text = |path: &str| absolute(Path::new(path)).expect("UTF-8");
        assert_eq!(text("/home/./ann/../bob/"), "/home/bob");
        assert_eq!(text("/.."), "/");
        assert!(text("x").ends_with("/x"));
        assert!(absolute(Path::new("")).is_err());
    }
}
