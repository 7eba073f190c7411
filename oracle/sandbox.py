"""A throw-away Linux sandbox for running an automounter.

The sandbox is a set of fresh namespaces (mount, PID, UTS, network, IPC) whose
root is a copy-on-write overlay of the real root.  Inside it any file may be
written and anything may be mounted; when its first process ends the kernel
ends every process in it and drops every mount.  Nothing is left behind.

Needs root, overlayfs, tmpfs and (for the network) veth.
"""

import ctypes
import os
import signal
import stat
import subprocess

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 4096, 16384, 1 << 18, 1 << 20
MNT_DETACH = 2
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(os.uname().machine, 155)
PR_SET_PDEATHSIG = 1

CLIENT_IF, SERVER_IF = "oc0", "os0"
CLIENT_ADDR, CLIENT_ADDR6 = "10.77.0.1", "fd77::1"
GATEWAY, GATEWAY6 = "10.77.0.254", "fd77::fe"

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result, what):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags):
    _check(_libc.unshare(flags), "unshare")


def mount(source, target, fstype=None, flags=0, data=None):
    def raw(text):
        return None if text is None else os.fsencode(text)

    _check(
        _libc.mount(raw(source), raw(target), raw(fstype), ctypes.c_ulong(flags), raw(data)),
        f"mount {source} on {target}",
    )


def umount(target, flags=0):
    _check(_libc.umount2(os.fsencode(target), flags), f"umount {target}")


def die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def sethostname(name):
    raw = os.fsencode(name)
    _check(_libc.sethostname(raw, len(raw)), "sethostname")


DEVICES = {
    "null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9),
    "tty": (5, 0), "autofs": (10, 235), "fuse": (10, 229),
}


def make_devices(directory):
    """A /dev with harmless devices only: no disk can be reached through it."""
    mount("dev", directory, "tmpfs", MS_NOSUID, "mode=0755")
    for name, (major, minor) in DEVICES.items():
        os.mknod(f"{directory}/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
        os.chmod(f"{directory}/{name}", 0o666)
    for name in ("pts", "shm"):
        os.mkdir(f"{directory}/{name}")
    mount("devpts", f"{directory}/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666")
    os.symlink("pts/ptmx", f"{directory}/ptmx")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"{directory}/{name}")
    os.symlink("/proc/self/fd", f"{directory}/fd")


def enter_new_root(base="/tmp", size="2g", propagation="private"):
    """Make a copy-on-write overlay of / the root of the current namespace."""
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    # The tmpfs hides an existing directory; nothing on the disk changes.
    mount("oracle", base, "tmpfs", 0, f"size={size},mode=0755")
    for name in ("upper", "work", "root"):
        os.mkdir(f"{base}/{name}")
    root = f"{base}/root"
    mount(
        "overlay", root, "overlay", 0,
        f"lowerdir=/,upperdir={base}/upper,workdir={base}/work",
    )
    mount("/sys", f"{root}/sys", None, MS_BIND | MS_REC)
    make_devices(f"{root}/dev")
    mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("run", f"{root}/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    mount("tmp", f"{root}/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    os.mkdir(f"{root}/run/old")
    _check(
        _libc.syscall(SYS_PIVOT_ROOT, os.fsencode(root), os.fsencode(f"{root}/run/old")),
        "pivot_root",
    )
    os.chdir("/")
    umount("/run/old", MNT_DETACH)
    os.rmdir("/run/old")
    if propagation == "shared":
        mount("none", "/", None, MS_REC | MS_SHARED)


def _ip(*args, namespace_of=None):
    command = ["ip", *args]
    if namespace_of:
        command = ["nsenter", "-t", str(namespace_of), "-n", *command]
    subprocess.run(command, check=True, capture_output=True)


def start_network(serve, any_local=("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"), dark=(), unreachable=()):
    """Give this network namespace one link to a namespace of fake servers.

    `serve()` is run in a child in the servers' namespace; every address in
    `any_local` belongs to it, except those in `dark`, which never answer.
    Sending to an address in `unreachable` fails at once.  Returns the child's process id.
    """
    ready_r, ready_w = os.pipe()
    go_r, go_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(ready_r)
            os.close(go_w)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            unshare(CLONE_NEWNET)
            os.write(ready_w, b"1")
            os.close(ready_w)
            os.read(go_r, 1)
            os.close(go_r)
            serve()
            status = 0
        finally:
            os._exit(status)
    os.close(ready_w)
    os.close(go_r)
    os.read(ready_r, 1)
    os.close(ready_r)
    _ip("link", "set", "lo", "up")
    _ip("link", "add", CLIENT_IF, "type", "veth", "peer", "name", SERVER_IF, "netns", str(pid))
    _ip("addr", "add", f"{CLIENT_ADDR}/24", "dev", CLIENT_IF, "noprefixroute")
    _ip("addr", "add", f"{CLIENT_ADDR6}/64", "dev", CLIENT_IF, "nodad")
    _ip("link", "set", CLIENT_IF, "up")
    _ip("link", "set", "lo", "up", namespace_of=pid)
    _ip("addr", "add", f"{GATEWAY}/32", "dev", SERVER_IF, namespace_of=pid)
    _ip("addr", "add", f"{GATEWAY6}/64", "dev", SERVER_IF, "nodad", namespace_of=pid)
    _ip("link", "set", SERVER_IF, "up", namespace_of=pid)
    for net in any_local:
        _ip("route", "add", "local", net, "dev", "lo", namespace_of=pid)
    _ip("-6", "route", "add", "local", "fd77::100/120", "dev", "lo", namespace_of=pid)
    for address in dark:
        _ip("route", "add", "blackhole", f"{address}/32", "table", "local", namespace_of=pid)
    # The client's own address must not be the servers' as well.
    _ip("route", "add", f"{CLIENT_ADDR}/32", "dev", SERVER_IF, "table", "local", namespace_of=pid)
    # Everything goes by way of the gateway, so that nobody has to answer ARP for
    # the servers; which of them are near is a matter of netmasks, not of routes.
    _ip("route", "add", f"{GATEWAY}/32", "dev", CLIENT_IF)
    _ip("route", "add", "default", "via", GATEWAY, "src", CLIENT_ADDR)
    _ip("-6", "route", "add", "fd77::100/120", "via", GATEWAY6, "dev", CLIENT_IF)
    for address in unreachable:
        _ip("route", "add", "unreachable", f"{address}/32")
    os.write(go_w, b"1")
    os.close(go_w)
    return pid


def run(body):
    """Call `body()` as process 1 of a new sandbox; return what it returned.

    `body` must return bytes.  It runs before any root change: it calls
    `enter_new_root` itself, so that it may first read files of the real root.
    """
    out_r, out_w = os.pipe()
    outer = os.fork()
    if outer == 0:
        status = 1
        try:
            os.close(out_r)
            die_with_parent()
            unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET)
            inner = os.fork()
            if inner == 0:
                try:
                    die_with_parent()
                    os.setsid()
                    data = body()
                    with os.fdopen(out_w, "wb") as stream:
                        stream.write(data)
                    status = 0
                except BaseException:  # the caller only sees what is printed here
                    import traceback

                    traceback.print_exc()
                finally:
                    os._exit(status)
            os.close(out_w)
            _, status = os.waitpid(inner, 0)
            status = os.waitstatus_to_exitcode(status)
        finally:
            os._exit(status if 0 <= status < 256 else 1)
    os.close(out_w)
    with os.fdopen(out_r, "rb") as stream:
        data = stream.read()
    _, status = os.waitpid(outer, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError("the sandbox ended badly (see standard error)")
    return data
