//! autofs's settings: `/etc/autofs.conf`, and the old form of the same in `/etc/default/autofs`.
//!
//! A machine that is moved to Piton keeps its settings: every key of autofs.conf(5) is either
//! honoured or named with the reason why it does not apply ([`KEYS`]). Names count in any
//! case; what stands before the first section counts for `[ autofs ]`; the last of equal keys
//! wins; settings in `/etc/default/autofs` win over autofs.conf.
//!
//! Where there is such a file, what it does not say is as in autofs: 600 s until expiry, and
//! browsing on. Without one Piton's own defaults hold.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;

use bstr::ByteSlice;
use piton_map::diagnostic::{Diagnostic, Severity};
use piton_map::lookup::Miss;
use piton_map::text::{Fragment, Span};

use crate::cache::said;
use crate::file;
use crate::limits::CONF_BYTES;

/// How much autofs was told to log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Logging {
    /// The usual.
    #[default]
    None,
    /// `verbose`
    Verbose,
    /// `debug`
    Debug,
}

/// The settings of the section `[ autofs ]` that are honoured. `None`: not said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// Name or path of the master map.
    pub master_map_name: Option<OsString>,
    /// Seconds of idleness after which a mount goes; 0 is never.
    pub timeout: Option<u32>,
    /// Seconds for which a failed key is remembered.
    pub negative_timeout: Option<u32>,
    /// Seconds to wait for the master map at the start.
    pub master_wait: Option<u32>,
    /// Seconds that a mount may take.
    pub mount_wait: Option<u32>,
    /// Seconds that an unmount may take.
    pub umount_wait: Option<u32>,
    /// Whether keys are listed before they are mounted, unless the master map says otherwise.
    pub browse_mode: bool,
    /// Whether options of the master map and of an entry add up.
    pub append_options: bool,
    /// How much to log.
    pub logging: Logging,
    /// Whether triggers are marked so that `df` leaves them out.
    pub use_ignore_mount_option: bool,
    /// Whether it is not logged that a key is in no map.
    pub disable_not_found_message: bool,
    /// Whether programs get the requester's variables without the prefix `AUTOFS_`.
    pub force_standard_program_map_env: bool,
    /// Whether a server with several addresses is mounted by its name.
    pub use_hostname_for_mounts: bool,
}

impl Default for Conf {
    /// What holds without any file.
    fn default() -> Self {
        Self {
            master_map_name: None,
            timeout: None,
            negative_timeout: None,
            master_wait: None,
            mount_wait: None,
            umount_wait: None,
            browse_mode: false,
            append_options: true,
            logging: Logging::None,
            use_ignore_mount_option: false,
            disable_not_found_message: false,
            force_standard_program_map_env: false,
            use_hostname_for_mounts: false,
        }
    }
}

/// What autofs expires after when nothing is said, in seconds.
const AUTOFS_TIMEOUT: u32 = 600;

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It is a field of [`Conf`].
    Honoured,
    /// It has no effect, because of this.
    DoesNotApply(&'static str),
}

const LDAP: Treatment = Treatment::DoesNotApply("LDAP is not in this build");
const SSS: Treatment = Treatment::DoesNotApply("SSSD is not asked in this build");
const NO_NEED: Treatment = Treatment::DoesNotApply("Piton has no such limit");

/// Every key of autofs.conf(5), section `[ autofs ]`, and what becomes of it.
pub const KEYS: &[(&str, Treatment)] = &[
    ("append_options", Treatment::Honoured),
    ("auth_conf_file", LDAP),
    ("browse_mode", Treatment::Honoured),
    ("disable_not_found_message", Treatment::Honoured),
    ("entry_attribute", LDAP),
    ("entry_object_class", LDAP),
    ("force_standard_program_map_env", Treatment::Honoured),
    ("ldap_network_timeout", LDAP),
    ("ldap_timeout", LDAP),
    ("ldap_uri", LDAP),
    ("logging", Treatment::Honoured),
    ("map_attribute", LDAP),
    ("map_hash_table_size", NO_NEED),
    ("map_object_class", LDAP),
    ("master_map_name", Treatment::Honoured),
    ("master_wait", Treatment::Honoured),
    (
        "mount_nfs_default_protocol",
        Treatment::DoesNotApply("the version is settled with the server"),
    ),
    (
        "mount_verbose",
        Treatment::DoesNotApply("who asked for a mount is in `piton status`"),
    ),
    ("mount_wait", Treatment::Honoured),
    ("negative_timeout", Treatment::Honoured),
    ("open_file_limit", NO_NEED),
    (
        "positive_timeout",
        Treatment::DoesNotApply("a changed map is used at the next access, so nothing grows old"),
    ),
    ("search_base", LDAP),
    ("sss_master_map_wait", SSS),
    ("timeout", Treatment::Honoured),
    ("umount_wait", Treatment::Honoured),
    ("use_hostname_for_mounts", Treatment::Honoured),
    ("use_ignore_mount_option", Treatment::Honoured),
    (
        "use_mount_request_log_id",
        Treatment::DoesNotApply("log records of one access always carry its number"),
    ),
    ("value_attribute", LDAP),
];

