"""`skimo doctor`: each finding can be provoked, a check that raises or hangs is a finding, nothing is changed."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from skimo_core.contract.errors import SpecError
from skimo_core.domain import library
from skimo_core.domain.domain import load_domain
from skimo_core.domain.rig import JointOffsets, Made, Rig
from skimo_core.domain.rig_file import write_rig
from skimo_core.domain.robot import load_limits
from skimo_core.link.keys import SERVER_SECRET, make_pair
from skimo_core.setup import doctor, installed, machine, task
from skimo_core.setup.finding import Asked, Check, Finding, gravest, import_faults, imports, ok, split_remedy, warn

ASKED = Asked(domain="kitchen")


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def only(findings: object) -> Finding:
    rows = list(findings)  # type: ignore[call-overload]
    assert len(rows) == 1, rows
    return rows[0]


# --- the command ----------------------------------------------------------------------------------------------------


def raises(error: Exception) -> Check:
    def look(asked: Asked) -> list[Finding]:
        raise error

    return Check(name="it", look=look)


def test_a_check_that_raises_is_a_finding_and_the_others_go_on() -> None:
    checks = [raises(ZeroDivisionError("by nothing")), Check(name="b", look=lambda asked: [ok("b", "fine")])]
    first, second = doctor.examine(ASKED, checks)
    assert (first.verdict, first.name) == ("fail", "it")
    assert "ZeroDivisionError: by nothing" in first.what and first.remedy
    assert second == ok("b", "fine")


def test_an_error_of_ours_keeps_its_words_and_its_remedy() -> None:
    found = only(doctor.examine(ASKED, [raises(SpecError("rate is 99 Hz, at most 40; lower it"))]))
    assert (found.what, found.remedy) == ("rate is 99 Hz, at most 40", "lower it")


def test_a_check_that_hangs_is_left_behind_at_its_deadline() -> None:
    end = threading.Event()

    def hang(asked: Asked) -> list[Finding]:
        end.wait()
        return []

    try:
        found = only(doctor.examine(ASKED, [Check(name="slow", look=hang, deadline_s=0.05)]))
    finally:
        end.set()
    assert found.verdict == "fail" and "no answer within 0.05 s" in found.what


def test_checks_run_beside_each_other() -> None:
    """Two that wait for each other both end."""
    barrier = threading.Barrier(2, timeout=20)

    def meet(asked: Asked) -> list[Finding]:
        barrier.wait()
        return [ok("met", "both")]

    found = doctor.examine(ASKED, [Check(name=name, look=meet, deadline_s=20) for name in "ab"])
    assert [finding.name for finding in found] == ["met", "met"]


def test_a_table_that_cannot_be_loaded_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = metadata.EntryPoint(name="mylab", value="no_such_package.doctor:CHECKS", group="skimo.doctor")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [gone])
    found = only(doctor.examine(ASKED, doctor.installed_checks()))
    assert (found.name, found.verdict) == ("mylab", "fail") and "no_such_package" in found.what


def test_every_distribution_brings_its_table_and_core_comes_first() -> None:
    names = [entry.name for entry in metadata.entry_points(group="skimo.doctor")]
    assert {"core", "sim", "ros", "server", "learn", "bringup", "calibration"} <= set(names)
    assert doctor.installed_checks()[0].name == "installed"


def test_the_exit_code_is_1_only_where_something_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [ok("a", "fine"), warn("b", "so so", "mend it")]
    monkeypatch.setattr(doctor, "installed_checks", lambda: [Check(name="x", look=lambda asked: rows)])
    assert doctor.doctor([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ok    a: fine",
        "WARN  b: so so",
        "       -> mend it",
        "1 ok, 1 to look at, 0 to mend",
    ]
    assert doctor.doctor(["--quiet"]) == 0
    assert "fine" not in capsys.readouterr().out
    rows.append(Finding(name="c", verdict="fail", what="broken", remedy="buy another"))
    assert doctor.doctor(["--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "fail" and [row["name"] for row in told["findings"]] == ["a", "b", "c"]


def test_the_gravest_verdict_counts() -> None:
    assert gravest([]) == "ok"
    assert gravest([warn("a", "b", "c"), ok("d", "e")]) == "warn"


def test_a_remedy_follows_the_last_semicolon() -> None:
    assert split_remedy("x", "warn", "one; two; do three") == warn("x", "one; two", "do three")
    assert split_remedy("x", "fail", "no remedy here").remedy == ""


# --- what is installed ----------------------------------------------------------------------------------------------


def test_a_missing_or_broken_package_is_named_and_the_others_are_tried(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "halfway.py").write_text("import no_such_thing\n")
    (tmp_path / "deadly.py").write_text("import os; os._exit(7)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    faults = import_faults("json", "halfway", "deadly", "zlib")
    assert "no_such_thing" in faults["halfway"]
    assert "code 7" in faults["deadly"]
    assert "json" not in faults
    found = imports("x", ("json", "halfway"), "install it")
    assert [f.verdict for f in found] == ["fail"] and "halfway" in found[0].what


def test_an_import_that_hangs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "endless.py").write_text("import threading\nthreading.Event().wait()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "did not end" in import_faults("endless", deadline_s=0.5)["endless"]


def test_the_doctor_itself_names_a_blocked_package() -> None:
    """The whole command where yaml's metadata is gone from the path: run as the user would."""
    code = (
        "import sys; from importlib import metadata; real = metadata.distributions\n"
        "metadata.distributions = lambda: [d for d in real() if d.metadata['Name'] != 'msgpack']\n"
        "from skimo_core.setup import installed; from skimo_core.setup.finding import Asked\n"
        "print([f for f in installed.CHECKS[0].look(Asked(domain='kitchen')) if f.verdict == 'fail'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "msgpack is not installed, wanted >=1.0.8" in done.stdout and "pip install" in done.stdout


def test_versions_that_disagree_are_told() -> None:
    assert installed.agreement({"skimo_core": "0.1.0", "skimo_sim": "0.1.0"}).verdict == "ok"
    found = installed.agreement({"skimo_core": "0.1.0", "skimo_sim": "0.2.0"})
    assert found.verdict == "fail" and "skimo_sim 0.2.0" in found.what


@pytest.mark.parametrize(
    ("version", "bounds", "kept"),
    [
        ("1.26.4", ">=1.26,<2", True),
        ("2.0.1", ">=1.26,<2", False),
        ("2.13.0+cpu", ">=2.5", True),
        ("1.0", "==1.0.0", True),
        ("1.1", "==1.*", True),
        ("0.9", "!=0.9", False),
        ("3.11", "<3.12,>=3.2", True),
        ("1.5", "", True),
    ],
)
def test_bounds_of_versions(version: str, bounds: str, kept: bool) -> None:
    assert installed.within(version, bounds) is kept


def test_requirements_are_told_by_what_wants_them() -> None:
    lines = ["numpy>=1.26", 'torch>=2.5; extra == "learn"', 'pytest; extra == "test"', 'old>=1; python_version < "3.9"']
    wanted = [line for line in map(installed.parsed, lines) if line is not None]
    assert [line.extra for line in wanted] == ["", "learn", "test"]
    missing = installed.requirements("skimo_x", wanted, {})
    assert [(f.verdict, f.what.split()[0]) for f in missing] == [("fail", "numpy"), ("warn", "without")]
    assert "skimo_x[learn]" in missing[1].remedy
    old = installed.requirements("skimo_x", wanted, {"numpy": "1.20", "torch": "2.6"})
    assert only(old).what == "numpy is 1.20, wanted >=1.26"
    assert installed.requirements("skimo_x", wanted, {"numpy": "2.1", "torch": "2.6"}) == []


def test_the_interpreter_s_age() -> None:
    assert installed.python((3, 9)).verdict == "fail"
    assert installed.python((3, 11)).verdict == "ok"
    assert installed.python((3, 99)).verdict == "warn"


def test_a_command_whose_code_is_gone_is_named() -> None:
    entry = metadata.EntryPoint(name="fly", value="no_such_package.cli:main", group="skimo.commands")
    assert "fly" in installed.commands([entry]).what
    assert installed.commands([]).verdict == "ok"


# --- the machine ----------------------------------------------------------------------------------------------------


def test_a_clock_that_nobody_sets_matters_on_a_robot_alone() -> None:
    assert machine.synchronised(False, 16.0, [], on_twin=True).verdict == "ok"
    adrift = machine.synchronised(False, 16.0, [], on_twin=False)
    assert adrift.verdict == "warn" and "chrony" in adrift.remedy
    assert machine.synchronised(True, 0.9, ["chronyd"], on_twin=False).verdict == "warn"
    assert machine.synchronised(True, 0.002, ["chronyd"], on_twin=False).verdict == "ok"


def test_the_kernel_tells_of_its_clock() -> None:
    disciplined, error_s = machine.clock_state()
    assert isinstance(disciplined, bool) and error_s >= 0


def test_time_daemons_are_found_among_processes(tmp_path: Path) -> None:
    for number, name in (("1", "init"), ("23", "chronyd"), ("x4", "ntpd")):
        (tmp_path / number).mkdir()
        (tmp_path / number / "comm").write_text(name + "\n")
    assert machine.running_daemons(processes=tmp_path) == ["chronyd"]


def test_clocks_that_are_coarse_or_slow() -> None:
    assert machine.steady("tsc", 1e-9, True).verdict == "ok"
    assert machine.steady("acpi_pm", 1e-9, True).verdict == "warn"
    assert machine.steady("", 0.015, True).verdict == "fail"
    assert machine.steady("tsc", 1e-9, False).verdict == "fail"


def test_a_robot_wants_a_real_time_machine_and_a_twin_doesn_t() -> None:
    assert [f.verdict for f in machine.real_time(False, "6.1", 0, on_twin=True)] == ["ok"]
    assert [f.verdict for f in machine.real_time(False, "6.1", 0, on_twin=False)] == ["warn", "warn"]
    assert [f.verdict for f in machine.real_time(True, "6.1-rt", 99, on_twin=False)] == ["ok", "ok"]
    assert machine.governors(["powersave"], on_twin=False).verdict == "warn"
    assert machine.governors(["powersave"], on_twin=True).verdict == "ok"
    assert machine.governors(["performance"], on_twin=False).verdict == "ok"
    assert machine.governors([], on_twin=False).verdict == "ok"


def test_room_for_recordings_is_looked_at_and_nothing_is_made(tmp_path: Path, monkeypatch) -> None:
    assert machine.room(tmp_path / "not" / "yet").name == "recordings"
    assert not (tmp_path / "not").exists()
    (tmp_path / "file").write_text("")
    assert machine.room(tmp_path / "file" / "below").verdict == "fail"
    for left_mib, verdict in ((100.0, "fail"), (1000.0, "warn"), (9e4, "ok")):
        monkeypatch.setattr(machine, "free_mib", lambda folder, left_mib=left_mib: left_mib)
        assert machine.room(tmp_path).verdict == verdict


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert machine.room(tmp_path / "below").verdict == "fail"


def test_shared_memory_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fastrtps_1234").write_text("")
    assert machine.shared_memory(tmp_path).verdict == "ok"
    assert machine.shared_memory(tmp_path, user=os.getuid() + 1).verdict == "warn"
    monkeypatch.setattr(machine, "free_mib", lambda folder: 1.0)
    assert machine.shared_memory(tmp_path).verdict == "fail"
    assert machine.shared_memory(tmp_path / "gone").verdict == "fail"


def test_keys_that_others_may_read_are_told(tmp_path: Path) -> None:
    assert only(machine.keys(tmp_path)).verdict == "ok"
    make_pair(tmp_path, SERVER_SECRET)
    assert only(machine.keys(tmp_path)).verdict == "ok"
    (tmp_path / SERVER_SECRET).chmod(0o644)
    assert only(machine.keys(tmp_path)).verdict == "fail"


# --- what is asked for ----------------------------------------------------------------------------------------------


def test_domain_and_robot_that_do_not_fit(tmp_path: Path) -> None:
    assert [f.verdict for f in task.domain(ASKED)] == ["ok", "ok", "ok"]
    other = by_name(list(task.domain(Asked(domain="kitchen", robot="fr3"))))["robot"]
    assert other.verdict == "warn" and "'panda_joint1'" in other.what and "fr3_joint1" in other.remedy
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [")
    found = doctor.findings_of(Check(name="domain", look=task.domain), Asked(domain=str(broken)))
    assert only(found).verdict == "fail" and "not YAML" in found[0].what


def test_a_domain_of_another_number_of_joints(tmp_path: Path) -> None:
    text = library.find("domains", "kitchen").text
    path = tmp_path / "six.yaml"
    of_seven = "panda_joint7", "recovery: home"
    path.write_text("\n".join(line for line in text.splitlines() if not any(words in line for words in of_seven)))
    found = task.fits(load_domain(str(path)), load_limits("panda"))
    assert found.verdict == "fail" and "has 6 joints" in found.what


@pytest.fixture
def rig(tmp_path: Path) -> Path:
    made = Made(date=datetime.now(timezone.utc).date() - timedelta(days=200), method="by hand")
    joints = JointOffsets(offset_rad=np.zeros(7), sigma_rad=np.full(7, 1e-3), made=made)
    path = tmp_path / "rig.yaml"
    write_rig(path, Rig(name="ours", robot="panda", serial="295341", joints=joints))
    return path


def test_a_rig_that_is_old_or_another_arm_s(rig: Path) -> None:
    assert only(task.rig(ASKED)).verdict == "ok"
    assert only(task.rig(Asked(domain="kitchen", driver="multipanda"))).verdict == "warn"
    old = only(task.rig(Asked(domain="kitchen", rig=str(rig))))
    assert old.verdict == "warn" and "200 days old" in old.what
    other = only(task.rig(Asked(domain="kitchen", rig=str(rig), robot_serial="1")))
    assert other.verdict == "fail" and "295341" in other.what
    assert only(task.rig(Asked(domain="kitchen", robot="fr3", rig=str(rig)))).verdict == "fail"


def test_the_policy_server_s_place_is_free_or_taken(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "HELLO_S", 0.3)
    asked = Asked(domain="kitchen", endpoint=f"tcp://127.0.0.1:{free_port}")
    assert "free for one" in only(task.server(asked)).what
    with socket.create_server(("127.0.0.1", free_port)):
        taken = only(task.server(asked))
    assert taken.verdict == "fail" and f"127.0.0.1:{free_port}" in taken.what and taken.remedy
