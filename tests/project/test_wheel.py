"""What is shipped, read from artefacts that are built here from the checkout."""

from __future__ import annotations

import email
import email.message
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import whisperr
from support.deadlines import generous

ROOT = Path(__file__).resolve().parents[2]
INFO = f"whisperr-{whisperr.__version__}.dist-info"


def build(kind: str, source: Path, target: Path) -> Path:
    """The sdist or wheel that the build backend makes from `source`."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)],
        cwd=source,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=generous(50),
    )
    assert done.returncode == 0, done.stdout
    (artefact,) = target.iterdir()
    return artefact


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the checkout."""
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of the checkout."""
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


def contents(wheel: Path) -> dict[str, bytes]:
    """File name -> bytes of everything in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def unpack(sdist: Path, target: Path) -> Path:
    """The folder that the sdist holds, below `target`. It may hold plain files only."""
    with tarfile.open(sdist) as archive:
        for member in archive:
            data = archive.extractfile(member) if member.isreg() else None
            assert data is not None, f"{member.name} is no plain file"
            path = target / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.read())
    (folder,) = target.iterdir()
    return folder


def shipped() -> dict[str, bytes]:
    """What the checkout says the package holds, by the name it shall have in the wheel."""
    files = {}
    for folder, home in (("whisperr", "whisperr"), ("integrations", "whisperr/integrations")):
        top = ROOT / folder
        for path in top.rglob("*"):
            below = path.relative_to(top)
            if folder == "whisperr" and below.parts[0] == "integrations":
                continue  # the link of the checkout
            if path.is_file() and "__pycache__" not in below.parts:
                files[f"{home}/{below.as_posix()}"] = path.read_bytes()
    return files


def about(wheel: Path) -> email.message.Message:
    """The metadata of the wheel."""
    return email.message_from_bytes(contents(wheel)[f"{INFO}/METADATA"])


def test_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Each file of whisperr/ and integrations/ is shipped, unchanged; no other file is."""
    files = contents(wheel)
    code = {name: data for name, data in files.items() if not name.startswith(INFO + "/")}
    assert sorted(code) == sorted(shipped())
    assert code == shipped()


def test_top_level(wheel: Path) -> None:
    """Only `whisperr` reaches site-packages: no `integrations`, no `tests`."""
    assert {name.partition("/")[0] for name in contents(wheel)} == {"whisperr", INFO}


def test_parts_that_must_not_go_missing(wheel: Path) -> None:
    """The type marker, both packages, the licence."""
    assert contents(wheel).keys() >= {
        "whisperr/__init__.py",
        "whisperr/py.typed",
        "whisperr/integrations/__init__.py",
        "whisperr/integrations/gunicorn.py",
        "whisperr/integrations/django/management/commands/whisperr_test.py",
        f"{INFO}/licenses/LICENSE",
    }


def test_wheel_metadata(wheel: Path) -> None:
    """Version, Pythons, licence, requirements and extras are the promised ones."""
    said = about(wheel)
    assert wheel.name == f"whisperr-{whisperr.__version__}-py3-none-any.whl"
    assert said["Version"] == whisperr.__version__
    assert said["Requires-Python"] == ">=3.8"
    assert said["License-Expression"] == "MIT"
    extras = said.get_all("Provides-Extra", [])
    assert sorted(extras) == [
        "amqp",
        "celery",
        "django",
        "gunicorn",
        "opentelemetry",
        "orjson",
        "plan",
        "prometheus",
        "redis",
        "relay",
        "rq",
        "sandbox",
    ]
    needs = [line for line in said.get_all("Requires-Dist", []) if "extra ==" not in line]
    names = {re.split(r"[^\w-]", line)[0] for line in needs}
    assert names == {"msgspec", "orjson", "requests", "urllib3"}


def test_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    """Who builds from the sdist, without the link of the checkout, gets the same files."""
    unpacked = unpack(sdist, tmp_path / "unpacked")
    assert not (unpacked / "whisperr" / "integrations").exists()
    again = build("wheel", unpacked, tmp_path / "built")
    assert again.name == wheel.name
    assert contents(again) == contents(wheel)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the link is of the checkout only")
def test_the_checkout_has_the_link() -> None:
    """`whisperr/integrations` is a relative link, for editable installs and type checkers."""
    link = ROOT / "whisperr" / "integrations"
    assert link.is_symlink()
    assert os.readlink(str(link)) == os.path.join("..", "integrations")


@pytest.mark.skipif("TOX_ENV_NAME" not in os.environ, reason="tox installs the wheel")
def test_the_installed_wheel_is_tested() -> None:
    """Under tox the package under test is the installed one, not the checkout."""
    assert "site-packages" in whisperr.__file__
    assert metadata.version("whisperr") == whisperr.__version__


@pytest.mark.skipif("TOX_ENV_NAME" not in os.environ, reason="tox installs the wheel")
def test_no_stray_package_is_installed(tmp_path: Path) -> None:
    """`integrations` is not importable by its bare name; `whisperr.integrations` is."""
    code = (
        "import importlib.util as u; "
        "print(u.find_spec('integrations'), u.find_spec('whisperr.integrations').origin)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        timeout=generous(30),
        check=True,
    )
    bare, shipped_at = done.stdout.split()
    assert bare == "None"
    assert "site-packages" in shipped_at
