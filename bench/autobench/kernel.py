"""Mount namespaces, mount tables and process accounting, from Python."""

import ctypes
import os
import subprocess
import time

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p,
                        ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_SHARED = 1 << 20
MNT_DETACH = 2

_SYS_LISTMOUNT = 458          # Linux 6.8, the same on all architectures
_LIST_ROOT = 0xFFFFFFFFFFFFFFFF


class _IdReq(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("spare", ctypes.c_uint32),
                ("mnt_id", ctypes.c_uint64), ("param", ctypes.c_uint64),
                ("mnt_ns_id", ctypes.c_uint64)]


def _check(rc, what):
    if rc < 0:
        err = ctypes.get_errno()
        raise OSError(err, os.strerror(err), what)
    return rc


def private_namespace(shared=False):
    """Move this process into a mount namespace of its own.

    With shared, all mounts in it propagate among themselves, as under an
    init that makes / shared; nothing leaves the namespace either way.
    """
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    if shared:
        mount(None, "/", None, MS_REC | MS_SHARED)


def private_network():
    """Move this process into a network of its own, with nothing but loopback,
    unless it is in one."""
    if private_network.done:
        return
    _check(_libc.unshare(CLONE_NEWNET), "unshare")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    private_network.done = True


private_network.done = False


def mount(source, target, fstype, flags=0, data=None):
    enc = [None if s is None else os.fsencode(s)
           for s in (source, target, fstype, data)]
    _check(_libc.mount(enc[0], enc[1], enc[2], flags, enc[3]), target)


def umount(target, flags=0):
    _check(_libc.umount2(os.fsencode(target), flags), target)


_ids = (ctypes.c_uint64 * 131072)()


def count_mounts():
    """How many mounts there are in this namespace (cheap: no mountinfo)."""
    req = _IdReq(24, 0, _LIST_ROOT, 0, 0)
    total = 0
    while True:
        got = _check(_libc.syscall(_SYS_LISTMOUNT, ctypes.byref(req), _ids,
                                   ctypes.c_size_t(len(_ids)), 0), "listmount")
        total += got
        if got < len(_ids):
            return total
        req.param = _ids[got - 1]


def _unescape(text):
    return text.encode().decode("unicode_escape") if "\\" in text else text


def mounts_under(path):
    """(mount id, mount point, fstype) of the mounts at or below path."""
    found = []
    with open("/proc/self/mountinfo") as f:
        for line in f:
            head, _, tail = line.partition(" - ")
            field = head.split()
            point = _unescape(field[4])
            if point == path or point.startswith(path + "/"):
                found.append((int(field[0]), point, tail.split()[0]))
    return found


def unmount_below(path):
    """Detach every mount below path, newest first; the number of them."""
    left = mounts_under(path)
    for _, point, _ in reversed(left):
        if point != path:
            try:
                umount(point, MNT_DETACH)
            except OSError:
                pass
    return len(left)


# --- processes -------------------------------------------------------------

_TICK = os.sysconf("SC_CLK_TCK")


def cpu_of(pid):
    """CPU seconds of a process: (its own, that of its reaped children).

    Its own come with nanoseconds from its CPU clock, those of the children
    from /proc/PID/stat with the resolution of a tick.
    """
    own = time.clock_gettime((~pid << 3) | 2)
    fields = _stat_fields(pid)
    return own, (int(fields[13]) + int(fields[14])) / _TICK


def _stat_fields(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rpartition(")")[2].split()


def cpu_of_family(pid):
    """The same for a daemon of several processes: those of its session."""
    pairs = []
    for member in family(pid):
        try:
            pairs.append(cpu_of(member))
        except OSError:
            pass                                # it has just ended
    return sum(own for own, _ in pairs), sum(past for _, past in pairs)


def status_of_family(pid):
    """status_of() added up over a family.

    In rss_kib shared pages count once for each process, in pss_kib once.
    """
    total = {}
    for member in family(pid):
        try:
            for name, value in status_of(member).items():
                total[name] = total.get(name, 0) + value
        except OSError:
            pass
    return total or status_of(pid)


def status_of(pid):
    """Memory (KiB), threads and descriptors of one process."""
    out = {}
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            key, _, value = line.partition(":")
            if key in ("VmRSS", "VmHWM", "RssAnon", "Threads"):
                out[key] = int(value.split()[0])
    with open(f"/proc/{pid}/smaps_rollup") as f:
        for line in f:
            if line.startswith("Pss:"):
                out["Pss"] = int(line.split()[1])
    return {"rss_kib": out.get("VmRSS", 0), "pss_kib": out.get("Pss", 0),
            "anon_kib": out.get("RssAnon", 0),
            "peak_kib": out.get("VmHWM", 0), "threads": out.get("Threads", 0),
            "fds": len(os.listdir(f"/proc/{pid}/fd"))}


def switches_of(pid):
    """Voluntary context switches of each thread of a family: {thread: n}."""
    found = {}
    for member in family(pid):
        try:
            tasks = os.listdir(f"/proc/{member}/task")
        except OSError:
            continue
        for task in tasks:
            try:
                with open(f"/proc/{member}/task/{task}/status") as f:
                    for line in f:
                        if line.startswith("voluntary_ctxt_switches"):
                            found[int(task)] = int(line.split()[1])
            except OSError:
                pass
    return found


def switched(before, after):
    """How often a family slept in between; threads that have ended are not
    counted."""
    return sum(n - before.get(task, 0) for task, n in after.items())


def machine_cpu():
    """CPU seconds that the whole machine has used, and that were stolen."""
    with open("/proc/stat") as f:
        v = [int(x) / _TICK for x in f.readline().split()[1:9]]
    return v[0] + v[1] + v[2] + v[5] + v[6], v[7]


def family(pid):
    """A daemon's processes: those of its session, and all descendants."""
    parents, found = {}, {pid}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = _stat_fields(name)
            except OSError:
                continue
            parents[int(name)] = int(fields[1])
            if int(fields[3]) == pid:
                found.add(int(name))
    for one in list(parents):
        line, at = [], one
        while at and at not in found:
            line.append(at)
            at = parents.get(at, 0)
        if at:
            found.update(line)
    return sorted(found & parents.keys())
