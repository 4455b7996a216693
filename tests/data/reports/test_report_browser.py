"""The report in a real browser, without a network: it shows all, and nothing else happens."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from reportpages import browse, make_hostile, read_html

from mmbind_data.reports.bound_report import report
from mmbind_data.store.bound import open_bound


def test_a_browser_shows_it_offline_and_has_no_complaint(
    bound_store: Path, chromium: str, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    report(open_bound(bound_store), page)
    shown = browse(chromium, page, "--dump-dom")
    assert "CONSOLE" not in shown.stderr
    # the browser's own reading of the page holds what ours does
    dom = shown.stdout
    own = read_html(page)
    for tag in ("svg", "table", "article", "path", "rect", "section"):
        assert len(re.findall(rf"<{tag}[ >]", dom)) == len(own.all(tag)), tag
    assert "Pairing confusion" in dom
    browse(chromium, page, f"--screenshot={tmp_path / 'shot.png'}", "--window-size=1000,9000")
    with Image.open(tmp_path / "shot.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(9000, 1000, 3)
    assert pixels[0, 0].min() > 240  # the paper of the light scheme
    colours = {tuple(one) for one in pixels[::7, ::7].reshape(-1, 3).tolist()}
    assert len(colours) > 30
    for name, colour in (("right", (0x1F, 0x6F, 0xA8)), ("wrong", (0xC9, 0x62, 0x2F)),
                         ("line", (0x00, 0x72, 0xB2))):  # fmt: skip
        assert (np.abs(pixels.astype(int) - colour).sum(axis=2) < 12).sum() > 20, name
    inked = (pixels.min(axis=2) < 128).any(axis=1)
    assert inked[:2000].mean() > 0.2
    # the browser does complain where there is reason to
    page.write_text(page.read_text().replace("<main>", '<main><script src="https://x.org/a.js">'
                                             "</script>"))  # fmt: skip
    assert "CONSOLE" in browse(chromium, page, "--dump-dom").stderr


def test_a_browser_runs_nothing_that_the_data_says(chromium: str, tmp_path: Path) -> None:
    hostile = make_hostile(tmp_path)
    page = tmp_path / "report.html"
    report(open_bound(hostile), page)
    shown = browse(chromium, page, "--dump-dom")
    assert "CONSOLE" not in shown.stderr
    assert "<script" not in shown.stdout
    assert "<img" not in shown.stdout
    assert "&lt;script&gt;alert(1)" in shown.stdout


def test_the_reports_of_bundles_in_a_browser(
    index_bundle: Path, contained_bundle: Path, chromium: str, tmp_path: Path
) -> None:
    """As it lies in a bundle: no complaint, no script, and signals only where they may be seen."""
    for bundle, drawn in ((index_bundle, False), (contained_bundle, True)):
        page = tmp_path / bundle.parent.name / "report.html"
        page.parent.mkdir()
        shutil.copyfile(bundle / "report.html", page)
        shown = browse(chromium, page, "--dump-dom")
        assert "CONSOLE" not in shown.stderr
        assert "Pairing confusion" in shown.stdout
        assert ("<article" in shown.stdout) is drawn
        assert 'class="signal' in shown.stdout or not drawn
        assert "<script" not in shown.stdout
