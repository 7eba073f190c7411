"""What the daemon costs, sampled, and whether it grows."""

import os
import statistics
import time

# Growth that is no leak: a pool's further thread, an allocator's further page.
ALLOWED = {"rss_kib": 1024, "fds": 3, "threads": 8, "processes": 1, "mounts": 0}

# Samples that are needed to tell; half of them are the warm-up.
LEAST = 8


def parents():
    """Every process with its parent."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                rest = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        found[int(pid)] = (int(rest[1]), rest[0])
    return found


def family(top):
    """A process and its descendants that live."""
    known = parents()
    found, more = [], {top} & set(known)
    while more:
        found += sorted(more)
        more = {pid for pid, (parent, _) in known.items() if parent in more and pid not in found}
    return [pid for pid in found if known[pid][1] != "Z"]


def status(pid, field):
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def count(folder):
    try:
        return len(os.listdir(folder))
    except OSError:
        return 0


def mounts(root, real=False):
    """Mount points below a path; `real`: without triggers."""
    found = []
    with open("/proc/self/mountinfo", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            path = left.split()[4]
            if path.startswith(root + "/") and not (real and right.startswith("autofs ")):
                found.append(path)
    return found


def sample(pid, root, triggers, children_only=False):
    """One look at a process, its descendants, and the mounts beyond the triggers there must be."""
    children = [child for child, (parent, _) in parents().items() if parent == pid]
    return {
        "at": time.monotonic(),
        "rss_kib": status(pid, "RssAnon"),
        "fds": count(f"/proc/{pid}/fd"),
        "threads": count(f"/proc/{pid}/task"),
        "processes": len(children) if children_only else len(family(pid)),
        "mounts": len(mounts(root)) - triggers,
    }


def growth(samples, what):
    """How much a value grew over the samples: the median slope of all pairs, times the time.

    One sample that is off, in whatever direction, does not move it.
    """
    slopes = [(two[what] - one[what]) / (two["at"] - one["at"])
              for number, one in enumerate(samples) for two in samples[number + 1:]
              if two["at"] > one["at"]]
    if not slopes:
        return 0.0
    return statistics.median(slopes) * (samples[-1]["at"] - samples[0]["at"])


def verdict(samples, name):
    """Sentences about what grew after the warm-up, the first half.

    What is bounded is reached by and by: the deepest stack of each thread, the longest
    path in each place of the ring of requests.
    """
    after = samples[len(samples) // 2:]
    if len(after) < LEAST // 2:
        return [f"{name}: only {len(samples)} samples, too few to tell"]
    said = []
    for what, allowed in ALLOWED.items():
        grew = growth(after, what)
        base = statistics.median(one[what] for one in after)
        if grew > max(allowed, base * 0.05):
            first, last = after[0][what], after[-1][what]
            said.append(f"{name}: {what} grew by {grew:.0f}, from {first} to {last}")
    return said


def table(samples, name):
    """First after the warm-up, least, most, last."""
    after = samples[len(samples) // 2:]
    rows = []
    for what in ALLOWED:
        values = [one[what] for one in after]
        rows.append(f"{name:<8} {what:<10} first {values[0]:>7}  least {min(values):>7}  "
                    f"most {max(values):>7}  last {values[-1]:>7}  trend {growth(after, what):>+8.1f}")
    return "\n".join(rows)
