"""The bytes of what leaves an enclave, and back. Boxes hold these bytes; recipients read them with this module.

model, model_without_partner   an uncompressed ZIP: user_tower.onnx, ad_vectors.parquet, context_vectors.parquet,
                               manifest.json
synthetic_table                an uncompressed ZIP: table.parquet, record.json (the guarantee)
predictions                    Parquet: row (number in the recipient's own table), label, without_partner, with_partner;
                               of a private model no without_partner
join_statistics, evaluation    JSON
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping

from adyton.kernel.errors import BadInputError
from adyton.kernel.ledger import PrivacyLoss
from adyton.kernel.records import ModelArtifact, SyntheticTable

_EPOCH = (1980, 1, 1, 0, 0, 0)
_MODEL_FILES = ("user_tower.onnx", "ad_vectors.parquet", "context_vectors.parquet", "manifest.json")


def model_bytes(model: ModelArtifact) -> bytes:
    """A model as a ZIP; the same model gives the same bytes."""
    manifest = json.dumps({"name": model.name, "manifest": dict(model.manifest)}, sort_keys=True).encode()
    contents = (model.user_tower_onnx, model.ad_vectors_parquet, model.context_vectors_parquet, manifest)
    return _zip(dict(zip(_MODEL_FILES, contents, strict=True)))


def read_model(data: bytes) -> ModelArtifact:
    """The model in `model_bytes`. Raises BadInputError."""
    files = _unzip(data, _MODEL_FILES)
    record = json.loads(files["manifest.json"])
    return ModelArtifact(
        name=record["name"],
        user_tower_onnx=files["user_tower.onnx"],
        ad_vectors_parquet=files["ad_vectors.parquet"],
        context_vectors_parquet=files["context_vectors.parquet"],
        manifest=record["manifest"],
    )


def synthetic_bytes(table: SyntheticTable) -> bytes:
    """A synthetic table and its guarantee as a ZIP."""
    record = {
        "name": table.name,
        "rows": table.rows,
        "guarantee": table.guarantee.as_json() if table.guarantee else None,
        "unit": table.unit,
        "accountant": table.accountant,
        "noise_is_secure": table.noise_is_secure,
    }
    return _zip({"table.parquet": table.table_parquet, "record.json": json.dumps(record, sort_keys=True).encode()})


def read_synthetic(data: bytes) -> SyntheticTable:
    """The table in `synthetic_bytes`. Raises BadInputError."""
    files = _unzip(data, ("table.parquet", "record.json"))
    record = json.loads(files["record.json"])
    guarantee = record["guarantee"]
    return SyntheticTable(
        name=record["name"],
        table_parquet=files["table.parquet"],
        rows=record["rows"],
        guarantee=PrivacyLoss.of(guarantee["epsilon"], guarantee["delta"]) if guarantee else None,
        unit=record["unit"],
        accountant=record["accountant"],
        noise_is_secure=record["noise_is_secure"],
    )


def _zip(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    return buffer.getvalue()


def _unzip(data: bytes, names: tuple[str, ...]) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise BadInputError("an output's ZIP is never compressed")
            return {name: archive.read(name) for name in names}
    except (zipfile.BadZipFile, KeyError) as error:
        raise BadInputError("these are not the bytes of that output") from error
