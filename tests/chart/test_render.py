"""Every set of values renders alike with Helm 3 and 4, into objects that Kubernetes would take."""

import json

import pytest
import yaml

import api
from programs import CHART, MAJORS, NAMESPACE, RELEASE, helm
from rendered import EVERY, VALUE_SETS, objects, one, values_file


@pytest.mark.parametrize("major", MAJORS)
def test_helm_is_of_its_major(major):
    assert helm(major, "version", "--short").stdout.startswith(f"v{major}.")


@pytest.mark.parametrize("major,name", EVERY)
def test_lint(major, name):
    done = helm(major, "lint", "--strict", CHART, "-f", values_file(name))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_chart_is_of_the_servers_version():
    version = (CHART.parent.parent / "server" / "version.h").read_text(encoding="utf-8")
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert f'kVersion[] = "{chart["appVersion"]}"' in version


def test_there_are_sets_enough():
    assert len(VALUE_SETS) >= 12


@pytest.mark.parametrize("name", VALUE_SETS)
def test_both_helms_render_the_same(name):
    def by_name(major):
        return sorted(objects(major, name), key=lambda o: (o["kind"], o["metadata"]["name"]))

    assert by_name(3) == by_name(4)


@pytest.mark.parametrize("name", VALUE_SETS)
def test_every_object_is_of_its_schema(name):
    for item in objects(4, name):
        api.check(item)


def test_every_kind_is_rendered_by_some_set():
    kinds = {item["kind"] for name in VALUE_SETS for item in objects(4, name)}
    assert kinds == set(api.KINDS)


@pytest.mark.parametrize("name", VALUE_SETS)
def test_names_are_unique_and_no_object_names_another_namespace(name):
    items = objects(4, name)
    names = [(item["kind"], item["metadata"]["name"]) for item in items]
    assert len(set(names)) == len(names)
    assert all("namespace" not in item["metadata"] for item in items)


@pytest.mark.parametrize("name", VALUE_SETS)
def test_notes_tell_how_to_call_it(name):
    # Helm 3 asks a cluster even here.
    done = helm(
        4, "install", RELEASE, CHART, "--dry-run=client", "--namespace", NAMESPACE, "-f", values_file(name)
    )
    assert done.returncode == 0, done.stderr
    notes = done.stdout.split("NOTES:", 1)[1]
    headless = next(o for o in objects(4, name) if o["metadata"]["name"].endswith("-headless"))
    assert f"dns:///{headless['metadata']['name']}.{NAMESPACE}.svc:50051" in notes
    assert ("--tls-ca" in notes) != ("Calls are not encrypted" in notes)


def test_rules_and_dashboard_are_the_files():
    items = objects(4, "monitoring")
    rules = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text(encoding="utf-8"))
    assert one(items, "PrometheusRule")["spec"] == rules
    dashboard = one(items, "ConfigMap", "release-yoio-dashboard")["data"]["yoio.json"]
    assert json.loads(dashboard) == json.loads(
        (CHART / "files" / "dashboard.json").read_text(encoding="utf-8")
    )
