"""The house stays one that can be read: few rooms, short files, a short README."""

import re

import pytest
from conftest import ROOT
from test_pages import without_code

PACKAGE = ROOT / "mcattn_tf"
LONGEST_FILE = 350
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)


def source_files():
    folders = ("mcattn_tf", "benchmarks", "examples")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return [*paths, *ROOT.glob("*.py")]


def test_the_root_of_the_package_shows_few_rooms():
    modules = [path.name for path in PACKAGE.glob("*.py")]
    folders = [path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()]
    assert len(modules) <= 10, sorted(modules)
    assert len(folders) <= 12, sorted(folders)


def test_no_file_is_long():
    lines = {path: len(path.read_text().splitlines()) for path in source_files()}
    long = {str(path.relative_to(ROOT)): n for path, n in lines.items() if n > LONGEST_FILE}
    assert len(lines) > 100, "nothing was read"
    assert not long


def test_readme_is_an_entrance():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 200
    assert len(text.split()) <= 1600
    tables = TABLE.findall(text)
    assert tables
    for table in tables:
        heading, _, *rows = table.splitlines()
        assert heading.count("|") - 1 <= 6 and len(rows) <= 8, heading


def test_no_line_of_the_public_module_is_spare():
    assert len((PACKAGE / "__init__.py").read_text().splitlines()) < 40


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md"])
def test_every_file_that_a_page_names_exists(page):
    """Files outside of examples, apart from those to be made (NAME)."""
    text = without_code((ROOT / page).read_text())
    named = set(re.findall(r"(?:mcattn_tf|tests|benchmarks)/[\w./]+\.(?:py|sh)", text))
    missing = {path for path in named if "NAME" not in path and not (ROOT / path).is_file()}
    assert not missing
