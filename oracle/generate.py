#!/usr/bin/env python3
"""Random but plausible maps through autofs and through Piton, and where the two disagree.

    generate.py --seed 7 --rounds 20                 every family
    generate.py --family offsets --rounds 50         one of them

Every round writes one map of many keys, touches each in both automounters, and compares as
differential.py does.  What differs is asked again alone, in a map that holds nothing else, and
made smaller word by word while it still differs.  Nothing is judged here: a person reads
the findings, and turns them into cases, mends and entries of docs/dialects.md.

Differences with a known reason are not looked for: the grammar below leaves out what
docs/dialects.md names, and an errno that is more exact than ENOENT (D-1) is no finding.
"""

import argparse
import base64
import concurrent.futures
import json
import random
import re
import sys
import traceback

import differential
import oracle
import outcome
import saved as cases

OPTIONS = (
    "ro rw nosuid nodev noexec soft hard intr tcp udp vers=3 vers=4 nfsvers=4.1 rsize=8192 "
    "wsize=32768 timeo=600 retrans=2 noatime nolock sec=sys acl noacl actimeo=3 proto=tcp "
    "port=2049 uid=$UID gid=1000 user=& username=& credentials=/etc/cred.& fsc "
    "context=system_u:object_r:httpd_t:s0 umask=022 iocharset=utf8 defaults _netdev "
    "x-systemd.automount nofail comment=a.b allow_other IdentityFile=/root/.ssh/id_rsa "
    "file_mode=0644 domain=$HOST domain=EXAMPLE pass=a#b dir_mode=0755 vers=3.0 bg fg "
    "strict nonstrict quota grpid async sync users guest bsize=1024 retry=0 use-weight-only "
    "opt=a:b opt=\"a,b\" opt=a=b opt=$A opt=${A}b opt=$UNDEF opt=a\\#b browse nobrowse "
    "x&y suid,dev rw,hard,intr nfsvers=3,tcp mountproto=tcp lookupcache=none local_lock=all"
).split()
COMPONENTS = (
    "home data export vol1 a b srv users & $HOST ${HOST} $ARCH ${ARCH} $A ${A}x $UNDEF ${UNDEF} "
    "a.b a-b a_b .snapshot a,b a=b a(b) a%20b \u00fcn\u00ef a'b ~x @x a*b a&b &&x x& $OSNAME $CPU "
    "$USER $UID \\& \\$HOST a\\#b a#b \"a&b\" \"$HOST\" a\"b\"c \"a#b\" a\\\\b a\\\\\\\\b \\\\& \\\\\\\\& \\\\$A $A$A a$A-b "
    "${A%l} ${A:-x} $(A) ${1} $1 $-x ${ $$A ${A}$ $A: ${A}: \\${A} a$ "
    "${A}${A} a+b a;b a!b [x] {x} a|b $SHOST $A.b $A/b A 123 a@b"
).split() + ["a\\ b", '"a b"', 'a" "b']
KEYS = "a b k1 alpha BETA x.y x-y x_y 9 proj+ @scratch a=b a,b a~b c%d e!f g;h".split()
WILD = "anything UPPER w.x w-1 @w w+x 7 w~v w=v w!v".split()
DEFINED = ["-D", "A=val"]


class Maker:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def chance(self, percent):
        return self.random.random() * 100 < percent

    def one(self, items):
        return self.random.choice(items)

    def some(self, items, least, most):
        return [self.one(items) for _ in range(self.random.randint(least, most))]

    # -- entries

    def path(self, least=1, most=3):
        text = "/" + "/".join(self.some(COMPONENTS, least, most))
        if self.chance(6):
            text += "/"
        if self.chance(4):
            text = text.replace("/", "//", 1)
        return f'"{text}"' if self.chance(4) and '"' not in text else text

    def options(self, fstype=None, percent=60):
        """A list of words, each an option group."""
        groups = []
        words = self.some(OPTIONS, 1, 4) if self.chance(percent) else []
        if fstype:
            words.insert(self.random.randint(0, len(words)), f"fstype={fstype}")
        while words:
            count = self.random.randint(1, len(words)) if self.chance(15) else len(words)
            groups.append("-" + ",".join(words[:count]))
            words = words[count:]
        return groups

    def server(self):
        return self.one(["srv", "nfs1.example.org", "10.77.3.4", "SRV2", "s-1", "srv"])

    def location(self, fstype):
        if fstype in ("nfs", "nfs4", None):
            if self.chance(3):
                return self.one(["srv:path", "srv:", "srv", "srv/path", "$A:/x", "${A}1:/x", "&:/x"])
            return f"{self.server()}:{self.path()}"
        if fstype == "bind":
            return self.one([":/srv/data", ":/srv/&", ":/srv/data/", ":/srv/$A", ":/srv/none", "/srv/data"])
        if fstype == "tmpfs":
            return self.one([":tmpfs", ":none", "tmpfs", ":/tmpfs", ":swap"])
        return self.one([
            f":{self.path()}", f":{self.path()}", f"srv:{self.path()}", ":/dev/sdb1", ":LABEL=data",
            ":UUID=12-34", f":/{self.path()}", f"://srv/{self.path().strip('/')}", ":label",
            ":sshfs#u@h\\:/x", ":sshfs\\#u@h\\:/x", ":u@h:/x", "://srv/a$", "://$HOST/&$", ":\\\\\\\\srv\\\\x",
            ":https\\://dav.x.org/a", ":sshfs#&@srv\\:", ":/dev/disk/by-label/&", "//srv/share",
            ":cvmfs", ":&", "srv,srv:/x", ":/dev/cdrom", ":none", ":ceph-fuse",
            "mon1,mon2:/x", "mon1:6789,mon2:6789:/x", "h\\:/x:/y", ":/a :/b",
        ])

    def fstype(self):
        return self.one([None, None, None, "nfs", "nfs4", "fake", "fake", "fake", "cifs", "ext4", "bind",
                         "tmpfs", "fuse", "auto", "fuse.sshfs", "ceph", "cvmfs", "davfs"])

    def inside(self, fstype):
        """A location of an entry with offsets: with a colon and a slash (D-28)."""
        while True:
            found = self.location(fstype)
            if ":" in found and "/" in found and not any(text in found for text in (" ", "\\\\", '"')):
                return found

    def simple(self, fstype=None):
        fstype = fstype or self.fstype()
        return [*self.options(fstype), self.location(fstype)]

    def offset(self):
        text = "/" + "/".join(self.some(["x", "y", "z", "&", "$A", "x.y", "deep", "a-b", "${A}q"], 1, 2))
        return text + "/" if self.chance(4) else text

    def multi(self):
        """(words, the offsets)"""
        fstype = self.one(["fake", "fake", None, "nfs", "cifs"])
        words, offsets = self.options(fstype if self.chance(80) else None, 40), []
        inner = None if any("fstype=" in word for word in words) else fstype
        shape = self.random.randint(0, 3)
        if shape:
            if shape == 2 or self.chance(30):
                words.append("/")
                words += self.options(inner, 40)
            words.append(self.inside(fstype or "nfs"))
        for _ in range(self.random.randint(1, 3)):
            offset = self.offset()
            offsets.append(offset)
            words += [offset, *self.options(inner if self.chance(90) else "fake", 30)]
            words.append(self.inside(fstype or "nfs"))
        return words, offsets

    # -- lines

    def blank(self):
        if self.chance(80):
            return " "
        return self.one(["  ", "\t", "\t\t", " \t ", "   ", " \\\n ", " \\\n", "\\\n\t", " \\\n\t\t", " \\\n    "])

    def line(self, key, words):
        text = key
        for word in words:
            text += self.blank() + word
        if self.chance(6):
            text += self.one([" ", "\t", "  ", " # comment", "\t#comment", " #"])
        return text

    def noise(self):
        return self.one(["", "", "# comment", "#", "#k srv:/x", "# a \"quote", "#comment with :/path"])


