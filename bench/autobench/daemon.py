"""Start, watch and stop one automount daemon."""

import json
import os
import shlex
import signal
import subprocess
import time
from contextlib import suppress

from . import kernel


class Spec:
    """A daemon to measure: a name and a command template.

    The template is split as a shell would, and in each word {master},
    {pidfile} and {dir} (a scratch directory) are filled in.  The daemon must
    stay in the foreground.  It is started in a session of its own: processes
    of the daemon's own process group do not trigger mounts.
    """

    def __init__(self, name, template, only=None):
        self.name = name
        self.words = shlex.split(template)
        self.only = only           # scenarios it takes part in; None is all

    @classmethod
    def parse(cls, text):
        name, _, template = text.partition("=")
        if not name or not template:
            raise ValueError(f"want NAME=COMMAND, not {text!r}")
        return cls(name, template)

    def command(self, **values):
        return [word.format(**values) for word in self.words]


class Daemon:
    def __init__(self, spec, site, master):
        self.spec = spec
        self.site = site
        self.master = master
        self.process = None
        self.started = 0.0

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        argv = self.spec.command(master=self.master, dir=self.site.run_dir,
                                 pidfile=f"{self.site.run_dir}/pid")
        with open(f"{self.site.run_dir}/log", "ab") as log:
            self.started = time.monotonic()
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)
        return self

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        # not stop(): that can take minutes, and scenarios that want to know
        # how long call it themselves
        self.kill()
        self.reap_family()

    def wait(self, ready, limit=120.0):
        """Seconds from the start until ready() is true; None: not in time.

        The pause between two looks grows with what a look costs, so that
        watching does not become the load.
        """
        while True:
            before = time.monotonic()
            if ready():
                return time.monotonic() - self.started
            now = time.monotonic()
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.spec.name} ended with "
                                   f"{self.process.returncode}: {self.log()}")
            if now - self.started > limit:
                return None
            time.sleep(max(0.0003, (now - before) * 10))

    def wait_roots(self, limit=120.0):
        """Wait until all indirect mount points of the site are mounted."""
        outside = os.stat(self.site.root).st_dev
        return self.wait(lambda: all(
            os.path.isdir(p) and os.stat(p).st_dev != outside
            for p in self.site.roots), limit)

    def wait_count(self, target, limit=120.0):
        return self.wait(lambda: kernel.count_mounts() >= target, limit)

    def cpu(self):
        return kernel.cpu_of_family(self.pid)

    def cpu_total(self):
        return sum(self.cpu())

    def status(self):
        return kernel.status_of_family(self.pid)

    def wait_quiet(self, quiet=0.5, limit=60.0):
        """Wait until the daemon has used no CPU for a while."""
        end = time.monotonic() + limit
        last, since = self.cpu_total(), time.monotonic()
        while time.monotonic() < end:
            time.sleep(0.05)
            now = self.cpu_total()
            if now - last > 0.002:
                last, since = now, time.monotonic()
            elif time.monotonic() - since >= quiet:
                return True
        return False

    def server_pid(self):
        """The process that serves requests: not the first one if it has a
        keeper above it."""
        program = self.spec.words[0]
        if os.path.basename(program).startswith("piton"):
            status = subprocess.run([program, "status", "--json"], check=True,
                                    stdout=subprocess.PIPE).stdout
            return json.loads(status)["daemon"]["pid"]
        return self.pid

    def signal(self, number):
        os.kill(self.pid, number)

    def stop(self, limit=120.0):
        """SIGTERM; seconds until it ended, None if it had to be killed."""
        before = time.monotonic()
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.kill()
            return None
        return time.monotonic() - before

    def kill(self):
        """All its processes at once, so that none restarts another."""
        if self.process.poll() is None:
            # the keeper first, then the daemon, which would start another
            for _ in range(2):
                for pid in kernel.family(self.pid):
                    with suppress(OSError):
                        os.kill(pid, signal.SIGSTOP)
            self.reap_family()
            # a thread that waits for a dead file system outlives even this
            # until that one is gone
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(10)

    def reap_family(self):
        """Kill what the daemon has started and left behind."""
        for pid in kernel.family(self.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass

    def log(self, lines=5):
        try:
            with open(f"{self.site.run_dir}/log", errors="replace") as f:
                return " | ".join(f.read().splitlines()[-lines:])
        except OSError:
            return ""
