"""Saved cases: reading, running and writing them.

A saved case is a JSON file: the question it asks, the class and the verdict of what
autofs answers (see verdicts.md), the case itself (see README.md), and what autofs 5.1.8
made of each step, in the form of outcome.py.
"""

import glob
import json
import os
import subprocess
import sys
import tempfile

import outcome

HERE = os.path.dirname(os.path.abspath(__file__))
CLASSES = ("documented", "quirk", "bug", "crash", "security")
ORDER = ("name", "question", "class", "verdict", "needs", "slow", "native", "case", "autofs")
WIDTH = 110


class Trouble(Exception):
    """The sandbox, not the automounter, failed."""


def load(path):
    with open(path, encoding="utf-8") as stream:
        return json.load(stream)


def load_all(words=()):
    """The saved cases named by path or by a pattern of names; all of them by default."""
    paths = []
    for word in words or ["*"]:
        found = [word] if os.path.exists(word) else sorted(glob.glob(f"{HERE}/cases/{word}.json"))
        if not found:
            raise SystemExit(f"no such case: {word} (cases are in oracle/cases)")
        paths += found
    return [load(path) for path in dict.fromkeys(paths)]


def run(saved, daemon, bring=()):
    """Run one case in a process of its own; return (outcomes, raw steps)."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(saved["case"], file)
        file.flush()
        command = [sys.executable, f"{HERE}/oracle.py", "--daemon", daemon]
        for program in bring:
            command += ["--bring", program]
        done = subprocess.run([*command, file.name], capture_output=True, text=True)
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode != 0 or not steps:
        raise Trouble(f"{saved['name']}: {done.stderr.strip()[-2000:]}")
    return outcome.outcomes(steps, saved["case"]), steps


def one_line(value):
    """The value on one line, when JSON's own spacing is all it needs."""
    return json.dumps(value, ensure_ascii=True)


def pretty(value, indent=0):
    """JSON for people: what fits on a line stays on one, except the top of a structure."""
    flat = one_line(value)
    if not isinstance(value, (dict, list)) or (indent > 1 and len(flat) + 2 * indent <= WIDTH):
        return flat
    if not value:
        return flat
    pad = "  " * (indent + 1)
    if isinstance(value, dict):
        parts = [f"{pad}{one_line(key)}: {pretty(item, indent + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(parts) + "\n" + "  " * indent + "}"
    parts = [pad + pretty(item, indent + 1) for item in value]
    return "[\n" + ",\n".join(parts) + "\n" + "  " * indent + "]"


def save(saved, path=None):
    kept = {name: saved[name] for name in ORDER if name in saved}
    unknown = set(saved) - set(ORDER)
    if unknown:
        raise ValueError(f"{saved.get('name')}: unknown fields {sorted(unknown)}")
    with open(path or f"{HERE}/cases/{saved['name']}.json", "w", encoding="utf-8") as stream:
        stream.write(pretty(kept) + "\n")
