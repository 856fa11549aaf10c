#!/usr/bin/env python3
"""Compares whole commands, depickle's and others', on the same checkpoints in a RAM folder.

    cargo build --release
    python tests/bench/compare.py                      # every case but huge
    python tests/bench/compare.py --only large --peer 'other=convert-tool {src} {dst}'
    python tests/bench/compare.py --only huge --dir /mnt/disk

The first write to a page of memory costs several times a later one, and load comes and goes. So the commands
of a case run in turns (A B C A B C ...), the first turn is dropped, outputs are removed between runs, and the
table gives medians: of each command's wall time, user + system time and peak resident memory, and of the
ratio of its wall time to a reference command's in the same turn. Ratios to `openssl dgst -sha256` are the
steadiest. "promised" is the bound that depickle's memory has to stay below.

The checkpoints are written without torch (checkpoints.py). torch.load + save_file takes part when the Python
that runs this script has torch and safetensors. Unix only (os.wait4).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import shlex
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO, Optional

HERE = Path(__file__).resolve().parent
MIB = 1 << 20

# Runs a command and reports its wall time and rusage. A process of its own, because a child's peak memory is
# at least that of the process that started it: 8 to 10 MiB here, twice that in this script.
LAUNCHER = """
import json, os, sys, time
quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
start = time.monotonic()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(pid, 0)
wall = time.monotonic() - start
print(json.dumps([status, wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss]))
"""

TORCH_CONVERT = """
import sys, torch
from safetensors.torch import save_file
tensors = torch.load(sys.argv[1], map_location="cpu", mmap=True, weights_only=True)
save_file({name: t.contiguous() for name, t in tensors.items()}, sys.argv[2], metadata={"format": "pt"})
"""
TORCH_IMPORT = "import torch, safetensors.torch"


# What is compared


@dataclass(frozen=True)
class Command:
    """A command line in which {src} and {dst} stand for the checkpoint and for the output."""

    label: str
    argv: tuple[str, ...]
    missing: Optional[str] = None  # why it cannot run here

    @property
    def converts(self) -> bool:
        return any("{dst}" in word for word in self.argv) and self.label != "cp"

    @property
    def is_depickle(self) -> bool:
        return self.label.startswith("depickle")

    def line(self, source: str, target: Path) -> list[str]:
        return [word.replace("{src}", source).replace("{dst}", str(target)) for word in self.argv]


@dataclass(frozen=True)
class Case:
    """Commands that run in turns: each on each of the checkpoints."""

    name: str
    about: str
    checkpoints: tuple[str, ...]
    commands: tuple[Command, ...]
    space: float  # gigabytes that the working folder must have free
    once: bool = False  # one measured turn and none dropped, unless --runs says otherwise
    references: tuple[str, ...] = ("cp", "openssl sha256", "depickle")
    per_tensor: bool = False
    milliseconds: bool = False

    @property
    def missing(self) -> Optional[str]:
        """Why none of the commands that read a checkpoint can run here."""
        reasons = [command.missing for command in self.commands if "{src}" in command.argv]
        return reasons[0] if all(reasons) else None


CASE_NAMES = ("large", "small", "transposed", "million", "inspect", "huge")


def cases(depickle: Path, peers: Sequence[Command], huge_gb: int) -> list[Case]:
    missing = None if depickle.is_file() else f"{depickle} is not there: cargo build --release"
    convert = Command("depickle", (str(depickle), "convert", "{src}", "-o", "{dst}"), missing)
    bare = Command("depickle --no-manifest", (*convert.argv, "--no-manifest"), missing)
    inspect = Command("depickle inspect", (str(depickle), "inspect", "{src}"), missing)
    copy = on_path(Command("cp", ("cp", "{src}", "{dst}")))
    digest = on_path(Command("openssl sha256", ("openssl", "dgst", "-sha256", "{src}")))
    nothing = on_path(Command("true", ("true",)))
    no_torch = None if has_torch() else f"{sys.executable} has no torch and safetensors"
    torch = Command("torch + save_file", (sys.executable, "-c", TORCH_CONVERT, "{src}", "{dst}"), no_torch)
    torch_import = Command("import torch", (sys.executable, "-c", TORCH_IMPORT), no_torch)
    everyone = (copy, digest, convert, bare, torch, torch_import, *peers)
    million = ("views-10k", "views-100k", "views-1m", "own-10k", "own-100k")
    return [
        Case("large", "1.7 GB, bf16, contiguous", ("large",), everyone, space=5.5),
        Case("small", "88 MB, f32, each tensor with its own storage", ("small",), everyone, space=0.4),
        Case("transposed", "512 MiB, f32, all matrices transposed", ("transposed",), everyone, space=1.8),
        Case("million", "16 bytes a tensor", million, (convert,), space=0.5, references=(), per_tensor=True),
        Case(
            "inspect",
            "no weights read",
            ("large", "huge"),
            (nothing, inspect),
            space=1.9,
            references=(),
            milliseconds=True,
        ),
        Case("huge", "sparse, zip64", ("huge",), (convert,), space=1.1 * huge_gb, references=(), once=True),
    ]


def on_path(command: Command) -> Command:
    if shutil.which(command.argv[0]):
        return command
    return Command(command.label, command.argv, f"no {command.argv[0]} on the PATH")


def has_torch() -> bool:
    return all(importlib.util.find_spec(module) for module in ("torch", "safetensors"))


def peer(text: str) -> Command:
    name, equals, line = text.partition("=")
    if not (name and equals and "{src}" in line and "{dst}" in line):
        raise argparse.ArgumentTypeError("NAME=COMMAND, with {src} and {dst} in the command")
    return on_path(Command(name, tuple(shlex.split(line))))


# The checkpoints


@dataclass(frozen=True)
class Checkpoint:
    """What checkpoints.py says of a file."""

    name: str
    path: str
    tensors: int
    payload: int
    pickle: int
    checked: bool

    @property
    def memory_bound(self) -> int:
        """Bytes that depickle promises to stay below: 64 MiB, 1.5 KiB a tensor, the size of the pickles."""
        return 64 * MIB + 1536 * self.tensors + self.pickle


class Folder:
    """The working folder: makes checkpoints when they are asked for and removes what this script made."""

    def __init__(self, path: Path, keep: bool, huge_gb: int) -> None:
        self._made = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        self.path, self._keep, self._huge_gb = path, keep, huge_gb
        self._output = Path(tempfile.mkdtemp(prefix="depickle-bench-out-", dir=path))
        self._checkpoints: dict[str, Checkpoint] = {}

    def checkpoint(self, name: str) -> Checkpoint:
        if name not in self._checkpoints:
            size = f"-{self._huge_gb}" if name == "huge" else ""
            path = self.path / f"depickle-bench-{name}{size}.pt"
            self._checkpoints[name] = self._kept(path) or self._make(name, path)
        return self._checkpoints[name]

    def output(self) -> Path:
        """An empty folder for one run's outputs."""
        self.clear_output()
        self._output.mkdir()
        return self._output

    def clear_output(self) -> None:
        shutil.rmtree(self._output, ignore_errors=True)

    def need(self, gigabytes: float) -> None:
        free = shutil.disk_usage(self.path).free / 1e9
        if free < gigabytes:
            sys.exit(f"{self.path} has {free:.1f} GB free and needs {gigabytes:.1f} GB: choose another --dir")

    def forget(self, names: set[str]) -> None:
        if self._keep:
            return
        for name in names & self._checkpoints.keys():
            path = Path(self._checkpoints.pop(name).path)
            path.unlink(missing_ok=True)
            described(path).unlink(missing_ok=True)

    def close(self) -> None:
        self.clear_output()
        self.forget(set(self._checkpoints))
        if self._made and not self._keep:
            with contextlib.suppress(OSError):  # something else has come into it
                self.path.rmdir()

    def _kept(self, path: Path) -> Optional[Checkpoint]:
        """A file that an earlier run with --keep left; its description is written last."""
        if not (self._keep and path.is_file() and described(path).is_file()):
            return None
        return Checkpoint(**json.loads(described(path).read_text()))

    def _make(self, name: str, path: Path) -> Checkpoint:
        say(f"writing {path}")
        argv = [sys.executable, str(HERE / "checkpoints.py"), name, str(path), f"--gigabytes={self._huge_gb}"]
        argv += ["--no-check"] if name == "views-1m" else []  # torch needs longer for it than all the rest
        try:
            text = subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True).stdout
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        described(path).write_text(text)
        return Checkpoint(**json.loads(text))


