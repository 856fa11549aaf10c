#!/usr/bin/env python3
"""Holds `depickle disasm` to Python's own decoder: offsets, opcodes and arguments, and the text of `pickletools.dis`.

  disasm.py DEPICKLE [FILE-OR-FOLDER...]

Without files: the fixtures and examples of this repository and, where DEPICKLE_CORPUS is set, the files in its `real`.
pickletools decodes and never executes; nothing is loaded. Every pickle that lies in its file as it is, in a member of a
zip archive, or in a compressed stream that the standard library reads is compared; the rest is counted."""

import bz2
import gzip
import io
import json
import lzma
import math
import os
import pickletools
import subprocess
import sys
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UNPACK = {"gzip": gzip.decompress, "bzip2": bz2.decompress, "xz": lzma.decompress, "lzma": lzma.decompress,
          "zlib": zlib.decompress, "zfile": lambda data: zlib.decompress(data[21 + (data[21:22] == b" "):])}


MAGIC = 0x1950A86A20F9469CFC6C


def embedded(pickle, blobs, last):
    """The bytes of a stream inside a string of an earlier pickle, and where in it the next pickle starts."""
    if any(op.get("arg") == {"int": str(MAGIC)} for op in pickle["ops"][:3]):
        last[:] = [next(blobs), 0]
    data, start = last
    last[1] = start + pickle["ops"][-1]["offset"] + 1
    return data, start


def strings(pickles):
    """Strings that hold a legacy stream of torch."""
    for pickle in pickles:
        for op in pickle["ops"]:
            data = value(op)
            if isinstance(data, str) and data.startswith("\x80\x02\x8a\n"):
                data = data.encode("latin-1")
            if isinstance(data, bytes) and data.startswith(b"\x80\x02\x8a\n"):
                yield data


def bytes_of(document, pickle, data):
    """The bytes that a pickle's positions are in, and where it starts in them; None where they cannot be told here."""
    for layer in document["layers"]:
        if layer not in UNPACK:
            return None
        data = UNPACK[layer](data)
    if document["container"] == "pt2":
        # Its pickles are in archives that are members, each with positions of its own.
        return None
    if pickle["start"] is not None:
        return data, pickle["start"]
    if pickle["entry"] is None or not zipfile.is_zipfile(io.BytesIO(data)):
        return None
    member = zipfile.ZipFile(io.BytesIO(data)).read(pickle["entry"])
    return member, member.index(b"\x80") if pickle["entry"].endswith(".npy") else 0


def value(op):
    """The argument as pickletools gives it."""
    arg = op.get("arg")
    if isinstance(arg, dict):
        assert "length" not in arg, f"{op} is cut under --full"
        if "int" in arg:
            return int(arg["int"], 0)
        if "float" in arg:
            return float(arg["float"])
        if "utf8" in arg:
            return bytes.fromhex(arg["utf8"]).decode("utf-8", "surrogatepass")
        data = bytes.fromhex(arg["bytes"])
        return bytearray(data) if op["opcode"] == "BYTEARRAY8" else data
    return arg


def same(ours, theirs):
    if isinstance(theirs, float) and math.isnan(theirs):
        return isinstance(ours, float) and math.isnan(ours)
    return type(ours) is type(theirs) and ours == theirs


def compare(data, start, ops, broken):
    """Compares the items of a pickle. Runs between raw bytes, and complete pickles between opcodes, are decoded one by one.
    A broken one is listed up to where it cannot be carried out."""
    rest = iter(ops)
    op = next(rest, None)
    while op is not None:
        if "raw" in op:
            op = next(rest, None)
            continue
        at = start + op["offset"]
        stream = io.BytesIO(data)
        stream.seek(at)
        decoded = pickletools.genops(stream)
        while True:
            try:
                opcode, arg, position = next(decoded)
            except StopIteration:
                break
            except ValueError:
                # Python's error and ours: the last opcode is shown where it can be taken apart.
                assert broken and (op is None or next(rest, None) is None), f"pickletools ends where {op} follows"
                return
            if op is None and broken:
                return
            assert op is not None, f"{opcode.name} at {position} is missing"
            if "raw" in op:
                break
            found = (op["offset"] + start, op["opcode"], op["code"])
            assert found == (position, opcode.name, ord(opcode.code)), f"{found}, pickletools {position} {opcode.name}"
            assert same(value(op), arg), f"{op}: pickletools {arg!r}"
            op = next(rest, None)
            if op is not None and "raw" in op:
                break


def compare_text(document, text, data):
    """Compares the left part of the lines with `pickletools.dis`, for a file that is one pickle."""
    expected = io.StringIO()
    pickletools.dis(data, expected)
    ours = text.split("\n")[2:]
    for line, theirs in zip(ours, expected.getvalue().split("\n")):
        if line != theirs:
            head, gap, _ = line.partition("  # ") if theirs not in line else (theirs, "  # ", "")
            assert gap and line.startswith(theirs), f"{line!r}, pickletools {theirs!r}"


def check(program, path):
    """What became of a file: the pickles and opcodes that were compared, and what could not be."""
    run = lambda *flags: subprocess.run([program, "disasm", str(path), "--full", *flags], capture_output=True)
    done = run("--json")
    if done.returncode == 3 and b'"pickles": []' in done.stdout:
        return None
    document = json.loads(done.stdout)
    broken = any(pickle["error"] for pickle in document["pickles"]) and document["error"] is None
    assert done.returncode == (3 if broken else 0), f"exit {done.returncode}: {done.stderr.decode()[:300]}"
    data = path.read_bytes()
    compared, ops, passed = 0, 0, 0
    blobs, last = strings(document["pickles"]), [b"", 0]
    for pickle in document["pickles"]:
        found = bytes_of(document, pickle, data)
        if found is None and not document["layers"] and pickle["entry"] is None and document["container"] != "pt2":
            found = embedded(pickle, blobs, last)
        if found is None:
            passed += 1
            continue
        compare(*found, pickle["ops"], pickle["error"])
        compared += 1
        ops += len(pickle["ops"])
    plain = document["container"] == "pickle" and len(document["pickles"]) == 1 and not document["layers"]
    if plain and len(data) < 1 << 20:
        compare_text(document, run().stdout.decode(), data)
    return compared, ops, passed, plain


def files(arguments):
    if arguments:
        roots = [Path(argument) for argument in arguments]
    else:
        roots = [ROOT / "tests/fixtures", ROOT / "examples"]
        if corpus := os.environ.get("DEPICKLE_CORPUS"):
            roots.append(Path(corpus) / "real" / "files")
    for root in roots:
        yield from sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]


def main():
    program, *arguments = sys.argv[1:]
    totals, failed, without = [0, 0, 0, 0], 0, 0

    def one(path):
        try:
            return path, check(program, path), None
        except Exception as error:
            return path, None, error

    with ThreadPoolExecutor(2) as pool:
        for path, result, error in pool.map(one, files(arguments)):
            if error is not None:
                failed += 1
                print(f"{path}: {type(error).__name__}: {str(error)[:500]}")
            elif result is None:
                without += 1
            else:
                totals = [a + int(b) for a, b in zip(totals, result)]
    pickles, ops, passed, texts = totals
    print(f"{pickles} pickles with {ops} opcodes as pickletools decodes them, {texts} as it prints them; "
          f"{passed} pickles that cannot be told apart here, {without} files without a pickle, {failed} failed")
    return 1 if failed or not pickles else 0


if __name__ == "__main__":
    sys.exit(main())
