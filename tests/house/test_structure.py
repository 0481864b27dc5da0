"""The order of imports, and what may import TensorFlow."""

import ast
import re
import subprocess
import sys

import pytest
from conftest import PAGES, QUICK_XLA, ROOT

sys.path.insert(0, str(ROOT / "docs"))
import settings_page

from mcattn_tf.commands.flags import help_text

# Each module may import from those before it and from its own group.
ORDER = [
    ("devices", "errors", "files", "layers", "metrics", "progress", "registration", "tables"),
    ("settings",),
    ("data", "losses", "models", "optimizers"),
    ("runs",),
    ("explain",),
    ("evaluation", "export", "figures", "training"),
    ("report",),
    ("commands",),
]
WITH_TENSORFLOW = (
    "commands",
    "data/",
    "explain/methods/grad",
    "explain/methods/guided_backprop",
    "explain/truth/sanity",
    "export",
    "layers/fusion",
    "training/distribution",
    "training/faults",
    "training/pictures",
)
PACKAGE = ROOT / "mcattn_tf"


def rank(module: str) -> int:
    return next(index for index, group in enumerate(ORDER) if module in group)


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if name != "__init__":
            yield pytest.param(name, path, id=str(path.relative_to(PACKAGE)))


MODULES = list(modules())


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(("name", "path"), MODULES)
def test_imports_point_one_way(name, path):
    for module in imported(path):
        package, _, rest = module.partition(".")
        if package == "mcattn_tf" and rest != "__version__":
            assert rank(rest.split(".")[0]) <= rank(name), module


@pytest.mark.parametrize(("name", "path"), MODULES)
def test_tensorflow_stays_where_it_belongs(name, path):
    uses = any(module.split(".")[0] == "tensorflow" for module in imported(path))
    assert not uses or str(path.relative_to(PACKAGE)).startswith(WITH_TENSORFLOW), name


@pytest.mark.parametrize(("name", "path"), MODULES)
def test_every_text_file_is_in_utf_8_whatever_the_locale(name, path):
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
            continue
        function = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        words = [x.value for x in node.args if isinstance(x, ast.Constant)]
        names = {keyword.arg for keyword in node.keywords}
        modes = words in (["w"], ["r"], ["a"])
        file_named = len(node.args) - len(words) == isinstance(node.func, ast.Name)
        of_text = function == "open" and ((modes and file_named) or "newline" in names)
        if of_text or function == "write_text" or (function, node.args) == ("read_text", []):
            assert "encoding" in names, node.lineno


def test_models_work_where_tensorflow_is_not_installed():
    script = (
        "import sys\n"
        "sys.modules['tensorflow'] = None\n"  # makes every import of it fail
        "import numpy as np\n"
        "from mcattn_tf import models\n"
        "from mcattn_tf.explain.methods.contributions import build_explainer\n"
        "from mcattn_tf.settings.config import make_config\n"
        "config = make_config({'data': {'image_size': (8, 4)},\n"
        "    'found': {'attributes': ('A', 'B', 'C')}, 'model': {'channels': 6, 'stem':\n"
        "    ((4, 3, 2), (6, 3, 2)), 'dilations': (1,), 'pointwise_layers': 1}})\n"
        "model = models.build(config)\n"
        "outputs = model.predict_on_batch(np.ones((2, 8, 4, 3), 'float32'))\n"  # compiled whole
        "assert outputs['attributes'].shape == (2, 3)\n"
        "assert np.all(np.isfinite(outputs['attributes']))\n"
        "assert models.receptive_field(model).side == 15\n"
        "maps = build_explainer(model, range(3)).output['contributions']\n"
        "assert maps.shape == (None, 2, 1, 3)\n"
    )
    environment = {"KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT), "PATH": "", **QUICK_XLA}
    process = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr


# What is run, and its flags.
SCRIPTS = {
    f"python {command.main.program.removeprefix('python ')}": {
        flag.name for group in command.main.flags.values() for flag in group
    }
    for command in settings_page.COMMANDS
}
OTHERS = {
    f"python {folder}/{path.name}": set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', path.read_text()))
    for folder in ("examples", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
}
OF_OTHER_PROGRAMS = {"dry_run", "editable", "help", "logdir"}


def flags_in(text: str, defined: set[str]) -> set[str]:
    named = re.findall(r"--(?:\[no\])?([a-z_]+[a-z0-9_]*)", text)
    return {
        flag.removeprefix("no") if flag.removeprefix("no") in defined else flag for flag in named
    }


def test_every_flag_has_a_help_text_that_begins_with_a_noun_or_a_verb():
    for command in settings_page.COMMANDS:
        for group in command.main.flags.values():
            for flag in group:
                assert flag.help[0].isupper() and not flag.help.endswith("."), flag
                assert flag.help.split()[0] not in ("Of", "That", "Whose", "Whether", "By"), flag
        assert max(map(len, help_text(command.main).splitlines())) <= 100


def test_the_settings_page_is_what_the_code_makes():
    assert settings_page.PAGE.read_text() == settings_page.page()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_flag_on_a_page_exists_where_it_is_used(page):
    scripts = SCRIPTS | OTHERS
    defined = set().union(*scripts.values())
    text = page.read_text()
    assert flags_in(text, defined) <= defined | OF_OTHER_PROGRAMS
    for start, flags in scripts.items():
        for command in re.findall(rf"{start}((?:\\\n|[^\n`])*)", text):
            used = {flag for flag in re.findall(r"--([a-z_]+[a-z0-9_]*)", command)}
            assert used <= flags | {f"no{flag}" for flag in flags} | {"help"}, command
