"""Fit the capsules of `robots/panda.yaml` to the Panda's collision meshes, and print them as YAML.

Method: each link is enclosed by the union of a few capsules (segments swept by a ball). Endpoints and radii start at
random chords of the mesh's hull and are moved by gradient descent so that the hull's surface is covered, while as little
as possible of the space around it is, weighted by its distance from the hull (the union's form of what El Khoury,
Lamiraux and Taix, "Optimal motion planning for humanoid robots", ICRA 2013, do with one capsule a link). Coordinates are
then rounded to 1 mm and radii enlarged by whole mm until every sampled point of the surface is covered.

Meshes are those of the installed gymnasium-robotics (Apache-2.0), link frames as in Franka's Denavit-Hartenberg table.
The fingers are the twin's long ones (assets/panda.xml), swept over their whole opening: no width needs to be known.

    python benchmarks/fit_capsules.py [--link link5] [--seed 0]      about ten minutes for all of them
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
import tyro
from scipy.spatial import ConvexHull, Delaunay
from torch import Tensor

from skimo_sim.scenes.assets import kitchen_root

COUNTS = {
    "link0": 2, "link1": 2, "link2": 2, "link3": 2, "link4": 2, "link5": 3, "link6": 2, "link7": 2, "hand": 2,
    "fingers": 3,
}  # fmt: skip
"""Capsules to a link."""
ACROSS = {"hand": ((-0.002, 0.065), (0.042, 0.065)), "fingers": ((0.0735, 0.055), (0.107, 0.045), (0.134, 0.043))}
"""Where capsules along y are a better start than chance: height z and half length of each; m."""
STARTS, ROUNDS, STEP_M = 4, 500, 1.5e-3
SURFACE, AROUND, CHECKED = 500, 800, 6000
SHELL_M, EDGE_M = 0.08, 0.003


def vertices(link: str) -> np.ndarray:
    """Corners [K, 3] of a link's hull in its frame; m."""
    if link == "fingers":
        return finger_points()
    data = (kitchen_root() / "franka_assets" / "meshes" / "collision" / f"{link}.stl").read_bytes()
    triangles = np.frombuffer(data[84:], dtype=np.dtype([("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")]))
    return triangles["v"].reshape(-1, 3).astype(np.float64)


