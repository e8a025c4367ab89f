"""Goals for the goal value, drawn in hindsight from play (Andrychowicz et al., "Hindsight Experience Replay", 2017).

A goal is a value and a tolerance for some channels; it holds where sqrt(sum((weight * (x - goal))^2)) < 1, the weight
being 1 over the tolerance and 0 off the goal. Three kinds are drawn, in shares that `ValueConfig` names:

    later    what some channels were at a later row of the same episode: reached, by play itself
    other    what they were in another episode: mostly never reached
    named    the domain's sub-tasks, with their own tolerances

Of which channels: one of an object, all of an object or of a sub-task, some of these, all or some of the arm's joints,
now and then two such sets at once; or just those of one sub-task. Channels that stood still in the data come only with
one that moved. Nothing is looked up in a table of goals: the steps until a goal first holds are counted on the recorded
rows of the batch. All of it is tensor code without a look at a value, so that it runs on any device and can be
captured.

Dimensions: B goals, T rows looked at, O observation, S channel sets, K sub-tasks, R rows of all episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skimo_core.contract.specs import ObservationSpec
from skimo_core.domain.tasks import Subtask

from .value_config import ValueConfig

NOISE_TOLERANCE = 2.0  # least tolerance, in half widths of a channel's noise
NEVER = 1 << 30  # steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """Goals and weights [B, O] in raw units; `named_B` says which are sub-tasks."""

    values_BO: Tensor
    weights_BO: Tensor
    named_B: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalSource:
    """What goals are drawn from, on one device.

    Attributes:
        observations_RO: of all episodes, raw.
        ends_R: each row's episode's last row.
        firsts_E, ends_E: each episode's first and last row.
        episodes_R: each row's episode.
        sets_SO: channel sets over objects, 1 where a channel belongs to it.
        joints_O: the arm's.
        moving_O: whether a channel moved in the data.
        deviations_O: in the data, floored.
        least_O: least tolerance, from the noise.
        usual_O: tolerance of the sub-tasks over a channel; the deviation where there is none.
        named_KO, weights_KO: the sub-tasks.
    """

    observations_RO: Tensor
    ends_R: Tensor
    firsts_E: Tensor
    ends_E: Tensor
    episodes_R: Tensor
    sets_SO: Tensor
    joints_O: Tensor
    moving_O: Tensor
    deviations_O: Tensor
    least_O: Tensor
    usual_O: Tensor
    named_KO: Tensor
    weights_KO: Tensor


def goal_source(
    observations_RO: Tensor,
    steps_E: Tensor,
    spec: ObservationSpec,
    subtasks: Sequence[Subtask],
    *,
    noise_O: Tensor,
    std_floor: float,
) -> GoalSource:
    """What goals are drawn from.

    Args:
        observations_RO: episodes end to end, raw; their device is where drawing happens.
        steps_E: actions of each episode, one less than its rows.
        noise_O: half width of the noise in the channels' units.
        std_floor: deviation that a channel counts as having at least; one with no more stood still.
    """
    device = observations_RO.device
    std = observations_RO.double().std(0).float()
    deviations = std.clamp(min=std_floor)
    moving = std > std_floor
    named, weights = subtask_arrays(subtasks, spec.size)
    usual = deviations.clone()
    for subtask in subtasks:
        usual[list(subtask.channels)] = subtask.threshold * torch.tensor(subtask.scales or 1.0, device=device)
    ends = (torch.cumsum(steps_E + 1, 0) - 1).to(device)
    counts = (steps_E + 1).to(device)
    joints = torch.arange(spec.size) < spec.joints
    return GoalSource(
        observations_RO=observations_RO,
        ends_R=torch.repeat_interleave(ends, counts),
        firsts_E=ends - counts + 1,
        ends_E=ends,
        episodes_R=torch.repeat_interleave(torch.arange(len(steps_E), device=device), counts),
        sets_SO=channel_sets(spec, subtasks, moving.cpu()).to(device),
        joints_O=joints.to(device),
        moving_O=moving,
        deviations_O=deviations,
        least_O=NOISE_TOLERANCE * noise_O.to(device),
        usual_O=usual,
        named_KO=named.to(device),
        weights_KO=weights.to(device),
    )


def subtask_arrays(subtasks: Sequence[Subtask], size: int) -> tuple[Tensor, Tensor]:
    """Goals and weights [K, O] of sub-tasks, in raw units."""
    goals, weights = torch.zeros(len(subtasks), size), torch.zeros(len(subtasks), size)
    for k, subtask in enumerate(subtasks):
        goals[k, list(subtask.channels)] = torch.tensor(subtask.goal)
        weights[k, list(subtask.channels)] = 1.0 / (torch.tensor(subtask.scales or 1.0) * subtask.threshold)
    return goals, weights


def channel_sets(spec: ObservationSpec, subtasks: Sequence[Subtask], moving_O: Tensor) -> Tensor:
    """The sets [S, O] of object channels that goals are over: each that moved, each object's, each sub-task's.

    An object is what its channels' names begin with, before the dot. A set in which nothing moved is left out; where
    that leaves none, all objects together are the one set, or all channels where there is no object.
    """
    first = spec.size - len(spec.objects)
    groups: dict[str, list[int]] = {}
    for channel in range(first, spec.size):
        groups.setdefault(spec.names[channel].split(".")[0], []).append(channel)
    alone = [(channel,) for channel in range(first, spec.size)]
    found = dict.fromkeys([*alone, *map(tuple, groups.values()), *(tuple(sorted(s.channels)) for s in subtasks)])
    sets = [channels for channels in found if moving_O[list(channels)].any()]
    sets = sets or [tuple(range(first if first < spec.size else 0, spec.size))]
    rows = torch.zeros(len(sets), spec.size, dtype=torch.bool)
    for row, channels in enumerate(sets):
        rows[row, list(channels)] = True
    return rows


def draw_goals(source: GoalSource, rows_B: Tensor, horizon: int, config: ValueConfig, rng: torch.Generator) -> Goals:
    """One goal for each row, of the kinds and in the shares of `config`; `horizon` is a skill's control steps."""
    uniform = _Uniform(len(rows_B), rng)
    named = uniform() < (config.named if len(source.named_KO) else 0.0)
    foreign = uniform() < config.other / max(1.0 - config.named, 1e-9)
    values, weights = _recorded(source, rows_B, foreign, horizon, config, uniform)
    for _ in range(config.redraws):
        off = (source.observations_RO[rows_B] - values) * weights
        holds = off.square().sum(1, keepdim=True) < 1.0
        anew = _recorded(source, rows_B, foreign, horizon, config, uniform)
        values, weights = torch.where(holds, anew[0], values), torch.where(holds, anew[1], weights)
    if len(source.named_KO):
        which = _below(uniform(), torch.full_like(rows_B, len(source.named_KO)))
        values = torch.where(named.unsqueeze(1), source.named_KO[which], values)
        weights = torch.where(named.unsqueeze(1), source.weights_KO[which], weights)
    return Goals(values_BO=values, weights_BO=weights, named_B=named)


