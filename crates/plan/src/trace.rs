//! The decisions of one planning in words, for `piton explain`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bstr::{BStr, BString, ByteSlice};
use piton_map::dialect::OptionsRule;
use piton_map::entry::{Entry, Mount, Reading, What};
use piton_map::location::Server;
use piton_map::lookup::Matched;
use piton_map::options::Selection;
use piton_map::text::{Fragment, Origin, Position, Span};

use crate::planner::PlanRequest;

/// One decision in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceLine {
    /// The sentence, without a final stop.
    pub text: String,
    /// The place in the map that made it so.
    pub origin: Option<Origin>,
}

/// The decisions that led to `reading`.
pub(crate) fn trace(request: &PlanRequest, reading: &Reading) -> Vec<TraceLine> {
    let mut lines = Vec::new();
    let found = request.found;
    let mut places = Places::new(&found.fragment);
    let mut say = |text: String, span: Option<Span>| {
        let origin = span.map(|span| places.origin(span));
        lines.push(TraceLine { text, origin });
    };
    for origin in &found.via {
        say(format!("the include line {origin} was followed"), None);
    }
    say(matched(request), Some(found.key));
    for replacement in &reading.replacements {
        let text = match (&replacement.name, &replacement.value) {
            (None, Some(key)) => format!("& is the key, `{key}`"),
            (Some(name), Some(value)) => format!("${name} is `{value}`"),
            (Some(name), None) => format!("${name} is nothing"),
            (None, None) => continue,
        };
        say(text, Some(replacement.span));
    }
    let Some(entry) = &reading.entry else {
        return lines;
    };
    say(options_rule(request), None);
    for mount in &entry.mounts {
        say(mounted(mount, entry), Some(mount.span));
    }
    if let Some(timeout) = entry.timeout {
        say(
            format!("what is mounted goes after {timeout} idle seconds"),
            None,
        );
    }
    lines
}

/// Turns spans into origins without counting lines from the start for each: an entry may have
/// thousands of offsets.
struct Places<'f> {
    fragment: &'f Fragment,
    /// The last place asked for.
    offset: u32,
    position: Position,
}

impl<'f> Places<'f> {
    fn new(fragment: &'f Fragment) -> Self {
        Self {
            fragment,
            offset: 0,
            position: fragment.position(0),
        }
    }

    fn origin(&mut self, span: Span) -> Origin {
        if span.start < self.offset {
            *self = Self::new(self.fragment);
        }
        let between = self.fragment.slice(Span {
            start: self.offset,
            end: span.start,
        });
        let line_start = between.rfind_byte(b'\n').map(|at| at + 1);
        let lines = between.iter().filter(|byte| **byte == b'\n').count() as u32;
        let characters = between[line_start.unwrap_or(0)..].chars().count() as u32;
        let column = if line_start.is_some() {
            1
        } else {
            self.position.column
        };
        self.position = Position {
            line: self.position.line + lines,
            column: column + characters,
        };
        self.offset = span.start;
        Origin {
            file: self.fragment.name.clone(),
            position: self.position,
        }
    }
}

fn matched(request: &PlanRequest) -> String {
    let map = &request.found.map;
    match request.found.matched {
        Matched::Exact => format!("the key `{}` is in {map}", request.key),
        Matched::Wildcard => format!("the key `{}` is matched by `*` in {map}", request.key),
    }
}

fn options_rule(request: &PlanRequest) -> String {
    let dialect = request.dialect;
    let replaced = !request.append_options || dialect.options == OptionsRule::Replace;
    let rule = if replaced {
        "options of an entry replace those of its map"
    } else {
        "options of an entry come after those of its map"
    };
    let list = |name: &str, options: &[BString]| match options {
        [] => String::new(),
        options => format!("; {name}: {}", join(options)),
    };
    format!(
        "in dialect {} {rule}{}{}",
        dialect.name,
        list("command line", request.global_options),
        list("map", &request.options.mount),
    )
}

fn mounted(mount: &Mount, entry: &Entry) -> String {
    let what = match &mount.what {
        What::Servers { fstype, servers } => from_servers(mount, fstype.as_bstr(), servers),
        What::Bind {
            source,
            recursive: false,
        } => format!("a bind mount of {source}"),
        What::Bind {
            source,
            recursive: true,
        } => format!("a recursive bind mount of {source}"),
        What::Link { to } => format!("a symbolic link to {to}"),
        What::Source { fstype, source } => format!("`{source}` as {fstype}"),
        What::Map { map, .. } => format!("the map {}", map.name),
    };
    let options = match &mount.options[..] {
        [] => "no options".to_string(),
        options => format!("options {}", join(options)),
    };
    let by = if mount.by_helper { ", by mount(8)" } else { "" };
    let failure = if entry.strict {
        "; if it fails, all fails"
    } else {
        ""
    };
    format!("{} is {what}, {options}{by}{failure}", mount.offset)
}

/// Servers, and directories of this host beside them or in their place.
fn from_servers(mount: &Mount, fstype: &BStr, servers: &[Server]) -> String {
    let here = servers.iter().filter(|server| server.host.is_none());
    let here: Vec<&BStr> = here.map(|server| server.path.as_bstr()).collect();
    let bind = format!("a bind mount of {}", bstr::join(" or ", &here).as_bstr());
    let network = match servers.len() - here.len() {
        0 => return bind,
        1 => format!("{fstype} from 1 server"),
        several => format!("{fstype} from {several} servers"),
    };
    let ranking = match (servers.len(), mount.selection) {
        (1, _) => "",
        (_, Selection::Proximity) => ", ranked by proximity, then weight, then answer time",
        (_, Selection::WeightOnly) => ", ranked by weight alone",
        (_, Selection::FirstResponder) => ", the first that answers",
        (_, Selection::Random) => ", in random order",
    };
    match here.is_empty() || mount.nobind {
        true => format!("{network}{ranking}"),
        false => format!("{bind} or {network}{ranking}"),
    }
}

fn join(options: &[BString]) -> String {
    bstr::join(",", options).to_str_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_that_the_fragment_tells() {
        let fragment = Fragment {
            name: "m".into(),
            first_line: 4,
            text: "a \u{e9} b\nc d\n\ne".into(),
        };
        let mut places = Places::new(&fragment);
        for start in [0, 2, 5, 7, 9, 12, 3, 11] {
            let span = Span::new(start, start);
            assert_eq!(places.origin(span), fragment.origin(span), "{start}");
        }
    }
}
