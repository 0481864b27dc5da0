import functools
import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from mcattn_tf.data.images import (
    MAX_PIXELS,
    decode,
    read_images,
    reason_of_bytes,
    resize_whole,
    why,
)
from mcattn_tf.errors import UserError

SIZE = (20, 30)  # of `picture`
TOO_LARGE = f"pixels, more than {MAX_PIXELS}"


def picture(height: int = 20, width: int = 30) -> Image.Image:
    """Smooth, as a JPEG keeps it, and another one under each turn and mirroring."""
    y, x = np.mgrid[:height, :width] / [[[height]], [[width]]]
    return Image.fromarray(np.stack([250 * x, 250 * y, 100 * x * y + 60], -1).astype(np.uint8))


def noise(height: int, width: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pillow(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB")).astype(int)


@functools.cache
def traced(image_size: tuple[int, int]) -> Callable[[tf.Tensor], tf.Tensor]:
    signature = [tf.TensorSpec((), tf.string)]
    return tf.function(lambda file: decode(file, image_size), input_signature=signature)


def decoded(encoded: bytes, image_size: tuple[int, int]) -> np.ndarray:
    """What `decode` returns, which is the same in a graph."""
    eager = decode(encoded, image_size).numpy()
    assert eager.dtype == np.uint8
    np.testing.assert_array_equal(traced(image_size)(tf.constant(encoded)), eager)
    return eager.astype(int)


def check_refused(encoded: bytes, reason: str, image_size: tuple[int, int] = (12, 8)) -> None:
    assert reason_of_bytes(encoded, image_size) == reason
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        traced(image_size)(tf.constant(encoded))
    assert why(raised.value) == reason


# Resizing


def test_resizing_keeps_the_aspect_ratio_and_the_middle():
    # A square in the middle of a wide image stays a square in the middle of a square one.
    image = np.zeros((40, 80, 3), np.uint8)
    image[10:30, 30:50] = 200
    expected = np.zeros((20, 20, 3), np.uint8)
    expected[5:15, 5:15] = 200
    np.testing.assert_array_equal(resize_whole(tf.constant(image), (20, 20)), expected)


def test_a_celeba_face_loses_no_row_and_at_most_a_column():
    image = np.zeros((218, 178, 3), np.uint8)
    image[0, :, 0] = image[-1, :, 0] = 255
    image[:, 1, 1] = image[:, -2, 1] = 255
    resized = resize_whole(tf.constant(image), (128, 104)).numpy()
    assert resized[0, :, 0].min() > 100 and resized[-1, :, 0].min() > 100
    assert resized[:, 0, 1].min() > 100 and resized[:, -1, 1].min() > 100


def test_a_smaller_image_is_the_mean_of_the_area_under_each_pixel():
    image = np.array([[10, 20, 60], [30, 40, 0], [5, 5, 9]], np.uint8)[..., None].repeat(3, -1)
    # 3 x 3 to 2 x 2: each new pixel is 1.5 old ones wide, a corner whole and its neighbours half.
    corner = (10 + 20 / 2 + 30 / 2 + 40 / 4) / 2.25
    other = (60 + 20 / 2 + 0 / 2 + 40 / 4) / 2.25
    resized = resize_whole(tf.constant(image), (2, 2)).numpy()
    np.testing.assert_array_equal(resized[0, :, 1], [round(corner), round(other)])


def test_a_larger_image_is_interpolated_and_an_equal_one_unchanged():
    image = np.array([[[0, 100, 8], [100, 0, 8]]], np.uint8)
    expected = [[0, 100, 8], [25, 75, 8], [75, 25, 8], [100, 0, 8]]
    np.testing.assert_array_equal(resize_whole(tf.constant(image), (2, 4)), [expected] * 2)
    same = np.asarray(noise(7, 5))
    np.testing.assert_array_equal(resize_whole(tf.constant(same), (7, 5)), same)


# Kinds of files


def png_by_hand(depth: int, colour: int, data: bytes, interlaced: bool = False) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    header = struct.pack(">IIBBBBB", 3, 2, depth, colour, 0, 0, interlaced)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA"])
def test_colour_modes_of_png(mode):
    encoded = file_of(picture().convert(mode), "PNG")
    np.testing.assert_array_equal(decoded(encoded, SIZE), pillow(encoded))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_small_palettes_with_a_transparent_colour(bits):
    encoded = file_of(picture().quantize(2**bits), "PNG", bits=bits, transparency=0)
    np.testing.assert_array_equal(decoded(encoded, SIZE), pillow(encoded))


def test_16_bits_are_scaled_to_8():
    values = np.array([[0, 257, 51 * 257], [65535, 128 * 257, 200 * 257]])
    rows = values.astype(">u2")
    grey = png_by_hand(16, 0, b"".join(b"\0" + row.tobytes() for row in rows))
    np.testing.assert_array_equal(decoded(grey, (2, 3)), (values // 257)[..., None].repeat(3, -1))
    colours = np.stack([rows, rows[::-1], rows[:, ::-1]], axis=-1)
    colour = png_by_hand(16, 2, b"".join(b"\0" + row.tobytes() for row in colours))
    np.testing.assert_array_equal(decoded(colour, (2, 3)), colours.astype(int) // 257)


def test_interlaced_png():
    # Adam7 of 3 x 2 pixels: (0, 0), then (0, 2), then (0, 1), then the second row.
    passes = b"\0\x0a" + b"\0\x1e" + b"\0\x14" + b"\0\x28\x32\x3c"
    expected = np.array([[10, 20, 30], [40, 50, 60]])[..., None].repeat(3, -1)
    np.testing.assert_array_equal(decoded(png_by_hand(8, 0, passes, True), (2, 3)), expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_colour_modes_of_jpeg(mode, progressive):
    encoded = file_of(picture().convert(mode), "JPEG", quality=95, progressive=progressive)
    # Pillow rounds otherwise, and takes the accurate cosine transform.
    np.testing.assert_allclose(decoded(encoded, SIZE), pillow(encoded), atol=5)


# Large JPEGs


def ratios_of(encoded: bytes, image_size: tuple[int, int], monkeypatch) -> list[int]:
    """The ratios at which a JPEG is decoded; negative if columns are cut off as well."""
    seen = []
    whole, cut = tf.io.decode_jpeg, tf.image.decode_and_crop_jpeg

    def decode_whole(*arguments, ratio=1, **options):
        seen.append(ratio)
        return whole(*arguments, ratio=ratio, **options)

    def decode_cut(*arguments, ratio=1, **options):
        seen.append(-ratio)
        return cut(*arguments, ratio=ratio, **options)

    with monkeypatch.context() as patch:
        patch.setattr(tf.io, "decode_jpeg", decode_whole)
        patch.setattr(tf.image, "decode_and_crop_jpeg", decode_cut)
        tf.config.run_functions_eagerly(True)
        try:
            decode(encoded, image_size)
        finally:
            tf.config.run_functions_eagerly(False)
    return seen


@pytest.mark.parametrize(
    ("height", "width", "ratio"),
    [
        (95, 63, 1),
        (95, 65, 1),
        (23, 90, -1),
        (12, 8, 1),
        (97, 65, 2),
        (97, 80, 2),
        (129, 64, 2),
        (193, 131, 4),
        (391, 263, 8),
        (385, 257, 8),
        (95, 101, -1),
        (97, 131, -2),
        (193, 301, -4),
        (391, 517, -8),
    ],
)
def test_a_large_jpeg_is_shrunk_and_cut_while_decoding(monkeypatch, height, width, ratio):
    encoded = file_of(picture(height, width), "JPEG", quality=95)
    assert ratios_of(encoded, (24, 16), monkeypatch) == [ratio]
    shrunk = decoded(encoded, (24, 16))
    whole = resize_whole(tf.io.decode_image(encoded), (24, 16)).numpy()
    # One pixel to the side is 15 levels: sizes that do not divide move it by less than half.
    np.testing.assert_allclose(shrunk, whole.astype(int), atol=6)


def test_shrinking_while_decoding_changes_sharp_pictures_little():
    blocks = np.random.default_rng(0).integers(0, 256, (16, 11, 3)).astype(np.uint8)
    encoded = file_of(Image.fromarray(blocks.repeat(28, 0).repeat(28, 1)), "JPEG", quality=90)
    whole = resize_whole(tf.io.decode_image(encoded), (32, 22)).numpy().astype(int)
    difference = np.abs(decode(encoded, (32, 22)).numpy() - whole)
    assert 0 < difference.mean() < 3


# Orientation


def exif(orientation: int, order: str = "<", directory: int = 8, count: int = 2) -> bytes:
    """An Exif segment with the orientation behind another entry."""
    entries = struct.pack(f"{order}HHII", 0x010F, 3, 1, 0)
    entries += struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, directory)
    start += struct.pack(f"{order}H", count)
    return segment(b"\xe1", b"Exif\0\0" + start + entries + bytes(4))


def segment(marker: bytes, content: bytes) -> bytes:
    return b"\xff" + marker + struct.pack(">H", len(content) + 2) + content


def with_segments(jpeg: bytes, *segments: bytes, after_jfif: bool = True) -> bytes:
    at = 20 if after_jfif else 2
    return jpeg[:at] + b"".join(segments) + jpeg[at:]


JPEG = file_of(picture(), "JPEG", quality=95)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_orientations_are_applied(orientation, order):
    encoded = with_segments(JPEG, exif(orientation, order), after_jfif=order == "<")
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    assert (upright.size == (20, 30)) == (orientation > 4)
    image = decoded(encoded, (upright.height, upright.width))
    np.testing.assert_allclose(image, np.asarray(upright).astype(int), atol=5)


@pytest.mark.parametrize("orientation", [3, 5, 6, 8])
def test_what_is_cut_off_is_cut_off_the_upright_picture(orientation):
    encoded = with_segments(file_of(picture(64, 96), "JPEG", quality=95), exif(orientation))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    expected = resize_whole(tf.constant(np.asarray(upright)), (24, 8)).numpy()
    np.testing.assert_allclose(decoded(encoded, (24, 8)), expected.astype(int), atol=5)


def test_an_orientation_behind_other_segments_is_found():
    others = segment(b"\xe1", b"http://ns.adobe.com/xap/1.0/\0"), segment(b"\xfe", b"Exif" * 9)
    encoded = with_segments(JPEG, *others, exif(3))
    np.testing.assert_array_equal(decoded(encoded, SIZE), decoded(JPEG, SIZE)[::-1, ::-1])


DAMAGED = {
    "value 0": exif(0),
    "value 9": exif(9),
    "directory outside of any file": exif(6, directory=2**32 - 1),
    "directory outside of this one": exif(6, directory=60000),
    "no entry": exif(6, count=0),
    "nothing": segment(b"\xe1", b"Exif\0\0"),
    "no directory": segment(b"\xe1", b"Exif\0\0II*\0"),
    "cut off": segment(b"\xe1", exif(6)[4:20]),
    "noise": segment(b"\xe1", b"Exif\0\0" + b"\xff" * 60),
    "too far behind": segment(b"\xe1", bytes(65500)) + exif(6),
    "not a segment for it": segment(b"\xe2", exif(6)[4:]),
    "not its name": segment(b"\xe1", b"exif\0\0" + exif(6)[10:]),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_an_orientation_that_cannot_be_read_is_none(name):
    encoded = with_segments(JPEG, DAMAGED[name])
    np.testing.assert_array_equal(decoded(encoded, SIZE), decoded(JPEG, SIZE))


def test_more_exif_entries_than_there_are_do_no_harm():
    encoded = with_segments(JPEG, exif(4, count=65535))
    np.testing.assert_array_equal(decoded(encoded, SIZE), decoded(JPEG, SIZE)[::-1])


# What is refused


@pytest.mark.parametrize(
    "encoded",
    [
        b"hello, I am text\n" * 9,
        b"\xff",
        b"RIFF\0\0\0\0WEBPVP8 ",
        file_of(picture(), "GIF"),
        file_of(picture(), "BMP"),
    ],
    ids=["text", "a byte", "WebP", "GIF", "BMP"],
)
def test_other_files_are_refused(encoded):
    check_refused(encoded, "not a JPEG or PNG file")


def test_an_empty_file_is_refused():
    check_refused(b"", "the file is empty")


@pytest.mark.parametrize("size", [(12, 8), (7, 2)])  # the second cuts columns off
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_truncated_files_are_refused(kind, size, orientation):
    encoded = file_of(noise(65, 90), kind)  # 65: one row alone in its blocks
    if kind == "JPEG":
        encoded = with_segments(encoded, exif(orientation))
    assert reason_of_bytes(encoded, size) is None
    for length in (10, 30, 700, len(encoded) // 2, len(encoded) * 99 // 100, len(encoded) - 2):
        assert reason_of_bytes(encoded[:length], size) == "truncated or damaged", length
    check_refused(encoded[: len(encoded) // 2], "truncated or damaged", size)


def test_a_jpeg_whose_second_half_is_zeros_is_refused():
    encoded = file_of(noise(60, 90), "JPEG")
    half = len(encoded) // 2
    check_refused(encoded[:half] + bytes(half), "truncated or damaged")


def test_a_damaged_png_is_refused():
    encoded = bytearray(file_of(noise(60, 90), "PNG"))
    encoded[len(encoded) // 2] ^= 255
    check_refused(bytes(encoded), "truncated or damaged")


def jpeg_of(height: int, width: int) -> bytes:
    at = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:at] + struct.pack(">HH", height, width) + JPEG[at + 4 :]


def png_of(height: int, width: int) -> bytes:
    encoded = file_of(picture(), "PNG")
    header = b"IHDR" + struct.pack(">II", width, height) + encoded[24:29]
    return encoded[:12] + header + struct.pack(">I", zlib.crc32(header)) + encoded[33:]


@pytest.mark.parametrize("file", [jpeg_of, png_of])
def test_more_pixels_than_the_limit_are_refused_before_decoding(file):
    check_refused(file(9461, 9459), f"9459x9461 {TOO_LARGE}")
    if file is png_of:  # libjpeg fills up a JPEG that has its end marker
        check_refused(file(9459, 9459), "truncated or damaged")  # just within the limit
    assert 9459 * 9459 <= MAX_PIXELS < 9459 * 9461


def test_the_size_of_a_huge_png_is_told():
    check_refused(png_of(90000, 120000), f"120000x90000 {TOO_LARGE}")


@pytest.mark.parametrize("file", [jpeg_of, png_of])
@pytest.mark.parametrize("size", [(0, 30), (20, 0)])
def test_images_without_pixels_are_refused(file, size):
    check_refused(file(*size), "truncated or damaged")


# Files


def test_grey_and_transparent_files_are_read_as_colour(tmp_path):
    grey = Image.new("L", (8, 8), 51)
    grey.save(tmp_path / "grey.png")
    grey.convert("RGBA").save(tmp_path / "alpha.png")
    paths = [str(tmp_path / "grey.png"), str(tmp_path / "alpha.png")]
    np.testing.assert_allclose(read_images(paths, (4, 4)), 0.2, atol=1e-6)


def test_files_are_read_in_order_and_as_they_are_decoded(tmp_path):
    files = {"a.jpg": JPEG, "b.png": file_of(noise(9, 14), "PNG")}
    for name, encoded in files.items():
        (tmp_path / name).write_bytes(encoded)
    images = read_images([str(tmp_path / name) for name in files], (12, 8))
    assert images.dtype == np.float32
    expected = [decode(encoded, (12, 8)).numpy() for encoded in files.values()]
    np.testing.assert_array_equal(images, np.stack(expected) / np.float32(255))


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b"some text", "cannot decode image {path}: not a JPEG or PNG file"),
        (b"", "cannot decode image {path}: the file is empty"),
        (JPEG[:-200], "cannot decode image {path}: truncated or damaged"),
        (png_of(90000, 120000), f"cannot decode image {{path}}: 120000x90000 {TOO_LARGE}"),
        (None, "cannot read image {path}: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path, encoded, message):
    path = tmp_path / "face.jpg"
    if encoded is not None:
        path.write_bytes(encoded)
    (tmp_path / "good.jpg").write_bytes(JPEG)
    with pytest.raises(UserError) as raised:
        read_images([str(tmp_path / "good.jpg"), str(path)], (12, 8))
    assert str(raised.value) == message.format(path=path)


def test_a_single_path_is_read_as_a_list_of_one(tmp_path):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    expected = read_images([str(tmp_path / "a.jpg")], (12, 8))
    for path in (tmp_path / "a.jpg", str(tmp_path / "a.jpg")):
        np.testing.assert_array_equal(read_images(path, (12, 8)), expected)


def test_no_file_is_refused():
    with pytest.raises(UserError, match="the list of images is empty"):
        read_images([], (12, 8))


def test_a_pipeline_decodes_and_refuses_the_same():
    files = [with_segments(JPEG, exif(6)), file_of(picture(), "PNG"), png_of(90000, 120000)]
    images = tf.data.Dataset.from_tensor_slices(files).map(lambda file: decode(file, (12, 8)))
    assert images.element_spec == tf.TensorSpec((12, 8, 3), tf.uint8)
    iterator = images.as_numpy_iterator()
    np.testing.assert_array_equal(next(iterator), decode(files[0], (12, 8)))
    np.testing.assert_array_equal(next(iterator), decode(files[1], (12, 8)))
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        next(iterator)
    assert why(raised.value) == f"120000x90000 {TOO_LARGE}"


def test_an_exported_decoder_decodes_and_refuses_the_same(tmp_path):
    module = tf.Module()
    module.decode = tf.function(
        lambda files: tf.map_fn(
            lambda file: decode(file, (12, 8)), files, fn_output_signature=tf.uint8
        ),
        input_signature=[tf.TensorSpec((None,), tf.string)],
    )
    tf.saved_model.save(module, str(tmp_path))
    exported = tf.saved_model.load(str(tmp_path)).decode
    files = [with_segments(JPEG, exif(6)), file_of(picture(), "PNG"), file_of(noise(9, 7), "PNG")]
    expected = np.stack([decode(file, (12, 8)) for file in files])
    np.testing.assert_array_equal(exported(tf.constant(files)), expected)
    with pytest.raises(tf.errors.InvalidArgumentError, match="120000x90000"):
        exported(tf.constant([JPEG, png_of(90000, 120000)]))
