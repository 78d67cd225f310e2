"""Shards a tiny model with FSDP2 in a group of one process and asks what freezing says; started by test_freezing.py."""

import sys

import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from ftkit.config import TrainingSettings
from ftkit.errors import DeviceError
from ftkit.models import load_model
from ftkit.tuning import freeze

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
for asked in ({"freeze": "attention.q"}, {"freeze_until": {"mlp": 2}}, {"freeze": "mlp"}):
    model = load_model("new:gpt2")
    frozen = freeze(model, TrainingSettings(model="m", tokenizer="byte", max_steps=4, **asked))
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    try:
        frozen.check_wrapping(model)
    except DeviceError as error:
        sys.stdout.write(f"{error}\n")
    else:
        sys.stdout.write("allowed\n")
dist.destroy_process_group()
