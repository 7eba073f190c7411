#!/usr/bin/env python3
"""The differential tier: the same maps through live autofs and through Piton.

    differential.py                        all cases, live, against target/release/piton
    differential.py 'line-*' program-env   some
    differential.py --recorded             against what is recorded, without running autofs
    differential.py --against autofs       autofs against itself: is the tier steady?
    differential.py --propose              print stanzas for differences not yet explained

Every case is run through both automounters in a sandbox of its own, and what each step made
of the world is compared (outcome.py says what counts).  Piton is run twice where it matters:
with --mount-program, so that its decisions are seen word for word, and without, so that what
its own mounts look like to the kernel is compared with mount(8)'s.

A difference is right only when expected-differences.toml lists it, with what Piton does
instead and the entry of docs/dialects.md that gives the reason; one that is listed and does
not occur is an error as well.  A case that comes out wrong in either way is looked at again
when all are done, by itself and twice at most: autofs does not always do the same.

Exit status: 0 all equal or explained, 1 not so, 2 could not look.
"""

import argparse
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import time
import traceback

if sys.version_info < (3, 11):
    print("differential: needs Python 3.11 or later", file=sys.stderr)
    sys.exit(2)

import tomllib

import oracle
import outcome
import sandbox
import saved as cases

ROOT = os.path.dirname(cases.HERE)
EXPECTED = f"{cases.HERE}/expected-differences.toml"
DIALECTS = f"{ROOT}/docs/dialects.md"
# What `piton daemon` is told: every mount through the recorder, or everything by itself.
DAEMON = "{bin}/piton daemon --foreground --mount-program /usr/bin/mount {args} {master}"
NATIVE = "{bin}/piton daemon --foreground {args} {master}"
# So many cases that come out wrong are looked at again, and so often; when there are more it is no
# accident.  (When its master map vanishes, autofs ends in 39 of 40 times, and stays in one.)
SECOND_LOOKS = 25
MORE_LOOKS = 2
# What a case may need that Piton does not have yet: such cases are counted, not run.
LATER: dict[str, str] = {}


class CannotLook(Exception):
    """Something the tier needs is not on this machine."""


# -- what the machine must have ----------------------------------------------------------


def look_around(live):
    """Say the version of autofs; raise CannotLook when the tier cannot be run here."""
    if os.geteuid() != 0:
        raise CannotLook("must be run as root: it makes namespaces and mounts in them")
    for program in ("ip", "nsenter", "mount", "umount"):
        if not shutil.which(program):
            raise CannotLook(f"no {program} here: apt-get install iproute2 util-linux")
    if live and not shutil.which("automount"):
        raise CannotLook("no automount here: apt-get install autofs (or compare with --recorded)")
    if not os.path.exists("/dev/autofs"):
        subprocess.run(["modprobe", "autofs4"], capture_output=True)
    if not os.path.exists("/dev/autofs"):
        raise CannotLook("no /dev/autofs: this kernel has no autofs (CONFIG_AUTOFS_FS)")
    try:
        sandbox.run(trial)
    except (OSError, RuntimeError) as error:
        raise CannotLook(f"cannot make a sandbox (overlayfs, tmpfs, veth, namespaces): {error}")
    if not live:
        return "as recorded"
    said = subprocess.run(["automount", "-V"], capture_output=True, text=True).stdout
    found = re.search(r"version (\S+)", said)
    return found.group(1) if found else "of unknown version"


def trial():
    sandbox.enter_new_root()
    sandbox.start_network(lambda: None)
    return b"ok"


# -- what may differ ---------------------------------------------------------------------


