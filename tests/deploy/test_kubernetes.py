"""Chart and manifests: rendered by Helm's own code, valid for Kubernetes, as confined as they claim, and the plain ones are the rendered ones."""

import importlib.util
import json
import re
import shutil
import subprocess

import pytest
import yaml

import audit_plugin
from audit_plugin.alerts.rules import rule_groups
from audit_plugin.config import parse
from audit_plugin.dashboards.files import dashboards
from audit_plugin.service_options import DEFAULT_PORT, DEFAULT_WEB_PORT
from tests.deploy.chart import CHART, PLAIN, documents, manifests, rendered

VERSIONS = ("1.29", "1.34", "1.37")
MIG = "nvidia.com/mig-1g.10gb"
DIGEST = "sha256:" + "0" * 64
GOOD = {
    "deployment": {},
    "cronjob": {"mode": "cronjob"},
    "sidecar": {"mode": "sidecar"},
    "tolerant": {"mode": "cronjob", "cronjob": {"failOnFindings": False}},
    "mig": {"gpu": {"resource": MIG}, "image": {"digest": DIGEST}},
    "claim": {"gpu": {"claimTemplate": "one-gpu"}},
    "sidecar-gpu": {"mode": "sidecar", "gpu": {"claim": "shared"}, "serviceMonitor": {"enabled": True}},
    "monitored": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "kube-prometheus-stack"}},
        "prometheusRule": {"enabled": True, "runbookUrlPrefix": "https://wiki.example/"},
        "dashboards": {"enabled": True},
    },
    "exposed": {
        "web": {"expose": True, "tokensSecret": "audit-tokens", "from": [{"podSelector": {"matchLabels": {"app": "ingress"}}}]}
    },
    "full": {
        "fullnameOverride": "auditor",
        "extraLabels": {"team": "ml"},
        "image": {"repository": "registry.example/audit-plugin", "tag": "gpu"},
        "imagePullSecrets": [{"name": "registry"}],
        "data": {"existingClaim": ""},
        "persistence": {"enabled": False},
        "env": [{"name": "AUDIT_PLUGIN__STORE", "valueFrom": {"secretKeyRef": {"name": "store", "key": "url"}}}],
        "extraVolumes": [{"name": "token", "secret": {"secretName": "triton"}}],
        "extraVolumeMounts": [{"name": "token", "mountPath": "/run/triton", "readOnly": True}],
        "nodeSelector": {"pool": "audits"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "priorityClassName": "low",
        "podLabels": {"a": "b"},
        "podAnnotations": {"c": "d"},
        "service": {"annotations": {"e": "f"}, "port": 80},
        "serviceAccount": {"annotations": {"g": "h"}},
        "networkPolicy": {"store": [{"ports": [{"port": 5432}], "to": [{"podSelector": {"matchLabels": {"app": "postgres"}}}]}]},
    },
}
BAD = {
    "web": {"web": {"expose": True}},
    "moode": {"moode": "deployment"},
    "mode": {"mode": "daemonset"},
    "tag": {"image": {"tag": "latest"}},
    "digest": {"image": {"digest": "sha256:12"}},
    "gpu": {"gpu": {"resource": "nvidia.com/gpu", "claim": "shared"}},
    "models": {"config": {"models": []}},
    "host": {"config": {"serve": {"host": "127.0.0.1"}}},
    "interval": {"serviceMonitor": {"interval": "4s"}},
    "terminationGracePeriodSeconds": {"terminationGracePeriodSeconds": 10},
    "sampleLimit": {"serviceMonitor": {"sampleLimit": 500}},
}


@pytest.fixture(scope="module")
def helm():
    """Everything that the tests render, by one process."""
    if importlib.util.find_spec("helm_python") is None:
        pytest.skip("helm-python-sdk is not installed; its wheels are for Linux on x86-64, macOS and Windows")
    return rendered(GOOD | {f"bad {name}": values for name, values in BAD.items()})


@pytest.fixture(scope="module")
def charts(helm):
    refused = {name: answer for name, answer in helm["rendered"].items() if name in GOOD and isinstance(answer, str)}
    assert refused == {}
    return {name: documents(answer) for name, answer in helm["rendered"].items() if name in GOOD}


def one(objects, kind, component=None):
    """The only object of a kind, and of a component."""
    (found,) = (
        each
        for each in objects
        if each["kind"] == kind and component in {None, each["metadata"]["labels"]["app.kubernetes.io/component"]}
    )
    return found


