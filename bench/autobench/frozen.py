"""First access to a frozen view of a btrfs subvolume, beside the bare calls.

The bare cost is that of the two system calls without which there is no view:
making the subvolume and mounting it.  Both are measured in turns, on one file
system in a file on the machine's disk.
"""

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from contextlib import contextmanager

from . import kernel
from .scenarios import _running, scenario
from .site import key
from .stats import median

SNAP_CREATE_V2 = 0x50009417     # BTRFS_IOC_SNAP_CREATE_V2 in linux/btrfs.h
RDONLY = 2                      # BTRFS_SUBVOL_RDONLY


@scenario
def snapshot(bench, spec):
    """Piton alone has such maps."""
    if spec.name in ("autofs", "floor"):
        return
    n = bench.size.snapshots
    with _disk(n) as disk, bench.work.site() as site:
        point = site.snapshots("snap", f"{disk}/live")
        os.environ["PITON_STATE_DIR"] = f"{disk}/../state"
        bare, ours, failed = [], [], 0
        with _running(spec, site):
            for i in range(n):
                _settle(disk)
                bare.append(_bare(disk, i))
                _settle(disk)
                began = time.monotonic_ns()
                try:
                    os.stat(f"{point}/{key(i)}/file")
                except OSError:
                    failed += 1
                ours.append(time.monotonic_ns() - began)
        kernel.unmount_below(site.root)
        kernel.unmount_below(f"{disk}/bare-views")
        metrics = {"p50_us": median(ours) / 1000,
                   "bare_p50_us": median(bare) / 1000,
                   "ratio_n": median(ours) / median(bare),
                   "failed_n": failed}
    yield "btrfs", metrics


def _bare(disk, i):
    """Nanoseconds for one view without a daemon."""
    began = time.monotonic_ns()
    origin = os.open(f"{disk}/live/{key(i)}", os.O_RDONLY | os.O_DIRECTORY)
    into = os.open(f"{disk}/bare", os.O_RDONLY | os.O_DIRECTORY)
    name = key(i).encode()
    arguments = struct.pack("=qQQ32x4040s", origin, 0, RDONLY, name)
    fcntl.ioctl(into, SNAP_CREATE_V2, bytearray(arguments))
    kernel.mount(f"{disk}/bare/{key(i)}", f"{disk}/bare-views/{key(i)}", None,
                 kernel.MS_BIND)
    os.stat(f"{disk}/bare-views/{key(i)}/file")
    took = time.monotonic_ns() - began
    os.close(origin)
    os.close(into)
    return took


def _settle(disk):
    """Nothing that is still to be written meets one and not the other."""
    fd = os.open(disk, os.O_RDONLY)
    ctypes.CDLL(None).syncfs(fd)
    os.close(fd)
    time.sleep(0.02)


@contextmanager
def _disk(n):
    """A btrfs with n subvolumes, each with a file."""
    root = tempfile.mkdtemp(prefix="autobench-disk.")
    os.chmod(root, 0o755)       # nothing is shown that is closed above
    try:
        image, disk = f"{root}/image", f"{root}/disk"
        with open(image, "wb") as f:
            f.truncate(1 << 30)
        subprocess.run(["mkfs.btrfs", "-q", image], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.mkdir(disk)
        subprocess.run(["mount", "-o", "loop", image, disk], check=True)
        for name in ("live", "bare", "bare-views"):
            os.mkdir(f"{disk}/{name}")
        for i in range(n):
            live = f"{disk}/live/{key(i)}"
            subprocess.run(["btrfs", "-q", "subvolume", "create", live],
                           check=True)
            os.mkdir(f"{disk}/bare-views/{key(i)}")
            with open(f"{live}/file", "w") as f:
                f.write("frozen\n")
        yield disk
    finally:
        kernel.unmount_below(root)
        shutil.rmtree(root, ignore_errors=True)
