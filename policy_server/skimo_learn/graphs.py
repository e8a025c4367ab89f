"""A bundle's graphs from a trained `SkillModel`, of kind "skimo"; ports as `skimo_server.graphs.SIGNATURES` demands.

Normalisation goes inside, so that a server handles raw observations only.

Dimensions: H skill horizon, O observation, A action, Z skill, D latent; the batch axis is free.
"""

from __future__ import annotations

import numpy as np

from .models.agent import SkillModel
from .models.networks import Dynamics, SegmentEncoder
from .models.normal import LOG_STD_HIGH, LOG_STD_LOW, MEAN_BOUND, STD_FLOOR
from .onnx_graph import NetworkBuilder


def bundle_graphs(model: SkillModel) -> dict[str, bytes]:
    """ONNX bytes by graph name."""
    makers = {
        "encode": _encode,
        "prior": _prior,
        "dynamics": _dynamics,
        "decode": _decode,
        "goal_value": _goal_value,
        "skill_policy": _skill_policy,
        "skill_encoder": _skill_encoder,
    }
    if model.distilled is not None:
        makers["ensemble"] = _ensemble
    if model.heads is not None:
        makers |= {"reward": _reward, "value": _value, "task_policy": _task_policy}
    return {name: make(model) for name, make in makers.items()}


def _normalise(g: NetworkBuilder, model: SkillModel, x: str) -> str:
    return g.op("Div", g.op("Sub", x, g.constant(model.mean_O.numpy())), g.constant(model.std_O.numpy()))


def _seen(g: NetworkBuilder, model: SkillModel, x: str, axis: int) -> str:
    """What a network reads of observations `x`, whose channels are on `axis`, the last."""
    n = _normalise(g, model, x)
    if model.hand is None:
        return n
    joints = model.config.joints
    scaled = g.op("Mul", g.slice(n, 0, joints), g.constant(model.std_O[:joints].numpy()))
    told = g.hand_pose(g.op("Add", scaled, g.constant(model.mean_O[:joints].numpy())), model.hand)
    if model.reach is not None:
        raw = g.op("Add", g.op("Mul", n, g.constant(model.std_O.numpy())), g.constant(model.mean_O.numpy()))
        told = g.op("Concat", told, g.reach(raw, told, model.reach, axis), axis=axis)
    centred = g.op("Sub", told, g.constant(model.mean_P.numpy()))
    return g.op("Concat", n, g.op("Div", centred, g.constant(model.std_P.numpy())), axis=axis)


def _features(g: NetworkBuilder, model: SkillModel, x: str) -> str:
    n = _seen(g, model, x, 1)
    return n if model.low_encoder is None else g.mlp(n, model.low_encoder)


def _normal_mean(g: NetworkBuilder, raw: str, skill: int) -> str:
    bound = g.constant(MEAN_BOUND)
    return g.op("Mul", g.op("Tanh", g.op("Div", g.slice(raw, 0, skill), bound)), bound)


def _normal_outputs(g: NetworkBuilder, raw: str, skill: int) -> None:
    mean = _normal_mean(g, raw, skill)
    log_std = g.op("Clip", g.slice(raw, skill, 2 * skill), g.constant(LOG_STD_LOW), g.constant(LOG_STD_HIGH))
    g.output(mean, "mean", [skill])
    g.output(g.op("Add", g.op("Exp", log_std), g.constant(STD_FLOOR)), "std", [skill])


def _encode(model: SkillModel) -> bytes:
    g = NetworkBuilder({"observation": [model.config.observation]})
    g.output(g.mlp(_seen(g, model, "observation", 1), model.encoder), "latent", [model.config.latent])
    return g.build()


def _reward(model: SkillModel) -> bytes:
    c, heads = model.config, model.heads
    assert heads is not None
    g = NetworkBuilder({"latent": [c.latent], "skill": [c.skill]}, fast_elu=True)
    earned = g.mlp(g.op("Concat", "latent", "skill", axis=1), heads.reward)
    g.output(_flat(g, earned), "reward")
    return g.build()


def _value(model: SkillModel) -> bytes:
    """The lower critic's answer to the task policy's mode."""
    c, heads = model.config, model.heads
    assert heads is not None
    g = NetworkBuilder({"latent": [c.latent]}, fast_elu=True)
    skill = g.op("Tanh", _normal_mean(g, g.mlp("latent", heads.policy), c.skill))
    both = g.op("Concat", "latent", skill, axis=1)
    g.output(_flat(g, g.op("Min", *(g.mlp(both, critic) for critic in heads.critics))), "value")  # type: ignore[arg-type]
    return g.build()


def _task_policy(model: SkillModel) -> bytes:
    assert model.heads is not None
    g = NetworkBuilder({"latent": [model.config.latent]}, fast_elu=True)
    _normal_outputs(g, g.mlp("latent", model.heads.policy), model.config.skill)
    return g.build()


def _flat(g: NetworkBuilder, column: str) -> str:
    """[B] of [B, 1]."""
    return g.op("Squeeze", column, g.constant(np.array([1], np.int64)))


