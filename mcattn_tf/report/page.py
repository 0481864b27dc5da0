"""The report of a run: one page that opens from disk and loads nothing from the network."""

import csv
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import keras
import numpy as np
from markupsafe import Markup
from PIL import Image
from plotly.offline import get_plotlyjs

from mcattn_tf import runs
from mcattn_tf.errors import UserError
from mcattn_tf.evaluation import answers, slice_tables
from mcattn_tf.evaluation.verdicts import verdicts
from mcattn_tf.explain.feature_space import correlation
from mcattn_tf.explain.feature_space.atlas import Atlas, atlas_made_before
from mcattn_tf.explain.feature_space.atlas_tables import by_use, channel_columns
from mcattn_tf.explain.feature_space.correlation import DEFAULT_CORRELATION, Analysis
from mcattn_tf.explain.truth import summary
from mcattn_tf.figures.panels import readable
from mcattn_tf.files import written_whole
from mcattn_tf.models import is_exclusive
from mcattn_tf.models.receptive_field import receptive_field
from mcattn_tf.report.gallery import Examples, as_uri, make_gallery
from mcattn_tf.report.plots import heat_map, training_curves, trust_chart
from mcattn_tf.runs import checkpoints
from mcattn_tf.settings.config import Config
from mcattn_tf.settings.data import PLACES
from mcattn_tf.settings.systems import system_of
from mcattn_tf.tables import Column, percent

PICTURED, SHOWN = 12, 4  # channels with pictures of patches, and patches of each
SECTIONS = {
    "gallery": "{} of each image",
    "answers": "Accuracy",
    "slices": "Accuracy by slice",
    "explanations": "Are the explanations trustworthy?",
    "attributes": "Correlation of attributes",
    "channels": "Correlation of mask channels",
    "atlas": "Parts that channels detect",
    "field": "Receptive field",
    "training": "Training curves",
    "settings": "Settings",
}
# What the page makes of each kind of file: where it fails, the file was changed by hand.
TABLES = {
    "evaluation": (answers.answers, answers.notes),
    "explanations": (summary.attribute_columns, summary.method_columns, summary.notes),
}


def write_report(
    directory: Path,
    config: Config,
    model: keras.Model,
    examples: Examples,
    indices: Sequence[int],
    analysis: Analysis | None,
    asked: bool = False,
) -> Path:
    """Writes `report.html` into a run directory: all results of a run on one page.

    The page names the command for each measurement that is missing.

    Args:
        directory: run directory; its evaluation, measurements of explanations and history are
            shown where they are there.
        config: settings of the run.
        model: network of the run.
        examples: images of the gallery.
        indices: indices of the attributes in the gallery.
        analysis: analysis of the feature space; None for a network without sub-networks.
        asked: whether these attributes were asked for; the file's name then has theirs.

    Returns:
        The path of the page.

    Raises:
        UserError: if a file of the run is damaged or the page cannot be written.
    """
    results = _results(directory, model)  # damaged files are found before images are explained
    atlas = atlas_made_before(directory / runs.ATLAS, model)
    gallery = make_gallery(model, config.attributes, examples, indices, analysis)
    plots, curves = _correlations(analysis), training_curves(results["history"])
    trust = {name: trust_chart(result) for name, result in results["explanations"].items()}
    hidden = {"channels"} - set(plots) if analysis else {"attributes", "channels"}
    hidden |= ({"atlas"} if not atlas else set()) | ({"slices"} if is_exclusive(model) else set())
    method = readable(gallery["methods"][0]["name"]).capitalize()
    # The photos themselves are in the page; the script takes them from there.
    images = [{k: v for k, v in image.items() if k != "photo"} for image in gallery["images"]]
    of_script = {"gallery": gallery | {"images": images}}
    page = _render(
        **results,
        directory=str(directory),
        config=config,
        sections={k: v.format(method) for k, v in SECTIONS.items() if k not in hidden},
        parameters=model.count_params(),
        parts=system_of(model).parts,
        label_name="class" if is_exclusive(model) else "attribute",
        gallery=gallery,
        image_count=len(examples.images),
        analysis=analysis,
        analysis_stored=correlation.made_before(directory / runs.ANALYSIS, model) is not None,
        atlas=atlas and _atlas(atlas),
        plots=plots,
        meanings=correlation.ATTRIBUTE_CORRELATIONS,
        field=receptive_field(model),
        curves=curves,
        trust=trust,
        settings=_settings(config),
        data=of_script | {"plots": plots, "curves": curves, "trust": trust},
    )
    named = [config.attributes[index] for index in indices] if asked else []
    path = directory / f"{runs.file_name(['report', *named])}.html"
    try:
        with written_whole(path) as partial:
            partial.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    return path


