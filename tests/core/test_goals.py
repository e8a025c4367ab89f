"""Goals as an operator types them: what they mean, what reads back, and what is refused."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from skimo_core.contract.errors import SpecError
from skimo_core.domain import goals, library
from skimo_core.domain.domain import Domain, load_domain, parse_domain
from skimo_core.domain.tasks import Progress
from skimo_core.link import protocol

DOMAIN = load_domain()
NAMES = DOMAIN.observation.names
TABLE: dict[str, Any] = {
    "name": "table",
    "robot": "fr3",
    "cell": "open",
    "rate_hz": 20,
    "horizon": 8,
    "step_limit": 100,
    "action": {"others": ["push"]},
    "threshold": 1.0,
    "channels": [
        {"name": "a", "source": "object", "unit": "m", "scale": 0.5},
        {"name": "cube x", "source": "object", "unit": "m"},
        {"name": "force", "source": "object", "unit": "N"},
        {"name": "m", "source": "object", "unit": "1"},
    ],
    "subtasks": {"lift": {"goal": {"a": 0.2}}},
}


def table(**changes: Any) -> Domain:
    return parse_domain(library.Source(text=yaml.safe_dump({**TABLE, **changes}), where="table.yaml"), "table")


def seen(**values: float) -> np.ndarray:
    """An observation [O] far from every goal but in these channels, dots written as underscores."""
    observation = np.full(DOMAIN.observation.size, 50.0, np.float32)
    for name, value in values.items():
        observation[NAMES.index(name if name in NAMES else name.replace("_", ".", 1))] = value
    return observation


# --- what they mean ---------------------------------------------------------------------------------------------------


def test_names_mean_what_the_domain_says() -> None:
    kitchen = DOMAIN.task("kitchen")
    assert kitchen.name == "kitchen" and [s.name for s in kitchen.subtasks] == list(DOMAIN.orders["kitchen"])
    two = DOMAIN.task(" microwave , kettle")
    assert two.name == "microwave,kettle"
    assert two.subtasks == (DOMAIN.subtasks["microwave"], DOMAIN.subtasks["kettle"])
    assert DOMAIN.task("misaligned, home").subtasks[-1] is DOMAIN.goals["home"]


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("microwave=-0.4±0.1", "microwave=-0.4+-0.1"),
        ("microwave=-0.4+-0.1", "microwave=-0.4+-0.1"),
        ("microwave = -0.4 rad +/- 0.1", "microwave=-0.4+-0.1"),
        ("microwave=-0.4", "microwave=-0.4+-0.1"),
        ("microwave=-.4e0+-1e-1", "microwave=-0.4+-0.1"),
        ("microwave=-0", "microwave=0+-0.1"),
        ("microwave=-45deg+-9", "microwave=-0.785398+-0.15708"),
        ("microwave=-45deg+-0.1rad", "microwave=-0.785398+-0.1"),
        ("kettle.x=5cm", "kettle.x=0.05+-0.03"),
        ("kettle.x=5 cm ± 10 mm", "kettle.x=0.05+-0.01"),
        ("kettle.x=0.05+-1cm", "kettle.x=0.05+-0.01"),
        ("top_left_burner=-0.009", "top_left_burner=-0.009+-0.003"),
        ("kettle.qw=1", "kettle.qw=1+-0.1"),
        ("kettle.x=5cm kettle.y=0.35", "kettle.x=0.05+-0.03 & kettle.y=0.35+-0.03"),
        ("kettle.x=5cm&kettle.y=0.35", "kettle.x=0.05+-0.03 & kettle.y=0.35+-0.03"),
        ("bottom burner & slide_cabinet=0.2m", "bottom burner & slide_cabinet=0.2+-0.03"),
    ],
)
def test_a_typed_goal_reads_as_what_it_says(typed: str, name: str) -> None:
    task = DOMAIN.task(typed)
    assert task.name == task.subtasks[0].name == name
    assert DOMAIN.task(name) == task


def test_within_the_tolerance_is_done_and_beyond_it_is_not() -> None:
    (door,) = DOMAIN.task("microwave=-0.4+-0.1").subtasks
    for value, done in ((-0.4, True), (-0.49, True), (-0.31, True), (-0.51, False), (-0.29, False)):
        assert bool(door.complete(seen(microwave=value))) is done
    (both,) = DOMAIN.task("kettle.x=0+-1cm kettle.y=0+-2cm").subtasks
    assert both.complete(seen(kettle_x=0.007, kettle_y=0.013))
    assert not both.complete(seen(kettle_x=0.008, kettle_y=0.013)) and not both.complete(seen(kettle_x=0.0))


def test_a_name_joined_to_a_channel_keeps_its_own_tolerance() -> None:
    named, (joined,) = DOMAIN.subtasks["bottom burner"], DOMAIN.task("bottom burner & slide_cabinet=0.2").subtasks
    state = seen(knob_2=-0.68, bottom_left_burner=-0.01, slide_cabinet=0.2)
    assert joined.distance(state) == pytest.approx(named.distance(state) / named.threshold)
    assert joined.tolerances == (*named.tolerances, 0.03) == (0.3, 0.3, 0.03)


def test_a_typed_goal_reaches_a_planner_in_bounds_that_it_takes() -> None:
    asked = DOMAIN.task("microwave=-1e6+-1e-6,kettle.x=0+-1e6").goals(0, DOMAIN.observation.size)
    assert asked.thresholds_K.tolist() == [1.0, 1.0] and np.isfinite(asked.values_KO).all()
    assert asked.weights_KO.max() == protocol.MAX_WEIGHT and (asked.weights_KO > 0).sum() == 2
    assert goals.MAX_GOALS == protocol.MAX_SUBTASKS


def test_a_door_may_be_opened_closed_and_opened_again() -> None:
    task = DOMAIN.task("microwave,microwave closed,microwave")
    progress = Progress(task)
    assert [progress.update(seen(microwave=value)) for value in (0.0, -0.7, -0.7, 0.0, -0.7)] == [0, 1, 0, 1, 1]
    assert progress.finished


def test_what_the_way_to_a_goal_undoes_is_not_done_before_it() -> None:
    """A microwave that is closed, an arm that is at home: neither ends an episode that opens the one with the other."""
    home = DOMAIN.goals["home"]
    state = seen(microwave=0.0, slide_cabinet=0.37)
    state[list(home.channels)] = home.goal
    arm = DOMAIN.observation.joints + DOMAIN.observation.fingers
    assert DOMAIN.task("microwave,microwave closed,home").done_before(state, arm) == ()
    assert DOMAIN.task("microwave closed,microwave").done_before(state, arm) == ("microwave closed",)
    assert DOMAIN.task("home,microwave").done_before(state, arm) == ("home",)
    assert DOMAIN.task("kettle,slide cabinet").done_before(state, arm) == ("slide cabinet",)


def test_units_without_a_tolerance_ask_for_one_and_a_domain_may_say_it() -> None:
    with pytest.raises(SpecError, match=r"gives no tolerance in 'N'; write force=3\+-TOLERANCE"):
        table().task("force=3")
    assert table().task("force=3N+-0.5").name == "force=3+-0.5"
    assert table(tolerances={"force": 0.2, "a": 0.01}).task("force=3 a=1").name == "force=3+-0.2 & a=1+-0.01"


def test_a_channel_whose_name_has_a_space_or_is_a_units_can_be_asked_for() -> None:
    both = table().task("a=1 cube x=2")
    assert both.name == "a=1+-0.03 & cube x=2+-0.03" and both.subtasks[0].channels == (0, 1)
    assert table().task("a=0.1 m=1").subtasks[0].channels == (0, 3)


# --- what reads back --------------------------------------------------------------------------------------------------

NUMBERS = st.floats(-1e5, 1e5).map(lambda x: f"{x:.9g}")
UNITS = {"rad": ("", "rad", "deg"), "m": ("", "m", "cm", "mm"), "1": ("",)}


@st.composite
def assignments(draw: st.DrawFn, channel: str) -> str:
    units = st.sampled_from(UNITS[DOMAIN.observation.units[NAMES.index(channel)]])
    tolerance = st.floats(1e-2, 1e3).map(lambda x: f"{x:.9g}")
    sign = draw(st.sampled_from(("±", "+-", " +/- ")))
    width = draw(st.one_of(st.just(""), st.builds(lambda x, u: sign + x + u, tolerance, units)))
    return channel + draw(st.sampled_from(("=", " = "))) + draw(NUMBERS) + draw(units) + width


@st.composite
def typed_goals(draw: st.DrawFn) -> str:
    named = sorted(DOMAIN.subtasks | DOMAIN.goals)
    parts = draw(st.lists(st.sampled_from(named), max_size=1))
    taken = {NAMES[c] for name in parts for c in (DOMAIN.subtasks | DOMAIN.goals)[name].channels}
    free = [name for name in NAMES if name not in taken]
    channels = draw(st.lists(st.sampled_from(free), unique=True, max_size=3, min_size=0 if parts else 1))
    return draw(st.sampled_from(("&", " & "))).join([*parts, *(draw(assignments(c)) for c in channels)])


@settings(deadline=None)
@given(st.lists(typed_goals(), min_size=1, max_size=4, unique=True))
def test_what_a_task_is_called_reads_back_to_the_same_task(typed: list[str]) -> None:
    try:
        task = DOMAIN.task(",".join(typed))
    except SpecError as error:
        assert "twice in a row" in str(error)
        return
    again = DOMAIN.task(task.name)
    assert again == task and again.name == ",".join(goal.name for goal in task.subtasks)


@settings(deadline=None)
@given(st.text(st.sampled_from("microwave kettle.x=,&±+-0.1deg\n\x00é"), max_size=60) | st.text(max_size=1200))
def test_any_text_is_a_task_or_is_refused_in_words_that_can_be_printed(text: str) -> None:
    try:
        task = DOMAIN.task(text)
    except SpecError as error:
        assert str(error).isprintable()
    else:
        assert DOMAIN.task(task.name) == task


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (
            "microwav=1",
            "unknown channel 'microwav' in domain kitchen; did you mean microwave?; known are panda_joint1,",
        ),
        ("microwave closd", "did you mean microwave closed or"),
        ("dishes", "known are tasks kitchen, misaligned; sub-tasks and goals microwave, kettle,"),
        ("kettle.x", "'kettle.x' is a channel of domain kitchen; as a goal it needs a value: kettle.x=VALUE"),
        ("home & kitchen", "'kitchen' is a task of several goals in a row"),
        ("microwave kettle.x=1", "unknown channel 'microwave kettle.x'"),
        ("kettle.x=1 microwave", "'microwave' is no CHANNEL=VALUE; a name stands behind an &"),
        ("=1", "'=1' is no CHANNEL=VALUE"),
        ("microwave=", "goal microwave: '' is not a finite number"),
        ("microwave=open", "goal microwave: 'open' is not a finite number"),
        ("microwave=nan", "'nan' is not a finite number"),
        ("microwave=inf", "'inf' is not a finite number"),
        ("microwave=-1e999", "'-1e999' is not a finite number"),
        ("microwave=1e7", "value 1e+07 rad is beyond 1e+06"),
        ("microwave=5cm", "'5cm' is in 'cm', the channel in 'rad'; write a number alone, or with one of rad, deg"),
        ("kettle.x=5deg", "'5deg' is in 'deg', the channel in 'm'; write a number alone, or with one of m, cm, mm"),
        ("kettle.x=5cm+-1deg", "tolerance '1deg' is in 'deg', the channel in 'm'"),
        ("microwave=1+-0", "tolerance 0 rad must be above 0"),
        ("microwave=1+--0.1", "tolerance -0.1 rad must be above 0"),
        ("microwave=1+-1e-9", "tolerance 1e-09 rad must be above 0: 1e-06 to 1e+06"),
        ("microwave=1+-1e9", "tolerance 1e+09 rad must be above 0: 1e-06 to 1e+06"),
        ("microwave=1+-nan", "tolerance 'nan' is not a finite number"),
        ("microwave=1+-", "tolerance '' is not a finite number"),
        ("microwave=1 microwave=2", "asks for channel microwave twice"),
        ("microwave & microwave=-0.4", "asks for channel microwave twice"),
        ("  ", "task '  ' has an empty goal"),
        ("microwave,,kettle", "task 'microwave,,kettle' has an empty goal"),
        ("microwave & ", "has an empty goal"),
        ("kettle,kettle", "names 'kettle' twice in a row"),
        ("microwave=1,microwave=1.0rad", "names 'microwave=1+-0.1' twice in a row"),
        ("micro\nwave", r"has the character '\n', which can't be printed"),
        ("microwave=1\x00", r"has the character '\x00'"),
        ("k" * 1001, "task: it has 1001 characters, bound 1000"),
        (",".join(["microwave", "kettle"] * 33), "task: 66 goals, bound 64"),
        (",".join(["kettle.x=1", "kettle.x=2"] * 30), "written out, it has 1019 characters, bound 1000"),
    ],
)
def test_what_can_t_be_read_is_refused_in_words(typed: str, words: str) -> None:
    with pytest.raises(SpecError, match=re.escape(words)):
        DOMAIN.task(typed)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"goals": {"a&b": {"goal": {"a": 1.0}}}}, "goals: 'a&b' has an &, which stands between what holds at once"),
        ({"subtasks": {"a=b": {"goal": {"a": 1.0}}}}, "subtasks: 'a=b' has an =, which gives a channel its value"),
        ({"goals": {" a": {"goal": {"a": 1.0}}}}, "' a' begins or ends with a space"),
        ({"goals": {"lift": {"goal": {"a": 1.0}}}}, "goals: 'lift' is also one of subtasks"),
        ({"goals": {"all": {"goal": {"a": 1.0}}}, "tasks": {"all": ["lift"]}}, "goals: 'all' is also one of tasks"),
        ({"goals": {"down": {"goal": {"b": 1.0}}}}, "no channel 'b'; channels are a, cube x, force, m"),
        ({"tolerances": {"b": 1.0}}, "tolerances: no channel 'b'"),
        ({"tolerances": {"a": 0.0}}, "a must be above 0, is 0"),
    ],
)
def test_a_domain_whose_goals_could_not_be_asked_for_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=re.escape(words)):
        table(**changes)


def test_goals_are_no_sub_tasks_change_no_digest_and_may_stand_in_orders() -> None:
    goals = {"down": {"goal": {"a": 0.0}, "threshold": 0.1}}
    domain = table(goals=goals, tasks={"up and down": ["lift", "down"]}, tolerances={"a": 0.1})
    assert list(domain.subtasks) == ["lift"] and domain.digest == table().digest
    assert [s.name for s in domain.task().subtasks] == ["lift", "down"] and domain.task().name == "up and down"


def test_a_goal_beyond_what_the_data_cover_is_refused_and_says_how_far_they_go() -> None:
    low, high = [-9.0] * len(NAMES), [9.0] * len(NAMES)
    door = NAMES.index("microwave")
    low[door], high[door] = -0.8, 0.0
    for typed in ("microwave=-0.8", "microwave=-0.85", "microwave=0.1", "kitchen", "home"):
        task = DOMAIN.task(typed)
        assert DOMAIN.check_within(task, low, high) is task
    with pytest.raises(SpecError, match=r"microwave -1.5 rad is not within 0.1 of .* cover, -0.8 to 0 rad"):
        DOMAIN.check_within(DOMAIN.task("kettle,microwave=-1.5"), low, high)
    with pytest.raises(SpecError, match=r"microwave 0.2 rad"):
        DOMAIN.check_within(DOMAIN.task("microwave=0.2"), low, high)
    unknown = DOMAIN.task("microwave=-1.5")
    assert DOMAIN.check_within(unknown, (), ()) is unknown
    with pytest.raises(SpecError, match="ranges of 3 and 30 channels, wanted 30 of each"):
        DOMAIN.check_within(unknown, low[:3], high)
    low[door] = math.nan
    with pytest.raises(SpecError, match="microwave"):
        DOMAIN.check_within(unknown, low, high)
