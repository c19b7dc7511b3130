"""Metrics: a real Prometheus scrapes a server under load, draws its dashboard and evaluates its alerts."""

import concurrent.futures
import json
import re
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

import grpc
import pytest
from yoio_server import Server, free_address, last_two_lines, request, run_to_end, wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = ROOT / "helm" / "yoio" / "files"
ALERTS = FILES / "alerts.yaml"
DASHBOARD = json.loads((FILES / "dashboard.json").read_text(encoding="utf-8"))
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")

LOAD_SECONDS = 4
RATE_INTERVAL = "3s"
CALLERS = 3
LONG_PROMPT, SHORT_PROMPT = 2200, 300  # of classes 8k and 2k; both more tokens than the index selects
TOKENS = 24
OPEN_METRICS = "application/openmetrics-text;version=1.0.0"

# The public contract: these names stay.
CONTRACT = """
yoio_requests_running yoio_requests_waiting yoio_waiting_tokens yoio_cache_usage_ratio yoio_requests_total
yoio_prompt_tokens_total yoio_cached_tokens_total yoio_generated_tokens_total yoio_time_to_first_token_seconds
yoio_inter_token_latency_seconds yoio_request_duration_seconds yoio_queue_seconds yoio_prefill_seconds
yoio_decode_seconds yoio_step_seconds yoio_preemptions_total yoio_engine_healthy yoio_model_load_seconds
yoio_build_info
""".split()


def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as response:
        return response.headers["Content-Type"], response.read().decode()


def scrape(server, **headers):
    return get(f"http://{server.metrics_address}/metrics", **headers)


def promtool(*arguments, **options):
    done = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )
    assert done.returncode == 0 and not done.stderr.strip(), done.stdout + done.stderr
    return done.stdout


