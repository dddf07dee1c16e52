"""A check of our own for schemathesis (`test_openapi.py`): a 503 is honest.

The document says that 503 means "not now": then the answer has a code that means this, says why in words, and names
no cause that its other parts contradict. Everything above 500 that is no 503 is schemathesis' own finding.
"""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, Response

CODES = {"UNAVAILABLE", "DEADLINE_EXCEEDED"}


@schemathesis.check
def honest_503(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    if response.status_code != 503:
        return
    if case.path in ("/readyz", "/livez"):  # lines of text: at least one says what failed
        assert "[-]" in response.text, f"says nothing of why: {response.text!r}"
        return
    error = response.json()["error"]
    assert error["code"] in CODES, f"{error['code']} is not a reason to come again"
    assert len(error["message"]) > 10, f"says nothing of why: {error}"
    assert not (error.get("leader") and "no leader" in error["message"]), f"contradicts itself: {error}"
    assert response.headers.get("retry-after"), "does not say when to come again"
