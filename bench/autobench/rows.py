"""The rows of docs/performance.md: what is measured, and what it shall be."""

import dataclasses

from .report import number, paired
from .stats import median, quantile


@dataclasses.dataclass
class Row:
    """One number.  Targets that are None are not set."""
    text: str
    scenario: str
    case: str
    metric: str
    floor: float = None         # at most so many times the floor's
    most: float = None          # at most so much, in the metric's unit
    autofs: float = None        # autofs's is at least so many times ours
    beside: float = None        # at most so many times autofs's
    per: tuple = None           # (metric, N): at most N times another metric
                                # of the same measurement
    against: tuple = None       # (case, N): at most N times our own in
                                # another case


@dataclasses.dataclass
class Part:
    title: str
    rows: list


PARTS = [
    Part("First access", [
        Row("bind, p50", "cold", "bind", "p50_us", floor=2.5, autofs=50),
        Row("tmpfs, p50", "cold", "tmpfs", "p50_us", floor=2.5, autofs=50),
        Row("wildcard, p50", "cold", "wildcard", "p50_us", floor=2.5,
            autofs=50),
        Row("bind, 10,000 other mounts, p50", "crowd", "10000 mounts",
            "p50_us", floor=2.5),
        Row("one of 10,000 direct, p50", "direct", "10000 direct", "p50_us",
            floor=2.5),
        Row("512 keys, 64 threads, total", "parallel", "64 threads",
            "total_ms", floor=3),
        Row("512 keys, 64 threads, p99", "parallel", "64 threads", "p99_us",
            floor=3),
        Row("executable map, p50", "cold", "program", "p50_us", floor=1.5),
        Row("ext4 image, p50", "cold", "ext4", "p50_us", floor=1.5),
        Row("squashfs image, p50", "cold", "squashfs", "p50_us", floor=1.5),
        Row("absent keys, each another, p50", "negative", "distinct",
            "p50_us", floor=2),
        Row("absent key, again and again, p50", "negative", "same key",
            "p50_us", floor=2),
        Row("entry of 100 offsets, an offset, p99", "multimount",
            "100 offsets", "offset_p99_us", floor=3),
        Row("frozen view of a btrfs subvolume, p50", "snapshot", "btrfs",
            "p50_us", per=("bare_p50_us", 1.5))]),
    Part("Start, stop and memory", [
        *[Row(f"{n:,} direct triggers, {what}", "startup", f"{n} direct",
              metric, floor=1.2 if n > 1000 else None)
          for n in (100, 1000, 10000, 50000)
          for what, metric in (("start", "ready_s"), ("stop", "shutdown_s"))],
        Row("10,000 direct triggers, memory (RSS)", "startup", "10000 direct",
            "rss_kib"),
        Row("10,000 direct triggers, memory (PSS)", "startup", "10000 direct",
            "pss_kib"),
        Row("1,000 indirect maps, start", "indirects", "1000 maps", "ready_s",
            most=0.3),
        Row("1,000 indirect maps, memory (RSS)", "indirects", "1000 maps",
            "rss_kib", most=15 * 1024),
        Row("1,000 indirect maps, memory (PSS)", "indirects", "1000 maps",
            "pss_kib", most=15 * 1024),
        Row("1,000 indirect maps, stop", "indirects", "1000 maps",
            "shutdown_s", most=1)]),
    Part("Large maps", [
        row for n in (10000, 100000, 1000000)
        for row in (
            Row(f"{n:,} lines, CPU until usable", "bigmap", f"{n} keys",
                "usable_cpu_s", per=("scan_s", 1.5) if n > 100000 else None),
            Row(f"{n:,} lines, memory (RSS)", "bigmap", f"{n} keys",
                "rss_kib", per=("file_kib", 1) if n > 100000 else None),
            Row(f"{n:,} lines, first look-up of the last key", "bigmap",
                f"{n} keys", "first_us"),
            Row(f"{n:,} lines, next look-ups, p50", "bigmap", f"{n} keys",
                "next_p50_us"),
            Row(f"{n:,} lines, one line changed: CPU", "bigmap", f"{n} keys",
                "changed_cpu_s", per=("scan_s", 1.5) if n > 100000 else None))
        ]),
    Part("Expiry, reload and idleness", [
        Row("1,000 mounts idle for 13 s, all gone after", "expiry",
            "1000 binds", "all_gone_s", most=25),
        Row("1,000 mounts idle, CPU for all", "expiry", "1000 binds", "cpu_s",
            floor=2),
        Row("10,000 mounts idle for 22 s, all gone after", "expiry",
            "10000 binds", "all_gone_s"),
        Row("10,000 mounts idle, CPU for all", "expiry", "10000 binds",
            "cpu_s"),
        Row("reload, 10,000 direct and one more: CPU", "reload",
            "10000 direct + 1", "cpu_ms", floor=3),
        Row("reload, 10,000 direct and one more: works after", "reload",
            "10000 direct + 1", "works_ms", most=200),
        Row("1,000 mounts not yet due, CPU in 30 s", "idle",
            "idle, 1000 mounts", "cpu_ms_per_30s", floor=2),
        Row("1,000 mounts not yet due, wake-ups a second", "idle",
            "idle, 1000 mounts", "wakeups_per_s", most=1),
        Row("1,000 mounts, memory (RSS)", "idle", "idle, 1000 mounts",
            "rss_kib", most=8 * 1024),
        Row("1,000 mounts, memory (PSS)", "idle", "idle, 1000 mounts",
            "pss_kib", most=8 * 1024),
        Row("1,000 mounts in use, CPU in 30 s", "idle", "busy, 1000 mounts",
            "cpu_ms_per_30s", floor=2)]),
    Part("When others fail", [
        *[Row(f"{case}: other keys, p99", "isolation", case, "other_map_p99_us",
              against=None if case == "nothing hangs" else
              ("nothing hangs", 1.5))
          for case in ("nothing hangs", "32 slow program keys",
                       "64 hung mount helpers", "64 hung bind sources")],
        Row("64 hung mount helpers: they themselves end after", "isolation",
            "64 hung mount helpers", "own_s", most=10.5),
        Row("64 hung bind sources: they themselves end after", "isolation",
            "64 hung bind sources", "own_s", most=10.5),
        Row("SIGKILL of the daemon: served again after", "revive",
            "200 keys, half of them mounted", "served_s", most=2),
        Row("SIGKILL of the daemon: accesses that failed", "revive",
            "200 keys, half of them mounted", "wrong_n", most=0),
        Row("SIGKILL of the daemon: mounts lost", "revive",
            "200 keys, half of them mounted", "lost_n", most=0)]),
]

