"""The cache of decoded images: what is made once, made again, refused and left out."""

import csv
import json
import os
import resource
import shutil
import signal

import numpy as np
import pytest
from PIL import Image
from processes import finish, print_to, start

from mcattn_tf import data
from mcattn_tf.data import cache as prepared
from mcattn_tf.data.images import read_images
from mcattn_tf.data.pipeline import evaluation_batches
from mcattn_tf.errors import UserError
from mcattn_tf.settings.data import DataConfig

SIZE = (20, 16)
SMALL_SHARD_BYTES = 7 * 20 * 16 * 3


@pytest.fixture
def small_shards(monkeypatch):
    """Seven images a shard."""
    monkeypatch.setattr(prepared, "SHARD_BYTES", SMALL_SHARD_BYTES)


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


def shard_files(folder):
    return sorted((folder.parent / "cache").rglob("*.npy"))


def times(folder):
    return {path: path.stat().st_mtime_ns for path in shard_files(folder)}


def test_prepared_images_are_those_of_the_one_decoder(folder, small_shards, capsys):
    for _ in ("first", "from the cache"):
        loaded = data.load(config_of(folder))
        check(loaded.train, folder, [n for n in range(40) if n % 2])
        check(loaded.validation, folder, list(range(0, 40, 4)))
        check(loaded.test, folder, list(range(2, 40, 4)))
    printed = capsys.readouterr().out
    assert printed.count("preparing 20 of 20 folder train images in") == 1
    shards = sorted((folder.parent / "cache").glob("folder-train-*/*.images.npy"))
    assert [len(np.load(path)) for path in shards] == [7, 7, 6]


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
    assert {path.parent.name.split("-")[1] for path in shard_files(folder)} == {"test"}


def test_an_interrupted_preparation_goes_on_where_it_ended(folder, small_shards, monkeypatch):
    class Killed(BaseException):
        pass

    def write_until_killed(shard, *content):
        if shard.start == 14:
            raise Killed
        write(shard, *content)

    write = prepared._Shard.write
    monkeypatch.setattr(prepared._Shard, "write", write_until_killed)
    with pytest.raises(Killed):
        data.load_split(config_of(folder), "train")
    kept = times(folder)
    assert len(kept) == 4  # images and labels of two shards
    monkeypatch.setattr(prepared._Shard, "write", write)
    check(data.load_split(config_of(folder), "train"), folder, [n for n in range(40) if n % 2])
    assert {path: time for path, time in times(folder).items() if path in kept} == kept


def prepare_and_be_killed(config):
    prepared.SHARD_BYTES = SMALL_SHARD_BYTES
    write, arrays = prepared.np.lib.format.write_array_header_1_0, 0

    def killed(file, header):
        nonlocal arrays
        arrays += 1
        write(file, header)
        if arrays == 5:
            file.write(bytes(100))
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    prepared.np.lib.format.write_array_header_1_0 = killed
    data.load_split(config, "train")


def test_a_process_killed_while_it_prepares_leaves_nothing_half_done(tmp_path, small_shards):
    """Really killed, at several moments; what is there in the end is right."""
    folder = make_images(tmp_path / "images", 120)
    config = config_of(folder, hold_out=0.01)
    for round_number in (1, 2):
        process = start(prepare_and_be_killed, config)
        process.join(240)
        assert process.exitcode == -signal.SIGKILL
        assert len(list((tmp_path / "cache").rglob("*.json"))) == 2 * round_number
    loaded = data.load(config)
    numbers = sorted(
        number
        for name in ("train", "validation", "test")
        for number in numbers_of(read_all(loaded.split(name))[1])
    )
    assert numbers == list(range(120))
    check(loaded.train, folder, numbers_of(read_all(loaded.train)[1]))
    assert not list((tmp_path / "cache").rglob(".partial*"))


def test_an_image_changed_in_place_is_prepared_again_and_no_other_shard(folder, small_shards):
    data.load_split(config_of(folder), "train")
    before = times(folder)
    Image.new("RGB", (25, 30), (200, 100, 50)).save(folder / "039.jpg")
    split = data.load_split(config_of(folder), "train")
    check(split, folder, [n for n in range(40) if n % 2])
    changed = {path.name for path, time in times(folder).items() if before[path] != time}
    assert changed == {"00002.images.npy", "00002.labels.npy"}


def test_only_what_lies_in_changed_shards_is_decoded_again(folder, small_shards, capsys):
    data.load_split(config_of(folder), "train")
    for number in (3, 39):  # in the first shard and the last
        Image.new("RGB", (25, 30), (number, 100, 50)).save(folder / f"{number:03d}.jpg")
    capsys.readouterr()
    split = data.load_split(config_of(folder), "train")
    check(split, folder, [n for n in range(40) if n % 2])
    assert "preparing 13 of 20 folder train images" in capsys.readouterr().out