def described(path: Path) -> Path:
    return path.with_suffix(".json")


# Measuring


@dataclass(frozen=True)
class Run:
    wall: float
    user: float
    system: float
    peak: int  # bytes


@dataclass
class Row:
    """A command on a checkpoint, and what came of it."""

    command: Command
    checkpoint: Checkpoint
    runs: list[Run] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    dead: bool = False  # cannot run, or failed: not tried again

    @property
    def label(self) -> str:
        return self.command.label

    def give_up(self, why: str) -> None:
        self.notes.append(why)
        self.runs.clear()
        self.dead = True

    def median(self, what: str) -> float:
        return float(statistics.median(getattr(run, what) for run in self.runs))

    def ratio(self, reference: Row) -> float:
        """The median of the wall times' ratios, turn by turn."""
        return statistics.median(mine.wall / its.wall for mine, its in zip(self.runs, reference.runs))


class CommandFailed(Exception):
    """A command ended with an error or took too long."""


def measure(argv: Sequence[str], timeout: Optional[float]) -> Run:
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, *argv]
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            launcher, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
        try:
            report, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"stopped after {timeout:.0f} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        errors.seek(0)
        last_line = (errors.read().strip().splitlines() or ["said nothing"])[-1]
    status, wall, user, system, peak = json.loads(report) if process.returncode == 0 else [-1, 0, 0, 0, 0]
    if status != 0:
        raise CommandFailed(f"failed: {last_line[:200]}")
    return Run(wall, user, system, peak if sys.platform == "darwin" else peak * 1024)


