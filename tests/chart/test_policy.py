"""What no set of values may give up: the restricted Pod Security profile, limits, probes, a way to leave."""

import re

import pytest

from rendered import VALUE_SETS, containers, objects, one, pod_templates, server

PODS = [
    pytest.param(pod, id=f"{name}-{role}")
    for name in VALUE_SETS
    for role, pod in pod_templates(objects(4, name))
]
SERVERS = [
    pytest.param(name, role, pod, id=f"{name}-{role}")
    for name in VALUE_SETS
    for role, pod in pod_templates(objects(4, name))
    if role != "test"
]
RESTRICTED_VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}


def seconds(pod, flag):
    found = [arg for arg in server(pod)["args"] if arg.startswith(f"--{flag}=")]
    return int(re.fullmatch(r".*=(\d+)s", found[0])[1])


@pytest.mark.parametrize("pod", PODS)
def test_restricted_profile(pod):
    spec = pod["spec"]
    assert not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for volume in spec.get("volumes", []):
        assert set(volume) - {"name"} <= RESTRICTED_VOLUMES
    for container in containers(pod):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
        assert not any("hostPort" in port for port in container.get("ports", []))


@pytest.mark.parametrize("pod", PODS)
def test_every_image_is_pinned(pod):
    for container in containers(pod):
        name, digest, tag = re.fullmatch(
            r"(.+?)(@sha256:[0-9a-f]{64}|:([^:/@]+))", container["image"]
        ).groups()
        assert digest.startswith("@") or tag != "latest", name


@pytest.mark.parametrize("pod", PODS)
def test_every_container_has_limits(pod):
    for container in containers(pod):
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= set(container["resources"][kind]), container["name"]


@pytest.mark.parametrize("pod", PODS)
def test_no_pod_holds_credentials_or_service_links(pod):
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["enableServiceLinks"] is False


@pytest.mark.parametrize("pod", PODS)
def test_only_volumes_that_exist_are_mounted_and_secrets_never_by_file(pod):
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
    assert len(volumes) == len(pod["spec"].get("volumes", []))
    for container in containers(pod):
        mounts = container.get("volumeMounts", [])
        assert len({mount["mountPath"] for mount in mounts}) == len(mounts)
        for mount in mounts:
            volume = volumes[mount["name"]]
            assert "secret" not in volume or "subPath" not in mount
            # Everybody could write to it otherwise, which the server refuses.
            assert volume.get("secret", {}).get("defaultMode", 0o440) == 0o440


@pytest.mark.parametrize("name,role,pod", SERVERS)
def test_probes(name, role, pod):
    container = server(pod)
    for probe, service in (
        ("startupProbe", "yoio.v1.InferenceService"),
        ("readinessProbe", "yoio.v1.InferenceService"),
        ("livenessProbe", "liveness"),
    ):
        assert container[probe]["grpc"] == {"port": 50052, "service": service}
        assert container[probe]["timeoutSeconds"] == 5
    startup = container["startupProbe"]
    allowed = startup["periodSeconds"] * startup["failureThreshold"]
    # The server gives up by itself, and says why, before the kubelet ends it.
    assert seconds(pod, "load-timeout") < allowed <= seconds(pod, "load-timeout") + 15


@pytest.mark.parametrize("name,role,pod", SERVERS)
def test_a_pod_has_the_time_it_needs_to_leave(name, role, pod):
    grace = pod["spec"]["terminationGracePeriodSeconds"]
    leader = next(p for r, p in pod_templates(objects(4, name)) if r == "leader")
    sleep = server(leader).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert grace == sleep + seconds(leader, "drain-delay") + seconds(leader, "drain-timeout") + 15
    if role == "follower":
        assert "lifecycle" not in server(pod)


@pytest.mark.parametrize("name,role,pod", SERVERS)
def test_what_a_dying_server_says_reaches_the_pod(name, role, pod):
    container = server(pod)
    assert f"--termination-log={container['terminationMessagePath']}" in container["args"]


