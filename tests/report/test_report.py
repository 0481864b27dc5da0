import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import keras
import numpy as np
import pytest
from conftest import he_weights, random_split, tiny_config, tiny_config_of
from PIL import Image

from mcattn_tf import models
from mcattn_tf.data.regions.region_set import RegionBatch, RegionSet
from mcattn_tf.errors import UserError
from mcattn_tf.evaluation.answers import evaluate
from mcattn_tf.evaluation.verdicts import verdicts
from mcattn_tf.explain.feature_space.atlas import make_atlas
from mcattn_tf.explain.feature_space.correlation import analyze
from mcattn_tf.explain.methods.contributions import build_explainer
from mcattn_tf.figures.panels import CONTRIBUTION_COLORS, limit_of, scale_of
from mcattn_tf.report import gallery as report_gallery
from mcattn_tf.report import page as report
from mcattn_tf.report import plots as report_plots
from mcattn_tf.report.changes import Changes
from mcattn_tf.runs.checkpoints import weights_of
from mcattn_tf.settings.backbones import BACKBONES, BASIC, Backbone

BAD_NAME = "<img src=x onerror=alert(1)>"
NAMES = ("Smiling", BAD_NAME, "Eye_glasses")
HISTORY = """epoch,attributes_accuracy,loss,mask_mean,val_attributes_accuracy,val_loss
0,0.5,3.25,0.4,0.625,2.5
1,0.75,1.5,0.3,0.875,1.25
"""


