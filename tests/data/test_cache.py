"""The cache of decoded images: what is made once, made again, refused and left out."""

import csv
import itertools
import os
import pwd
import resource
import shutil
import signal

import numpy as np
import pytest
from PIL import Image
from processes import finish, print_to, start

from mcattn_tf import data
from mcattn_tf.data import cache
from mcattn_tf.data.images import read_images
from mcattn_tf.data.pipeline import evaluation_batches
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig

SIZE = (20, 16)


def make_images(root, count, parts=("train",)):
    """Noisy JPEGs of several sizes, whose label in binary is their number."""
    root.mkdir()
    random = np.random.default_rng(0)
    with (root / "labels.csv").open("w", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(["file", *(f"bit_{bit}" for bit in range(8)), "split"])
        for index in range(count):
            pixels = random.integers(0, 256, (30 + index % 5, 25 + index % 3, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"{index:03d}.jpg")
            bits = [index >> bit & 1 for bit in range(8)]
            rows.writerow([f"{index:03d}.jpg", *bits, parts[index % len(parts)]])
    return root


@pytest.fixture
def folder(tmp_path):
    return make_images(tmp_path / "images", 40, ("validation", "train", "test", "train"))


def config_of(folder, **fields):
    cache_dir = str(folder.parent / "cache")
    return DataConfig(
        dataset="folder",
        **{"data_dir": str(folder), "cache_dir": cache_dir, "image_size": SIZE} | fields,
    )


def numbers_of(labels):
    return (labels @ (1 << np.arange(8))).astype(int).tolist()


def read_all(split):
    batches = list(evaluation_batches(split, 16).as_numpy_iterator())
    return np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])


def check(split, folder, numbers):
    images, labels = read_all(split)
    assert sorted(numbers_of(labels)) == sorted(numbers)
    numbers = numbers_of(labels)  # a folder's images are in an order of their own
    expected = read_images([str(folder / f"{number:03d}.jpg") for number in numbers], SIZE)
    np.testing.assert_allclose(images, expected, atol=1e-6)
    assert [split.name_of(index) for index in range(split.count)] == [
        f"{number:03d}.jpg" for number in numbers
    ]


def prepared_files(folder):
    return sorted((folder.parent / "cache").rglob("images.npy"))


def test_prepared_images_are_those_of_the_one_decoder(folder, capsys):
    for _ in ("first", "from the cache"):
        loaded = data.load(config_of(folder))
        check(loaded.train, folder, [n for n in range(40) if n % 2])
        check(loaded.validation, folder, list(range(0, 40, 4)))
        check(loaded.test, folder, list(range(2, 40, 4)))
    printed = capsys.readouterr().out
    assert printed.count("preparing 20 folder train images in") == 1
    assert [len(np.load(path)) for path in prepared_files(folder)] == [10, 20, 10]


def test_uncached_images_are_the_same(folder):
    cached, uncached = data.load(config_of(folder)), data.load(config_of(folder, no_cache=True))
    for name in ("train", "validation", "test"):
        for ours, others in zip(
            read_all(uncached.split(name)), read_all(cached.split(name)), strict=True
        ):
            np.testing.assert_array_equal(ours, others)
        every = range(cached.split(name).count)
        for ours, others in zip(
            uncached.split(name).read(every), cached.split(name).read(every), strict=True
        ):
            np.testing.assert_array_equal(ours, others)


def test_one_split_prepares_no_more_than_it_needs(folder):
    check(data.load_split(config_of(folder), "test"), folder, list(range(2, 40, 4)))
    assert {path.parent.name.split("-")[1] for path in prepared_files(folder)} == {"test"}


def prepare_and_be_killed(config, at):
    """Is killed in the images, at their end, in the labels or at the last file."""
    kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
    if at == "images":
        decoded = cache._decoded
        cache._decoded = lambda *a: itertools.chain(
            itertools.islice(decoded(*a), 50), map(kill, "x")
        )
    elif at == "labels":
        cache.np.save = kill
    else:
        cache.json.dumps = kill
    data.load_split(config, "train")


