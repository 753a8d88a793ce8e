"""What the tests of pages share: how they read, and how a headless Chromium shows them."""

import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Pages:
    """A reader of pages, with a browser where there is one."""

    def text(self, html: str) -> str:
        """What is read, without scripts and marks."""
        plain = re.sub(r"(?s)<(script|style)\b.*?</\1>", " ", html)
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", plain)).split())

    def requests(self, html: str) -> list[str]:
        """What a browser would fetch."""
        marks = re.sub(r"(?s)(<script\b[^>]*>).*?</script>", r"\1", html)
        links = re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)[^"']+["']""", marks)
        return links + re.findall("@import", html)

    def opened(self, html: str, folder: Path) -> tuple[str, list[str]]:
        """The page as Chromium has it when its scripts have run, and what its console said; that
        Bokeh is done is no news. Skips the test where there is no Chromium."""
        if CHROMIUM is None:
            pytest.skip("no chromium")
        path = folder / "page.html"
        path.write_text(html)
        done = subprocess.run(
            [
                *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"),
                *("--enable-logging=stderr", "--v=0", f"--user-data-dir={folder}/profile"),
                *("--window-size=1280,2000", "--virtual-time-budget=10000"),
                *("--dump-dom", path.as_uri()),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        return done.stdout, [line for line in said if "[bokeh" not in line or "idle" not in line]

    def pressed(self, html: str, script: str, folder: Path) -> tuple[str, list[str]]:
        """`opened` after what a reader does, done by a script behind the page's own once it is
        drawn: `models` are those of the plots, and it tells by setting `document.title`."""
        press = f"""<script>setTimeout(() => {{
          const models = [...Bokeh.documents[0].all_models];
          {script}
        }}, 3000)</script>"""
        before, end, after = html.rpartition("</body>")
        return self.opened(before + press + end + after, folder)


@pytest.fixture(scope="session")
def pages() -> Pages:
    return Pages()
