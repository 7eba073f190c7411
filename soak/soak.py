#!/usr/bin/env python3
"""Soak: a daemon on the kernel's autofs, used, reloaded, expired and killed for a long time.

    soak.py --binary PITON [--minutes N] [--seed N]

Runs in a mount namespace of its own; needs root.  Several processes read paths of a site whose maps
change, and judge every answer; the daemon's memory, descriptors, threads, processes and mounts are
sampled whenever nothing is going on.  The last third of the time has kills.  Ends with status 0 if
every answer was right and in time, nothing grew and nothing was left behind.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import watch
from model import Answer, Site
from readers import Reader, Shared, read

READERS = 6
DEADLINE = 5
# The daemon's deadline, and what a busy machine takes to notice.
BOUND = DEADLINE + 7
# How long anything else may take that must happen.
LIMIT = 60


class Soak:
    def __init__(self, options, root):
        self.options, self.root = options, root
        self.random = random.Random(f"{options.seed} control")
        self.site = Site(root, random.Random(f"{options.seed} maps"))
        self.shared = Shared()
        self.complaints, self.counts = [], {}
        self.samples = {"steady": [], "kills": [], "keeper": []}
        self.process, self.hangers = None, []
        self.began = time.monotonic()

    # --- the daemon

    def start(self):
        """Starts a daemon and waits until it is ready."""
        log, ready = open(f"{self.root}/log", "ab"), f"{self.root}/ready"
        if os.path.exists(ready):  # of one that was killed
            os.remove(ready)
        self.process = subprocess.Popen(
            [self.options.binary, "daemon", "--foreground", "--negative-timeout", "1",
             "--deadline", str(DEADLINE), "--master", f"{self.root}/auto.master",
             "--pid-file", ready],
            env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True)
        log.close()
        self.until("the daemon is ready", lambda: os.path.exists(ready))

    def environment(self):
        return {"PATH": os.environ["PATH"], "PITON_RUNTIME_DIR": f"{self.root}/run"}

    def piton(self, *words, may_fail=False):
        """Runs a command of piton's and returns what it printed."""
        try:
            done = subprocess.run([self.options.binary, *words], env=self.environment(),
                                  capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            self.complain(f"piton {' '.join(words)}: no end after {LIMIT} s")
            return None
        if done.returncode != 0 and not may_fail:
            self.complain(f"piton {' '.join(words)}: status {done.returncode}: "
                          f"{done.stderr.strip()[-300:]}")
        return done.stdout if done.returncode == 0 else None

    def status(self):
        text = self.piton("status", "--json", may_fail=True)
        return json.loads(text) if text else None

    def pids(self):
        """Keeper and daemon; the same number if there is no keeper."""
        status = self.status()
        return (status["keeper"]["pid"], status["daemon"]["pid"]) if status else (0, 0)

    # --- reporting

    def complain(self, text):
        at = time.monotonic() - self.began
        print(f"{at:8.1f} WRONG {text}", flush=True)
        self.complaints.append(text)

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def until(self, what, test, limit=LIMIT):
        end = time.monotonic() + limit
        while not test():
            if time.monotonic() > end:
                self.complain(f"after {limit} s: not {what}")
                return False
            time.sleep(0.05)
        return True

    def tell(self, what):
        for reader in self.readers:
            if not reader.tell(what, limit=BOUND + 30):
                self.complain(f"reader {reader.number} hangs")
                raise SystemExit(1)
            for text in reader.complaints:
                self.complain(text)
            reader.complaints = []

    # --- actions

    def act(self):
        """One action, by the seed alone."""
        actions = [self.change] * 5 + [self.commands] * 3 + [self.change_master, self.hang,
                   self.expire, self.reload, self.unmount, self.hangup]
        action = self.random.choice(actions)
        action()
        self.count(action.__name__)

    def change(self):
        for _ in range(self.random.randrange(1, 4)):
            self.site.change()
        self.publish()
        if self.random.random() < 0.5:
            self.reload()

    def change_master(self):
        self.site.change_master()
        self.publish()
        self.reload()

    def publish(self):
        """New maps: first the readers know, then the daemon."""
        self.site.widen()
        self.tell(self.site.answers)
        self.site.write_all()

    def reload(self):
        self.piton("reload")

    def hangup(self):
        os.kill(self.pids()[1], signal.SIGHUP)

    def expire(self):
        self.piton("expire")

    def unmount(self):
        # May well be busy.
        path = self.random.choice(sorted(self.site.answers))
        self.piton("unmount", f"{self.root}/{os.path.dirname(path)}", may_fail=True)

    def commands(self):
        words = self.random.choice((["status"], ["status", "--json"], ["list"],
                                    ["reload", "--plan"],
                                    ["status", f"{self.root}/one"], ["flush"]))
        self.piton(*words)

    def hang(self):
        """Somebody asks for a key whose program never ends."""
        if len(self.hangers) < 2:
            self.hangers.append((time.monotonic(), subprocess.Popen(
                [sys.executable, __file__, "--read", f"{self.root}/prog/hang/id"],
                stdout=subprocess.PIPE, text=True, start_new_session=True)))

    def hung(self):
        """Those who asked have their answer in time."""
        for started, process in self.hangers:
            try:
                said = process.communicate(timeout=BOUND + 30)[0].strip()
            except subprocess.TimeoutExpired:
                self.complain("prog/hang/id: no answer at all")
                continue
            got, _, took = said.partition(" ")
            if got != Answer.SLOW:
                self.complain(f"prog/hang/id: {got}, right is {Answer.SLOW}")
            if float(took or 0) > BOUND:
                self.complain(f"prog/hang/id: took {took} s")
        self.hangers = []

    def kill(self):
        """SIGKILL; without a keeper another daemon is started here."""
        keeper, daemon = self.pids()
        if not daemon:
            return self.complain("no daemon to kill")
        if keeper == daemon:
            # Without a keeper these would get an error; and their program, which is of the dead
            # daemon's process group, would make the next one think that group alive.
            self.hung()
            self.shared.outages.value += 1
            os.kill(daemon, signal.SIGKILL)
            self.process.wait()
            time.sleep(self.random.random() * 0.5)
            self.start()
            self.shared.outages.value += 1
        else:
            os.kill(daemon, signal.SIGKILL)
            self.until("another daemon is there",
                       lambda: self.pids()[1] not in (0, daemon))
        self.count("kill")

    def settle(self, series):
        """Everybody pauses; what is idle goes; then all is as the maps say, and is measured."""
        self.hung()
        self.tell("pause")
        self.piton("flush")
        self.piton("reload")
        self.piton("expire")
        gone = self.until("all mounts are gone, nothing being used",
                          lambda: not watch.mounts(self.root, real=True))
        if not gone:
            print(f"  left: {watch.mounts(self.root, real=True)}", flush=True)
        self.site.settle()
        time.sleep(0.2)
        keeper, daemon = self.pids()
        triggers = self.site.triggers()
        self.samples[series].append(watch.sample(daemon, self.root, triggers))
        if keeper != daemon:
            self.samples["keeper"].append(watch.sample(keeper, self.root, triggers, True))
        self.tell(self.site.answers)
        self.tell("go")
        self.count("settle")

    # --- the whole

    def run(self):
        seconds = self.options.minutes * 60
        self.site.build()
        self.start()
        self.readers = [Reader(number, self.options.seed, self.root, self.shared, BOUND)
                        for number in range(READERS)]
        self.tell(self.site.answers)
        self.tell("go")
        pause = min(20.0, max(3.0, seconds / 60))
        self.phase("steady", self.began + seconds * 2 / 3, pause)
        self.phase("kills", max(self.began + seconds, time.monotonic() + seconds / 4), pause)
        self.settle("kills")
        self.stop()
        self.judge()

    def phase(self, series, end, pause):
        settled = time.monotonic()
        # A slow machine gets the time to be looked at often enough.
        last = end + 4 * (end - settled)
        least = watch.LEAST if series == "steady" else 0
        while (time.monotonic() < end or len(self.samples[series]) < least
               and time.monotonic() < last) and len(self.complaints) < 20:
            time.sleep(self.random.random() * 0.6)
            self.act()
            if series == "kills" and self.random.random() < 0.2:
                self.kill()
            if time.monotonic() > settled + pause:
                self.settle(series)
                settled = time.monotonic()

    def stop(self):
        """The end: nothing may be left."""
        self.tell("end")
        family = watch.family(self.pids()[0])
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            return self.complain(f"not ended {LIMIT} s after SIGTERM")
        if code != 0:
            self.complain(f"exit status {code}")
        self.until("all its processes are gone",
                   lambda: not [pid for pid in family if os.path.exists(f"/proc/{pid}")])
        for path in watch.mounts(self.root):
            self.complain(f"still mounted: {path}")
        # Whoever was killed cannot say which directories of direct keys it had made.
        folders = ["one", "two", "extra", "any", "prog"]
        for folder in folders + ([] if self.counts.get("kill") else ["direct"]):
            if os.path.isdir(f"{self.root}/{folder}") and os.listdir(f"{self.root}/{folder}"):
                self.complain(f"not empty at the end: {folder}: "
                              f"{os.listdir(f'{self.root}/{folder}')}")
        for name in os.listdir(f"{self.root}/run"):
            if name not in ("lock",):
                self.complain(f"left in the runtime directory: {name}")

    def judge(self):
        with open(f"{self.root}/log", errors="replace") as log:
            for line in log:
                if "panicked" in line:
                    self.complain(f"log: {line.strip()}")
        for series, samples in self.samples.items():
            if samples:
                print(watch.table(samples, series))
                print(f"{series:<8} rss_kib   ", *(one["rss_kib"] for one in samples))
        for text in watch.verdict(self.samples["steady"], "daemon"):
            self.complain(text)
        if self.samples["keeper"]:
            for text in watch.verdict(self.samples["keeper"], "keeper"):
                self.complain(text)
        counts = ", ".join(f"{number} {what}" for what, number in sorted(self.counts.items()))
        slowest = max(reader.slowest for reader in self.readers)
        print(f"{self.shared.reads.value} reads, {self.shared.held.value} held open, "
              f"{self.shared.excused.value} excused while there was no daemon, "
              f"slowest over 0.5 s: {slowest:.2f} s; {counts}")


def alone(options):
    """Runs itself again in a mount namespace of its own, and cleans up after it."""
    words = [sys.executable, __file__, "--inside", "--binary", options.binary,
             "--minutes", str(options.minutes), "--seed", str(options.seed)]
    if options.keep_log:
        words += ["--keep-log", options.keep_log]
    return subprocess.run(["unshare", "--mount", "--propagation", "private", "--kill-child",
                           "--pid", "--fork", "--mount-proc", "--", *words]).returncode


def inside(options):
    root = tempfile.mkdtemp(prefix="piton-soak-")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "soak", root], check=True)
    soak = Soak(options, root)
    try:
        soak.run()
    finally:
        if options.keep_log:
            shutil.copy(f"{root}/log", options.keep_log)
        elif soak.complaints:
            with open(f"{root}/log", errors="replace") as log:
                print("-- the end of the daemon's log --\n" + "".join(log.readlines()[-40:]))
    held = not soak.complaints
    print(f"soak: seed {options.seed}, {options.minutes:g} minutes: "
          f"{'held' if held else f'{len(soak.complaints)} complaints'}")
    return 0 if held else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep-log", help="write the daemon's log there at the end")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        started = time.monotonic()
        got = read("", options.read.lstrip("/"))
        print(f"{got} {time.monotonic() - started:.3f}")
        return 0
    if not options.binary:
        parser.error("--binary is missing")
    if os.geteuid() != 0:
        parser.error("mounting needs root")
    options.binary = os.path.abspath(options.binary)
    return inside(options) if options.inside else alone(options)


if __name__ == "__main__":
    sys.exit(main())
