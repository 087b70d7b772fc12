"""Takes the README's picture of the live page: the demonstration, seen by headless Chromium.

python docs/take_picture.py     writes docs/images/page.png
"""

import shutil
import sys
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from demo import service, train
from digits import load, train_teacher

PICTURE = Path(__file__).parent / "images" / "page.png"


def main() -> None:
    """Trains the demonstration's two runs and photographs the second."""
    torch.set_num_threads(1)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("chromium is not installed")
    digits = load()
    with service() as address, sync_playwright() as playwright:
        train(digits, train_teacher(digits), address)
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1360, "height": 1160})
        page.goto(f"{address}/#run=diverging")
        page.wait_for_selector(".js-plotly-plot .scatterlayer .trace")
        page.wait_for_timeout(2000)  # the last chart is drawn a moment after the first
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
