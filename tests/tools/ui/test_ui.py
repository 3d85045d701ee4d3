"""The status page: what it says, to whom, and in a browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from dataclasses import replace

import httpx
import pytest

from infra.evidence.checklist import Verdict
from tools.ui.page import render
from tools.ui.server import Watcher, serving
from tools.ui.status import Model, Release, Status

GOOD = Verdict(item="pods v1", passed=True, shown="2 of 2 ready", bound="all ready")
BAD = Verdict(item="golden v2", passed=False, shown="differ by 0.5", bound="≤ 1e-06", remedy="look at the model")
V1 = Release(name="v1", reference="models:/fraud/1", weight=90, shadow=False, requests_per_second=12.34,
             error_ratio=0.0, p99_seconds=0.025)  # fmt: skip
V2 = Release(name="v2", reference="models:/fraud@next", weight=10, shadow=False, requests_per_second=None,
             error_ratio=None, p99_seconds=None)  # fmt: skip
TRAFFIC = {"v1": 90, "v2": 10}
FRAUD = Model(
    name="fraud", endpoint="http://127.0.0.1:8080/models/fraud", runtime="deployment",
    traffic={"file": TRAFFIC, "state": TRAFFIC, "cluster": TRAFFIC}, rollout="", releases=[V1, V2],
    before=[GOOD], after=[GOOD],
)  # fmt: skip


def status(**changed):
    return Status(stack="local", at="2026-01-01T00:00:00+00:00", models=[replace(FRAUD, **changed)])


@pytest.fixture
def page():
    """Serve a status; ask with a client."""
    running = []

    def open_(shown):
        watcher = Watcher(lambda: shown, 3600)
        context = serving(watcher, 0)
        server = context.__enter__()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        running.append((context, server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield open_
    for context, server, thread in running:
        server.shutdown()
        thread.join()
        context.__exit__(None, None, None)


def test_it_shows_releases_with_their_share_and_figures():
    text = render(status())
    for said in ("fraud", "models:/fraud@next", "90%", "12.3", "≤ 25 ms", "pods v1", "2 of 2 ready", ">healthy<"):
        assert said in text
    assert text.count("–") == 3, "what was not measured is not shown as 0"


def test_it_tells_what_is_wrong_and_what_to_do():
    text = render(status(after=[GOOD, BAD], rollout="the rollout of v2", traffic=FRAUD.traffic | {"cluster": None}))
    for said in ("not healthy", "FAIL", "look at the model", "the rollout of v2", "Traffic differs", "cluster nothing"):
        assert said in text


def test_a_model_that_was_not_looked_at_is_not_called_healthy():
    assert "not healthy" in render(status(after=[]))


def test_names_and_errors_are_text_and_never_markup():
    nasty = "<script>alert(1)</script>"
    text = render(
        status(name=nasty, endpoint=nasty, problem=nasty, rollout=nasty, releases=[replace(V1, reference=nasty)])
    )
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 5


def test_pages_have_their_types_and_forbid_everything_else(page):
    url = page(status())
    for path, media_type in (("/", "text/html"), ("/style.css", "text/css"), ("/status.json", "application/json")):
        answer = httpx.get(url + path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(media_type)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert httpx.get(f"{url}/status.json").json()["models"][0]["traffic"]["file"] == TRAFFIC
    assert httpx.get(f"{url}/etc/passwd").status_code == 404
    assert httpx.post(url).status_code == 501, "it reads only"


def test_another_name_for_this_machine_is_refused(page):
    assert httpx.get(page(status()), headers={"Host": "evil.example:80"}).status_code == 403


def test_the_watcher_looks_again_and_ends():
    looks = iter(range(1000))
    seen = threading.Semaphore(0)

    def gather():
        seen.release()
        return replace(status(), at=str(next(looks)))

    watcher = Watcher(gather, 0.01)
    watcher.start()
    for _ in range(3):
        assert seen.acquire(timeout=20)
    watcher.stop()
    assert int(watcher.status.at) >= 1


@pytest.fixture(scope="module")
def chromium():
    """A real browser; Debian's, installed where there is none."""
    if shutil.which("chromium") is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            pytest.fail(
                "no chromium → the page is looked at in a browser → install the package chromium", pytrace=False
            )
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", *command], check=True, capture_output=True, env=quiet)
    return shutil.which("chromium")


@pytest.mark.slow
def test_a_browser_shows_it_with_its_style(page, chromium, tmp_path):
    url = page(status(after=[GOOD, BAD]))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    picture = tmp_path / "page.png"
    shot = [chromium, *options, "--window-size=1100,700", f"--screenshot={picture}", url]
    subprocess.run(shot, check=True, capture_output=True, timeout=120)
    assert picture.stat().st_size > 10_000, "an empty page is a few hundred bytes"
    done = subprocess.run(
        [chromium, *options, "--dump-dom", url], check=True, capture_output=True, text=True, timeout=120
    )
    assert "models:/fraud@next" in done.stdout
    assert 'class="bad">FAIL' in done.stdout
    assert "Refused" not in done.stderr, "its own policy lets its style in"