def pod_of(thing):
    """Pod specification of an object, or none; a patch becomes a whole pod with Triton in it."""
    if "patch.yaml" in thing.get("data", {}):
        patch = yaml.safe_load(thing["data"]["patch.yaml"])["spec"]["template"]["spec"]
        return {"securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}, "containers": [], **patch}
    spec = thing.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    spec = spec.get("template", {}).get("spec", spec)
    return spec if "containers" in spec else None


def pods(objects):
    """All pod specifications."""
    return [pod for pod in map(pod_of, objects) if pod]


def plain_objects(name):
    """Objects of one committed file; the patch as the Deployment that it makes of Triton's."""
    read = list(yaml.safe_load_all((PLAIN / name).read_text()))
    if name != "sidecar-patch.yaml":
        return read
    (patch,) = read
    pod = patch["spec"]["template"]["spec"] | {"containers": [{"name": "triton", "image": "triton"}]}
    labels = {"matchLabels": {"app": "triton"}}
    spec = {"selector": labels, "template": {"metadata": {"labels": labels["matchLabels"]}, "spec": pod}}
    return [{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "triton"}, "spec": spec}]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["deployment.yaml", "cronjob.yaml", "sidecar-patch.yaml"])
def test_plain_manifests_are_valid(name, version):
    """Against the schemas of Kubernetes itself, unknown fields refused."""
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for thing in plain_objects(name):
        validator.validate(thing, version, strict=True)


def test_plain_manifests_are_the_rendered_ones(helm):
    """Regenerate with `python -m tests.deploy.chart`."""
    for name, text in manifests(helm["rendered"]).items():
        assert (PLAIN / name).read_text() == text, name


