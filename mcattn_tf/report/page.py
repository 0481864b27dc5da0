"""The report of a run: one page that opens from disk and asks nothing of the network."""

import csv
import itertools
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import keras
import numpy as np
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from mcattn_tf import runs
from mcattn_tf.errors import UserError
from mcattn_tf.evaluation import answers as evaluation
from mcattn_tf.explain.feature_space.correlation import (
    ATTRIBUTE_CORRELATIONS,
    DEFAULT_CORRELATION,
    Analysis,
    made_before,
)
from mcattn_tf.explain.truth import summary
from mcattn_tf.figures.panels import readable
from mcattn_tf.files import written_whole
from mcattn_tf.models import is_exclusive
from mcattn_tf.models.receptive_field import receptive_field
from mcattn_tf.report import plots as report_plots
from mcattn_tf.report.gallery import TOP_CHANNELS, Examples, make_gallery
from mcattn_tf.runs import checkpoints
from mcattn_tf.settings.config import Config
from mcattn_tf.settings.data import PLACES
from mcattn_tf.tables import Column, percent

REPORT = "report.html"
NAMES = ("model", "attributes")  # which the rest of the page is full of
SECTIONS = {
    "gallery": "What speaks for what",
    "answers": "Answers",
    "explanations": "Can the explanations be trusted?",
    "attributes": "Attributes together",
    "channels": "Channels together",
    "field": "Receptive field",
    "training": "Training",
    "settings": "Settings",
}


def write_report(
    directory: Path,
    config: Config,
    model: keras.Model,
    examples: Examples,
    chosen: Sequence[int],
    analysis: Analysis | None,
) -> Path:
    """Writes `report.html` into a run directory: what is known of a run, on one page.

    What has not been measured is said to be missing, with the command that measures it.

    Args:
        directory: of the run; its evaluation, measurements of explanations and history are shown
            where they are there.
        config: the settings of the run.
        model: its network.
        examples: the images of the gallery.
        chosen: indices of the attributes in the gallery.
        analysis: of the feature space; None for a network without sub-networks.

    Returns:
        The path of the page.

    Raises:
        UserError: if a file of the run is damaged or the page cannot be written.
    """
    gallery = make_gallery(model, config.attributes, examples, chosen, analysis)
    text = _gallery_text(gallery, examples, model, config.model.head)
    page = _page(directory, config, model, gallery, text, analysis)
    path = directory / REPORT
    try:
        with written_whole(path) as partial:
            partial.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    return path


def _page(
    directory: Path,
    config: Config,
    model: keras.Model,
    gallery: dict,
    gallery_text: str,
    analysis: Analysis | None,
) -> str:
    measured = _read(directory / runs.EVALUATION)
    history = _read_history(directory / runs.HISTORY)
    plots = _correlations(analysis)
    curves = report_plots.training_curves(history) if history else {}
    # The pictures themselves stand in the page, where the script takes them from.
    images = [{k: v for k, v in x.items() if k != "photo"} for x in gallery["images"]]
    files = resources.files("mcattn_tf.report") / "templates"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"groups": _groups, "readable": readable}
    return environment.from_string((files / "report.html").read_text("utf-8")).render(
        title=f"{config.model.name} on {config.data.dataset}",
        subtitle=_subtitle(config, model, history),
        directory=str(directory),
        sections=_sections(plots, analysis),
        figures=_figures(measured, model, config),
        gallery=gallery,
        gallery_text=gallery_text,
        mask_count=min(TOP_CHANNELS, analysis.mean_masks.shape[1]) if analysis else 0,
        label_name="class" if is_exclusive(model) else "attribute",
        answers=_answers(measured),
        explanations=_explanations(directory, model),
        analysis_text=_analysis_text(analysis),
        analysis_command=_analysis_command(analysis, directory, model),
        plots=plots,
        meanings=ATTRIBUTE_CORRELATIONS,
        field=_field(model, config),
        history=_history_table(history),
        curves=curves,
        settings=_settings(config),
        data={"gallery": gallery | {"images": images}, "plots": plots, "curves": curves},
        plotly=Markup(get_plotlyjs()),
        style=Markup((files / "report.css").read_text("utf-8")),
        script=Markup((files / "report.js").read_text("utf-8")),
    )


