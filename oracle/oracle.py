#!/usr/bin/env python3
"""A differential oracle for automounters.

    oracle.py CASE.json...                      run cases, print JSON lines
    oracle.py --master FILE [--file PATH=FILE]... PATH...
                                                run one case given by hand
    oracle.py --daemon 'CMD {master}' ...       run another automounter instead

Each case runs in a sandbox of its own (see sandbox.py).  There the daemon is
started with debug logging, the case's steps are taken one after the other, and
for each step one JSON object says what came of it: the errno or what was seen,
every mount(8) call the daemon made, and how the mount table changed.

The format of a case is described in README.md.
"""

import argparse
import base64
import concurrent.futures
import errno
import glob
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time

import sandbox
from fakerpc import Host, Servers

# What an untouched Debian has; the machine's own files may have been changed.
NSSWITCH = """\
passwd:         files
group:          files
shadow:         files
hosts:          files dns
networks:       files
protocols:      db files
services:       db files
ethers:         db files
rpc:            db files
netgroup:       nis
"""
AUTOFS_CONF = """\
[ autofs ]
master_map_name = /etc/auto.master
timeout = 300
browse_mode = no

[ amd ]
dismount_interval = 300
"""

HERE = os.path.dirname(os.path.abspath(__file__))
HOME = "/run/oracle"
# What a command line may name: {args} and {master} of the case, {bin} for what was brought in.
AUTOMOUNT = "automount --pid-file /run/oracle/automount.pid -f -d {args} {master}"
PROBE = re.compile(r"^/tmp/auto[A-Za-z0-9]{6}$")  # autofs tries out bind mounts there
KERNEL_OPTIONS = re.compile(
    r"^(fd|pgrp|minproto|maxproto|pipe_ino|uid|gid)=|^(ignore|inode64)$"
)


# -- the mount table ------------------------------------------------------------------


def unescape(text):
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def propagation(words):
    """shared, slave or both, from the optional fields of a line of mountinfo."""
    names = {"shared": "shared", "master": "slave", "unbindable": "unbindable"}
    return ",".join(names[word.partition(":")[0]] for word in words
                    if word.partition(":")[0] in names)


def mount_table():
    """{mount id: {...}} for every mount of this namespace."""
    table = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            left, _, right = line.rstrip("\n").partition(" - ")
            left, right = left.split(" "), right.split(" ")
            options = [word for word in left[5].split(",") if word != "relatime"]
            table[int(left[0])] = {
                "fstype": right[0],
                "source": unescape(right[1]),
                "target": unescape(left[4]),
                "root": unescape(left[3]),
                "device": left[2],
                "propagation": propagation(left[6:]),
                "mount_options": ",".join(options),
                "super_options": ",".join(
                    word for word in right[2].split(",") if not KERNEL_OPTIONS.search(word)
                ),
            }
    return table


def bind_of(entry, others):
    """Where else the root of a mount can be seen, when it is a bind of something."""
    for other in others.values():
        below = other["root"].rstrip("/") + "/"
        if other["device"] == entry["device"] and (entry["root"] + "/").startswith(below):
            rest = entry["root"][len(below):]
            return (other["target"].rstrip("/") + "/" + rest).rstrip("/") or "/"
    return None


def difference(before, after):
    def view(entry):
        kept = dict(entry)
        if not kept["propagation"]:
            del kept["propagation"]
        origin = entry["fstype"] != "autofs" and bind_of(entry, before)
        if origin:
            kept["bind_of"] = origin
        return kept

    def only(one, other):
        entries = [one[key] for key in sorted(one.keys() - other.keys())]
        return [view(entry) for entry in entries if not PROBE.match(entry["target"])]

    return only(after, before), only(before, after)


# -- files and steps --------------------------------------------------------------------


def contents(spec):
    """The bytes of a file given as text, as lines or as {"text"|"base64"|"repeat"|"pieces": ...}."""
    if isinstance(spec, str):
        return spec.encode("utf-8", "surrogateescape")
    if isinstance(spec, list):
        return "".join(f"{line}\n" for line in spec).encode("utf-8", "surrogateescape")
    if "base64" in spec:
        return base64.b64decode(spec["base64"])
    data = "".join(text * count for text, count in spec.get("pieces", [])).encode()
    if "repeat" in spec:
        # Each pair is a template and the numbers to put in it.
        for template, count in spec["repeat"]:
            data += "".join(template.replace("%d", str(i)) for i in range(count)).encode()
    return data + contents(spec.get("text", ""))


