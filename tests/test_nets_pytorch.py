"""Networks of PyTorch against those of nets with the same weights: statistics, trajectories, files; and what is refused."""

import logging
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest

import nets

torch = pytest.importorskip("torch")

LR, BATCH, DECAY = 0.1, 20, 0.01


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data():
    return nets.load_data("digits").subset(150)


def the_same(mlp, theta, dtype=torch.float64):
    """The module with the weights of an MLP, and the positions in theta of its own parameters."""
    layers = []
    for rows, cols in zip(mlp.widths[:-1], mlp.widths[1:], strict=True):
        layers += [torch.nn.Linear(rows, cols), torch.nn.Tanh()]
    module = torch.nn.Sequential(*layers[:-1]).to(dtype)
    order = []
    with torch.no_grad():
        for layer, k in zip(module[::2], range(1, mlp.n_layers + 1), strict=True):
            layer.weight.copy_(torch.from_numpy(mlp.unpack(theta)[f"W{k}"].T.copy()))
            layer.bias.copy_(torch.from_numpy(mlp.unpack(theta)[f"b{k}"].copy()))
            order += [np.arange(mlp.dim)[mlp.blocks[f"W{k}"]].reshape(mlp.widths[k - 1 : k + 1]).T.ravel()]
            order += [np.arange(mlp.dim)[mlp.blocks[f"b{k}"]]]
    return module, np.concatenate(order)


@pytest.fixture(scope="module")
def pair(data):
    mlp = nets.MLP((64, 16, 10), activation="tanh", weight_decay=DECAY)
    theta = nets.train(mlp, data, lr=LR, batch=BATCH, steps=200, seed=1).theta  # where every sample has a gradient of its own
    module, order = the_same(mlp, theta)
    return mlp, theta, nets.TorchModel(module, torch.nn.CrossEntropyLoss(), weight_decay=DECAY), order


def close(a, b, rtol=1e-11):
    np.testing.assert_allclose(a, b, rtol=0, atol=rtol * np.abs(b).max())


# ---- one network, two packages ------------------------------------------------------------------------------------------


def test_loss_gradients_and_matrices_are_those_of_nets(pair, data):
    mlp, theta, model, order = pair
    x, y = data.x_train, data.y_train
    close(model.theta, theta[order])
    (loss, gradient), (expected, expected_gradient) = model.loss_and_gradient(model.theta, x, y), mlp.loss_and_gradient(theta, x, y)
    assert loss == pytest.approx(expected, rel=1e-13)
    close(gradient, expected_gradient[order])
    close(model.outputs(model.theta, x), mlp.outputs(theta, x))
    assert model.evaluate(model.theta, x, y)[1] == mlp.error(theta, x, y)
    close(model.per_sample_gradients(model.theta, x, y), mlp.per_sample_gradients(theta, x, y)[:, order])
    close(nets.gradient_covariance(model, model.theta, x, y), nets.gradient_covariance(mlp, theta, x, y)[np.ix_(order, order)])
    block, columns = ("2.weight", "0.bias"), np.r_[order[model.blocks["2.weight"]], order[model.blocks["0.bias"]]]
    for function in (nets.hessian, nets.gauss_newton, nets.gradient_covariance):
        close(function(model, model.theta, x, y, block=block), function(mlp, theta, x, y)[np.ix_(columns, columns)])
    assert not model.fallback


def test_products_eigenpairs_and_density(pair, data):
    mlp, theta, model, order = pair
    here, there = (model, model.theta, data.x_train, data.y_train), (mlp, theta, data.x_train, data.y_train)
    v = np.random.default_rng(0).standard_normal((2, mlp.dim))
    for product in (nets.hessian_vector_product, nets.covariance_vector_product):
        close(product(*here, v[:, order]), product(*there, v)[:, order])
    for matrix in ("hessian", "gauss-newton", "residual", "covariance"):
        made = nets.products.products(*here, None, matrix)(v[:1, order])
        close(made, nets.products.Products(*there, matrix=matrix)(v[:1])[:, order])
    found, expected = nets.top_eigenpairs(*here, k=4, tol=1e-9), nets.top_eigenpairs(*there, k=4)
    assert found.products and not expected.products  # Lanczos here, the whole matrix there
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-9)
    np.testing.assert_allclose(np.abs(np.sum(found.vectors * expected.vectors[order], axis=0)), 1.0, rtol=1e-9)
    density = nets.spectral_density(*here, probes=2, steps=10)
    assert density.range[1] == pytest.approx(expected.values[0], rel=1e-3)
    estimate, exact = nets.trace(*here, probes=8), nets.trace(*there).value
    assert abs(estimate.value - exact) < 6 * estimate.stderr
    with pytest.raises(ValueError, match="probes="):
        nets.trace(*here)


