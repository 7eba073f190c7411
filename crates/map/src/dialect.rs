//! Named dialects: the few rules in which the founding documents and the peers differ.
//!
//! A dialect is one value; code asks its fields, never its name. The table with reasons is in
//! docs/dialects.md.

/// What becomes of the master map's options where an entry has options of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OptionsRule {
    /// The entry's options replace them.
    Replace,
    /// The entry's options come after them in one list.
    Append,
}

/// Which entry a key finds when a `*` stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WildcardRule {
    /// The first of exact key and `*` in reading order; entries below `*` are dead.
    EndsScan,
    /// Exact keys of a map win wherever `*` stands in it.
    AfterExact,
}

/// The rules of one dialect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dialect {
    /// `sun`, `linux` or `older`, for people.
    pub name: &'static str,
    /// Master options and entry options.
    pub options: OptionsRule,
    /// `*` and the entries after it.
    pub wildcard: WildcardRule,
    /// Whether later colons in a location become slashes (autofs's slashify-colons).
    pub slashify_colons: bool,
    /// Whether the requester's variables (USER, UID, …) are defined.
    pub requester_variables: bool,
    /// Whether `host:/path:sub` names a sub-directory of what is mounted.
    pub subdirectories: bool,
    /// Whether a doubled backslash outside quotes stands for nothing, as in autofs, or for one.
    pub doubled_backslash_vanishes: bool,
    /// Whether file system types of the founding systems (hsfs, cachefs, lofs, …) are
    /// translated to those of Linux.
    pub translate_types: bool,
    /// Whether `-null` in the master map cancels every later entry for its mount point, as the
    /// first line for a path does in the founding documents, or only the next one.
    pub null_cancels_all: bool,
}

impl Dialect {
    /// The founding documents: HP-UX and Solaris.
    pub const SUN: Self = Self {
        name: "sun",
        options: OptionsRule::Replace,
        wildcard: WildcardRule::EndsScan,
        slashify_colons: false,
        requester_variables: true,
        subdirectories: true,
        doubled_backslash_vanishes: false,
        translate_types: true,
        null_cancels_all: true,
    };

    /// The older automounter of the founding documents: of options only those that conflict with
    /// the map's own give way to them.
    pub const OLDER: Self = Self {
        name: "older",
        options: OptionsRule::Append,
        ..Self::SUN
    };

    /// Linux autofs 5.1.
    pub const LINUX: Self = Self {
        name: "linux",
        options: OptionsRule::Append,
        wildcard: WildcardRule::AfterExact,
        slashify_colons: true,
        requester_variables: true,
        subdirectories: false,
        doubled_backslash_vanishes: true,
        translate_types: false,
        null_cancels_all: false,
    };

    /// The dialect called `name`, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "sun" => Some(Self::SUN),
            "linux" => Some(Self::LINUX),
            "older" => Some(Self::OLDER),
            _ => None,
        }
    }

    /// The dialect a master map has by its file name: `auto_master` is `sun`, all else `linux`.
    pub fn of_master(file_name: &str) -> Self {
        if file_name == "auto_master" {
            Self::SUN
        } else {
            Self::LINUX
        }
    }
}
