"""Images that are squeezed to their size in place of being cut."""

import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from processes import call

from mcattn_tf import data
from mcattn_tf.commands import train
from mcattn_tf.data.images import decode, read_images, resize_regions, resize_whole
from mcattn_tf.export.saved_model import _files_reader
from mcattn_tf.models import applications
from mcattn_tf.settings.config import make_config
from mcattn_tf.settings.data import DataConfig
from mcattn_tf.settings.findings import Findings
from mcattn_tf.settings.presets import preset_for


def grey(values):
    return tf.constant(np.array(values, np.uint8)[..., None].repeat(3, -1))


def test_longer_sides_become_means_and_shorter_ones_are_interpolated():
    tall = grey([[0, 100], [20, 140], [40, 200], [60, 200]])  # (4, 2)
    squeezed = resize_whole(tall, (2, 4), "squeeze").numpy()[..., 0]
    # Rows: means of two. Columns: a quarter, three quarters of the way between their centres.
    np.testing.assert_array_equal(squeezed, [[10, 38, 92, 120], [50, 88, 162, 200]])
    # Where proportions are kept, one row of the four is left.
    np.testing.assert_array_equal(resize_whole(tall, (2, 4))[..., 0], [[20, 50, 110, 140]] * 2)


def marked(height, width):
    """A grey picture whose outer rows are white, and whose outer columns are black."""
    pixels = np.full((height, width), 128, np.uint8)
    pixels[:, [0, 1, -2, -1]], pixels[[0, 1, -2, -1]] = 0, 255
    return pixels[..., None].repeat(3, -1)


def jpeg(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def test_all_of_a_celeba_face_is_seen_at_the_size_of_the_authors():
    file = jpeg(marked(218, 178))
    whole = decode(file, (224, 224), "squeeze").numpy()[..., 1].astype(int)
    assert whole[0, 50:-50].min() > 230 and whole[-1, 50:-50].min() > 230
    assert whole[50:-50, 0].max() < 30 and whole[50:-50, -1].max() < 30
    cut = decode(file, (224, 224)).numpy()[..., 1].astype(int)
    assert cut[0, 50:-50].max() < 150 and cut[-1, 50:-50].max() < 150  # 20 rows are missing
    expected = resize_whole(tf.io.decode_jpeg(file), (224, 224), "squeeze").numpy().astype(int)
    np.testing.assert_allclose(whole, expected[..., 1], atol=4)


@pytest.mark.parametrize(("height", "width"), [(30, 20), (96, 33), (400, 230)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_is_squeezed_however_large_it_is_and_lies(height, width, orientation):
    """The last one is shrunk while it is decoded."""
    rows, columns = np.linspace(0, 120, height), np.linspace(0, 120, width)
    pixels = np.round(rows[:, None] + columns)[..., None].repeat(3, -1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying = np.rot90(pixels) if orientation == 6 else pixels  # 6: to be turned clockwise
    found = decode(jpeg(lying, exif=exif), (24, 16), "squeeze").numpy().astype(int)
    expected = resize_whole(tf.constant(pixels), (24, 16), "squeeze").numpy()
    np.testing.assert_allclose(found, expected.astype(int), atol=7)


def test_regions_are_squeezed_as_their_images():
    regions = np.zeros((8, 4, 1), bool)
    regions[6:, :2] = True
    squeezed = resize_regions(regions, (4, 4), "squeeze")[..., 0]
    np.testing.assert_array_equal(np.argwhere(squeezed), [[3, 0], [3, 1]])
    assert not resize_regions(regions, (4, 4)).any()  # cut off


def test_prepared_read_and_served_images_are_squeezed(tmp_path):
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / "test" / name).parent.mkdir(parents=True)
        Image.fromarray(marked(40, 20)).save(tmp_path / "test" / name)
    path = tmp_path / "test" / "a" / "1.png"
    expected = resize_whole(tf.constant(marked(40, 20)), (10, 10), "squeeze").numpy()
    config = DataConfig("folder", str(tmp_path), (10, 10), resize="squeeze")
    for no_cache in (False, True):
        for resize in ("squeeze", "crop", "squeeze"):  # each has a cache of its own
            way = dataclasses.replace(config, resize=resize, no_cache=no_cache)
            images, _ = data.load_split(way, "test", Findings(("a", "b"))).read([0])
            assert np.array_equal(images[0], expected) == (resize == "squeeze")
    np.testing.assert_allclose(read_images([str(path)], (10, 10), "squeeze")[0], expected / 255)
    served = _files_reader(config)(tf.constant([path.read_bytes()]))
    np.testing.assert_allclose(served[0], expected / np.float32(255), atol=1e-6)


def test_the_preset_of_multitask_abn_begins_as_its_authors(tmp_path, monkeypatch):
    """Without a network that is said before the images are looked for."""
    config = make_config(preset_for("multitask-abn-celeba"))
    assert (config.data.resize, config.model.weights) == ("squeeze", "imagenet")

    def no_network(*_, weights):
        raise OSError(f"URL fetch failure on {weights}")

    monkeypatch.setattr(applications, "_network", no_network)
    new = (f"--out={tmp_path / 'run'}", f"--data_dir={tmp_path / 'none'}")
    status, _, error = call(train.main, "--preset=multitask-abn-celeba", *new)
    assert status == 1 and error == (
        "error: cannot get the ImageNet weights of ResNet101: URL fetch failure on imagenet; begin "
        "with random ones by --set model.weights=null, or put the file into ~/.keras/models\n"
    )
    random = ("--preset=multitask-abn-celeba", "--set=model.weights=null")
    assert "none does not exist" in call(train.main, *random, *new)[2]
