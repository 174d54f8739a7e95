"""The hub's configuration, and the files for Kubernetes, which say what it, the engine and the results say.

No hub is started here, and no cluster is asked.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "classroom" / "kubernetes"
HUB = "http://hub:8081/hub/api"  # the chart's service


def read(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


@pytest.fixture
def hub() -> dict[str, Any]:
    [values] = read("hub.yaml")
    return values


@pytest.fixture
def engine() -> dict[str, Any]:
    return read("engine.yaml")[0]


@pytest.fixture
def results() -> dict[str, Any]:
    """The container."""
    [deployment] = [one for one in read("results.yaml") if one["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    return container


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Config:
    """The configuration of a class on one server, started with COURSE_EDITION=mini."""
    monkeypatch.setenv("COURSE_EDITION", "mini")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name, value in {"FOLDER": str(tmp_path), "PORT": "8000", "ACCOUNTS": "pam", "TEACHERS": "teacher"}.items():
        monkeypatch.setenv(f"COURSE_CLASS_{name}", value)
    monkeypatch.delenv("COURSE_POOL", raising=False)
    file, config = ROOT / "classroom" / "jupyterhub_config.py", Config()
    exec(compile(file.read_text("utf-8"), file, "exec"), {"get_config": lambda: config, "__file__": str(file)})
    return config


def groups(engine: dict[str, Any]) -> list[dict[str, Any]]:
    """The pods of the head and of the workers."""
    cluster = engine["spec"]["rayClusterConfig"]
    return [group["template"] for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]]


def containers(engine: dict[str, Any]) -> list[dict[str, Any]]:
    return [pod["spec"]["containers"][0] for pod in groups(engine)]


def served(engine: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration of Ray Serve, and its one application."""
    told = yaml.safe_load(engine["spec"]["serveConfigV2"])
    [application] = told["applications"]
    return told, application


def in_engine(kind: type, name: str) -> Any:
    """A definition in classroom/engine.py, read without Ray."""
    tree = ast.parse((ROOT / "classroom" / "engine.py").read_text(encoding="utf-8"))
    if kind is ast.FunctionDef:
        return next(node for node in tree.body if isinstance(node, kind) and node.name == name)
    found = (node for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == name)
    return ast.literal_eval(next(found).value)


def test_one_server_tells_the_engine_and_the_learners_what_it_was_started_with(server, tmp_path: Path) -> None:
    [engine] = [one for one in server.JupyterHub.services if one["name"] == "engine"]
    assert {"COURSE_EDITION": "mini", "HF_HOME": str(tmp_path)}.items() <= engine["environment"].items()
    assert not any(name.startswith("COURSE_CLASS") for name in engine["environment"])
    assert server.Spawner.environment["COURSE_EDITION"] == "mini" and "HF_HOME" not in server.Spawner.environment


def test_every_object_has_a_kind_and_a_name_of_its_own() -> None:
    objects = [*read("engine.yaml"), *read("results.yaml")]
    named = [(one["apiVersion"].split("/")[0], one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(set(named)) == len(named)
    assert {kind for _, kind, _ in named} == {
        "RayService", "NetworkPolicy", "PersistentVolumeClaim", "Deployment", "Service"
    }  # fmt: skip
    assert all(re.fullmatch(r"[a-z0-9-]{1,63}", name) for *_, name in named)


def test_everybody_has_one_image_with_what_a_class_needs(hub, engine, results) -> None:
    image = f"{hub['singleuser']['image']['name']}:{hub['singleuser']['image']['tag']}"
    assert {one["image"] for one in [*containers(engine), results]} == {image}
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"--home-dir {hub['singleuser']['storage']['homeMountPath']} " in dockerfile
    docs = (ROOT / "docs" / "classroom.md").read_text(encoding="utf-8")
    assert f"docker build --build-arg EXTRAS=runtime,class -t {image} ." in docs
    assert all(f"classroom/kubernetes/{path.name}" in docs for path in FOLDER.iterdir())


def test_the_engine_is_built_from_what_it_takes(engine) -> None:
    told, application = served(engine)
    assert application["import_path"] == "classroom.engine:build" and in_engine(ast.FunctionDef, "build")
    taken = in_engine(ast.FunctionDef, "_bind").args
    required = {one.arg for one, default in zip(taken.kwonlyargs, taken.kw_defaults, strict=True) if default is None}
    assert required <= set(application["args"]) <= {one.arg for one in taken.kwonlyargs}
    assert "tokens" not in application["args"]  # the hub knows who asks
    assert application["route_prefix"] == "/" and application["name"] == in_engine(ast.Assign, "NAME")
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE))
    assert engine["spec"]["rayClusterConfig"]["rayVersion"] == pins["ray"]


def test_ray_accepts_the_engine(engine) -> None:
    pytest.importorskip("ray")
    from ray.serve.schema import ServeDeploySchema

    from classroom.engine import build

    told, application = served(engine)
    assert ServeDeploySchema.model_validate(told).applications[0].args == application["args"]
    assert type(build(application["args"])).__name__ == "Application"
    with pytest.raises(TypeError, match="replica"):
        build(application["args"] | {"replica": 3})