class Texts(HTMLParser):
    """What a reader sees of a page, and the tags it is made of."""

    def __init__(self, page):
        super().__init__()
        self.text, self.tags, self.inside = [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.text.append(data)


def page_of(path):
    found = Texts(path.read_text())
    return " ".join(" ".join(found.text).split()), found.tags


def data_of(path):
    found = re.search(r'id="report-data">(.*?)</script>', path.read_text(), re.S)
    return json.loads(found[1])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run without explanations.json, its network, images and analysis, and its page."""
    directory = tmp_path_factory.mktemp("report") / "run"
    directory.mkdir()
    config = tiny_config(
        data={"dataset": "celeba", "data_dir": "/private/faces"}, found={"attributes": NAMES}
    )
    model, split = he_weights(models.build(config), 1), random_split(9, 2)
    evaluation = evaluate(model, split, NAMES, 4)
    (directory / "evaluation.json").write_text(json.dumps(evaluation))
    (directory / "history.csv").write_text(HISTORY)
    images, labels = split.read(np.arange(9))
    images = images.astype(np.float32) / 255
    analysis = analyze(model, NAMES, [(images, labels)])
    names = [f"test_{index}" for index in range(3)]
    examples = report.Examples(images[:3], names, labels[:3])
    path = report.write_report(directory, config, model, examples, range(3), analysis)
    return path, model, examples, analysis, evaluation


def test_a_sprite_keeps_every_cell_in_its_place():
    maps = np.linspace(-2, 2, 3 * 2 * 4 * 5).reshape(3, 2, 4, 5)
    uri = report_gallery.sprite(maps, scale_of(2, signed=True))
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    pixels = np.asarray(picture.convert("RGBA"))
    assert pixels.shape == (12, 10, 4)
    of_one = pixels[8:12, 5:10]  # row 2, column 1
    expected = CONTRIBUTION_COLORS((maps[2, 1] + 2) / 4, bytes=True).astype(int)
    np.testing.assert_allclose(of_one, expected, atol=2)  # one of 255 colours


def test_the_page_says_what_is_known_and_how_to_measure_the_rest(run):
    path, _, _, analysis, evaluation = run
    text, tags = page_of(path)
    accuracy = evaluation["attributes"]["per_attribute"][BAD_NAME]["accuracy"]
    assert f"{100 * accuracy:.2f}" in text
    assert all(verdict in text for verdict in verdicts(evaluation))
    assert text.index(verdicts(evaluation)[0]) < text.rindex("Contributions of each image")
    assert f"python evaluate.py --run {path.parent} --explanations" in text
    assert f"python evaluate.py --run {path.parent} --analysis" in text  # these are 9 images
    assert f"python evaluate.py --run {path.parent} --slices ATTRIBUTE" in text
    precision = evaluation["attributes"]["mean"]["average_precision"]
    assert f"average precision {100 * precision:.2f} %" in text
    assert "/private" not in path.read_text()
    assert "over 9 images" in text and "All correlations of" in text
    assert text.count(BAD_NAME.replace("_", " ")) >= 3 and "Eye glasses" in text
    assert not [attributes for _, attributes in tags if "onerror" in attributes]
    # All that it is made of is in it.
    sources = [a[key] for _, a in tags for key in ("src", "href") if a.get(key)]
    assert all(source.startswith(("data:", "#")) for source in sources) and len(sources) > 5
    assert path.stat().st_size < 15 * 2**20
    plot = data_of(path)["plots"]["attributes"]
    first, second = (plot["names"].index(name) for name in ("Smiling", BAD_NAME))
    for trace, measure in zip(plot["figure"]["data"], plot["measures"], strict=True):
        expected = analysis.correlations()[measure][0, 1]
        assert trace["z"][first][second] == pytest.approx(expected, abs=1e-3)


def test_the_page_shows_what_channels_detect_where_an_atlas_was_made(run, tmp_path):
    path, model, examples, analysis, _ = run
    assert "Parts that channels detect" not in page_of(path)[0]
    regions = np.random.default_rng(0).random((3, 12, 8, 3)) < 0.5

    def read(indices):
        rows, valid = slice(indices.start, indices.stop), np.ones((len(indices), 12, 8), bool)
        return RegionBatch(examples.images[rows], regions[rows], valid, {})

    atlas = make_atlas(model, NAMES, RegionSet("made-up regions", NAMES, (), 3, read))
    atlas.save(tmp_path / "atlas.npz")
    config = tiny_config(found={"attributes": NAMES})
    path = report.write_report(tmp_path, config, model, examples, [0], analysis)
    text, tags = page_of(path)
    assert "Parts that channels detect" in text and "(made-up regions)" in text
    pictures = [a["src"] for tag, a in tags if tag == "img" and "patches" in a.get("alt", "")]
    assert len(pictures) == 5
    picture = Image.open(io.BytesIO(base64.b64decode(pictures[0].partition(",")[2])))
    first = int(np.argmax(atlas.shares.max(axis=0)))
    np.testing.assert_array_equal(
        np.asarray(picture)[:, : atlas.patches.shape[3]], atlas.patches[first, 0]
    )


def test_a_measurement_of_other_weights_is_told_from_one_of_these(run, tmp_path):
    _, model, examples, analysis, _ = run
    values = {"output": "attributes", "deletion_auc": 0.125, "intervals": {}, "per_attribute": {}}
    measured = {
        **{"images": 3, "regions": "no regions", "scored": None, "faithfulness_images": 3},
        **{"steps": 2, "baseline": "blur", "default_method": "contributions"},
        "contributions": values,
    }
    for name, weights in (("explanations", weights_of(model)), ("explanations_zero", "before")):
        (tmp_path / f"{name}.json").write_text(json.dumps(measured | {"weights": weights}))
    gap = {"slice": 0.8125, "rest": 0.75, "gap": 0.0625, "interval": [-0.01, 0.135]}
    counts = {"rest": "not Bald", "images": 40, "rest_images": 900, "untold": 0}
    of_bald = {**counts, "mean": {"accuracy": gap}, "per_attribute": {"Smiling": {"accuracy": gap}}}
    sliced = {
        **{"weights": "before", "split": "test", "images": 940, "people": None},
        **{"output": "attributes", "chosen_by": "f1", "pointing": None},
        "slices": {"Bald": of_bald},
    }
    (tmp_path / "slices_Bald_f1.json").write_text(json.dumps(sliced))
    page = report.write_report(tmp_path, tiny_config(), model, examples, range(3), analysis)
    text, _ = page_of(page)
    assert "40 images of Bald, 900 of not Bald; means over attributes" in text
    assert "81.25 75.00 +6.25 [-1.00, +13.50]" in text and "few images: 40 of Bald" in text
    assert "attributes at the thresholds chosen by f1 on 940 test images" in text
    assert "slices_Bald_f1.json belongs to other weights" in text
    outdated = "json belongs to other weights than the rest of this page"
    assert f"explanations_zero.{outdated}" in text and f"explanations.{outdated}" not in text
    assert text.count("0.125") == 3  # in both tables, and in the verdict of these weights


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("gcm", {}, "The mean of the contribution map is the score"),
        (
            "abn",
            {"backbone": "tiny", "exclusive": True},
            "get a higher weight. All classes share one map.",
        ),
        ("multitask_abn", {"backbone": "tiny"}, "Each attribute has a map of its own."),
        ("cnn", {}, "Method of the map: cam."),
    ],
)
def test_a_page_of_a_network_without_masks_or_measurements(
    name, settings, says, tmp_path, monkeypatch
):
    monkeypatch.setitem(BACKBONES, "tiny", Backbone((4, 6, 8), (1, 1, 1), BASIC, stem=4))
    config = tiny_config_of(name, **settings)
    model, (images, _) = he_weights(models.build(config)), random_split(2, 0).read([0, 1])
    examples = report.Examples(images.astype(np.float32) / 255, ["one", "two"], None)
    path = report.write_report(tmp_path, config, model, examples, [1, 2], None)
    text, _ = page_of(path)
    assert says in text and "boxes" in path.read_text()
    gallery = data_of(path)["gallery"]
    assert gallery["first"] == np.argmax(gallery["images"][0]["probabilities"])  # no label is known
    assert gallery["exclusive"] == (name == "abn") and "local" not in gallery["images"][0]
    assert f"python evaluate.py --run {tmp_path} and then" in text
    assert "no history of a training" in text
    assert "mask" not in text and "Correlation of attributes" not in text
    (tmp_path / "history.csv").write_text("epoch,loss\n0\n")
    with pytest.raises(UserError, match=r"history\.csv: a line of it is not whole"):
        report.write_report(tmp_path, config, model, examples, [1], None)
    for epoch in ("0.5", "nan"):
        (tmp_path / "history.csv").write_text(f"epoch,loss\n{epoch},3\n")
        with pytest.raises(UserError, match=r"history\.csv: `epoch` must be a whole number"):
            report.write_report(tmp_path, config, model, examples, [1], None)
    (tmp_path / "history.csv").unlink()
    row = {"accuracy": 0.5, "positives": 0.25, "majority_accuracy": 0.75}
    for content in (
        "{",
        json.dumps({"perception": {"mean": row, "per_attribute": {"a": row | {"accuracy": "x"}}}}),
        json.dumps({"perception": {"mean": row | {"accuracy": [1]}, "per_attribute": {"a": row}}}),
        json.dumps({"perception": {"mean": row}}),
        json.dumps({"perception": 0.5}),
        json.dumps({"nothing": {"mean": row, "per_attribute": {}}}),
    ):
        (tmp_path / "evaluation.json").write_text(content)
        with pytest.raises(UserError, match=r"evaluation\.json: it is damaged"):
            report.write_report(tmp_path, config, model, examples, [1], None)
    (tmp_path / "evaluation.json").unlink()
    (tmp_path / "explanations.json").write_text(json.dumps({"default_method": "cam"}))
    with pytest.raises(UserError, match=r"explanations\.json: it is damaged"):
        report.write_report(tmp_path, config, model, examples, [1], None)


def test_only_as_many_images_as_have_room(run, monkeypatch):
    _, model, examples, analysis, _ = run
    monkeypatch.setattr(report_gallery, "MOST_BYTES", 4000)
    monkeypatch.setattr(report_gallery, "MOST_ATTRIBUTES", 2)
    gallery = report_gallery.make_gallery(model, NAMES, examples, range(3), analysis)
    assert 1 <= len(gallery["images"]) < 3
    present = np.flatnonzero(examples.labels[0][:2] == 1)
    probabilities = model.predict_on_batch(examples.images[:1])["attributes"][0]
    if len(present):
        assert gallery["first"] == max(present, key=lambda k: probabilities[k])
    assert gallery["attributes"] == list(NAMES[:2])
    assert report_plots.plain("a<b>&") == "a&lt;b&gt;&amp;"


def answer_anew(model, image, attribute, cells=(), channel=None):
    """The probability without some cells and a channel's mask, from features and masks alone."""
    explained = build_explainer(model, range(3)).predict_on_batch(image[None])
    features = keras.Model(model.input, model.get_layer("features").output)
    features, masks = features.predict_on_batch(image[None])[0], explained["masks"][0]
    pooling, own = model.get_layer("masked_pooling"), masks[:, :, attribute].copy()
    if channel is not None:
        own[..., channel] = 0
    weights, biases = (np.asarray(x)[attribute] for x in (pooling.head, pooling.head_bias))
    evidence = np.delete(((1 + own) * features @ weights).ravel(), list(cells))
    shares = np.exp(pooling.sharpness * evidence)
    return 1 / (1 + np.exp(-(evidence @ shares / shares.sum() + biases)))


def test_numbers_of_the_page_answer_without_cells_and_masks(run):
    _, model, examples, analysis, _ = run
    image, changes = examples.images[0], Changes(model, [0, 1, 2])
    explained, channels = changes.explain(image), [analysis.top_channels(k, 2) for k in range(3)]
    numbers = changes.numbers(explained, channels)

    def read(name, size, shape):
        integers = np.frombuffer(base64.b64decode(numbers[name]["data"]), f"<i{size}")
        return numbers[name]["scale"] * integers.reshape(shape)

    local, parts = read("local", 2, (3, 24)), read("parts", 1, (3, 2, 24))
    for attribute in range(3):
        for cells, rank in (((), None), ((3, 8), None), ((5,), 1)):
            values = local[attribute] - (0 if rank is None else parts[attribute, rank])
            kept = np.delete(values, list(cells))
            shares = np.exp(changes.sharpness * kept)
            probability = 1 / (1 + np.exp(-(kept @ shares) / shares.sum()))
            channel = None if rank is None else channels[attribute][rank]
            expected = answer_anew(model, image, attribute, cells, channel)
            assert probability == pytest.approx(expected, abs=2e-3), (attribute, cells, rank)
    assert answer_anew(model, image, 1) == pytest.approx(explained["attributes"][1], abs=1e-5)


def test_the_most_wrong_images_stand_behind_the_first(run):
    _, model, examples, _, _ = run
    images, labels = random_split(9, 2).read(np.arange(9))
    images, labels = images.astype(np.float32) / 255, labels.copy()
    labels[4, 0] = -1  # an unknown label counts nowhere
    batches = [(images[:5], labels[:5]), (images[5:], labels[5:])]
    shown = examples.with_most_wrong(model, batches, 1, 2)
    answers = model.predict_on_batch(images)["attributes"]
    losses = -np.log(np.where(labels == 1, answers, 1 - answers))
    means = [np.mean(row[known]) for row, known in zip(losses, labels >= 0, strict=True)]
    worst = np.argsort(means)[::-1][:2]
    assert shown.names == ["test_0", *(f"{place + 1}, of the most wrong" for place in worst)]
    np.testing.assert_array_equal(shown.images[1:], images[worst])
    np.testing.assert_array_equal(shown.labels[1:], labels[worst])


def test_a_chart_of_trust_has_points_intervals_chance_and_the_gaussian():
    def row(value, low, high):
        values = {"pointing_game": value, "intervals": {"pointing_game": [low, high]}}
        return values | {"chance": 0.25, "deletion_auc": None}

    result = {"default_method": "contributions", "contributions": row(0.75, 0.5, 1.0)}
    result |= {"center": row(0.375, 0.25, 0.5)}
    chart = report_plots.trust_chart(result)
    (points,) = chart["data"]  # of what was measured alone
    assert points["x"] == [0.75, 0.375] and points["y"] == ["contributions", "center"]
    assert points["error_x"]["array"] == [0.25, 0.125]
    assert points["error_x"]["arrayminus"] == [0.25, 0.125]
    lines = {line["line"]["dash"]: line["x0"] for line in chart["layout"]["shapes"]}
    assert lines == {"dash": 0.25, "dot": 0.375}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: extra `dev`")
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (
        *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"),
        *("disable-background-networking", "disable-component-update", "disable-sync"),
        f"user-data-dir={tmp_path_factory.mktemp('browser')}",
        "window-size=1280,900",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    session = webdriver.Chrome(options=options, service=service)
    yield session
    session.quit()


PIXELS = """const canvas = document.querySelector(arguments[0]);
return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]"""


def test_the_page_in_a_browser(run, browser):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.select import Select
    from selenium.webdriver.support.wait import WebDriverWait

    path, model, examples, analysis, _ = run
    explained = build_explainer(model, range(3)).predict_on_batch(examples.images)
    still = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", still)
    browser.get(path.as_uri())

    def find(selector):
        return browser.find_element(By.CSS_SELECTOR, selector)

    def texts(selector):
        return [x.text for x in browser.find_elements(By.CSS_SELECTOR, selector)]

    def wait_for(selector, text):
        WebDriverWait(browser, 20).until(lambda _: text in find(selector).text)

    def alphas(selector):
        return np.array(browser.execute_script(PIXELS, selector)).reshape(6, 4, 4)[..., 3] / 255

    # Choosing, by keyboard alone: another attribute, then another image.
    wait_for("#answer", "Strongest")
    for _ in NAMES:
        browser.execute_script("arguments[0].focus()", find("[name=attribute]:checked"))
        if find("#chosen").text.startswith("Smiling"):
            break
        find("[name=attribute]:checked").send_keys(Keys.ARROW_DOWN)
    wait_for("#chosen", "Smiling in test_0")
    before = alphas(".evidence"), browser.execute_script(PIXELS, ".mask")
    for _ in NAMES:
        if find("#chosen").text.startswith(BAD_NAME):
            break
        find("[name=attribute]:checked").send_keys(Keys.ARROW_DOWN)
    wait_for("#chosen", f"{BAD_NAME} in test_0")
    find("[name=image]:checked").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    wait_for("#chosen", "in test_2")
    WebDriverWait(browser, 20).until(lambda _: not np.array_equal(alphas(".evidence"), before[0]))
    contributions = explained["contributions"][2]
    limit = limit_of(np.moveaxis(contributions, 2, 0))
    expected = 0.9 * np.minimum(np.abs(contributions[..., 1]) / limit, 1)
    np.testing.assert_allclose(alphas(".evidence"), expected, atol=0.012)
    assert browser.execute_script(PIXELS, ".mask") != before[1]
    assert f"{explained['attributes'][2, 1]:.3f}" in find("#answer").text
    channel = analysis.top_channels(1, 1)[0]
    amount = explained["channel_contributions"][2, 1, channel]
    assert f"mask of channel {channel}, contribution {amount:+.2f}" in texts("figcaption")[2]

    # Attributes stand in the order of their probability, mistakes with a word.
    answers, labels = explained["attributes"][2], examples.labels[2]
    shown = [float(text) for text in texts(".attributes .probability")]
    np.testing.assert_allclose(shown, np.sort(answers)[::-1], atol=0.0051)
    words = {(1, False): "missed", (0, True): "false"}
    expected = [words.get((labels[k], answers[k] > 0.5), "") for k in np.argsort(-answers)]
    assert texts(".attributes .word") == expected

    # Another method, and the answer without the strongest cell and without a mask.
    Select(find("#method")).select_by_visible_text("local probabilities")
    wait_for(".scale .meaning", "local probabilities")
    place = explained["local_probabilities"][2, ..., 1].argmax()
    find("#take").send_keys(Keys.ENTER)
    wait_for("#anew", "without 1 cell (")
    expected = answer_anew(model, examples.images[2], 1, [place])
    assert float(find("#anew").text.split()[2]) == pytest.approx(expected, abs=3e-3)
    find(".keep").send_keys(Keys.SPACE)
    wait_for("#anew", "without 1 cell and 1 mask (")
    expected = answer_anew(model, examples.images[2], 1, [place], analysis.top_channels(1, 1)[0])
    assert float(find("#anew").text.split()[2]) == pytest.approx(expected, abs=4e-3)
    find("#restore").send_keys(Keys.ENTER)
    WebDriverWait(browser, 20).until(lambda _: find("#anew").text == "")
    ActionChains(browser).click(find(".evidence")).perform()
    wait_for("#anew", "without 1 cell (")

    # Sorting, by keyboard: falling, then rising; the mean stays below.
    heading = browser.find_elements(By.CSS_SELECTOR, "#answers thead button")[1]
    for sign, state in ((-1, "descending"), (1, "ascending")):
        heading.send_keys(Keys.ENTER)
        cells = [float(text) for text in texts("#answers tbody tr td:nth-child(2)")]
        assert cells == sorted(cells, key=lambda value: sign * value) and len(set(cells)) > 1
        assert find("#answers th[aria-sort]").get_attribute("aria-sort") == state
    assert texts("#answers tfoot th") == ["mean"]
    in_the_middle = "arguments[0].scrollIntoView({block: 'center'})"
    name = find("#answers thead button")
    browser.execute_script(in_the_middle, name)
    name.click()
    assert texts("#answers tbody th") == [BAD_NAME, "Eye glasses", "Smiling"]

    # Correlations: in numbers for the chosen attribute, and on hover.
    Select(find("#attributes .target")).select_by_visible_text(BAD_NAME)
    values = analysis.correlations()
    place = texts("#attributes tbody th").index("Smiling")
    for column, measure in enumerate(values, start=2):
        shown = texts(f"#attributes tbody td:nth-child({column})")[place]
        assert float(shown) == pytest.approx(values[measure][1, 0], abs=0.0055), measure
    plot = find("#attributes .plot .nsewdrag")
    browser.execute_script(in_the_middle, plot)

    def shown_on_hover(_):
        ActionChains(browser).move_to_element_with_offset(plot, 3, 3).move_to_element(
            plot
        ).perform()
        return [text for text in texts("#attributes .hovertext") if "r = +1.00" in text]

    WebDriverWait(browser, 20).until(shown_on_hover)
    # Shortened, and still text.
    assert "<img src=x on…ror=alert(1)>" in texts("#attributes .yaxislayer-above text")

    # A narrow window is not wider than itself; nothing is wrong, and nothing was asked for.
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    widths = "const page = document.documentElement; return [page.scrollWidth, page.clientWidth]"
    WebDriverWait(browser, 20).until(lambda _: browser.execute_script(widths) == [360, 360])
    assert [x for x in browser.get_log("browser") if x["level"] == "SEVERE"] == []
    messages = [json.loads(x["message"])["message"] for x in browser.get_log("performance")]
    requests = [
        x["params"]["request"]["url"]
        for x in messages
        if x["method"] == "Network.requestWillBeSent"
        and x["params"]["documentURL"] == path.as_uri()
    ]
    assert requests[0] == path.as_uri()
    assert all(url.startswith("data:") for url in requests[1:]) and len(requests) > 3