class Expected:
    """expected-differences.toml: what may differ, what Piton does instead, and why."""

    def __init__(self, path=EXPECTED, dialects=DIALECTS):
        with open(path, "rb") as stream:
            data = tomllib.load(stream)
        self.used, self.wrong = set(), []
        self.entries = {}
        for entry in data.get("difference", []):
            for step, piton in entry["steps"].items():
                key = (entry["case"], step)
                if key in self.entries:
                    self.wrong.append(f"{entry['case']}, {step}: listed twice")
                self.entries[key] = (entry["why"], piton)
        self.errnos = {rule["autofs"]: rule for rule in data.get("errno", [])}
        text = ""
        if os.path.exists(dialects):
            with open(dialects, encoding="utf-8") as stream:
                text = stream.read()
        reasons = {entry["why"] for entry in data.get("difference", []) + data.get("errno", [])}
        for why in sorted(reasons):
            if not re.search(rf"\b{re.escape(why)}\b", text):
                self.wrong.append(f"docs/dialects.md has no entry {why}")

    def explains(self, name, step, parts, native=False):
        """The id of the entry that explains exactly this difference, or None."""
        entry = self.entries.get((name, step))
        if entry is not None:
            why, listed = entry
            if native:
                # Natively some parts are not compared, or not in full.
                inner = outcome.natively([listed])[0]
                listed = {part: inner.get(part, "") for part in parts if part in listed}
            if set(listed) == set(parts) and all(
                same(listed[part], ours) for part, (_, ours) in parts.items()
            ):
                if not native:
                    self.used.add((name, step))
                return why
            return None
        if set(parts) == {"status"}:
            theirs, ours = parts["status"]
            rule = self.errnos.get(theirs)
            if rule and ours in rule["piton"]:
                self.used.add(("errno", theirs))
                return rule["why"]
        return None

    def stale(self, names):
        """Differences that are listed for cases that were run, and did not occur."""
        return [
            f"{case}, step \"{step}\": listed in expected-differences.toml, but does not occur"
            for case, step in sorted(self.entries)
            if case in names and (case, step) not in self.used
        ]


def same(listed, ours):
    # TOML has no null: an absent part is written as an empty string.
    return listed == ours or (listed == "" and ours is None)


def numbered(differences):
    """Steps that are called the same get #2, #3, ... so that each can be listed by name."""
    return [(f"{step} [{number}]", parts) for number, step, parts in differences]


def stanza(name, differences, why="?"):
    """The lines that would allow these differences of one case."""
    text = f"[[difference]]\ncase = {written(name)}\nwhy = {written(why)}\n[difference.steps]\n"
    for step, parts in differences:
        ours = ", ".join(f"{part} = {written(right)}" for part, (_, right) in parts.items())
        text += f"{written(step)} = {{ {ours} }}\n"
    return text


def written(item):
    """A value in TOML, whose strings and arrays are JSON's."""
    return json.dumps("" if item is None else item, ensure_ascii=True)


# -- one case ------------------------------------------------------------------------------


class Result:
    def __init__(self, name):
        self.name = name
        self.found = []  # (step, parts)
        self.native = None  # the same for the run without --mount-program
        self.trouble = None
        self.log = {}  # step number -> the daemon's log


def run_case(saved, options):
    result = Result(saved["name"])
    try:
        if options.recorded:
            theirs = saved["autofs"]
        else:
            theirs, _ = cases.run(saved, oracle.AUTOMOUNT)
        ours, steps = cases.run(saved, options.daemon, options.bring)
        result.found = numbered(outcome.differences(theirs, ours))
        result.log = {number: step.get("log", [])[-15:] for number, step in enumerate(steps)}
        if saved.get("native") and options.native:
            ours, _ = cases.run(saved, options.native, options.bring)
            result.native = numbered(outcome.differences(
                outcome.natively(theirs), outcome.natively(ours)
            ))
    except cases.Trouble as trouble:
        result.trouble = str(trouble)
    except Exception:
        result.trouble = f"{saved['name']}: {traceback.format_exc()}"
    return result


class Judge:
    """Sorts results into equal, explained and wrong."""

    def __init__(self, expected, options):
        self.expected, self.options = expected, options
        self.equal, self.explained, self.wrong, self.reasons = [], [], [], set()
        self.natives = 0

    def verdict(self, result):
        """(the reasons that explain it, what remains unexplained)."""
        reasons, remaining = set(), []
        for native, found in ((False, result.found), (True, result.native or [])):
            for step, parts in found:
                why = self.expected.explains(result.name, step, parts, native)
                if why:
                    reasons.add(why)
                else:
                    remaining.append((f"{step} natively" if native else step, parts))
        return reasons, remaining

    def doubts(self, result):
        """Whether it is not what is expected: something differs, or what should differ does not."""
        remaining = self.verdict(result)[1]
        return bool(result.trouble or remaining or self.stale({result.name}))

    def stale(self, names):
        return self.expected.stale(names) if self.options.against == "piton" else []

    def file(self, result):
        reasons, remaining = self.verdict(result)
        self.natives += result.native is not None
        if result.trouble or remaining:
            self.wrong.append(result)
            self.show(result, remaining)
        elif reasons:
            self.explained.append(result)
            self.reasons |= reasons
        else:
            self.equal.append(result)

    def show(self, result, remaining):
        if result.trouble:
            print(f"{result.trouble}\n", flush=True)
            return
        if self.options.propose:
            asked = [pair for pair in remaining if not pair[0].endswith("natively")]
            if asked:
                print(stanza(result.name, asked), flush=True)
            for step, parts in remaining[len(asked):]:
                print(f"# {result.name}, {step}: {json.dumps(parts)}", flush=True)
            return
        print(f"{result.name}: not as autofs", flush=True)
        for step, parts in remaining:
            print(f"  {step}")
            for part, (theirs, ours) in parts.items():
                print(f"    {part}\n      autofs {json.dumps(theirs)}\n      piton  {json.dumps(ours)}")
            number = int(re.search(r"\[(\d+)\](?: natively)?$", step).group(1))
            for line in result.log.get(number, []):
                print(f"      | {line[:200]}")
        print(flush=True)


