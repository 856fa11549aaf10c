#!/usr/bin/env python3
"""Writes the benchmarks' checkpoints: the bytes that torch.save would write, without torch.

    python checkpoints.py large /dev/shm/large.pt

The file's description is printed as JSON. Where torch is installed, a second process loads the file with
torch.load(weights_only=True) and compares names, dtypes, shapes, strides and every storage's CRC; not with
--no-check, and not for huge, which is sparse.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import importlib.util
import io
import json
import math
import os
import pickle
import random
import struct
import subprocess
import sys
import types
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import BinaryIO, Optional

GIB = 1 << 30

# dtype -> (storage class in the module torch, bytes an element)
DTYPES = {"bfloat16": ("BFloat16Storage", 2), "float32": ("FloatStorage", 4)}


# The object graph


@dataclass(eq=False)
class Storage:
    """One `data/KEY` record."""

    __slots__ = ("key", "dtype", "numel")
    key: str
    dtype: str
    numel: int

    @property
    def nbytes(self) -> int:
        return self.numel * DTYPES[self.dtype][1]


@dataclass(eq=False)
class Tensor:
    """A view of a storage; offset and stride count elements. Pickles as torch's rebuild call."""

    __slots__ = ("storage", "offset", "shape", "stride")
    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * DTYPES[self.storage.dtype][1]

    def __reduce__(self) -> tuple[object, ...]:
        hooks: collections.OrderedDict[str, object] = collections.OrderedDict()
        shape, stride = (
            (*self.shape,),
            (*self.stride,),
        )  # new objects: torch's are never shared, so neither is the memo
        return _rebuild_tensor_v2, (self.storage, self.offset, shape, stride, False, hooks)


StateDict = dict[str, Tensor]


def contiguous(storage: Storage, shape: tuple[int, ...], offset: int = 0) -> Tensor:
    stride = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return Tensor(storage, offset, shape, stride)


def own_storages(dtype: str, shapes: Iterable[tuple[str, tuple[int, ...]]]) -> StateDict:
    """One contiguous tensor a storage."""
    return {
        name: contiguous(Storage(str(key), dtype, math.prod(shape)), shape)
        for key, (name, shape) in enumerate(shapes)
    }


# The checkpoints


def large() -> StateDict:
    """1.7 GB, bf16: a decoder of 0.85 billion parameters, 24 layers, grouped-query attention."""

    def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
        hidden, key_value, inner, vocabulary = 2048, 256, 3328, 32000
        yield "model.embed_tokens.weight", (vocabulary, hidden)
        for layer in range(24):
            prefix = f"model.layers.{layer}"
            yield f"{prefix}.self_attn.q_proj.weight", (hidden, hidden)
            yield f"{prefix}.self_attn.k_proj.weight", (key_value, hidden)
            yield f"{prefix}.self_attn.v_proj.weight", (key_value, hidden)
            yield f"{prefix}.self_attn.o_proj.weight", (hidden, hidden)
            yield f"{prefix}.mlp.gate_proj.weight", (inner, hidden)
            yield f"{prefix}.mlp.up_proj.weight", (inner, hidden)
            yield f"{prefix}.mlp.down_proj.weight", (hidden, inner)
            yield f"{prefix}.input_layernorm.weight", (hidden,)
            yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
        yield "model.norm.weight", (hidden,)
        yield "lm_head.weight", (vocabulary, hidden)

    return own_storages("bfloat16", shapes())


def small() -> StateDict:
    """88 MB, f32: 20,000 tensors of 0.4 to 7 kB, each with its own storage."""
    shapes = ((100,), (30, 50), (1100,), (20, 85))
    return own_storages(
        "float32", ((f"blocks.{i // 4}.{i % 4}.weight", shapes[i % 4]) for i in range(20_000))
    )


def transposed() -> StateDict:
    """512 MiB, f32: eight 4096 x 4096 matrices saved as `.t()`."""
    side = 4096
    return {
        f"layers.{i}.weight": Tensor(Storage(str(i), "float32", side * side), 0, (side, side), (1, side))
        for i in range(8)
    }


def views(count: int) -> StateDict:
    """Tensors of four f32 that are all views of one storage."""
    storage = Storage("0", "float32", 4 * count)
    return {f"table.{i}.row": contiguous(storage, (4,), 4 * i) for i in range(count)}


def own(count: int) -> StateDict:
    """Tensors of four f32, each with its own storage."""
    return own_storages("float32", ((f"table.{i}.row", (4,)) for i in range(count)))


def huge(gigabytes: int) -> StateDict:
    """bf16, holes: a quarter is one storage, past 4 GiB where the whole is past 16; small ones end it."""
    rows = gigabytes * GIB // 2 // 4096
    first, rest = rows // 4, (rows - rows // 4) // 10
    shapes: list[tuple[str, tuple[int, ...]]] = [("embed.weight", (first, 4096))]
    shapes += [(f"layers.{i}.weight", (rest, 4096)) for i in range(10)]
    shapes += [(f"norms.{i}.weight", (4096,)) for i in range(4)]
    return own_storages("bfloat16", shapes)


