#!/usr/bin/env python3
"""Write down what autofs makes of cases: fill in or renew the `autofs` part of case files.

    record.py CASE...        by name, by pattern or by path; run, and save under cases/
    record.py --check CASE.. run, compare with what is recorded, save nothing
    record.py --verdicts     write the list in verdicts.md anew from the case files

A new case is a file with `name`, `question`, `class`, `verdict` and `case`.  It is run twice
here; a case whose two outcomes differ is refused, for nothing can be compared with it.
"""

import argparse
import concurrent.futures
import sys

import oracle
import outcome
import saved as cases

LIST = "<!-- from here on written by `record.py --verdicts` -->\n"
HEADS = {
    "security": "Lets a map or a server reach what is not its own. Never copied.",
    "crash": "Ends the daemon. Never copied.",
    "bug": "Plainly not meant, and it hurts. Copied only where real maps depend on it.",
    "quirk": "Written nowhere, but maps may rely on it. Followed in dialect `linux`.",
    "documented": "As the manual pages say. Followed.",
}


def record(saved, check):
    first, _ = cases.run(saved, oracle.AUTOMOUNT)
    if check:
        return outcome.differences(saved["autofs"], first)
    second, _ = cases.run(saved, oracle.AUTOMOUNT)
    unsteady = outcome.differences(first, second)
    if not unsteady:
        saved["autofs"] = first
        cases.save(saved)
    return unsteady


def verdicts():
    path = f"{cases.HERE}/verdicts.md"
    with open(path, encoding="utf-8") as stream:
        head, mark, _ = stream.read().partition(LIST)
    return path, head + mark + verdict_list(cases.load_all())


def verdict_list(everything):
    text = ""
    for name, about in HEADS.items():
        mine = [saved for saved in everything if saved["class"] == name]
        text += f"\n## {name}\n\n{about} {len(mine)} cases.\n\n"
        text += "".join(f"- `{saved['name']}`: {saved['verdict']}\n" for saved in mine)
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--verdicts", action="store_true")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()
    if options.verdicts:
        path, text = verdicts()
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        return 0
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        everything = cases.load_all(options.cases)
        found = pool.map(lambda saved: record(saved, options.check), everything)
        for saved, differences in zip(everything, found):
            bad += bool(differences)
            for number, step, parts in differences:
                print(f"{saved['name']}: step {number}, {step}: {parts}")
    print(f"{len(everything)} cases, {bad} {'changed' if options.check else 'unsteady'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