def test_kustomize_takes_the_manifests():
    """`kubectl kustomize`, where it is installed."""
    tool = shutil.which("kubectl")
    if tool is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([tool, "kustomize", PLAIN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "image: registry.example/audit-plugin:" in done.stdout


def test_the_patch_joins_the_pod_that_runs_triton(tmp_path):
    """Applied by kubectl itself, without a cluster: nothing that was there is lost."""
    tool = shutil.which("kubectl")
    if tool is None:
        pytest.skip("kubectl is not installed")
    pod = {
        "containers": [{"name": "triton", "image": "triton"}],
        "initContainers": [{"name": "fetch", "image": "fetch"}],
        "volumes": [{"name": "models", "emptyDir": {}}],
    }
    labels = {"app": "triton"}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    (tmp_path / "triton.json").write_text(
        json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "t"}, "spec": spec})
    )
    command = [tool, "patch", "--local", "-o", "json", "-f", tmp_path / "triton.json", "--patch-file", PLAIN / "sidecar-patch.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    patched = json.loads(done.stdout)["spec"]["template"]["spec"]
    assert {each["name"] for each in patched["initContainers"]} == {"fetch", "audit-plugin"}
    assert [each["name"] for each in patched["containers"]] == ["triton"]
    assert {each["name"] for each in patched["volumes"]} == {"models", "audit-config", "audit-data", "audit-state", "audit-tmp"}


@pytest.mark.parametrize("name", GOOD)
def test_charts_are_valid(charts, name):
    """Every shape, for the newest Kubernetes; kinds of the Prometheus operator are not part of it."""
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for thing in charts[name]:
        if "monitoring.coreos.com" not in thing["apiVersion"]:
            validator.validate(thing, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", BAD)
def test_wrong_values_are_refused_by_name(helm, name):
    """By the schema, with the key that is wrong."""
    answer = helm["rendered"][f"bad {name}"]
    assert isinstance(answer, str)
    assert name in answer


def test_helm_lint_finds_nothing(helm):
    """Strict; a chart of ours has no icon."""
    assert helm["lint"]["errors"] == []
    assert [message["error"] for message in helm["lint"]["messages"]] == ["icon is recommended"]


def test_values_and_schema_have_the_same_keys():
    """A value that the schema does not know could not be set, and the other way round."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    assert values.keys() == schema.keys() - {"global"}
    for key, value in values.items():
        if "properties" in schema[key] and not schema[key].get("additionalProperties", True):
            assert value.keys() == schema[key]["properties"].keys(), key


@pytest.mark.parametrize("name", GOOD)
def test_pods_pass_the_restricted_level(charts, name):
    """Nobody's user, nothing writable but what is mounted, no capabilities, no token."""
    for pod in pods(charts[name]):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            confined = container["securityContext"]
            assert confined["allowPrivilegeEscalation"] is False
            assert confined["readOnlyRootFilesystem"]
            assert confined["capabilities"] == {"drop": ["ALL"]}
            assert confined["runAsUser"] == 10001
            assert "memory" in container["resources"]["limits"]
        if "serviceAccountName" in pod:
            assert pod["automountServiceAccountToken"] is False
        assert not any("hostPath" in volume for volume in pod.get("volumes", []))


def test_the_configuration_is_one_that_the_service_reads(charts, tmp_path):
    """Of the defaults: all that is written lies on the volume, and the port is the service's."""
    for name in ("deployment", "cronjob", "sidecar"):
        config = yaml.safe_load(
            next(thing for thing in charts[name] if "audit.yaml" in thing.get("data", {}))["data"]["audit.yaml"]
        )
        loaded = parse(config, tmp_path).config
        assert all(
            str(path).startswith("/var/lib/audit-plugin/")
            for path in (loaded.store, loaded.report, loaded.bank.path, loaded.detector.path)
        )
        assert loaded.serve.port == DEFAULT_PORT


def test_one_auditor_writes(charts):
    """A second one would audit, and load the server, twice; SQLite has one writer."""
    deployment = one(charts["deployment"], "Deployment")
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert one(charts["cronjob"], "CronJob")["spec"]["concurrencyPolicy"] == "Forbid"
    assert one(charts["deployment"], "PersistentVolumeClaim")["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_probes_ask_for_life_and_readiness(charts):
    """By paths that never ask Triton."""
    (container,) = pod_of(one(charts["deployment"], "Deployment"))["containers"]
    paths = {probe: container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}


def test_a_sidecar_never_holds_the_model_back(charts):
    """Native, not ready without consequence, no start that others wait for, no configuration that they need."""
    pod = pod_of(one(charts["sidecar"], "ConfigMap", "sidecar"))
    (container,) = pod["initContainers"]
    assert container["restartPolicy"] == "Always"
    assert "readinessProbe" not in container
    assert "startupProbe" not in container
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["audit-config"]["configMap"]["optional"]
    assert volumes["audit-state"] == {"name": "audit-state", "emptyDir": {}}
    assert {thing["kind"] for thing in charts["sidecar"]} == {"ConfigMap"}


def test_traffic_is_denied_but_for_the_few(charts):
    """In: Prometheus and the test.  Out: Triton, DNS and what the values name."""
    policy = one(charts["deployment"], "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert (
        policy["podSelector"]["matchLabels"].items()
        <= one(charts["deployment"], "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    )
    assert [[port["port"] for port in rule["ports"]] for rule in policy["egress"]] == [[8001, 8002], [53, 53]]
    assert all(rule["to"] for rule in policy["egress"])
    assert [[port["port"] for port in rule["ports"]] for rule in policy["ingress"]] == [["http-metrics"]]
    test = one(charts["deployment"], "Pod")["metadata"]["labels"]
    assert any(
        peer.get("podSelector", {}).get("matchLabels", {"": 0}).items() <= test.items() for peer in policy["ingress"][0]["from"]
    )
    assert not policy["podSelector"]["matchLabels"].items() <= test.items()
    assert [rule["ports"][0]["port"] for rule in one(charts["full"], "NetworkPolicy")["spec"]["egress"]] == [8001, 53, 5432]
    assert one(charts["cronjob"], "NetworkPolicy")["spec"]["ingress"] == []


def test_a_gpu_is_a_resource_or_a_claim(charts):
    """A MIG profile beside the other limits; a claim in the pod and in the container."""
    (container,) = pod_of(one(charts["mig"], "Deployment"))["containers"]
    assert container["resources"]["limits"] == {"memory": "4Gi", MIG: 1}
    assert container["image"] == f"audit-plugin@{DIGEST}"
    for name, claim in (("claim", {"resourceClaimTemplateName": "one-gpu"}), ("sidecar-gpu", {"resourceClaimName": "shared"})):
        (pod,) = (pod for pod in pods(charts[name]) if "resourceClaims" in pod)
        assert pod["resourceClaims"] == [{"name": "gpu", **claim}]
        (container,) = [*pod["containers"], *pod.get("initContainers", [])]
        assert container["resources"]["claims"] == [{"name": "gpu"}]


def test_findings_fail_the_job_unless_told_otherwise(charts):
    """Exit code 1 is a finding, anything above a failure: tried with a command of the same codes."""
    strict, tolerant = (pod_of(one(charts[name], "CronJob"))["containers"][0] for name in ("cronjob", "tolerant"))
    assert strict["args"] == ["run", "/etc/audit-plugin/audit.yaml"]
    shell = tolerant["command"][:2]
    script = tolerant["command"][2].replace("audit-plugin run /etc/audit-plugin/audit.yaml", "(exit CODE)")
    codes = [subprocess.run([*shell, script.replace("CODE", str(code))], check=False).returncode for code in (0, 1, 2, 3)]
    assert [code == 0 for code in codes] == [True, True, False, False]


def test_monitoring_is_off_until_asked_for(charts):
    """Its kinds exist only where the operator is installed."""
    operator = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
    assert not {thing["kind"] for name in ("deployment", "cronjob", "sidecar") for thing in charts[name]} & operator


def test_monitoring_is_that_of_the_generated_files(charts):
    """Scraped by the port's name, labels of ours not overwritten; alerts and dashboards from the same source."""
    monitor = one(charts["monitored"], "ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    (port,) = one(charts["monitored"], "Service")["spec"]["ports"]
    assert (endpoint["port"], endpoint["honorLabels"], endpoint["interval"]) == (port["name"], False, "30s")
    assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= one(charts["monitored"], "Service")["metadata"]["labels"].items()
    assert one(charts["monitored"], "PrometheusRule")["spec"]["groups"] == json.loads(
        json.dumps(rule_groups("https://wiki.example/"))
    )
    maps = [thing for thing in charts["monitored"] if thing["metadata"]["labels"].get("grafana_dashboard") == "1"]
    boards = {name: json.loads(text) for each in maps for name, text in each["data"].items()}
    assert boards == {f"audit-plugin-{name}": json.loads(text) for name, text in dashboards().items()}
    assert one(charts["sidecar-gpu"], "PodMonitor")["spec"]["podMetricsEndpoints"][0]["port"] == "http-metrics"


def test_objects_carry_the_recommended_labels(charts):
    """And selectors never anything that changes with a version."""
    wanted = {"name", "instance", "version", "managed-by", "component"}
    for objects in charts.values():
        for thing in objects:
            labels = thing["metadata"]["labels"]
            assert {f"app.kubernetes.io/{name}" for name in wanted} | {"helm.sh/chart"} <= labels.keys()
    chosen = one(charts["deployment"], "Deployment")["spec"]["selector"]["matchLabels"]
    assert set(chosen) == {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}
    assert all(thing["metadata"]["labels"]["team"] == "ml" for thing in charts["full"])


def test_the_chart_is_of_this_version(helm):
    """Chart, image and package; no hook deletes anything but the test's last pod."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == audit_plugin.__version__
    hooks = re.findall(r"helm\.sh/hook[\w-]*: \S+", "".join(helm["rendered"]["deployment"].values()))
    assert hooks == ["helm.sh/hook: test", "helm.sh/hook-delete-policy: before-hook-creation"]


@pytest.mark.parametrize(
    ("name", "words"), [("deployment", "port-forward"), ("cronjob", "create job"), ("sidecar", "--patch-file")]
)
def test_notes_say_what_to_do_next(helm, name, words):
    """For every mode; the GPU warning where a device is shared."""
    notes = next(text for file, text in helm["rendered"][name].items() if file.endswith("NOTES.txt"))
    assert words in notes
    assert "prefer MIG" in next(text for file, text in helm["rendered"]["mig"].items() if file.endswith("NOTES.txt"))


def test_pages_are_exposed_with_tokens_alone(charts):
    """On loopback unless a secret of tokens is mounted; the port has a name and peers of its own."""
    inside = configuration(charts["deployment"])["serve"]
    assert ("web_host" in inside, inside["web_port"]) == (False, DEFAULT_WEB_PORT)
    exposed = configuration(charts["exposed"])["serve"]
    assert (exposed["web_host"], exposed["tokens"]) == ("0.0.0.0", "/etc/audit-plugin-tokens/tokens")
    kinds = {one["kind"]: one for one in charts["exposed"]}
    (container,) = kinds["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert "http-web" in [port["name"] for port in container["ports"]]
    assert "/etc/audit-plugin-tokens" in [mount["mountPath"] for mount in container["volumeMounts"]]
    assert "http-web" in [port["name"] for port in kinds["Service"]["spec"]["ports"]]
    assert "http-web" in [rule["ports"][0]["port"] for rule in kinds["NetworkPolicy"]["spec"]["ingress"]]


def configuration(objects):
    """The configuration that a rendering holds."""
    (one,) = (one for one in objects if one["kind"] == "ConfigMap" and "audit.yaml" in one.get("data", {}))
    return yaml.safe_load(one["data"]["audit.yaml"])