def test_a_process_killed_while_it_prepares_leaves_nothing_half_done(tmp_path):
    """Really killed, at several moments; what is there in the end is right."""
    folder = make_images(tmp_path / "images", 120)
    config = config_of(folder, hold_out=0.01)
    for at in ("images", "labels", "json"):
        process = start(prepare_and_be_killed, config, at)
        process.join(240)
        assert process.exitcode == -signal.SIGKILL
        assert not list((tmp_path / "cache").rglob("part.json"))
    loaded = data.load(config)
    numbers = sorted(
        number
        for name in ("train", "validation", "test")
        for number in numbers_of(read_all(loaded.split(name))[1])
    )
    assert numbers == list(range(120))
    check(loaded.train, folder, numbers_of(read_all(loaded.train)[1]))
    assert not list((tmp_path / "cache").rglob(".partial*"))


def test_an_image_changed_in_place_is_prepared_again(folder):
    data.load_split(config_of(folder), "train")
    Image.new("RGB", (25, 30), (200, 100, 50)).save(folder / "039.jpg")
    check(data.load_split(config_of(folder), "train"), folder, [n for n in range(40) if n % 2])


def test_changed_labels_are_noticed(folder):
    data.load_split(config_of(folder), "train")
    path = folder / "labels.csv"
    path.write_text(path.read_text().replace("039.jpg,1,1,1,0", "039.jpg,1,1,1,1"))
    _, labels = read_all(data.load_split(config_of(folder), "train"))
    assert sorted(numbers_of(labels))[-1] == 39 + 8


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "part.json"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "removed", "replaced"])
def test_a_damaged_cache_is_made_again(folder, name, damage):
    data.load_split(config_of(folder), "train")
    path = next(folder.parent.rglob(name))
    if damage == "removed":
        path.unlink()
    elif damage == "replaced":
        path.write_text("[]")
    else:
        path.write_bytes(path.read_bytes()[: -5 if damage == "cut" else 0])
    check(data.load_split(config_of(folder), "train"), folder, [n for n in range(40) if n % 2])


def test_another_size_or_copy_has_a_cache_of_its_own(folder, tmp_path):
    data.load_split(config_of(folder), "test")
    copy = shutil.copytree(folder, tmp_path / "copy")
    os.utime(copy / "002.jpg", (0, 0))
    for config in (config_of(folder, image_size=(24, 16)), config_of(copy)):
        data.load_split(config, "test")
    assert len({path.parent for path in prepared_files(folder)}) == 3
    moved = shutil.move(folder, tmp_path / "moved")
    data.load_split(config_of(moved), "test")
    assert len({path.parent for path in prepared_files(moved)}) == 3


def damage(folder, *numbers):
    for number in numbers:
        path = folder / f"{number:03d}.jpg"
        path.write_bytes(path.read_bytes()[:-200])


def test_a_bad_image_stops_the_preparation_with_its_name(folder):
    damage(folder, 39)
    with pytest.raises(
        UserError, match=r"image 039\.jpg: truncated.* or remove it and its row$"
    ) as raised:
        data.load(config_of(folder))
    assert "\n" not in str(raised.value)
    assert not prepared_files(folder) and not list(folder.parent.rglob(".partial*"))
    Image.new("RGB", (25, 30)).save(folder / "039.jpg")
    check(data.load(config_of(folder)).train, folder, [n for n in range(40) if n % 2])


@pytest.fixture
def many(tmp_path):
    """200 images to train, of which one may be bad... and two too."""
    return make_images(tmp_path / "many", 200)


@pytest.mark.parametrize("no_cache", [False, True])
def test_bad_images_are_left_out_and_listed(many, capsys, no_cache):
    damage(many, 6, 7)
    fields = {"skip_bad_images": True, "no_cache": no_cache}
    for _ in ("found", "known"):
        loaded = data.load(config_of(many, **fields))
        numbers = [
            number
            for name in ("train", "validation", "test")
            for number in numbers_of(read_all(loaded.split(name))[1])
        ]
        assert sorted(numbers) == [n for n in range(200) if n not in (6, 7)]
        check(loaded.train, many, numbers_of(read_all(loaded.train)[1]))
        printed = capsys.readouterr().out
        assert "left out 2 of 200 folder train images:\n  006.jpg: " in printed
    if not no_cache:  # prepared so, they are still refused without the flag
        with pytest.raises(UserError, match=r"006\.jpg"):
            data.load(config_of(many))