def test_lines_planes_and_flatness(pair, data):
    mlp, theta, model, order = pair
    x, y, rng = data.x_train, data.y_train, np.random.default_rng(1)
    here, there = nets.Landscape(model, model.theta, x, y, block="2.weight"), nets.Landscape(mlp, theta, x, y, block="W2")
    turn = order[model.blocks["2.weight"]] - mlp.blocks["W2"].start
    p = rng.standard_normal((there.size, 2))
    own = p[turn]
    close(here.section(own).loss([[0.1, 0.2], [-0.3, 0.0]]), there.section(p).loss([[0.1, 0.2], [-0.3, 0.0]]))
    line, expected = here.section(own[:, 0]), there.section(p[:, 0])
    for a, b in zip(line.jets(0.1), expected.jets(0.1), strict=True):
        close(a, b)
    chosen, d = rng.integers(0, len(x), (6, 5)), rng.standard_normal(6)
    close(line.batch_losses(chosen, d), expected.batch_losses(chosen, d))
    close(line.sample_losses(d), expected.sample_losses(d))
    a, b = nets.flatness(here, own), nets.flatness(there, p)
    for name in ("left", "right", "slope", "curvature", "noise"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-8, err_msg=name)


def test_one_sample_at_a_time_gives_the_same(pair, data, caplog):
    """The ways for modules that torch cannot transform, forced by a layer that looks at its numbers."""
    _, theta, model, _ = pair

    class Looks(torch.nn.Module):
        def forward(self, x):
            return x * 1.0 if float(x.detach().reshape(-1)[0]) < 1e9 else x

    odd = nets.TorchModel(torch.nn.Sequential(*model.module, Looks()).requires_grad_(), model.loss, weight_decay=DECAY)
    model.module.requires_grad_(False)
    x, y = data.x_train[:20], data.y_train[:20]
    with caplog.at_level(logging.WARNING):
        close(odd.per_sample_gradients(odd.theta, x, y), model.per_sample_gradients(model.theta, x, y))
    assert "item" in odd.fallback["gradients"] and "one at a time" in caplog.text
    v = np.random.default_rng(0).standard_normal((2, odd.dim))
    for matrix in ("hessian", "gauss-newton"):
        close(odd.products(odd.theta, x, y, None, matrix)(v), model.products(model.theta, x, y, None, matrix)(v))
    here, there = (nets.Landscape(m, m.theta, x, y).section(v[0]) for m in (odd, model))
    for a, b in zip(here.jets(0.1), there.jets(0.1), strict=True):
        close(a, b)
    chosen = np.arange(10).reshape(5, 2)
    close(here.batch_losses(chosen, np.arange(5.0)), there.batch_losses(chosen, np.arange(5.0)))


def test_measured_quantities_are_not_rounded_to_single(data):
    mlp = nets.MLP((64, 4, 10), activation="tanh", weight_decay=DECAY)
    theta = mlp.init(3).astype(np.float32).astype(float)
    module, order = the_same(mlp, theta, torch.float32)
    model = nets.TorchModel(module, torch.nn.CrossEntropyLoss(), weight_decay=DECAY)
    assert next(module.parameters()).dtype == torch.float32  # the original is left alone
    here = nets.measure(model, data, lr=LR, batch=BATCH)
    there = nets.measure(mlp, data, theta=theta, lr=LR, batch=BATCH)
    close(here.hessian, there.hessian[np.ix_(order, order)])
    close(here.covariance, there.covariance[np.ix_(order, order)])
    np.testing.assert_allclose(here.eigenvalues[:5], there.eigenvalues[:5], rtol=1e-10)


