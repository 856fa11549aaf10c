#!/usr/bin/env python3
"""Converts checkpoints of many files, beside the merges of the libraries that wrote them.

    cargo build --release
    python tests/bench/folders.py                       # needs torch, deepspeed and ninja; --only dcp deepspeed huge

| case | folder | the library's merge |
|---|---|---|
| dcp | torch.distributed.checkpoint, 1.5 GB, every tensor in two chunks | dcp_to_torch_save |
| deepspeed | ZeRO stage 3, bf16, two ranks, 1.6 GB of which 460 MB are weights | zero_to_fp32 |
| huge | torch.distributed.checkpoint, 20 GiB of holes in four files | none: memory only |

Commands run in turns, the first of which is dropped; the table gives medians of wall seconds, their ratio, and the peak of
resident memory. An interpreter's own time to import torch (and deepspeed) stands beside it. Unix only; huge is written to
--disk, takes 20 GiB there while it is written, and needs `fallocate`.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from libraries import ROOT, run

DCP_MERGE = "import sys; from torch.distributed.checkpoint.format_utils import dcp_to_torch_save as f; f(*sys.argv[1:])"
ZERO_MERGE = ("import sys; from deepspeed.utils.zero_to_fp32 import convert_zero_checkpoint_to_fp32_state_dict as f\n"
              "f(*sys.argv[1:], safe_serialization=True)")


def spread(folder, tensors, rows, columns, values):
    """torch.distributed.checkpoint of matrices that lie over all ranks by rows."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard
    import torch.distributed as dist

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    state = {f"layers.{i}.weight": DTensor.from_local(values(rows, columns), mesh, [Shard(0)]) for i in range(tensors)}
    dcp.save(state, checkpoint_id=folder)


def dcp(folder):
    import torch

    spread(folder, 24, 4096, 2048, torch.randn)


def huge(folder):
    import torch

    spread(folder, 80, 16384, 1024, torch.zeros)


def deepspeed(folder):
    import deepspeed
    import torch

    layers = [torch.nn.Linear(2048, 2048) for _ in range(28)]
    config = {"train_micro_batch_size_per_gpu": 1, "bf16": {"enabled": True}, "zero_allow_untested_optimizer": True,
              "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}}
    model = torch.nn.Sequential(*layers)
    engine, *_ = deepspeed.initialize(model=model, optimizer=torch.optim.AdamW(model.parameters()), config=config)
    engine.backward(engine(torch.ones(1, 2048, dtype=torch.bfloat16)).float().sum())
    engine.step()
    engine.save_checkpoint(folder, tag="step1")


# name: (writer, ranks, the library's merge into {dst}, what it imports)
CASES = {
    "dcp": (dcp, 2, DCP_MERGE, "import torch.distributed.checkpoint"),
    "deepspeed": (deepspeed, 2, ZERO_MERGE, "import deepspeed"),
    "huge": (huge, 4, None, None),
}


def rank(number, name, folder, port):
    import torch.distributed as dist

    writer, world, *_ = CASES[name]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(number), WORLD_SIZE=str(world),
                      LOCAL_RANK=str(number), LOCAL_SIZE="0", DS_ACCELERATOR="cpu")
    dist.init_process_group("gloo", rank=number, world_size=world)
    writer(folder)
    dist.barrier()
    dist.destroy_process_group()


def write(name, folder):
    import torch.multiprocessing as mp

    mp.spawn(rank, (name, folder, 29611), nprocs=CASES[name][1])
    for path in Path(folder).rglob("*"):
        if name == "huge" and path.suffix == ".distcp":
            subprocess.run(["fallocate", "--dig-holes", path], check=True)


def size(folder):
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def removed(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.unlink(path)


def measure(name, options, place):
    source, mine, theirs = (os.path.join(place, part) for part in ("source", "mine", "theirs"))
    write(name, source)
    _, _, merge, imports = CASES[name]
    commands = {"depickle": [options.depickle, "convert", source, "-o", mine, "--no-progress"]}
    if merge:
        commands["the library's merge"] = [sys.executable, "-c", merge, source, theirs]
        commands["its imports"] = [sys.executable, "-c", imports]
    runs = {label: [] for label in commands}
    for turn in range(options.turns):
        for label, command in commands.items():
            removed(mine)
            removed(theirs)
            done = run(command)
            if turn or options.turns == 1:
                runs[label].append(done)
    for label, done in runs.items():
        ratio = statistics.median(a[0] / b[0] for a, b in zip(done, runs["depickle"]))
        print(f"{name:<10} {size(source) / 1e6:>7.0f} {label:<20} {statistics.median(wall for wall, _ in done):>7.2f} "
              f"{ratio:>6.2f} {max(peak for _, peak in done):>8.0f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depickle", default=str(ROOT / "target/release/depickle"))
    parser.add_argument("--dir", default="/dev/shm")
    parser.add_argument("--disk", default="/tmp")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--only", nargs="+", choices=CASES, default=["dcp", "deepspeed"])
    options = parser.parse_args()
    print(f"{'case':<10} {'MB':>7} {'command':<20} {'wall s':>7} {'ratio':>6} {'peak MiB':>8}")
    for name in options.only:
        with tempfile.TemporaryDirectory(dir=options.disk if name == "huge" else options.dir) as place:
            measure(name, options, place)


if __name__ == "__main__":
    main()
