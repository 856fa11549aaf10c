#!/usr/bin/env python3
"""Compares `depickle scan` with scanners that are published on PyPI: what they report, and how long they take.

  scanners.py rates DEPICKLE --malicious DIR [--benign DIR] [--real DIR]
  scanners.py times DEPICKLE PATH... [--rounds 5]

Run it with the Python of an environment in which picklescan, modelscan and fickling are installed. None of them loads what it scans:
the first two decode opcodes, the third interprets them symbolically. Each DIR holds INDEX.tsv with the columns `file` (or
`local`) and, but for `real`, `expected_verdict`; rows noted SOFT or neutral are left out, and honest files that are known to use
something suspicious.

A file counts as reported where the tool says that it found something. That it could not read it is counted by itself."""

import argparse
import collections
import contextlib
import csv
import io
import json
import logging
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

SECONDS = 60


def picklescan(path):
    from picklescan.scanner import scan_file_path

    result = scan_file_path(path)
    return "reported" if result.issues_count else "error" if result.scan_err else "silent"


def modelscan(path):
    from modelscan.modelscan import ModelScan
    from modelscan.settings import DEFAULT_SETTINGS

    result = ModelScan(settings=DEFAULT_SETTINGS).scan(path)
    summary = result["summary"]
    if summary["total_issues"]:
        return "reported"
    return "error" if result.get("errors") or not summary["scanned"]["total_scanned"] else "silent"


def fickling(path):
    from fickling.analysis import Severity
    from fickling.loader import scan_file

    result = scan_file(path, graceful=True)
    if result.results and max(r.severity for r in result.results) > Severity.LIKELY_SAFE:
        return "reported"
    return "error" if result.errors else "silent"


TOOLS = {"picklescan": picklescan, "modelscan": modelscan, "fickling": fickling}


def depickle(program, path):
    done = subprocess.run([program, "scan", "--json", "--no-progress", path], capture_output=True, timeout=SECONDS)
    verdicts = {file["verdict"] for file in json.loads(done.stdout)["files"]}
    if verdicts & {"dangerous", "suspicious"}:
        return "reported"
    return "error" if verdicts & {"malformed", "unsupported"} else "silent"


def one(task):
    name, program, path = task
    logging.disable(logging.CRITICAL)

    def late(*_):
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        if name == "depickle":
            return task, depickle(program, path)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return task, TOOLS[name](path)
    except BaseException as error:  # whatever a tool dies of is an error of the tool
        return task, "error" if not isinstance(error, KeyboardInterrupt) else sys.exit(1)
    finally:
        signal.alarm(0)


def rows(directory, kind):
    with open(Path(directory) / "INDEX.tsv") as index:
        for row in csv.DictReader(index, delimiter="\t"):
            note = row.get("note") or ""
            wanted = {"malicious": "malicious", "benign": "clean"}.get(kind)
            expected = row.get("expected_verdict") if wanted else row.get("scan")
            if "SOFT" in note or note.startswith("neutral") or expected != (wanted or "clean"):
                continue
            yield str(Path(directory) / (row.get("local") or row["file"]))


def rates(options):
    names = ["depickle", *TOOLS]
    files = {kind: list(rows(d, kind)) for kind in ("malicious", "benign", "real") if (d := getattr(options, kind))}
    kinds = {path: kind for kind, paths in files.items() for path in paths}
    tasks = [(name, options.depickle, path) for name in names for path in kinds]
    counts = collections.Counter()
    with multiprocessing.get_context("fork").Pool(options.jobs, maxtasksperchild=50) as pool:
        for (name, _, path), verdict in pool.imap_unordered(one, tasks):
            counts[name, kinds[path], verdict] += 1
            if options.list and (verdict == "reported") != (kinds[path] == "malicious"):
                print(name, kinds[path], verdict, path, file=sys.stderr)
    print("| tool | " + " | ".join(f"{kind} ({len(paths)} files)" for kind, paths in files.items()) + " |")
    print("|---" * (len(files) + 1) + "|")
    for name in names:
        cells = []
        for kind, paths in files.items():
            reported, error = counts[name, kind, "reported"], counts[name, kind, "error"]
            cells.append(f"{reported} reported ({100 * reported / len(paths):.1f} %), {error} not read")
        title = name if name == "depickle" else f"{name} {version(name)}"
        print(f"| {title} | " + " | ".join(cells) + " |")


def times(options):
    scripts = Path(sys.executable).parent
    commands = {
        "depickle": [options.depickle, "scan", "--no-progress"],
        "picklescan": [str(scripts / "picklescan"), "-p"],
        "modelscan": [str(scripts / "modelscan"), "-p"],
        "fickling": [str(scripts / "fickling"), "--check-safety"],
    }
    print("| tool | " + " | ".join(Path(path).name for path in options.paths) + " |")
    print("|---" * (len(options.paths) + 1) + "|")
    cells = collections.defaultdict(dict)
    for path in options.paths:
        tools = [name for name in commands if name != "fickling" or not os.path.isdir(path)]
        taken = collections.defaultdict(list)
        for _ in range(options.rounds + 1):
            for name in tools:
                start = time.monotonic()
                subprocess.run([*commands[name], path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/tmp")
                taken[name].append(time.monotonic() - start)
        for name in tools:
            cells[name][path] = f"{statistics.median(taken[name][1:]):.3f} s"
    for name in commands:
        print(f"| {name} | " + " | ".join(cells[name].get(path, "one file at a time") for path in options.paths) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("rates")
    command.add_argument("depickle")
    for kind in ("malicious", "benign", "real"):
        command.add_argument(f"--{kind}")
    command.add_argument("--jobs", type=int, default=os.cpu_count())
    command.add_argument("--list", action="store_true", help="name every miss and false alarm")
    command.set_defaults(run=rates)
    command = commands.add_parser("times")
    command.add_argument("depickle")
    command.add_argument("paths", nargs="+")
    command.add_argument("--rounds", type=int, default=5)
    command.set_defaults(run=times)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