MAKERS: dict[str, Callable[[], StateDict]] = {
    "large": large,
    "small": small,
    "transposed": transposed,
    "views-10k": lambda: views(10_000),
    "views-100k": lambda: views(100_000),
    "views-1m": lambda: views(1_000_000),
    "own-10k": lambda: own(10_000),
    "own-100k": lambda: own(100_000),
}
NAMES = (*MAKERS, "huge")


# data.pkl


def _rebuild_tensor_v2(*_: object) -> None:
    raise NotImplementedError("a stand-in that is only ever named in a pickle")


_rebuild_tensor_v2.__module__ = "torch._utils"
STORAGE_CLASSES = {dtype: type(name, (), {"__module__": "torch"}) for dtype, (name, _) in DTYPES.items()}


class StateDictPickler(pickle.Pickler):
    """Storages become persistent ids, as torch.save writes them."""

    def persistent_id(self, obj: object) -> Optional[tuple[str, type, str, str, int]]:
        if type(obj) is not Storage:
            return None
        return "storage", STORAGE_CLASSES[obj.dtype], obj.key, "cpu", obj.numel


@contextlib.contextmanager
def stand_in_torch() -> Iterator[None]:
    """pickle names only what it can import: modules with torch's names hold the stand-ins meanwhile."""
    if "torch" in sys.modules:
        raise RuntimeError("torch is imported in this process")
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for stand_in in STORAGE_CLASSES.values():
        setattr(torch, stand_in.__name__, stand_in)
    setattr(utils, "_rebuild_tensor_v2", _rebuild_tensor_v2)
    setattr(torch, "_utils", utils)
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield
    finally:
        del sys.modules["torch"], sys.modules["torch._utils"]


def data_pkl(tensors: StateDict) -> bytes:
    stream = io.BytesIO()
    with stand_in_torch():
        StateDictPickler(stream, protocol=2).dump(collections.OrderedDict(tensors))
    return stream.getvalue()


# The zip archive


