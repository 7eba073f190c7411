#!/usr/bin/env python3
"""Measure automounters; see README.md.

  bench.py run   [--daemon NAME=COMMAND ...] [--scenarios A,B] [--reps N]
  bench.py figures [--piton PROGRAM] [--reps N] [--out FILE]
  bench.py nfs RECORDS [--out FILE]
  bench.py page [FIGURES.json]
  bench.py micro [--out FILE]
  bench.py report RESULTS.json ... [--metrics REGEX]
"""

import argparse
import dataclasses
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from autobench import kernel, report, rows, stats                  # noqa: E402
from autobench.daemon import Spec                       # noqa: E402
from autobench.probe import Helpers                     # noqa: E402
import autobench.frozen                                   # noqa: E402,F401
from autobench.scenarios import SCENARIOS               # noqa: E402
from autobench.site import Workdir                      # noqa: E402

AUTOFS = "autofs=automount --pid-file {pidfile} -f -v {master}"


@dataclasses.dataclass
class Size:
    """How much of everything."""
    keys: int = 1000
    kinds: tuple = ("bind", "local", "tmpfs", "wildcard", "program", "ext4",
                    "squashfs")
    shutdown: tuple = (10, 100, 1000)
    program_keys: int = 300
    loops: int = 64
    crowds: tuple = (0, 1000, 10000)
    parallel_keys: int = 512
    missing: int = 10000
    direct: tuple = (100, 1000, 10000, 50000)
    direct_triggers: tuple = (100, 1000, 10000)
    indirects: tuple = (1000,)
    exports: tuple = (1000, 30000)
    big: tuple = (10000, 100000, 1000000)
    expiry: tuple = (1000, 10000)
    expiry_timeout: int = 12
    idle: int = 30
    idle_triggers: int = 10000
    offsets: tuple = (10, 100)
    reload: tuple = (1000, 10000)
    snapshots: int = 40
    revive: int = 200
    isolation: int = 500         # keys whose delay is measured
    hangs: tuple = ("nothing hangs", "32 slow program keys",
                    "64 hung mount helpers", "64 hung bind sources")


QUICK = Size(keys=100, shutdown=(10,), program_keys=20, loops=4,
             crowds=(0, 100), parallel_keys=256, missing=500,
             direct=(100, 1000), direct_triggers=(100,), big=(10000,),
             indirects=(100,), exports=(100,), expiry=(100,), expiry_timeout=4, idle=5,
             idle_triggers=1000, offsets=(10,), reload=(1000,))


class Bench:
    def __init__(self, work, helpers, size):
        self.work = work
        self.helpers = helpers
        self.size = size


def loops():
    """Numbers of the loop devices that exist."""
    return {int(n[4:]) for n in os.listdir("/dev")
            if n.startswith("loop") and n[4:].isdigit()}


def drop_loops(before):
    """Remove the unused loop devices that this run has made."""
    import fcntl
    fd = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    for number in sorted(loops() - before):
        try:
            fcntl.ioctl(fd, 0x4C81, number)     # LOOP_CTL_REMOVE
        except OSError:
            pass                                # in use
    os.close(fd)


def meta(args, size):
    with open("/proc/cpuinfo") as f:
        models = [line.partition(":")[2].strip() for line in f
                  if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    version = subprocess.run(["automount", "-V"], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, check=False,
                             text=True).stdout.split() \
        if shutil.which("automount") else []
    return {"kernel": platform.release(), "machine": platform.machine(),
            "processor": models[0] if models else "unknown",
            "memory_mib": memory >> 20,
            "autofs": next((w for w in version if w[0].isdigit()), "unknown"),
            "cpus": os.cpu_count(), "reps": args.reps,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "daemons": dict(d.partition("=")[::2] for d in args.daemon),
            "shared": args.shared, "nice": args.nice, "size": dataclasses.asdict(size)}


def cmd_run(args):
    if os.geteuid():
        sys.exit("bench.py run needs root: it mounts file systems")
    names = args.scenarios.split(",") if args.scenarios else list(SCENARIOS)
    unknown = set(names) - set(SCENARIOS)
    if unknown:
        sys.exit(f"no such scenario: {', '.join(sorted(unknown))}; there are "
                 f"{', '.join(SCENARIOS)}")
    args.daemon = args.daemon or [AUTOFS]
    specs = [Spec.parse(d) for d in args.daemon]
    for text in args.only:
        name, _, scens = text.partition(":")
        for spec in specs:
            if spec.name == name:
                spec.only = set(scens.split(","))
    size = QUICK if args.quick else Size()
    for text in args.size:
        name, _, value = text.partition("=")
        old = getattr(size, name)
        setattr(size, name, int(value) if isinstance(old, int) else
                tuple(type(old[0])(v) for v in value.split(",")))
    result, failed = measure(args, specs, names, size)
    if not args.silent:
        print(report.table(result["records"], args.metrics))
        print(report.orders(result["records"]))
    return 1 if failed else 0


def enter(args):
    """Into a mount namespace of our own."""
    helpers = Helpers(args.build)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))   # and so clean up
    os.nice(args.nice)
    kernel.private_namespace(args.shared)
    return helpers