/// What a setting makes of the settings; an error is the reason why it cannot.
type Applied = Result<(), &'static str>;

impl Conf {
    /// Sets the honoured key `key`.
    fn set(&mut self, key: &str, value: &str) -> Applied {
        match key {
            "master_map_name" => {
                self.master_map_name = Some(OsString::from_vec(value.as_bytes().to_vec()));
            }
            // A negative timeout is autofs's default.
            "timeout" => self.timeout = Some(seconds(value)?.unwrap_or(AUTOFS_TIMEOUT)),
            "negative_timeout" => self.negative_timeout = seconds(value)?.filter(|n| *n > 0),
            "master_wait" => self.master_wait = seconds(value)?,
            "mount_wait" => self.mount_wait = seconds(value)?,
            "umount_wait" => self.umount_wait = seconds(value)?,
            "browse_mode" => self.browse_mode = yes(value)?,
            "append_options" => self.append_options = yes(value)?,
            "use_ignore_mount_option" => self.use_ignore_mount_option = yes(value)?,
            "disable_not_found_message" => self.disable_not_found_message = yes(value)?,
            "force_standard_program_map_env" => {
                self.force_standard_program_map_env = yes(value)?;
            }
            "use_hostname_for_mounts" => self.use_hostname_for_mounts = yes(value)?,
            "logging" => {
                self.logging = match value.to_ascii_lowercase().as_str() {
                    "none" => Logging::None,
                    "verbose" => Logging::Verbose,
                    "debug" => Logging::Debug,
                    _ => return Err("write none, verbose or debug"),
                }
            }
            _ => return Err("this is a mistake of Piton: the key is listed but not read"),
        }
        Ok(())
    }
}

/// A number of seconds, perhaps with a unit; nothing when it is negative.
fn seconds(value: &str) -> Result<Option<u32>, &'static str> {
    const HELP: &str = "write a number of seconds";
    if value
        .strip_prefix('-')
        .is_some_and(|rest| rest.parse::<u32>().is_ok())
    {
        return Ok(None);
    }
    piton_map::mount_options::seconds(value.as_bytes())
        .map(Some)
        .ok_or(HELP)
}

/// A yes or no.
fn yes(value: &str) -> Result<bool, &'static str> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "y" | "true" | "on" | "1" => Ok(true),
        "no" | "n" | "false" | "off" | "0" => Ok(false),
        _ => Err("write yes or no"),
    }
}

/// Which section a line stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Autofs,
    /// `[ amd ]`, or `[ /path ]` for an amd mount point.
    Amd,
    Unknown,
}

/// A text of settings being read.
struct Reader<'t> {
    text: &'t Fragment,
    /// Whether it is `/etc/default/autofs`, a text for the shell.
    shell: bool,
    section: Section,
    conf: &'t mut Conf,
    said: Vec<Diagnostic>,
}

/// Reads the text of autofs.conf over `conf`.
pub fn parse(text: &Fragment, conf: &mut Conf) -> Vec<Diagnostic> {
    read(text, false, conf)
}

/// Reads the text of `/etc/default/autofs` over `conf`.
pub fn parse_defaults(text: &Fragment, conf: &mut Conf) -> Vec<Diagnostic> {
    read(text, true, conf)
}

/// Reads a text of settings.
fn read(text: &Fragment, shell: bool, conf: &mut Conf) -> Vec<Diagnostic> {
    let mut reader = Reader {
        text,
        shell,
        section: Section::Autofs,
        conf,
        said: Vec::new(),
    };
    let mut offset = 0;
    for line in text.text.lines_with_terminator() {
        reader.line(offset, line);
        offset += line.len();
    }
    reader.said
}