def steps_until(source: GoalSource, rows_B: Tensor, goals: Goals, offsets: Sequence[int], look_ahead: int) -> Tensor:
    """Control steps [offsets, B] from row + offset until the goal first holds there or later in the episode.

    NEVER where it doesn't. `look_ahead`: rows looked at, at least as many as an episode has.
    """
    step = torch.arange(look_ahead, device=rows_B.device)
    rows = rows_B.unsqueeze(1) + step
    ends = source.ends_R[rows_B].unsqueeze(1)
    off = source.observations_RO[torch.minimum(rows, ends)]
    off = off.sub_(goals.values_BO.unsqueeze(1)).mul_(goals.weights_BO.unsqueeze(1))
    holds = (off.square_().sum(-1) < 1.0) & (rows <= ends)
    at = torch.where(holds, step, NEVER)
    first = at.flip(1).cummin(1).values.flip(1)
    wait = torch.stack([first[:, offset] - offset for offset in offsets])
    return torch.where(wait < look_ahead, wait, NEVER)


def _recorded(
    source: GoalSource, rows_B: Tensor, foreign_B: Tensor, horizon: int, config: ValueConfig, uniform: _Uniform
) -> tuple[Tensor, Tensor]:
    """Values and weights [B, O] of goals that are some channels of a recorded row, of another episode or later."""
    later = _later(source, rows_B, horizon, config, uniform)
    taken = torch.where(foreign_B, _elsewhere(source, rows_B, uniform), later)
    channels = _channels(source, config, uniform)
    tolerance = _tolerances(source, channels, config, uniform)
    moved = tolerance * (2.0 * uniform(len(tolerance[0])) - 1.0) * config.jitter / _root_size(channels)
    return (source.observations_RO[taken] + moved) * channels, channels / tolerance