@pytest.mark.parametrize("name", VALUE_SETS)
def test_services_find_the_pods_that_take_calls(name):
    items = objects(4, name)
    leader = next(pod for role, pod in pod_templates(items) if role == "leader")
    several = any(item["kind"] == "LeaderWorkerSet" for item in items)
    ports = {port["name"] for container in containers(leader) for port in container.get("ports", [])}
    services = [item for item in items if item["kind"] == "Service"]
    assert len(services) == 3
    for service in services:
        selector = dict(service["spec"]["selector"])
        assert selector.pop("leaderworkerset.sigs.k8s.io/worker-index", None) == ("0" if several else None)
        assert selector.items() <= leader["metadata"]["labels"].items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


@pytest.mark.parametrize("name", VALUE_SETS)
def test_the_network_policy_denies_what_it_does_not_name(name):
    policies = [item for item in objects(4, name) if item["kind"] == "NetworkPolicy"]
    assert len(policies) == (0 if name == "open" else 1)
    for policy in policies:
        spec = policy["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        for rule in spec["ingress"]:
            assert rule["from"]
        for rule in spec["egress"]:
            assert rule["to"]
        # Every port only between nodes of this release.
        for rule in [r for r in spec["ingress"] + spec["egress"] if "ports" not in r]:
            peers = rule.get("from", rule.get("to"))
            assert peers == [{"podSelector": spec["podSelector"]}]


def test_gpus_leave_no_room_for_one_more_pod_and_cpus_do():
    assert one(objects(4, "gpu"), "Deployment")["spec"]["strategy"]["rollingUpdate"] == {
        "maxSurge": 0,
        "maxUnavailable": 1,
    }
    assert one(objects(4, "default"), "Deployment")["spec"]["strategy"]["rollingUpdate"] == {
        "maxSurge": 1,
        "maxUnavailable": 0,
    }


@pytest.mark.parametrize(
    "name,expected",
    [("default", False), ("sized", True), ("autoscaling", True), ("multi-node", True), ("open", False)],
)
def test_a_budget_only_where_there_are_several_replicas(name, expected):
    budgets = [item for item in objects(4, name) if item["kind"] == "PodDisruptionBudget"]
    assert [budget["spec"]["maxUnavailable"] for budget in budgets] == ([1] if expected else [])


@pytest.mark.parametrize("name", ["autoscaling", "autoscaling-keda", "default"])
def test_no_count_of_replicas_where_somebody_else_sets_it(name):
    workload = next(item for item in objects(4, name) if item["kind"] in ("Deployment", "LeaderWorkerSet"))
    assert "replicas" not in workload["spec"]


@pytest.mark.parametrize("name", ["autoscaling", "autoscaling-keda"])
def test_autoscalers_name_the_workload(name):
    items = objects(4, name)
    workload = next(item for item in items if item["kind"] in ("Deployment", "LeaderWorkerSet"))
    scaler = next(item for item in items if item["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"))
    assert scaler["spec"]["scaleTargetRef"] == {
        "apiVersion": workload["apiVersion"],
        "kind": workload["kind"],
        "name": workload["metadata"]["name"],
    }


def test_the_guard_alone_listens_on_the_pods_address():
    pod = one(objects(4, "guard"), "Deployment")["spec"]["template"]
    assert "--listen=127.0.0.1:50061" in server(pod)["args"]
    assert "grpc" not in {port["name"] for port in server(pod)["ports"]}
    guard = next(c for c in pod["spec"]["initContainers"] if c["name"] == "guard")
    # It starts before the server and ends after it.
    assert guard["restartPolicy"] == "Always"
    assert guard["ports"] == [{"name": "grpc", "containerPort": 50051}]


def test_a_release_does_not_take_the_name_of_the_service_that_its_group_makes():
    items = objects(4, "multi-node")
    group = one(items, "LeaderWorkerSet")["metadata"]["name"]
    assert group not in {item["metadata"]["name"] for item in items if item["kind"] == "Service"}
