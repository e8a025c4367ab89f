"""The networks, each one class: what goes in, what comes out, nothing about training or normalisation.

All are stacks of Linear and ELU without dropout; weights orthogonal with gain 1, biases zero (SkiMo's code). The skill
policy may have LayerNorm and SiLU between instead. Sizes are arguments. Observations here are already normalised.

Dimensions: B batch, H skill horizon, O observation, A action, Z skill, D latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def mlp(sizes: Sequence[int], *, layer_norm: bool = False) -> nn.Sequential:
    """Linear layers of the given sizes with ELU between, or LayerNorm and SiLU; nothing at the end."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        linear = nn.Linear(fan_in, fan_out)
        nn.init.orthogonal_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.LayerNorm(fan_out), nn.SiLU()] if layer_norm else [linear, nn.ELU()]
    return nn.Sequential(*layers[: -2 if layer_norm else -1])


def bounded_mlp(sizes: Sequence[int]) -> nn.Sequential:
    """The same with LayerNorm and tanh after the first layer, and a small last one: for returns (SkiMo's code)."""
    first, *rest = mlp(sizes)
    assert isinstance(first, nn.Linear) and isinstance(rest[-1], nn.Linear)
    nn.init.orthogonal_(rest[-1].weight, 0.01)
    return nn.Sequential(first, nn.LayerNorm(sizes[1]), nn.Tanh(), *rest[1:])


class SkillEncoder(nn.Module):
    """q(z | s, a) of a segment: an LSTM over H pairs of state features and action (SkiMo eq. 2)."""

    def __init__(self, features: int, action: int, hidden: int, skill: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features + action, hidden, batch_first=True)
        self.head = mlp([hidden, 2 * skill])

    def forward(self, features_BHF: Tensor, actions_BHA: Tensor) -> Tensor:
        """Raw numbers [B, 2 Z]."""
        output, _ = self.lstm(torch.cat([features_BHF, actions_BHA], dim=-1))
        return self.head(output[:, -1])


class SegmentEncoder(nn.Module):
    """The same without a memory: of the state features that the segment begins with and its H actions (SkiMo, Maze)."""

    def __init__(self, features: int, action: int, horizon: int, hidden: int, layers: int, skill: int) -> None:
        super().__init__()
        self.net = mlp([features + horizon * action, *[hidden] * layers, 2 * skill])

    def forward(self, features_BHF: Tensor, actions_BHA: Tensor) -> Tensor:
        """Raw numbers [B, 2 Z]."""
        return self.net(torch.cat([features_BHF[:, 0], actions_BHA.flatten(1)], dim=-1))


class SkillPolicy(nn.Module):
    """pi_L(a | s, z): the closed-loop skill policy; the mode of its action is tanh of the mean."""

    def __init__(
        self, features: int, skill: int, hidden: int, layers: int, action: int, *, with_std: bool, layer_norm: bool
    ) -> None:
        super().__init__()
        self.action = action
        sizes = [features + skill, *[hidden] * layers, action * (2 if with_std else 1)]
        self.net = mlp(sizes, layer_norm=layer_norm)

    def forward(self, features_BF: Tensor, skill_BZ: Tensor) -> Tensor:
        """Raw numbers: means [B, A], and log standard deviations after them if it has any."""
        return self.net(torch.cat([features_BF, skill_BZ], dim=-1))


class Dynamics(nn.Module):
    """The skill dynamics D(h, z): the latent one skill later. Several members make an ensemble; its answer is the mean.

    `residual` adds the input latent to the output (the papers predict the next latent directly).
    """

    def __init__(self, latent: int, skill: int, hidden: int, layers: int, *, members: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        sizes = [latent + skill, *[hidden] * layers, latent]
        self.members = nn.ModuleList(mlp(sizes) for _ in range(members))

    def each(self, latents: Sequence[Tensor], skill_BZ: Tensor) -> list[Tensor]:
        """Next latents, member k from its own latents[k] [B, D]."""
        out = [m(torch.cat([h, skill_BZ], dim=-1)) for m, h in zip(self.members, latents)]
        return [o + h for o, h in zip(out, latents)] if self.residual else out

    def forward(self, latent_BD: Tensor, skill_BZ: Tensor) -> Tensor:
        """The members' mean next latent [B, D]."""
        every = self.each([latent_BD] * len(self.members), skill_BZ)
        return every[0] if len(every) == 1 else torch.stack(every).mean(0)

    def disagreement(self, latent_BD: Tensor, skill_BZ: Tensor) -> Tensor:
        """Root mean square, over members and D, of the members' deviation from their mean; [B]."""
        every = torch.stack(self.each([latent_BD] * len(self.members), skill_BZ))
        return every.var(0, unbiased=False).mean(-1).sqrt()


class GoalValue(nn.Module):
    """V(h, goal, weight) in (0, 1): the discounted time to a goal over some channels, each with its tolerance.

    With `octaves` it also reads where the latent is, as the decoder tells, and it and the goal in waves (Tancik et al.,
    "Fourier features let networks learn high frequency functions in low dimensional domains", 2020).
    """

    def __init__(self, latent: int, observation: int, hidden: int, layers: int, *, octaves: int = 0) -> None:
        super().__init__()
        self.octaves = octaves
        seen = latent + 2 * observation + (observation * (1 + 4 * octaves) if octaves else 0)
        self.net = mlp([seen, *[hidden] * layers, 1])

    def forward(
        self, latent_BD: Tensor, goal_BO: Tensor, weight_BO: Tensor, decoded_BO: Tensor | None = None
    ) -> Tensor:
        """Logits [B] of the value; weights are 1 over the normalised tolerance, 0 off the goal."""
        asked = goal_BO * (weight_BO > 0)
        seen = [latent_BD, asked, torch.log1p(weight_BO)]
        if self.octaves:
            assert decoded_BO is not None, "with octaves the value reads the decoded latent"
            seen += [decoded_BO, *waves(decoded_BO, self.octaves), *waves(asked, self.octaves)]
        return self.net(torch.cat(seen, dim=-1)).squeeze(-1)


def waves(x: Tensor, octaves: int) -> tuple[Tensor, Tensor]:
    """Sines and cosines [..., octaves * O] of x [..., O] at 1, 2, 4, ... times its rate."""
    scaled = torch.cat([x * 2.0**k for k in range(octaves)], dim=-1)
    return torch.sin(scaled), torch.cos(scaled)


class TaskHeads(nn.Module):
    """What one task's skills earn, and a policy over them (SkiMo section 3.3): R(h, z), Q(h, z) twice, pi(z | h)."""

    def __init__(self, latent: int, skill: int, hidden: int, layers: int) -> None:
        super().__init__()
        sizes = [latent + skill, *[hidden] * layers, 1]
        self.reward = bounded_mlp(sizes)
        self.critics = nn.ModuleList(bounded_mlp(sizes) for _ in range(2))
        self.policy = mlp([latent, *[hidden] * layers, 2 * skill])

    @staticmethod
    def least(critics: nn.ModuleList, latent_BD: Tensor, skill_BZ: Tensor) -> Tensor:
        """The lower critic's answer [B]."""
        both = torch.cat([latent_BD, skill_BZ], dim=-1)
        first, second = (critic(both).squeeze(-1) for critic in critics)
        return torch.minimum(first, second)
