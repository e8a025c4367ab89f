"""The kinds of agents that a bundle can hold, and which graphs each kind has.

The planner is one loop for all: propose, roll out, score, refit, act. A graph is a stage of it; one that a bundle may
lack is a stage that it may miss. How each graph is called says `graphs.SIGNATURES`.

    kind "skimo"     SkiMo (Shi et al. 2022) and its variants: skills in a latent model
      encode         observation -> latent
      dynamics       latent, skill -> latent a skill later, and how far an ensemble's members disagree of it
      ensemble       the same by the ensemble from which `dynamics` was distilled; asked where disagreement counts
      decode         latent -> observation: what the task's own reward is told on
      skill_policy   observation, skill -> action
      prior          latent -> the skills of the data; without it, skills are proposed from a standard normal
      goal_value     latent, goal -> how near its completion is; without it, that term of the score is 0
      skill_encoder  what was done -> the skill behind it; only learning and analysis ask it
      reward         latent, skill -> what the skill earns
      value          latent -> what the states after it earn
      task_policy    latent -> the skills of a task; may propose in the prior's place

It knows nothing of files or networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skimo_core.contract.errors import BundleError

SKIMO = "skimo"
MAX_SHOWN = 80  # characters of what a refusal quotes


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Names of the graphs that a bundle of a kind must have, and of those that it may have."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    SKIMO: Kind(
        required=("encode", "dynamics", "decode", "skill_policy"),
        optional=("ensemble", "prior", "goal_value", "skill_encoder", "reward", "value", "task_policy"),
    ),
}


def check_agent(kind: str, graphs: Sequence[str], state: Mapping[str, object]) -> None:
    """Refuses an agent that isn't in the table above.

    Args:
        state: shapes by name of what the agent remembers from one control step to the next.

    Raises:
        BundleError: with the value, what is known and the remedy.
    """
    if kind not in KINDS:
        raise BundleError(
            f"kind is {_shown(kind)}, known are {', '.join(map(repr, KINDS))}; "
            "export it as one of these, or update this program"
        )
    known = KINDS[kind]
    if missing := [name for name in known.required if name not in graphs]:
        raise BundleError(
            f"graph {missing[0]!r} is missing, a bundle of kind {kind!r} must have {', '.join(known.required)}; "
            f"export it with {missing[0]}.onnx"
        )
    if unknown := [name for name in graphs if name not in (*known.required, *known.optional)]:
        raise BundleError(
            f"graph {_shown(unknown[0])} is unknown, a bundle of kind {kind!r} has {', '.join(known.required)} and may "
            f"have {', '.join(known.optional)}; export it without, or update this program"
        )
    if state:
        raise BundleError(
            f"state is {_shown(state)}, must be empty: no kind that remembers from step to step is served yet; "
            "export an agent without recurrent state"
        )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
