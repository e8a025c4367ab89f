"""Everything that is learned, in one module, with the observation's normalisation inside.

`SkillModel` takes raw observations at its border (`encode_skill`, `act`, `encode`, `decode`, ...) and normalised ones
where a name ends in `_n`. Its state dict is what a checkpoint holds and what a bundle is exported from.

With `hand_pose` encoder, skill encoder and skill policy read the hand's pose as well, with `reach` where bodies are
from it (hand.py), normalised alike.

Normalisation: n = (o - mean) / std with std the deviation in the data but at least `std_floor`, so that the noise of a
channel that never moves isn't blown up to unit size. The decoder's output is in the same unit: what stood still in the
data can still be predicted to move.

Dimensions: B batch, H skill horizon, O observation, A action, Z skill, D latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor, nn

from skimo_core.contract.errors import SpecError
from skimo_core.domain.pose import HERE, Pose
from skimo_core.domain.robot import RobotLimits

from ..models import normal
from . import hand
from .networks import Dynamics, GoalValue, SegmentEncoder, SkillEncoder, SkillPolicy, TaskHeads, mlp

DECODER_STD_LOW, DECODER_STD_SPAN = 0.1, 0.7  # std = low + span (tanh(raw) + 1), SkiMo's code


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Sizes and forms of the networks.

    Attributes:
        observation, action: O and A.
        joints: how many of the observation's channels, the first, are the arm's joints.
        horizon: H, control steps of a skill.
        skill: Z.
        latent: D.
        hidden: units of encoder, decoder, dynamics and prior.
        layers: hidden layers of dynamics and prior (the paper's "5 layers" are 4 hidden and the output).
        lstm: units of the skill encoder.
        skill_encoder: an LSTM over a segment's states and actions, or an MLP of so many `layers` on its first state and
            its actions, as SkiMo has it in the maze.
        policy_hidden, policy_layers: of the skill policy.
        policy_layer_norm: LayerNorm and SiLU in the skill policy instead of ELU: it fits the stiff parts of play
            (near a handle) in a fraction of the updates.
        value_hidden, value_layers: of the goal value.
        value_octaves: in which it reads where a latent is, and the goal; 0: of the latent alone. For goals that are
            near and yet far, as behind a wall.
        low_level_encoder: give skill encoder and skill policy a separate state encoder, as SkiMo's code has it; else
            they read the (normalised) observation itself.
        hand_pose: those networks that read observations read the hand's pose besides (without joints: nothing more).
        reach: and where bodies are from the hand (without joints or bodies: nothing more).
        bodies: channels of x, y and z of each body that the observation tells the place of.
        normalise: normalise observations by the training data's mean and deviation.
        std_floor: smallest deviation used, in each channel's unit.
        residual: the dynamics predicts the change of the latent.
        members: dynamics networks in the ensemble.
        distilled: one more dynamics network, which learns to answer as the ensemble's mean does, and is what plans ask.
        task_heads: one task's reward, critics and policy over skills (returns.py).
        decoder_std, policy_std: the decoder, the skill policy predict a deviation too (needed by their "nll" loss).
    """

    observation: int = 30
    action: int = 9
    joints: int = 7
    horizon: int = 10
    skill: int = 10
    latent: int = 256
    hidden: int = 128
    layers: int = 4
    lstm: int = 128
    skill_encoder: Literal["lstm", "mlp"] = "lstm"
    policy_hidden: int = 128
    policy_layers: int = 4
    policy_layer_norm: bool = False
    value_hidden: int = 128
    value_layers: int = 3
    value_octaves: int = 0
    low_level_encoder: bool = True
    hand_pose: bool = False
    reach: bool = False
    bodies: tuple[tuple[int, ...], ...] = ()
    normalise: bool = True
    std_floor: float = 0.02
    residual: bool = False
    members: int = 1
    distilled: bool = False
    task_heads: bool = False
    decoder_std: bool = False
    policy_std: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "bodies", tuple(tuple(body) for body in self.bodies))  # JSON has lists
        for name in ("observation", "action", "horizon", "skill", "latent", "hidden", "layers", "lstm", "members"):
            if getattr(self, name) < 1:
                raise SpecError(f"model {name} is {getattr(self, name)}, must be at least 1")
        if not 0 <= self.joints <= self.observation:
            raise SpecError(f"model joints is {self.joints}, must lie in 0 to {self.observation}, its observation")
        for body in self.bodies:
            if len(body) != 3 or not all(0 <= channel < self.observation for channel in body):
                raise SpecError(f"model body {body} must be three channels, each in 0 to {self.observation - 1}")
        if self.reach and not self.hand_pose:
            raise SpecError("model reach needs hand_pose: bodies are seen from there")
        if self.skill_encoder not in ("lstm", "mlp"):
            raise SpecError(f"model skill_encoder is {self.skill_encoder!r}, must be lstm or mlp")
        if not 0 <= self.value_octaves <= 10:
            raise SpecError(f"model value_octaves is {self.value_octaves}, must lie in 0 to 10")
        if self.std_floor <= 0:
            raise SpecError(f"model std_floor is {self.std_floor}, must be positive")

    def unlike(self, other: ModelConfig) -> str:
        """The first setting by which the networks differ; "" if they don't. Nobody reads bodies without `reach`."""
        seen = [field.name for field in fields(self) if field.name != "bodies" or self.reach]
        return next((name for name in seen if getattr(self, name) != getattr(other, name)), "")