def test_a_convolution_of_32_bits(data):
    """Differences of the loss along a line against slope and curvature; the covariance against its definition."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(27, 10)
    )
    samples = torch.utils.data.TensorDataset(torch.tensor(data.x_train).float().reshape(-1, 1, 8, 8), torch.tensor(data.y_train))
    images = nets.torch_data(torch.utils.data.DataLoader(samples, batch_size=7, shuffle=True))
    assert images.x_train.shape == (150, 1, 8, 8) and images.dim == 64
    np.testing.assert_array_equal(images.y_train, data.y_train)
    model = nets.TorchModel(module, torch.nn.CrossEntropyLoss(), weight_decay=DECAY)
    x, y, at = images.x_train, images.y_train, model.theta
    g = model.per_sample_gradients(at, x, y)
    stats = nets.measure(model, images, lr=LR, batch=BATCH)
    close(stats.covariance, np.cov(g.T, bias=True))
    v = np.random.default_rng(0).standard_normal(model.dim)
    v /= np.linalg.norm(v)
    line, h = nets.Landscape(model, at, x, y).section(v), 1e-4
    low, mid, high = line.loss([-h, 0.0, h])
    _, slope, curvature = (part.mean() for part in line.jets())
    assert slope == pytest.approx((high - low) / (2 * h), rel=1e-6)
    assert slope == pytest.approx(v @ model.loss_and_gradient(at, x, y)[1], rel=1e-12)
    assert curvature == pytest.approx(v @ stats.hessian @ v, rel=1e-10)
    assert curvature == pytest.approx((high - 2 * mid + low) / h**2, rel=1e-3)  # relu: no kink within 1e-4 of any sample, here


# ---- one trajectory, two recorders --------------------------------------------------------------------------------------


def batches_of(data, steps, seed):
    """Random batches, in a data set that hands them out in this order."""
    return np.random.default_rng(seed).integers(0, data.size, (steps, BATCH))


class Native:
    """A loop of NumPy over the same batches with the formulas of nets.train, with its sums."""

    def __init__(self, mlp, theta, data, batches, momentum):
        v, mean = np.zeros_like(theta), np.zeros_like(theta)
        self.rows, self.loss, self.g2, self.v2, self.dot, start = [], [], [], [], [], theta
        for index in batches:
            loss, g = mlp.loss_and_gradient(theta, data.x_train[index], data.y_train[index])
            v = momentum * v + g
            mean += theta / len(batches)
            self.loss.append(loss), self.g2.append(g @ g), self.v2.append(v @ v), self.dot.append((theta - start) @ g)
            theta = theta - LR * v
            self.rows.append(theta)
        self.mean, self.rows, self.velocity = mean, np.array(self.rows), v


def record(module, data, batches, *, optimizer=None, momentum=0.0, **options):
    optimizer = optimizer or torch.optim.SGD(module.parameters(), lr=LR, momentum=momentum, weight_decay=DECAY)
    loss, inputs = torch.nn.CrossEntropyLoss(), torch.tensor(data.x_train).to(next(module.parameters()).dtype)
    labels = torch.tensor(data.y_train)
    options = {"steps": len(batches), "sampling": "replace", "batch": BATCH, "seed": 0, **options}
    with nets.TorchRecorder(module, loss, optimizer, data, **options) as recorder:
        for index in batches:
            optimizer.zero_grad()
            batch_loss = loss(module(inputs[index]), labels[index])
            batch_loss.backward()
            optimizer.step()
            recorder.step(batch_loss)
    return recorder.run


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_every_step_is_that_of_nets(pair, data, momentum, tmp_path):
    mlp, theta, _, order = pair
    batches = batches_of(data, 60, 5)
    expected = Native(mlp, theta, data, batches, momentum)
    module, _ = the_same(mlp, theta)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((mlp.dim, 3)))[0]
    what = nets.Record(weights="2.weight", weights_every=1, losses_every=20, center=theta[order], basis=basis, blocks=6, sums=True)
    run = record(module, data, batches, momentum=momentum, record=what, out=tmp_path / "run.h5")
    close(run.theta, expected.rows[-1][order])
    close(run.state["velocity"], expected.velocity[order])
    columns = order[nets.TorchModel(module, torch.nn.CrossEntropyLoss()).blocks["2.weight"]]
    close(run.weights["value"], expected.rows[:, columns])
    close(run.mean_weights, expected.mean[order])
    y = (expected.rows[:, order] - theta[order]) @ basis
    close(run.moments["mean"], y.mean(axis=0), 1e-9)
    close(run.moments["covariance"], np.cov(y.T, bias=True), 1e-9)
    for name, values in (("minibatch_loss", expected.loss), ("gradient_norm2", expected.g2), ("velocity_norm2", expected.v2)):
        close(run.blocks[name], np.reshape(values, (6, 10)).mean(axis=1), 1e-9)
    close(run.blocks["dot_gradient"], np.reshape(expected.dot, (6, 10)).mean(axis=1), 1e-9)
    assert run.losses["step"].tolist() == [0, 20, 40, 60]
    at = [theta, *expected.rows[19::20]]
    close(run.losses["train_loss"], [mlp.loss(p, data.x_train, data.y_train) for p in at])
    close(run.losses["train_error"], [mlp.error(p, data.x_train, data.y_train) for p in at])
    assert (run.lr, run.batch, run.momentum, run.optimizer, run.precision) == (LR, BATCH, momentum, "sgd", "double")
    assert run.complete and (run.first_step, run.step, run.n_samples) == (0, 60, 150)


def test_the_file_has_the_members_of_that_of_train(pair, data, tmp_path):
    import h5py

    mlp, theta, model, order = pair
    nets.train(mlp, data, lr=LR, batch=BATCH, steps=40, theta0=theta, sampling="replace", out=tmp_path / "native.h5")
    module, _ = the_same(mlp, theta)
    run = record(module, data, batches_of(data, 40, 1), out=tmp_path / "torch.h5")
    members = []
    for name in ("native.h5", "torch.h5"):
        with h5py.File(tmp_path / name) as file:
            found = {}
            file.visititems(lambda key, item, found=found: found.update({key: getattr(item, "shape", None)}))
            members.append({k: v for k, v in found.items() if not k.startswith(("provenance", "model"))})
    own = {f"state/{name}" for name in ("rng", "perm", "cursor", "word", "sample", "counter")}  # of the generator of nets
    assert {k: v for k, v in members[0].items() if k not in own} == members[1]
    again = nets.load_run(tmp_path / "torch.h5", model=model)
    np.testing.assert_array_equal(again.weights["value"], run.weights["value"])
    np.testing.assert_array_equal(nets.load(tmp_path / "torch.h5").losses["train_loss"], run.losses["train_loss"])
    alone = nets.load_run(tmp_path / "torch.h5")
    assert repr(alone.mlp) == "Parameters(4 blocks, 1210 weights)"
    np.testing.assert_array_equal(nets.pca(alone, block="2.weight").variances, nets.pca(run, block="2.weight").variances)
    with pytest.raises(TypeError, match="model="):
        nets.measure(alone, data)
    other = nets.TorchModel(torch.nn.Linear(64, 10), torch.nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match="the run is of"):
        nets.load_run(tmp_path / "torch.h5", model=other)
    with pytest.raises(ValueError, match="the run trained Parameters"):
        nets.train(mlp, data, resume=alone, steps=1)


def test_all_that_is_asked_of_a_run(pair, data):
    """Window, inverse relation, temperature, relation of fluctuation and dissipation, averages along the run."""
    mlp, theta, _, order = pair
    module, _ = the_same(mlp, theta)
    batches = batches_of(data, 400, 2)
    run = record(module, data, batches, record=nets.Record(weights_every=2, losses_every=10))
    native = Native(mlp, theta, data, batches, 0.0)
    here = nets.inverse_relation(run, data, block="2.weight", numbers=[1, 2, 3])
    turn = order[run.mlp.blocks["2.weight"]]
    rows = native.rows[1::2][:, turn]
    expected = np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1][:3]
    np.testing.assert_allclose(here.variances, expected, rtol=1e-9)
    there = nets.Landscape(mlp, native.rows[1::2].mean(axis=0), data.x_train, data.y_train, block="W2")
    directions = np.empty((there.size, 3))
    directions[turn - mlp.blocks["W2"].start] = here.window.directions[:, :3]
    np.testing.assert_allclose(here.flatness.width, nets.flatness(there, directions).width, rtol=1e-7)
    assert np.isfinite(here.temperatures).all() and np.isfinite(here.budget).all()
    assert np.isfinite(nets.fluctuation_dissipation(run).left.value)
    from nets.variance import average_tensors, leading_directions

    _, Q = leading_directions(run.mlp, data, run.mean_weights, 2)
    thin = record(the_same(mlp, theta)[0], data, batches[:20], record=nets.Record(weights_every=10))
    tensors = average_tensors(run.mlp, data, thin, Q)
    h = [Q.T @ nets.hessian(mlp, p, data.x_train, data.y_train)[np.ix_(order, order)] @ Q for p in native.rows[9:20:10]]
    close(tensors.hessian, np.mean(h, axis=0), 1e-9)
    stats = nets.measure(run, data, block="2.bias")
    assert (stats.lr, stats.batch, stats.sampling, stats.n_samples) == (LR, BATCH, "replace", 150)
    with pytest.raises(ValueError, match="other training data"):
        nets.measure(run, nets.load_data("digits").subset(100))


def test_recording_changes_nothing(data):
    """A loop with shuffled batches, dropout and a scheduler, with and without the recorder: the same bits."""

    def train(recorded):
        torch.manual_seed(3)
        net = torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.Dropout(0.2), torch.nn.Tanh(), torch.nn.Linear(8, 10))
        optimizer, loss = torch.optim.Adam(net.parameters(), lr=0.01), torch.nn.CrossEntropyLoss()
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        samples = torch.utils.data.TensorDataset(torch.tensor(data.x_train).float(), torch.tensor(data.y_train))
        loader = torch.utils.data.DataLoader(samples, batch_size=30, shuffle=True)
        recorder = None
        if recorded:
            recorder = nets.TorchRecorder(net, loss, optimizer, loader, steps=15, evaluation=True, test=loader)
            recorder.__enter__()
        for _ in range(3):
            for x, y in loader:
                optimizer.zero_grad()
                batch_loss = loss(net(x), y)
                batch_loss.backward()
                optimizer.step()
                if recorder:
                    recorder.step(batch_loss)
            schedule.step()
        if recorder:
            recorder.__exit__(None, None, None)
        return torch.cat([p.detach().ravel() for p in net.parameters()]).numpy(), recorder

    (with_it, recorder), (without, _) = train(True), train(False)
    np.testing.assert_array_equal(with_it, without)
    run = recorder.run
    np.testing.assert_array_equal(run.theta, with_it)
    assert (
        run.optimizer == "adam" and run.betas == (0.9, 0.999) and run.lr is None and run.batch == 30 and run.sampling == "shuffle"
    )
    assert run.schedule["step"].tolist() == [1, 6, 11]
    np.testing.assert_allclose(run.schedule["lr"], [0.01, 0.005, 0.0025])
    assert run.state["second"].shape == (len(with_it),) and run.losses["test_error"].shape == run.losses["train_error"].shape
    with pytest.raises(ValueError, match="constant"):
        nets.analyse_window(run, "0.weight")


def test_resumed_and_cut_short(pair, data, tmp_path, caplog):
    mlp, theta, _, _ = pair
    batches = batches_of(data, 30, 4)
    whole = record(the_same(mlp, theta)[0], data, batches, record=nets.Record(weights_every=1))
    module, _ = the_same(mlp, theta)
    first = record(module, data, batches[:20], out=tmp_path / "first.h5", record=nets.Record(weights_every=1))
    second = record(module, data, batches[20:], resume=tmp_path / "first.h5", record=nets.Record(weights_every=1))
    assert (second.first_step, second.step) == (20, 30)
    np.testing.assert_array_equal(second.weights["value"], whole.weights["value"][20:])
    np.testing.assert_array_equal(second.weights["step"], np.arange(21, 31))
    with pytest.raises(ValueError, match="restore"):
        record(the_same(mlp, theta)[0], data, batches[20:], resume=first)
    with caplog.at_level(logging.WARNING):
        short = record(module, data, batches[:5], steps=8)
    assert not short.complete and short.step == 5 and "ended after step 5 of 8" in caplog.text
    with pytest.warns(UserWarning, match="more than steps = 4"):
        long = record(module, data, batches[:5], steps=4)
    assert long.complete and long.step == 4


def test_what_a_killed_process_leaves(tmp_path):
    code = """
