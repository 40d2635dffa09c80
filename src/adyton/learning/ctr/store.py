"""A trained model as one file: arrays and JSON in a `.npz`, nothing that runs when it is loaded."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adyton.kernel.chance import stream
from adyton.learning.ctr.config import Schedule, TrainConfig, Trainer
from adyton.learning.ctr.fields import FieldEncoder
from adyton.learning.ctr.network import FactorisedNetwork
from adyton.learning.ctr.training import Check, TrainedModel
from adyton.learning.errors import DAMAGED_ARCHIVE, ModelError
from adyton.learning.metrics import Metric
from adyton.learning.schema import TableSchema

FORMAT = "adyton-ctr-model/2"


def save(model: TrainedModel, path: Path) -> None:
    """Write `model` to `path`, replacing it whole or not at all."""
    config = asdict(model.config) | {
        "stop_on": model.config.stop_on.value,
        "schedule": model.config.schedule.value,
        "trainer": model.config.trainer.value,
    }
    head = {
        "format": FORMAT,
        "encoder": model.encoder.as_json(),
        "schema": model.schema.as_json(),
        "config": config,
        "seed": model.seed,
        "checks": [asdict(check) for check in model.checks],
        "training_rows": model.training_rows,
        "scale": model.scale,
        "shift": model.shift,
        "data_sha256": list(model.data_sha256),
        "privacy": model.privacy,
        "live_precision": model.live_precision,
    }
    arrays = {
        f"{index}/{name}": tensor.numpy()
        for index, member in enumerate(model.members)
        for name, tensor in member.state_dict().items()
    }
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, head=np.frombuffer(json.dumps(head).encode(), np.uint8), **arrays)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path) -> TrainedModel:
    """The model that `save` wrote.   Raises ModelError when the file is missing or something else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            head: dict[str, Any] = json.loads(stored["head"].tobytes())
            arrays = {name: stored[name] for name in stored.files if name != "head"}
        if head["format"] != FORMAT:
            raise ModelError("this model was written by another version", where=path.name)
        return _restore(head, arrays)
    except FileNotFoundError:
        raise ModelError("there is no such model file", where=path.name) from None
    except DAMAGED_ARCHIVE:
        raise ModelError("this is not a model file", where=path.name, hint="make one with `adyton ctr train`") from None


def _restore(head: dict[str, Any], arrays: dict[str, np.ndarray[Any, Any]]) -> TrainedModel:
    stored = dict(head["config"])
    stored |= {
        "stop_on": Metric(stored["stop_on"]),
        "schedule": Schedule(stored["schedule"]),
        "trainer": Trainer(stored["trainer"]),
        "hidden": tuple(stored["hidden"]),
        "leave_out": tuple(tuple(names) for names in stored["leave_out"]),
        "features": None if stored["features"] is None else tuple(stored["features"]),
    }
    config = TrainConfig(**stored)
    encoder = FieldEncoder.from_json(head["encoder"])
    members = []
    for index in range(config.networks):
        member = FactorisedNetwork(encoder, config, stream(0, "unused: every weight is loaded"))
        prefix = f"{index}/"
        state = {n.removeprefix(prefix): torch.from_numpy(a) for n, a in arrays.items() if n.startswith(prefix)}
        member.load_state_dict(state)
        members.append(member.eval())
    return TrainedModel(
        encoder=encoder,
        members=tuple(members),
        schema=TableSchema.from_json(head["schema"]),
        config=config,
        seed=int(head["seed"]),
        checks=tuple(Check(**check) for check in head["checks"]),
        training_rows=int(head["training_rows"]),
        scale=float(head["scale"]),
        shift=float(head["shift"]),
        data_sha256=tuple(head["data_sha256"]),
        privacy=head.get("privacy"),
        live_precision=head.get("live_precision"),
    )
