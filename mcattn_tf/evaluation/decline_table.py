"""Declines as text, beside the published ones."""

from mcattn_tf.evaluation import published
from mcattn_tf.explain.truth.decline import WAYS
from mcattn_tf.tables import Column, lay_out, paragraph


def format_decline(results: dict[str, dict]) -> str:
    """Returns {run: result of `measure_decline`} as table 8 of the GCM paper, with its figures."""
    names, classifier = [], []
    cells: dict[str, list[str]] = {way: [] for way in WAYS}
    for run, result in results.items():
        for method, ways in result["methods"].items():
            names += [f"{method}, {run}", "  published"]
            printed, table = published.DECLINE[method]
            classifier += [f"{100 * result['accuracy']:.2f}", f"{printed:.2f}"]
            for way, values in ways.items():
                measured = 100 * values["accuracy"], 100 * values["decline"]
                cells[way] += ["{:.2f} ({:.2f})".format(*pair) for pair in (measured, table[way])]
    columns = [Column("", "classifier", classifier)]
    columns += [Column("", heading, cells[way]) for way, heading in WAYS.items()]
    images = sorted({result["images"] for result in results.values()})
    note = (
        f"accuracy on {' and '.join(map(str, images))} images, in %, where the class is chosen by "
        "the mean of its visual map; in brackets the decline from the classifier's, in %. "
        "Published: on CIFAR-10, all 45,000 training images, 180 epochs"
    )
    return "\n".join([*lay_out(names, columns), paragraph(note)])