def measure(args, specs, names, size):
    """Run the scenarios; (results, failures)."""
    helpers = enter(args)
    had = loops()
    work = Workdir()
    result = {"meta": meta(args, size), "records": []}
    try:
        failed = rounds(Bench(work, helpers, size), specs, names, args, result)
    finally:
        work.close()
        drop_loops(had)
    return result, failed


def rounds(bench, specs, names, args, result):
    failed = 0
    for name in names:
        for rep in range(args.reps):
            # A B, B A, A B: what drifts meets all of them alike
            order = [x for x in (specs if rep % 2 == 0 else specs[::-1])
                     if x.only is None or name in x.only]
            # what takes autofs minutes it does once
            order = [x for x in order if not rep or x.name != "autofs" or
                     name not in DEAR]
            failed += run_round(bench, order, name, rep, result, args.settle)
            if not hasattr(args, "piton"):
                save(args.out, result)
    return failed


# Scenarios of the figures, with the sizes of those that are dear: they are
# repeated less often, and autofs is spared what takes it many minutes.
FIGURES = ["cold", "crowd", "direct", "parallel", "negative", "multimount",
           "startup", "indirects", "bigmap", "reload", "expiry", "idle",
           "isolation", "revive", "snapshot"]
DEAR = ["bigmap", "expiry", "idle", "isolation", "indirects"]


def figure_size(args):
    if args.smoke:
        return Size(keys=20, kinds=FIGURE_KINDS, program_keys=5, loops=2,
                    crowds=(20,), parallel_keys=64, missing=20, direct=(50,),
                    direct_triggers=(50,), indirects=(10,), big=(1000,),
                    expiry=(20,), expiry_timeout=2, idle=1, idle_triggers=50,
                    offsets=(5,), reload=(50,), revive=20, isolation=50,
                    snapshots=3,
                    hangs=("nothing hangs", "64 hung bind sources"))
    return Size(kinds=FIGURE_KINDS, crowds=(10000,), direct_triggers=(10000,),
                offsets=(100,), reload=(10000,), idle=args.idle)


FIGURE_KINDS = ("bind", "tmpfs", "wildcard", "program", "ext4", "squashfs")


def cmd_figures(args):
    """The numbers of docs/performance.md, all from one run."""
    if os.geteuid():
        sys.exit("bench.py figures needs root: it mounts file systems")
    args.daemon = [f"piton={args.piton} daemon --foreground {{master}}", AUTOFS,
                   f"floor={args.build}/floor {{master}}"]
    specs = [Spec.parse(d) for d in args.daemon]
    specs[1].only = set(FIGURES) - {"snapshot"}
    specs[2].only = specs[1].only - {"bigmap", "isolation", "revive"}
    if args.without_autofs:
        del specs[1]
    names = args.scenarios.split(",") if args.scenarios else FIGURES
    args.shared = False
    size = figure_size(args)
    # the dear ones first with few repetitions, then the others
    reps, records, errors, result = args.reps, [], [], {}
    failed = 0
    helpers = enter(args)
    had = loops()
    work = Workdir()
    try:
        for name in names:
            args.reps = min(reps, args.dear_reps) if name in DEAR else reps
            result = {"meta": meta(args, size), "records": [], "errors": []}
            failed += rounds(Bench(work, helpers, size), specs, [name], args,
                             result)
            records += result["records"]
            errors += result["errors"]
            save(args.out, figures_json(result["meta"], records, args.smoke))
    finally:
        work.close()
        drop_loops(had)
    figures = rows.Figures(records)
    for part in rows.PARTS:
        print(figures.part(part))
    for r in records:
        for metric in ("failed_n", "left_n"):
            if r["metrics"].get(metric) and r["daemon"] == "piton":
                failed += 1
                print(f"{r['daemon']}: {metric} = {r['metrics'][metric]} in "
                      f"{r['scenario']}/{r['case']}", file=sys.stderr)
    if args.smoke:
        failed += smoke_gaps(records)
    return 1 if failed else 0


