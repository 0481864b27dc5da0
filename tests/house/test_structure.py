"""The order of imports, and what may import TensorFlow."""

import ast
import re
import subprocess
import sys

import pytest
from conftest import PAGES, ROOT

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
    "explain/methods/grad_cam",
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


def test_models_work_where_tensorflow_is_not_installed():
    script = (
        "import sys\n"
        "sys.modules['tensorflow'] = None\n"  # makes every import of it fail
        "import numpy as np\n"
        "from mcattn_tf import models\n"
        "from mcattn_tf.settings.config import make_config\n"
        "config = make_config({'data': {'image_size': (8, 4)},\n"
        "    'found': {'attributes': ('A', 'B', 'C')}, 'model': {'channels': 6}})\n"
        "model = models.build(config)\n"
        "outputs = model.predict_on_batch(np.ones((2, 8, 4, 3), 'float32'))\n"  # compiled whole
        "assert outputs['attributes'].shape == (2, 3)\n"
        "assert np.all(np.isfinite(outputs['attributes']))\n"
        "assert models.receptive_field(model).side == 18\n"
    )
    environment = {"KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT), "PATH": ""}
    process = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr


# What is run, and the file that defines its flags.
SCRIPTS = {
    **{f"python {name}": name for name in ("train.py", "evaluate.py", "visualize.py")},
    **{
        f"python -m mcattn_tf.commands.{name}": f"mcattn_tf/commands/{path}"
        for name, path in (("export", "export.py"), ("client", "client/__main__.py"))
    },
}
EXAMPLES = {
    f"python examples/{path.name}": f"examples/{path.name}"
    for path in (ROOT / "examples").glob("*.py")
}
BENCHMARKS = [str(path.relative_to(ROOT)) for path in (ROOT / "benchmarks").glob("*/*.py")]
OF_OTHER_PROGRAMS = {"dry_run", "editable", "logdir"}


def flags_of(script: str) -> set[str]:
    return set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', (ROOT / script).read_text()))


def flags_in(text: str, defined: set[str]) -> set[str]:
    named = re.findall(r"--(?:\[no\])?([a-z_]+)", text)
    return {
        flag.removeprefix("no") if flag.removeprefix("no") in defined else flag for flag in named
    }


def test_every_flag_is_in_the_settings_page():
    defined = set().union(*map(flags_of, SCRIPTS.values()))
    settings = (ROOT / "docs" / "settings.md").read_text()
    assert flags_in(settings, defined) == defined


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_flag_on_a_page_exists_where_it_is_used(page):
    scripts = SCRIPTS | EXAMPLES | {f"python {path}": path for path in BENCHMARKS}
    defined = set().union(*map(flags_of, [*scripts.values(), *BENCHMARKS]))
    text = page.read_text()
    assert flags_in(text, defined) <= defined | OF_OTHER_PROGRAMS
    for start, script in scripts.items():
        for command in re.findall(rf"{start}((?:\\\n|[^\n`])*)", text):
            used = {flag for flag in re.findall(r"--([a-z_]+)", command)}
            assert used <= flags_of(script) | {f"no{flag}" for flag in flags_of(script)}, command
