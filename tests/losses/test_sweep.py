"""Every head of the libraries: right, or refused by name."""

from pathlib import Path

import pytest

from ausam_mm.losses.record import Reduction

from . import sweep, variants

ROOT = Path(__file__).parents[2]

ALL = [(library, case) for library, cases in sweep.CASES.items()
       for case in cases if not case.why_not]


@pytest.mark.parametrize('library,case', ALL,
                         ids=[case.name.replace(' ', '') for _, case in ALL])
def test_a_head_is_what_the_page_says(library, case):
    """That its samples' losses are right is checked while it is tried."""
    if not sweep.is_known(library, case.head['type']):
        pytest.skip(f'this release of {library} has no such head')
    outcome = sweep.try_head(case, library)
    page = (ROOT / 'docs' / 'heads.md').read_text()
    assert outcome.row in page.split(f'## Heads of {library}')[1].splitlines()


def test_sections_that_were_not_tried_again_stay():
    page = (ROOT / 'docs' / 'heads.md').read_text()
    again = sweep.page({}, page).rstrip()
    assert again.split('\n## ')[1:] == page.rstrip().split('\n## ')[1:]


@pytest.mark.parametrize('library', sweep.INSTALLED)
def test_nothing_is_forgotten(library):
    assert sweep.forgotten(library) == []


def test_a_head_whose_samples_see_each_other_is_refused():
    """What the sweep has to notice, made by hand."""
    def call(head, feats, samples):
        mixed = feats.mean((2, 3)) - feats.mean((0, 2, 3))
        return head.loss((mixed, ), samples)

    case = sweep.Case(sweep.MMPRETRAIN[1].head, call)
    outcome = sweep.try_head(case, 'mmpretrain')
    assert outcome.verdict == 'refused'
    assert 'compares the samples of the batch with each other' in outcome.text


def bad(results):
    return [result for result in results if result is not None
            and result.verdict in ('wrong', 'refused wrongly')]


@pytest.mark.parametrize('case', [
    variants.CASES[0], variants.CASES[22], (*variants.COUNTED[0], {}),
    (*variants.COUNTED[2], {})], ids=lambda case: case[1])
def test_what_a_model_makes_of_a_loss_is_right_or_refused(case):
    results = [variants.try_variant(case, variant)
               for variant in variants.VARIANTS]
    assert not bad(results)
    assert {result.verdict for result in results if result} == {
        'right', 'refused'}


@pytest.mark.slow
def test_what_a_model_makes_of_any_loss_is_right_or_refused():
    results = list(variants.results())
    assert not bad(results) and len(results) > 400


def test_the_variants_notice_a_wrong_reduction(monkeypatch):
    """What they are for, made by hand: sums that are taken for means."""
    monkeypatch.setattr(
        variants.PerSampleLosses, 'judge',
        lambda losses, full, parts: losses.calls.update(
            {term.key: Reduction('sum', batched=[True] * 9)
             for term in full.terms}))
    case = next(case for case in variants.CASES if case[1] == 'KLDiscretLoss')
    assert bad([variants.try_variant(case, 'as it is')])