def write_file(path, spec):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if isinstance(spec, dict) and "symlink" in spec:
        os.symlink(spec["symlink"], path)
        return
    if isinstance(spec, dict) and "fifo" in spec:
        os.mkfifo(path)
    else:
        with open(path, "wb") as stream:
            stream.write(contents(spec))
    if isinstance(spec, dict) and "mode" in spec:
        os.chmod(path, int(spec["mode"], 8))
    if isinstance(spec, dict) and "owner" in spec:
        os.chown(path, *spec["owner"])


def errno_name(error):
    return errno.errorcode.get(error.errno, str(error.errno))


def look(op, path):
    """Do one access; return a dictionary saying what came of it."""
    try:
        if op == "open":
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                names = sorted(os.listdir(descriptor))
            finally:
                os.close(descriptor)
            return {"status": "ok", "entries": names[:200]}
        if op == "stat":
            mode = os.stat(path).st_mode
        elif op == "lstat":
            mode = os.lstat(path).st_mode
        elif op == "readlink":
            return {"status": "ok", "link": os.readlink(path)}
        elif op == "mkdir":
            os.mkdir(path)
            return {"status": "ok"}
        elif op == "rmdir":
            os.rmdir(path)
            return {"status": "ok"}
        elif op == "chdir":
            os.chdir(path)
            return {"status": "ok"}
        else:
            raise ValueError(f"no such operation: {op}")
        kind = {stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFREG: "file"}
        return {"status": "ok", "type": kind.get(stat.S_IFMT(mode), "other")}
    except OSError as error:
        return {"status": errno_name(error)}


def look_together(paths):
    """Open several paths at the same time."""
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(len(paths)) as pool:
        results = list(pool.map(lambda path: look("open", path), paths))
    return {
        "statuses": [result["status"] for result in results],
        "seconds": round(time.monotonic() - started, 1),
    }


def hold(path):
    """Start a process that has its working directory at `path`; return its id."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        try:
            os.chdir(path)
            os.write(writer, b"ok")
        except OSError as error:
            os.write(writer, errno_name(error).encode())
        os.close(writer)
        signal.pause()
        os._exit(0)
    os.close(writer)
    status = os.read(reader, 100).decode()
    os.close(reader)
    return pid, status


def in_child(function, seconds, identity=None):
    """Run function() in a child of its own session; give up after `seconds`."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            os.setsid()
            if identity:
                os.setgroups([])
                os.setgid(identity.get("gid", 0))
                os.setuid(identity.get("uid", 0))
            with os.fdopen(writer, "w") as stream:
                json.dump(function(), stream)
        finally:
            os._exit(0)
    os.close(writer)
    deadline = time.monotonic() + seconds
    timed_out = False
    os.set_blocking(reader, False)
    data = b""
    while True:
        try:
            piece = os.read(reader, 65536)
            if not piece:
                break
            data += piece
        except BlockingIOError:
            if time.monotonic() > deadline:
                timed_out = True
                os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.005)
    os.close(reader)
    while True:
        done, _ = os.waitpid(pid, os.WNOHANG if timed_out else 0)
        if done or time.monotonic() > deadline + 5:
            break
        time.sleep(0.01)
    if timed_out or not data:
        return {"status": "TIMEOUT" if timed_out else "DIED"}
    return json.loads(data)


# -- one case ---------------------------------------------------------------------------