class Prometheus:
    """A Prometheus that scrapes one server four times a second. Use it in a `with`, which ends it."""

    def __init__(self, target):
        self.files = tempfile.TemporaryDirectory(prefix="yoio-prometheus-")
        folder = Path(self.files.name)
        configuration = {
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [{"job_name": "yoio", "static_configs": [{"targets": [target]}]}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(configuration))
        address = free_address()
        self.url = f"http://{address}"
        self.log = (folder / "log").open("w+")
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=self.log,
            stderr=self.log,
        )

    def __enter__(self):
        wait_until(self.ready)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        finally:
            self.process.kill()

    def ready(self):
        assert self.process.poll() is None, Path(self.log.name).read_text()
        try:
            get(f"{self.url}/-/ready")
        except OSError:
            return False
        return True

    def ask(self, path, **parameters):
        answer = json.loads(get(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")[1])
        assert answer["status"] == "success", answer
        return answer["data"]


def trace_id(number):
    return f"{number + 1:032x}"


def generate_for(server, seconds):
    """Sends traced requests, the first of each caller with a long prompt. Returns how many ended well."""
    end = time.monotonic() + seconds
    calls = []

    def one_after_the_other(caller):
        for number in range(caller, 100_000, CALLERS):
            if time.monotonic() > end:
                return
            parent = f"00-{trace_id(number)}-00f067aa0ba902b7-01"
            prompt = [caller + 2] * (LONG_PROMPT if number == caller else SHORT_PROMPT)
            message = request(prompt_ids=prompt, max_tokens=TOKENS, ignore_eos=True)
            list(server.generate(message, metadata=[("traceparent", parent)]))
            calls.append(number)

    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        for done in [pool.submit(one_after_the_other, caller) for caller in range(CALLERS)]:
            done.result()
    return len(calls)


class Scraped:
    """What is left when a server was loaded for a while under the eyes of a Prometheus."""

    def __init__(self, server, prometheus):
        self.server, self.prometheus = server, prometheus
        wait_until(lambda: self.value("up") == 1)  # it begins five seconds after its start
        self.begin = time.time()
        self.calls = generate_for(server, LOAD_SECONDS)
        with pytest.raises(grpc.RpcError):
            list(server.generate(request(text="x", model="another")))
        wait_until(lambda: self.value("sum(yoio_requests_total)") == self.calls + 1)
        self.end = time.time()
        self.text = scrape(server)[1]
        self.families = dict(re.findall(r"^# TYPE (\S+) (\S+)$", self.text, re.MULTILINE))
        self.names = set(re.findall(r"^([a-zA-Z_]\w*)[{ ]", self.text, re.MULTILINE))
        self.rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    def value(self, query):
        result = self.prometheus.ask("query", query=query)["result"]
        return float(result[0]["value"][1]) if result else None

    def has_data(self, query):
        """Whether `query` has a number at any time of the load."""
        data = self.prometheus.ask("query_range", query=query, start=self.begin, end=self.end + 1, step="500ms")
        return any(value != "NaN" for series in data["result"] for _, value in series["values"])


class TracingServer(Server):
    """One that would export its spans, if anybody took them."""

    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.fixture(scope="module")
def scraped():
    with TracingServer("--kv-cache-bytes", "64MiB", "--tensor-parallel-size", "2") as server:
        with Prometheus(server.metrics_address) as prometheus:
            yield Scraped(server, prometheus)


def dashboard_queries():
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")


def metric_names(expression):
    """The metrics that a PromQL expression reads."""
    words = re.sub(r'"[^"]*"', "", expression)
    words = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", words)
    words = re.sub(r"\b(by|on|ignoring|without|group_left|group_right)\s*\([^)]*\)", " ", words)
    words = re.sub(r"\b(and|or|unless|group_left|group_right)\b", " ", words)
    words = re.sub(r"\b[a-z_]+\s*\(", " ", words)
    return set(re.findall(r"(?<![\w.:])[a-zA-Z_][\w:]*", words))


def test_names_of_expressions_are_found():
    assert metric_names('sum by (le) (rate(a_total{b="c"}[5m])) / on (d) group_left f:g and h > 0.5') == {
        "a_total",
        "f:g",
        "h",
    }


def test_contract(scraped):
    assert set(CONTRACT) <= set(scraped.families)


def test_counts(scraped):
    assert scraped.calls > CALLERS
    assert scraped.value('yoio_requests_total{code="OK",finish_reason="length"}') == scraped.calls
    assert scraped.value('yoio_refusals_total{reason="UNKNOWN_MODEL"}') == 1
    assert scraped.value("yoio_request_duration_seconds_count") == scraped.calls
    for family in ("time_to_first_token", "queue", "prefill"):
        short = scraped.value(f'yoio_{family}_seconds_count{{prompt_class="2k"}}')
        long = scraped.value(f'yoio_{family}_seconds_count{{prompt_class="8k"}}')
        assert (short, long) == (scraped.calls - CALLERS, CALLERS)
    assert scraped.value("yoio_generated_tokens_total") >= TOKENS * scraped.calls
    assert scraped.value("yoio_prompt_tokens_total") >= LONG_PROMPT * CALLERS
    assert scraped.value("yoio_cached_tokens_total") > 0
    assert scraped.value("yoio_engine_healthy") == 1
    assert scraped.value("yoio_requests_running") == 0
    assert 0 <= time.time() - scraped.value("process_start_time_seconds") < 300


def test_promtool_takes_the_text(scraped):
    content_type, text = scrape(scraped.server)
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    promtool("check", "metrics", input=text)


def test_open_metrics(scraped):
    content_type, text = scrape(scraped.server, Accept=OPEN_METRICS)
    assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert text.endswith("\n# EOF\n")


def test_exemplars_lead_to_traces(scraped):
    data = scraped.prometheus.ask(
        "query_exemplars",
        query="yoio_time_to_first_token_seconds_bucket",
        start=scraped.begin,
        end=scraped.end + 1,
    )
    found = [exemplar for series in data for exemplar in series["exemplars"]]
    assert found
    sent = {trace_id(number) for number in range(100_000)}
    for exemplar in found:
        assert exemplar["labels"]["trace_id"] in sent
        assert 0 < float(exemplar["value"]) < LOAD_SECONDS + 5
        assert scraped.begin <= exemplar["timestamp"] <= scraped.end


@pytest.mark.parametrize("expression", dashboard_queries())
def test_dashboard_query(scraped, expression):
    names = metric_names(expression)
    assert names and names <= scraped.names
    query = expression.replace("$__rate_interval", RATE_INTERVAL).replace("$job", "yoio").replace("$instance", ".*")
    assert "$" not in query
    assert scraped.has_data(query), query


def test_dashboard_variables(scraped):
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            assert re.match(r"label_values\((\w+)", variable["definition"]).group(1) in scraped.names


def test_rules_name_what_is_exported(scraped):
    assert len(scraped.rules) > 10
    recorded = {rule["name"] for rule in scraped.rules if rule["type"] == "recording"}
    for rule in scraped.rules:
        names = metric_names(rule["query"])
        assert names and names <= scraped.names | recorded, rule["name"]


def test_rules_evaluate_and_all_is_quiet(scraped):
    rules = [rule for group in scraped.prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert all(rule["health"] == "ok" for rule in rules), rules
    assert not [rule["name"] for rule in rules if rule.get("state") == "firing"]


def test_every_alert_has_a_runbook(scraped):
    headings = re.findall(r"^#+ (.*)$", OPERATIONS, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for rule in scraped.rules:
        if rule["type"] == "alerting":
            page, anchor = rule["annotations"]["runbook"].split("#")
            assert page == "docs/operations.md" and anchor in anchors, rule["name"]
            assert rule["name"] in OPERATIONS


def test_rules_fire():
    promtool("check", "rules", str(ALERTS))
    promtool("test", "rules", str(Path(__file__).with_name("alerts_test.yaml")))


def test_address_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        code, errors = run_to_end(metrics_listen=address)
    what, what_to_do = last_two_lines(errors)
    assert code == 1 and f"--metrics-listen {address}" in what and "in use" in what
    assert "--metrics-listen" in what_to_do