import os, signal, numpy as np, torch, nets
import nets.torch_recorder as own
own.SEGMENT_SECONDS = 0.0
data, net, loss = nets.load_data("spiral"), torch.nn.Linear(2, 2), torch.nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
x, y = torch.tensor(data.x_train).float(), torch.tensor(data.y_train)
how = {"batch": 10, "sampling": "replace", "record": nets.Record(weights_every=1), "out": "run.h5"}
with nets.TorchRecorder(net, loss, optimizer, data, steps=100, **how) as recorder:
    for step in range(100):
        if step == 12:
            os.kill(os.getpid(), signal.SIGKILL)
        optimizer.zero_grad()
        b = loss(net(x[:10]), y[:10])
        b.backward()
        optimizer.step()
        recorder.step(b)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    run = nets.load_run(tmp_path / "run.h5")
    assert run.step == 12 and not run.complete and run.weights["value"].shape == (12, 6)
    assert not (tmp_path / "run.h5.parts").exists()


# ---- what is refused, and what is said about it -------------------------------------------------------------------------


def loader_of(data, **options):
    samples = torch.utils.data.TensorDataset(torch.tensor(data.x_train).float(), torch.tensor(data.y_train))
    return torch.utils.data.DataLoader(samples, **options)


def test_layers_that_train_otherwise(data):
    net = torch.nn.Sequential(torch.nn.Linear(64, 6), torch.nn.BatchNorm1d(6), torch.nn.Dropout(0.5), torch.nn.Linear(6, 10))
    loss = torch.nn.CrossEntropyLoss()
    with pytest.raises(ValueError, match="BatchNorm1d '1', Dropout '2'.*evaluation=True"):
        nets.TorchModel(net, loss)
    net.train()
    net(torch.randn(50, 64))  # running averages
    model = nets.TorchModel(net, loss, evaluation=True)
    assert net.training and not model.module.training
    before = {k: v.clone() for k, v in net.state_dict().items()}
    g = model.per_sample_gradients(model.theta, data.x_train, data.y_train)
    assert not model.fallback
    net.eval().double()
    out = net(torch.tensor(data.x_train[:1]))
    loss(out, torch.tensor(data.y_train[:1])).backward()
    close(g[0], np.concatenate([p.grad.numpy().ravel() for p in net.parameters()]), 1e-7)  # averages were of 32 bits
    for name, value in net.state_dict().items():
        assert torch.equal(value.to(before[name].dtype), before[name])
    assert nets.TorchModel(torch.nn.Sequential(torch.nn.LayerNorm(64), torch.nn.Dropout(0.0), torch.nn.Linear(64, 10)), loss).dim

    class Free(torch.nn.BatchNorm1d):
        pass

    free = torch.nn.Sequential(Free(64, track_running_stats=False), torch.nn.Linear(64, 10))
    with pytest.raises(ValueError, match="mean of their own|more than 1 value"):
        nets.measure(nets.TorchModel(free, loss, evaluation=True), data, lr=LR, batch=BATCH)