def run_all(everything, options, judge):
    """Run the cases; what is not right at once is looked at again, quietly."""
    again = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(lambda saved: run_case(saved, options), everything):
            if judge.doubts(result):
                again.append(result)
            else:
                judge.file(result)
    unsteady = []
    if len(again) > SECOND_LOOKS:
        for result in again:
            judge.file(result)
        return unsteady
    by_name = {saved["name"]: saved for saved in everything}
    for first in again:
        for _ in range(MORE_LOOKS):
            result = run_case(by_name[first.name], options)
            if not judge.doubts(result):
                unsteady.append(first.name)
                break
        judge.file(result)
    return unsteady


# -- the command line ----------------------------------------------------------------------


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--binary", default=f"{ROOT}/target/release/piton", metavar="PITON")
    parser.add_argument("--daemon", default=DAEMON, help=f"command line, default: {DAEMON}")
    parser.add_argument("--native", default=NATIVE, help="the same without --mount-program")
    parser.add_argument("--no-native", dest="native", action="store_const", const=None)
    parser.add_argument("--against", choices=["piton", "autofs"], default="piton")
    parser.add_argument("--recorded", action="store_true", help="do not run autofs")
    parser.add_argument("--live", action="store_false", dest="recorded", help="run autofs (default)")
    parser.add_argument("--quick", action="store_true", help="leave out the slow cases")
    parser.add_argument("--all", action="store_true", help="run what needs a later landing, too")
    parser.add_argument("--propose", action="store_true", help="print stanzas to explain")
    parser.add_argument("--jobs", type=int, default=4 * (os.cpu_count() or 1))
    parser.add_argument("cases", nargs="*", help="names, patterns or files of cases")
    options = parser.parse_args()
    if options.against == "autofs":
        options.daemon, options.native, options.bring = oracle.AUTOMOUNT, None, ()
    else:
        options.bring = (options.binary,)
    return options


def choose(everything, options):
    """(cases to run, {need: how many were left out})."""
    chosen, left_out = [], {}
    for saved in everything:
        later = [need for need in saved.get("needs", []) if need in LATER]
        if later and not options.all and options.against == "piton":
            left_out[later[0]] = left_out.get(later[0], 0) + 1
        elif saved.get("slow") and options.quick:
            left_out["slow"] = left_out.get("slow", 0) + 1
        else:
            chosen.append(saved)
    # The long ones first, so that they do not hold up the end.
    return sorted(chosen, key=lambda saved: not saved.get("slow")), left_out


def main():
    options = arguments()
    started = time.monotonic()
    try:
        version = look_around(not options.recorded)
        if options.bring and not os.access(options.binary, os.X_OK):
            raise CannotLook(f"no {options.binary}: cargo build --release, or name it with --binary")
    except CannotLook as reason:
        print(f"differential: cannot look: {reason}", file=sys.stderr)
        return 2
    everything, left_out = choose(cases.load_all(options.cases), options)
    expected = Expected()
    judge = Judge(expected, options)
    unsteady = run_all(everything, options, judge)
    faults = expected.wrong + judge.stale({saved["name"] for saved in everything})
    for fault in faults:
        print(fault)
    if unsteady:
        print(f"needed another look: {', '.join(unsteady)}")
    print(summary(judge, everything, left_out, len(faults), version, time.monotonic() - started))
    return 1 if judge.wrong or faults else 0


def summary(judge, everything, left_out, faults, version, seconds):
    text = (
        f"differential: {len(everything)} cases: {len(judge.equal)} equal, "
        f"{len(judge.explained)} explained ({len(judge.reasons)} entries of docs/dialects.md), "
        f"{len(judge.wrong)} unexplained; {judge.natives} of them also natively; "
    )
    if faults:
        text += f"{faults} faults in expected-differences.toml; "
    if left_out:
        words = ", ".join(f"{count} {need}" for need, count in sorted(left_out.items()))
        text += f"left out: {words}; "
    return text + f"autofs {version}; {seconds:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
