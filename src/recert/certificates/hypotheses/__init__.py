"""Hypotheses in words: every sentence of the ledger follows from a row's id, status and facts.

A fact is a number, a text, a truth value, null, or a list of such, under its name. A row has the
facts of one of the forms of its id, no others, each of its kind; nothing else can be said in a
certificate. Whoever reads one renders the sentences again and checks the facts (`verifier`).

A new hypothesis: one `Form` in `sample` or `network`, its needs, statuses and facts in the
verifier's `ledger`, and a line in docs/certificate.md.
"""

from __future__ import annotations

from recert.certificates.hypotheses import black_box, network, predictor, sample
from recert.certificates.hypotheses.facts import COUNTED, SAMPLE, Facts, Form, Sentences, Status
from recert.errors import InputError
from recert.utils import validation

__all__ = ["COUNTED", "FORMS", "SAMPLE", "Facts", "Sentences", "Status", "words"]

FORMS: dict[str, tuple[Form, ...]] = {**predictor.FORMS, **sample.FORMS, **network.FORMS}
FORMS |= {id: (*FORMS[id], *forms) for id, forms in black_box.FORMS.items()}


def words(id: str, status: str, facts: Facts) -> Sentences:
    """The statement and the evidence of a row; InputError where no row is like that."""
    form = next((form for form in FORMS.get(id, ()) if form.facts.keys() == facts.keys()), None)
    if form is None:
        raise InputError(f"no hypothesis {validation.short(id)} has the facts {sorted(facts)}")
    for name, kind in form.facts.items():
        if not kind(facts[name]):
            raise InputError(f"the fact {name!r} of {id!r} is {validation.short(facts[name])}")
    found = form.words(status, facts)
    if found is None:
        raise InputError(f"the hypothesis {id!r} with these facts is never {status!r}")
    return found