def test_losses_that_are_no_means(data):
    net, where = torch.nn.Linear(64, 10), (data.x_train, data.y_train)
    for loss, words in (
        (torch.nn.CrossEntropyLoss(reduction="none"), "one number.*reduction='mean'.*shape"),
        (torch.nn.CrossEntropyLoss(reduction="sum"), "adds them up"),
        (torch.nn.CrossEntropyLoss(weight=torch.linspace(0.1, 3.0, 10)), "no place in a mean"),
        (lambda o, t: float("nan") * o.sum(), "is nan"),
        (lambda o, t: 1.0, "got float"),
    ):
        model = nets.TorchModel(net, loss)
        with pytest.raises(ValueError, match=words):
            model.loss_and_gradient(model.theta, *where)


def test_arguments_of_the_model(data):
    loss = torch.nn.CrossEntropyLoss()
    with pytest.raises(TypeError, match="torch.nn.Module"):
        nets.TorchModel(lambda x: x, loss)
    with pytest.raises(TypeError, match="function of"):
        nets.TorchModel(torch.nn.Linear(2, 2), "cross_entropy")
    with pytest.raises(ValueError, match="different names out of"):
        nets.TorchModel(torch.nn.Linear(2, 2), loss, parameters=["nothing"])
    with pytest.raises(ValueError, match="no parameter"):
        nets.TorchModel(torch.nn.Linear(2, 2).requires_grad_(False), loss)
    broken = torch.nn.Linear(2, 2)
    with torch.no_grad():
        broken.bias[0] = float("nan")
    with pytest.raises(ValueError, match="finite: .*bias"):
        nets.TorchModel(broken, loss)
    with pytest.raises(ValueError, match="weight_decay"):
        nets.TorchModel(torch.nn.Linear(2, 2), loss, weight_decay=-1.0)
    model = nets.TorchModel(torch.nn.Linear(64, 10), loss, parameters=["bias"])
    assert model.dim == 10
    with pytest.raises(ValueError, match="blocks must be"):
        nets.hessian(model, model.theta, data.x_train, data.y_train, block="W2")
    with pytest.raises(ValueError, match="non-finite"):
        model.check_samples(np.full((2, 64), np.nan), [0, 1])
    with pytest.raises(TypeError, match=r"nets\.MLP"):  # functions that need the layers
        nets.quadratic_volume(model, model.theta, data.x_train, data.y_train)
    module = torch.nn.Linear(64, 10)
    model.write(np.arange(10.0), module)
    assert module.bias.tolist() == list(range(10))