def _prior(model: SkillModel) -> bytes:
    g = NetworkBuilder({"latent": [model.config.latent]}, fast_elu=True)
    _normal_outputs(g, g.mlp("latent", model.prior_net), model.config.skill)
    return g.build()


def _dynamics(model: SkillModel) -> bytes:
    """What plans ask: the distilled network, or else the ensemble."""
    return _step(model, model.distilled or model.dynamics)


def _ensemble(model: SkillModel) -> bytes:
    return _step(model, model.dynamics)


def _step(model: SkillModel, dynamics: Dynamics) -> bytes:
    c = model.config
    g = NetworkBuilder({"latent": [c.latent], "skill": [c.skill]}, fast_elu=True)
    both = g.op("Concat", "latent", "skill", axis=1)
    every = [g.mlp(both, member) for member in dynamics.members]  # type: ignore[arg-type]
    mean = every[0]
    if len(every) > 1:
        mean = g.op("Mean", *every)
        squares = [g.op("Mul", d, d) for d in (g.op("Sub", e, mean) for e in every)]
        spread = g.op("ReduceMean", g.op("Mean", *squares), axes=[1], keepdims=0)
    if dynamics.residual:
        mean = g.op("Add", mean, "latent")
    g.output(mean, "next_latent", [c.latent])
    if len(every) > 1:
        g.output(g.op("Sqrt", spread), "disagreement")
    return g.build()


def _decode(model: SkillModel) -> bytes:
    c = model.config
    g = NetworkBuilder({"latent": [c.latent]}, fast_elu=True)
    raw = g.mlp("latent", model.decoder)
    mean = g.slice(raw, 0, c.observation) if c.decoder_std else raw
    scaled = g.op("Mul", mean, g.constant(model.std_O.numpy()))
    g.output(g.op("Add", scaled, g.constant(model.mean_O.numpy())), "observation", [c.observation])
    return g.build()


def _goal_value(model: SkillModel) -> bytes:
    c = model.config
    ports = {"latent": [c.latent], "goal": [c.observation], "weight": [c.observation]}
    g = NetworkBuilder(ports, fast_elu=True)
    asked = g.op("Relu", g.op("Sign", "weight"))
    goal = g.op("Mul", _normalise(g, model, "goal"), asked)
    scaled = g.op("Relu", g.op("Mul", "weight", g.constant(model.std_O.numpy())))
    precision = g.op("Log", g.op("Add", scaled, g.constant(1.0)))
    seen = ["latent", goal, precision]
    if c.value_octaves:
        raw = g.mlp("latent", model.decoder)
        decoded = g.slice(raw, 0, c.observation) if c.decoder_std else raw
        seen += [decoded, *g.waves(decoded, c.value_octaves), *g.waves(goal, c.value_octaves)]
    logit = g.mlp(g.op("Concat", *seen, axis=1), model.value.net)
    g.output(_flat(g, g.op("Sigmoid", logit)), "value")
    return g.build()


def _skill_policy(model: SkillModel) -> bytes:
    c = model.config
    g = NetworkBuilder({"observation": [c.observation], "skill": [c.skill]})
    both = g.op("Concat", _features(g, model, "observation"), "skill", axis=1)
    raw = g.mlp(both, model.skill_policy.net)
    if c.policy_std:
        bound = g.constant(MEAN_BOUND)
        raw = g.op("Mul", g.op("Tanh", g.op("Div", g.slice(raw, 0, c.action), bound)), bound)
    g.output(g.op("Tanh", raw), "action", [c.action])
    return g.build()


def _skill_encoder(model: SkillModel) -> bytes:
    c = model.config
    g = NetworkBuilder({"observations": [c.horizon, c.observation], "actions": [c.horizon, c.action]})
    n = _seen(g, model, "observations", 2)
    if isinstance(model.skill_encoder, SegmentEncoder):
        return _segment_encoder(g, model, n, model.skill_encoder)
    if model.low_encoder is not None:
        seen = model.low_encoder[0].in_features
        flat = g.mlp(g.op("Reshape", n, g.constant(np.array([-1, seen], np.int64))), model.low_encoder)
        n = g.op("Reshape", flat, g.constant(np.array([-1, c.horizon, c.latent], np.int64)))
    last = g.lstm(g.op("Concat", n, "actions", axis=2), model.skill_encoder.lstm)
    _normal_outputs(g, g.mlp(last, model.skill_encoder.head), c.skill)
    return g.build()


def _segment_encoder(g: NetworkBuilder, model: SkillModel, seen: str, encoder: SegmentEncoder) -> bytes:
    """That of a segment's first state and its actions; `seen` is what networks read of its states."""
    c = model.config
    first = g.op("Slice", seen, *(g.constant(np.array([n], np.int64)) for n in (0, 1, 1)))
    width = c.observation + (len(model.mean_P) if model.hand is not None else 0)
    first = g.op("Reshape", first, g.constant(np.array([-1, width], np.int64)))
    if model.low_encoder is not None:
        first = g.mlp(first, model.low_encoder)
    actions = g.op("Reshape", "actions", g.constant(np.array([-1, c.horizon * c.action], np.int64)))
    _normal_outputs(g, g.mlp(g.op("Concat", first, actions, axis=1), encoder.net), c.skill)
    return g.build()
