#!/usr/bin/env python3
"""Converts files of 1 GB that numpy, joblib and TorchScript wrote, plain and compressed, in a RAM folder.

    cargo build --release
    python tests/bench/libraries.py                     # needs numpy, joblib and torch; --mb 100 for a quick look

Each file is converted in turns with a reference: one SHA-256 pass over it where it is plain, its own decompressor where it
is compressed. The first turn is dropped; the table gives medians of wall seconds, their ratio, and the peak of
resident memory. Unix only.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from compare import LAUNCHER

ROOT = Path(__file__).resolve().parent.parent.parent


def arrays(megabytes):
    """Matrices of about 8 MB: what networks have, and what compresses as little as weights do."""
    import numpy

    generator = numpy.random.default_rng(0)
    return {f"layer{i}": generator.standard_normal((1024, 2048), dtype="f4") for i in range(max(megabytes // 8, 1))}


def script(arrays, path):
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, array in arrays.items():
                self.register_buffer(name, torch.from_numpy(array))

        def forward(self, x):
            return x

    torch.jit.save(torch.jit.script(Net()), path)


def write(name, arrays, path):
    import joblib
    import numpy

    if name == "npz":
        numpy.savez(path, **arrays)
    elif name == "joblib":
        joblib.dump(arrays, path)
    elif name == "TorchScript":
        script(arrays, path)
    elif name == "npz, deflated":
        numpy.savez_compressed(path, **arrays)
    elif name == "joblib, gzip 1":
        joblib.dump(arrays, path, compress=("gzip", 1))


CASES = {
    "npz": (".npz", ["openssl", "dgst", "-sha256"]),
    "joblib": (".joblib", ["openssl", "dgst", "-sha256"]),
    "TorchScript": (".pt", ["openssl", "dgst", "-sha256"]),
    "npz, deflated": (".npz", [sys.executable, "-c", "import sys,zipfile\n"
                               "with zipfile.ZipFile(sys.argv[1]) as z:\n"
                               "  for name in z.namelist():\n"
                               "    with z.open(name) as f:\n"
                               "      while f.read(1 << 20): pass"]),
    "joblib, gzip 1": (".joblib", ["gzip", "-dc"]),
}


def run(command):
    """Wall seconds and peak MiB, measured from a process of its own, as compare.py says."""
    done = subprocess.run([sys.executable, "-c", LAUNCHER, *command], capture_output=True, check=True)
    status, wall, _, _, peak = json.loads(done.stdout)
    if status:
        raise SystemExit(f"{command} ended with {status}")
    return wall, peak / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depickle", default=str(ROOT / "target/release/depickle"))
    parser.add_argument("--dir", default="/dev/shm")
    parser.add_argument("--mb", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=4)
    options = parser.parse_args()
    weights = arrays(options.mb)
    print(f"{'file':<16} {'MB':>6} {'depickle s':>10} {'reference s':>11} {'ratio':>6} {'peak MiB':>8}")
    for name, (suffix, reference) in CASES.items():
        with tempfile.TemporaryDirectory(dir=options.dir) as folder:
            path = os.path.join(folder, "model" + suffix)
            write(name, weights, path)
            mine, theirs, peak = [], [], 0.0
            for turn in range(options.turns):
                out = os.path.join(folder, "out.safetensors")
                wall, memory = run([options.depickle, "convert", path, "-o", out, "--all", "--force", "--no-progress"])
                os.unlink(out)
                other, _ = run([*reference, path])
                if turn:
                    mine.append(wall)
                    theirs.append(other)
                    peak = max(peak, memory)
            ratio = statistics.median(a / b for a, b in zip(mine, theirs))
            size = os.path.getsize(path) / 1e6
            print(f"{name:<16} {size:>6.0f} {statistics.median(mine):>10.2f} {statistics.median(theirs):>11.2f} "
                  f"{ratio:>6.2f} {peak:>8.0f}", flush=True)


if __name__ == "__main__":
    main()
