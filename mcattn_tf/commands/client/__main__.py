"""Asks a served network about image files, prints its answers and draws why.

python -m mcattn_tf.commands.client --url http://localhost:8501/v1/models/celeba face.jpg
python -m mcattn_tf.commands.client --saved_model runs/celeba/export/1 face.jpg
"""

from pathlib import Path

from absl import flags

from mcattn_tf.commands import command_line
from mcattn_tf.errors import UserError

URL = flags.DEFINE_string("url", None, "of the model: http://HOST:8501/v1/models/NAME")
SAVED_MODEL = flags.DEFINE_string("saved_model", None, "exported network, for no server at all")
ATTRIBUTES = flags.DEFINE_list("attributes", None, "what is drawn; what is present if left out")
OUT = flags.DEFINE_string("out", "explanations", "folder for the figures")


def main(arguments: list[str]) -> None:
    """Asks about one image after another."""
    if (URL.value is None) == (SAVED_MODEL.value is None):
        raise UserError("name the network by either --url or --saved_model")
    if ATTRIBUTES.value == []:
        raise UserError("--attributes must name something or be left out")
    if not arguments:
        raise UserError("name at least one image file")
    command_line.import_tensorflow_quietly()
    from mcattn_tf.commands.client.descriptions import describe
    from mcattn_tf.commands.client.networks import LoadedNetwork, RemoteNetwork
    from mcattn_tf.figures import draw as visualization

    network = RemoteNetwork(URL.value) if URL.value else LoadedNetwork(Path(SAVED_MODEL.value))
    names = visualization.unique_stems(arguments)
    for path, name in zip(arguments, names, strict=True):
        text, figure = describe(network, path, ATTRIBUTES.value)
        (written,) = visualization.save({f"explanation_{name}": figure}, Path(OUT.value))
        print(f"{text}\n{written}\n", flush=True)


if __name__ == "__main__":
    command_line.run(main)