def figures_json(about, records, everything):
    """What goes into the tree: the metrics that the page shows."""
    kept = []
    for r in records:
        need = rows.wanted(r["scenario"], r["case"])
        metrics = {k: v if v is None else float(f"{v:.5g}")
                   for k, v in r["metrics"].items() if everything or k in need}
        if metrics:
            kept.append({**r, "metrics": metrics})
    about = {k: about[k] for k in ("kernel", "machine", "processor", "cpus",
                                   "memory_mib", "time", "autofs")}
    return {"meta": about, "records": kept}


def smoke_gaps(records):
    """Rows for which a run of small sizes has no number of ours."""
    have = {(r["scenario"], metric) for r in records if r["daemon"] == "piton"
            for metric in r["metrics"]}
    gaps = [row.text for row in rows.rows()
            if (row.scenario, row.metric) not in have]
    for text in gaps:
        print(f"no number for: {text}", file=sys.stderr)
    total = len(rows.rows())
    print(f"rows {total - len(gaps)} of {total}")
    return len(gaps)


def cmd_nfs(args):
    """The numbers of real NFS, from what the tests in the virtual machine
    have written down (`cargo xtask vm-test --out FOLDER`)."""
    with open(args.records) as f:
        records = [json.loads(line) for line in f]
    for r in records:
        guest = r.pop("kernel")
        r["metrics"] = {k: float(f"{v:.5g}") for k, v in r["metrics"].items()}
    args.reps, args.daemon, args.shared, args.nice = 0, [], False, 0
    about = meta(args, Size())
    save(args.out, {"meta": {"guest": guest, **{
        k: about[k] for k in ("processor", "cpus", "time")}},
        "records": records})
    print(rows.Figures(records).beside(rows.NFS))
    return 0


def cmd_page(args):
    """Write docs/performance.md from the figures and the text around them."""
    parts = []
    for name in args.figures or [f"{HERE}/figures.json"]:
        with open(name) as f:
            parts.append(json.load(f))
    data = {"meta": parts[0]["meta"],
            "records": [r for part in parts for r in part["records"]]}
    with open(f"{HERE}/page.md") as f:
        text = f.read()
    about = data["meta"]
    with open(f"{HERE}/nfs.json") as f:
        nfs = json.load(f)
    figures = rows.Figures(data["records"] + nfs["records"])
    others = [r["others_cpu"] for r in data["records"]]
    values = {
        "kernel": about["kernel"], "machine": about["machine"],
        "processor": about["processor"], "cpus": about["cpus"],
        "memory": round(about["memory_mib"] / 1024),
        "date": about["time"][:10], "autofs": about["autofs"],
        "others": f"{report.number(stats.quantile(others, 0.25))} to "
        f"{report.number(stats.quantile(others, 0.75))}",
        "tables": "\n".join(figures.part(part) for part in rows.PARTS),
        "guest": nfs["meta"]["guest"], "guest_date": nfs["meta"]["time"][:10],
        "nfs": figures.beside(rows.NFS),
        "missed": "".join(f"- {text}\n" for text in figures.missed())
        or "None.\n"}
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    with open(args.out, "w") as f:
        f.write(text)
    return 0


