//! The filter of a mount point: accesses that are answered at once as if there were nothing.
//!
//! Desktops look for `.hidden` in every directory, shells for `.git`; indexers walk into whatever
//! they can. Off unless the master map asks for it.

use alloc::vec::Vec;

use bstr::BString;

use crate::requester::Program;

/// What is denied. Patterns are [`matches`]'s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deny {
    /// Keys: names of an indirect map, whole paths of a direct one.
    pub keys: Vec<BString>,
    /// Names of programs, as /proc/PID/comm has them (15 bytes at most).
    pub programs: Vec<BString>,
    /// Control groups, as /proc/PID/cgroup has them.
    pub cgroups: Vec<BString>,
}

impl Deny {
    /// The pattern that denies a key.
    pub fn key(&self, key: &[u8]) -> Option<&BString> {
        self.keys.iter().find(|pattern| matches(pattern, key))
    }

    /// Whether it matters which program asks.
    pub fn asks_program(&self) -> bool {
        !(self.programs.is_empty() && self.cgroups.is_empty())
    }

    /// The pattern that denies a program.
    pub fn program(&self, program: &Program) -> Option<&BString> {
        let by_name = || self.programs.iter().find(|it| matches(it, &program.name));
        let cgroup = program.cgroup.as_ref();
        let by_cgroup = |cgroup: &BString| self.cgroups.iter().find(|it| matches(it, cgroup));
        by_name().or_else(|| cgroup.and_then(by_cgroup))
    }
}

/// Whether all of `text` is described by `pattern`: `*` stands for any bytes, `?` for one, every
/// other byte for itself. Takes at most as many steps as the product of both lengths.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut here) = (0, 0);
    // After the last star: where the pattern goes on, and what the star stands for so far.
    let mut star: Option<(usize, usize)> = None;
    while here < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, here));
                at += 1;
            }
            Some(one) if *one == b'?' || *one == text[here] => {
                at += 1;
                here += 1;
            }
            _ => match star {
                Some((after, stands_for)) => {
                    star = Some((after, stands_for + 1));
                    at = after;
                    here = stands_for + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|one| *one == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, expected) in [
            (".git", ".git", true),
            (".git", ".gitignore", false),
            (".*", ".Trash-1000", true),
            (".*", "a.b", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("?", "", false),
            ("a?c", "abc", true),
            ("*.slice/*.service", "/x.slice/y.service", true),
            ("*a*b", "xaxxbyb", true),
            ("*a*b", "xaxxbyc", false),
            ("[a]", "[a]", true),
            ("**", "x", true),
        ] {
            let matched = matches(pattern.as_bytes(), text.as_bytes());
            assert_eq!(matched, expected, "{pattern} {text}");
        }
        let many = [b'a'; 4_000];
        assert!(!matches(b"*a*a*a*a*b", &many));
    }

    #[test]
    fn programs_by_name_or_group() {
        let deny = Deny {
            programs: [BString::from("updatedb*")].into(),
            cgroups: [BString::from("/system.slice/*")].into(),
            ..Deny::default()
        };
        let program = |name: &str, cgroup: Option<&str>| Program {
            name: name.into(),
            cgroup: cgroup.map(Into::into),
        };
        assert!(deny.asks_program() && !Deny::default().asks_program());
        assert!(deny.program(&program("updatedb.ploc", None)).is_some());
        assert!(deny.program(&program("ls", None)).is_none());
        let service = Some("/system.slice/x.service");
        assert!(deny.program(&program("ls", service)).is_some());
    }
}
