"""Kills conversions of folders at many moments and goes on with each: the tree has to end as that of a run that nothing
disturbed.

    python tests/kill.py target/release/depickle FOLDER... [--points 300] [--flags '--max-shard-size 20MB']

A conversion is killed (SIGKILL) after a time that is spread over its whole length, every third one a second time while it
is resumed. After each kill, a file under its final name has to be whole, and the manifest is there only if everything is.
Needs Python's standard library alone. The folders are any that `depickle convert` takes as one checkpoint.
"""

import argparse
import hashlib
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

STAGING = ".depickle.partial"


def tree(folder):
    """Every file with its digest."""
    def digest(path):
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = folder.rglob("*") if folder.exists() else []
    return {str(path.relative_to(folder)): digest(path) for path in files if path.is_file()}


def convert(program, source, out, flags):
    command = [program, "convert", str(source), "-o", str(out), "--quiet", "--no-progress", *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def killed(process, after):
    """Whether it was still running after so many seconds, and is killed now."""
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.kill()
    _, said = process.communicate()
    if process.returncode == 0:
        return False
    if process.returncode > 0:
        sys.exit(f"failed by itself: {said.decode()}")
    return True


def check_interrupted(out, expected):
    """What stands under a final name is whole, and the manifest comes last."""
    found = {path: digest for path, digest in tree(out).items() if not path.endswith(".partial") and not path.startswith(STAGING)}
    # The list of all outputs is made when they are there, and is no part of the conversion.
    for path in found.keys() - {"SHA256SUMS"}:
        if found[path] != expected.get(path):
            sys.exit(f"{path}: not whole after a kill")
    missing = expected.keys() - found.keys() - {"SHA256SUMS"}
    if "manifest.json" in found and missing:
        sys.exit(f"a manifest without {sorted(missing)}")


def kill_all(program, source, points, flags, scratch):
    expected_in, out = scratch / "expected", scratch / "out"
    begun = time.monotonic()
    if convert(program, source, expected_in, flags).wait() != 0:
        sys.exit(f"{source}: is not converted")
    length = time.monotonic() - begun
    expected = tree(expected_in)
    counts = {"killed": 0, "killed twice": 0, "left over": 0}
    for point in range(points):
        shutil.rmtree(out, ignore_errors=True)
        moment = length * 1.1 * (point + random.random()) / points
        if killed(convert(program, source, out, flags), moment):
            counts["killed"] += 1
            counts["left over"] += (out / STAGING).exists()
            check_interrupted(out, expected)
            if point % 3 == 0 and killed(convert(program, source, out, [*flags, "--resume"]), random.random() * length):
                counts["killed twice"] += 1
                check_interrupted(out, expected)
        process = convert(program, source, out, [*flags, "--resume"])
        _, said = process.communicate()
        if process.returncode != 0:
            sys.exit(f"{source}: cannot go on after {moment:.4f} s: {said.decode()}")
        if tree(out) != expected:
            sys.exit(f"{source}: another tree after a kill at {moment:.4f} s of {length:.4f} s")
    told = ", ".join(f"{count} {what}" for what, count in counts.items())
    print(f"{source}: {points} points over {length:.3f} s, {told}: always the same {len(expected)} files", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    parser.add_argument("--points", type=int, default=300)
    parser.add_argument("--flags", default="")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scratch", help="where outputs go: a disk, where a temporary folder is in memory")
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    for folder in arguments.folders:
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
            kill_all(arguments.program, folder, arguments.points, arguments.flags.split(), pathlib.Path(scratch))


if __name__ == "__main__":
    main()
