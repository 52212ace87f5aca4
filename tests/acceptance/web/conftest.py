"""The page in a real browser: `facet web` on the demonstration's archive, and the Chromium of the system."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from playwright.sync_api import sync_playwright

from tests.databases import copy_home
from worker.storage.home import make_home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

FACET = str(Path(sys.executable).parent / "facet")
CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")  # the first costs a quarter
AXE = Path(__file__).with_name("axe.min.js")
SERIOUS = ("serious", "critical")
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
SCREENSHOTS = os.environ.get("FACET_TEST_SCREENSHOTS")
"""Folder for pictures of every page that a test visits; unset: none are made."""


@dataclass
class Site:
    """A running page."""

    home: Path
    archive: Path
    link: str
    """With the token of the first browser."""

    @property
    def base(self) -> str:
        return self.link.partition("/?")[0]

    def facet(self, *words: str) -> str:
        """Run another command on the same archive; returns what it prints."""
        done = subprocess.run([FACET, *words], env=environment(self.home), check=True, capture_output=True, text=True)
        return done.stdout


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a command on an archive of its own; its database outlives the command."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FACET_")}
    return inherited | {"FACET_HOME": str(home), "FACET_DATABASE_KEEP_SECONDS": "0", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Start a Chromium, or skip; while it runs, no test of this process may start an event loop."""
    path = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(
            f"no browser on this machine: none of {', '.join(CHROMIUM)} is found; on Debian: "
            "apt-get install chromium-headless-shell"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def analysed_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the demonstration's archive, analysed: ``archive``, ``home``; copy the home to edit.

    Parallel processes share it: the first one makes it.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "analysed-demo"
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            make_analysed_demo(folder)
            (folder / "complete").touch()
    return folder


def make_analysed_demo(folder: Path) -> None:
    """Make the demonstration's archive and analyse it."""
    subprocess.run([sys.executable, "-m", "worker.cli.demo", str(folder)], check=True, capture_output=True)
    make_home(folder / "home")
    done = subprocess.run(
        [FACET, "analyze", str(folder / "archive")], env=environment(folder / "home"), check=False, capture_output=True
    )
    assert done.returncode == 1, done.stderr  # two of its files are rejected


@contextmanager
def served(home: Path, **settings: str) -> Iterator[str]:
    """Run `facet web` on a free port; yields the address that it prints."""
    server = subprocess.Popen(
        [FACET, "web", "--port", "0"],
        env=environment(home) | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        line = server.stdout.readline()
        link = re.search(r"http://\S+", line)
        assert link, line + server.stdout.read()
        yield link[0]
    finally:
        server.terminate()
        server.communicate(timeout=30)


@pytest.fixture(scope="module")
def home(analysed_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the analysed archive, which the tests of a module share."""
    home = tmp_path_factory.mktemp("site") / "home"
    copy_home(analysed_demo / "home", home)
    return home


@pytest.fixture(scope="module")
def site(analysed_demo: Path, home: Path, chromium: Browser) -> Iterator[Site]:
    """Serve a copy of the analysed archive."""
    with served(home) as link:
        yield Site(home, analysed_demo / "archive", link)


@pytest.fixture(scope="module")
def signed_in(site: Site, chromium: Browser) -> dict[str, object]:
    """Open the printed link once; returns the cookies, for contexts of all sizes and colours."""
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(site.link)
        assert "token" not in page.url
        return context.storage_state()


@pytest.fixture
def open_page(site: Site, chromium: Browser, signed_in: dict[str, object]):
    """Return a function that opens a path in a window of its own, and fails on errors of scripts or of the policy."""
    contexts, problems = [], []

    def opened(path: str = "/people", *, narrow: bool = False, dark: bool = False, **options: object) -> Page:
        context = chromium.new_context(
            viewport=NARROW if narrow else WIDE,
            color_scheme="dark" if dark else "light",
            storage_state=signed_in,
            base_url=site.base,
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("dialog", lambda dialog: (problems.append(f"a dialog opened: {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: problems.append(line.text) if is_problem(line) else None)
        page.goto(path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def is_problem(line) -> bool:
    """Whether a line of the browser's console is an error of ours; a picture that is gone is drawn instead."""
    return line.type == "error" and "404" not in line.text


def violations(page: Page) -> list[str]:
    """Return the serious violations of accessibility that axe finds on a page, each with its first element."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})")
    return [
        f"{one['id']}: {one['nodes'][0]['html']} ({one['nodes'][0]['failureSummary']})"
        for one in found["violations"]
        if one["impact"] in SERIOUS
    ]


def picture(page: Page, name: str) -> None:
    """Keep a picture of a page where FACET_TEST_SCREENSHOTS asks for it."""
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)


@pytest.fixture
def check_page(open_page):
    """Return a function that opens a path at both widths in light and dark, and asserts that axe finds nothing.

    With ``act``, it looks at the page after that.
    """

    def checked(path: str, name: str, act: Callable[[Page], object] | None = None) -> None:
        for narrow in (False, True):
            for dark in (False, True):
                page = open_page(path, narrow=narrow, dark=dark)
                page.wait_for_load_state("networkidle")
                if act is not None:
                    act(page)
                picture(page, f"{name}-{390 if narrow else 1280}-{'dark' if dark else 'light'}")
                assert violations(page) == [], (path, narrow, dark)
                overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
                assert overflow <= 0, (path, narrow, overflow)

    return checked
