//! The older automounter's command line (R-210), read into a plain value:
//!
//! ```text
//! automount --old [-nTv] [-D name=value] [-f master-file] [-M mount-directory]
//!           [-tl duration] [-tm interval] [-tw interval] [directory map [-mount-options]]…
//! ```
//!
//! Nothing here touches anything: what is wrong is a diagnostic on the command line, and what is
//! right is the words for `piton daemon`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use bstr::{BStr, BString, ByteSlice};
use piton_map::diagnostic::{Diagnostic, Severity};
use piton_map::text::{Fragment, Span};

use super::super::seconds_of;

/// What the command line is called where something in it is wrong.
const NAME: &str = "the command line";

/// Where mounts are made unless `-M` says otherwise (R-228).
const STAGING: &str = "/tmp_mnt";

/// The master map that is read besides, if it is there (R-251).
pub(super) const MASTER: &str = "auto_master";

/// Seconds: `-tl`, `-tm`, `-tw` (R-229 to R-231).
const TIMES: [u32; 3] = [300, 30, 60];

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Older {
    /// `-n`: mount nothing.
    pub(super) frozen: bool,
    /// `-T`: expand every NFS call into a log.
    pub(super) trace: bool,
    /// `-v`
    pub(super) verbose: bool,
    /// `-m`, which has no meaning.
    pub(super) without_meaning: bool,
    /// `--foreground`: for systemd.
    pub(super) foreground: bool,
    /// `-D`
    pub(super) defines: Vec<BString>,
    /// `--environment`: variables of our environment that maps may use.
    pub(super) environment: Vec<BString>,
    /// `-f`
    pub(super) master: Option<BString>,
    /// `-M`
    pub(super) staging: BString,
    /// Where `-T` logs, if it is said: `--trace-file`.
    pub(super) calls_log: Option<BString>,
    /// `-tl`, `-tm`, `-tw`
    pub(super) times: [u32; 3],
    /// Directories with their maps, in their order.
    pub(super) lines: Vec<Line>,
}

/// One `directory map [-mount-options]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) directory: BString,
    pub(super) map: BString,
    /// Without the hyphen; empty if there are none.
    pub(super) options: BString,
}

/// Reads the words after `automount`, `--old` not among them.
///
/// # Errors
/// What is wrong, for people.
pub(super) fn read(words: &[OsString]) -> Result<Older, Box<Diagnostic>> {
    let words: Vec<BString> = words
        .iter()
        .map(|word| BString::from(word.clone().into_vec()))
        .collect();
    Reader::new(&words).read()
}

impl Default for Older {
    fn default() -> Self {
        Self {
            frozen: false,
            trace: false,
            verbose: false,
            without_meaning: false,
            foreground: false,
            defines: Vec::new(),
            environment: Vec::new(),
            master: None,
            staging: STAGING.into(),
            calls_log: None,
            times: TIMES,
            lines: Vec::new(),
        }
    }
}

impl Older {
    /// The lines as a master map has them.
    pub(super) fn master_lines(&self) -> Vec<BString> {
        self.lines.iter().map(Line::text).collect()
    }

    /// The words for `piton daemon` that mean the same. Calls are logged in `calls_log` unless the
    /// command line says where.
    pub(super) fn daemon_words(&self, calls_log: &str) -> Vec<OsString> {
        let mut words: Vec<BString> = ["--links", "--dialect=older"].map(BString::from).into();
        let mut with = |name: &str, value: &BStr| {
            words.push([name.as_bytes(), b"=", value].concat().into());
        };
        with("--also", MASTER.into());
        with("--staging", self.staging.as_ref());
        let [idle, retry, unmount] = self.times.map(|seconds| seconds.to_string());
        with("--timeout", idle.as_bytes().as_bstr());
        with("--retry", retry.as_bytes().as_bstr());
        with("--unmount-pause", unmount.as_bytes().as_bstr());
        for define in &self.defines {
            with("--define", define.as_ref());
        }
        for name in &self.environment {
            with("--environment", name.as_ref());
        }
        for line in &self.master_lines() {
            with("--line", line.as_ref());
        }
        if let Some(master) = &self.master {
            with("--master", master.as_ref());
        }
        if self.trace {
            let log = self
                .calls_log
                .as_ref()
                .map_or(calls_log.into(), |log| log.as_bstr());
            with("--trace-calls", log);
        }
        let flags = [
            (self.frozen, "--frozen"),
            (self.verbose, "--verbose"),
            (self.foreground, "--foreground"),
        ];
        let flags = flags.into_iter().filter(|(given, _)| *given);
        words.extend(flags.map(|(_, word)| word.into()));
        let words = words.into_iter();
        words.map(|word| OsString::from_vec(word.into())).collect()
    }
}

