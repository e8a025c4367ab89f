"""A Ray cluster of two workers gives the results of local processes; what isn't there, dies or doesn't fit is said.

The cluster is a real one on this machine, behind a token. Commands run as processes of their own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.domain.domain import load_domain
from skimo_core.process.isolation import free_port
from skimo_eval import cluster, evaluate
from skimo_eval.cluster import Luggage, Parcel, Traveller, run_on_ray
from skimo_eval.inprocess import Job, World, factory_for, fly, run_jobs
from skimo_promote import trial
from skimo_promote.trial import TrialConfig
from skimo_server.bundle import load_bundle
from skimo_server.planner_config import PlannerConfig
from skimo_server.testing import make_bundle

BUNDLES = "toy", "another"
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 3}


def toy(folder: Path, domain: str, seed: int = 0) -> Path:
    planner, spec = PlannerConfig(samples=16, elites=4, horizon=2), load_domain(domain)
    make_bundle(folder, observation=spec.observation, action=spec.action, planner=planner, seed=seed)
    return folder


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab's own domain as a file, beside two bundles for it."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copy(Path(__file__).with_name("workbench.yaml"), folder)
    for seed, name in enumerate(BUNDLES):
        toy(folder / name, str(folder / "workbench.yaml"), seed)
    return folder


@pytest.fixture(scope="module")
def ray() -> Iterator[str]:
    """The address of a cluster of this machine's own, with two processors."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # a short path: sockets lie below it
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", str(port)]
        command += ["--node-ip-address", "127.0.0.1", "--num-cpus", "2", "--include-dashboard", "false"]
        command += ["--object-store-memory", "100000000", "--temp-dir", folder]
        environment = {**os.environ, **QUIET, "PYTHONUNBUFFERED": "1", "TMPDIR": folder}
        head = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            assert head.stdout is not None
            said = []
            for line in head.stdout:
                said.append(line)
                if "Ray runtime started" in line:
                    break
            else:
                pytest.fail("".join(said))
            yield f"127.0.0.1:{port}"
        finally:
            ours = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
            head.terminate()
            for process in psutil.wait_procs(ours, timeout=10.0)[1]:
                process.kill()
            head.communicate(timeout=10.0)
            assert len(list(Path(folder).glob("skimo-crew-*"))) <= 5  # of those crews that died