def _sections(plots: dict[str, dict], analysis: Analysis | None) -> dict[str, str]:
    """Returns the sections that the page has: those of an analysis only where there is one."""
    left_out = {"attributes", "channels"} - set(plots)
    if analysis is not None:
        left_out -= {"attributes"}
    return {key: name for key, name in SECTIONS.items() if key not in left_out}


def _groups(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """Returns the headings above neighbours of one group, and how many these are."""
    return [(group, len(list(x))) for group, x in itertools.groupby(columns, lambda c: c.group)]


def _read(path: Path) -> dict | None:
    """Returns what a JSON file holds; None if it is not there."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        raise UserError(f"cannot read {path}: it is damaged; evaluate.py writes it anew") from None


def _read_history(path: Path) -> list[dict[str, float]]:
    """Returns the rows of a history; none if it is not there."""
    if not path.is_file():
        return []
    try:
        with path.open(newline="") as lines:
            return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(lines)]
    except (OSError, ValueError, TypeError):
        raise UserError(f"cannot read {path}: a line of it is not whole") from None


def _subtitle(config: Config, model: keras.Model, history: Sequence[dict[str, float]]) -> str:
    height, width = config.data.image_size
    epochs = f", {len(history)} epoch{'s' if len(history) > 1 else ''}" if history else ""
    return (
        f"{len(config.attributes)} {'classes' if is_exclusive(model) else 'attributes'}, "
        f"images of {height} x {width} pixels, {model.count_params():,} parameters{epochs}"
    )


def _figures(measured: dict | None, model: keras.Model, config: Config) -> list[dict[str, str]]:
    """Returns the numbers at the top of the page: a name, the value and what to compare it with."""
    figures = []
    if measured:
        output = next(iter(measured))
        mean = measured[output]["mean"]
        share = percent(mean["majority_accuracy"])
        note = f"of {output}; {share} % by always giving the more common answer"
        figures.append(("accuracy", f"{percent(mean['accuracy'])} %", note))
        if "balanced_accuracy" in mean:
            note = "mean of the accuracy on present and on absent"
            figures.append(("balanced accuracy", f"{percent(mean['balanced_accuracy'])} %", note))
    found = (measured or {}).get("explanations")
    if found and found["mean"].get("pointing_game") is not None:
        note = f"highest point in the attribute's region; {percent(found['mean']['chance'])} % by "
        value = f"{percent(found['mean']['pointing_game'])} %"
        figures.append(("pointing game", value, f"{note}chance"))
    height, width = config.data.image_size
    side = f"{receptive_field(model).side} px"
    figures.append(("receptive field", side, f"of {height} x {width} that a cell sees"))
    return [dict(zip(("name", "value", "note"), figure, strict=True)) for figure in figures]


def _gallery_text(
    gallery: dict[str, Any], examples: Examples, model: keras.Model, head: str
) -> str:
    shown, given = len(gallery["images"]), len(examples.images)
    bias = "a bias" if head == "linear" else "a bias, another for each image,"
    one = "attention_map" in model.output and model.output["attention_map"].shape[-1] == 1
    parts = [
        {
            "contributions": "Every cell of the contribution map was added up: all cells and "
            f"{bias} sum to the logit of the probability.",
            "contribution_maps": "The mean of the contribution map is the score.",
            "attention_map": "The attention map says where features were weighed more"
            + (", and is the same whatever is chosen." if one else " for the attribute."),
        }.get(gallery["method"], f"The map is made by {readable(gallery['method'])}.")
    ]
    if any("masks" in image for image in gallery["images"]):
        parts.append(
            "Beside it stand the masks of the channels that matter most to the attribute over many "
            "images; a mask shows where its channel is emphasised, not what speaks for anything."
        )
    if shown < given:
        parts.append(f"Of {given} images the first {shown} had room.")
    return " ".join(parts)


def _answers(measured: dict | None) -> dict[str, Any] | None:
    if measured is None:
        return None
    names, columns = evaluation.answers(measured)
    return {"names": names, "columns": columns, "notes": evaluation.notes(measured)}


def _explanations(directory: Path, model: keras.Model) -> list[dict[str, Any]]:
    """Returns the tables of every measurement of explanations that the run has."""
    weights = checkpoints.weights_of(model)
    found = []
    for path in sorted(directory.glob("explanations*.json")):
        result = _read(path)
        names, columns = summary.attribute_columns(result)
        found.append(
            {
                "name": path.stem,
                "outdated": result.get("weights", weights) != weights,
                "method": readable(result["default_method"]),
                "names": list(summary.rows_of(result)),
                "columns": summary.method_columns(result),
                "notes": summary.notes(result),
                "attribute_names": names,
                "attribute_columns": columns,
            }
        )
    return found


def _correlations(analysis: Analysis | None) -> dict[str, dict[str, Any]]:
    """Returns the heat maps that can be drawn, with the names of what they order."""
    plots = {}
    if analysis is None:
        return plots
    if analysis.images > 1 and len(analysis.attributes) > 1:
        plots["attributes"] = report_plots.heat_map(
            analysis.correlations(), DEFAULT_CORRELATION, analysis.attributes
        )
    channels = analysis.mean_masks.shape[1]
    if channels > 1:
        names = [f"channel {index}" for index in range(channels)]
        values = {"masks": analysis.channel_correlation()}
        plots["channels"] = report_plots.heat_map(values, "masks", names)
    return plots


def _analysis_text(analysis: Analysis | None) -> str:
    if analysis is None:
        return ""
    return (
        f"How attributes correlate over {analysis.images:,} images: by what the network does for "
        "each, and by the labels. Attributes that exclude each other correlate negatively. Like "
        "ones stand beside each other."
    )


def _analysis_command(analysis: Analysis | None, directory: Path, model: keras.Model) -> str | None:
    """Returns how all test images are analysed where they have not been."""
    if analysis is None or made_before(directory / runs.ANALYSIS, model) is not None:
        return None
    return f"python evaluate.py --run {directory} --analysis"


def _field(model: keras.Model, config: Config) -> dict[str, Any]:
    """Returns the middle cell of the grid, what it sees, and that in words."""
    field = receptive_field(model)
    row, column = (int(count) // 2 for count in field.cells)
    size = np.array(config.data.image_size)
    corner = np.array((row, column)) * field.stride
    height, width = size.tolist()
    text = (
        f"A cell sees a square of {field.side} pixels; the image has {height} x {width}, in "
        f"{field.cells[0]} x {field.cells[1]} cells. The dashed box is what the marked cell sees. "
    )
    text += (
        "That is all of the image: the place of a cell says nothing of where its evidence lies."
        if field.side >= max(height, width)
        else "What a cell says is about what lies in its box."
    )
    return {
        "text": text,
        "cell": [*corner.tolist(), *np.minimum(corner + field.stride, size).tolist()],
        "box": field.box(row, column),
    }


def _history_table(history: Sequence[dict[str, float]]) -> dict[str, Any] | None:
    if not history:
        return None
    columns = [
        Column("", readable(name), [f"{row[name]:.5g}" for row in history])
        for name in history[0]
        if name != "epoch"
    ]
    return {"names": [str(int(row["epoch"]) + 1) for row in history], "columns": columns}


def _settings(config: Config) -> dict[str, dict[str, str]]:
    """Returns the settings that the network has, without places on the disk of who trained it."""
    # 1/3 needs no sixteen digits.
    sections = json.loads(config.to_json(), parse_float=lambda text: float(f"{float(text):.6g}"))
    return {
        section: {
            name: str(value)
            for name, value in fields.items()
            if name not in PLACES and value is not None and (section, name) != NAMES
        }
        for section, fields in sections.items()
    }
