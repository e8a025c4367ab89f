"""The networks of SkiMo (Shi et al. 2022, section 3 and table 2) and of the goal value. Torch modules, no training."""