def skimo(*words: object, where: Path, code: int = 0) -> str:
    """A command as a person runs it, who may use the cluster."""
    command = [sys.executable, "-m", "skimo_core.cli", *map(str, words)]
    done = subprocess.run(
        command, cwd=where, env={**os.environ, **QUIET}, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == code and "Traceback" not in done.stderr, done.stdout + done.stderr
    return done.stdout + done.stderr


# --- on a cluster ---------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_a_trial_on_a_cluster_has_the_results_of_local_processes(
    ray: str, lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A domain, a condition and bundles by paths; each of the four runs is a `skimo eval` of its own."""
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    (lab / "far.yaml").write_text("why: further away\nstarts: none\nsensors: {noise: 3}\n")
    pair = [shutil.copytree(lab / name, tmp_path / load_bundle(lab / name).manifest.bundle_id) for name in BUNDLES]
    config = TrialConfig(task="tour", domain=str(lab / "workbench.yaml"), batch=2, max_pairs=4, workers=2)
    config = replace(config, conditions=("drawn", str(lab / "far.yaml")))
    found = {}
    for where, address in (("local", ""), ("cluster", ray)):
        verdict = trial.fly(pair[0], pair[1], tmp_path / where, replace(config, ray=address), lambda words: None)
        files = sorted((tmp_path / where / config.folder).glob("*.json"))
        results = [json.loads(file.read_bytes())["conditions"] for file in files]
        found[where] = verdict, [[r[name]["episodes_detail"] for name in ("drawn", "far")] for r in results]
        assert len(files) == 2 and not any(ray in file.read_text() for file in files)
    assert found["local"] == found["cluster"] and found["local"][0].evidence["pairs"] == 4


PROGRAM = """
import os, sys, tempfile
from pathlib import Path
from skimo_eval.cluster import MAX_DEATHS, run_on_ray
from skimo_eval.inprocess import Job, World, fly

address, how, lab = sys.argv[1], sys.argv[2], Path(sys.argv[3])

def flown(lab_, policy, job):
    if job.seed == 1:
        with open(lab / how, "a") as deaths:
            deaths.write("x")
        if how == "always" or os.path.getsize(lab / how) <= MAX_DEATHS:
            os._exit(1)
    return fly(lab_, policy, job)

jobs = [Job(task="tour", seed=seed) for seed in range(4)]
world = World(domain=str(lab / "workbench.yaml"))
for result in run_on_ray(jobs, lab / "toy", {}, world, address=address, flown=flown):
    print("flown", result.seed, flush=True)
"""


@pytest.mark.timeout(300)
def test_a_crew_that_dies_is_replaced_and_its_job_done_again_so_often(ray: str, lab: Path) -> None:
    def run(how: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PROGRAM, ray, how, str(lab)]
        return subprocess.run(
            command, env={**os.environ, **QUIET}, capture_output=True, text=True, timeout=120, check=False
        )

    twice = run("twice")
    assert twice.returncode == 0, twice.stderr
    assert re.findall(r"^flown (\d)$", twice.stdout, re.MULTILINE) == ["0", "1", "2", "3"]
    always = run("always")
    assert always.returncode != 0
    assert "SetupError: a crew on the Ray cluster died 3 times flying the episode of seed 1" in always.stderr
    assert (lab / "always").read_text() == "xxx"


@pytest.mark.timeout(300)
def test_what_is_wrong_with_a_bundle_is_said_as_by_a_local_crew(ray: str, lab: Path) -> None:
    asked = ["eval", "--domain", "workbench.yaml", "--bundle", toy(lab / "other", "kitchen"), "--episodes", "1"]
    said = skimo(*asked, "--ray", ray, where=lab, code=1)
    assert said == skimo(*asked, where=lab, code=1) and "its observation is not this caller's" in said


@pytest.mark.timeout(300)
def test_without_its_token_nobody_joins(ray: str, lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QUIET, "RAY_AUTH_TOKEN", "fedcba9876543210" * 3)
    monkeypatch.setitem(QUIET, "RAY_NUM_REDIS_GET_RETRIES", "2")  # of a second each, by default 20
    said = skimo("eval", "--domain", "workbench.yaml", "--bundle", "toy", "--ray", ray, where=lab, code=1)
    assert f"no Ray cluster can be joined at {ray}" in said and "or leave --ray out" in said


# --- without one ----------------------------------------------------------------------------------------------------


def test_a_crew_flies_where_nothing_of_the_lab_is(lab: Path, tmp_path: Path) -> None:
    """What was packed, taken to where domain, robot, cell, condition and bundle have gone."""
    shutil.copytree(lab, tmp_path / "lab")
    here = tmp_path / "lab"
    (here / "far.yaml").write_text("why: further away\nstarts: none\nsensors: {noise: 3}\n")
    robots = Path(load_domain.__code__.co_filename).parent / "robots"
    shutil.copy(robots / "fr3.yaml", here / "mine.yaml")
    table = here / "workbench.yaml"
    table.write_text(table.read_text().replace("robot: fr3", "robot: mine.yaml"))
    world = World(domain=str(table))
    jobs = [Job(task="tour", seed=3), Job(task="tour", seed=4, condition=str(here / "far.yaml"))]
    local = [r.to_dict() for r in run_jobs(jobs, factory_for(here / "toy", {}), world)]
    luggage = Luggage.of(here / "toy", {}, world, jobs)
    shutil.rmtree(here)
    crew = Traveller()
    versions = crew.ready(luggage)
    assert {"python", "onnxruntime"} <= set(versions)
    assert [crew.fly(luggage, fly, job).to_dict() for job in jobs] == local
    crew.close()


def test_a_parcel_is_known_by_its_content_and_unpacked_once(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name / "things").mkdir(parents=True)
        (tmp_path / name / "things" / "a").write_bytes(name.encode())
    one, other = (Parcel.of(tmp_path / name / "things") for name in ("one", "other"))
    assert one.digest != other.digest and one.digest == Parcel.of(tmp_path / "one" / "things").digest
    places = [parcel.unpack(tmp_path / "there") for parcel in (one, other, one)]
    assert places[0] == places[2] != places[1] and {place.name for place in places} == {"things"}
    assert [(place / "a").read_bytes() for place in places] == [b"one", b"other", b"one"]
    file = Parcel.of(tmp_path / "one" / "things" / "a").unpack(tmp_path / "there")
    assert file.name == "a" and file.read_bytes() == b"one"
    with pytest.raises(SpecError, match="nothing: nothing is there to be sent"):
        Parcel.of(tmp_path / "nothing")


def test_an_address_where_nobody_answers_is_said_soon(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    asked = ["--domain", str(lab / "workbench.yaml"), "--bundle", str(lab / "toy"), "--ray"]
    assert evaluate.main([*asked, f"127.0.0.1:{free_port()}"]) == 1
    assert "no Ray cluster answers at 127.0.0.1" in (said := capsys.readouterr().err) and "leave --ray out" in said
    for wrong in ("ray://127.0.0.1:10001", "somewhere", ":", "a:b"):
        assert evaluate.main([*asked, wrong]) == 1
        assert "must be HOST:PORT" in capsys.readouterr().err


def test_somebody_else_at_the_address_is_found_out_in_bounded_time(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(cluster, "PROBE_S", 4.0)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(SetupError, match=r"can be joined at .* \(nothing within 4 s\)"):
            list(run_on_ray([], lab / "toy", {}, World(), address=address))


def test_without_ray_it_says_what_to_install(
    lab: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    asked = ["--domain", str(lab / "workbench.yaml"), "--bundle", str(lab / "toy"), "--ray", "auto"]
    assert evaluate.main(asked) == 1
    assert "--ray needs ray: pip install 'skimo_sim[ray]'" in capsys.readouterr().err


def test_the_full_stack_runs_on_no_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["--stack", "full", "--ray", "auto"]) == 1
    assert "--ray is for --stack inprocess" in capsys.readouterr().err