# Measured in the virtual machine (vm/), by its tests, with records of their own.
NFS = Part("Real NFS", [
    *[Row(f"{case}, first access", "nfs", f"{case}, first access", "first_ms",
          beside=most)
      for case, most in (("NFS v4.2", 0.6), ("NFS v4.2, sec=sys", 0.6),
                         ("NFS v4.2, three replicas", 0.6),
                         ("NFS v3", None))],
    Row("one of two servers silent, first access", "nfs",
        "one of two servers silent", "first_s", most=1),
    Row("no server answers, first access fails after", "nfs",
        "no server answers", "first_s", most=10),
    Row("no server answers, the next access fails after", "nfs",
        "no server answers", "again_s", most=0.05)])


def rows():
    return [row for part in PARTS for row in part.rows]


def wanted(scenario, case):
    """The metrics of a case that some row needs."""
    found = set()
    for row in rows():
        if (row.scenario, row.case) == (scenario, case):
            found.add(row.metric)
            if row.per:
                found.add(row.per[0])
        if row.against and (row.scenario, row.against[0]) == (scenario, case):
            found.add(row.metric)
    return found


UNITS = {"us": "µs", "kib": "KiB", "n": ""}


def spread(values, unit):
    """median [lower quartile..upper quartile] unit"""
    good = [v for v in values if v is not None]
    if not values:
        return "–"
    if not good:
        return "never"
    if unit == "ms_per_30s":
        unit = "ms"
    text = number(median(good))
    low, high = number(quantile(good, 0.25)), number(quantile(good, 0.75))
    if low != high:
        text += f" [{low}..{high}]"
    return f"{text} {UNITS.get(unit, unit)}".strip()


def unit_of(metric):
    if metric.endswith("ms_per_30s"):
        return "ms"
    return "" if metric.endswith("_per_s") else metric.rpartition("_")[2]


def paired_all(a, b):
    """a/b of each repetition that both have."""
    return [a[r] / b[r] for r in a.keys() & b.keys()
            if a[r] is not None and b[r]]


