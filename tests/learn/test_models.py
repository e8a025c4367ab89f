"""The networks: divergences, shapes, where gradients go."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import load_domain
from skimo_core.domain.kinematics import POINTS, arm_points, joint_frames
from skimo_core.domain.pose import Pose
from skimo_core.domain.robot import load_limits
from skimo_core.domain.rotations import matrix
from skimo_learn.losses import LossConfig, skimo_loss
from skimo_learn.models import normal
from skimo_learn.models.agent import ModelConfig, SkillModel
from skimo_learn.models.hand import NEAR_M, HandPose, Reach
from skimo_learn.recipes import compact, for_domain

SMALL = ModelConfig(latent=12, hidden=16, layers=2, lstm=16, policy_hidden=16, value_hidden=16)


def batch(skills: int = 3, windows: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Observations, actions, and that all of them are shown."""
    generator = torch.Generator().manual_seed(0)
    observations = torch.randn(windows, skills * 10 + 1, 30, generator=generator)
    actions = torch.rand(windows, skills, 10, 9, generator=generator) * 1.8 - 0.9
    return observations, actions, torch.ones(windows, skills, dtype=torch.bool)


def test_closed_form_divergence_equals_sampled_divergence_of_the_squashed_skills() -> None:
    generator = torch.Generator().manual_seed(0)
    raw_p, raw_q = 0.3 * torch.randn(2, 20, generator=generator)
    (mean, std), (other_mean, other_std) = normal.split(raw_p), normal.split(raw_q)
    before = mean + std * torch.randn(200_000, 10, generator=generator)
    jacobian = torch.log1p(-torch.tanh(before).square()).sum(-1)  # of z = tanh(before), shared by both
    p = normal.log_density(mean, std, before) - jacobian
    q = normal.log_density(other_mean, other_std, before) - jacobian
    assert float(normal.kl(mean, std, other_mean, other_std)) == pytest.approx(float((p - q).mean()), rel=0.02)
    zero, one = torch.zeros(10), torch.ones(10)
    assert torch.allclose(normal.kl_standard(mean, std), normal.kl(mean, std, zero, one))
    assert float(normal.kl(mean, std, mean, std)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("robot", ["panda", "fr3"])
def test_the_hands_pose_is_that_of_forward_kinematics(robot: str) -> None:
    limits = load_limits(robot)
    hand = HandPose(7)
    hand.mount(limits)
    q_rad = np.random.default_rng(0).uniform(limits.q_min_rad, limits.q_max_rad, (50, 7))
    found = hand(torch.from_numpy(q_rad).float().view(5, 10, 7)).view(50, 9).numpy()
    rotations, _ = joint_frames(limits, q_rad)
    ahead = rotations[-1, :, :, 2]
    opens = rotations[-1] @ [-np.sin(limits.hand_yaw_rad), np.cos(limits.hand_yaw_rad), 0.0]
    np.testing.assert_allclose(found[:, :3], arm_points(limits, q_rad)[:, POINTS.index("tool")], atol=1e-5)
    np.testing.assert_allclose(found[:, 3:6], ahead, atol=1e-5)
    np.testing.assert_allclose(found[:, 6:], opens, atol=1e-5)


def test_bodies_are_seen_from_the_hand() -> None:
    limits, rng = load_limits("panda"), np.random.default_rng(1)
    frame = Pose(position_m=np.array([0.3, -0.2, 0.5]), rotation=matrix(np.array([0.8, 0.1, -0.2, 0.55])))
    hand, reach = HandPose(7), Reach(20, [(8, 9, 10), (13, 12, 19)])
    hand.mount(limits)
    reach.mount(frame)
    q_rad = rng.uniform(limits.q_min_rad, limits.q_max_rad, (50, 7))
    seen = np.concatenate([q_rad, rng.uniform(-1.0, 1.0, (50, 13))], axis=1)
    pose = hand(torch.from_numpy(q_rad).float())
    found = reach(torch.from_numpy(seen).float().view(5, 10, 20), pose.view(5, 10, 9)).view(50, 12).numpy()
    rotations, _ = joint_frames(limits, q_rad)
    ahead = rotations[-1, :, :, 2]
    opens = rotations[-1] @ [-np.sin(limits.hand_yaw_rad), np.cos(limits.hand_yaw_rad), 0.0]
    axes = np.stack([ahead, opens, np.cross(ahead, opens)], axis=1)
    for k, body in enumerate(([8, 9, 10], [13, 12, 19])):
        offset = frame.points(seen[:, body]) - arm_points(limits, q_rad)[:, POINTS.index("tool")]
        expected = np.einsum("nij,nj->ni", axes, offset)
        np.testing.assert_allclose(found[:, k:6:2], expected, atol=1e-5)
        np.testing.assert_allclose(found[:, 6 + k :: 2], np.tanh(expected / NEAR_M), atol=1e-3)


def test_a_body_has_three_channels_and_a_hand_to_be_seen_from() -> None:
    with pytest.raises(SpecError, match=r"model body \(1, 30, 2\) must be three channels, each in 0 to 29"):
        ModelConfig(bodies=((1, 30, 2),))
    with pytest.raises(SpecError, match="needs hand_pose"):
        ModelConfig(reach=True)
    fitting = for_domain(compact(), load_domain("table")).model
    assert fitting.bodies == ((9, 10, 11), (13, 14, 15), (17, 18, 19))
    assert not fitting.unlike(replace(fitting, bodies=())), "nobody reads them"
    seen = replace(fitting, reach=True)
    assert seen.unlike(fitting) == "reach" and seen.unlike(replace(seen, bodies=())) == "bodies"


def test_networks_read_the_hands_pose_beside_the_observation() -> None:
    model = SkillModel(replace(SMALL, hand_pose=True, low_level_encoder=False))
    model.mount(load_limits("panda"))
    observations = torch.randn(200, 30, generator=torch.Generator().manual_seed(0))
    model.fit_normalisation(observations)
    seen = model.features(model.normalise(observations))
    assert torch.equal(seen[:, :30], model.normalise(observations))
    assert torch.allclose(seen.mean(0), torch.zeros(39), atol=1e-4)
    assert torch.allclose(seen.std(0), torch.ones(39), atol=1e-3)
    assert SkillModel(replace(SMALL, hand_pose=True, joints=0)).hand is None


@pytest.mark.parametrize("skills", [3, 10])
def test_the_last_consistency_term_reaches_the_first_skill_and_the_encoder(skills: int) -> None:
    torch.manual_seed(0)
    model = SkillModel(SMALL)
    latent = model.encode(torch.randn(2, 30))
    latent.retain_grad()
    chain = torch.zeros(2, skills, 10, requires_grad=True)
    predicted = latent
    for i in range(skills):
        predicted = model.dynamics(predicted, chain[:, i])
    predicted.square().sum().backward()
    assert chain.grad is not None and latent.grad is not None
    assert (chain.grad.abs().amax((0, 2)) > 0).all()
    assert (latent.grad.abs() > 0).any()


@pytest.mark.parametrize("joint", [True, False])
def test_dynamics_train_the_skill_encoder_only_if_joint(joint: bool) -> None:
    torch.manual_seed(0)
    model = SkillModel(SMALL)
    config = LossConfig(
        policy_weight=0.0, kl_weight=0.0, prior_weight=0.0, reconstruction_weight=0.0, decoder_loss="mse", joint=joint
    )
    data = batch()
    generator = torch.Generator().manual_seed(1)
    target = copy.deepcopy(model.encoder)
    loss, _ = skimo_loss(model, target, config, *data, noise_O=torch.zeros(30), generator=generator)
    loss.backward()
    gradient = model.skill_encoder.lstm.weight_ih_l0.grad
    assert (gradient is not None and bool(gradient.abs().max() > 0)) is joint
    assert all(p.grad is None for p in target.parameters())


def test_the_prior_never_trains_the_skill_encoder() -> None:
    torch.manual_seed(0)
    model = SkillModel(SMALL)
    data = batch()
    for through, config in ((True, LossConfig(decoder_loss="mse")), (False, LossConfig(prior_trains_encoder=False))):
        config = replace(
            config, policy_weight=0.0, kl_weight=0.0, reconstruction_weight=0.0, consistency_weight=0.0,
            decoder_loss="mse",
        )  # fmt: skip
        model.zero_grad(set_to_none=True)
        generator = torch.Generator().manual_seed(1)
        loss, _ = skimo_loss(model, model.encoder, config, *data, noise_O=torch.zeros(30), generator=generator)
        loss.backward()
        lstm, encoder = model.skill_encoder.lstm.weight_ih_l0.grad, model.encoder[0].weight.grad
        assert lstm is None or float(lstm.abs().max()) == 0.0
        assert (encoder is not None and bool(encoder.abs().max() > 0)) is through


def test_what_only_a_policy_did_trains_the_model_and_not_what_proposes_or_acts() -> None:
    torch.manual_seed(0)
    model = SkillModel(SMALL)
    config = LossConfig(decoder_loss="mse")
    observations, actions, shown = batch()

    def gradients(shown: torch.Tensor) -> dict[str, torch.Tensor]:
        model.zero_grad(set_to_none=True)
        generator = torch.Generator().manual_seed(1)
        loss, _ = skimo_loss(
            model, model.encoder, config, observations, actions, shown, noise_O=torch.zeros(30), generator=generator
        )
        loss.backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    all_shown, none_shown = gradients(shown), gradients(torch.zeros_like(shown))
    for name, gradient in none_shown.items():
        learns = not name.startswith(("skill_policy", "prior_net"))
        assert bool(gradient.abs().max() > 0) is learns, name
        if name.startswith(("dynamics", "decoder")):
            torch.testing.assert_close(gradient, all_shown[name])


def test_paper_variant_with_likelihoods_and_low_level_encoder_runs() -> None:
    torch.manual_seed(0)
    model = SkillModel(replace(SMALL, low_level_encoder=True, decoder_std=True, policy_std=True, members=2))
    config = LossConfig(decoder_loss="nll", action_loss="nll", policy_noise=1.0)
    data = batch()
    generator = torch.Generator().manual_seed(1)
    loss, metrics = skimo_loss(model, model.encoder, config, *data, noise_O=torch.full((30,), 0.1), generator=generator)
    loss.backward()
    assert all(torch.isfinite(v) for v in metrics.values())
    for name, p in model.named_parameters():
        assert name.startswith("value.") or p.grad is not None, name


def test_few_policy_steps_estimate_the_error_over_all() -> None:
    torch.manual_seed(0)
    model = SkillModel(SMALL)
    data = batch()
    errors = {}
    for steps in (0, 2):
        config, generator = LossConfig(decoder_loss="mse", policy_steps=steps), torch.Generator().manual_seed(1)
        draws = [
            skimo_loss(model, model.encoder, config, *data, noise_O=torch.zeros(30), generator=generator)[1][
                "action_mse"
            ]
            for _ in range(50)
        ]
        errors[steps] = torch.stack(draws)
    assert float(errors[2].std()) > float(errors[0].std())
    assert float(errors[2].mean()) == pytest.approx(float(errors[0].mean()), rel=0.05)


def test_normalisation_has_a_floor_and_decoding_inverts_its_scale() -> None:
    model = SkillModel(replace(SMALL, normalise=True, std_floor=0.02))
    data = torch.randn(1000, 30, generator=torch.Generator().manual_seed(0))
    data[:, 3] *= 1e-4
    model.fit_normalisation(data)
    assert float(model.std_O[3]) == pytest.approx(0.02)
    assert model.normalise(data).std(0)[[0, 1, 2]].numpy() == pytest.approx(1.0, abs=1e-4)
    latent = torch.randn(5, 12)
    decoded, _ = model.decode_n(latent)
    assert torch.allclose(model.normalise(model.decode(latent)), decoded, atol=1e-4)


def test_what_stood_still_in_the_data_can_be_predicted_to_move() -> None:
    torch.manual_seed(0)
    model = SkillModel(replace(SMALL, normalise=True, std_floor=0.02))
    data = torch.randn(1000, 30, generator=torch.Generator().manual_seed(0))
    data[:, 3] = 0.7
    model.fit_normalisation(data)
    moved = data[:64].clone()
    moved[:32, 3] = 0.8  # five times the floor
    optimizer = torch.optim.Adam([*model.encoder.parameters(), *model.decoder.parameters()], lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        (model.decode_n(model.encode(moved))[0] - model.normalise(moved))[:, 3].square().mean().backward()
        optimizer.step()
    predicted = model.decode(model.encode(moved))[:, 3]
    assert torch.allclose(predicted, moved[:, 3], atol=0.02)


def test_a_channel_that_never_moved_divides_nothing() -> None:
    torch.manual_seed(0)
    model = SkillModel(replace(SMALL, normalise=True))
    observations, *rest = batch()
    observations[..., [3, 12]] = 0.7
    rows = observations.reshape(-1, 30)
    model.fit_normalisation(rows)
    seen = model.normalise(observations)
    assert float(model.std_O.min()) == pytest.approx(SMALL.std_floor) and torch.isfinite(seen).all()
    config = LossConfig(decoder_loss="mse")
    loss, parts = skimo_loss(model, model.encoder, config, seen, *rest, noise_O=torch.zeros(30), generator=None)
    loss.backward()
    assert all(torch.isfinite(value).all() for value in parts.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_settings_out_of_bounds_are_refused() -> None:
    with pytest.raises(SpecError, match="rho"):
        LossConfig(rho=0.0)
    with pytest.raises(SpecError, match="latent"):
        ModelConfig(latent=0)
