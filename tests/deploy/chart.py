"""The chart rendered by Helm's own code, and from it the plain manifests: ``python -m tests.deploy.chart`` writes deploy/kubernetes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "audit-plugin"
PLAIN = ROOT / "deploy" / "kubernetes"
HEADER = "# Generated from deploy/helm/audit-plugin by `python -m tests.deploy.chart`; change a copy, or patch it with kustomize.\n"


class _Readable(yaml.SafeDumper):
    """Files inside of files line by line, so that they can be edited."""


_Readable.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)
)

# In a process of its own: Helm comes as a Go library, whose runtime takes hold of signals.
_RENDER = """
import json, sys
import helm_python

answers = {}
with helm_python.Chart.load(sys.argv[1]) as chart:
    for name, values in json.load(sys.stdin).items():
        try:
            chart.validate_schema(values)
            answers[name] = chart.render(values, name="audit-plugin", namespace="audits")
        except helm_python.HelmError as error:
            answers[name] = str(error)
lint = helm_python.lint(sys.argv[1], strict=True)
json.dump({"rendered": answers, "lint": lint}, sys.stdout)
"""


def rendered(cases):
    """Name -> values to name -> template -> text, or the error's message; and what `helm lint --strict` says."""
    command = [sys.executable, "-c", _RENDER, str(CHART)]
    done = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout)


def documents(templates):
    """The objects of one rendering, notes left out."""
    texts = [text for name, text in sorted(templates.items()) if not name.endswith(".txt")]
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


def plain(templates):
    """The objects as somebody without Helm applies them: no test pod, nothing that says Helm manages them."""
    kept = [one for one in documents(templates) if one["metadata"]["labels"]["app.kubernetes.io/component"] != "test"]
    for one in kept:
        _strip(one)
    return kept


def manifests(modes):
    """File -> text of deploy/kubernetes, from renderings by mode."""
    files = {
        f"{mode}.yaml": HEADER + yaml.dump_all(plain(modes[mode]), Dumper=_Readable, sort_keys=False, width=132)
        for mode in ("deployment", "cronjob")
    }
    (patch,) = (one["data"]["patch.yaml"] for one in documents(modes["sidecar"]) if "patch.yaml" in one.get("data", {}))
    return files | {"sidecar-patch.yaml": HEADER + patch}


def _strip(value):
    if isinstance(value, dict):
        for key in [key for key in value if key.startswith(("helm.sh/", "checksum/")) or key == "app.kubernetes.io/managed-by"]:
            del value[key]
        if value.get("annotations") == {}:
            del value["annotations"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            _strip(each)


if __name__ == "__main__":
    os.chdir(ROOT)
    PLAIN.mkdir(exist_ok=True)
    for name, text in manifests(
        rendered({mode: {"mode": mode} for mode in ("deployment", "cronjob", "sidecar")})["rendered"]
    ).items():
        (PLAIN / name).write_text(text, encoding="utf-8")