impl Line {
    /// The line as it stands in a master map.
    fn text(&self) -> BString {
        let mut text = BString::default();
        escape(self.directory.as_ref(), &mut text);
        text.push(b' ');
        escape(self.map.as_ref(), &mut text);
        if !self.options.is_empty() {
            text.push(b' ');
            escape(self.options.as_ref(), &mut text);
        }
        text
    }
}

/// Words that are types of maps when another word follows.
const TYPES: [&str; 16] = [
    "file", "program", "exec", "yp", "nis", "nisplus", "ldap", "ldaps", "sss", "hesiod", "userdir",
    "userhome", "multi", "hosts", "null", "passwd",
];

/// Writes a word that is read as just these bytes, whatever they mean elsewhere.
fn escape(word: &BStr, text: &mut BString) {
    let is_type = TYPES.iter().any(|name| word == name);
    for (number, byte) in word.bytes().enumerate() {
        if b" \t\"\\#".contains(&byte) || (is_type && number == 0) {
            text.push(b'\\');
        }
        text.push(byte);
    }
}

/// Goes through the words.
struct Reader<'w> {
    words: &'w [BString],
    /// The word that is being read.
    at: usize,
    /// All words as one line, and where each begins in it.
    shown: Fragment,
    starts: Vec<usize>,
    older: Older,
}

/// What is wrong, and what to do.
type Wrong = Box<Diagnostic>;

impl<'w> Reader<'w> {
    fn new(words: &'w [BString]) -> Self {
        let mut line = BString::from("automount --old");
        let mut starts = Vec::new();
        for word in words {
            line.push(b' ');
            starts.push(line.len());
            line.extend(word.iter().map(|byte| match byte.is_ascii_control() {
                true => b'?',
                false => *byte,
            }));
        }
        Self {
            words,
            at: 0,
            shown: Fragment::whole(NAME, line),
            starts,
            older: Older::default(),
        }
    }

    fn read(mut self) -> Result<Older, Wrong> {
        while let Some(word) = self.words.get(self.at) {
            match &word[..] {
                b"--" => {
                    self.at += 1;
                    break;
                }
                [b'-', b'-', name @ ..] => self.long(name.as_bstr())?,
                [b'-', _, ..] => self.short(word.as_ref())?,
                _ => break,
            }
            self.at += 1;
        }
        while self.at < self.words.len() {
            let line = self.line()?;
            self.older.lines.push(line);
        }
        Ok(self.older)
    }

    /// An error about a word.
    fn wrong(&self, at: usize, message: impl Into<String>, help: &str) -> Wrong {
        let span = match (self.words.get(at), self.starts.get(at)) {
            (Some(word), Some(start)) => Span::new(*start, start + word.len()),
            _ => Span::new(self.shown.text.len() - 1, self.shown.text.len()),
        };
        let one = Diagnostic::new(Severity::Error, "command-line", message, &self.shown, span);
        Box::new(one.help(help))
    }