def test_arguments_of_the_recorder(data, tmp_path):
    net, loss = torch.nn.Linear(64, 10), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    good = {"batch_size": 30, "shuffle": True}

    def refused(error, words, *, module=net, by=optimizer, loader=None, **options):
        with pytest.raises(error, match=words):
            nets.TorchRecorder(module, loss, by, loader or loader_of(data, **good), **{"steps": 10, **options})

    refused(TypeError, "torch.optim", by="sgd")
    refused(TypeError, "torch.nn.Module", module=len)
    refused(TypeError, "DataLoader", loader=[1, 2])
    refused(ValueError, "steps", steps=0)
    refused(ValueError, "drop_last=True", loader=loader_of(data, batch_size=40, shuffle=True))
    refused(ValueError, "batch sampler", loader=loader_of(data, batch_sampler=[[0, 1], [2]]))
    refused(ValueError, "SequentialSampler", loader=loader_of(data, batch_size=30))
    dataset = loader_of(data, **good).dataset
    part = torch.utils.data.RandomSampler(dataset, num_samples=90)  # each epoch leaves others out
    refused(ValueError, "draws 90 of 150 samples without", loader=loader_of(data, batch_size=30, sampler=part))
    twice = torch.utils.data.RandomSampler(dataset, num_samples=300)  # two shuffles one after the other
    nets.TorchRecorder(net, loss, optimizer, loader_of(data, batch_size=30, sampler=twice), steps=10)
    refused(ValueError, "batch= and sampling=", loader=data)
    refused(
        ValueError,
        "one finite learning rate",
        by=torch.optim.SGD([{"params": [net.weight]}, {"params": [net.bias], "lr": 1.0}], lr=0.1),
    )
    refused(
        ValueError,
        "one weight decay",
        by=torch.optim.SGD([{"params": [net.weight], "weight_decay": 0.1}, {"params": [net.bias]}], lr=0.1),
    )
    refused(ValueError, r"does not move \['bias'\]", by=torch.optim.SGD([net.weight], lr=0.1))
    refused(ValueError, "MB, more than max_bytes", steps=1000, record=nets.Record(weights_every=1, max_bytes=1000))
    refused(ValueError, "blocks must be", record=nets.Record(weights="W2"))
    (tmp_path / "there.h5").write_text("x")
    refused(FileExistsError, "there.h5", out=tmp_path / "there.h5", overwrite=False)

    class Noisy(torch.utils.data.Dataset):
        def __len__(self):
            return 60

        def __getitem__(self, i):
            return torch.randn(64), 1

    refused(ValueError, "augmentation", loader=torch.utils.data.DataLoader(Noisy(), **good))
    recorder = nets.TorchRecorder(net, loss, optimizer, loader_of(data, **good), steps=10)
    assert recorder.nbytes > 0
    with pytest.raises(RuntimeError, match="with block"):
        recorder.step(1.0)
    with recorder, pytest.raises(ValueError, match="before zero_grad"):
        recorder.step(torch.tensor(1.0))
    with pytest.raises(RuntimeError, match="after the with block"):
        nets.TorchRecorder(net, loss, optimizer, loader_of(data, **good), steps=10).run  # noqa: B018