def run_case(case: Case, folder: Folder, runs: Optional[int], timeout: Optional[float]) -> list[Row]:
    folder.need(case.space)
    checkpoints = [folder.checkpoint(name) for name in case.checkpoints]
    rows = [Row(command, checkpoint) for checkpoint in checkpoints for command in case.commands]
    for row in rows:
        if row.command.missing:
            row.give_up(f"skipped: {row.command.missing}")
    alive = [row for row in rows if not row.dead]
    dropped = 0 if case.once and runs is None else 1
    turns = dropped + (runs or (1 if case.once else 7))
    digests: dict[str, tuple[str, str]] = {}
    for turn in range(turns):
        for row in (row for row in alive if not row.dead):
            say(f"{case.name}: turn {turn + 1} of {turns}, {row.label} on {row.checkpoint.name}")
            target = folder.output() / "model.safetensors"
            try:
                run = measure(row.command.line(row.checkpoint.path, target), timeout)
                if turn == 0 and row.command.converts:
                    check_output(row, target, digests, digest=not case.once)
            except CommandFailed as failure:
                row.give_up(str(failure))
            else:
                row.runs.append(run)
            folder.clear_output()
    for row in alive:
        del row.runs[:dropped]
    return rows


def check_output(row: Row, target: Path, digests: dict[str, tuple[str, str]], digest: bool) -> None:
    """Notes where the tensors' bytes have the wrong size or differ from the first converter's."""
    try:
        with target.open("rb") as stream:
            header = struct.unpack("<Q", stream.read(8))[0]
            payload = os.fstat(stream.fileno()).st_size - 8 - header
            if payload != row.checkpoint.payload:
                row.notes.append(f"writes {payload:,} bytes of tensors instead of {row.checkpoint.payload:,}")
            elif digest:
                stream.seek(8 + header)
                found = sha256(stream)
                first, wanted = digests.setdefault(row.checkpoint.name, (row.label, found))
                if found != wanted:
                    row.notes.append(f"the tensors' bytes differ from those of {first}")
    except (OSError, struct.error) as error:
        raise CommandFailed(f"no usable output: {error}") from None


