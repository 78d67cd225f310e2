"""The page in a real browser: silent console, slider, deep links, both colour schemes, narrow screens, paper."""

from pathlib import Path

import pytest
from report_browser import Browser

STEPS = "[...document.querySelectorAll('[data-model=alice] [data-step]')]"
SHOWN = f"{STEPS}.filter(step => step.checkVisibility()).map(step => step.dataset.step).join()"
SLIDER = "document.querySelector('[data-model=alice] input')"

CONTRAST = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const linear = (part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(part => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = (element) => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (colour !== 'rgba(0, 0, 0, 0)') return colour;
    }
  };
  const written = (element) => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  const texts = [...document.querySelectorAll('body *')].filter(e => written(e) && e.checkVisibility());
  const ratios = texts.map(element => {
    const style = getComputedStyle(element);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    const [dark, bright] = [light(ink), light(paper(element))].sort((a, b) => a - b);
    return [(bright + 0.05) / (dark + 0.05), element.tagName + ' ' + element.textContent.trim().slice(0, 30)];
  });
  ratios.sort((a, b) => a[0] - b[0]);
  return [texts.length, ...ratios[0]];
})()"""
"""How many texts are shown, and the least contrast with the text that has it (WCAG 2.2, relative luminance)."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_silently_and_its_text_has_contrast(browser: Browser, full_report: Path, scheme: str) -> None:
    browser.open(full_report, scheme=scheme)
    count, ratio, where = browser.run(CONTRAST)
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    assert browser.messages == []
    assert browser.requests[-1:] == [full_report.as_uri()]
    assert {"light": "rgb(251, 250, 248)", "dark": "rgb(23, 24, 27)"}[scheme] == paper
    assert count > 300
    assert ratio >= 4.5, where


@pytest.mark.parametrize("width", [380, 800, 1600])
def test_the_page_never_scrolls_sideways(browser: Browser, full_report: Path, width: int) -> None:
    browser.open(full_report, width=width)
    assert browser.run("innerWidth") == width
    assert browser.run("document.documentElement.scrollWidth") <= width


def test_the_slider_is_moved_by_keys_and_says_the_step(browser: Browser, full_report: Path) -> None:
    browser.open(full_report)
    assert browser.run(SHOWN) == "48"
    browser.run(f"{SLIDER}.focus()")
    browser.press("ArrowLeft", 37)
    assert browser.run(SHOWN) == "44"
    assert browser.run("location.hash") == "#model=alice&step=44"
    said = browser.run("document.querySelector('[data-model=alice] output').textContent")
    assert said.startswith("step 44: 2.")
    assert browser.run(f"{SLIDER}.getAttribute('aria-valuetext')") == said
    browser.press("Home", 36)
    assert browser.run(SHOWN) == "4"
    assert browser.messages == []


def test_an_address_opens_a_model_at_a_step(browser: Browser, full_report: Path) -> None:
    browser.open(full_report, "#model=alice&step=12")
    assert browser.run(SHOWN) == "12"
    assert browser.run(f"{SLIDER}.value") == "2"
    browser.run("new Promise(done => { onhashchange = done; location.hash = '#model=alice&step=20' }).then(() => 0)")
    assert browser.run(SHOWN) == "20"
    browser.open(full_report, "#model=nobody&step=12")
    assert browser.run(SHOWN) == "48"
    assert browser.messages == []


def test_everything_has_a_name_for_screen_readers(browser: Browser, full_report: Path) -> None:
    browser.open(full_report)
    assert "Training step of alice" in browser.run(f"{SLIDER}.labels[0].textContent")
    for kind, least in (("main section", 10), ("svg[role=img]", 9)):
        label = "document.getElementById(e.getAttribute('aria-labelledby'))"
        named = f"[...document.querySelectorAll('{kind}')].map(e => {label})"
        assert browser.run(f"{named}.length") >= least
        assert browser.run(f"{named}.every(name => name && name.textContent.trim())")
    tables = "[...document.querySelectorAll('table')]"
    assert browser.run(f"{tables}.length") >= 8
    assert browser.run(f"{tables}.every(t => t.caption && t.querySelector('thead th[scope=col]'))")


def test_without_scripts_every_step_can_be_opened(browser: Browser, full_report: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(full_report)
        assert browser.run("[...document.querySelectorAll('.slider')].every(s => !s.checkVisibility())")
        summaries = browser.run("[...document.querySelectorAll('summary')].filter(s => s.checkVisibility()).length")
        assert summaries == 24 + 2 + 2 + 1  # sampled steps, blind tests, reasons, the table of all measurements
        assert browser.run("document.querySelectorAll('details[open]').length") == 2
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_the_blind_test_counts_what_the_reader_guesses(browser: Browser, full_report: Path) -> None:
    browser.open(full_report)
    browser.run("document.querySelector('.blind').open = true")
    questions = "[...document.querySelector('.blind').querySelectorAll('fieldset')]"
    score = "document.querySelector('.blind .score').textContent"
    truths = browser.run(f"{questions}.map(q => q.dataset.truth)")
    assert sorted(truths) == ["generated"] * 5 + ["real"] * 5
    assert browser.run("[...document.querySelectorAll('.truth')].every(t => !t.checkVisibility())")
    browser.run(f"{questions}[0].querySelector('[value={truths[0]}]').focus()")
    browser.press(" ", 32)
    assert browser.run(score) == "1 of 1 right."
    browser.run(f"{questions}[1].querySelector('button:not([value=' + {questions}[1].dataset.truth + '])').click()")
    assert browser.run(score) == "1 of 2 right."
    assert browser.run(f"{questions}[1].querySelector('.truth summary').textContent") == "Wrong."
    browser.run(f"{questions}[1].querySelector('button').click()")  # an answer stands
    for number in range(2, 10):
        browser.run(
            f"{questions}[{number}].querySelector('[value=' + {questions}[{number}].dataset.truth + ']').click()"
        )
    assert browser.run(score).startswith("9 of 10 right: you can tell them apart (who guesses gets 9 or more")
    assert browser.messages == []


def test_paper_has_no_slider_and_black_ink(browser: Browser, full_report: Path) -> None:
    browser.open(full_report, scheme="dark")
    browser.call(
        "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    assert browser.run("[...document.querySelectorAll('input')].every(s => !s.checkVisibility())")
    assert browser.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    browser.call("Emulation.setEmulatedMedia", media="")


def test_planted_scripts_are_inert(browser: Browser, evil_report: Path) -> None:
    browser.open(evil_report)
    assert browser.run("String(window.owned)") == "undefined"
    assert browser.run("document.querySelectorAll('script').length") == 1
    assert browser.run("document.images.length") == 0
    assert browser.run("document.body.textContent.includes('<script>window.owned=1</script>')")
    assert browser.messages == []