    /// Options that the older automounter did not have.
    fn long(&mut self, name: &BStr) -> Result<(), Wrong> {
        let (name, attached) = match name.split_once_str(b"=") {
            Some((name, value)) => (name.as_bstr(), Some(value.as_bstr())),
            None => (name, None),
        };
        match (name.as_bytes(), attached) {
            (b"foreground", None) => self.older.foreground = true,
            (b"environment", value) => {
                let name = self.value("--environment", value)?;
                if !is_name(name.as_ref()) {
                    return Err(self.wrong(
                        self.at,
                        format!("`{name}` is no variable"),
                        "name one",
                    ));
                }
                self.older.environment.push(name);
            }
            (b"trace-file", value) => {
                self.older.calls_log = Some(self.path("--trace-file", value)?);
            }
            _ => {
                let what = format!("there is no option `--{name}`");
                let help = "besides the older automounter's own there are --foreground, \
                    --environment NAME and --trace-file FILE";
                return Err(self.wrong(self.at, what, help));
            }
        }
        Ok(())
    }

    /// A word of one or more letters after a hyphen.
    fn short(&mut self, word: &BStr) -> Result<(), Wrong> {
        // Two letters are one option here: `-tl` is not `-t l`.
        if let Some(rest) = word.strip_prefix(b"-t") {
            return self.time(rest.as_bstr());
        }
        for (number, letter) in word[1..].iter().enumerate() {
            let rest = word[number + 2..].as_bstr();
            let attached = (!rest.is_empty()).then_some(rest);
            match letter {
                b'n' => self.older.frozen = true,
                b'T' => self.older.trace = true,
                b'v' => self.older.verbose = true,
                b'm' => self.older.without_meaning = true,
                b'D' => return self.define(attached),
                b'f' => {
                    let at = self.at;
                    let master = self.value("-f", attached)?;
                    if master.is_empty() {
                        return Err(self.wrong(at, "-f names no file", "write `-f FILE`"));
                    }
                    self.older.master = Some(master);
                    return Ok(());
                }
                b'M' => {
                    self.older.staging = self.path("-M", attached)?;
                    return Ok(());
                }
                _ => {
                    let letter = [*letter];
                    let what = format!("there is no option `-{}`", letter.as_bstr());
                    let help = "the options are -n, -T, -v, -D, -f, -M, -tl, -tm and -tw; options \
                        for mount stand after a map";
                    return Err(self.wrong(self.at, what, help));
                }
            }
        }
        Ok(())
    }

    /// The value of an option: the rest of its word, or the next word.
    fn value(&mut self, name: &str, attached: Option<&BStr>) -> Result<BString, Wrong> {
        if let Some(value) = attached {
            return Ok(value.to_owned());
        }
        let Some(next) = self.words.get(self.at + 1) else {
            let what = format!("`{name}` has no value");
            return Err(self.wrong(self.at, what, "write it as the next word"));
        };
        self.at += 1;
        Ok(next.clone())
    }

    /// An absolute path.
    fn path(&mut self, name: &str, attached: Option<&BStr>) -> Result<BString, Wrong> {
        let path = self.value(name, attached)?;
        if !path.starts_with(b"/") || path.iter().any(u8::is_ascii_control) {
            let what = format!("`{name} {path}`: an absolute path is expected");
            return Err(self.wrong(self.at, what, "begin it with `/`"));
        }
        Ok(path)
    }

    /// `-tl`, `-tm` or `-tw`, without `-t`.
    fn time(&mut self, rest: &BStr) -> Result<(), Wrong> {
        let letters = b"lmw";
        let known = rest.first().and_then(|letter| letters.find_byte(*letter));
        let Some(which) = known else {
            let what = format!("there is no option `-t{rest}`");
            let help = "-tl is the idle time, -tm the interval between attempts to mount, -tw that \
                between attempts to unmount; -t is an option of the automounter with autofs";
            return Err(self.wrong(self.at, what, help));
        };
        let name = format!("-t{}", rest[..1].as_bstr());
        let attached = rest[1..].as_bstr();
        let value = self.value(&name, (!attached.is_empty()).then_some(attached))?;
        let seconds = value.to_str().ok().and_then(seconds_of);
        // No idle time at all means never; an interval has a length.
        let seconds = seconds.filter(|seconds| which == 0 || *seconds > 0);
        let Some(seconds) = seconds else {
            let what = format!("`{name} {value}`: a time such as 300, 5m or 1h is expected");
            return Err(self.wrong(self.at, what, "write a number of seconds"));
        };
        if let Some(time) = self.older.times.get_mut(which) {
            *time = seconds;
        }
        Ok(())
    }

