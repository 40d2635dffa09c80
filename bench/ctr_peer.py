"""deepctr-torch's DeepFM on rows that `bench/ctr.py --peers` encoded, inside an environment of its own.

    PYTHON bench/ctr_peer.py ROWS.npz PREDICTED.npy

ROWS.npz holds codes int64[B, F], sizes [F], labels [B], and the row numbers train and test. One epoch, embeddings of 8,
its defaults for the rest. Prints seconds of training and of prediction as JSON. Needs torch, deepctr-torch 0.3.0 and
requests (which it imports), and nothing of ours.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
from deepctr_torch.inputs import SparseFeat, get_feature_names
from deepctr_torch.models import DeepFM

EMBEDDING_DIM, BATCH, PREDICT_BATCH, THREADS = 8, 256, 16_384, 2


def main(rows_file: str, predicted_file: str) -> None:
    torch.set_num_threads(THREADS)
    stored = np.load(rows_file)
    codes, labels = stored["codes"], stored["labels"].astype(np.float32)
    fields = [SparseFeat(f"f{i}", int(n), embedding_dim=EMBEDDING_DIM) for i, n in enumerate(stored["sizes"])]
    names = get_feature_names(fields)

    def part(rows: np.ndarray) -> dict[str, np.ndarray]:
        return {name: codes[rows, int(name[1:])] for name in names}

    train, test = part(stored["train"]), part(stored["test"])
    model = DeepFM(fields, fields, task="binary", device="cpu", seed=int(stored["seed"]))
    model.compile("adam", "binary_crossentropy")
    started = time.perf_counter()
    model.fit(train, labels[stored["train"]], batch_size=BATCH, epochs=1, verbose=0)
    trained = time.perf_counter()
    predicted = model.predict(test, PREDICT_BATCH)[:, 0]
    done = time.perf_counter()
    np.save(predicted_file, np.clip(predicted.astype(np.float64), 1e-7, 1 - 1e-7))
    print(json.dumps({"train_seconds": trained - started, "predict_seconds": done - trained}))


if __name__ == "__main__":
    main(*sys.argv[1:])