def finger_points() -> np.ndarray:
    """Corners of the twin's fingers in the hand's frame, closed and open: boxes, and balls at their capsules' ends."""
    box = np.array(list(itertools.product((-0.0185, 0.0185), (0.002, 0.026), (-0.0025, 0.0325))))
    capsules = ((0.0075, 0.0073, 0.0865), (0.0085, 0.0085, 0.0735), (0.0095, 0.0100, 0.0590), (0.0110, 0.0120, 0.0420))
    ball = np.random.default_rng(0).normal(size=(300, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    parts = [box]
    for radius, y, z in capsules:
        parts += [np.array([x, y, z]) + radius * ball for x in (-0.0095, 0.0095)]
    one = np.concatenate(parts) + [0, 0, 0.0584]
    opened = np.concatenate([one, one + [0, 0.04, 0]])
    return np.concatenate([opened, opened * [-1, -1, 1]])


def surface(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points [count, 3] spread evenly over the surface of the hull of `points`, and its corners."""
    hull = ConvexHull(points)
    faces = points[hull.simplices]
    area = np.linalg.norm(np.cross(faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0]), axis=1)
    chosen = faces[rng.choice(len(faces), count, p=area / area.sum())]
    weights = rng.dirichlet(np.ones(3), count)
    return np.concatenate([np.einsum("kij,ki->kj", chosen, weights), points[hull.vertices]])


def around(points: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points in a shell around the hull, and how far outside each lies (at least: by the farthest face's plane)."""
    hull, inside = ConvexHull(points), Delaunay(points)
    drawn = rng.uniform(points.min(0) - SHELL_M, points.max(0) + SHELL_M, (8 * count, 3))
    drawn = drawn[inside.find_simplex(drawn) < 0][:count]
    return drawn, (drawn @ hull.equations[:, :3].T + hull.equations[:, 3]).max(axis=1)


def distances(x: Tensor, ends: Tensor, radii: Tensor) -> Tensor:
    """Signed distance [N] of points to the union of capsules, ends [C, 2, 3], radii [C]."""
    a, along = ends[:, 0], ends[:, 1] - ends[:, 0]
    offset = x[:, None] - a
    share = ((offset * along).sum(-1) / ((along**2).sum(-1) + 1e-9)).clamp(0, 1)
    return ((offset - share[..., None] * along).norm(dim=-1) - radii).min(dim=1).values


def start(link: str, points: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Capsules along random chords of the hull's interior, or across the hand."""
    if link in ACROSS:
        across = np.array([[[0.0, -y, z], [0.0, y, z]] for z, y in ACROSS[link]])
        return across, np.full(len(across), 0.6 * np.ptp(points[:, 0]))
    centre = points.mean(0)
    hull = points[ConvexHull(points).vertices]
    ends = hull[rng.integers(len(hull), size=(count, 2))]
    ends = centre + (ends - centre) * 0.6
    return ends, np.full(count, np.ptp(points, axis=0).min() / 2)


def fit(link: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Endpoints [C, 2, 3] and radii [C] of the best of `STARTS`; and the mean excess over the hull's surface, m."""
    rng, points = np.random.default_rng(seed), vertices(link)
    skin = torch.tensor(surface(points, SURFACE, rng))
    shell, away = (torch.tensor(x) for x in around(points, AROUND, rng))
    best = (np.inf, np.empty(0), np.empty(0))
    for _ in range(1 if link in ACROSS else STARTS):
        ends, radii = (torch.tensor(x, requires_grad=True) for x in start(link, points, count, rng))
        optimiser = torch.optim.Adam([ends, radii], lr=STEP_M)
        for _ in range(ROUNDS):
            optimiser.zero_grad()
            bare = torch.relu(distances(skin, ends, radii) + 5e-4)
            waste = (torch.sigmoid(-distances(shell, ends, radii) / EDGE_M) * away).mean()
            loss = waste + 3e3 * (bare**2).mean() + 0.3 * bare.max()
            loss.backward()
            optimiser.step()
        rounded = np.round(ends.detach().numpy(), 3)
        grown = enclose(points, rounded, radii.detach().numpy())
        score = excess(points, rounded, grown)
        if score < best[0]:
            best = (score, rounded, grown)
    return best[1], best[2], best[0]


def enclose(points: np.ndarray, ends: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Radii, whole mm, enlarged until the capsules cover the hull's surface."""
    skin = torch.tensor(surface(points, CHECKED, np.random.default_rng(1)))
    radii = np.ceil(radii * 1e3) / 1e3
    while (worst := distances(skin, torch.tensor(ends), torch.tensor(radii))).max() > 0:
        bare = skin[worst.argmax()][None]
        nearest = [float(distances(bare, torch.tensor(e[None]), torch.tensor(r[None]))) for e, r in zip(ends, radii)]
        radii[int(np.argmin(nearest))] += 0.001
    return radii


def excess(points: np.ndarray, ends: np.ndarray, radii: np.ndarray) -> float:
    """Mean over directions of how far the capsules reach beyond the hull's own extent, m."""
    ways = np.random.default_rng(2).normal(size=(500, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    reach = ((ends.reshape(-1, 3) @ ways.T).reshape(*ends.shape[:2], -1).max(axis=1) + radii[:, None]).max(axis=0)
    return float((reach - (points @ ways.T).max(axis=0)).mean())


def main(*, link: str = "", seed: int = 0, count: int = 0, out: Path | None = None) -> None:
    """Fit all links, or one.

    Args:
        link: its name; all of them by default.
        seed: of starts and samples.
        count: capsules; as in the table by default.
        out: also write the lines there.
    """
    torch.set_num_threads(1)
    lines = []
    for name, usual in COUNTS.items():
        if link in ("", name):
            ends, radii, over = fit(name, count or usual, seed)
            lines.append(f"  {name}: # {over * 1e3:.0f} mm beyond the mesh on average over directions")
            for (a, b), radius in zip(ends.tolist(), radii.tolist()):
                lines.append(f"    - {{from_m: {a}, to_m: {b}, radius_m: {round(radius, 3)}}}")
            print("\n".join(lines[-len(radii) - 1 :]), flush=True)
    if out is not None:
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
