"""Variance and flatness of a real network.

A network of two hidden layers learns digits. Late in training the weights between the hidden layers are followed step by step,
in principal components. They fluctuate *less* where the loss is *flatter*: the inverse relation of Feng and Tu.
"""

import matplotlib.pyplot as plt

import nets

digits = nets.load_data("digits")
mlp = nets.MLP((64, 20, 20, 10))
start = nets.train(mlp, digits, lr=0.1, batch=20, epochs=40, record=nets.Record(weights=None))
run = nets.train(mlp, digits, resume=start, epochs=10, record=nets.Record(weights="W2", weights_every=1, sums=True))
relation = nets.inverse_relation(run, digits, block="W2", last=100)

# %%
# `psi` is the exponent over components 2 to 100. Equilibrium would have it at minus two.

psi = -relation.psi(2, 100).exponent
ax = nets.plotting.plot_relation(relation, ax=plt.subplot())
ax.set(title=f"710 steps of SGD, component by component: psi = {psi:.1f}")
plt.show()
