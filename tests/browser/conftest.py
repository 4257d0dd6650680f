"""The built documentation, a server for it, `keras-fcn serve`, and Chromium."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from browser.visits import visitor

ROOT = Path(__file__).parents[2]
PATIENCE = 60_000  # Milliseconds; other tests may keep the machine busy.
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A camera that everybody has.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder that the environment variable SITE names, or else one built for these tests."""
    if "SITE" in os.environ:
        folder = Path(os.environ["SITE"])
        assert (folder / "index.html").is_file(), f"SITE={folder} must be a built site."
        return folder
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def root_url(site):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Handler, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    assert path, "These tests need Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def new_tab(chromium):
    """Makes a tab whose system prefers this palette, in a context of its own."""

    def make(palette="light"):
        context = chromium.new_context(
            color_scheme=palette,
            viewport={"width": 1280, "height": 900},
            service_workers="block",
        )
        context.set_default_timeout(PATIENCE)
        return context.new_page()

    return make


@pytest.fixture(scope="module")
def tab(new_tab, root_url):
    """Opens a page of the site."""
    page = new_tab()

    def open_page(page_url):
        page.goto(root_url + page_url)
        return page

    yield open_page
    page.context.close()


@pytest.fixture(scope="module")
def visit(new_tab, root_url):
    """Opens a page of the site once, for all tests of it."""
    page = new_tab()
    yield visitor(page, root_url)
    page.context.close()
