"""The page in a real browser, with the keyboard, on a phone's width, in the dark.

LEA_PICTURES=FOLDER keeps what was seen.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.serving.browser import CHROMIUM, Page, open_page
from tests.serving.running import running

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]
ANSWER = "document.querySelector('#log li small')?.textContent.includes('tokens in')"
DROP = """(async () => {
  const canvas = new OffscreenCanvas(60, 40);
  canvas.getContext("2d").fillRect(5, 5, 20, 20);
  const transfer = new DataTransfer();
  transfer.items.add(new File([await canvas.convertToBlob()], "dropped.png", {type: "image/png"}));
  document.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, cancelable: true}));
})()"""
VIEWS = {
    "wide": (1280, 900, False),
    "dark": (1280, 900, True),
    "phone": (360, 740, False),
    "phone_dark": (360, 740, True),
}


def test_a_photo_is_asked_about_with_the_keyboard_alone(champion, tmp_path):
    photo = tmp_path / "dish.png"
    Image.linear_gradient("L").resize((300, 200)).convert("RGB").save(photo)
    with running() as server:
        asyncio.run(_try(server.url, photo, tmp_path))


async def _try(url: str, photo: Path, tmp_path: Path) -> None:
    folder = Path(os.environ.get("LEA_PICTURES", tmp_path))
    async with open_page(f"{url}/", tmp_path / "browser") as page:
        await page.until("document.querySelector('#who')?.textContent.includes('version 1 answers')")
        await page.choose_file("#file", photo)
        await page.until("!document.querySelector('#cue').hidden")
        assert await page.run("document.querySelector('#view').ariaLabel.includes('dish.png')")
        await _overlay_changes_the_picture(page)
        await _ask(page)
        assert await page.run("document.querySelector('#log li small').textContent.startsWith('lea/1')")
        for name, (width, height, dark) in VIEWS.items():
            await page.look(width, height, dark)
            await page.picture(folder / f"page_{name}.png")
            assert await page.run("document.documentElement.scrollWidth <= innerWidth"), name
        await page.run("document.querySelector('#forget').click()")
        assert await page.run("document.querySelector('#view').hidden")
        assert page.errors == []


async def _overlay_changes_the_picture(page: Page) -> None:
    pixels = "document.querySelector('#view').toDataURL()"
    slide = "(v => {const o = document.querySelector('#opacity'); o.value = v; o.dispatchEvent(new Event('input'))})"
    await page.run(f"{slide}(0)")
    bare = await page.run(pixels)
    await page.run(f"{slide}(60)")
    assert await page.run(pixels) != bare


async def _ask(page: Page) -> None:
    """From the photo by Tab to the question; Shift+Enter is a line, Enter asks."""
    await page.run("document.querySelector('#file').focus()")
    for _ in range(6):
        await page.press("Tab", 9)
        if await page.run("document.activeElement.id === 'question'"):
            break
    assert await page.run("document.activeElement.id") == "question"
    await page.do("Input.insertText", text="How to make")
    await page.press("Enter", 13, "\r", modifiers=8)
    await page.do("Input.insertText", text="this dish?")
    await page.press("Enter", 13, "\r")
    await page.until(ANSWER)
    assert await page.run("document.querySelector('#log q').textContent") == "How to make\nthis dish?"


def test_a_photo_is_dropped_and_a_key_is_asked_for(champion, tmp_path):
    with running(key="a secret") as server:
        asyncio.run(_try_with_key(server.url, tmp_path))


async def _try_with_key(url: str, tmp_path: Path) -> None:
    async with open_page(f"{url}/", tmp_path / "browser") as page:
        await page.until("!document.querySelector('#locked').hidden")
        await page.until("document.querySelector('#who').textContent.includes('a key is needed')")
        await page.run("document.querySelector('#key').focus()")
        await page.do("Input.insertText", text="a secret")
        await page.press("Tab", 9)
        await page.until("document.querySelector('#who').textContent.includes('version 1 answers')")
        await page.run(DROP)
        await page.until("!document.querySelector('#cue').hidden")
        assert await page.run("document.querySelector('#view').ariaLabel.includes('dropped.png')")
        await page.run("document.querySelector('#question').value = 'What is it?'")
        await page.run("document.querySelector('#ask').click()")
        await page.until(ANSWER)
        await page.run("document.querySelector('#key').value = 'another'")
        await page.run("document.querySelector('#ask').click()")
        await page.until("!document.querySelector('#trouble').hidden")
        assert await page.run("document.querySelectorAll('#log li').length") == 1
