"""Training in batches with AdamW in torch, on a GPU where torch finds one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from adyton.learning.ctr.config import Schedule, TrainConfig
from adyton.learning.ctr.data import Check, EarlyStop, TrainData
from adyton.learning.ctr.network import FactorisedNetwork

PREDICT_BATCH = 4_096
"""Rows at once: larger arrays come fresh from the operating system each time, which cost fifteen times as much."""


def train_in_batches(
    network: FactorisedNetwork,
    data: TrainData,
    config: TrainConfig,
    rng: np.random.Generator,
    member: int,
    progress: Callable[[Check], None] | None,
) -> list[Check]:
    """Leave the best weights in `network`, on the CPU, and give what was seen on the way."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    inputs = [torch.from_numpy(x).to(device) for x in data.inputs]
    labels = torch.from_numpy(data.labels.astype(np.float32)).to(device)
    weights = torch.from_numpy(data.weights.astype(np.float32)).to(device)
    embeddings = [p for side in network.sides.values() for p in side.embedding_parameters()]
    towers = [p for side in network.sides.values() for p in side.tower_parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": embeddings, "weight_decay": config.decay},
            {"params": towers, "weight_decay": config.decay / 10},
        ],
        lr=config.learning_rate,
        fused=True,
    )
    stop = EarlyStop(member, config.stop_on, config.patience, progress, _copy_state(network))
    n = len(data.split.train)
    steps = -(-n // config.batch_size)
    check_at = {round(steps * (i + 1) / config.checks_per_epoch) for i in range(config.checks_per_epoch)}
    rows_seen = 0
    # Dropout draws from torch's global generator: fork it, so that training neither reads nor changes the caller's.
    with _torch_threads(config.threads), torch.random.fork_rng():
        torch.manual_seed(int(rng.integers(2**31)))
        for step in range(config.max_epochs * steps):
            in_epoch = step % steps
            if in_epoch == 0:
                order = torch.from_numpy(data.split.train[rng.permutation(n)]).to(device)
            network.train()
            rows = order[in_epoch * config.batch_size : (in_epoch + 1) * config.batch_size]
            logits = network(*(x[rows] for x in inputs))
            loss = nn.functional.binary_cross_entropy_with_logits(logits, labels[rows], weight=weights[rows])
            optimizer.zero_grad(set_to_none=True)
            if config.schedule is Schedule.LINEAR:
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * (1 - step / (config.max_epochs * steps))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            rows_seen += len(rows)
            if in_epoch + 1 in check_at:
                value = data.validation_value(_validation_logits(network, inputs, data), config.stop_on)
                if stop.is_over(rows_seen, value, lambda: _copy_state(network)):
                    break
    network.load_state_dict(stop.best)
    network.to("cpu").eval()
    return stop.checks


def _validation_logits(network: FactorisedNetwork, inputs: list[Tensor], data: TrainData) -> np.ndarray:
    network.eval()
    rows = torch.from_numpy(data.split.validation).to(inputs[0].device)
    with torch.inference_mode():
        parts = [network(*(x[part] for x in inputs)) for part in torch.split(rows, PREDICT_BATCH)]
    logits: np.ndarray = torch.cat(parts).double().cpu().numpy()
    return logits


@contextmanager
def _torch_threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _copy_state(network: FactorisedNetwork) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}
