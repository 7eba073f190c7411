"""What an automounter decided, step by step, in a form that two of them can share.

The oracle says everything it saw; this says what of it counts.  Not decisions, and
therefore made equal here:

  - which system call or program made a mount: `mount --bind`, `-t bind`, `-o bind` and
    open_tree(2) are all a bind, and what mount(8) made of tmpfs is what fsmount(2) makes;
  - an empty option string, `defaults`, and none;
  - mount's general flags -n (no mtab) and -s (be sloppy);
  - trailing and doubled slashes of a target;
  - the log, the order of mounts within one step, the source text of a trigger, and how
    long anything took.
"""

import hashlib
import posixpath
import re
import shlex

# Mounted by the real mount(8) in the sandbox, so that the kernel tells what came of them.
NATIVE = ("bind", "rbind", "tmpfs")
KINDS = ("direct", "indirect", "offset")
SEEN = ("status", "type", "link", "entries", "statuses", "stdout", "exit")


def target_of(text):
    path = posixpath.normpath(text or "")
    return path[1:] if path.startswith("//") else path


def kind_of(call):
    """The type of a call, and its options with the word that only said `bind` taken out."""
    options = [] if call["options"] in (None, "", "defaults") else call["options"].split(",")
    flags = set(call["flags"])
    for name, marks in (("rbind", {"--rbind", "-R"}), ("bind", {"--bind", "-B"})):
        if flags & marks or call["fstype"] == name:
            return name, ",".join(options)
    for name in ("rbind", "bind"):
        if name in options and call["fstype"] in (None, "none"):
            options.remove(name)
            return name, ",".join(options)
    return call["fstype"], ",".join(options)


def request(call):
    """One call of mount(8), written as a command line."""
    kind, options = kind_of(call)
    words = [f"--{kind}"] if kind in ("bind", "rbind") else ["-t", kind] if kind else []
    if options:
        words += ["-o", options]
    words += [call["source"] or "", target_of(call["target"])]
    text = " ".join(shlex.quote(word) for word in words)
    return text if call["rc"] == 0 else f"{text} (failed)"


def is_remount(call):
    """Changes to a mount that is there already: part of how, not of what."""
    options = (call["options"] or "").split(",")
    return "remount" in options or any(flag.startswith("--make-") for flag in call["flags"])


def is_native(text):
    words = text.split(" ", 2)
    return words[0].lstrip("-") in NATIVE or words[:2] == ["-t", "tmpfs"]


def mounted(entry):
    """A real mount as the kernel shows it."""
    target = target_of(entry["target"])
    seen = entry.get("propagation", "")
    tail = f" ({seen})" if seen else ""
    if "bind_of" in entry:
        return f"{target} is {entry['bind_of']} {entry['mount_options']}{tail}"
    options = f"{entry['mount_options']} {entry['super_options']}"
    return f"{target} is {entry['fstype']} of {entry['source']} {options}{tail}"


def stands_for(entry, call):
    """Whether a mount is the harmless one that the recorder put there for a call."""
    same_source = entry["fstype"] == "tmpfs" and entry["source"] == call["source"]
    return same_source or target_of(entry["target"]) == target_of(call["target"])


def shortened(value):
    """Very long texts by length and sum: two of them are equal or not, nobody reads them."""
    if isinstance(value, list):
        return [shortened(item) for item in value]
    if not isinstance(value, str) or len(value) <= 1000:
        return value
    digest = hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return f"{value[:60]}... {len(value)} characters, sha256 {digest}"


def trigger(entry, with_options):
    words = entry["super_options"].split(",")
    kind = next((word for word in KINDS if word in words), "?")
    text = f"{kind} {target_of(entry['target'])}"
    if with_options:
        rest = [word for word in words if word not in (*KINDS, "rw") and word != "timeout=0"]
        text = " ".join([text, *sorted(rest)])
    return text


def label(step):
    text = step["step"]
    for name in ("path", "signal", "then"):
        if name in step:
            text += f" {step[name]}"
    if "argv" in step:
        text += " " + " ".join(step["argv"])
    return text


def outcome(step, spec):
    compare = spec.get("compare", [])
    out = {"step": label(step)}
    out.update({name: step[name] for name in SEEN if step.get(name) not in (None, [])})
    if len(set(out.get("statuses", []))) == 1:
        out["statuses"] = f"all {len(step['statuses'])} {step['statuses'][0]}"
    calls = [call for call in step.get("mounts", []) if not is_remount(call)]
    faked = [call for call in calls if call["how"] in ("tmpfs", "export")]
    added = step.get("added", [])
    parts = {
        "mounts": sorted(request(call) for call in calls),
        "real": sorted(
            mounted(entry) for entry in added
            if entry["fstype"] != "autofs" and not any(stands_for(entry, call) for call in faked)
        ),
        "autofs": sorted(
            trigger(entry, "autofs-options" in compare)
            for entry in added if entry["fstype"] == "autofs"
        ),
        "gone": sorted(target_of(entry["target"]) for entry in step.get("removed", [])),
    }
    out.update({name: value for name, value in parts.items() if value})
    if "daemon" in step:
        out["daemon"] = re.sub(r"^gone, exit status ", "gone ", step["daemon"])
    return {name: shortened(value) for name, value in out.items()}


def outcomes(steps, spec):
    return [outcome(step, spec) for step in steps]


def natively(outs):
    """The same without how local file systems were asked for: what the kernel shows remains."""
    kept = []
    for out in outs:
        out = dict(out)
        if "mounts" in out:
            out["mounts"] = [text for text in out["mounts"] if not is_native(text)]
            if not out["mounts"]:
                del out["mounts"]
        kept.append(out)
    return kept


def differences(theirs, ours):
    """[(step number, step, {part: (theirs, ours)})] wherever two runs of one case differ."""
    found = []
    for number in range(max(len(theirs), len(ours))):
        left = theirs[number] if number < len(theirs) else {}
        right = ours[number] if number < len(ours) else {}
        parts = {
            name: (left.get(name), right.get(name))
            for name in sorted(left.keys() | right.keys())
            if left.get(name) != right.get(name)
        }
        if parts:
            found.append((number, (left or right)["step"], parts))
    return found