@pytest.mark.parametrize("no_cache", [False, True])
def test_more_than_one_in_a_hundred_are_refused(many, no_cache):
    damage(many, 3, 50, 199)
    with pytest.raises(UserError, match=r"^3 of the 200 folder train images are bad.*199\.jpg"):
        data.load(config_of(many, skip_bad_images=True, no_cache=no_cache))


def test_without_a_cache_a_bad_image_is_named_when_it_is_met(folder):
    damage(folder, 37)
    split = data.load_split(config_of(folder, no_cache=True), "train")
    with pytest.raises(UserError, match=r"037\.jpg"), data.naming_bad_images(split):
        read_all(split)


def test_a_cache_without_room_or_permission_is_one_line(folder, monkeypatch):
    usage = shutil.disk_usage(folder)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(UserError, match=r"0\.0 GB of room.*--no_cache"):
            data.load(config_of(folder))
    (folder.parent / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot keep prepared images in --cache_dir .*file"):
        data.load(config_of(folder, cache_dir=str(folder.parent / "file")))


def test_a_user_without_a_home_names_a_folder_or_does_without(folder, monkeypatch):
    def unknown(user):
        raise KeyError(f"getpwuid(): uid not found: {user}")

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(UserError, match=r"no home .* HOME .*--cache_dir, or pass --no_cache$"):
        data.load_split(config_of(folder, cache_dir=None), "train")
    config = config_of(folder, cache_dir=None, no_cache=True)
    assert data.load_split(config, "train").count == 20


def prepare_on_a_full_disk(config, log):
    print_to(log)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        data.load_split(config, "train")
    except UserError as error:
        print("refused", error)


def test_a_disk_that_fills_up_leaves_no_cache_that_is_believed(tmp_path):
    """Really full: the process may write files of 20,000 bytes, and the images take 38,528."""
    folder = make_images(tmp_path / "images", 40)
    log = tmp_path / "log"
    line = finish(start(prepare_on_a_full_disk, config_of(folder), log), log).splitlines()[-1]
    assert line.startswith(f"refused cannot keep prepared images in --cache_dir {tmp_path}/cache")
    assert "File too large" in line
    assert not list(tmp_path.rglob(".partial*")) and not prepared_files(folder)
    loaded = data.load(config_of(folder))
    assert sum(loaded.split(name).count for name in ("train", "validation", "test")) == 40
    check(loaded.train, folder, numbers_of(read_all(loaded.train)[1]))


def prepare_and_read(config, log):
    print_to(log)
    split = data.load_split(config, "train")
    print("read", split.count, int(split.read(range(split.count))[0].sum()))


def test_two_processes_prepare_a_part_once(tmp_path):
    folder = make_images(tmp_path / "images", 60)
    logs = [tmp_path / f"log_{index}" for index in range(2)]
    processes = [start(prepare_and_read, config_of(folder), log) for log in logs]
    printed = [finish(process, log) for process, log in zip(processes, logs, strict=True)]
    assert len({text.splitlines()[-1] for text in printed}) == 1
    assert sum("preparing" in text for text in printed) == 1


def test_statistics_count_every_image(folder):
    lines = data.format_statistics(data.load(config_of(folder))).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:]}
    # Odd numbers train; multiples of 4 validate; of the rest none has bit 0.
    assert rows["bit_0"] == ["20", "100.00", "0", "0.00", "0", "0.00"]
    assert rows["bit_1"] == ["10", "50.00", "0", "0.00", "10", "100.00"]
    assert rows["bit_5"] == ["4", "20.00", "2", "20.00", "2", "20.00"]
    assert rows["images"] == ["20", "100.00", "10", "100.00", "10", "100.00"]
