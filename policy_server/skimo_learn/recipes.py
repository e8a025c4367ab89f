"""Complete configurations of a pre-training run, one function each; a variant calls another and changes fields.

compact    ours: compact skills, normalised observations, sized for 2 cores
corrected  the same, begun from a run of it and shorter: for play and corrections together
small      compact's networks on half its batches and updates: an example's play in an hour on one core
tabletop   small for things that may stand anywhere, which its networks see from the hand
maze       ours for SkiMo's maze: its sizes and N, skills of an MLP, a goal value that reaches far
paper      SkiMo's own settings for manipulation (Shi et al. 2022, table 2; N as in the paper)
released   the same as its released code runs it (N = 10)
smoke      seconds, for tests: learns nothing worth running
Widths of observations and actions, and how long a skill lasts, are the domain's (`for_domain`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from skimo_core.contract.errors import SpecError
from skimo_core.domain.bodies import bodies_of
from skimo_core.domain.domain import Domain

from .distil import DistilConfig
from .losses import LossConfig
from .models.agent import ModelConfig
from .pretrain_config import PretrainConfig
from .refine import RefineConfig
from .returns_config import ReturnsConfig
from .value_config import ValueConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole run.

    Attributes:
        name: what it is called.
        domain: name of the domain whose channels, sub-tasks and observation noise are used.
        model, loss, pretrain, refine, correct, distil, value: settings of the parts; `correct` refines once more.
        returns: of a task's reward, critics and policy; where it has updates, it is in the place of `pretrain`.
    """

    name: str
    domain: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    correct: RefineConfig = field(default_factory=RefineConfig)
    distil: DistilConfig = field(default_factory=DistilConfig)
    value: ValueConfig = field(default_factory=ValueConfig)
    returns: ReturnsConfig = field(default_factory=ReturnsConfig)

    def __post_init__(self) -> None:
        if self.loss.decoder_loss == "nll" and not self.model.decoder_std:
            raise SpecError("recipe: decoder_loss 'nll' needs decoder_std; set model.decoder_std")
        if self.loss.action_loss == "nll" and not self.model.policy_std:
            raise SpecError("recipe: action_loss 'nll' needs policy_std; set model.policy_std")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_dict`; refuses unknown settings."""
        try:
            return cls(
                name=str(data["name"]),
                domain=str(data["domain"]),
                model=ModelConfig(**data["model"]),
                loss=LossConfig(**data["loss"]),
                pretrain=PretrainConfig(**data["pretrain"]),
                refine=RefineConfig(**data["refine"]),
                correct=RefineConfig(**data["correct"]),
                distil=DistilConfig(**data["distil"]),
                value=ValueConfig(**data["value"]),
                returns=ReturnsConfig(**data.get("returns", {})),
            )
        except (KeyError, TypeError) as error:
            raise SpecError(f"recipe can't be read ({error}); make the run again with this version") from None


def compact() -> Recipe:
    """Ours, for 2 cores.

    The KL weight leaves skills of about 11 nats on play that does and undoes everything; the reconstructions, summed
    over 30 normalised channels, pull harder than in the paper, so it is larger than there. The skill policy's training
    ends where the error on held-out play stops falling.
    """
    return Recipe(
        name="compact",
        model=ModelConfig(
            latent=128,
            hidden=256,
            layers=2,
            lstm=128,
            policy_hidden=256,
            policy_layers=3,
            policy_layer_norm=True,
            low_level_encoder=False,
            hand_pose=True,
            residual=True,
            members=3,
            distilled=True,
        ),
        loss=LossConfig(
            kl_weight=0.05, predicted_weight=1.0, decoder_loss="mse", share_by_skills=False, policy_steps=3
        ),
        pretrain=PretrainConfig(updates=12_700),
        refine=RefineConfig(updates=5_000, learning_rate=2e-3),
        correct=RefineConfig(updates=8_000, perturbation_rad=0.05),
        distil=DistilConfig(updates=5_000),
        value=ValueConfig(updates=5_000),
    )


def corrected() -> Recipe:
    """Joint pre-training goes on from a run's weights for a third of the time, at half the rate."""
    base = compact()
    return replace(base, name="corrected", pretrain=replace(base.pretrain, updates=4_000, learning_rate=5e-4))


def small() -> Recipe:
    """Compact's networks for a fraction of the time: to see whether a lab's data carry before long training."""
    base = compact()
    return replace(
        base,
        name="small",
        pretrain=replace(base.pretrain, updates=5_000, batch=64, evaluate_every=500, checkpoint_every=500),
        refine=replace(base.refine, updates=2_500),
        correct=replace(base.correct, updates=4_000),
        distil=replace(base.distil, updates=2_000),
        value=replace(base.value, updates=3_000),
    )


def tabletop() -> Recipe:
    """Small's batches, half as long again, for grips at things that stand elsewhere each time.

    With bodies seen from the hand the same play of the domain `table` taught twice as many of its grips.
    A grip and the way to a place take long: the goal value discounts less.
    """
    base = small()
    return replace(
        base,
        name="tabletop",
        model=replace(base.model, reach=True),
        pretrain=replace(base.pretrain, updates=8_000),
        correct=replace(base.correct, updates=6_000),
        value=replace(base.value, updates=5_000, discount=0.98),
    )


def finetuned(base: Recipe) -> Recipe:
    """What goes on from a bundle that `base` made, on its own data and a robot's: minutes, at rates that stay near."""
    rate = 5e-4
    return replace(
        base,
        name="finetuned",
        pretrain=replace(
            base.pretrain,
            updates=min(base.pretrain.updates, 1_200),
            learning_rate=3e-4,
            evaluate_every=400,
            checkpoint_every=400,
        ),
        refine=replace(base.refine, updates=min(base.refine.updates, 1_000), learning_rate=rate),
        correct=replace(base.correct, updates=min(base.correct.updates, 3_000), learning_rate=rate),
        distil=replace(base.distil, updates=min(base.distil.updates, 1_500), learning_rate=rate),
        value=replace(base.value, updates=min(base.value.updates, 1_500), learning_rate=rate),
    )


def returned(base: Recipe, task: str) -> Recipe:
    """What learns a task's returns besides: SkiMo's downstream phase on skills that stay as they are."""
    faster = finetuned(base)
    return replace(
        faster,
        name="returned",
        model=replace(base.model, task_heads=True),
        refine=replace(base.refine, updates=0),
        correct=replace(base.correct, updates=0),
        returns=ReturnsConfig(task=task, batch=128, updates=min(base.pretrain.updates, 3_000)),
    )


def paper() -> Recipe:
    """SkiMo's settings for manipulation: table 2, and its code where the table is silent; raw observations."""
    base = compact()
    return replace(
        base,
        name="paper",
        model=ModelConfig(normalise=False, decoder_std=True, policy_std=True),
        loss=LossConfig(),
        pretrain=replace(base.pretrain, batch=512, cosine=False, clip_norm=100.0),
        refine=RefineConfig(),
        correct=RefineConfig(),
        distil=DistilConfig(),
    )


def released() -> Recipe:
    """The same with N = 10, as the released code runs by default."""
    base = paper()
    return replace(base, name="released", pretrain=replace(base.pretrain, skills=10))


def maze() -> Recipe:
    """SkiMo's networks and windows for the maze (table 2: 128 units, N = 10), in our losses, sized for 2 cores.

    A way through the maze takes up to 1,600 steps, so the goal value discounts little. Every episode of play goes the
    shortest way to one goal: how long a place takes that lies elsewhere it doesn't tell, so "never" is not believed,
    and goals are places, as the task's are. A wall's side is a hundredth of the maze's deviation: the model's losses
    weigh more than elsewhere, or it takes walls for blurs.
    """
    base = compact()
    return replace(
        base,
        name="maze",
        model=ModelConfig(
            latent=128,
            hidden=128,
            layers=4,
            lstm=128,
            skill_encoder="mlp",
            policy_hidden=128,
            policy_layers=4,
            low_level_encoder=False,
            residual=True,
            members=3,
            value_hidden=256,
            value_octaves=6,
        ),
        loss=replace(
            base.loss, kl_weight=0.01, reconstruction_weight=30.0, predicted_weight=30.0, consistency_weight=60.0
        ),
        pretrain=PretrainConfig(updates=6_000, skills=10, batch=64),
        refine=RefineConfig(),
        correct=RefineConfig(),
        distil=DistilConfig(),
        value=ValueConfig(
            updates=8_000,
            batch=128,
            discount=0.998,
            skills=3,
            censor_steps=100_000,
            named=0.3,
            other=0.0,
            near=0.2,
            near_skills=30,
            alike=0.9,
        ),
    )


def smoke() -> Recipe:
    """A run of seconds with everything in it."""
    base = compact()
    return replace(
        base,
        name="smoke",
        model=replace(base.model, latent=16, hidden=16, lstm=16, policy_hidden=16, value_hidden=16),
        pretrain=replace(base.pretrain, updates=20, batch=8, log_every=5, evaluate_every=10, checkpoint_every=10),
        refine=replace(base.refine, updates=10, batch=8),
        correct=replace(base.correct, updates=10, batch=8),
        distil=replace(base.distil, updates=10, batch=8),
        value=replace(base.value, updates=10, batch=8),
    )


RECIPES: Mapping[str, Callable[[], Recipe]] = {
    f.__name__: f for f in (compact, corrected, small, tabletop, maze, paper, released, smoke)
}


def for_domain(recipe: Recipe, domain: Domain) -> Recipe:
    """The recipe with that domain's channels, actions and horizon."""
    placed = [body.position for body in bodies_of(domain.observation) if len(body.position) == 3]
    model = replace(
        recipe.model,
        observation=domain.observation.size,
        action=domain.action.size,
        joints=domain.observation.joints,
        horizon=domain.horizon,
        bodies=tuple(placed),
    )
    return replace(recipe, domain=domain.name, model=model)


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        SpecError: no such recipe.
    """
    if name not in RECIPES:
        raise SpecError(f"unknown recipe {name!r}; known are {', '.join(RECIPES)}")
    return RECIPES[name]()