class _Uniform:
    """Numbers in [0, 1), [B] or [B, width]."""

    def __init__(self, rows: int, rng: torch.Generator) -> None:
        self.rows, self.rng = rows, rng

    def __call__(self, *width: int) -> Tensor:
        return torch.rand((self.rows, *width), generator=self.rng, device=self.rng.device)


def _below(uniform_B: Tensor, count_B: Tensor) -> Tensor:
    """Whole numbers of 0 to count - 1; 0 where the count is 0."""
    return torch.minimum((uniform_B * count_B).long(), count_B - 1).clamp(min=0)


def _later(source: GoalSource, rows_B: Tensor, horizon: int, config: ValueConfig, uniform: _Uniform) -> Tensor:
    """A later row of the same episode; the last one for itself."""
    left = source.ends_R[rows_B] - rows_B
    near = uniform() < config.near
    reach = torch.where(near, left.clamp(max=config.near_skills * horizon), left)
    return rows_B + torch.minimum(1 + _below(uniform(), reach), left)


def _elsewhere(source: GoalSource, rows_B: Tensor, uniform: _Uniform) -> Tensor:
    """A row of another episode; of the same where there is only one."""
    count = len(source.ends_E)
    past = 1 + _below(uniform(), torch.full_like(rows_B, count - 1))
    episode = (source.episodes_R[rows_B] + past) % count
    first = source.firsts_E[episode]
    return first + _below(uniform(), source.ends_E[episode] - first + 1)


def _channels(source: GoalSource, config: ValueConfig, uniform: _Uniform) -> Tensor:
    """Channel sets [B, O] as booleans."""
    size = source.sets_SO.shape[1]

    def one() -> Tensor:
        sets = source.sets_SO[_below(uniform(), torch.full((uniform.rows,), len(source.sets_SO), device=device))]
        arm = (uniform() < config.joints) & source.joints_O.any()
        sets = torch.where(arm.unsqueeze(1), source.joints_O, sets)
        # some of them: those that drew a high number, and always the moving one with the highest
        score = uniform(size)
        best = torch.where(sets & source.moving_O, 1.0 + score, torch.where(sets, score, -1.0)).argmax(1, keepdim=True)
        some = sets & ((score > 0.5) | (torch.arange(size, device=device) == best))
        return torch.where((uniform() < config.subset).unsqueeze(1), some, sets)

    device = source.sets_SO.device
    first, second = one(), one()
    drawn = first | (second & (uniform() < config.pair).unsqueeze(1))
    if not config.alike or not len(source.weights_KO):
        return drawn
    which = _below(uniform(), torch.full((uniform.rows,), len(source.weights_KO), device=device))
    return torch.where((uniform() < config.alike).unsqueeze(1), source.weights_KO[which] > 0, drawn)


def _tolerances(source: GoalSource, channels: Tensor, config: ValueConfig, uniform: _Uniform) -> Tensor:
    """Tolerances [B, O], grown by the root of the channels' number so that their norm is that of one."""
    span = config.tolerance_high / config.tolerance_low
    scale = config.tolerance_low * span ** uniform(1)
    spread = config.tolerance_spread ** (2.0 * uniform(channels.shape[1]) - 1.0)
    drawn = torch.maximum(source.deviations_O * scale * spread, source.least_O) * _root_size(channels)
    usual = (uniform() < config.tolerance_named).unsqueeze(1)
    return torch.where(usual, torch.maximum(source.usual_O, source.least_O), drawn)


def _root_size(channels: Tensor) -> Tensor:
    return channels.sum(1, keepdim=True).float().sqrt()