def run_round(bench, specs, name, rep, result, patience):
    """One repetition of a scenario; the daemons take turns case by case.

    A failure ends the scenario for that daemon only.
    """
    running = [(spec, SCENARIOS[name](bench, spec)) for spec in specs]
    failed = 0
    while running:
        settle(patience)
        for spec, cases in list(running):
            began, case, error = time.monotonic(), "", None
            noise, mounts = Noise(), kernel.count_mounts()
            try:
                case, metrics = next(cases)
                if not mounts_are_back(mounts):
                    raise RuntimeError("the scenario has left mounts behind")
                result["records"].append(
                    {"scenario": name, "case": case, "daemon": spec.name,
                     "rep": rep, **noise.seen(), "metrics": metrics})
            except StopIteration:
                running.remove((spec, cases))
                continue
            except Exception as exc:                    # noqa: BLE001
                running.remove((spec, cases))
                error = f"{type(exc).__name__}: {exc}"
                traceback.print_exc()
                failed += 1
                result.setdefault("errors", []).append(
                    {"scenario": name, "daemon": spec.name, "rep": rep,
                     "error": error})
            print(f"{time.strftime('%H:%M:%S')} {name}/{case} {spec.name} "
                  f"rep {rep}: {error or 'ok'} "
                  f"({time.monotonic() - began:.1f} s)",
                  file=sys.stderr, flush=True)
    return failed


def mounts_are_back(before, patience=5.0):
    """What was detached while in use goes with its last user, a little later."""
    end = time.monotonic() + patience
    while kernel.count_mounts() != before:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def settle(patience, busy=0.2):
    """Wait until the machine is idle, but not for ever."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        before = kernel.machine_cpu()[0]
        time.sleep(0.5)
        if kernel.machine_cpu()[0] - before < busy * 0.5:
            return


class Noise:
    """How many CPUs others have kept busy meanwhile, and how many were
    stolen; the kernel's own threads count as others."""

    def __init__(self):
        self.before = time.monotonic(), kernel.machine_cpu(), self.ours()

    @staticmethod
    def ours():
        return sum(os.times()[:4])

    def seen(self):
        at, (busy, stolen), ours = self.before
        took = max(time.monotonic() - at, 1e-9)
        busy2, stolen2 = kernel.machine_cpu()
        others = busy2 - busy - (self.ours() - ours)
        return {"others_cpu": round(max(0, others) / took, 3),
                "stolen_cpu": round((stolen2 - stolen) / took, 3)}


def save(path, result):
    if path:
        with open(f"{path}.tmp", "w") as f:
            json.dump(result, f, indent=1)
        os.replace(f"{path}.tmp", path)


MICRO = ([["direct", "-n", n, "-a", api] for n in ("100", "1000", "10000",
                                                   "50000")
          for api in ("old", "new")] +
         [[what, "-n", n, "-a", api] for what in ("bind", "tmpfs")
          for n in ("1000", "10000") for api in ("old", "new")] +
         [["bindsib", "-n", n] for n in ("1000", "10000")] +
         [["table", "-n", n] for n in ("100", "1000", "10000")] +
         [["spawn", "-n", "100", "-m", m] for m in ("0", "20", "200", "800")])


def cmd_micro(args):
    """The costs of the system calls, without any daemon."""
    helpers = Helpers(args.build)
    rows = []
    for rep in range(args.reps):
        for argv in MICRO:
            out = subprocess.run([f"{helpers.build}/micro", *argv],
                                 stdout=subprocess.PIPE, check=True).stdout
            rows.append(json.loads(out) | {"rep": rep})
            print(out.decode(), end="", flush=True)
        for n in (10000, 100000, 1000000):
            name = f"{args.build}/map.tmp"
            with open(name, "w") as f:
                f.writelines(f"k{i:06d} -fstype=bind :/srv/export/k{i:06d}\n"
                             for i in range(n))
            out = subprocess.run([f"{helpers.build}/micro", "map", name],
                                 stdout=subprocess.PIPE, check=True).stdout
            os.unlink(name)
            rows.append(json.loads(out) | {"rep": rep})
            print(out.decode(), end="", flush=True)
    save(args.out, {"micro": rows})
    return 0


def cmd_report(args):
    records = []
    for i, name in enumerate(args.results):
        with open(name) as f:
            for r in json.load(f)["records"]:
                if r["others_cpu"] <= args.max_others:
                    records.append(r | {"rep": (i, r["rep"])})
    print(report.table(records, args.metrics))
    print(report.orders(records))
    return 0


