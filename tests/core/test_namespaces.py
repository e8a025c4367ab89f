"""What tells two stacks of one ROS domain apart: one form of a namespace, a role's and a socket's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.link.endpoint import endpoint_below, parse_endpoint
from skimo_core.process.isolation import DomainLock, RoleWatch, free_domain, namespace_of, role


@pytest.mark.parametrize(
    ("text", "namespace"),
    [("", ""), ("/", ""), ("left", "/left"), ("/left", "/left"), ("/lab/left/", "/lab/left"), ("_1", "/_1")],
)
def test_a_namespace_has_one_form(text: str, namespace: str) -> None:
    assert namespace_of(text) == namespace == namespace_of(namespace)


@pytest.mark.parametrize("text", ["left arm", "left-arm", "1", "//left", "/left//arm", "~", "left\n"])
def test_what_ros_does_not_allow_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="want words of letters, digits and _"):
        namespace_of(text)


def test_a_role_is_a_namespaces_own() -> None:
    with free_domain() as lock, DomainLock(lock.domain, role("/left", "gate_node")):
        with DomainLock(lock.domain, role("/right", "gate_node")), DomainLock(lock.domain, role("/", "gate_node")):
            pass
        with pytest.raises(SetupError, match="already has a skimo /left/gate_node"):
            DomainLock(lock.domain, role("left", "gate_node")).acquire()
        with RoleWatch(lock.domain, role("/", "gate_node")) as watch:
            assert not watch.is_held()


def test_every_namespace_and_domain_has_a_socket_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    paths: list[Path | None] = []
    for domain in ("3", "4"):
        monkeypatch.setenv("ROS_DOMAIN_ID", domain)
        paths += [parse_endpoint(e).path for e in ("local", "local/left", "local/a/b", "local/a_b", "local/right")]
    assert None not in paths and len(set(paths)) == len(paths)
    assert len({path.parent for path in paths if path is not None}) == 1
    assert parse_endpoint("local/left/") == parse_endpoint("local/left")
    for wrong in ("local/left-arm", "local/../x", "locally"):
        with pytest.raises(SetupError, match="endpoint"):
            parse_endpoint(wrong)


def test_local_is_that_of_the_namespace_and_other_endpoints_are_what_they_are() -> None:
    assert [endpoint_below("local", ns) for ns in ("/", "", "/left")] == ["local", "local", "local/left"]
    for endpoint in ("local/right", "ipc:///run/x", "tcp://127.0.0.1:5"):
        assert endpoint_below(endpoint, "/left") == endpoint