def _results(directory: Path, model: keras.Model) -> dict[str, Any]:
    """Returns what the page shows of the files of a run."""
    measured, history = _read(directory / runs.EVALUATION), _history(directory / runs.HISTORY)
    explanations = {x.stem: _read(x) for x in sorted(directory.glob("explanations*.json"))}
    weights = checkpoints.weights_of(model)
    return {
        "measured": measured,
        "explanations": explanations,
        "slices": {x.stem: _read(x) for x in sorted(directory.glob("slices*.json"))},
        "weights": weights,
        "verdicts": verdicts(measured, _of_weights(explanations, weights)),
        "history": history,
        "epochs": [str(int(row["epoch"]) + 1) for row in history],
        "history_columns": _history_columns(history),
    }


def _render(**values: Any) -> str:
    files = resources.files("mcattn_tf.report") / "templates"
    page, style, script = (
        (files / f"report.{x}").read_text("utf-8") for x in ("html", "css", "js")
    )
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"groups": _groups, "percent": percent}
    environment.globals |= {"answers": answers, "summary": summary, "slice_tables": slice_tables}
    texts = {"plotly": get_plotlyjs(), "style": style, "script": script}
    trusted = {name: Markup(text) for name, text in texts.items()}
    return environment.from_string(page).render(**values, **trusted)


def _groups(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """Returns each heading above neighbouring columns of one group, with their number."""
    return [(group, len(list(x))) for group, x in itertools.groupby(columns, lambda c: c.group)]


def _of_weights(explanations: Mapping[str, dict], weights: str) -> dict | None:
    """Returns the measurement of the most images that is of these weights; None without one."""
    own = [x for x in explanations.values() if x.get("weights", weights) == weights]
    return max(own, key=lambda result: result["images"], default=None)


def _read(path: Path) -> dict | None:
    """Returns the content of a JSON file; None if it is not there."""
    if not path.is_file():
        return None
    try:
        content = {**json.loads(path.read_text("utf-8"))}
        for table in TABLES.get(path.stem.partition("_")[0], ()):
            table(content)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, StopIteration):
        raise UserError(f"cannot read {path}: it is damaged; evaluate.py writes it anew") from None
    return content


def _history(path: Path) -> list[dict[str, float]]:
    """Returns the rows of a history, each with the number of its epoch; none if it is not there."""
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = csv.DictReader(lines)  # an epoch of an older version may lack a number
            rows = [{k: float("nan" if v == "" else v) for k, v in row.items()} for row in rows]
    except (OSError, ValueError, TypeError):
        raise UserError(f"cannot read {path}: a line of it is not whole") from None
    if not all(row.get("epoch", 0.5).is_integer() for row in rows):
        raise UserError(f"cannot read {path}: `epoch` must be a whole number in each line")
    return rows


def _history_columns(history: Sequence[dict[str, float]]) -> list[Column]:
    names = [name for name in history[0] if name != "epoch"] if history else []

    def text(value: float) -> str:
        return f"{value:.5g}" if math.isfinite(value) else "-"

    return [Column("", readable(x), [text(row[x]) for row in history]) for x in names]


def _correlations(analysis: Analysis | None) -> dict[str, dict[str, Any]]:
    """Returns the heat maps that have two or more rows and images."""
    plots = {}
    if analysis and analysis.images > 1 and len(analysis.attributes) > 1:
        values = analysis.correlations()
        plots["attributes"] = heat_map(values, DEFAULT_CORRELATION, analysis.attributes)
    if analysis and (count := analysis.mean_masks.shape[1]) > 1:
        values = {"masks": analysis.channel_correlation()}
        names = [f"channel {index}" for index in range(count)]
        plots["channels"] = heat_map(values, "masks", names)
    return plots


def _atlas(atlas: Atlas) -> dict[str, Any]:
    """Returns the table of all channels, and patches of the most used ones."""
    channels = by_use(atlas)
    patches = {x: np.concatenate(atlas.patches[x, :SHOWN], axis=1) for x in channels[:PICTURED]}
    return {
        "images": atlas.images,
        "source": atlas.source,
        "names": list(map(str, channels)),
        "columns": channel_columns(atlas, channels),
        "pictures": {x: as_uri(Image.fromarray(picture)) for x, picture in patches.items()},
    }


def _settings(config: Config) -> dict[str, dict[str, str]]:
    """Returns the settings that the network reads, without places on the disk of who trained it."""
    # 1/3 needs no sixteen digits.
    sections = json.loads(config.to_json(), parse_float=lambda text: float(f"{float(text):.6g}"))
    return {
        section: {
            name: str(value)
            for name, value in fields.items()
            if name not in (*PLACES, "init_from") and value is not None
        }
        for section, fields in sections.items()
    }
