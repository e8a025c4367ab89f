"""What a trained model is worth, on episodes that training never saw. Errors in the observation's own units.

    actions      the skill of a segment is encoded, then the skill policy is run along the recorded states
    prediction   1 ... N skills ahead, per object and only where it moved, against predicting no change
    skills       posterior KL to N(0, 1) and to the learned prior, nats
    value        predicted against true discounted time, and what comes true of it (value_report.py)

Averaged over all windows a model barely beats "no change", because most objects stand still most of the time: hence
only what moved.

Dimensions: B windows, N skills, H skill horizon, O observation, A action, Z skill, D latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from skimo_core.domain.domain import Domain
from skimo_core.domain.tasks import Subtask

from .data import EpisodeSet
from .models import normal
from .models.agent import SkillModel
from .value import ValueData, prepare, rolled_out
from .value_config import ValueConfig
from .value_report import STRIDE, value_report

MOVED = 0.05  # rad or m, distance over an object's channels


@torch.no_grad()
def held_out_report(
    model: SkillModel, episodes: EpisodeSet, domain: Domain, config: ValueConfig, *, skills: int
) -> dict[str, Any]:
    """Everything above as plain JSON values; `skills` is how many ahead, and how many a plan is taken to have."""
    data = prepare(model, episodes, domain)
    report: dict[str, Any] = {
        "episodes": len(episodes),
        "actions": action_errors(model, episodes),
        "prediction": prediction_errors(model, episodes, data, domain.subtasks, skills),
        "skills": skill_divergences(model, episodes),
        "value": value_report(model, episodes, data, config, plan_steps=skills * model.config.horizon),
    }
    return _rounded(report)


def _shown_rows(episodes: EpisodeSet, horizon: int) -> Tensor:
    """Rows [B, H] of segments in which every action shows how it is done."""
    starts = episodes.windows(horizon, shown=True)[::STRIDE]
    return starts.unsqueeze(1) + torch.arange(horizon, device=starts.device)


def action_errors(model: SkillModel, episodes: EpisodeSet) -> dict[str, float]:
    """Root mean square error of replayed actions, and that of answering the mean action."""
    horizon = model.config.horizon
    rows = _shown_rows(episodes, horizon)
    observations, actions = episodes.observations_RO[rows], episodes.actions_RA[rows]
    mean, _ = model.encode_skill(observations, actions)
    skill = torch.tanh(mean).unsqueeze(1).expand(-1, horizon, -1)
    error = (model.act(observations, skill) - actions).square()
    spread = (actions - actions.mean((0, 1))).square()
    report = {"rmse": float(error.mean().sqrt()), "rmse_of_mean_action": float(spread.mean().sqrt())}
    if joints := model.config.joints:
        report["rmse_joints"] = float(error[..., :joints].mean().sqrt())
        report["rmse_joints_of_mean_action"] = float(spread[..., :joints].mean().sqrt())
    return report


def prediction_errors(
    model: SkillModel, episodes: EpisodeSet, data: ValueData, subtasks: Mapping[str, Subtask], skills: int
) -> dict[str, Any]:
    """Per number of skills: the mean error on objects that moved, of the model and of "no change"; and of the arm."""
    horizon = model.config.horizon
    rows = episodes.windows(skills * horizon)[::STRIDE]
    now = episodes.observations_RO[rows]
    report: dict[str, Any] = {}
    for k, latent in enumerate(rolled_out(model, data, rows, skills, None), start=1):
        predicted, later = model.decode(latent), episodes.observations_RO[rows + k * horizon]
        entry = {"moved": _moved_errors(predicted, now, later, subtasks)}
        if joints := model.config.joints:
            arm = (predicted - later)[:, :joints].norm(dim=-1).mean()
            still = (now - later)[:, :joints].norm(dim=-1).mean()
            entry["arm"] = {"model": float(arm), "no_change": float(still), "windows": len(rows)}
        report[str(k)] = entry
    return report


def _moved_errors(predicted: Tensor, now: Tensor, later: Tensor, subtasks: Mapping[str, Subtask]) -> dict[str, Any]:
    report: dict[str, Any] = {}
    all_model, all_still = [], []
    for name, subtask in subtasks.items():
        channels = list(subtask.channels)
        still = (now - later)[:, channels].norm(dim=-1)
        moved = still > MOVED
        error = (predicted - later)[:, channels].norm(dim=-1)[moved]
        if moved.any():
            ours, theirs = float(error.mean()), float(still[moved].mean())
            report[name] = {"model": ours, "no_change": theirs, "windows": int(moved.sum())}
        all_model.append(error)
        all_still.append(still[moved])
    model_errors, still_errors = torch.cat(all_model), torch.cat(all_still)
    if len(model_errors):
        report["all"] = {
            "model": float(model_errors.mean()),
            "no_change": float(still_errors.mean()),
            "windows": len(model_errors),
        }
    return report


def skill_divergences(model: SkillModel, episodes: EpisodeSet) -> dict[str, float]:
    """KL divergences in nats, averaged over segments."""
    horizon = model.config.horizon
    rows = _shown_rows(episodes, horizon)
    observations = episodes.observations_RO[rows]
    mean, std = model.encode_skill(observations, episodes.actions_RA[rows])
    prior_mean, prior_std = model.prior(model.encode(observations[:, 0]))
    return {
        "posterior_kl": float(normal.kl_standard(mean, std).mean()),
        "prior_kl": float(normal.kl(mean, std, prior_mean, prior_std).mean()),
        "prior_mean_std": float(prior_std.mean()),
    }


def _rounded(value: Any) -> Any:
    """Floats to 5 significant digits, through nested dictionaries and lists."""
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def summary(report: Mapping[str, Any]) -> str:
    """A few lines for people."""
    actions, skills, value = report["actions"], report["skills"], report["value"]
    joints = f" (joints {actions['rmse_joints']:.4f})" if "rmse_joints" in actions else ""
    lines = [
        f"held out: {report['episodes']} episodes",
        f"actions: RMSE {actions['rmse']:.4f}{joints}, of the mean action {actions['rmse_of_mean_action']:.4f}",
        f"skills: posterior KL {skills['posterior_kl']:.2f} nats, prior KL {skills['prior_kl']:.2f} nats",
    ]
    for k, entry in report["prediction"].items():
        moved = entry["moved"].get("all")
        if moved:
            arm = entry.get("arm")
            of_arm = f"; arm {arm['model']:.3f}, no change {arm['no_change']:.3f} rad" if arm else ""
            lines.append(
                f"prediction {k} skills ahead, objects that moved: {moved['model']:.4f}, no change "
                f"{moved['no_change']:.4f}{of_arm}"
            )
    for goals in ("named", "hindsight"):
        for kind, entry in value[goals].items():
            of = f"value of {goals} goals on {kind} latents: "
            if "explained_variance" not in entry:
                lines.append(f"{of}the held-out episodes don't tell how long they take")
                continue
            lines.append(
                f"{of}explained variance {entry['explained_variance']:.3f}, "
                f"calibration gap {entry['calibration_gap']:.4f}"
            )
            if (ahead := entry["ahead"])["count"]:
                lines.append(
                    f"  of goals not holding yet {ahead['share']:.0%} are reached within {value['plan_steps']} steps: "
                    f"AUC {ahead['auc']:.3f}, Brier {ahead['brier']:.3f}"
                )
    return "\n".join(lines)
