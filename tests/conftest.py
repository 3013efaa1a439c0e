import pytest


@pytest.fixture(autouse=True)
def errors_of_the_readers_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of tests they are counted, and the linter goes on."""
    monkeypatch.setenv("BNCHECK_STRICT", "1")