def sha256(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    for block in iter(lambda: stream.read(MIB), b""):
        digest.update(block)
    return digest.hexdigest()


# Reporting


def table(case: Case, rows: Sequence[Row]) -> str:
    first = rows[0].checkpoint
    size = f"{first.tensors:,} tensors" if len(case.checkpoints) == 1 else f"{len(case.checkpoints)} files"
    turns = max((len(row.runs) for row in rows), default=0)
    lines = [f"{case.name}: {case.about}, {size}; medians of {turns}, load average {os.getloadavg()[0]:.1f}"]
    measured = [row for row in rows if row.runs]
    if measured:
        lines += columns(list(cells(case, measured)))
    lines += [f"  {row_name(case, row)}: {note}" for row in rows for note in row.notes]
    return "\n".join(lines)


def row_name(case: Case, row: Row) -> str:
    return row.label if len(case.checkpoints) == 1 else f"{row.label}, {row.checkpoint.name}"


def cells(case: Case, rows: Sequence[Row]) -> Iterator[list[str]]:
    references = [row for name in case.references for row in rows if row.label == name]
    unit, factor, digits = ("ms", 1000, 1) if case.milliseconds else ("s", 1, 2)
    heading = ["", f"wall {unit}", "best", "user + sys", "peak MiB", "promised MiB"]
    heading += ["µs a tensor"] if case.per_tensor else []
    yield heading + [f"/ {reference.label}" for reference in references]
    for row in rows:
        best = min(run.wall for run in row.runs)
        times = (row.median("wall"), best, row.median("user"), row.median("system"))
        wall, best_wall, user, system = (f"{factor * time:.{digits}f}" for time in times)
        line = [row_name(case, row), wall, best_wall, f"{user} + {system}", f"{row.median('peak') / MIB:.0f}"]
        line += [f"{row.checkpoint.memory_bound / MIB:.0f}" if row.command.is_depickle else ""]
        line += [f"{1e6 * row.median('wall') / row.checkpoint.tensors:.2f}"] if case.per_tensor else []
        yield line + [f"{row.ratio(reference):.2f}" for reference in references]


def columns(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines)]
    aligned = ([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines)
    return ["  " + "  ".join(line).rstrip() for line in aligned]


def document(results: Sequence[tuple[Case, list[Row]]]) -> dict[str, object]:
    return {
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "cases": [
            {
                "name": case.name,
                "rows": [
                    {
                        "command": row.label,
                        "argv": row.command.argv,
                        "checkpoint": asdict(row.checkpoint),
                        "runs": [asdict(run) for run in row.runs],
                        "notes": row.notes,
                    }
                    for row in rows
                ],
            }
            for case, rows in results
        ],
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# The command line


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    option = parser.add_argument
    option("--dir", type=Path, help="working folder (default: depickle-bench in /dev/shm or else in /tmp)")
    option(
        "--runs", type=int, help="measured turns after the dropped one (default: 7; huge: 1, none dropped)"
    )
    option("--only", action="append", choices=CASE_NAMES, help="this case; repeatable; huge runs only so")
    option("--depickle", type=Path, default=HERE.parents[1] / "target/release/depickle", metavar="PATH")
    option(
        "--peer", type=peer, action="append", metavar="NAME=COMMAND", help="with {src} and {dst}; repeatable"
    )
    option("--huge-gb", type=int, default=20, metavar="N", help="size of huge in GiB (default: %(default)s)")
    option(
        "--timeout", type=float, default=600, help="seconds for one run (default: %(default)s; huge: none)"
    )
    option("--keep", action="store_true", help="leave the checkpoints; use those that an earlier run left")
    option("--json", type=Path, metavar="FILE", help="write every run's figures")
    args = parser.parse_args()
    if args.runs is not None and args.runs < 1:
        parser.error("--runs must be at least 1")
    if args.only and "huge" in args.only and not args.dir:
        parser.error("huge writes its whole size: give it a --dir on a disk")
    return args


def working_folder(args: argparse.Namespace) -> Folder:
    ram = Path("/dev/shm")
    default = (ram if ram.is_dir() else Path(tempfile.gettempdir())) / "depickle-bench"
    return Folder((args.dir or default).resolve(), args.keep, args.huge_gb)


def main() -> None:
    args = arguments()
    names = args.only or [name for name in CASE_NAMES if name != "huge"]
    known = cases(args.depickle.resolve(), args.peer or [], args.huge_gb)
    chosen = [case for case in known if case.name in names]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder is left clean
    folder = working_folder(args)
    results: list[tuple[Case, list[Row]]] = []
    try:
        for number, case in enumerate(chosen, start=1):
            if case.missing:
                print(f"{case.name}: skipped: {case.missing}", end="\n\n", flush=True)
                continue
            timeout = None if case.name == "huge" else args.timeout
            rows = run_case(case, folder, args.runs, timeout)
            results.append((case, rows))
            print(table(case, rows), end="\n\n", flush=True)
            folder.forget(set(case.checkpoints).difference(*(later.checkpoints for later in chosen[number:])))
    finally:
        folder.close()
        if args.json:
            args.json.write_text(json.dumps(document(results), indent=2) + "\n")


if __name__ == "__main__":
    main()
