"""The page itself: what is heard, drawn and said, and the buttons, put together.

`show` is called again and again from one thread; buttons come in threads of viser's own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.node import Node
from viser import uplot

from skimo_core.domain.bodies import gauges_of
from skimo_core.domain.cell import Cell
from skimo_core.domain.domain import Domain
from skimo_core.domain.kinematics import arm_points
from skimo_core.process.isolation import namespace_of

from . import watch_words as words
from .operator import Operator
from .robots import Setup
from .watch_desk import STOP_S, Desk
from .watch_door import Door, PageServer, close_page, open_page
from .watch_feed import Feed, Seen
from .watch_scene import Stage

ASK_S = 5.0
PLOT_EVERY_S, WORDS_EVERY_S, SAID_S = 1.0, 0.25, 60.0
OTHER = "(typed below)"
MAX_SEED = 2**31 - 1
PLOTTED_S = 60.0
BEHIND_M = (-0.45, -1.15, 0.9)
"""From where it is looked at what the arm works on: behind it, over its right shoulder."""
DURATIONS = ("plan_ms", "act_ms", "tick_late_ms")


@dataclass(slots=True)
class Panel:
    """The handles of what is said."""

    alive: Any
    banner: Any
    said: Any
    progress: Any
    verdict: Any
    channels: Any
    bodies: Any
    log: Any
    times: Any
    durations: Any
    promises: Any


class WatchPage:
    """A page of one stack.

    Attributes:
        door: who may come in, and where.
        feed: what is heard.
        desk: what the buttons do.
    """

    def __init__(self, node: Node, server: PageServer, door: Door, setup: Setup, cell: Cell, look_only: bool) -> None:
        self.door, self.server, self._domain = door, server, setup.domain
        self.feed = Feed(node, setup)
        self.desk = Desk(Operator(node=node, timeout_s=ASK_S), Operator(node=node, timeout_s=STOP_S), setup.domain)
        self._shown: dict[int, str] = {}
        self._next_words_s = self._next_plot_s = 0.0
        self._said, self._said_s = "", -math.inf
        self.stage = Stage(server.scene, setup, cell)
        self._gauges = gauges_of(setup.domain.observation, self.stage.bodies)
        self._body_channels = tuple(k for body in self.stage.bodies for k in body.channels)
        self._look_from(setup)
        self.panel = self._make_panel(look_only)

    @property
    def watched(self) -> bool:
        """Whether a browser has it open."""
        return bool(self.server.get_clients())

    def close(self) -> None:
        """End it."""
        close_page(self.server)

    def show(self, now_s: float) -> None:
        """Draw and say what is known at `now_s` of the steady clock."""
        seen, feed, domain = self.feed.seen, self.feed, self._domain
        fresh = words.freshness(seen, now_s, feed.joint_states, feed.object_states, domain)
        subtasks = words.subtasks_of(seen.report, domain) if seen.report is not None else ()
        done = seen.report.subtasks_done if seen.report is not None else 0
        wanted = subtasks[done] if done < len(subtasks) else None
        with self.server.atomic():
            self.stage.show(seen, wanted, fresh=fresh.states)
        if now_s >= self._next_words_s:
            self._next_words_s = now_s + WORDS_EVERY_S
            self._say_all(seen, fresh, wanted, now_s)
        if now_s >= self._next_plot_s:
            self._next_plot_s = now_s + PLOT_EVERY_S
            self._say(self.panel.alive, words.alive(int(now_s)))
            self._plot(seen, now_s)

    # --- words ------------------------------------------------------------------------------------------------------

    def _say_all(self, seen: Seen, fresh: words.Freshness, wanted: Any, now_s: float) -> None:
        panel, domain = self.panel, self._domain
        last_O = seen.predicted_PO[-1] if seen.predicted_PO is not None else None
        self._say(panel.banner, words.banner(seen, fresh))
        self._say(panel.said, words.said(self._said if now_s - self._said_s < SAID_S else ""))
        self._say(panel.progress, words.progress(seen, domain, fresh.policy))
        self._say(panel.verdict, words.verdict(seen, fresh.gate))
        for handle, channels in ((panel.channels, self._gauges), (panel.bodies, self._body_channels)):
            found = words.gauges(domain, channels, seen.observation_O, last_O, wanted)
            self._say(handle, words.channels(found, fresh.states))
        self._say(panel.log, words.log(seen))
        self._say(panel.times, words.times(seen, fresh.policy))

        if self._put_back is not None and self._put_back.visible != (there := self.desk.has_twin()):
            self._put_back.visible = there

    def _say(self, handle: Any, content: str) -> None:
        if self._shown.get(id(handle)) != content:
            handle.content = self._shown[id(handle)] = content

    def _plot(self, seen: Seen, now_s: float) -> None:
        rows = [row for row in seen.times if now_s - row.at_s < PLOTTED_S]
        at_s = np.array([row.at_s - now_s for row in rows])
        if len(rows) < 2:
            return
        self.panel.durations.data = (at_s, *(np.array([getattr(row, name) for row in rows]) for name in DURATIONS))
        self.panel.promises.data = (at_s, np.nan_to_num(np.array([row.success_probability for row in rows])))

    # --- buttons ----------------------------------------------------------------------------------------------------

    def answer(self, ask: Callable[[], str]) -> None:
        """Do what a button asks, and show what came of it."""
        self._tell("asked ...")
        self._tell(ask())

    def _tell(self, text: str) -> None:
        self._said, self._said_s = text, time.monotonic()
        self._say(self.panel.said, words.said(text))

    # --- layout -----------------------------------------------------------------------------------------------------

    def _make_panel(self, look_only: bool) -> Panel:
        gui = self.server.gui
        self._put_back: Any = None
        gui.configure_theme(show_logo=False, show_share_button=False, control_width="large")
        gui.main_panel.dock_right()
        alive, banner = gui.add_html(""), gui.add_html("")
        stop = gui.add_button("STOP", color=(201, 42, 42), hint="stops the arm; latched until Reset")
        stop.on_click(lambda _: self.answer(self.desk.stop))
        said = gui.add_html("")
        verdict, progress = gui.add_html(""), gui.add_html("")
        if not look_only:
            self._make_desk()
        tabs = gui.add_tab_group()
        with tabs.add_tab("Objects"):
            channels = gui.add_html("")
        with tabs.add_tab("Bodies"):
            bodies = gui.add_html("")
        with tabs.add_tab("Times"):
            times = gui.add_html("")
            durations = self._make_plot("ms, over the last minute", ("plan", "action", "sent late"))
            promises = self._make_plot("success promised", ("probability",))
        with tabs.add_tab("Verdicts"):
            log = gui.add_html("")
        with tabs.add_tab("View"):
            for layer in self.stage.layers:
                shown = gui.add_checkbox(layer, self.stage.layers[layer].visible)
                shown.on_update(lambda event, layer=layer: self.stage.show_layer(layer, event.target.value))
        return Panel(
            alive=alive,
            banner=banner,
            said=said,
            progress=progress,
            verdict=verdict,
            channels=channels,
            bodies=bodies,
            log=log,
            times=times,
            durations=durations,
            promises=promises,
        )

    def _make_desk(self) -> None:
        gui, domain, desk = self.server.gui, self._domain, self.desk
        with gui.add_folder("Ask", expand_by_default=True):
            task = gui.add_dropdown("task", (*domain.orders, *domain.subtasks, OTHER))
            typed = gui.add_text("or goals", "", hint="sub-tasks, goals, or channels with values, joined by commas")
            seed = gui.add_number("seed", 0, min=0, max=MAX_SEED, step=1)
            put_back = self._put_back = gui.add_checkbox("put the twin's scene back first", True, visible=False)
            anew = gui.add_checkbox("drop what is held or runs", False)
            start = gui.add_button("Start")
            reset = gui.add_button("Reset (clears the stop, lets a held policy go on)")

        def asked() -> str:
            name = typed.value.strip() or (task.value if task.value != OTHER else "")
            return desk.start(name, int(seed.value), reset_twin=put_back.visible and put_back.value, anew=anew.value)

        start.on_click(lambda _: self.answer(asked))
        reset.on_click(lambda _: self.answer(desk.reset))

    def _make_plot(self, title: str, names: tuple[str, ...]) -> Any:
        strokes = ("#1971c2", "#e67700", "#2b8a3e")
        series = (
            uplot.Series(label="s"),
            *(uplot.Series(label=n, stroke=c, width=1.5) for n, c in zip(names, strokes)),
        )
        empty = tuple(np.array([-1.0, 0.0]) if k == 0 else np.zeros(2) for k in range(len(series)))
        scales = {"x": uplot.Scale(time=False)}
        return self.server.gui.add_uplot(empty, series, title=title, scales=scales, height=150)

    def _look_from(self, setup: Setup) -> None:
        """Over the arm's shoulder, at where it works."""
        domain: Domain = setup.domain
        spots = [pose.position_m for body in self.stage.bodies if (pose := body.pose(domain.start)) is not None]
        middle_m = self.stage.base.points(np.mean(spots, axis=0)) if spots else np.zeros(3)
        if domain.observation.joints:
            tool_m = arm_points(setup.limits, setup.limits.home_q_rad[None])[0, -1]
            middle_m = (middle_m + tool_m) / 2 if spots else tool_m
        self.server.initial_camera.look_at = middle_m
        self.server.initial_camera.position = middle_m + np.array(BEHIND_M)


def open_watch_page(node: Node, port: int, setup: Setup, cell: Cell, *, look_only: bool = False) -> WatchPage:
    """Open a page for the stack in a node's namespace.

    Raises:
        SetupError: the port is taken, or the installed viser can't be kept shut.
    """
    below = namespace_of(node.get_namespace())
    server, door = open_page(port, f"skimo {below}".strip())
    try:
        return WatchPage(node, server, door, setup, cell, look_only)
    except Exception:
        close_page(server)
        raise