def test_a_loss_that_is_not_finite_any_more(data, tmp_path):
    from fpsolve import FpsolveError

    mlp = nets.MLP((64, 10), weight_decay=DECAY)
    module, _ = the_same(mlp, mlp.init(0))
    batches = batches_of(data, 8, 0)
    optimizer = torch.optim.SGD(module.parameters(), lr=LR)
    loss, x, y = torch.nn.CrossEntropyLoss(), torch.tensor(data.x_train), torch.tensor(data.y_train)
    options = {"steps": 8, "batch": BATCH, "sampling": "replace", "out": tmp_path / "run.h5"}

    def train():
        with nets.TorchRecorder(module, loss, optimizer, data, **options) as recorder:
            for step, index in enumerate(batches):
                optimizer.zero_grad()
                batch_loss = loss(module(x[index]), y[index]) * (float("nan") if step == 5 else 1.0)
                batch_loss.backward()
                optimizer.step()
                recorder.step(batch_loss)

    with pytest.raises(FpsolveError, match="step 6 .*smaller lr"):
        train()
    run = nets.load_run(tmp_path / "run.h5")
    assert run.step == 5 and not run.complete and np.isfinite(run.theta).all()


# ---- what is not recorded, and calls in the wrong place -------------------------------------------------------------------


def recorded(net, optimizer, data, steps=12, *, scheduler=None, first=None, record=None, **options):
    """A run of single precision on the digits; the scheduler steps before the recorder with first=True, after it with False."""
    samples = torch.utils.data.TensorDataset(torch.tensor(data.x_train).float(), torch.tensor(data.y_train))
    loader = torch.utils.data.DataLoader(samples, batch_size=10, shuffle=True, drop_last=True)
    loss = torch.nn.CrossEntropyLoss()
    with nets.TorchRecorder(net, loss, optimizer, loader, steps=steps, record=record, **options) as recorder:
        for x, y in list(loader)[:steps]:
            optimizer.zero_grad()
            value = loss(net(x), y)
            value.backward()
            optimizer.step()
            if first is True:
                scheduler.step()
            recorder.step(value)
            if first is False:
                scheduler.step()
    return recorder.run


def loss_of_all(net, data):
    with torch.no_grad():
        return float(torch.nn.CrossEntropyLoss()(net.double().eval()(torch.tensor(data.x_train)), torch.tensor(data.y_train)))


def test_steps_that_a_scaler_passes_over_are_none(data):
    """Its first factors overflow; the run is that of the steps that were done, with their learning rates."""

    def trained(scale, decay=0.0):
        torch.manual_seed(3)
        net, mean = torch.nn.Linear(64, 10), torch.nn.CrossEntropyLoss()
        loss = lambda outputs, y: 256.0 * mean(outputs, y)  # noqa: E731
        optimizer, loader = torch.optim.SGD(net.parameters(), lr=0.0004), loader_of(data, batch_size=30, shuffle=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10**6)
        batches = [batch for _ in range(4) for batch in loader]
        with nets.TorchRecorder(net, loss, optimizer, loader, steps=20, record=nets.Record()) as recorder:
            for k, (x, y) in enumerate(batches):
                optimizer.param_groups[0]["lr"] = 0.0004 / (1.0 + decay * k)
                optimizer.zero_grad()
                value = loss(net(x.float()), y)
                scaler.scale(value).backward()
                scaler.step(optimizer)
                scaler.update()
                recorder.step(value)
        return recorder.run, net

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run, net = trained(2.0**126)
    assert [str(w.message).count("GradScaler passes over a step") for w in told] == [1]
    assert 0 < run.step < 20
    assert not run.complete
    np.testing.assert_array_equal(run.theta, np.concatenate([p.detach().numpy().ravel() for p in net.parameters()]))
    assert all(np.isfinite(series).all() for series in run.losses.values())
    assert trained(1.0)[0].step == 20
    with pytest.warns(UserWarning, match="passes over"):
        scheduled = trained(2.0**126, decay=1.0)[0]
    passed = 20 - run.step  # these were the first of 20 batches
    np.testing.assert_array_equal(scheduled.schedule["step"], np.arange(1, run.step + 1))
    np.testing.assert_allclose(scheduled.schedule["lr"], 0.0004 / (1.0 + np.arange(passed, 20)), rtol=1e-15)


