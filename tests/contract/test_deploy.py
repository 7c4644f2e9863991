"""What `deploy/` and docker-compose.yml say is well-formed and agrees with the code.

Nothing is started here: images are not pulled, Prometheus and Grafana do not run.
"""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import compose_spec
import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from emergency_stop.apps.coordinator_metrics import CoordinatorMetrics
from emergency_stop.apps.notifier.metrics import NotifierMetrics
from emergency_stop.apps.sink.metrics import SinkMetrics
from emergency_stop.config import DEFAULT_SERVICES, describe_settings
from emergency_stop.config.contradictions import unknown_variables
from emergency_stop.config.values import as_text
from emergency_stop.testing.kafka_cluster import PROFILE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = ROOT / "docker-compose.yml"
BIN = Path(sys.executable).parent
NOT_PROCESSES = {"kafka", "registry", "clickhouse", "keys", "init", "prometheus", "grafana"}


def compose(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The file with its ``${NAME:-default}`` as ``variables`` say, or at their defaults, and its anchors resolved."""
    chosen = variables or {}
    text = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: chosen.get(found[1], found[2]), COMPOSE.read_text())
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


def processes() -> dict[str, Any]:
    return {name: service for name, service in compose()["services"].items() if name not in NOT_PROCESSES}


def test_the_compose_file_follows_the_compose_specification() -> None:
    compose_spec.PyCompose.from_json(json.dumps(compose()))


def test_the_compose_specification_is_really_asked() -> None:
    broken = compose()
    broken["services"]["kafka"]["restrt"] = "always"
    with pytest.raises(ValueError, match="restrt"):
        compose_spec.PyCompose.from_json(json.dumps(broken))


@pytest.mark.needs("compose")
def test_docker_compose_accepts_the_file() -> None:
    subprocess.run(["docker", "compose", "-f", str(COMPOSE), "config", "--quiet"], check=True, timeout=30)


def test_yaml_is_tidy() -> None:
    done = subprocess.run(
        [BIN / "yamllint", "--strict", str(COMPOSE), str(DEPLOY)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_image_is_built_by_the_rules() -> None:
    done = subprocess.run([BIN / "hadolint", str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_is_sound_shell() -> None:
    done = subprocess.run([BIN / "shellcheck", str(ROOT / ".ci" / "run")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_variable_given_to_our_processes_is_a_setting() -> None:
    """A misspelled one would stop every container at start, with exit code 78."""
    known = {setting["variable"] for setting in describe_settings()}
    for name, service in {**processes(), "init": compose()["services"]["init"]}.items():
        assert set(service["environment"]) <= known, name
    assert set(re.findall(r"\b(ESTOP_\w+)=", (DEPLOY / "Dockerfile").read_text())) <= known


def test_the_guides_variables_reach_every_process_and_have_their_defaults() -> None:
    defaults = {
        setting["variable"]: setting["default"]
        for setting in describe_settings()
        if not setting["variable"].startswith("ESTOP_")
    }
    assert len(defaults) == 15
    chosen = dict.fromkeys(defaults, "chosen")
    for name in (*processes(), "init"):
        given = compose()["services"][name]["environment"]
        assert {variable: as_text(value) for variable, value in given.items()}.items() >= defaults.items(), name
        assert compose(chosen)["services"][name]["environment"].items() >= chosen.items(), name


def test_what_is_exported_for_compose_stops_no_command() -> None:
    """Whoever exports it types ``estop`` in the same shell."""
    asked = dict.fromkeys(re.findall(r"\$\{(\w+)", COMPOSE.read_text()), "x")
    assert {"IMAGE_TAG", "GRACEFUL_STOP_TIMEOUT"} <= asked.keys()
    assert unknown_variables(asked, tuple(setting["variable"] for setting in describe_settings())) == []


def test_the_image_has_every_kernel_compiled() -> None:
    streams = ROOT / "streams"
    compiled = {
        ".".join(path.relative_to(streams).with_suffix("").parts)
        for path in streams.rglob("*.py")
        if re.search(r"\bnjit\b", path.read_text())
    }
    assert len(compiled) > 10
    assert set(runpy.run_path(str(DEPLOY / "warm.py"))["KERNELS"]) == compiled


def test_the_five_reference_services_run() -> None:
    running = [service["command"][1] for service in processes().values() if service["command"][0] == "service"]
    assert sorted(running) == sorted(DEFAULT_SERVICES)


def test_services_hold_no_key_that_signs() -> None:
    for name, service in processes().items():
        if service["command"][0] == "service":
            assert "ESTOP_SIGNING_KEY_FILE" not in service["environment"], name


def test_only_loopback_ports_are_published() -> None:
    published = [port for service in compose()["services"].values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_prometheus_scrapes_every_process_and_nothing_else() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert sorted(job["dns_sd_configs"][0]["names"]) == sorted(processes())
    assert job["dns_sd_configs"][0]["port"] == 9464
    assert "ESTOP_METRICS_PORT=9464" in (DEPLOY / "Dockerfile").read_text()


def alert_rules() -> list[dict[str, Any]]:
    config = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    return [rule for group in config["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboards" / "emergency-stop.json").read_text())
    return parsed


def expressions() -> Iterator[tuple[str, str]]:
    """(where, PromQL) of every alert and every panel."""
    for rule in alert_rules():
        yield rule["alert"], rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_expression_is_valid_promql(where: str, expression: str) -> None:
    promql_parser.parse(expression.replace("$__rate_interval", "1m"))


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_expression_asks_for_metrics_that_exist(where: str, expression: str) -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "streams").rglob("*.py"))
    for name in re.findall(r"\bestop_\w+", expression):
        family = re.sub(r"_(bucket|count|sum)$", "", name)
        exported = {family, family.removesuffix("_total")}  # collectors leave the suffix to the client library
        assert any(f'"{known}"' in code for known in exported), f"{where} asks for {name}, which no process exports"


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    for rule in alert_rules():
        assert rule["annotations"]["summary"], rule["alert"]
        assert rule["annotations"]["description"], rule["alert"]
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]


def test_a_lost_position_is_told_whoever_lost_it() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "streams").rglob("*.py"))
    counters = {name.removesuffix("_total") for name in re.findall(r'"(estop_\w*offsets_lost\w*)"', code)}
    (rule,) = (rule for rule in alert_rules() if rule["alert"] == "EstopPositionLost")
    assert {"estop_offsets_lost", "estop_sink_offsets_lost"} <= counters
    assert {f"{name}_total" for name in counters} == set(re.findall(r"\bestop_\w+", rule["expr"]))


def test_alerts_see_the_first_increase_of_a_counter_too() -> None:
    """Of a series that begins with 1 Prometheus sees no increase, so it must begin with 0."""
    registry = CollectorRegistry()
    CoordinatorMetrics(registry)
    NotifierMetrics(registry)
    SinkMetrics(registry, topics=["a.topic"])
    asked = {name for rule in alert_rules() for name in re.findall(r"increase\((estop_\w+)", rule["expr"])}
    counters = {f"{family.name}_total" for family in registry.collect() if family.type == "counter"}
    begun = {sample.name for family in registry.collect() for sample in family.samples if sample.value == 0}
    assert len(asked & counters) >= 6
    assert asked & counters <= begun
    assert registry.get_sample_value("estop_emergencies_ended_total", {"state": "partial"}) == 0
    assert registry.get_sample_value("estop_last_resort_total", {"outcome": "failed"}) == 0


def test_panels_have_unique_ids_and_the_provisioned_datasource() -> None:
    provisioned = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())
    uids = {source["uid"] for source in provisioned["datasources"]}
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"} <= uids


def test_stops_are_measured_on_the_broker_profile_that_is_shipped() -> None:
    lines = (ROOT / "deploy/kafka/broker.properties").read_text().splitlines()
    shipped = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    shared = PROFILE.keys() & shipped.keys()
    assert {name: shipped[name] for name in shared} == {name: PROFILE[name] for name in shared}
    assert {"min.insync.replicas", "broker.session.timeout.ms", "controller.quorum.fetch.timeout.ms"} <= shared