# -- families: each gives {"files": …, "steps": […]} from a list of (key, words, offsets) -----


def touched(key, offsets):
    paths = [f"/m/{key}"]
    for offset in offsets:
        inner = offset.replace("&", key).replace("${A}", "val").replace("$A", "val").rstrip("/")
        paths.append(f"/m/{key}{inner}")
    return list(dict.fromkeys(paths))


def entries(maker, count):
    return [(f"{maker.one(KEYS)}{number}", maker.simple(), []) for number in range(count)]


def nfs(maker, count):
    return [(f"{maker.one(KEYS)}{number}", maker.simple(maker.one(["nfs", "nfs4"])), [])
            for number in range(count)]


def others(maker, count):
    return [(f"{maker.one(KEYS)}{number}", maker.simple(maker.one(["fake", "cifs", "fuse"])), [])
            for number in range(count)]


def offsets(maker, count):
    made = []
    for number in range(count // 2):
        words, inner = maker.multi()
        made.append((f"{maker.one(KEYS)}{number}", words, inner))
    return made


def spelled(maker, count):
    """Simple entries whose keys and lines are written in all ways."""
    made = []
    for number in range(count):
        key = f"{maker.one(KEYS)}{number}"
        written = maker.one([key, key, f'"{key}"', f'{key[0]}"{key[1:]}"', key + "\\ z", f'"{key} z"'])
        made.append((key + " z" if written[-3:] in ("\\ z", ' z"') else key, maker.simple("fake"), [], written))
    return made


def weighted(maker, count):
    """Servers in lists with weights, of which the lightest is tried first."""
    made = []
    for number in range(count):
        names = maker.random.sample(["srv", "nfs1.example.org", "10.77.3.4", "SRV2", "s-1"], maker.random.randint(2, 4))
        weights = maker.random.sample(range(30), len(names))
        groups, hosts = [], []
        for at, (name, weight) in enumerate(zip(names, weights)):
            hosts.append(f"{name}({weight})" if weight else name)
            if at + 1 == len(names) or maker.chance(40):
                groups.append(",".join(hosts) + ":/" + maker.one(["a", "a/b", "&", "$A", "${UNDEF}", "a.b/", "/x"]))
                hosts = []
        options = maker.options("nfs", 40)
        made.append((f"k{number}", ["-use-weight-only", *options, *groups], []))
    return made


def lines(maker, count):
    """Simple entries between all kinds of blanks, ends of lines, comments and bytes."""
    made = []
    for number in range(count):
        key = f"{maker.one(KEYS)}{number}"
        blank = maker.one([" ", "\t", "\v", "\f", " \t ", "\\\n", " \\\n", "\t\\\n\t", " \\\n\\\n "])
        end = maker.one(["", "", "", " ", "\t", " # x", "\t#", " #a \\\nb srv:/x", " #&$A", "#x"])
        words = [f"-fstype=fake,o={maker.one(['a', 'long' * 300, '$A', 'x#y'])}", ":" + maker.path(1, 2)]
        if "\\\n" in end and any(mark in words[1] for mark in '"\\'):
            end = ""  # D-33
        made.append((key, [blank.join(["", *words]).lstrip(" ") + end], [], key))
    return made


def wild(maker, count):
    """Names that only the wildcard has."""
    words = maker.simple(maker.one(["fake", "nfs", "cifs", "bind"]))
    if maker.chance(30):
        words, _ = maker.multi()
    names = maker.random.sample(WILD, 8)
    return [(name, words, [], None if number else "*") for number, name in enumerate(names)]


FAMILIES = {
    "entries": entries, "nfs": nfs, "others": others, "offsets": offsets, "spelled": spelled, "wild": wild,
    "weighted": weighted, "lines": lines,
}


# -- families of whole sites: each gives a case ---------------------------------------------------


def entry_text(maker, fstype="fake"):
    return " ".join([*maker.options(fstype, 30), f":{maker.path(1, 2)}"])


def includes(maker, _):
    names = ["/etc/auto.m", "/etc/auto.one", "/etc/auto.two", "/etc/auto_three"]
    keys = list("abcdefgh")
    files = {}
    for at, name in enumerate(names):
        lines = [f"{key} -fstype=fake :/{at}/{number}/&" for number, key in enumerate(maker.some(keys, 1, 5))]
        if maker.chance(30):
            lines.append(f"* -fstype=fake :/{at}/wild/&")
        for other in names[at + 1:]:
            if maker.chance(50):
                word = maker.one([f"+{other}", f"+{other[5:]}", f"+file:{other}", f"+{other} ", f"+{other} -ro"])
                lines.append(word)
        maker.random.shuffle(lines)
        files[name] = "\n".join(lines) + maker.one(["\n", "\n", ""])
    files["/etc/auto.master"] = [maker.one(["/m /etc/auto.m", "/m auto.m", "/m /etc/auto.m browse", "/m auto.m --ghost"])]
    return {"files": files, "network": False, "steps": ["/m", *[f"/m/{key}" for key in keys + ["zz"]], "/m"]}


MASTER_OPTIONS = (
    "--timeout=60|--timeout 60|-t 60|--timeout=0|rw|-rw|ro,nosuid|-ro,nosuid|nobind|-nobind|browse|nobrowse|--ghost|"
    "-g|-browse|--browse|-nobrowse|strict|-strict|--strict|-DA=one|-DB=two|--verbose|-v|-d|--debug|"
    "soft,intr,rsize=8192|-fstype=fake|fstype=fake|-fstype=fake,ro|--negative-timeout=5|-n 5|--mode=0700|"
    "use-weight-only|-w|symlink|--random-multimount-selection|-r|--use-weight-only|slave|private|shared|"
    "-intr,soft|vers=3|nosuid,nodev|--strictexpire|strictexpire|--debug --timeout=9|--nobind|uid=5|_netdev|"
    "--timeout=30,ro|-ro,--timeout=30|nobind,ro|ro,nobrowse|-Dx=y,ro"
).split("|")


def master(maker, _):
    lines, steps = [], []
    for number in range(7):
        point = maker.one([f"/m{number}", f"/deep/er/m{number}", f"/m{number}/", f"/m.{number}", f"/M{number}-x"])
        if maker.chance(8):
            lines.append(maker.one(["# comment", "", "#/x auto.x", "+auto.more", "/null -null", "   ", "\t"]))
        name = maker.one(["/etc/auto.m", "auto.m", "file:/etc/auto.m", "file,sun:/etc/auto.m", "/etc/auto.b", "auto_u",
                          "file:auto.m", "file,sun /etc/auto.m", "file /etc/auto.m", "auto.b"])
        blank = maker.one([" ", " ", "\t", "   ", " \\\n  "])
        words = [point, name, *maker.some(MASTER_OPTIONS, 0, 3)]
        lines.append(blank.join(words))
        point = point.rstrip("/")
        steps += [point, f"{point}/a", f"{point}/b", f"{point}/c", {"op": "stat", "path": point}]
    text = "a -fstype=fake :/a/$A\nb -ro,fstype=fake :/b/$B$x\nc -fstype=fake,rw / :/c /x :/x\n"
    return {"files": {"/etc/auto.master": "\n".join(lines) + "\n", "/etc/auto.m": text,
                      "/etc/auto.b": "a srv:/a\nb -fstype=fake,soft :/b\nc :/srv/data\n", "/etc/auto_u": text,
                      "/etc/auto.more": "/more /etc/auto.m\n"},
            "dirs": ["/srv/data"], "hosts": {"*": {}}, "compare": ["autofs-options"],
            "steps": [*steps, "/more/a"]}


def direct(maker, count):
    keys, lines, steps = [], [], []
    for number in range(count // 2):
        key = "/d/" + "/".join(maker.some(["x", "y.z", "q-1", "data", "u"], 0, 2) + [f"k{number}"])
        keys.append(key)
        if maker.chance(25):
            words, inner = maker.multi()
        else:
            words, inner = maker.simple(), []
        written = maker.one([key, key, key, f'"{key}"', key + "/", key.replace("/k", "//k")])
        lines.append(maker.line(written, words))
        steps.append(key)
        for offset in inner:
            steps.append(key + offset.replace("&", key.lstrip("/")).replace("${A}", "val").replace("$A", "val").rstrip("/"))
    half = len(lines) // 2
    return {"files": {"/etc/auto.master": ["/- /etc/auto.d1", maker.one(["/- /etc/auto.d2 -nodiratime", "/- auto.d2", "/- file:/etc/auto.d2 --timeout=9"])],
                      "/etc/auto.d1": "\n".join(lines[:half]) + "\n", "/etc/auto.d2": "\n".join(lines[half:])},
            "dirs": ["/srv/data", "/srv/val"], "args": DEFINED, "hosts": {"*": {}}, "steps": list(dict.fromkeys(steps))}


def submounts(maker, _):
    lines, steps = [], []
    for number in range(8):
        words = maker.some(["ro", "nosuid", "browse", "nobrowse", "nobind", "-DA=in", "rw", "strict", "soft", "-DB=&", "-DC=$A", "timeout=9"], 0, 2)
        words.insert(maker.random.randint(0, len(words)), "fstype=autofs")
        where = maker.one(["file:/etc/auto.s", ":/etc/auto.s", "/etc/auto.s", "auto.s", ":auto.s", ":file:/etc/auto.s",
                           "file,sun:/etc/auto.s", "file:auto.s", ":file:auto.s", "auto.$A", "auto.&", "file:/etc/auto.$A"])
        if maker.chance(30):
            lines.append(f"k{number} -fstype=fake,ro / :/root /k -{','.join(words)} {where}")
            steps += [f"/m/k{number}/k/a", f"/m/k{number}/k/b", f"/m/k{number}/k/c/x"]
        else:
            lines.append(f"k{number} -{','.join(words)} {where}")
        steps += [f"/m/k{number}", f"/m/k{number}/a", f"/m/k{number}/b", f"/m/k{number}/c/x", f"/m/k{number}/zz"]
    if maker.chance(40):
        lines.append(f"* -fstype=autofs,-DB=& {maker.one(['file:/etc/auto.s', 'auto.s'])}")
        steps += ["/m/any/a", "/m/any/b", "/m/any/c/x"]
    text = "a -fstype=fake,o=$B :/a/$A/&/$C\nb srv:/b/$A/$B\nc -fstype=fake,rw / :/c /x :/x\n"
    return {"files": {"/etc/auto.master": [maker.one(MASTERS).replace(" -fstype=fake", " ro").replace(" -DA=master", "")], "/etc/auto.m": "\n".join(lines) + "\n",
                      "/etc/auto.s": text, "/etc/auto.k1": text},
            "args": ["-D", "A=s"], "hosts": {"*": {}}, "steps": steps}  # of nested -D: D-8


def programs(maker, count):
    """Entries that a program prints, with what programs print around them."""
    cases, steps = [], []
    for number in range(count // 2):
        key = f"k{number}"
        words, inner = maker.multi() if maker.chance(40) else (maker.simple(), [])
        before = maker.one(["", "", "", "\n", " ", "\t", "\n\n"])
        after = maker.one(["\n", "\n", "", "\n\n", " \n", "\r\n", "\nsecond :/line\n", " # comment\n"])
        text = before + maker.line("", words).strip() + after
        cases.append(f"{key}) printf '%s' '{text.replace(chr(39), chr(39) + chr(92) + chr(39) * 2)}';;")
        steps += touched(key, inner)
    cases.append("bad) echo srv:/x; exit 1;;\nempty) ;;\nerr) echo srv:/x; echo oops >&2;;")
    script = "#!/bin/sh\ncase \"$1\" in\n" + "\n".join(cases) + "\nesac\n"
    line = maker.one(["/m program:/etc/auto.m", "/m /etc/auto.m", "/m exec:/etc/auto.m ro", "/m program,sun:/etc/auto.m"])
    return {"files": {"/etc/auto.master": [line], "/etc/auto.m": {"text": script, "mode": "755"}},
            "dirs": ["/srv/data", "/srv/val"], "args": DEFINED, "hosts": {"*": {}},
            "steps": [*steps, "/m/bad", "/m/empty", "/m/err", "/m/none"]}


def several(maker, _):
    """One mount point with several maps."""
    files, names = {}, ["/etc/auto.m", "/etc/auto.n", "/etc/auto.o"][:maker.random.randint(2, 3)]
    for at, name in enumerate(names):
        text = [f"{key} -fstype=fake :/{at}/&" for key in maker.some(list("abcdef"), 1, 4)]
        if maker.chance(30):
            text.append(f"* -fstype=fake,wild :/{at}/&")
        if maker.chance(30):
            text.append(maker.one([f"b -fstype=fake / :/{at} /x :/{at}/x", "c", "d -ro", "+auto.x"]))
        files[name] = "\n".join(text) + "\n"
    files["/etc/auto.x"] = "x -fstype=fake :/x\n"
    written = [maker.one([names[0], f"file:{names[0]}"]), *names[1:]]
    # Mount options are no question: D-46.
    options = maker.one(["", " browse", " --timeout=9", " -DA=b"])
    files["/etc/auto.master"] = ["/m multi:" + " -- ".join(written) + options]
    return {"files": files, "network": False, "steps": ["/m", *[f"/m/{key}" for key in "abcdefxz"], "/m/b/x", "/m"]}


SETTINGS = (
    "timeout = 7|browse_mode = yes|browse_mode = no|append_options = no|append_options = yes|negative_timeout = 3|"
    "mount_nfs_default_protocol = 4|mount_nfs_default_protocol = 3|use_hostname_for_mounts = yes|"
    "use_ignore_mount_option = yes|# timeout = 9|logging = debug|sss_master_map_wait = 1|force_standard_program_map_env = yes|"
    "disable_not_found_message = yes|mount_wait = 5|umount_wait = 4|map_hash_table_size = 512|ldap_timeout = -1|"
    "master_map_name = auto.master|master_wait = 3|use_mount_request_log_id = no|TIMEOUT=8|BROWSE_MODE=\"yes\""
).split("|")


def settings(maker, _):
    """Settings in autofs.conf."""
    case = master(maker, None)
    case["files"]["/etc/autofs.conf"] = "[ autofs ]\n" + "\n".join(maker.some(SETTINGS, 1, 4)) + "\n"
    return case


# No word is a part of another one: D-29.
MERGED = "ro rw soft hard nosuid vers=3 quota fsc grpid sync".split()


def merged(maker, count):
    """Options of the command line, the master map, the entry, its groups and its offsets."""
    def text(least):
        return ",".join(maker.random.sample(MERGED, maker.random.randint(least, 3)))
    lines, steps = [], []
    for number in range(count // 2):
        fstype = maker.one(["nfs", "fake", "bind"])
        # Groups that repeat each other: D-29.
        words = [f"-{text(1)}" for _ in range(maker.random.randint(0, 1))]
        if fstype != "nfs":
            words.insert(maker.random.randint(0, len(words)), f"-fstype={fstype}")
        place = {"nfs": "srv:/x", "fake": ":/x", "bind": ":/srv/data"}[fstype]
        steps.append(f"/m/k{number}")
        if fstype != "bind" and maker.chance(40):
            words += maker.one([[], ["/", place], ["/", f"-{text(1)}", place]])
            for offset in ("/a", "/b", "/a/c")[:maker.random.randint(1, 3)]:
                words += [offset, *maker.one([[], [f"-{text(1)}"], [f"-{text(1)}", f"-{text(1)}"]]), place]
                steps.append(f"/m/k{number}{offset}")
        else:
            words.append(place)
        lines.append(f"k{number} {' '.join(words)}\n")
    args = maker.one([[], ["-O", text(1)], ["-O", f"{text(1)},{text(1)}"]])
    line = f"/m /etc/auto.m {maker.one(['', text(1), '-' + text(1), text(1) + ' ' + text(1), '--timeout=900 ' + text(1)])}"
    files = {"/etc/auto.master": [line], "/etc/auto.m": "".join(lines)}
    if maker.chance(30):
        files["/etc/autofs.conf"] = f"[ autofs ]\nappend_options = {maker.one(['no', 'yes'])}\n"
    return {"files": files, "dirs": ["/srv/data"], "args": args, "hosts": {"*": {}}, "steps": steps}


def raw(maker, count):
    """Files as bytes: ends of lines, NULs, long lines, what is not UTF-8, an end in the middle."""
    end = maker.one(["\n", "\n", "\r\n"])
    lines, steps = [], []
    for number in range(count // 2):
        key = f"k{number}"
        tail = maker.one(["/a", "/a", "/\u00fc", "/\udcff\udcfe", "/a\0b", "/" + "x" * maker.random.randint(200, 300),
                          "/" + "/".join(["y" * 200] * maker.random.randint(10, 19)), "/&", "/$A/", "/a#b", "/a #b", "/\u20ac b"])
        option = maker.one(["", "-ro ", "-o=\u00fc ", "-o=\0 ", "-fstype=fake,\udcff ", "-o=" + "z" * 3000 + " "])
        blank = maker.one([" ", "\t", "  ", "\t \t"])
        lines.append(f"{key}{blank}-fstype=fake {option}:{tail}{maker.one(['', '', ' ', chr(9)])}")
        steps.append(f"/m/{key}")
        if maker.chance(10):
            lines.append(maker.one(["", "#", "# \u00fc", "#\0", "# \udcff"]))
    lines.append(f"last -fstype=fake :/last{maker.one(['', ' ', chr(9)])}")
    lines.insert(0, "* -fstype=fake :/wild/&")
    text = end.join(lines) + maker.one(["", end])
    data = base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()
    return {"files": {"/etc/auto.master": ["/m /etc/auto.m"], "/etc/auto.m": {"base64": data}}, "args": DEFINED,
            "network": False, "steps": [*steps, "/m/last", "/m/\u00fc", "/m/\u20ac uro", "/m/" + "w" * 200]}


NSSWITCH = ("files|files sss|sss files|nis files|files nis|nis|sss|files files|ldap files|yp files|nisplus files|"
            "FILES|files # comment|# files||hesiod files|compat files").split("|")


def switched(maker, _):
    """Maps by name and by type: where they are looked for, and what a missing one costs."""
    names = ["auto.m", "auto_u", "plain", "auto.none", "/etc/auto.m", "/etc/auto.none", "auto.x.y"]
    lines, steps = [], []
    for number in range(6):
        name = maker.one(names)
        # Types that nobody knows are no question (D-40), nor are programs that are not there (D-60).
        kind = maker.one(["", "", "", "file:", "yp:", "nis:", "nisplus:", "sss:", "file,sun:"])
        lines.append(f"/m{number} {kind}{name}{maker.one(['', ' ro', ' --timeout=900'])}")
        steps += [f"/m{number}", f"/m{number}/a", f"/m{number}/b", {"op": "stat", "path": f"/m{number}"}]
    for place in range(maker.random.randint(0, 2)):
        include = maker.one(["+auto.more", "+/etc/auto.more", "+file:/etc/auto.more", "+auto.none", "+yp:auto.more", "+nis:auto.more",
                             "+sss:auto.more", "+dir:/etc/none", "+auto.master", "+dir:/etc/auto.master.d", "+auto_more"])
        lines.insert(maker.random.randint(0, len(lines)), include)
    maps = "a -fstype=fake :/a\n+auto.in\n"
    nsswitch = maker.one(NSSWITCH)
    files = {"/etc/auto.master": "\n".join(lines) + "\n", "/etc/auto.m": maps, "/etc/auto_u": maps, "/etc/plain": maps,
             "/etc/auto.x.y": maps, "/etc/auto.more": "/more auto.m\n/m1 auto_u\n", "/etc/auto_more": "/under auto_u\n",
             "/etc/auto.in": "b -fstype=fake :/b\n", "/etc/auto.master.d/a.autofs": "/dropped /etc/auto.m\n/m2 auto_u\n",
             "/etc/auto.master.d/b.autofs~": "/not /etc/auto.m\n", "/etc/auto.master.d/.c.autofs": "/nor /etc/auto.m\n",
             "/etc/nsswitch.conf": f"passwd: files\n{maker.one(['automount:', 'automount: ', 'automount:' + chr(9), 'Automount: '])} {nsswitch}\n" if nsswitch else "passwd: files\n"}
    return {"files": files, "network": False, "compare": ["autofs-options"],
            "steps": [*steps, "/more", "/more/a", "/under/a", "/dropped/b", "/not/a", "/nor/a"]}


def drops(maker, _):
    """Master maps in a directory, included ones, and the same mount point in several of them."""
    points = ["/m", "/n", "/o", "/p/q", "/-"]
    files = {"/etc/auto.m": "a -fstype=fake :/a\n", "/etc/auto.n": "a -fstype=fake :/src/n\nb -fstype=fake :/src/n/b\n",
             "/etc/auto.d1": "/d/x -fstype=fake :/src/1\n/d/y -fstype=fake :/src/1\n", "/etc/auto.d2": "/d/y -fstype=fake :/src/2\n/d/z -fstype=fake :/src/2\n"}

    def some():
        text = ""
        for _ in range(maker.random.randint(1, 3)):
            point = maker.one(points)
            name = maker.one(["/etc/auto.d1", "/etc/auto.d2"] if point == "/-" else ["/etc/auto.m", "/etc/auto.n", "auto.n"])
            option = maker.one(["", "", " -ro"] if point == "/-" else ["", "", " --timeout=700", " -ro", " browse"])  # D-55
            text += f"{point} {name}{option}\n"
        return text
    main = [some()]
    for name in maker.random.sample(["1.autofs", "2.autofs", "b.autofs", "A.autofs", "c.conf", "d.autofs.bak", "e autofs", ".f.autofs", "autofs", "x.autofs.autofs"], 5):
        files[f"/etc/auto.master.d/{name}"] = some()
    files["/etc/auto.extra"] = some() + maker.one(["", "+/etc/auto.last\n", "+dir:/etc/auto.master.d\n"])
    files["/etc/auto.last"] = some()
    for include in maker.random.sample(["+dir:/etc/auto.master.d\n", "+dir:/etc/auto.master.d/\n", "+/etc/auto.extra\n", "+auto.last\n", "+file:/etc/auto.last\n"], 2):
        main.insert(maker.random.randint(0, len(main)), include)
    files["/etc/auto.master"] = "".join(main)
    return {"files": files, "network": False, "compare": ["autofs-options"],
            "steps": ["/m", "/m/a", "/m/b", "/n", "/n/a", "/n/b", "/o/a", "/o/b", "/p/q/a", "/p/q/b", "/d/x", "/d/y", "/d/z"]}


def touches(maker, _):
    """All ways to touch a name, before and after somebody walked there."""
    case = case_of([], maker.one(["/m /etc/auto.m", "/m /etc/auto.m browse", "/m /etc/auto.m nobrowse strict"]), "")
    case["files"]["/etc/auto.m"] = "".join([
        "a -fstype=fake :/a\n", "b -fstype=bind :/srv/data\n", "c -fstype=fake / :/c /x :/x /y/z :/z\n", "d /x :/srv/data /y -fstype=fake :/y\n",
        "e -fstype=bind :/srv/none\n", "f -fstype=autofs file:/etc/auto.s\n", "l -fstype=bind,symlink :/srv/data\n",
        maker.one(["", "* -fstype=fake :/w/&\n", "* -fstype=bind :/srv/&\n"])])
    case["files"]["/etc/auto.s"] = "a -fstype=fake :/sa\nb -fstype=bind :/srv/data\n"
    case["files"]["/etc/auto.master"].append("/- /etc/auto.d")
    case["files"]["/etc/auto.d"] = "/d/k -fstype=fake :/k\n/d/o / :/srv/data /x -fstype=fake :/x\n"
    names = ["a", "b", "c", "c/x", "c/y", "c/y/z", "c/none", "d", "d/x", "d/y", "e", "f", "f/a", "f/b", "f/none", "l", "data", "none", ".", "", ".hidden", "a/b"]
    paths = [f"/m/{name}" for name in names] + ["/d", "/d/k", "/d/o", "/d/o/x", "/d/none"]
    case["steps"] = [{"op": maker.one(["open", "open", "stat", "stat", "lstat", "readlink", "mkdir", "rmdir", "chdir"]), "path": maker.one(paths)}
                     for _ in range(40)]
    return case


def changes(maker, _):
    """Maps that change while some of their keys are mounted, each change with its SIGHUP."""
    def entries():
        text = "".join(f"{key} -fstype=fake :/{maker.random.randint(0, 3)}/&\n" for key in maker.random.sample("abcd", maker.random.randint(1, 4)))
        return text + maker.one(["", "", "* -fstype=fake :/w/&\n", "o -fstype=fake / :/o /x :/x\n", "o -fstype=fake /x :/x /y :/y\n", "+/etc/auto.i\n"])

    def points():
        chosen = maker.random.sample(["/m /etc/auto.m", "/n /etc/auto.n", "/n /etc/auto.m ro", "/p /etc/auto.n --timeout=900"], maker.random.randint(1, 3))
        return "\n".join(["/keep /etc/auto.m", *{line.split()[0]: line for line in chosen}.values()]) + "\n"
    steps = []
    looked = ["/m/a", "/m/b", "/m/c", "/m/d", "/m/o", "/m/o/x", "/m/zz", "/n/a", "/n/b", "/n/c", "/p/a", "/keep/d", "/keep/i"]
    for _ in range(4):
        steps += maker.random.sample(looked, 7)
        path = maker.one(["/etc/auto.m", "/etc/auto.n", "/etc/auto.i", "/etc/auto.master"])
        text = points() if path == "/etc/auto.master" else "i -fstype=fake :/i\nb -fstype=fake :/ib\n" if path == "/etc/auto.i" and maker.chance(50) else entries().replace("+/etc/auto.i\n", "" if path == "/etc/auto.i" else "+/etc/auto.i\n")
        steps.append({"op": "write", "path": path, "contents": text, "after": 2, "then": "SIGHUP"})
    steps += looked
    return {"files": {"/etc/auto.master": points(), "/etc/auto.m": entries(), "/etc/auto.n": entries(), "/etc/auto.i": "i -fstype=fake :/i\n",
                      # autofs goes on to say that there is no such key while it remembers so (D-64).
                      "/etc/autofs.conf": "[ autofs ]\nnegative_timeout = 1\n"},
            "network": False, "steps": steps}


def here(maker, count):
    """Directories of this host, by its names and without. What a bind mount keeps of nosuid and the like is no
    question (D-7), nor are links with offsets (D-19)."""
    names = ["localhost", "127.0.0.1", "client1", "client1.example.org", "10.77.0.1", "$HOST", "srv", ""]
    lines, steps = [], []
    for number in range(count // 2):
        fstype = maker.one(["", "", "fstype=nfs", "fstype=nfs4", "fstype=bind"])
        words = maker.some(["ro", "nobind", "bind", "symlink", "vers=3", "rw", "port=2049", "nosymlink", "soft"], 0, 2)
        if fstype:
            words.insert(maker.random.randint(0, len(words)), fstype)
        if fstype == "fstype=bind":
            words = [word for word in words if word not in ("bind", "nobind", "nosymlink")]
        hosts = "" if fstype == "fstype=bind" else maker.one(names)
        place = f"{hosts}:{maker.one(['/srv/data', '/srv/data/', '/srv/&', '/srv/none', '/srv'])}"
        if maker.chance(15) and hosts:
            place = f"srv,{place}"
        options = f"-{','.join(words)} " if words else ""
        steps.append(f"/m/k{number}")
        if maker.chance(15) and "none" not in place and not any(word in words for word in ("symlink", "nosymlink")):
            lines.append(f"k{number} {options}/ {place} /in {place}\n")
            steps.append(f"/m/k{number}/in")
        else:
            lines.append(f"k{number} {options}{place}\n")
    line = maker.one(["/m /etc/auto.m", "/m /etc/auto.m", "/m /etc/auto.m nobind", "/m /etc/auto.m ro", "/m /etc/auto.m -soft"])
    return {"files": {"/etc/auto.master": [line], "/etc/auto.m": "".join(lines)}, "dirs": ["/srv/data/in", "/srv/k1/in", "/srv/k2"],
            "hosts": {"*": {}}, "steps": [{"op": op, "path": path} for path in steps for op in ("open", "lstat")]}


AMD = ["[ amd ]", "dismount_interval = 9", "map_type = file", "search_path = /etc", "[ /a/b ]", "map_name = amd.x", "browsable_dirs = yes",
       "auto_dir = /x", "[ autofs ]", "timeout = 800", "[amd]", "[autofs]", "[ AUTOFS ]", "timeout=700", "timeout =\t600", " timeout = 500", "browse_mode = \"yes\"",
       "unknown = 1", "nonsense", "= 3", "[ other ]", "timeout = 400", "#timeout = 3", "browse_mode=yes", "append_options = no", "[ autofs", "autofs ]"]


def sections(maker, _):
    """autofs.conf with sections of other formats, and settings in all spellings."""
    case = master(maker, None)
    lines = [maker.one(["[ autofs ]", "[autofs]", "[ autofs ]\n", "# c\n[ autofs ]", "[ amd ]", "[\tautofs\t]"]), *maker.some(AMD, 2, 8)]
    case["files"]["/etc/autofs.conf"] = "\n".join(lines) + maker.one(["\n", ""])
    return case


SITES = {"several": several, "settings": settings, "programs": programs, "includes": includes, "master": master, "direct": direct, "submounts": submounts,
         "merged": merged, "raw": raw, "switched": switched, "drops": drops, "touches": touches, "changes": changes, "here": here, "sections": sections}
MASTERS = ["/m /etc/auto.m", "/m /etc/auto.m nodiratime", "/m /etc/auto.m -nosuid,nodev", "/m file:/etc/auto.m",
           "/m file,sun:/etc/auto.m --timeout=60 rw", "/m /etc/auto.m -DA=master", "/m /etc/auto.m -fstype=fake",
           "/m /etc/auto.m -strict", "/m /etc/auto.m nobind", "/m /etc/auto.m --timeout 60 -ro,soft"]


def case_of(things, master, text=None):
    steps = [path for key, _, inner in things for path in touched(key, inner)]
    if text is None:
        text = "".join(f"{key} {' '.join(words)}\n" for key, words, _ in things)
    return {
        "files": {"/etc/auto.master": [master], "/etc/auto.m": text},
        "dirs": ["/srv/data", "/srv/val"], "args": DEFINED, "hosts": {"*": {}}, "steps": steps,
    }


# -- running and judging ----------------------------------------------------------------------


def harmless(parts):
    """An errno that says more than ENOENT."""
    return set(parts) == {"status"} and parts["status"][0] not in (None, "ok") and \
        parts["status"][1] not in (None, "ok", "TIMEOUT", "DIED")


def tidy(parts):
    """Without the empty options that autofs leaves behind (D-12)."""
    def clean(item):
        if not isinstance(item, list):
            return item
        texts = [re.sub(r"(?<=[ ,]),+|,+(?=[ '])", "", text).replace("-o  ", "") for text in item]
        # D-26: said to mount.nfs only.
        texts = [re.sub(r",retry=0(?=[ '])|-o retry=0 ", "", text) for text in texts]
        return [re.sub(r"\b(\w+)(,\1\b)+", r"\1", text) for text in texts]
    # D-29: what is left out because it is repeated, autofs compares with words of its own.
    kept = {name: (clean(theirs), clean(ours)) for name, (theirs, ours) in parts.items()}
    return {name: pair for name, pair in kept.items() if pair[0] != pair[1]}


def compare(case, options):
    """{step: parts} of what differs."""
    saved = {"name": "generated", "case": case}
    theirs, _ = cases.run(saved, oracle.AUTOMOUNT)
    ours, _ = cases.run(saved, options.daemon, (options.binary,))
    # Where autofs has crashed there is nothing left to compare.
    died = next((at for at, step in enumerate(theirs) if "daemon" in step), None)
    if options.native:
        theirs, ours = outcome.natively(theirs), outcome.natively(ours)
    found = {step.removeprefix("open "): tidy(parts)
             for at, step, parts in outcome.differences(theirs, ours) if died is None or at < died}
    return {step: parts for step, parts in found.items() if parts and not harmless(parts)}


def smaller(words):
    """The same words without one of them, or with one cut at a comma, a slash or a character."""
    for number, word in enumerate(words):
        if len(words) > 1:
            yield words[:number] + words[number + 1:]
        for mark in ",/":
            pieces = word.split(mark)
            for cut in range(1, len(pieces)):
                less = mark.join(pieces[:cut] + pieces[cut + 1:])
                if less:
                    yield words[:number] + [less] + words[number + 1:]


def reduce(key, words, inner, master, options):
    """The smallest words found that still differ when alone; None when alone they do not."""
    def differs(candidates):
        things = [(f"{key}{number}" if number else key, text, inner)
                  for number, text in enumerate(candidates)]
        found = compare(case_of(things, master), options)
        return [text for (name, text, _) in things
                if any(path in found for path in touched(name, inner))], found
    kept, found = differs([words])
    if not kept:
        return None, {}
    for _ in range(3):
        candidates = list(smaller(words))[:40]
        kept, more = differs(candidates) if candidates else ([], {})
        if not kept:
            break
        words = min(kept, key=lambda text: len(" ".join(text)))
        _, found = differs([words])
    return words, found


def round_of(seed, options):
    maker = Maker(seed)
    family = options.family or maker.one(sorted({**FAMILIES, **SITES}))
    if family in SITES:
        case = SITES[family](maker, options.keys)
        found = compare(case, options)
        text = json.dumps(case["files"])
        report = [{"seed": seed, "master": family, "key": None, "words": "", "reduced": None, "parts": found,
                   "text": text}] if found else []
        return len(case["steps"]), report
    things = [(*thing, None)[:4] for thing in FAMILIES[family](maker, options.keys)]
    spelt = {key: written for key, _, _, written in things if written}
    things = [thing[:3] for thing in things]
    master = maker.one(MASTERS) if maker.chance(40) else MASTERS[0]
    text = ""
    for key, words, _ in things:
        if family == "wild" and key not in spelt:
            continue
        if maker.chance(8):
            text += maker.noise() + "\n"
        text += maker.line(spelt.get(key, key), words) + "\n"
    if maker.chance(30):
        text = text.rstrip("\n")
    case = case_of(things, master, text)
    found = compare(case, options)
    report = []
    for key, words, inner in things:
        mine = {path: found[path] for path in touched(key, inner) if path in found}
        if not mine:
            continue
        fewer, parts = None, None
        if family not in ("wild", "spelled", "lines") and options.reduce:
            fewer, parts = reduce(key, words, inner, master, options)
        report.append({"seed": seed, "master": master, "key": key, "words": " ".join(words),
                       "reduced": " ".join(fewer) if fewer else None, "parts": parts or mine,
                       "text": None if fewer else text})
    others = {path: parts for path, parts in found.items()
              if not any(path in touched(key, inner) for key, _, inner in things)}
    if others:
        report.append({"seed": seed, "master": master, "key": None, "words": "", "reduced": None,
                       "parts": others, "text": text})
    return len(case["steps"]), report


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=f"{differential.ROOT}/target/release/piton")
    parser.add_argument("--daemon", default=differential.DAEMON)
    parser.add_argument("--family", choices=sorted({**FAMILIES, **SITES}))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--keys", type=int, default=30, help="keys in a map")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--native", action="store_true", help="Piton mounts by itself what it can")
    parser.add_argument("--no-reduce", dest="reduce", action="store_false")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.native:
        options.daemon = differential.NATIVE
    touches = findings = 0

    def one(seed):
        try:
            return round_of(seed, options)
        except Exception:
            return 0, [{"seed": seed, "key": None, "words": traceback.format_exc(), "reduced": None, "parts": {},
                        "master": "", "text": None}]

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for steps, report in pool.map(one, range(options.seed, options.seed + options.rounds)):
            touches += steps
            for item in report:
                findings += 1
                if options.json:
                    print(json.dumps(item), flush=True)
                    continue
                print(f"seed {item['seed']}: {item['master']}\n    {item['key']} {item['words']}")
                if item["text"] and not item["key"]:
                    print(item["text"].replace("\\n", "\n      "))
                if item["reduced"]:
                    print(f"    reduced: {item['reduced']}")
                for path, parts in list(item["parts"].items())[:9]:
                    for part, (theirs, ours) in parts.items():
                        print(f"      {path} {part}: autofs {json.dumps(theirs)}, piton {json.dumps(ours)}")
                print(flush=True)
    print(f"{options.rounds} maps, {touches} accesses, {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
