"""One peer's synthetic table, made inside the peer's own environment: `bench/synth.py --peers FOLDER` runs this.

    FOLDER/sdv/bin/python bench/synth_peer.py gaussian-copula TRAIN.parquet MADE.parquet SEED

Every column is a category. Prints the seconds of the fit as JSON. Needs the peer, pandas and pyarrow, and nothing of
ours. FOLDER holds one environment for each library: `sdv` (sdv 2.0.0), `smartnoise` (smartnoise-synth 1.0.8),
`mostlyai` (mostlyai-engine 2.7.3).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

ROWS, EPSILON, DELTA = 40_000, 3.0, 1e-6
CTGAN_EPOCHS, AIM_ROUNDS, ARGN_MINUTES = 30, 24, 4.0


def sdv(name: str, train: pd.DataFrame) -> tuple[float, pd.DataFrame]:
    from sdv import single_table
    from sdv.metadata import Metadata

    metadata = Metadata.load_from_dict(
        {"tables": {"t": {"columns": {column: {"sdtype": "categorical"} for column in train.columns}}}}
    )
    if name == "ctgan":
        model = single_table.CTGANSynthesizer(metadata, epochs=CTGAN_EPOCHS)
    else:
        model = single_table.GaussianCopulaSynthesizer(metadata)
    started = time.perf_counter()
    model.fit({"t": train})
    fit_s = time.perf_counter() - started
    made = model.sample(ROWS)
    return fit_s, made["t"] if isinstance(made, dict) else made


def smartnoise(name: str, train: pd.DataFrame) -> tuple[float, pd.DataFrame]:
    from snsynth import Synthesizer

    options = {"rounds": AIM_ROUNDS} if name == "aim" else {}
    model = Synthesizer.create(name, epsilon=EPSILON, delta=DELTA, **options)
    started = time.perf_counter()
    model.fit(train, categorical_columns=list(train.columns), preprocessor_eps=0.0)
    fit_s = time.perf_counter() - started
    return fit_s, model.sample(ROWS)


def mostlyai(_: str, train: pd.DataFrame) -> tuple[float, pd.DataFrame]:
    from mostlyai import engine

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        types = dict.fromkeys(train.columns, "TABULAR_CATEGORICAL")
        engine.split(tgt_data=train, workspace_dir=folder, model_type="TABULAR", tgt_encoding_types=types)
        engine.analyze(workspace_dir=folder)
        engine.encode(workspace_dir=folder)
        engine.train(workspace_dir=folder, max_training_time=ARGN_MINUTES, device="cpu")
        fit_s = time.perf_counter() - started
        engine.generate(workspace_dir=folder, sample_size=ROWS, device="cpu")
        return fit_s, pd.read_parquet(Path(folder) / "SyntheticData")


PEERS = {
    "gaussian-copula": sdv, "ctgan": sdv, "mst": smartnoise, "aim": smartnoise, "tabularargn": mostlyai,
}  # fmt: skip


def main() -> None:
    name, source, target, seed = sys.argv[1:]
    import numpy as np

    np.random.seed(int(seed))
    train = pd.read_parquet(source)
    fit_s, made = PEERS[name](name, train)
    made[list(train.columns)].astype(str).to_parquet(target)
    print(json.dumps({"fit_s": fit_s}))


if __name__ == "__main__":
    main()
