"""How a backtest is asked for."""

from __future__ import annotations

import pytest

from emergency_stop.control.cli.main import main, parser


def test_defaults() -> None:
    options = parser().parse_args(["triggers", "backtest"])
    assert options.since == ("ago", 7 * 86_400_000)
    assert options.until == ("ago", 30_000)
    assert (options.file, options.warm_up, options.outcomes) == (None, None, None)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--since", "yesterday"], "'yesterday' is neither a duration (90s, 30m, 2h, 1d) nor a time with an offset"),
        (["--until", "2026-12-01"], "'2026-12-01' is neither"),
    ],
)
def test_what_is_asked_for_wrongly(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["triggers", "backtest", *arguments])
    assert complaint in capsys.readouterr().err


def test_the_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["triggers", "backtest", "--help"])
    told = capsys.readouterr().out
    assert "estop triggers backtest --trigger default-suspension-risk --sweep riskScore=60:95:5" in told
