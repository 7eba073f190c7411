"""A site: maps, what each path must answer, and seeded changes to them.

Every directory that a map mounts has a file `id` with its own name in it, so that whoever reads
PATH/id knows what is mounted there.  While a map changes, the old answer and the new one are both
right; `settle` forgets the old ones.
"""

import os

SOURCES = 24
FILES = ("auto.one", "auto.two", "auto.inc")


class Answer:
    """What reading a path gives: a text, the name of an errno, or an empty tmpfs."""

    @staticmethod
    def of(source):
        return f"is {source}"

    EMPTY = "empty tmpfs"
    FULL = "a directory that is not empty"
    BARE = "an empty directory, nothing mounted"
    ABSENT = "ENOENT"
    BAD = "EINVAL"
    SLOW = "ETIMEDOUT"


class Site:
    def __init__(self, root, random, timeout=2):
        self.root, self.random, self.timeout = root, random, timeout
        # map file -> key -> entry, as the files have it now
        self.maps = {name: {} for name in FILES + ("auto.sub", "auto.direct", "programs")}
        self.mount_points = {"one": "auto.one", "two": "auto.two"}
        # path -> all answers that are right now, the newest last
        self.answers = {}
        self.serial = 0

    # --- files

    def build(self):
        """Makes the sources and the first maps."""
        for number in range(SOURCES):
            folder = f"{self.root}/srv/s{number}"
            os.makedirs(f"{folder}/sub/deep", exist_ok=True)
            self.write(f"srv/s{number}/id", f"s{number}")
        os.makedirs(f"{self.root}/programs", exist_ok=True)
        self.write("auto.prog", PROGRAM.format(root=self.root), mode=0o755)
        self.write("auto.any", f"* -fstype=bind :{self.root}/srv/&\n")
        for name in ("k1", "k2", "k3"):
            self.maps["auto.sub"][name] = ("bind", self.source())
        for _ in range(40):
            self.change()
        self.write_all()
        self.settle()

    def source(self):
        return f"s{self.random.randrange(SOURCES)}"

    def write(self, name, text, mode=0o644):
        path = f"{self.root}/{name}"
        with open(f"{path}.new", "w") as file:
            file.write(text)
        os.chmod(f"{path}.new", mode)
        os.rename(f"{path}.new", path)

    def write_all(self):
        for name in FILES:
            lines = [f"{key} {self.entry(entry)}" for key, entry in self.maps[name].items()]
            if name == "auto.one":
                lines.insert(len(lines) // 2, f"+{self.root}/auto.inc")
            if name == "auto.two":
                lines.append(f"sub -fstype=autofs,timeout={self.timeout} :{self.root}/auto.sub")
            self.write(name, "".join(f"{line}\n" for line in lines))
        for name, prefix in (("auto.sub", ""), ("auto.direct", f"{self.root}/direct/")):
            entries = self.maps[name].items()
            self.write(name, "".join(f"{prefix}{key} {self.entry(entry)}\n" for key, entry in entries))
        for old in os.listdir(f"{self.root}/programs"):
            if old not in self.maps["programs"]:
                os.unlink(f"{self.root}/programs/{old}")
        for key, entry in self.maps["programs"].items():
            self.write(f"programs/{key}", self.entry(entry) + "\n")
        self.write_master()

    def write_master(self):
        points = [f"{self.root}/{point} {self.root}/{name} --timeout={self.timeout}"
                  for point, name in self.mount_points.items()]
        points += [f"{self.root}/any {self.root}/auto.any --timeout={self.timeout}",
                   f"{self.root}/prog {self.root}/auto.prog --timeout={self.timeout}",
                   f"/- {self.root}/auto.direct --timeout={self.timeout}"]
        self.write("auto.master", "".join(f"{line}\n" for line in points))

    def entry(self, entry):
        kind, *sources = entry
        paths = [f":{self.root}/srv/{source}" for source in sources]
        if kind == "bind":
            return f"-fstype=bind {paths[0]}"
        if kind == "tree":
            return f"-fstype=bind / {paths[0]} /sub {paths[1]} /sub/sub {paths[2]}"
        if kind == "rootless":
            return f"-fstype=bind /x {paths[0]} /y/z {paths[1]}"
        if kind == "missing":
            return f"-fstype=bind :{self.root}/srv/none"
        if kind == "tmpfs":
            return "-fstype=tmpfs,size=64k :tmpfs"
        return "-fstype=bind server:/not/here"

    # --- what is right

    def paths(self, name, key, entry):
        """The files that a key's entry gives, and what is in them."""
        kind, *sources = entry
        answers = [Answer.of(source) for source in sources]
        if kind == "bind":
            found = {"id": answers[0]}
        elif kind == "tree":
            found = {"id": answers[0], "sub/id": answers[1], "sub/sub/id": answers[2]}
        elif kind == "rootless":
            found = {"x/id": answers[0], "y/z/id": answers[1]}
        elif kind == "missing":
            found = {"id": Answer.ABSENT}
        elif kind == "tmpfs":
            found = {"": Answer.EMPTY}
        else:
            found = {"id": Answer.BAD}
        return {f"{place}/{key}/{tail}".rstrip("/"): answer
                for place in self.places(name) for tail, answer in found.items()}

    def places(self, name):
        """The directories in which a map's keys appear."""
        if name == "auto.inc":
            name = "auto.one"
        fixed = {"auto.sub": ["two/sub"], "auto.direct": ["direct"], "programs": ["prog"]}
        return fixed.get(name) or [point for point, of in self.mount_points.items() if of == name]

    def triggers(self):
        """How many mount points there are when nothing is mounted."""
        return len(self.mount_points) + 2 + len(self.maps["auto.direct"])

    def now(self):
        """Every path with its newest answer."""
        found = {}
        for name, keys in self.maps.items():
            for key, entry in keys.items():
                found.update(self.paths(name, key, entry))
        for number in range(4):
            found[f"any/s{number}/id"] = Answer.of(f"s{number}")
        found["any/nobody/id"] = Answer.ABSENT
        found["one/nobody/id"] = Answer.ABSENT
        found["two/sub/nobody/id"] = Answer.ABSENT
        found["prog/nobody/id"] = Answer.ABSENT
        found["prog/fail/id"] = Answer.ABSENT
        return found

    def widen(self):
        """After a change: the new answers are right as well."""
        now = self.now()
        for path in list(self.answers):
            now.setdefault(path, Answer.ABSENT)
        for path, answer in now.items():
            # What is new may not have been read yet.
            known = self.answers.setdefault(path, [Answer.ABSENT])
            if answer in known:
                known.remove(answer)
            known.append(answer)
            # The old mount may be there still, and its key may mean something else by now.
            if len(known) > 1:
                half_way = {Answer.ABSENT, Answer.BAD, Answer.FULL} - set(known)
                # A direct key's directory is there before its trigger; one that a killed daemon
                # has made stays when its key goes.
                if path.startswith("direct/"):
                    half_way.add(Answer.BARE)
                known[:0] = sorted(half_way)

    def settle(self):
        """All is as the maps say: only the newest answers are right."""
        now = self.now()
        keys = {path.split("/")[1] for path in now}
        gone = [path for path in self.answers if path.split("/")[1] not in keys]
        self.answers = {path: [answer] for path, answer in now.items()}
        # Some of what is gone is asked for once more.
        for path in gone[:5]:
            bare = [Answer.BARE] if path.startswith("direct/") else []
            self.answers[path] = [*bare, Answer.ABSENT]

    # --- changes

    def change(self):
        """One change of one map, in memory: call `widen`, tell the readers, then write."""
        random = self.random
        name = random.choice(("auto.one", "auto.two", "auto.inc", "auto.direct", "programs"))
        keys = self.maps[name]
        if keys and random.random() < 0.35 + len(keys) / 40:
            key = random.choice(sorted(keys))
            if random.random() < 0.5:
                del keys[key]
                return f"{name}: {key} removed"
        else:
            self.serial += 1
            key = f"k{self.serial}"
        kinds = ["bind"] * 5 + ["tmpfs", "missing", "bad"]
        if name != "programs":
            kinds += ["tree", "rootless"]
        kind = random.choice(kinds)
        number = {"bind": 1, "tree": 3, "rootless": 2}.get(kind, 0)
        keys[key] = (kind, *(self.source() for _ in range(number)))
        return f"{name}: {key} is {kind}"

    def change_master(self):
        """A mount point comes or goes."""
        if "extra" in self.mount_points:
            del self.mount_points["extra"]
            return "master map: extra removed"
        self.mount_points["extra"] = "auto.two"
        return "master map: extra added"


PROGRAM = """#!/bin/sh
case "$1" in
fail) exit 3 ;;
hang) exec sleep 60 ;;
esac
test -f "{root}/programs/$1" && exec cat "{root}/programs/$1"
exit 0
"""
