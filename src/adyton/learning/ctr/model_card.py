"""What somebody who gets a model should know before using it, as Markdown: from the model itself and measurements."""

from __future__ import annotations

from adyton.learning.ctr.fields import Side
from adyton.learning.ctr.training import TrainedModel
from adyton.learning.metrics import Evaluation, ReliabilityBin


def model_card(model: TrainedModel, *, name: str, measured: Evaluation, bins: tuple[ReliabilityBin, ...]) -> str:
    """Markdown.   measured, bins: of rows that neither training nor the early stop saw."""
    config = model.config
    fields = {side: ", ".join(f"{f.name} ({f.size})" for f in model.encoder.of(side)) or "-" for side in Side}
    sides = "\n".join(f"| {side.value} | {names} |" for side, names in fields.items())
    metrics = "\n".join(f"| {key} | {value:.4f} |" for key, value in measured.as_json().items() if type(value) is float)
    reliability = "\n".join(f"| {b.rows} | {b.mean_prediction:.4f} | {b.click_rate:.4f} |" for b in bins)
    has_user_id = model.schema.user_id.name in {field.name for field in model.encoder.fields}
    guarantee = (
        "Trained without differential privacy: a value in a vocabulary was seen in training, and losses of training "
        "rows are\n  lower than those of others. Share it as far as the contract under which it was made allows."
        if model.privacy is None
        else f"Trained with differential privacy: {model.privacy}."
    )
    level = (
        "Stands still while it is live."
        if model.live_precision is None
        else f"Made to follow each user's outcomes while it is live, prior precision {model.live_precision:.4g}; the "
        "figures\n  below are of the model standing still."
    )
    rows = f"{model.training_rows} rows" if model.privacy is None else "a number of rows that is not told"
    return f"""# {name}

A click model that splits into a user part, an ad part and a context part: factorisation machine plus one tower per
side, {len(model.members)} network(s) averaged, scale {model.scale:.4f} and shift {model.shift:.4f} fitted on
validation rows.

- Trained on {rows}, seed {model.seed}, trainer `{config.trainer.value}`, stopped on
  `{config.stop_on.value}` of later rows.
- {"Holds weights for single users: it must not leave the room." if has_user_id else "No user id among its fields."}
- {guarantee}
- {level}

## Measured on {measured.rows} later rows, {measured.clicks} clicks

| metric | value |
| --- | --- |
{metrics}

GAUC is over {measured.users} users with both classes.

## Fields, with numbers of values

| side | fields |
| --- | --- |
{sides}

## Reliability

| rows | mean prediction | click rate |
| --- | --- | --- |
{reliability}
"""
