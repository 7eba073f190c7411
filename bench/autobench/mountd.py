"""A server that tells what it exports, and nothing else: port mapper and mount
daemon, each over UDP and TCP.  Runs in a process of its own."""

import os
import signal
import socket
import struct
import threading

PORTMAPPER, NFS, MOUNTD = 100000, 100003, 100005
PORTS = {PORTMAPPER: 111, NFS: 2049, MOUNTD: 20048}
GETPORT, GETADDR, EXPORT = 3, 3, 5
UNAVAILABLE = 3
DATAGRAM = 60000                # what is longer is for TCP only
FRAGMENT = 32768


def _u32(*values):
    return struct.pack(f">{len(values)}I", *values)


def _opaque(data):
    return _u32(len(data)) + data + bytes(-len(data) % 4)


def _read_u32(data, at):
    return struct.unpack_from(">I", data, at)[0]


class Mountd:
    """Exports these paths to everybody at this address while it is entered."""

    def __init__(self, address, paths):
        self.address = address
        entries = [_u32(1) + _opaque(path.encode()) + _u32(0)
                   for path in paths]
        self.exports = b"".join(entries) + _u32(0)

    def __enter__(self):
        ready, tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                for port in PORTS.values():
                    self._listen(port)
                os.write(tell, b".")
                signal.pause()
            finally:
                os._exit(1)
        os.close(tell)
        with open(ready, "rb") as told:
            if told.read(1) != b".":
                raise OSError(f"no fake server at {self.address}")
        return self

    def __exit__(self, *exc):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def _listen(self, port):
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind((self.address, port))
        streams = socket.socket()
        streams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        streams.bind((self.address, port))
        streams.listen(64)
        for serve, what in ((self._datagrams, datagrams),
                            (self._streams, streams)):
            threading.Thread(target=serve, args=(what,), daemon=True).start()

    def _datagrams(self, sock):
        while True:
            call, peer = sock.recvfrom(65536)
            reply = self._reply(call)
            if len(reply) < DATAGRAM:
                sock.sendto(reply, peer)

    def _streams(self, sock):
        while True:
            stream, _ = sock.accept()
            threading.Thread(target=self._stream, args=(stream,),
                             daemon=True).start()

    def _stream(self, stream):
        with stream, stream.makefile("rb") as calls:
            while len(mark := calls.read(4)) == 4:
                reply = self._reply(calls.read(_read_u32(mark, 0)
                                               & 0x7fffffff))
                pieces = [reply[at:at + FRAGMENT]
                          for at in range(0, len(reply), FRAGMENT)]
                last = len(pieces) - 1
                for number, piece in enumerate(pieces):
                    mark = len(piece) | (number == last) << 31
                    try:
                        stream.sendall(_u32(mark) + piece)
                    except OSError:
                        return

    def _reply(self, call):
        xid, _, _, program, version, procedure = struct.unpack_from(">6I",
                                                                    call)
        at = 24
        for _ in range(2):      # who asks: of no interest
            size = _read_u32(call, at + 4)
            at += 8 + size + -size % 4
        head = _u32(xid, 1, 0, 0, 0)
        if procedure == 0:
            return head + _u32(0)
        if program == MOUNTD and procedure == EXPORT:
            return head + _u32(0) + self.exports
        if program == PORTMAPPER and procedure in (GETPORT, GETADDR):
            port = PORTS.get(_read_u32(call, at), 0)
            if version == 2:
                return head + _u32(0, port)
            text = f"{self.address}.{port >> 8}.{port & 255}"
            return head + _u32(0) + _opaque(text.encode())
        return head + _u32(UNAVAILABLE)