impl Reader<'_> {
    /// Reads one line, which begins at `offset`.
    fn line(&mut self, offset: usize, line: &[u8]) {
        let trimmed = line.trim_start_with(|c| c.is_ascii_whitespace());
        let start = offset + line.len() - trimmed.len();
        let trimmed = trimmed.trim_end_with(|c| c.is_ascii_whitespace());
        let span = Span::new(start, start + trimmed.len());
        let text = trimmed.to_str_lossy();
        if text.is_empty() || text.starts_with('#') {
            return;
        }
        if let Some(inner) = text.strip_prefix('[') {
            return self.section(span, inner.trim_end_matches(']').trim());
        }
        let assignment = text
            .strip_prefix("export ")
            .filter(|_| self.shell)
            .unwrap_or(&text);
        match assignment.split_once('=') {
            Some((key, value)) => self.setting(span, key.trim(), value.trim()),
            None if self.shell || self.section != Section::Autofs => {}
            None => self.say(
                (Severity::Warning, "conf-no-setting"),
                span,
                "the line is no setting; it is not used".into(),
                "write `key = value`",
            ),
        }
    }

    /// Begins a section.
    fn section(&mut self, span: Span, name: &str) {
        self.section = match name {
            "autofs" => Section::Autofs,
            "amd" => Section::Amd,
            path if path.starts_with('/') => Section::Amd,
            _ => Section::Unknown,
        };
        match self.section {
            Section::Autofs => {}
            Section::Amd => self.say(
                (Severity::Note, "conf-amd"),
                span,
                "the settings of this section do not apply: the amd format is not in this build"
                    .into(),
                "remove the section if no map in amd format is used",
            ),
            Section::Unknown => self.say(
                (Severity::Warning, "conf-unknown-section"),
                span,
                format!("there is no section `{name}`; its settings are not used"),
                "the sections are [ autofs ] and [ amd ]",
            ),
        }
    }

    /// Reads `key = value`.
    fn setting(&mut self, span: Span, key: &str, value: &str) {
        if self.section != Section::Autofs {
            return;
        }
        let key = key.to_ascii_lowercase();
        let value = unquoted(value);
        let known = KEYS
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, treatment)| *treatment);
        match known {
            Some(Treatment::Honoured) if value.is_empty() => {}
            Some(Treatment::Honoured) => {
                if let Err(help) = self.conf.set(&key, value) {
                    let message = format!("`{value}` is no value for {key}; it is not used");
                    self.say((Severity::Warning, "conf-bad-value"), span, message, help);
                }
            }
            Some(Treatment::DoesNotApply(why)) => self.say(
                (Severity::Note, "conf-no-effect"),
                span,
                format!("{key} has no effect: {why}"),
                "remove the line",
            ),
            // The old file is the shell's: it may set anything.
            None if self.shell => {}
            None => self.say(
                (Severity::Warning, "conf-unknown-key"),
                span,
                format!("there is no setting `{key}`"),
                "autofs.conf(5) lists the settings",
            ),
        }
    }

    /// Reports something.
    fn say(
        &mut self,
        (severity, code): (Severity, &'static str),
        span: Span,
        message: String,
        help: &str,
    ) {
        self.said
            .push(Diagnostic::new(severity, code, message, self.text, span).help(help));
    }
}

/// A value without the quotes around it, or without the comment after it.
fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote) {
            return inner.split(quote).next().unwrap_or(inner);
        }
    }
    let comment = value
        .find(" #")
        .or_else(|| value.find("\t#"))
        .unwrap_or(value.len());
    value[..comment].trim_end()
}