def test_there_are_never_more_shards_than_files_may_be_open(folder, monkeypatch):
    monkeypatch.setattr(prepared, "SHARD_BYTES", 1)
    monkeypatch.setattr(prepared, "MOST_SHARDS", 6)
    check(data.load_split(config_of(folder), "train"), folder, [n for n in range(40) if n % 2])
    assert len(shard_files(folder)) == 2 * 5  # of four images


def test_changed_labels_are_noticed(folder):
    data.load_split(config_of(folder), "train")
    path = folder / "labels.csv"
    path.write_text(path.read_text().replace("039.jpg,1,1,1,0", "039.jpg,1,1,1,1"))
    _, labels = read_all(data.load_split(config_of(folder), "train"))
    assert sorted(numbers_of(labels))[-1] == 39 + 8


@pytest.mark.parametrize("ending", ["images.npy", "labels.npy", "json"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "removed", "replaced"])
def test_a_damaged_shard_is_made_again(folder, small_shards, ending, damage):
    data.load_split(config_of(folder), "train")
    path = next(folder.parent.rglob(f"00001.{ending}"))
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
    assert len({path.parent for path in shard_files(folder)}) == 3
    moved = shutil.move(folder, tmp_path / "moved")
    data.load_split(config_of(moved), "test")
    assert len({path.parent for path in shard_files(moved)}) == 3


def damage(folder, *numbers):
    for number in numbers:
        path = folder / f"{number:03d}.jpg"
        path.write_bytes(path.read_bytes()[:-200])


def test_a_bad_image_stops_the_preparation_with_its_name_and_keeps_what_was_done(
    folder, small_shards
):
    damage(folder, 39)
    with pytest.raises(
        UserError, match=r"image 039\.jpg: truncated.* or remove it and its row$"
    ) as raised:
        data.load(config_of(folder))
    assert "\n" not in str(raised.value)
    kept = times(folder)
    assert len(kept) == 4
    Image.new("RGB", (25, 30)).save(folder / "039.jpg")
    check(data.load(config_of(folder)).train, folder, [n for n in range(40) if n % 2])
    assert {path: time for path, time in times(folder).items() if path in kept} == kept


@pytest.fixture
def many(tmp_path):
    """200 images to train, of which one may be bad... and two too."""
    return make_images(tmp_path / "many", 200)


@pytest.mark.parametrize("no_cache", [False, True])
def test_bad_images_are_left_out_and_listed(many, small_shards, capsys, no_cache):
    damage(many, 6, 7)  # the last of a shard and the first of the next
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


def prepare_on_a_full_disk(config, log):
    print_to(log)
    prepared.SHARD_BYTES = SMALL_SHARD_BYTES
    write = prepared._Shard.write

    def limited(shard, *content):
        if shard.start == 14:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
        write(shard, *content)

    prepared._Shard.write = limited
    try:
        data.load_split(config, "train")
    except UserError as error:
        print("refused", error)


def test_a_disk_that_fills_up_leaves_no_shard_that_is_believed(tmp_path, small_shards):
    """Really full: the process may write files of 6,000 bytes, and a shard takes 6,848."""
    folder = make_images(tmp_path / "images", 40)
    log = tmp_path / "log"
    line = finish(start(prepare_on_a_full_disk, config_of(folder), log), log).splitlines()[-1]
    assert line.startswith(f"refused cannot keep prepared images in --cache_dir {tmp_path}/cache")
    assert "File too large" in line
    assert not list(tmp_path.rglob(".partial*"))
    names = sorted(path.name for path in (tmp_path / "cache").rglob("*.json"))
    assert names == ["00000.json", "00001.json"]
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


def test_what_a_shard_says_of_itself(folder, small_shards):
    data.load_split(config_of(folder), "train")
    content = json.loads(next(folder.parent.rglob("00001.json")).read_text())
    assert content["bad_images"] == [] and len(content["fingerprint"]) == 64


def test_statistics_count_every_image(folder):
    lines = data.format_statistics(data.load(config_of(folder))).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:]}
    # Odd numbers train; multiples of 4 validate; of the rest none has bit 0.
    assert rows["bit_0"] == ["20", "100.00", "0", "0.00", "0", "0.00"]
    assert rows["bit_1"] == ["10", "50.00", "0", "0.00", "10", "100.00"]
    assert rows["bit_5"] == ["4", "20.00", "2", "20.00", "2", "20.00"]
    assert rows["images"] == ["20", "100.00", "10", "100.00", "10", "100.00"]