class TorchZip:
    """PyTorchStreamWriter's archive: stored records aligned to 64 bytes, sizes in data descriptors, zip64.

    A record past 4 GiB, and every record that begins past 4 GiB, has a zip64 field and a 24-byte descriptor.
    The field of a local header gives the size and zero for the stored size, as torch's does. A sparse archive
    has holes for storages and, like set_crc32_options(False), zero for every CRC.
    """

    ALIGNMENT = 64
    FLAGS = 0x0808  # UTF-8 names; sizes and CRC follow the data
    MAX32 = 0xFFFF_FFFF

    def __init__(self, out: BinaryIO, prefix: str, sparse: bool) -> None:
        self._out, self._prefix, self._sparse = out, prefix, sparse
        self._directory: list[bytes] = []

    def record(self, name: str, data: bytes) -> None:
        self._open(name, len(data))
        self._out.write(data)
        self._close(0 if self._sparse else zlib.crc32(data))

    def storage(self, name: str, nbytes: int, chunks: Iterable[memoryview]) -> int:
        """Writes the chunks, or a hole where the archive is sparse; returns the CRC."""
        self._open(name, nbytes)
        crc = 0
        if self._sparse:
            self._out.seek(nbytes, os.SEEK_CUR)
        else:
            for chunk in chunks:
                self._out.write(chunk)
                crc = zlib.crc32(chunk, crc)
        self._close(crc)
        return crc

    def finish(self) -> None:
        start = self._out.tell()
        self._out.writelines(self._directory)
        end, count = self._out.tell(), len(self._directory)
        size, count16 = end - start, min(count, 0xFFFF)
        self._out.write(
            struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 0x031E, 45, 0, 0, count, count, size, start)
        )
        self._out.write(struct.pack("<4sIQI", b"PK\6\7", 0, end, 1))
        ends = min(size, self.MAX32), min(start, self.MAX32)
        self._out.write(struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count16, count16, *ends, 0))

    def _open(self, name: str, size: int) -> None:
        self._name, self._size, self._offset = f"{self._prefix}/{name}".encode(), size, self._out.tell()
        zip64 = self._zip64(stored=0)
        unpadded = self._offset + 30 + len(self._name) + len(zip64) + 4
        padding = b"Z" * (-unpadded % self.ALIGNMENT)
        extra = zip64 + struct.pack("<2sH", b"FB", len(padding)) + padding
        lengths = len(self._name), len(extra)
        self._out.write(struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 0, self.FLAGS, 0, 0, 0, 0, 0, 0, *lengths))
        self._out.write(self._name + extra)

    def _close(self, crc: int) -> None:
        zip64 = self._zip64(stored=self._size)
        sizes = "QQ" if zip64 else "II"
        self._out.write(struct.pack(f"<4sI{sizes}", b"PK\7\x08", crc, self._size, self._size))
        size, offset = min(self._size, self.MAX32), min(self._offset, self.MAX32)
        fields = (0, 0, self.FLAGS, 0, 0, 0, crc, size, size, len(self._name), len(zip64), 0, 0, 0, 0, offset)
        self._directory.append(struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", *fields) + self._name + zip64)

    def _zip64(self, stored: int) -> bytes:
        fields = [self._size, stored] if self._size >= self.MAX32 else []
        fields += [self._offset] if self._offset >= self.MAX32 else []
        return struct.pack(f"<HH{len(fields)}Q", 1, 8 * len(fields), *fields) if fields else b""


class Pattern:
    """Reproducible bytes for the storages: another phase for each, and all values finite."""

    def __init__(self) -> None:
        block = bytearray(random.Random(0).randbytes(4 << 20))
        below_two = bytes(byte & 0xBF for byte in range(256))  # no exponent of all ones, in bf16 or f32
        block[1::2] = block[1::2].translate(below_two)
        self._block = memoryview(bytes(block))

    def chunks(self, number: int, nbytes: int) -> Iterator[memoryview]:
        start = number * 40_036 % len(self._block)
        while nbytes > 0:
            chunk = self._block[start : start + nbytes]
            yield chunk
            nbytes, start = nbytes - len(chunk), 0


# The file


@dataclass(frozen=True)
class Checkpoint:
    """What a benchmark needs to know of a file that was written."""

    name: str
    path: str
    tensors: int
    payload: int  # bytes of all tensors, as safetensors stores them
    pickle: int  # bytes of data.pkl
    checked: bool  # torch opened it and found what was meant


def write(name: str, path: str, gigabytes: int, check: bool) -> Checkpoint:
    sparse = name == "huge"
    tensors = huge(gigabytes) if sparse else MAKERS[name]()
    pickled = data_pkl(tensors)
    with open(path, "wb") as out:
        crcs = write_archive(out, tensors, pickled, "archive", sparse)
    checked = check and not sparse and check_with_torch(path, tensors, crcs)
    payload = sum(tensor.nbytes for tensor in tensors.values())
    return Checkpoint(name, path, len(tensors), payload, len(pickled), checked)


def write_archive(
    out: BinaryIO, tensors: StateDict, pickled: bytes, prefix: str, sparse: bool
) -> dict[str, int]:
    """Returns the CRC of each storage by its key."""
    archive, pattern = TorchZip(out, prefix, sparse), Pattern()
    archive.record("data.pkl", pickled)
    archive.record(".format_version", b"1")
    archive.record(".storage_alignment", b"64")
    archive.record("byteorder", b"little")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    crcs = {
        key: archive.storage(f"data/{key}", storage.nbytes, pattern.chunks(number, storage.nbytes))
        for number, (key, storage) in enumerate(storages.items())
    }
    archive.record("version", b"3\n")
    archive.record(".data/serialization_id", b"0" * 40)
    archive.finish()
    return crcs


TORCH_CHECK = """
import json, sys, zlib
import torch

tensors = torch.load(sys.argv[1], map_location="cpu", mmap=True, weights_only=True)
crcs = {}

def crc(storage):
    key = storage.data_ptr()
    if key not in crcs:
        view = torch.empty(0, dtype=torch.uint8).set_(storage)
        crcs[key] = zlib.crc32(view.numpy())
    return crcs[key]

found = [
    [name, str(t.dtype), list(t.shape), list(t.stride()), t.storage_offset(), crc(t.untyped_storage())]
    for name, t in tensors.items()
]
wanted = json.load(sys.stdin)
if len(wanted) != len(found):
    sys.exit(f"wrote {len(wanted)} tensors, torch loads {len(found)}")
for ours, theirs in zip(wanted, found):
    if ours != theirs:
        sys.exit(f"wrote {ours}, torch loads {theirs}")
"""


def check_with_torch(path: str, tensors: StateDict, crcs: dict[str, int]) -> bool:
    """False where torch is not installed; a difference raises CalledProcessError."""
    if not all(importlib.util.find_spec(module) for module in ("torch", "numpy")):
        return False
    wanted = [
        [name, f"torch.{t.storage.dtype}", t.shape, t.stride, t.offset, crcs[t.storage.key]]
        for name, t in tensors.items()
    ]
    subprocess.run([sys.executable, "-c", TORCH_CHECK, path], input=json.dumps(wanted), text=True, check=True)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description="write one of the benchmarks' checkpoints")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("path")
    parser.add_argument(
        "--gigabytes", type=int, default=20, help="size of huge, in GiB (default: %(default)s)"
    )
    parser.add_argument("--no-check", action="store_true", help="do not load the file with torch")
    args = parser.parse_args()
    print(json.dumps(asdict(write(args.name, args.path, args.gigabytes, not args.no_check))))


if __name__ == "__main__":
    main()
