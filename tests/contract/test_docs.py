"""Documents agree with the code: generated pages are fresh, links lead somewhere, targets exist."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize(
    ("generator", "page"),
    [
        ("docs/configuration.py", "docs/configuration.md"),
        ("docs/rules.py", "docs/rules.md"),
        ("docs/triggers.py", "docs/triggers.md"),
        ("docs/adr/index.py", "docs/adr/README.md"),
    ],
)
def test_generated_pages_are_fresh(generator: str, page: str) -> None:
    fresh = runpy.run_path(str(ROOT / generator))["page"]()
    assert (ROOT / page).read_text() == fresh, f"run: make docs (it runs {generator})"


def test_the_rules_of_the_page_are_rules() -> None:
    from emergency_stop.rules.language import compile_rule

    examples = (ROOT / "docs/rules.md").read_text().split("```text\n", 1)[1].split("```", 1)[0].splitlines()
    assert all(compile_rule(example).aggregates for example in examples)
    assert len(examples) > 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for named in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE):
        assert named in targets, f"{page.name} names `make {named}`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_variable_that_is_named_is_a_setting(page: Path) -> None:
    from emergency_stop.config import describe_settings

    known = {setting["variable"] for setting in describe_settings()}
    for named in re.findall(r"\bESTOP_[A-Z_]+[A-Z]", page.read_text()):
        assert named in known, f"{page.name} names {named}"


def test_every_topic_has_somebody_who_may_write_to_it_on_the_page_of_access_rules() -> None:
    from emergency_stop.domain.topics import DETECTOR_STATE_B_SPEC, all_topics

    roles = (ROOT / "docs/security.md").read_text().split("\n## Roles as access rules", 1)[1].split("\n## ", 1)[0]
    written = [row.split("|")[2] for row in roles.splitlines() if row.startswith("| ")]
    patterns = [re.escape(name) for cell in written for name in re.findall(r"`([a-z][^`]+)`", cell)]
    allowed = [pattern.replace(r"\*", ".+").replace("<service>", ".+") for pattern in patterns]
    for spec in (*all_topics(("alpha",)), DETECTOR_STATE_B_SPEC):
        assert any(re.fullmatch(pattern, spec.name) for pattern in allowed), f"nobody may write to {spec.name}"
