"""Processes that read paths of a site all the time and judge every answer."""

import errno
import multiprocessing
import os
import random
import signal
import time

from model import Answer


def read(root, path):
    """What is at a path: a text of `Answer`."""
    try:
        if os.path.basename(path) == "id":
            with open(f"{root}/{path}") as file:
                return Answer.of(file.read())
        folder = os.open(f"{root}/{path}", os.O_RDONLY | os.O_DIRECTORY)
        try:
            if os.listdir(folder):
                return Answer.FULL
            return Answer.EMPTY if is_mount(folder) else Answer.BARE
        finally:
            os.close(folder)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))


def is_mount(folder):
    above = os.stat("..", dir_fd=folder)
    return above.st_dev != os.fstat(folder).st_dev


class Shared:
    """What controller and readers see at the same time."""

    def __init__(self):
        # Odd while the daemon may be dead.
        self.outages = multiprocessing.Value("L", 0)
        self.reads = multiprocessing.Value("L", 0)
        self.held = multiprocessing.Value("L", 0)
        self.excused = multiprocessing.Value("L", 0)


class Reader:
    """One process, and the controller's end of its pipe."""

    def __init__(self, number, seed, root, shared, bound):
        self.number = number
        self.pipe, far = multiprocessing.Pipe()
        self.process = multiprocessing.Process(
            target=run, args=(number, seed, root, shared, bound, far), daemon=True)
        self.process.start()
        far.close()
        self.complaints = []
        self.slowest = 0.0

    def tell(self, what, limit=30.0):
        """Sends something and waits until it is heeded. False: the reader hangs."""
        self.pipe.send(what)
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if not self.pipe.poll(max(0.0, end - time.monotonic())):
                break
            kind, value = self.pipe.recv()
            if kind == "heeded":
                return True
            if kind == "wrong":
                self.complaints.append(value)
            if kind == "slowest":
                self.slowest = max(self.slowest, value)
        return False


def run(number, seed, root, shared, bound, pipe):
    """The reader's life. Choices depend on seed, number and count of reads alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setsid()
    answers, paused, count, held = {}, True, 0, []
    while True:
        while pipe.poll(1.0 if paused else 0):
            message = pipe.recv()
            if message == "end":
                pipe.send(("heeded", None))
                return
            if message == "pause":
                for file, *_ in held:
                    file.close()
                held = []
            paused = message == "pause" if isinstance(message, str) else paused
            if isinstance(message, dict):
                answers = message
            pipe.send(("heeded", None))
        if paused or not answers:
            continue
        chance = random.Random(f"{seed} {number} {count}")
        count += 1
        one(chance, answers, root, shared, bound, pipe, held)
        time.sleep(chance.random() * 0.02)


def one(chance, answers, root, shared, bound, pipe, held):
    """One access, judged."""
    path = chance.choice(sorted(answers))
    right = answers[path]
    before = shared.outages.value
    started = time.monotonic()
    got = read(root, path)
    took = time.monotonic() - started
    with shared.reads.get_lock():
        shared.reads.value += 1
    outage = before % 2 == 1 or shared.outages.value != before
    if outage and (got not in right):
        with shared.excused.get_lock():
            shared.excused.value += 1
    elif got not in right:
        pipe.send(("wrong", f"{path}: {got} after {took:.3f} s, right is {' or '.join(right)}"))
    if took > bound:
        pipe.send(("wrong", f"{path}: took {took:.1f} s ({got})"))
    if took > 0.5:
        pipe.send(("slowest", took))
    hold(chance, path, got, root, shared, pipe, held)


def hold(chance, path, got, root, shared, pipe, held):
    """Now and then a file stays open: its mount is busy, and must not go from under it."""
    now = time.monotonic()
    for entry in [entry for entry in held if entry[2] < now]:
        file, text, _, name = entry
        held.remove(entry)
        file.seek(0)
        if Answer.of(file.read()) != text:
            pipe.send(("wrong", f"{name}: an open file changed"))
        file.close()
    if got.startswith("is ") and len(held) < 3 and chance.random() < 0.02:
        try:
            file = open(f"{root}/{path}")
        except OSError:
            return
        held.append((file, Answer.of(file.read()), now + chance.random() * 4, path))
        with shared.held.get_lock():
            shared.held.value += 1