/// Reads autofs.conf at `path` and `default/autofs` beside it. Returns what there is to say,
/// a line each. Files that are not there are no fault.
pub fn load(path: &Path) -> (Conf, Vec<String>) {
    let mut conf = Conf::default();
    let mut remarks = Vec::new();
    let defaults = path.with_file_name("default").join("autofs");
    for (path, shell) in [(path, false), (defaults.as_path(), true)] {
        let name: Arc<str> = path.to_string_lossy().into();
        let text = match file::read_text(path, &name, CONF_BYTES) {
            Ok(text) => text.fragment,
            Err(Miss::NoSuchMap(_)) => continue,
            Err(miss) => {
                remarks.push(said(&miss));
                continue;
            }
        };
        if !shell {
            conf = Conf {
                timeout: Some(AUTOFS_TIMEOUT),
                browse_mode: true,
                ..conf
            };
        }
        remarks.extend(read(&text, shell, &mut conf).iter().map(|one| {
            let help = one.help.as_deref().unwrap_or_default();
            format!("{}: {} ({help})", one.origin(), one.message)
        }));
    }
    (conf, remarks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Conf, Vec<&'static str>) {
        let mut conf = Conf::default();
        let said = parse(&Fragment::whole("/etc/autofs.conf", text), &mut conf);
        (conf, said.into_iter().map(|one| one.code).collect())
    }

    #[test]
    fn keys_are_sorted_and_each_honoured_one_is_read() {
        assert!(KEYS.is_sorted_by_key(|(key, _)| key));
        for (key, treatment) in KEYS {
            let known = Conf::default().set(key, "").err().unwrap_or_default();
            assert_eq!(
                *treatment == Treatment::Honoured,
                !known.contains("mistake"),
                "{key}"
            );
        }
    }

    #[test]
    fn settings_are_read_as_autofs_reads_them() {
        let lines = [
            "timeout = 10",
            "[ autofs ]",
            "TIMEOUT=20",
            " timeout =\t30  ",
            "browse_mode=\"yes\"",
            "append_options = no",
            "mount_wait = -1",
            "umount_wait = 12",
            "logging = debug",
            "master_map_name = /etc/my master",
            "negative_timeout = 0",
            "force_standard_program_map_env = yes",
        ];
        let text = &lines.join("\n");
        let (conf, said) = parsed(text);
        let expected = Conf {
            timeout: Some(30),
            browse_mode: true,
            append_options: false,
            umount_wait: Some(12),
            logging: Logging::Debug,
            master_map_name: Some("/etc/my master".into()),
            force_standard_program_map_env: true,
            ..Conf::default()
        };
        assert_eq!((conf, said), (expected, Vec::new()));
        assert_eq!(parsed("timeout = -5").0.timeout, Some(AUTOFS_TIMEOUT));
        assert_eq!(parsed("timeout = 5m").0.timeout, Some(300));
        assert_eq!(parsed("timeout = 21 # note").0.timeout, Some(21));
    }

    #[test]
    fn what_has_no_effect_is_said() {
        for (line, code) in [
            ("garbage", "conf-no-setting"),
            ("timeout = soon", "conf-bad-value"),
            ("browse_mode = perhaps", "conf-bad-value"),
            ("logging = loud", "conf-bad-value"),
            ("no_such_key = 1", "conf-unknown-key"),
            ("ldap_uri = ldap://x", "conf-no-effect"),
            ("map_hash_table_size = 512", "conf-no-effect"),
            ("[ nosuch ]", "conf-unknown-section"),
            ("[ amd ]\nauto_dir = /a", "conf-amd"),
            ("[ /net ]\nmap_type = file", "conf-amd"),
        ] {
            assert_eq!(parsed(line).1, [code], "{line}");
        }
        let (conf, _) = parsed("[ autofs ]\ntimeout = 31\n[ nosuch ]\ntimeout = 99\n");
        assert_eq!(conf.timeout, Some(31));
    }

    #[test]
    fn the_old_file_wins_and_a_missing_one_is_no_fault() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("autofs.conf");
        assert_eq!(load(&path), (Conf::default(), Vec::new()));
        std::fs::write(&path, "# empty\n").unwrap();
        let (conf, _) = load(&path);
        assert_eq!(
            (conf.timeout, conf.browse_mode),
            (Some(AUTOFS_TIMEOUT), true)
        );
        std::fs::write(&path, "timeout = 300\nbrowse_mode = no\nbad\n").unwrap();
        std::fs::create_dir(dir.path().join("default")).unwrap();
        let old =
            "TIMEOUT=44\nBROWSE_MODE=\"yes\"\nUSE_MISC_DEVICE=\"yes\"\nOPTIONS=\"\"\nif x; then\n";
        std::fs::write(dir.path().join("default/autofs"), old).unwrap();
        let (conf, remarks) = load(&path);
        assert_eq!((conf.timeout, conf.browse_mode), (Some(44), true));
        assert_eq!(remarks.len(), 1);
        assert!(
            remarks[0].contains("autofs.conf:3:1: the line is no setting"),
            "{remarks:?}"
        );
    }
}