def main():
    top = argparse.ArgumentParser(
        description="Measure automounters; see README.md.")
    sub = top.add_subparsers(dest="cmd", required=True)
    p = sub.add_parser("run", help="run scenarios")
    p.add_argument("--daemon", action="append", default=[],
                   metavar="NAME=COMMAND", help="{master}, {pidfile} and "
                   "{dir} are filled in; the first is the base of the ratios; "
                   f"default: {AUTOFS}")
    p.add_argument("--only", action="append", default=[], metavar="NAME:A,B",
                   help="the daemon NAME takes part in scenarios A and B only")
    p.add_argument("--scenarios", metavar="A,B", help=", ".join(SCENARIOS))
    p.add_argument("--reps", type=int, default=3)
    p.add_argument("--quick", action="store_true", help="small sizes")
    p.add_argument("--size", action="append", default=[], metavar="NAME=N,..",
                   help="change one size: "
                   + ", ".join(f.name for f in dataclasses.fields(Size)))
    p.add_argument("--shared", action="store_true",
                   help="shared propagation, as under systemd")
    p.add_argument("--nice", type=int, default=0, metavar="N",
                   help="run all at this niceness; -10 helps on a busy machine")
    p.add_argument("--settle", type=float, default=0, metavar="S",
                   help="before each case, wait at most S seconds for the "
                   "rest of the machine to be idle")
    p.add_argument("--out", metavar="FILE", help="write the JSON here")
    p.add_argument("--silent", action="store_true", help="print no tables")
    p.set_defaults(func=cmd_run)
    g = sub.add_parser("figures", help="the table of docs/performance.md")
    g.add_argument("--piton", metavar="PROGRAM",
                   default=f"{os.path.dirname(HERE)}/target/release/piton")
    g.add_argument("--without-autofs", action="store_true")
    g.add_argument("--scenarios", metavar="A,B", help=", ".join(FIGURES))
    g.add_argument("--reps", type=int, default=5)
    g.add_argument("--dear-reps", type=int, default=3, metavar="N",
                   help="repetitions of " + ", ".join(DEAR))
    g.add_argument("--idle", type=int, default=30, metavar="S",
                   help="seconds for which idleness is watched")
    g.add_argument("--smoke", action="store_true",
                   help="sizes so small that it takes a minute: does every "
                   "row yield a number?")
    g.add_argument("--nice", type=int, default=0, metavar="N")
    g.add_argument("--settle", type=float, default=0, metavar="S")
    g.add_argument("--out", metavar="FILE", help="write the JSON here")
    g.set_defaults(func=cmd_figures)
    n = sub.add_parser("nfs", help="the figures of real NFS")
    n.add_argument("records", metavar="RECORDS",
                   help="what tests in the virtual machine wrote")
    n.add_argument("--out", default=f"{HERE}/nfs.json", metavar="FILE")
    n.set_defaults(func=cmd_nfs)
    w = sub.add_parser("page", help="docs/performance.md from the figures")
    w.add_argument("figures", nargs="*", metavar="FIGURES.json")
    w.add_argument("--out", metavar="FILE",
                   default=f"{os.path.dirname(HERE)}/docs/performance.md")
    w.set_defaults(func=cmd_page)
    m = sub.add_parser("micro", help="costs of the system calls alone")
    m.add_argument("--reps", type=int, default=2)
    m.add_argument("--out", metavar="FILE")
    m.set_defaults(func=cmd_micro)
    r = sub.add_parser("report", help="tables from results")
    r.add_argument("results", nargs="+")
    r.add_argument("--max-others", type=float, default=1e9, metavar="CPUS",
                   help="leave out what was measured while the rest of the "
                   "machine used more than so many CPUs")
    r.set_defaults(func=cmd_report)
    for q in (p, r):
        q.add_argument("--metrics", metavar="REGEX", help="only these metrics")
    for q in (p, g, m):
        q.add_argument("--build", default=f"{HERE}/build",
                       help="where make has put the helpers")
    args = top.parse_args()
    return args.func(args)


if __name__ == "__main__":
    sys.exit(main())
