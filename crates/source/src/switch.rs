//! The name service switch: in which services a map is looked for by name (R-117, R-175).
//!
//! ```text
//! automount: files [NOTFOUND=return] nis sss
//! ```
//!
//! The first such line counts, as autofs has it; without one, `files` is asked. `files` looks
//! in the map directory (R-176). Services that this build does not have count as unavailable.

use std::sync::Arc;

use bstr::{BStr, ByteSlice};
use piton_map::diagnostic::{Diagnostic, Severity};
use piton_map::lookup::Miss;
use piton_map::text::{Fragment, Span};

/// What to do with a service's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is the answer.
    Return,
    /// Ask the next service.
    Continue,
}

/// How a service answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has the key.
    Success,
    /// It has not.
    NotFound,
    /// It cannot be asked.
    Unavailable,
    /// It does not answer now.
    TryAgain,
}

/// One service of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, such as `files`.
    pub name: Arc<str>,
    /// What to do on success, not found, unavailable, try again.
    actions: [Action; 4],
}

/// The services to ask, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The services.
    pub services: Vec<Service>,
}

/// Services that the language knows; all but `files` are in no source of this build.
const KNOWN: [&str; 8] = [
    "files", "nis", "yp", "nisplus", "ldap", "sss", "hesiod", "compat",
];

impl Status {
    /// What an answer counts as.
    pub fn of(miss: &Miss) -> Self {
        match miss {
            Miss::NoSuchKey | Miss::NoSuchMap(_) | Miss::BadKey(_) => Self::NotFound,
            Miss::TimedOut(_) | Miss::Server { .. } => Self::TryAgain,
            Miss::Unreadable(_)
            | Miss::NotAvailable(_)
            | Miss::ProgramFailed(_)
            | Miss::Refused(_) => Self::Unavailable,
        }
    }

    /// The status called `name`, in any case.
    fn named(name: &BStr) -> Option<Self> {
        [
            (&b"success"[..], Self::Success),
            (b"notfound", Self::NotFound),
            (b"unavail", Self::Unavailable),
            (b"tryagain", Self::TryAgain),
        ]
        .into_iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known))
        .map(|(_, status)| status)
    }
}

impl Service {
    /// A service with the usual actions: what is found is the answer, else go on.
    pub fn new(name: &str) -> Self {
        let go_on = Action::Continue;
        Self {
            name: name.into(),
            actions: [Action::Return, go_on, go_on, go_on],
        }
    }

    /// What to do on `status`.
    pub fn action(&self, status: Status) -> Action {
        self.actions[status as usize]
    }
}

impl Default for Switch {
    /// What holds without a line: `files`.
    fn default() -> Self {
        Self {
            services: vec![Service::new("files")],
        }
    }
}

impl Switch {
    /// Reads the text of nsswitch.conf.
    pub fn parse(text: &Fragment) -> (Self, Vec<Diagnostic>) {
        let mut said = Vec::new();
        let mut offset = 0;
        for line in text.text.lines_with_terminator() {
            let start = offset;
            offset += line.len();
            let line = &line[..line.find_byte(b'#').unwrap_or(line.len())];
            let Some((database, services)) = line.split_once_str(b":") else {
                continue;
            };
            if !trim(database).eq_ignore_ascii_case(b"automount") {
                continue;
            }
            let begin = start + database.len() + 1;
            let switch = Reader {
                text,
                said: &mut said,
            }
            .services(begin, services);
            return (switch, said);
        }
        (Self::default(), said)
    }
}

/// `text` without blanks around it.
fn trim(text: &[u8]) -> &[u8] {
    text.trim_with(|c| c.is_ascii_whitespace())
}

/// Reads the services of one line.
struct Reader<'t> {
    text: &'t Fragment,
    said: &'t mut Vec<Diagnostic>,
}

