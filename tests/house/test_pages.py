"""The links of README and docs lead somewhere."""

import re
from collections import Counter

import pytest
from conftest import PAGES, ROOT

FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]+`", lambda code: code[0].strip("`"), FENCED.sub("", text))


def anchors(text: str) -> set[str]:
    """Returns what GitHub makes of headings: lower case, hyphens, numbers where one is repeated."""
    found, before = set(), Counter()
    for heading in re.findall(r"^#+ +(.+?) *$", without_code(text), re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{name}-{before[name]}" if before[name] else name)
        before[name] += 1
    return found


def links(page) -> list[str]:
    targets = LINK.findall(without_code(page.read_text()))
    return [target for target in targets if not re.match(r"https?://", target)]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_and_anchor_of_a_page_exists(page):
    for target in links(page):
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(path.read_text()), f"{page.name}: {target}"


def test_every_page_is_linked_from_readme():
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in links(PAGES[0])}
    assert linked >= set(PAGES[1:])


def test_anchors_are_those_that_github_makes():
    page = "# A `b_c` (d), e!\n```\n# no heading\n```\n## Many GPUs\n## Many GPUs\n"
    assert anchors(page) == {"a-b_c-d-e", "many-gpus", "many-gpus-1"}
    assert LINK.findall("see [two\nlines](a.md#b), ![c](d.png)") == ["a.md#b", "d.png"]
