"""The page of a report in a browser."""

from pathlib import Path

import pytest

from ausam_mm.report.command import compare, write_page

from .test_report import analyzed, trained  # noqa: F401
from .test_study import fill, write

CHROMIUM = Path('/usr/bin/chromium')
FLAGS = ('--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update',
         '--disable-sync')
WIDTHS = (360, 768, 1280)
PLOTS = "[...document.querySelectorAll('.plot')]"
THEME = 'document.documentElement.dataset.theme'


@pytest.fixture(scope='module')
def browser():
    api = pytest.importorskip(
        'playwright.sync_api', reason='playwright is not installed')
    if not CHROMIUM.exists():
        pytest.skip(f'there is no {CHROMIUM}')
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope='module')
def written(trained, tmp_path_factory):  # noqa: F811
    """A page of all kinds: trainings, a study, pictures."""
    folder = tmp_path_factory.mktemp('written')
    study = write(folder, cases=(
        'seeds', "cases = {'easy': {}, 'hard': {}}\nseeds"))
    fill(study, {(case, setting, seed): 50. + seed for case in (
        'easy', 'hard') for setting in ('SGD', 'SAM') for seed in (0, 1)})
    write_page(compare([trained, study.path]), [
        analyzed(folder / 'analysis', size=(1500, 200))],
        folder / 'page.html', 'COMMAND')
    return folder / 'page.html'


@pytest.fixture(scope='module')
def loaded(browser, written):
    """The page on a phone, with what it asked for and complained of."""
    tab = browser.new_page(viewport=dict(width=WIDTHS[0], height=800),
                           color_scheme='dark')
    tab.seen, tab.complaints = [], []
    tab.on('request', lambda request: tab.seen.append(request.url))
    tab.on('console', lambda message: tab.complaints.append(message.text)
           if message.type in ('error', 'warning') else None)
    tab.on('pageerror', lambda error: tab.complaints.append(str(error)))
    tab.goto(written.as_uri())
    tab.wait_for_selector('html[data-ready]', timeout=60_000)
    return tab


@pytest.fixture
def tab(loaded):
    """The same; loading it takes seconds."""
    yield loaded
    assert loaded.complaints == []


def wait_until(tab, condition):
    """Plotly redraws a moment later.

    Playwright's own waiting takes eval, which the page forbids.
    """
    for _ in range(200):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(50)
    raise AssertionError(condition)


@pytest.mark.slow
@pytest.mark.parametrize('width', WIDTHS)
def test_it_fits_any_width_and_asks_for_nothing(tab, written, width):
    tab.set_viewport_size(dict(width=width, height=800))
    wait_until(tab, f'{PLOTS}.every((plot) => plot.querySelector(".main-svg")'
               '.clientWidth === plot.clientWidth)')
    assert [url for url in tab.seen if not url.startswith('data:')] == [
        written.as_uri()]
    assert tab.evaluate('document.documentElement.scrollWidth') == width
    plots = tab.evaluate(
        f'{PLOTS}.map((plot) => [plot.data.filter((trace) => trace.y.length)'
        ".length, plot.querySelectorAll('.trace').length, plot.scrollWidth])")
    assert len(plots) >= 7
    for lines, drawn, wide in plots:
        assert lines and drawn == lines and wide <= width
    assert tab.evaluate(
        '[...document.images].every((image) => image.naturalWidth > 0 && '
        'image.alt)')


@pytest.mark.slow
def test_axes_switch_by_keyboard(tab):
    state = ("(() => { const plot = document.querySelector('.plot.curves'); "
             "return [plot.layout.xaxis.title.text, plot.data[0].x.at(-1)]; "
             '})()')
    found = [tab.evaluate(state)]
    tab.focus('input[name=axis-0][value=epochs]')
    for _ in range(3):
        tab.keyboard.press('ArrowRight')
        found.append(tab.evaluate(state))
    assert [title for title, _ in found] == [
        'epochs', 'seconds', 'samples back-propagated', 'SGD steps']
    # AUSAM: three epochs of 24 samples, at a cost of 2, 1 and 1.
    assert found[0][1] == 3 and found[1][1] > 0
    assert found[2][1] == pytest.approx(96, abs=4)
    assert found[3][1] == pytest.approx(12, abs=1)
    # The study's has an axis of its own.
    assert tab.evaluate("document.querySelector('input[name=axis-1]:checked')"
                        '.value') == 'epochs'


@pytest.mark.slow
def test_theme_and_lines_switch(tab):
    state = ("[document.querySelector('.plot').layout.font.color, "
             'getComputedStyle(document.body).backgroundColor]')
    assert tab.evaluate(THEME) == 'dark'  # as the system has it
    dark = tab.evaluate(state)
    tab.click('#theme')
    light = tab.evaluate(state)
    assert light[0] != dark[0] and light[1] == 'rgb(255, 255, 255)' != dark[1]
    tab.click('#theme')
    assert tab.evaluate(state) == dark
    for scheme in ('light', 'dark'):  # the system's changes
        tab.emulate_media(color_scheme=scheme)
        wait_until(tab, f"{THEME} === '{scheme}'")
    count = "document.querySelector('.plot.curves').data.length"
    before = tab.evaluate(count)
    button = tab.locator('.legend button').first
    button.focus()
    tab.keyboard.press('Enter')
    assert button.get_attribute('aria-pressed') == 'false'
    assert tab.evaluate(count) == before - 1
    tab.keyboard.press('Enter')
    assert tab.evaluate(count) == before


@pytest.mark.slow
def test_paper_is_light_and_narrow(tab):
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate(f"[{THEME}, document.querySelector('.plot').layout"
                        '.width]') == ['light', 660]
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate(THEME) == 'dark'


@pytest.mark.slow
def test_the_keyboard_reaches_the_report_first(browser, written):
    tab = browser.new_page(java_script_enabled=False)
    tab.goto(written.as_uri())
    tab.keyboard.press('Tab')
    skip = tab.locator('a.skip')
    assert skip.bounding_box()['x'] >= 0
    assert skip.get_attribute('href') == '#main'
    assert tab.locator('main#main').count() == 1
    for plot in tab.locator('.plot').all():
        assert plot.get_attribute('aria-label')
    tab.close()


@pytest.mark.slow
def test_without_scripts_tables_tell_the_same(browser, written):
    tab = browser.new_page(java_script_enabled=False)
    tab.goto(written.as_uri())
    assert 'Plots need JavaScript' in tab.inner_text('main')
    for figure in tab.locator('figure:has(.plot)').all():
        assert figure.locator('details table tr').count() > 1
    assert tab.locator('#theme').is_hidden()
    tab.close()
