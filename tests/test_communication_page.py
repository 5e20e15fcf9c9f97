"""The table of docs/scale.md is what processes and compiled programs send."""

import pytest


@pytest.mark.full
def test_predicted_bytes_are_counted():
    pytest.importorskip("jax")
    import communication_page

    assert communication_page.PAGE.read_text(encoding="utf-8") == communication_page.page()
