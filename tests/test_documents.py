"""README.md and CONTRIBUTING.md hold: their Python runs, their commands name what there is.

Docstring examples are run by ``test_contract``, the examples themselves by ``test_examples``.
"""

import itertools
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md"]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r"`([^`]+)`")


def places(name, text, matches):
    """Document, line and text of the last group of each match."""
    for match in matches:
        last = match.lastindex
        yield name, text.count("\n", 0, match.start(last)) + 1, match[last]


def find_blocks(language):
    """Blocks of a language, in the order of the documents."""
    for name in DOCUMENTS:
        text = (ROOT / name).read_text()
        yield from places(name, text, (m for m in FENCED.finditer(text) if m[1] == language))


def find_quoted():
    """What stands in backquotes, on one line or on two."""
    for name in DOCUMENTS:
        text = (ROOT / name).read_text()
        # Blanks instead of blocks, so that lines keep their numbers.
        prose = FENCED.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
        yield from places(name, prose, QUOTED.finditer(prose))


def find_commands(*first_words):
    """Words after the first ones of each command that begins with those, named by their place."""
    in_blocks = (
        (name, line + k, command)
        for name, line, block in find_blocks("bash")
        for k, whole in enumerate(block.splitlines())
        for command in whole.split("&&")
    )
    for name, line, command in itertools.chain(in_blocks, find_quoted()):
        if tuple(command.split()[: len(first_words)]) == first_words:
            words = shlex.split(command)[len(first_words) :]
            yield pytest.param(words, id=f"{name}:{line}")


PYTHON = [pytest.param(*place, id="{}:{}".format(*place)) for place in find_blocks("python")]
SCRIPTS = [p for p in find_commands("python") if p.values[0] and p.values[0][0] != "-m"]
PYTEST = list(find_commands("python", "-m", "pytest"))
PIP = list(find_commands("pip", "install"))


def options_of(words):
    return {word.split("=")[0] for word in words if word.startswith("-")}


def options_in(printed):
    """Options that a help text names."""
    return set(re.findall(r"(?<![\w-])--?\w[\w-]*", printed))


@pytest.mark.parametrize(("name", "line", "code"), PYTHON)
def test_python_block(name, line, code, tmp_path, monkeypatch):
    """In a namespace and folder of its own; line numbers of errors are those of the document."""
    monkeypatch.chdir(tmp_path)
    exec(compile("\n" * (line - 1) + code, name, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("words", SCRIPTS)
def test_script(words, capsys, monkeypatch):
    """It is there, and takes these options with these values."""
    script = ROOT / words[0]
    assert script.is_file(), f"There is no {words[0]}."
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(script.parent)
    # Values are checked on the way to --help, unknown options are not.
    monkeypatch.setattr(sys, "argv", [*words, "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr()
    assert stop.value.code in (0, None), printed.err
    assert options_of(words) <= options_in(printed.out)


@pytest.mark.parametrize("words", PYTEST)
def test_pytest_command(words):
    """Its options are those of pytest and of the plugins that the test extra brings."""
    command = [sys.executable, "-m", "pytest", *words, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert options_of(words) <= options_in(done.stdout)


@pytest.mark.parametrize("words", PIP)
def test_pip_command(words):
    """Extras are those of pyproject.toml, files of constraints are there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.findall(r"\.\[(\w+)\]", " ".join(words))
    assert set(extras) <= set(project["optional-dependencies"])
    assert options_of(words) <= {"-c"}
    for option, value in itertools.pairwise(words):
        assert option != "-c" or (ROOT / value).is_file(), f"There is no {value}."


def test_files_that_are_named():
    for name, line, text in find_quoted():
        for word in text.split():
            if word.startswith(("examples/", "tests/", ".ci/")):
                assert (ROOT / word).exists(), f"{name}:{line} names {word}, which is not there."


def test_something_is_found():
    """A change of style must not leave the tests above with nothing to look at."""
    assert len(PYTHON) >= 3
    assert len(SCRIPTS) >= 8
    assert len(PYTEST) >= 1
    assert len(PIP) >= 4