class Figures:
    """The numbers of one run, looked up by row."""

    def __init__(self, records, ours="piton", autofs="autofs", floor="floor"):
        self.names = ours, autofs, floor
        self.cells = {}
        for r in records:
            for metric, value in r["metrics"].items():
                key = r["scenario"], r["case"], metric, r["daemon"]
                self.cells.setdefault(key, {})[r["rep"]] = value

    def of(self, row, daemon, metric=None, case=None):
        return self.cells.get((row.scenario, case or row.case,
                               metric or row.metric, daemon), {})

    def targets(self, row):
        """[(the target in words, whether it is reached)]; reached is None
        where it was not measured."""
        ours, autofs, floor = self.names
        mine, out = self.of(row, ours), []

        def judge(text, ratio, most):
            out.append((text, None if ratio is None else ratio <= most))

        if row.floor:
            judge(f"≤ {number(row.floor)} × floor",
                  paired(mine, self.of(row, floor)), row.floor)
        if row.autofs:
            ratio = paired(self.of(row, autofs), mine)
            out.append((f"{number(row.autofs)} × faster than autofs",
                        None if ratio is None else ratio >= row.autofs))
        if row.beside:
            judge(f"≤ {number(row.beside)} × autofs",
                  paired(mine, self.of(row, autofs)), row.beside)
        if row.per:
            metric, most = row.per
            what = {"scan_s": "one scan", "file_kib": "the file",
                "bare_p50_us": "the two calls"}[metric]
            times = "" if most == 1 else f"{number(most)} × "
            judge(f"≤ {times}{what}",
                  paired(mine, self.of(row, ours, metric)), most)
        if row.against:
            case, most = row.against
            judge(f"≤ {number(most)} × that when {case}",
                  paired(mine, self.of(row, ours, case=case)), most)
        if row.most is not None:
            good = [v for v in mine.values() if v is not None]
            unit = UNITS.get(unit_of(row.metric), unit_of(row.metric))
            ended = bool(good) and len(good) == len(mine)
            judge(f"≤ {number(row.most)} {unit}".strip(),
                  median(good) if ended else
                  (float("inf") if mine else None), row.most)
        return out

    def line(self, row):
        ours, autofs, floor = self.names
        unit = unit_of(row.metric)
        mine = self.of(row, ours)
        cells = [row.text, spread(list(mine.values()), unit)]
        for other in (autofs, floor):
            cells.append(spread(list(self.of(row, other).values()), unit))
        if row.per and not self.of(row, floor):
            # what stands in for the floor: a scan of the file, or its size
            against = self.of(row, ours, row.per[0])
            cells[-1] = spread(list(against.values()), unit)
        else:
            against = self.of(row, floor)
        cells.append(spread(paired_all(self.of(row, autofs), mine), "×"))
        cells.append(spread(paired_all(mine, against), "×"))
        cells += self.verdict(self.targets(row))
        return "| " + " | ".join(cells) + " |"

    def beside(self, part):
        """A part that has no floor."""
        ours, autofs, _ = self.names
        heads = ["", "Piton", "autofs", "autofs / Piton", "target", ""]
        lines = []
        for row in part.rows:
            mine, theirs = self.of(row, ours), self.of(row, autofs)
            unit, targets = unit_of(row.metric), self.targets(row)
            cells = [row.text, *(spread(list(x.values()), unit)
                                 for x in (mine, theirs)),
                     spread(paired_all(theirs, mine), "×"),
                     *self.verdict(targets)]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join([f"### {part.title}", "",
                          "| " + " | ".join(heads) + " |",
                          "|" + "---|" * len(heads), *lines]) + "\n"

    @staticmethod
    def verdict(targets):
        return ("; ".join(text for text, _ in targets) or "–",
                ", ".join("not measured" if ok is None else
                          "reached" if ok else "**missed**"
                          for _, ok in targets) or "–")

    def part(self, part):
        heads = ["", "Piton", "autofs", "floor", "autofs / Piton",
                 "Piton / floor", "target", ""]
        return "\n".join([f"### {part.title}", "",
                          "| " + " | ".join(heads) + " |",
                          "|" + "---|" * len(heads),
                          *map(self.line, part.rows)]) + "\n"

    def missed(self):
        return [row.text for row in rows() + NFS.rows
                if any(ok is False for _, ok in self.targets(row))]