class SkillModel(nn.Module):
    """Encoder, decoder, skill dynamics, skill encoder, skill policy, skill prior and goal value."""

    mean_O: Tensor
    std_O: Tensor
    mean_P: Tensor
    std_P: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = c = config
        self.register_buffer("mean_O", torch.zeros(c.observation))
        self.register_buffer("std_O", torch.ones(c.observation))
        self.hand = hand.HandPose(c.joints) if c.hand_pose and c.joints else None
        sees = self.hand is not None and c.reach and c.bodies
        self.reach = hand.Reach(c.observation, c.bodies) if sees else None
        width = 0 if self.hand is None else hand.WIDTH + (hand.WIDTH_PER_BODY * len(c.bodies) if sees else 0)
        if width:
            self.register_buffer("mean_P", torch.zeros(width))
            self.register_buffer("std_P", torch.ones(width))
        seen = c.observation + width
        features = c.latent if c.low_level_encoder else seen
        self.low_encoder = mlp([seen, c.hidden, c.latent]) if c.low_level_encoder else None
        self.encoder = mlp([seen, c.hidden, c.latent])
        self.decoder = mlp([c.latent, c.hidden, c.hidden, c.observation * (2 if c.decoder_std else 1)])
        self.skill_encoder = (
            SkillEncoder(features, c.action, c.lstm, c.skill)
            if c.skill_encoder == "lstm"
            else SegmentEncoder(features, c.action, c.horizon, c.lstm, c.layers, c.skill)
        )
        self.skill_policy = SkillPolicy(
            features,
            c.skill,
            c.policy_hidden,
            c.policy_layers,
            c.action,
            with_std=c.policy_std,
            layer_norm=c.policy_layer_norm,
        )
        self.dynamics = Dynamics(c.latent, c.skill, c.hidden, c.layers, members=c.members, residual=c.residual)
        self.prior_net = mlp([c.latent, *[c.hidden] * c.layers, 2 * c.skill])
        self.value = GoalValue(c.latent, c.observation, c.value_hidden, c.value_layers, octaves=c.value_octaves)
        alone = c.latent, c.skill, c.hidden, c.layers
        self.distilled = Dynamics(*alone, members=1, residual=c.residual) if c.distilled else None
        self.heads = TaskHeads(*alone) if c.task_heads else None

    def fit_normalisation(self, observations_RO: Tensor) -> None:
        """Take mean and deviation from data (rows of raw observations); does nothing unless `normalise`."""
        if not self.config.normalise:
            return
        self._fit(self.mean_O, self.std_O, observations_RO)
        if self.hand is not None:
            self._fit(self.mean_P, self.std_P, self._from_hand(self.hand, observations_RO))

    def _fit(self, mean: Tensor, std: Tensor, rows: Tensor) -> None:
        mean.copy_(rows.double().mean(0))
        std.copy_(rows.double().std(0).clamp(min=self.config.std_floor))

    def normalise(self, observation: Tensor) -> Tensor:
        """Raw to normalised observations [..., O]."""
        return (observation - self.mean_O) / self.std_O

    def mount(self, limits: RobotLimits, objects: Pose = HERE) -> None:
        """Take the geometry of the arm whose joints are observed; does nothing without `hand_pose`.

        Args:
            objects: where the frame that bodies are told in stands in the arm's base frame.
        """
        if self.hand is not None:
            self.hand.mount(limits)
        if self.reach is not None:
            self.reach.mount(objects)

    def with_hand(self, observation_n: Tensor) -> Tensor:
        """The normalised observation [..., O] with the hand's pose, normalised, after it; without, itself."""
        if self.hand is None:
            return observation_n
        told = self._from_hand(self.hand, observation_n * self.std_O + self.mean_O)
        return torch.cat([observation_n, (told - self.mean_P) / self.std_P], dim=-1)

    def _from_hand(self, pose_of: hand.HandPose, observation: Tensor) -> Tensor:
        """Of raw observations [..., O], what networks read of the hand [..., P], not normalised."""
        pose = pose_of(observation[..., : self.config.joints])
        return pose if self.reach is None else torch.cat([pose, self.reach(observation, pose)], dim=-1)

    def features(self, observation_n: Tensor) -> Tensor:
        """What the skill encoder and the skill policy read [..., F]."""
        seen = self.with_hand(observation_n)
        return seen if self.low_encoder is None else self.low_encoder(seen)

    def encode_n(self, observation_n: Tensor) -> Tensor:
        """Latent [..., D] of a normalised observation."""
        return self.encoder(self.with_hand(observation_n))

    def decode_n(self, latent: Tensor) -> tuple[Tensor, Tensor | None]:
        """Normalised observation [..., O] and its deviation, if the decoder has one."""
        raw = self.decoder(latent)
        std = None
        if self.config.decoder_std:
            raw, raw_std = raw.chunk(2, dim=-1)
            std = DECODER_STD_LOW + DECODER_STD_SPAN * (torch.tanh(raw_std) + 1.0)
        return raw, std

    def policy_n(self, features: Tensor, skill: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pre-tanh mean [..., A] of the action and its deviation, if the policy has one."""
        raw = self.skill_policy(features, skill)
        if not self.config.policy_std:
            return raw, None
        mean, std = normal.split(raw)
        return mean, std

    def encode(self, observation_BO: Tensor) -> Tensor:
        """Latent [B, D] of a raw observation."""
        return self.encode_n(self.normalise(observation_BO))

    def decode(self, latent_BD: Tensor) -> Tensor:
        """Raw observation [B, O] (its mean) of a latent."""
        return self.decode_n(latent_BD)[0] * self.std_O + self.mean_O

    def step(self, latent_BD: Tensor, skill_BZ: Tensor) -> Tensor:
        """Latent [B, D] a skill later, as plans see it."""
        return (self.distilled or self.dynamics)(latent_BD, skill_BZ)

    def prior(self, latent_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation [B, Z] of the pre-tanh skill prior at a latent."""
        return normal.split(self.prior_net(latent_BD))

    def reward(self, latent_BD: Tensor, skill_BZ: Tensor) -> Tensor:
        """What a skill earns of the task [B]."""
        return self._heads.reward(torch.cat([latent_BD, skill_BZ], dim=-1)).squeeze(-1)

    def task_value(self, latent_BD: Tensor) -> Tensor:
        """The task's return from a latent [B]: the lower critic's of the task policy's mode."""
        return TaskHeads.least(self._heads.critics, latent_BD, torch.tanh(self.task_policy(latent_BD)[0]))

    def task_policy(self, latent_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation [B, Z] of the pre-tanh task policy at a latent."""
        return normal.split(self._heads.policy(latent_BD))

    @property
    def _heads(self) -> TaskHeads:
        assert self.heads is not None, "the model has no task_heads"
        return self.heads

    def encode_skill(self, observations_BHO: Tensor, actions_BHA: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation [B, Z] of the pre-tanh skill of a segment of raw observations and actions."""
        features = self.features(self.normalise(observations_BHO))
        return normal.split(self.skill_encoder(features, actions_BHA))

    def act(self, observation_BO: Tensor, skill_BZ: Tensor) -> Tensor:
        """The skill policy's action [B, A] in (-1, 1)."""
        return torch.tanh(self.policy_n(self.features(self.normalise(observation_BO)), skill_BZ)[0])

    def goal_value(self, latent_BD: Tensor, goal_BO: Tensor, weight_BO: Tensor) -> Tensor:
        """Discounted time to a goal, in (0, 1); [B]. Goal and weight, 1 over a tolerance, are in raw units."""
        return torch.sigmoid(self.goal_logits(latent_BD, goal_BO, weight_BO))

    def goal_logits(self, latent_BD: Tensor, goal_BO: Tensor, weight_BO: Tensor) -> Tensor:
        """`goal_value` before the sigmoid."""
        decoded = None
        if self.config.value_octaves:
            with torch.no_grad():
                decoded = self.decode_n(latent_BD)[0]
        return self.value(latent_BD, self.normalise(goal_BO), weight_BO * self.std_O, decoded)


def seeing_bodies(weights: Mapping[str, Tensor], like: Mapping[str, Tensor], observation: int) -> dict[str, Tensor]:
    """Weights of a network without `reach` for the one that has it and is else the same, whose present ones are `like`.

    The first layers get zeros for what they did not read, so that all answers stay the same. How that is normalised
    is taken from `like`, and with it where the bodies are.

    Args:
        observation: O.
    """
    told, found = observation + hand.WIDTH, {name: value for name, value in like.items() if name not in weights}
    for name, value in weights.items():
        if name in ("mean_P", "std_P"):
            value = torch.cat([value, like[name][hand.WIDTH :]])
        elif name in like and value.shape != like[name].shape:
            unread = value.new_zeros(len(value), like[name].shape[1] - value.shape[1])
            value = torch.cat([value[:, :told], unread, value[:, told:]], dim=1)
        found[name] = value
    return found
