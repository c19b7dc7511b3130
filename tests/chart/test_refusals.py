"""Values that cannot work end `helm template` with a sentence that says what to change."""

import pytest

from programs import MAJORS, template

# What is set -> what the message must say: the values' names and what to do.
RELATIONS = {
    "tensor parallel size beyond the GPUs": (
        ["tensorParallelSize=4", "gpu.count=2"],
        "tensorParallelSize 4 over 1 node(s) needs 4 GPU(s) in each pod, but gpu.count is 2: set gpu.count to 4",
    ),
    "more GPUs than ranks": (["gpu.count=2"], "set gpu.count to 1, or tensorParallelSize to 2"),
    "ranks that nodes cannot share": (
        ["tensorParallelSize=3", "nodes=2", "followers.tokenSecret=t"],
        "set tensorParallelSize to a multiple of nodes",
    ),
    "GPUs past gpu.count": (
        [r"resources.limits.nvidia\.com/gpu=1"],
        "the server would run on the CPU: set gpu.count instead",
    ),
    "nodes without a token": (
        ["tensorParallelSize=2", "nodes=2"],
        "followers.tokenSecret is empty: name a Secret",
    ),
    "followers' TLS without a secret": (
        ["tensorParallelSize=2", "nodes=2", "followers.tokenSecret=t", "followers.tls.enabled=true"],
        "followers.tls.secret is empty: name a Secret with tls.crt, tls.key and ca.crt",
    ),
    "followers of one node": (["followers.tokenSecret=t"], "set nodes, or leave followers out"),
    "TLS without a secret": (
        ["tls.enabled=true"],
        "tls.secret is empty: name a Secret of type kubernetes.io/tls",
    ),
    "a secret without TLS": (["tls.secret=s"], "set tls.enabled to true, or leave them out"),
    "client certificates without TLS": (["tls.clientCertificates=true"], "set tls.enabled to true"),
    "an authority nobody is checked against": (
        ["tls.enabled=true", "tls.secret=s", "tls.clientCaSecret=c"],
        "set tls.clientCertificates to true",
    ),
    "admin without a token": (["admin.enabled=true"], "admin.tokenSecret is empty: name a Secret"),
    "a token without admin": (["admin.tokenSecret=t"], "set admin.enabled to true, or leave them out"),
    "an admin token in the clear": (
        [
            "guard.enabled=true",
            "tls.enabled=true",
            "tls.secret=s",
            "admin.enabled=true",
            "admin.tokenSecret=t",
        ]
        + ["admin.expose=true"],
        "set admin.expose to false and use `kubectl port-forward`",
    ),
    "a claim without a name": (
        ["model.source=claim"],
        "model.claim.name is empty: name the PersistentVolumeClaim",
    ),
    "a download of nothing": (["model.source=download"], "set OWNER/NAME and the commit's 40 digits"),
    "a download without checksums": (
        ["model.source=download", "model.download.repository=a/b", f"model.download.revision={'a' * 40}"],
        "list every file of the checkpoint with its SHA-256",
    ),
    "an autoscaler and a fixed count": (
        ["replicas=3", "autoscaling.enabled=true"],
        "replicas is 3, but autoscaling.enabled is true and each would undo the other: set replicas to null",
    ),
    "fewest above most": (
        ["autoscaling.enabled=true", "autoscaling.minReplicas=5"],
        "autoscaling.minReplicas 5 is above autoscaling.maxReplicas 4: set it to 4 or less",
    ),
    "KEDA without Prometheus": (
        ["autoscaling.enabled=true", "autoscaling.kind=keda"],
        "set it to Prometheus's address",
    ),
    "a route of no gateway": (["grpcRoute.enabled=true"], "grpcRoute.parentRefs is empty: name the Gateway"),
    "a pool without a picker": (["inferencePool.enabled=true"], "name the Service of the endpoint picker"),
    "headers for no collector": (["otlp.headersSecret=s"], "no trace would leave: set otlp.endpoint"),
    "a test without a key": (["apiKeys.secret=s"], "set test.apiKeySecret"),
    "a test without a certificate": (
        ["tls.enabled=true", "tls.secret=s", "tls.clientCertificates=true"],
        "set test.clientCertificateSecret",
    ),
}

# What the schema refuses -> the value's name that the message shows.
SCHEMA = {
    "a typo": ("replicaz=2", "replicaz"),
    "a typo below": ("drain.timeoutSecond=2", "timeoutSecond"),
    "an unknown flag": ("flags.max-sequence=2", "max-sequence"),
    "a flag that is the chart's": ("flags.listen=0.0.0.0:1", "listen"),
    "a flag of the wrong type": ("flags.max-sequences=many", "max-sequences"),
    "a flag out of range": ("flags.max-sequences=0", "max-sequences"),
    "a duration without a unit": ("flags.step-timeout=30", "step-timeout"),
    "a count that is no count": ("replicas=two", "replicas"),
    "no nodes": ("nodes=0", "nodes"),
    "a tag that moves": ("image.tag=latest", "tag"),
    "a sidecar's tag that moves": ("guard.image.tag=latest", "tag"),
    "a digest that is none": ("image.digest=sha256:123", "digest"),
    "a branch for a revision": ("model.download.revision=main", "revision"),
    "a checksum that is none": (r"model.download.files.config\.json=abc", "config.json"),
    "a file out of the directory": (r"model.download.files.\.\./x=" + "a" * 64, "../x"),
    "plain HTTP to the hub": ("model.download.endpoint=http://hub", "endpoint"),
    "a source that is none": ("model.source=s3", "source"),
    "no replicas at all with an autoscaler": ("autoscaling.minReplicas=0", "minReplicas"),
    "an unknown autoscaler": ("autoscaling.kind=vpa", "kind"),
    "a setting that is not OpenTelemetry's": ("otlp.settings.FOO=bar", "FOO"),
    "a grace period": ("terminationGracePeriodSeconds=30", "terminationGracePeriodSeconds"),
}


def set_all(assignments):
    return [part for assignment in assignments for part in ("--set", assignment)]


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("what", RELATIONS)
def test_values_that_do_not_go_together(major, what):
    assignments, sentence = RELATIONS[what]
    done = template(major, *set_all(assignments))
    assert done.returncode != 0
    assert sentence in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("what", SCHEMA)
def test_values_that_the_schema_refuses(major, what):
    assignment, name = SCHEMA[what]
    done = template(major, "--set", assignment)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr
    assert name in done.stderr


@pytest.mark.parametrize("major", MAJORS)
def test_all_that_is_wrong_is_said_at_once(major):
    done = template(major, "--set", "tls.enabled=true", "--set", "admin.enabled=true", "--set", "gpu.count=2")
    for sentence in ("set gpu.count to 1", "tls.secret is empty", "admin.tokenSecret is empty"):
        assert sentence in done.stderr


@pytest.mark.parametrize("major", MAJORS)
def test_an_older_kubernetes_is_refused(major):
    done = template(major, "--kube-version", "1.29.0")
    assert done.returncode != 0 and "1.30" in done.stderr


@pytest.mark.parametrize("major", MAJORS)
def test_values_for_all_charts_are_let_through(major):
    assert template(major, "--set", "global.anything=1").returncode == 0
