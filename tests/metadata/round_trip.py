"""Converts fixtures with `--metadata`, restores the document, and compares it with what Python itself loads.

    python tests/metadata/round_trip.py --bin target/debug/depickle [FILE...]

Loads pickles, so it is for files that this repository wrote: without arguments, for its fixtures. Needs torch, numpy,
joblib and safetensors. Classes that cannot be imported get a stand-in of the same name on both sides.
"""

import argparse
import importlib
import io
import pickle
import subprocess
import sys
import tempfile
import warnings
import weakref
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))
from restore_metadata import LeftOut, restore  # noqa: E402

STAND_INS = {}


class StandIn(dict):
    def __init__(self, *args, **kwargs):
        self.given = (args, kwargs)

    def __setstate__(self, state):
        self.state = state

    __hash__ = object.__hash__


def resolve(name):
    module, _, name = name.partition(":")
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found
    except (ImportError, AttributeError):
        return STAND_INS.setdefault((module, name), type(name.rpartition(".")[2], (StandIn,), {"__module__": module}))


class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            return resolve(f"{module}:{name}")


class Loader:
    """What torch.load takes for a pickle module."""

    Unpickler, UnpicklingError, __name__ = Unpickler, pickle.UnpicklingError, "pickle"

    @staticmethod
    def load(file, **options):
        return Unpickler(file, **options).load()


def load(path):
    if path.suffix == ".pkl":
        return Unpickler(io.BytesIO(path.read_bytes())).load()
    if path.suffix == ".joblib":
        import joblib

        return joblib.load(path)
    return torch.load(path, map_location="cpu", weights_only=False, pickle_module=Loader)


class Different(Exception):
    pass


def compare(one, two):
    """Raises where `two`, which was restored, is not `one`. Walks both at once, each pair once."""
    seen, stack, compared = {}, [(one, two, "$")], 0
    while stack:
        one, two, at = stack.pop()
        if (id(one), id(two)) in seen:
            continue
        seen[(id(one), id(two))] = (one, two)
        compared += 1
        if isinstance(two, LeftOut):
            continue
        if isinstance(one, torch.Tensor) or isinstance(two, torch.Tensor):
            tensors(one, two, at)
            continue
        if isinstance(one, torch.storage.TypedStorage | torch.UntypedStorage | weakref.ref):
            continue
        if type(one) is not type(two):
            raise Different(f"{at}: {type(two)} is restored, {type(one)} was")
        if isinstance(one, np.ndarray | np.generic) and one.dtype != object:
            if one.tobytes() != two.tobytes() or one.dtype != two.dtype:
                raise Different(f"{at}: {two!r}, {one!r}")
            continue
        if isinstance(one, np.ndarray):
            stack += [(a, b, f"{at}[{i}]") for i, (a, b) in enumerate(zip(one.flat, two.flat, strict=True))]
            continue
        if isinstance(one, dict):
            if len(one) != len(two):
                raise Different(f"{at}: {len(two)} keys, {len(one)}")
            for (key, value), (other, restored) in zip(one.items(), two.items()):
                stack += [(key, other, f"{at}.keys"), (value, restored, f"{at}[{key!r}]")]
        elif isinstance(one, list | tuple):
            if len(one) != len(two):
                raise Different(f"{at}: {len(two)} items, {len(one)}")
            stack += [(a, b, f"{at}[{i}]") for i, (a, b) in enumerate(zip(one, two))]
        elif isinstance(one, float):
            if one != two and not (one != one and two != two):
                raise Different(f"{at}: {two!r}, {one!r}")
        elif isinstance(one, set | frozenset):
            if len(one) != len(two) or {repr(x) for x in one} != {repr(x) for x in two}:
                raise Different(f"{at}: {two!r}, {one!r}")
            continue
        elif not hasattr(one, "__dict__") or isinstance(one, type):
            if one != two and repr(one) != repr(two):
                raise Different(f"{at}: {two!r}, {one!r}")
            continue
        if hasattr(one, "__dict__"):
            stack.append((vars(one), vars(two), f"{at}.__dict__"))
    return compared


def tensors(one, two, at):
    if isinstance(one, np.ndarray):
        one = torch.from_numpy(one.astype(one.dtype.newbyteorder("="), order="C"))
    if not isinstance(one, torch.Tensor) or not isinstance(two, torch.Tensor):
        one = getattr(one, "data", one)
        raise Different(f"{at}: {type(two)} is restored, {type(one)} was")
    one = one.detach().resolve_neg().resolve_conj()
    if one.is_complex() and not two.is_complex():
        one = torch.view_as_real(one)
    one = one.contiguous()
    if one.shape != two.shape or one.dtype != two.dtype:
        raise Different(f"{at}: {two.dtype} {two.shape}, {one.dtype} {one.shape}")
    if one.reshape(-1).view(torch.uint8).ne(two.reshape(-1).view(torch.uint8)).any():
        raise Different(f"{at}: other bytes")


# Not pickles that Python loads as one object; hostile; arrays that only a library with readers of its own puts together;
# bytes that torch itself does not swap; and hand-made forms that nothing installed here loads.
SKIPPED = (
    "script",
    *(f"arrays/{name}" for name in ("cut", "missing", "shape", "traversal", "truncated", "absolute")),
    *(f"arrays/{name}." for name in ("dill", "flax", "jax", "old", "oldz", "raw", "zfile", "lz4", "ml_dtypes")),
    "zip_big_endian_untyped",
)


def main():
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", default=str(ROOT / "target/debug/depickle"))
    parser.add_argument("files", nargs="*", type=Path)
    given = parser.parse_args()
    fixtures = ROOT / "tests/fixtures"
    files = given.files or sorted(
        path
        for path in [*fixtures.glob("torch*/*"), *fixtures.glob("arrays/*.pkl"), *fixtures.glob("arrays/*.joblib")]
        if not any(word in str(path.relative_to(fixtures)) for word in SKIPPED)
    )
    counts = {"same": 0, "different": 0, "not converted": 0, "not loaded": 0}
    for path in files:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "o.safetensors"
            command = [given.bin, "convert", path, "-o", output, "--all", "--aliases", "copy", "--metadata", "--inert", "unknown", "-q"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                outcome, why = "not converted", done.stderr.strip().splitlines()[0]
            else:
                try:
                    expected = load(path)
                except Exception as error:
                    outcome, why = "not loaded", repr(error)
                else:
                    try:
                        roots = restore(output.with_suffix(".metadata.json"), load_file(output), resolve)
                        outcome, why = "same", f"{compare(expected, roots[0])} values"
                    except Exception as error:
                        outcome, why = "different", repr(error)
        counts[outcome] += 1
        print(f"{outcome:13}  {path.name}  {why[:300]}")
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return 1 if counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