    /// `-D name=value`.
    fn define(&mut self, attached: Option<&BStr>) -> Result<(), Wrong> {
        let define = self.value("-D", attached)?;
        let name = define.split_once_str(b"=").map(|(name, _)| name.as_bstr());
        if !name.is_some_and(is_name) {
            let what = format!("`-D {define}` defines no variable");
            return Err(self.wrong(self.at, what, "write `-D name=value`"));
        }
        self.older.defines.push(define);
        Ok(())
    }

    /// `directory map [-mount-options]`.
    fn line(&mut self) -> Result<Line, Wrong> {
        let directory = self.directory()?;
        self.at += 1;
        let map = self.map(directory.as_ref())?;
        self.at += 1;
        let mut options = BString::default();
        if let Some(word) = self.words.get(self.at)
            && let Some(list) = word.strip_prefix(b"-")
        {
            let bad = |byte: &u8| byte.is_ascii_whitespace() || byte.is_ascii_control();
            if list.is_empty() || list.iter().any(bad) {
                let what = format!("`{word}` are no options for mount");
                return Err(self.wrong(self.at, what, "write them as one word, as in `-ro,soft`"));
            }
            options = list.into();
            self.at += 1;
        }
        Ok(Line {
            directory,
            map,
            options,
        })
    }

    fn directory(&self) -> Result<BString, Wrong> {
        let word = &self.words[self.at];
        if word.starts_with(b"-") {
            let what = format!("`{word}` stands where a directory is expected");
            let help = "options of the automounter come before the first directory; those of a map \
                are one word after it, as in `-ro,soft`";
            return Err(self.wrong(self.at, what, help));
        }
        if !word.starts_with(b"/") || word.iter().any(u8::is_ascii_control) {
            let what = format!("`{word}` is no directory");
            let help = "write pairs of an absolute path and a map, or `/-` and a direct map";
            return Err(self.wrong(self.at, what, help));
        }
        Ok(word.clone())
    }

    fn map(&self, directory: &BStr) -> Result<BString, Wrong> {
        let Some(word) = self.words.get(self.at) else {
            let what = format!("the directory {directory} has no map");
            let help = "name a file by its absolute path, a map that nsswitch.conf finds, -hosts, \
                -passwd or -null";
            return Err(self.wrong(self.at - 1, what, help));
        };
        let special = [&b"-hosts"[..], b"-passwd", b"-null"];
        if word.starts_with(b"-") && !special.contains(&&word[..]) {
            let what = format!("`{word}` is no map");
            let help = "the special maps are -hosts, -passwd and -null; options follow the map";
            return Err(self.wrong(self.at, what, help));
        }
        if directory == "/-" && special[..2].contains(&&word[..]) {
            let what = format!("{word} has names as keys, which a direct map has not");
            return Err(self.wrong(self.at, what, "name a directory in place of `/-`"));
        }
        let relative = !word.starts_with(b"/") && word.contains(&b'/');
        if word.is_empty() || relative || word.iter().any(u8::is_ascii_control) {
            let what = format!("`{word}` is neither an absolute path nor the name of a map");
            let help = "write the file's path from the root";
            return Err(self.wrong(self.at, what, help));
        }
        Ok(word.clone())
    }
}

/// Whether this can be a variable's name.
fn is_name(name: &BStr) -> bool {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    !name.is_empty() && name.iter().all(part)
}

#[cfg(test)]
mod tests;
