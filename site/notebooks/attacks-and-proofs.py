# %% [markdown]
# # Attacks from above, proofs from below
#
# The smallest distance at which a network errs is not known. Attacks push an upper bound down, proofs push a lower
# bound up. Here both are drawn for two networks: one trained plainly, one against PGD.

# %%
import robusteval as rv

images = rv.read_images("digits", limit=16)
names = ("standard-digits", "at-linf-digits")
networks = {name: rv.open_checkpoint(f"zoo:{name}", input_shape=images.shape).module for name in names}

# %% [markdown]
# ## Two attacks and two proofs
#
# A failed attack is an infinite distance, a misclassified image is at distance 0, and a radius of 0 is no proof.

# %%
import pandas as pd

rows = []
for name, network in networks.items():
    given = (network, images.pixels, images.labels)
    for attack in (rv.FMN(norm="linf"), rv.PGD(norm="linf", minimum_distance=True)):
        distance = attack(*given).distances["linf"]
        rows.append((name, attack.title, "upper", float(distance.median())))
    for proof in (rv.CROWN(norm="linf"), rv.IBP(norm="linf")):
        radius = proof(*given).radius
        rows.append((name, proof.title, "lower", float(radius.median())))
pd.DataFrame(rows, columns=["network", "method", "bound", "median Linf distance"]).round(4)

# %% [markdown]
# ## The brackets of each image
#
# No proof may reach above an attack of the same image: this would be an error of the program, and stops an audit.

# %%
from matplotlib import pyplot as plt

figure, panels = plt.subplots(1, 2, figsize=(7, 3), dpi=80, sharey=True, layout="constrained")
for axes, (name, network) in zip(panels, networks.items(), strict=True):
    given = (network, images.pixels, images.labels)
    upper = rv.FMN(norm="linf")(*given).distances["linf"]
    lower = rv.CROWN(norm="linf")(*given).radius
    assert bool((lower <= upper).all())
    order = upper.argsort()
    axes.vlines(range(len(order)), lower[order], upper[order])
    axes.set(title=name, xlabel="image, easiest to move first")
label = panels[0].set_ylabel("Linf distance")
