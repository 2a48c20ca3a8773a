# %% [markdown]
# # First look: one network, one audit
#
# A small network of the zoo, 20 digits of its test set, and three questions: how far can each digit be moved, what is
# proven, and how sure are these numbers? Everything runs on a CPU in seconds.

# %%
import robusteval as rv

model = rv.open_checkpoint("zoo:at-linf-digits", input_shape=(1, 8, 8))
images = rv.read_images("digits", limit=20)
model

# %% [markdown]
# ## An attack
#
# PGD inside a budget. Its result was judged: `success` means misclassified, inside [0, 1] and within the budget.

# %%
result = rv.PGD(norm="linf")(model.module, images.pixels, images.labels, budget=0.1)
result

# %% [markdown]
# ## An audit
#
# A protocol names budgets and methods. This one is small: one search for the smallest distance, and one proof.

# %%
protocol = """
[budgets]
linf = [0.05, 0.1]

[[attacks]]
method = "pgd"
norm = "linf"
minimum_distance = true

[[certificates]]
method = "crown"
norm = "linf"
"""
with open("small.toml", "w", encoding="utf-8") as file:
    file.write(protocol)
run = rv.audit(model, images, protocol="small.toml", out="runs/first")
run

# %% [markdown]
# Each image has a bracket: nothing closer than `proof_linf` changes the class, and an image at `upper_linf` does.

# %%
run.bounds()[["image_id", "label", "proof_linf", "upper_linf"]].head(8).round(3)

# %% [markdown]
# ## The curve
#
# At each budget the accuracy is *at most* what the attack left: a failed attack is no proof. The band is the 95 %
# interval of a share of 20 images, and says how little 20 images say.

# %%
from matplotlib import pyplot as plt

curve = rv.accuracy_curve(run, "linf")
figure, axes = plt.subplots(figsize=(5, 3), dpi=80, layout="constrained")
axes.step(curve["budget"], curve["share"], where="post", label="accuracy, at most")
axes.fill_between(curve["budget"], curve["low"], curve["high"], step="post", alpha=0.2)
axes.set(xlabel="Linf budget", ylabel="share of images", ylim=(0, 1.02))
legend = axes.legend()

# %% [markdown]
# ## Checked again
#
# `verify` evaluates the model on every kept image and computes what it can again. An empty list: every claim holds.

# %%
list(rv.verify(run, model))