impl Reader<'_> {
    /// The services of a line, which begin at `offset` of the text.
    fn services(&mut self, offset: usize, line: &[u8]) -> Switch {
        let mut services: Vec<Service> = Vec::new();
        let mut at = 0;
        while at < line.len() {
            let rest = &line[at..];
            let blanks = rest
                .iter()
                .take_while(|byte| byte.is_ascii_whitespace())
                .count();
            let rest = &rest[blanks..];
            let start = offset + at + blanks;
            if rest.is_empty() {
                break;
            }
            let length = if rest[0] == b'[' {
                let end = rest.find_byte(b']').map_or(rest.len(), |end| end + 1);
                self.actions(start, &rest[..end], services.last_mut());
                end
            } else {
                let is_end = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'[';
                let end = rest.iter().position(is_end).unwrap_or(rest.len());
                self.service(start, &rest[..end], &mut services);
                end
            };
            at += blanks + length;
        }
        if services.is_empty() {
            self.warn(
                offset..offset + line.len(),
                "no service is named; `files` is asked",
                "name one",
            );
            return Switch::default();
        }
        Switch { services }
    }

    /// Adds a service.
    fn service(&mut self, start: usize, name: &[u8], services: &mut Vec<Service>) {
        let shown = name.to_str_lossy();
        if !KNOWN.contains(&&*shown) {
            let message =
                format!("there is no service `{shown}` for maps; it counts as unavailable");
            self.warn(
                start..start + name.len(),
                message,
                "the services are files, nis, ldap, sss, …",
            );
        }
        services.push(Service::new(&shown));
    }

    /// Applies `[STATUS=action …]` to the service before it.
    fn actions(&mut self, start: usize, written: &[u8], service: Option<&mut Service>) {
        let span = start..start + written.len();
        let Some(service) = service else {
            return self.warn(
                span,
                "an action without a service before it",
                "move it behind a service",
            );
        };
        let inner = written.trim_with(|c| c == '[' || c == ']');
        for word in inner.fields_with(|c| c.is_ascii_whitespace()) {
            let applied = word.split_once_str(b"=").and_then(|(status, action)| {
                let action = match action {
                    a if a.eq_ignore_ascii_case(b"return") => Action::Return,
                    a if a.eq_ignore_ascii_case(b"continue") => Action::Continue,
                    _ => return None,
                };
                let (but, status) = match status.strip_prefix(b"!") {
                    Some(status) => (true, status),
                    None => (false, status),
                };
                let status = Status::named(status.as_bstr())?;
                for (number, slot) in service.actions.iter_mut().enumerate() {
                    if (number == status as usize) != but {
                        *slot = action;
                    }
                }
                Some(())
            });
            if applied.is_none() {
                let message = format!("`{}` is no action; it is not used", word.as_bstr());
                let help = "write [STATUS=return] or [STATUS=continue] with SUCCESS, NOTFOUND, \
                    UNAVAIL or TRYAGAIN";
                self.warn(span.clone(), message, help);
            }
        }
    }

    /// Adds a warning.
    fn warn(&mut self, at: std::ops::Range<usize>, message: impl Into<String>, help: &str) {
        let span = Span::new(at.start, at.end);
        let one = Diagnostic::new(Severity::Warning, "nsswitch", message, self.text, span);
        self.said.push(one.help(help));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Switch, usize) {
        let (switch, said) = Switch::parse(&Fragment::whole("/etc/nsswitch.conf", text));
        (switch, said.len())
    }

    fn names(text: &str) -> Vec<String> {
        parse(text)
            .0
            .services
            .iter()
            .map(|service| service.name.to_string())
            .collect()
    }

    #[test]
    fn the_first_line_counts_and_files_is_the_default() {
        assert_eq!(names(""), ["files"]);
        assert_eq!(names("passwd: nis\n# automount: ldap\n"), ["files"]);
        assert_eq!(
            names("automount: nis files # ldap\nautomount: sss\n"),
            ["nis", "files"]
        );
        assert_eq!(names("Automount:files"), ["files"]);
        assert_eq!(names("automount:\n"), ["files"]);
    }

    #[test]
    fn actions_belong_to_the_service_before_them() {
        let (switch, said) =
            parse("automount: nis [NOTFOUND=return UNAVAIL=continue]files[!SUCCESS=return] ldap");
        assert_eq!(said, 0);
        let nis = &switch.services[0];
        assert_eq!(nis.action(Status::NotFound), Action::Return);
        assert_eq!(nis.action(Status::Unavailable), Action::Continue);
        let files = &switch.services[1];
        for status in [
            Status::Success,
            Status::NotFound,
            Status::Unavailable,
            Status::TryAgain,
        ] {
            assert_eq!(files.action(status), Action::Return, "{status:?}");
        }
        assert_eq!(
            switch.services[2].action(Status::NotFound),
            Action::Continue
        );
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for text in [
            "automount: bogus files",
            "automount: [NOTFOUND=return] files",
            "automount: files [NOTFOUND=maybe]",
            "automount: files [BAD=return]",
            "automount: files [NOTFOUND",
            "automount: ",
        ] {
            assert_eq!(parse(text).1, 1, "{text}");
        }
    }

    #[test]
    fn any_bytes_are_read() {
        let alphabet = b"automount: files[]=!# \n\tNOTFOUND\xff";
        let mut state = 1_u64;
        for _ in 0..5000 {
            let text: Vec<u8> = (0..60)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    alphabet[(state >> 33) as usize % alphabet.len()]
                })
                .collect();
            for text in [text.clone(), [b"automount:", &text[..]].concat()] {
                let (switch, said) = Switch::parse(&Fragment::whole("n", text));
                assert!(!switch.services.is_empty());
                assert!(
                    said.iter()
                        .all(|one| one.primary.0.start <= one.primary.0.end)
                );
            }
        }
    }
}