def test_what_is_not_recorded_follows_the_module(data):
    """The loss of a run is that of the module as it is, with the other parameters and the running averages of its step."""
    torch.manual_seed(3)
    net = torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.BatchNorm1d(8), torch.nn.Tanh(), torch.nn.Linear(8, 10))
    optimizer = torch.optim.SGD(
        [{"params": net[:3].parameters(), "lr": 0.5, "weight_decay": 0.1}, {"params": net[3].parameters()}], lr=0.3
    )
    record = nets.Record(losses_every=12)
    run = recorded(net, optimizer, data, record=record, evaluation=True, parameters=["3.weight", "3.bias"])
    assert run.lr == 0.3
    expected = loss_of_all(net, data)
    assert run.losses["train_loss"][-1] == pytest.approx(expected, rel=1e-12)
    assert run.mlp.loss_and_gradient(run.theta, data.x_train, data.y_train)[0] == pytest.approx(expected, rel=1e-12)
    for name, pattern in (("weight_decay", r"\[0\.0, 0\.1\].*parameters="), ("lr", r"\[0\.3, 0\.5\].*parameters=")):
        with pytest.raises(ValueError, match=pattern):
            recorded(net, optimizer, data, evaluation=True)
        optimizer.param_groups[0][name] = optimizer.param_groups[1][name]


def test_a_recorder_in_the_wrong_place_is_told(data):
    net = torch.nn.Linear(64, 10)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    with pytest.warns(UserWarning, match="step 1 was not lr = 0.09 times the gradient.*before the scheduler's step"):
        recorded(net, optimizer, data, scheduler=scheduler, first=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)  # a warm-up from 0, in its place: warnings are errors here
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 10)
    run = recorded(net, optimizer, data, scheduler=scheduler, first=False)
    np.testing.assert_allclose(run.schedule["lr"], 0.01 * np.arange(12), rtol=1e-15)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=100)
    with pytest.warns(UserWarning, match="momentum or weight decay changed before step 2.*cycle_momentum=False") as told:
        recorded(net, optimizer, data, scheduler=scheduler, first=False)
    assert len(told) == 1


def test_weights_frozen_on_the_way_have_no_gradient(data):
    """SGD passes over parameters without a gradient, their weight decay included; so does what is recorded of the step."""
    net = torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.Tanh(), torch.nn.Linear(8, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.1)
    loss, x, y = torch.nn.CrossEntropyLoss(), torch.tensor(data.x_train[:10]).float(), torch.tensor(data.y_train[:10])
    with nets.TorchRecorder(
        net, loss, optimizer, data, steps=4, batch=10, sampling="shuffle", record=nets.Record(weights="0.bias", losses_every=2)
    ) as recorder:
        for step in range(4):
            net[0].requires_grad_(step < 2)
            optimizer.zero_grad()
            value = loss(net(x), y)
            value.backward()
            optimizer.step()
            recorder.step(value)  # a warning, which is an error here, if it were not lr times the gradient
    weights = recorder.run.weights["value"]
    assert np.array_equal(weights[-1], weights[-2]) and not np.array_equal(weights[1], weights[0])


def test_samples_that_have_no_loss_of_their_own(data):
    class Centred(torch.nn.Linear):
        def forward(self, x):
            z = super().forward(x)
            return z - z.mean(0)

    x, y = data.x_train, data.y_train
    model = nets.TorchModel(Centred(64, 10), torch.nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match="depends on the other samples of the batch"):
        model.loss_and_gradient(model.theta, x, y)
    order = np.argsort(y, kind="stable")  # the first samples are all of one class
    weighted = nets.TorchModel(torch.nn.Linear(64, 10), torch.nn.CrossEntropyLoss(weight=torch.linspace(1.0, 2.0, 10)))
    with pytest.raises(ValueError, match="weights of classes"):
        weighted.loss_and_gradient(weighted.theta, x[order], y[order])
    words = nets.TorchModel(
        torch.nn.Sequential(torch.nn.Embedding(9, 2), torch.nn.Flatten(), torch.nn.Linear(6, 3)), torch.nn.CrossEntropyLoss()
    )
    with pytest.raises(ValueError, match=r"shape \(2, 3\) in double precision.*x\.long\(\) for an embedding"):
        words.loss_and_gradient(words.theta, np.ones((2, 3)), [0, 1])
