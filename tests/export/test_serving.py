"""The exported network as servers load it, and what it makes of bad files."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import NAMES, ROOT
from PIL import Image
from tensorflow.python.saved_model import loader_impl

from mcattn_tf import data
from mcattn_tf.data.images import read_images
from mcattn_tf.data.pipeline import evaluation_batches
from mcattn_tf.settings.data import DataConfig


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(mode: str, width: int = 50, height: int = 41) -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    random = np.random.default_rng(3).integers(0, 256, (3, 4, bands)).astype(np.uint8)
    small = Image.fromarray(random.squeeze(), mode)
    return small.resize((width, height), Image.Resampling.BICUBIC)


def through_c_api(exported, endpoint: str, folder: Path, **inputs: np.ndarray):
    """Returns the process that asked, and its answers."""
    saved = loader_impl.parse_saved_model(str(exported.directory))
    signature = saved.meta_graphs[0].signature_def[endpoint]
    request = {
        "inputs": {name: x.name for name, x in signature.inputs.items()},
        "outputs": {name: (x.name, x.dtype) for name, x in signature.outputs.items()},
    }
    (folder / "request.json").write_text(json.dumps(request))
    np.savez(folder / "inputs.npz", **inputs)
    files = [folder / name for name in ("request.json", "inputs.npz", "outputs.npz")]
    libraries = Path(tf.__file__).parent
    process = subprocess.run(
        [sys.executable, ROOT / "tests" / "c_api.py", libraries, exported.directory, *files],
        capture_output=True,
        text=True,
    )
    return process, dict(np.load(files[-1])) if process.returncode == 0 else None


def test_it_loads_and_explains_files_through_the_c_api(exported_mcattn, tmp_path):
    files = np.array([encoded(picture("RGB"), "JPEG"), encoded(picture("L"), "PNG")])
    attribute = np.array([[2, 0], [1, 2]], np.int32)
    inputs = {"image_bytes": files, "attribute": attribute}
    process, answer = through_c_api(exported_mcattn, "explain_bytes", tmp_path, **inputs)
    assert process.returncode == 0, process.stderr
    assert answer["names"].astype(str).tolist() == [
        [NAMES[index] for index in row] for row in attribute
    ]
    expected = exported_mcattn.ask("explain_bytes", **inputs)
    for name in ("attributes", "multilabel", "contributions"):
        np.testing.assert_allclose(answer[name], expected[name], atol=1e-5)


@pytest.mark.slow
def test_it_answers_images_and_refuses_bad_files_through_the_c_api(
    exported_mcattn, images, tmp_path
):
    process, answer = through_c_api(exported_mcattn, "serving_default", tmp_path, images=images)
    assert process.returncode == 0, process.stderr
    expected = exported_mcattn.model.predict_on_batch(images)
    for name in ("attributes", "multilabel"):
        np.testing.assert_allclose(answer[name], expected[name], atol=1e-5)
    files = np.array([b"this is no image"])
    process, _ = through_c_api(exported_mcattn, "predict_bytes", tmp_path, image_bytes=files)
    assert process.returncode == 1 and "code 3" in process.stderr  # INVALID_ARGUMENT
    assert "not a JPEG or PNG file" in process.stderr


FILES = {
    "1x1.png": encoded(picture("RGB", 1, 1), "PNG"),
    "1x1.jpg": encoded(picture("RGB", 1, 1), "JPEG"),
    "grey.jpg": encoded(picture("L"), "JPEG"),
    "grey.png": encoded(picture("LA"), "PNG"),
    "cmyk.jpg": encoded(picture("CMYK"), "JPEG"),
    "palette.png": encoded(picture("RGB").convert("P"), "PNG"),
    "long.jpg": encoded(picture("RGB", 301, 7), "JPEG"),
    "large.jpg": encoded(picture("RGB", 640, 480), "JPEG"),
    "turned.jpg": encoded(
        picture("RGB"),
        "JPEG",
        exif=b"Exif\0\0" + b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    ),
}


def test_files_of_every_kind_are_answered_as_the_same_pictures_elsewhere(exported_mcattn, tmp_path):
    paths = [tmp_path / name for name in FILES]
    for path, content in zip(paths, FILES.values(), strict=True):
        path.write_bytes(content)
    images = read_images([str(path) for path in paths], (12, 8))
    expected = exported_mcattn.model.predict_on_batch(images)
    answer = exported_mcattn.ask("predict_bytes", image_bytes=list(FILES.values()))
    np.testing.assert_allclose(answer["attributes"], expected["attributes"], atol=1e-5)
    grey, cmyk = images[list(FILES).index("grey.jpg")], images[list(FILES).index("cmyk.jpg")]
    assert np.ptp(grey, axis=-1).max() == 0 and np.ptp(cmyk, axis=-1).max() > 0.1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"this is no image", "not a JPEG or PNG file"),
        (FILES["large.jpg"][:2000], "Invalid JPEG data"),
        (FILES["grey.png"][:60], "Invalid PNG data"),
        (b"\xff\xd8\xff", "Invalid JPEG data"),
    ],
)
def test_what_is_no_image_is_refused_with_words(exported_mcattn, content, words):
    for files in ([content], [FILES["grey.jpg"], content]):
        with pytest.raises(tf.errors.InvalidArgumentError, match=words):
            exported_mcattn.ask("predict_bytes", image_bytes=files)


@pytest.mark.parametrize("attribute", [[[3]], [[-1]], [[0, 1], [1, 2]]])
def test_attributes_that_are_not_there_are_refused(exported_mcattn, attribute):
    with pytest.raises(tf.errors.InvalidArgumentError):
        exported_mcattn.ask(
            "explain_bytes", image_bytes=[FILES["grey.jpg"]], attribute=np.int32(attribute)
        )


def test_images_of_another_size_are_refused(exported_mcattn):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"not compatible with .*12,8,3"):
        exported_mcattn.ask("serving_default", images=np.zeros((1, 24, 8, 3), np.float32))


def test_files_are_answered_as_the_training_pipeline_has_them(exported_mcattn, tmp_path):
    for part in ("train", "validation", "test"):
        for index, name in enumerate(("cat", "dog")):
            (tmp_path / part / name).mkdir(parents=True)
            file = encoded(picture("RGB", 178 + index, 218), "JPEG")
            (tmp_path / part / name / "1.jpg").write_bytes(file)
    config = DataConfig("folder", str(tmp_path), image_size=(12, 8), no_cache=True)
    images, labels = next(evaluation_batches(data.load(config).test, 2).as_numpy_iterator())
    expected = exported_mcattn.model.predict_on_batch(images)
    names = ("cat", "dog")
    files = [
        (tmp_path / "test" / names[int(label.argmax())] / "1.jpg").read_bytes() for label in labels
    ]
    answer = exported_mcattn.ask("predict_bytes", image_bytes=files)
    np.testing.assert_allclose(answer["attributes"], expected["attributes"], atol=1e-4)