class Case:
    def __init__(self, spec, daemon, keep_log, bring=()):
        self.spec, self.command, self.keep_log = spec, daemon, keep_log
        self.bring = [os.path.abspath(path) for path in bring]
        self.process = None
        self.log_at = self.calls_at = self.trace_at = 0
        self.holders = []

    # Setting up

    def hosts(self):
        hosts, names, dark, unreachable = {}, {}, [], []
        for name, entry in self.spec.get("hosts", {}).items():
            if name == "*":
                names["*"] = []
                continue
            addresses = entry["addr"] if isinstance(entry["addr"], list) else [entry["addr"]]
            names[name.lower()] = addresses
            for alias in entry.get("alias", []):
                names[alias.lower()] = addresses
            for address in addresses:
                if entry.get("dark"):
                    dark.append(address)
                elif entry.get("unreachable"):
                    unreachable.append(address)
                elif not entry.get("refuse") and address != sandbox.CLIENT_ADDR:
                    hosts[address] = Host(entry)
        return hosts, names, dark, unreachable

    def prepare(self):
        spec = self.spec
        helper = open(f"{HERE}/fakemount.py", encoding="utf-8").read()
        python = os.path.realpath(sys.executable)
        tools = {name: shutil.which(name) for name in ("mount", "umount")}
        hosts, names, dark, unreachable = self.hosts()
        # Programs that may lie where the sandbox does not look, on another disk or in /tmp.
        brought = [(os.path.basename(path), open(path, "rb")) for path in self.bring]
        sandbox.enter_new_root(propagation=spec.get("propagation", "private"))
        os.makedirs(f"{HOME}/bin")
        for name, stream in brought:
            with open(f"{HOME}/bin/{name}", "wb") as copy:
                shutil.copyfileobj(stream, copy)
            os.chmod(f"{HOME}/bin/{name}", 0o755)
            stream.close()
        sandbox.sethostname(spec.get("hostname", "client1.example.org"))
        # The real tools move aside; the recorders take their places.
        for name, path in tools.items():
            shutil.copy2(os.path.realpath(path), f"{HOME}/{name}")
            os.chmod(f"{HOME}/{name}", 0o4755)
            os.remove(os.path.realpath(path))
            with open(os.path.realpath(path), "w", encoding="utf-8") as stream:
                stream.write(f"#!{python} -ISs\n{helper}")
            os.chmod(os.path.realpath(path), 0o755)
        with open(f"{HOME}/policy.json", "w", encoding="utf-8") as stream:
            json.dump(spec.get("policy", {"real": ["tmpfs"]}), stream)
        for name in ("calls.jsonl", "log", "rpc"):
            open(f"{HOME}/{name}", "w").close()
        for path in glob.glob("/etc/auto.*") + glob.glob("/etc/auto.master.d/*"):
            if os.path.isfile(path):
                os.remove(path)
        write_file("/etc/hosts", "127.0.0.1 localhost\n10.77.0.1 client1.example.org client1\n")
        write_file("/etc/resolv.conf", f"nameserver {sandbox.GATEWAY}\noptions timeout:1 attempts:1\n")
        write_file("/etc/nsswitch.conf", NSSWITCH)
        write_file("/etc/autofs.conf", AUTOFS_CONF)
        write_file("/etc/default/autofs", 'USE_MISC_DEVICE="yes"\n')
        for path in spec.get("dirs", []):
            os.makedirs(path, exist_ok=True)
        for path, entry in spec.get("files", {}).items():
            write_file(path, entry)
        if spec.get("network", True):
            sandbox.start_network(
                lambda: Servers(hosts, names, f"{HOME}/rpc").run(),
                dark=dark, unreachable=unreachable,
            )
            time.sleep(0.15)

    def start(self):
        master = self.spec.get("master", "/etc/auto.master")
        command = self.command.format(
            master=shlex.quote(master) if master else "",
            args=" ".join(shlex.quote(word) for word in self.spec.get("args", [])),
            bin=f"{HOME}/bin",
        )
        log = open(f"{HOME}/log", "ab")
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        environment.update(self.spec.get("env", {}))
        self.process = subprocess.Popen(
            shlex.split(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, env=environment, cwd="/",
        )
        log.close()

    def wait_for(self, targets, at_most):
        """Wait until something is mounted on each of `targets`; say how long it took."""
        started = time.monotonic()
        while time.monotonic() - started < at_most:
            mounted = {entry["target"] for entry in mount_table().values()}
            if mounted.issuperset(targets):
                return round(time.monotonic() - started, 2)
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        return None

    def settle(self, quiet, at_most):
        """Wait until log and mount table have not changed for `quiet` seconds."""
        deadline = time.monotonic() + at_most
        state, since = None, time.monotonic()
        while time.monotonic() < deadline:
            now = (os.path.getsize(f"{HOME}/log"), sorted(mount_table()))
            if now != state:
                state, since = now, time.monotonic()
            elif time.monotonic() - since >= quiet:
                return
            if self.process.poll() is not None:
                return
            time.sleep(0.02)

    def first_mount(self, at_most):
        """Wait until there is some autofs mount, or the daemon has ended."""
        deadline = time.monotonic() + at_most
        while time.monotonic() < deadline and self.process.poll() is None:
            if any(entry["fstype"] == "autofs" for entry in mount_table().values()):
                return
            time.sleep(0.02)

    # What has been seen since the last step

    def fresh(self, name, at):
        with open(f"{HOME}/{name}", "rb") as stream:
            stream.seek(at)
            data = stream.read()
        return data.decode("utf-8", "surrogateescape").splitlines(), at + len(data)

    def collect(self, before):
        lines, self.log_at = self.fresh("log", self.log_at)
        calls, self.calls_at = self.fresh("calls.jsonl", self.calls_at)
        rpc, self.trace_at = self.fresh("rpc", self.trace_at)
        mounts, umounts = [], []
        for line in calls:
            call = json.loads(line)
            if any(PROBE.match(word) for word in call["argv"]):
                continue
            if call.pop("program") == "umount":
                umounts.append({"target": call["argv"][-1], "rc": call["rc"]})
            else:
                mounts.append(call)
        after = mount_table()
        added, removed = difference(before, after)
        result = {"mounts": mounts}
        if umounts:
            result["umounts"] = umounts
        if added:
            result["added"] = added
        if removed:
            result["removed"] = removed
        if rpc:
            result["asked"] = rpc[:60]
        if self.keep_log:
            result["log"] = [line[:1000] for line in lines[:400]]
        return result

    # The steps

    def step(self, entry):
        if isinstance(entry, str):
            entry = {"op": "open", "path": entry}
        op = entry.get("op", "open")
        before = mount_table()
        started = time.monotonic()
        result = {}
        if op in ("open", "stat", "lstat", "readlink", "mkdir", "rmdir", "chdir"):
            path = entry["path"]
            result = in_child(
                lambda: look(op, path), entry.get("timeout", 20), entry.get("as")
            )
        elif op == "together":
            result = in_child(lambda: look_together(entry["paths"]), entry.get("timeout", 30))
        elif op == "hold":
            pid, status = hold(entry["path"])
            self.holders.append(pid)
            result = {"status": status}
        elif op == "release":
            while self.holders:
                pid = self.holders.pop()
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        elif op == "write":
            # autofs compares times of whole seconds: `after` lets a later one begin.
            time.sleep(entry.get("after", 0))
            write_file(entry["path"], entry["contents"])
            if "mtime" in entry:
                os.utime(entry["path"], (entry["mtime"], entry["mtime"]))
        elif op == "remove":
            time.sleep(entry.get("after", 0))
            os.remove(entry["path"])
        elif op == "sleep":
            time.sleep(entry["seconds"])
        elif op == "signal":
            self.process.send_signal(getattr(signal, entry["signal"]))
            if "seconds" in entry:
                time.sleep(entry["seconds"])
        elif op == "stop":
            self.process.send_signal(signal.SIGTERM)
            try:
                result = {"exit": self.process.wait(entry.get("timeout", 20))}
            except subprocess.TimeoutExpired:
                result = {"exit": "TIMEOUT"}
        elif op == "start":
            self.start()
            self.first_mount(4)
        elif op == "run":
            done = in_child(lambda: run_tool(entry["argv"]), entry.get("timeout", 20))
            result = done
        else:
            raise ValueError(f"no such step: {op}")
        if "then" in entry:
            # What a change brings about, whether it is noticed or has to be told.
            time.sleep(0.3)
            self.process.send_signal(getattr(signal, entry["then"]))
            time.sleep(entry.get("wait", 0.7))
        elapsed = round(time.monotonic() - started, 2)
        if op in ("signal", "write", "start", "remove", "sleep"):
            self.settle(entry.get("quiet", 0.3), entry.get("settle", 10))
        else:
            self.settle(entry.get("quiet", 0.05), 2)
        output = {"step": op}
        for name in ("path", "signal", "then", "argv", "as"):
            if name in entry:
                output[name] = entry[name]
        output.update(result)
        if elapsed >= 2:
            output["slow"] = elapsed
        output.update(self.collect(before))
        if op != "stop" and self.process.poll() is not None:
            output["daemon"] = f"gone, exit status {self.process.returncode}"
        return output

    def body(self):
        self.prepare()
        before = mount_table()
        self.start()
        first = {"step": "start"}
        if "wait_for" in self.spec:
            first["ready_after"] = self.wait_for(self.spec["wait_for"], self.spec.get("settle", 15))
        else:
            self.first_mount(self.spec.get("first", 4))
        self.settle(self.spec.get("quiet", 0.4), self.spec.get("settle", 15))
        first.update(self.collect(before))
        if self.process.poll() is not None:
            first["daemon"] = f"gone, exit status {self.process.returncode}"
        results = [first]
        for entry in self.spec.get("steps", []):
            results.append(self.step(entry))
        return json.dumps(results).encode()


def run_tool(argv):
    done = subprocess.run(argv, capture_output=True, text=True, errors="surrogateescape")
    return {
        "status": "ok" if done.returncode == 0 else f"exit {done.returncode}",
        "stdout": done.stdout[:20000],
        "stderr": done.stderr[:4000],
    }


def run_case(spec, daemon=AUTOMOUNT, keep_log=True, bring=()):
    """Run one case; return a list with one dictionary for each step."""
    case = Case(spec, daemon, keep_log, bring)
    return json.loads(sandbox.run(case.body))


# -- the command line ---------------------------------------------------------------------


def run_file(path, daemon, keep_log, bring):
    with open(path, encoding="utf-8") as stream:
        saved = json.load(stream)
    # A saved case has its specification beside what autofs made of it.
    return saved.get("name", path), run_case(saved.get("case", saved), daemon, keep_log, bring)


def by_hand(options):
    files = {}
    for pair in options.file:
        target, _, source = pair.partition("=")
        with open(source or target, "rb") as stream:
            data = stream.read()
        files[target] = {"base64": base64.b64encode(data).decode()}
        files[target]["mode"] = oct(os.stat(source or target).st_mode & 0o777)[2:]
    with open(options.master, "rb") as stream:
        files["/etc/auto.master"] = {"base64": base64.b64encode(stream.read()).decode()}
    return {"name": "by hand", "files": files, "hosts": {"*": {}}, "steps": options.words}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--daemon", default=AUTOMOUNT, help="command line of the automounter")
    parser.add_argument("--bring", action="append", default=[], metavar="PROGRAM",
                        help="copy a program into the sandbox; the command line has it in {bin}")
    parser.add_argument("--master", help="a master map; the other words are then paths to open")
    parser.add_argument("--file", action="append", default=[], metavar="PATH[=FILE]")
    parser.add_argument("--no-log", action="store_true", help="leave the daemon's log out")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("must be run as root")
    if options.master:
        results = [
            ("by hand",
             run_case(by_hand(options), options.daemon, not options.no_log, options.bring))
        ]
    else:
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            results = list(pool.map(
                lambda path: run_child(path, options), options.words
            ))
    for name, steps in results:
        for step in steps:
            print(json.dumps({"case": name, **step}))


def run_child(path, options):
    """Run one case file in a process of its own (forking and threads do not mix)."""
    if len(options.words) == 1:
        return run_file(path, options.daemon, not options.no_log, options.bring)
    command = [sys.executable, __file__, "--daemon", options.daemon, path]
    for program in options.bring:
        command += ["--bring", program]
    if options.no_log:
        command.append("--no-log")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return path, [{"step": "failed", "stderr": done.stderr[-2000:]}]
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    name = steps[0]["case"] if steps else path
    for step in steps:
        step.pop("case")
    return name, steps


if __name__ == "__main__":
    main()