def test_a_replica_has_a_worker_with_its_threads_and_its_gpu(engine) -> None:
    _, application = served(engine)
    cluster, arguments = engine["spec"]["rayClusterConfig"], application["args"]
    [workers] = cluster["workerGroupSpecs"]
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"] == arguments["replicas"]
    limits = containers(engine)[1]["resources"]["limits"]
    assert int(limits["cpu"]) == arguments["threads"] and limits["nvidia.com/gpu"] == arguments["gpus"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"  # no replica beside the door


def test_the_learners_reach_the_engines_door_and_no_port_of_rays(hub, engine, server) -> None:
    port = in_engine(ast.Assign, "PORT")
    told, _ = served(engine)
    assert told["http_options"]["port"] == port
    for one in containers(engine):
        assert {"name": "serve", "containerPort": port} in one["ports"]
    assert engine["spec"]["rayClusterConfig"]["authOptions"] == {"mode": "token"}
    environment = hub["singleuser"]["extraEnv"]
    assert environment["COURSE_POOL"] == f"http://{engine['metadata']['name']}-serve-svc:{port}"
    assert set(environment) == set(server.Spawner.environment) - {"PYTHONPATH"}  # which the image has
    for one in containers(engine):  # or every call would be refused
        assert {"name": "COURSE_EDITION", "value": environment["COURSE_EDITION"]} in one["env"]
    way, _ = hub["singleuser"]["networkPolicy"]["egress"]
    [policy] = [one for one in read("engine.yaml") if one["kind"] == "NetworkPolicy"]
    labels = policy["spec"]["podSelector"]["matchLabels"]
    assert way == {"to": [{"podSelector": {"matchLabels": labels}}], "ports": [{"port": port}]}
    for pod in groups(engine):
        assert labels.items() <= pod["metadata"]["labels"].items()
    ingress = {str(rule["from"]): rule.get("ports") for rule in policy["spec"]["ingress"]}
    assert ingress.pop(str([{"podSelector": {"matchLabels": labels}}])) is None  # Ray's own pods, everything
    learner = str([{"podSelector": {"matchLabels": {"component": "singleuser-server"}}}])
    assert ingress.pop(learner) == [{"port": port}]
    [operator] = ingress
    assert "kuberay-operator" in operator and policy["spec"]["policyTypes"] == ["Ingress"]


def test_the_hub_gives_the_rights_that_the_server_gives(hub, server) -> None:
    roles = {role["name"]: role["scopes"] for role in server.JupyterHub.load_roles if "services" not in role}
    assert {name: role["scopes"] for name, role in hub["hub"]["loadRoles"].items()} == roles
    services = {one["name"]: one for one in server.JupyterHub.services if one["name"] != "idle-culler"}
    assert set(hub["hub"]["services"]) == set(services)
    assert hub["hub"]["services"]["results"]["oauth_no_confirm"] is services["results"]["oauth_no_confirm"]
    assert hub["hub"]["config"]["JupyterHub"] == {"authenticator_class": "native"}
    settings = hub["hub"]["config"]["Authenticator"]
    assert settings["allow_all"] is server.Authenticator.allow_all
    assert set(settings["admin_users"]) == server.Authenticator.admin_users
    assert hub["cull"]["timeout"] == int(server.JupyterHub.services[-1]["command"][-1].partition("=")[2])
    config = Config({"Authenticator": {"admin_users": {"teacher"}}})
    exec(hub["hub"]["extraConfig"]["teachers"], {"c": config})
    assert config.JupyterHub.load_groups == server.JupyterHub.load_groups


def test_a_learners_server_starts_as_on_one_server(hub, server) -> None:
    assert hub["singleuser"]["cmd"][1:] == server.Spawner.cmd[1:]
    assert hub["singleuser"]["defaultUrl"] == server.Spawner.default_url
    assert hub["hub"]["config"]["Spawner"] == {"notebook_dir": hub["singleuser"]["storage"]["homeMountPath"]}


def test_the_services_ask_the_hub_with_its_own_tokens(hub, engine, results) -> None:
    for container, name in [*((one, "engine") for one in containers(engine)), (results, "results")]:
        environment = {one["name"]: one for one in container["env"]}
        assert environment["JUPYTERHUB_API_URL"]["value"] == HUB
        secret = environment["JUPYTERHUB_API_TOKEN"]["valueFrom"]["secretKeyRef"]
        assert secret == {"name": "hub", "key": f"hub.services.{name}.apiToken"} and name in hub["hub"]["services"]
    [deployment] = [one for one in read("results.yaml") if one["kind"] == "Deployment"]
    for pod in [*groups(engine), deployment["spec"]["template"]]:
        assert pod["metadata"]["labels"]["hub.jupyter.org/network-access-hub"] == "true"


def test_the_results_are_where_the_hub_looks_for_them(hub, results, server) -> None:
    environment = {one["name"]: one.get("value") for one in results["env"]}
    source = (ROOT / "classroom" / "results.py").read_text(encoding="utf-8")
    assert set(re.findall(r'os\.environ\["(\w+)"\]', source)) <= set(environment)
    [service] = [one for one in read("results.yaml") if one["kind"] == "Service"]
    port = service["spec"]["ports"][0]["port"]
    assert hub["hub"]["services"]["results"]["url"] == f"http://{service['metadata']['name']}:{port}"
    assert environment["JUPYTERHUB_SERVICE_URL"] == f"http://0.0.0.0:{port}"
    assert results["ports"] == [{"containerPort": port}]
    [told] = [one for one in server.JupyterHub.services if one["name"] == "results"]
    assert results["command"][1:] == told["command"][1:]
    path = server.Spawner.environment["COURSE_RESULTS"].partition(":8000")[2]
    assert environment["JUPYTERHUB_SERVICE_PREFIX"] == f"{path}/"
    assert hub["singleuser"]["extraEnv"]["COURSE_RESULTS"] == f"http://{service['metadata']['name']}:{port}{path}"
    _, way = hub["singleuser"]["networkPolicy"]["egress"]
    assert way == {"to": [{"podSelector": {"matchLabels": service["spec"]["selector"]}}], "ports": [{"port": port}]}
