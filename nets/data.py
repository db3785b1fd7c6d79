"""Data sets: the packaged UCI digits, MNIST from IDX files, and three small synthetic problems."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import importlib
import importlib.resources
import math
import os
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._checks import integer

__all__ = ["Data", "fingerprint", "load_data", "read_idx"]

Array = NDArray[Any]

MNIST_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
MNIST_HOME = "https://ossci-datasets.s3.amazonaws.com/mnist/"
#: SHA-256 of the files unpacked, so that any mirror and any way of packing will do.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


@dataclass(frozen=True, eq=False)
class Data:
    """Inputs and targets of a supervised problem, split into training and test samples.

    Attributes
    ----------
    x_train, x_test : ndarray, shape (n, d), float64
        Inputs, one sample per row, scaled as `scaling` says; (n, channels, height, width) and other shapes for networks of PyTorch.
    y_train, y_test : ndarray, shape (n,) int64, or (n, k) float64
        Class labels 0 .. n_classes - 1, or real targets of a regression problem.
    name : str
    n_classes : int
        0 for regression; if it is not given with labels, the largest label plus one.
    scaling : str
        What was done to the raw inputs.
    source : str
        Where the samples come from, and under which licence.
    x_spare, y_spare : ndarray
        Samples neither trained on nor tested: what `subset` left of the training samples. `nets.poison` takes its inputs there.
    clean : int
        The first `clean` training samples have their own labels, the others were added by `nets.poison`; default: all of them.

    Examples
    --------
    >>> import nets
    >>> nets.load_data("digits").subset(100)
    Data('digits', 100 training and 359 test samples of dimension 64, 10 classes, pixels / 16)
    """

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    name: str
    n_classes: int = 0
    scaling: str = ""
    source: str = field(default="", repr=False)
    x_spare: Array = field(default_factory=lambda: np.empty((0, 0)), repr=False)
    y_spare: Array = field(default_factory=lambda: np.empty(0), repr=False)
    clean: int = -1

    def __post_init__(self) -> None:
        for part in ("train", "test", "spare"):
            if part == "spare" and len(self.x_spare) == 0:
                object.__setattr__(self, "x_spare", self.x_train[:0])
                object.__setattr__(self, "y_spare", self.y_train[:0])
            x, y = _numbers(f"x_{part}", getattr(self, f"x_{part}")), _numbers(f"y_{part}", getattr(self, f"y_{part}"))
            x = np.ascontiguousarray(x, dtype=np.float64)
            if x.ndim < 2 or len(x) != len(y):
                raise ValueError(f"x_{part} must have shape (n, d) with one row per target: got x {x.shape} and y {y.shape}")
            if not np.isfinite(x).all():
                raise ValueError(
                    f"x_{part} contains {np.count_nonzero(~np.isfinite(x))} non-finite numbers; drop or fill such samples"
                )
            labels = y.dtype.kind in "iub"
            y = np.ascontiguousarray(y, dtype=np.int64 if labels else np.float64)
            if not np.isfinite(y).all():
                raise ValueError(
                    f"y_{part} contains {np.count_nonzero(~np.isfinite(y))} non-finite numbers; drop or fill such samples"
                )
            if labels and y.ndim != 1:
                raise ValueError(f"integer y_{part} are class labels of shape (n,): got shape {y.shape}; use floats for regression")
            if labels and len(y) and not (y.min() >= 0 and (self.n_classes == 0 or y.max() < self.n_classes)):
                raise ValueError(
                    f"labels y_{part} must lie in 0 .. n_classes - 1 = {self.n_classes - 1}: got {y.min()} .. {y.max()}"
                )
            object.__setattr__(self, f"x_{part}", x)
            object.__setattr__(self, f"y_{part}", y)
        if self.x_train.shape[1:] != self.x_test.shape[1:] or len(self.x_train) == 0:
            raise ValueError(
                f"x_train {self.x_train.shape} must not be empty and must have as many columns as x_test {self.x_test.shape}"
            )
        if self.x_spare.shape[1:] != self.x_train.shape[1:]:
            raise ValueError(f"x_spare must have as many columns as x_train {self.x_train.shape}: got {self.x_spare.shape}")
        classes = np.issubdtype(self.y_train.dtype, np.integer)
        for part in ("test", "spare"):
            y = getattr(self, f"y_{part}")
            if classes and len(y) and not np.issubdtype(y.dtype, np.integer):
                raise ValueError(f"y_train are class labels, so y_{part} must be integers as well: got real targets")
        if classes and self.n_classes == 0:
            everything = (self.y_train, self.y_test, self.y_spare)
            object.__setattr__(self, "n_classes", 1 + max(int(y.max()) for y in everything if len(y)))
        object.__setattr__(self, "clean", integer("clean", self.size if self.clean == -1 else self.clean, 1, self.size))

    @property
    def dim(self) -> int:
        """Number of inputs per sample."""
        return math.prod(self.x_train.shape[1:])

    @property
    def size(self) -> int:
        """Number of training samples."""
        return len(self.x_train)

    def __repr__(self) -> str:
        kind = f"{self.n_classes} classes" if self.n_classes else "regression"
        scaling = f", {self.scaling}" if self.scaling else ""
        poisoned = f" ({self.size - self.clean} of them poisoned)" if self.clean < self.size else ""
        return (
            f"Data({self.name!r}, {self.size} training{poisoned} and {len(self.x_test)} test samples of dimension "
            f"{self.dim}, {kind}{scaling})"
        )

    def subset(self, n: int, n_test: int | None = None) -> Data:
        """The first `n` training samples, and the first `n_test` test samples (default: all of them).

        The training samples left out are spare from then on, but for poisoned ones: ``data.subset(data.clean)`` is rid of those.

        Raises
        ------
        ValueError
            If fewer samples are there than asked for.
        """
        n_test = len(self.x_test) if n_test is None else n_test
        for what, k, have, least in (("n", n, self.size, 1), ("n_test", n_test, len(self.x_test), 0)):
            integer(f"{what}, of {self.name!r},", k, least, have)
        return replace(
            self,
            x_train=self.x_train[:n],
            y_train=self.y_train[:n],
            x_test=self.x_test[:n_test],
            y_test=self.y_test[:n_test],
            x_spare=_joined(self.x_train[n : self.clean], self.x_spare),
            y_spare=_joined(self.y_train[n : self.clean], self.y_spare),
            clean=min(n, self.clean),
        )


def load_data(name: str, *, split: str = "standard", n: int | None = None, seed: int | None = 0) -> Data:
    """Load a data set by name.

    Parameters
    ----------
    name : {"digits", "mnist", "spiral", "disc", "teacher"}
        * ``"digits"``: 1797 images of 8 x 8 pixels, 10 classes, packaged; pixels / 16. Split without any seed: the samples number
          4, 9, 14, ... (index % 5 == 4) are the 359 test samples, the others the 1438 training samples.
        * ``"mnist"``: 60 000 + 10 000 images of 28 x 28 pixels, pixels / 255, read from the four IDX files (raw or .gz) in
          ``$FPSOLVE_DATA/mnist``, or, without that variable, in the user's cache. Missing files are downloaded (11 MB) and compared
          with their checksums, if the package pooch is there (``pip install 'fpsolve[data]'``).
        * ``"spiral"``: two interleaved noisy spiral arms in the plane, 2 classes.
        * ``"disc"``: points uniform on the square of side 3.2 around 0, 2 classes: 1 inside the unit circle (0.307 of the square),
          0 outside. For a network with one output these are the targets +1 and -1 (`nets.MLP`).
        * ``"teacher"``: regression on y = tanh network(x) + 0.1 normal, x standard normal in 8 dimensions.
    split : {"standard", "all"}
        "all" puts every sample of all sets but MNIST into the training set (none is left to test);
        for MNIST the published split is kept, so "all" is refused.
    n : int, optional
        Keep the first `n` training samples (digits, mnist), or draw that many samples in all (spiral, disc, teacher; default 1000).
    seed : int or None
        Seed of the synthetic sets; the real ones do not use it.

    Returns
    -------
    Data

    Raises
    ------
    ValueError
        Unknown name (the nearest is named), bad `split` or `n`, or a corrupt file.
    FileNotFoundError
        MNIST files that are missing and cannot be downloaded: the message says which, and where they belong.

    Notes
    -----
    Digits: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998),
    https://doi.org/10.24432/C50P49, CC BY 4.0; the copy is scikit-learn's (Pedregosa et al., JMLR 12, 2825, 2011).
    MNIST: Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits (1998).

    Examples
    --------
    >>> import nets
    >>> data = nets.load_data("digits", split="all")
    >>> data.x_train.shape, float(data.x_train.max()), data.y_train[:4].tolist()
    ((1797, 64), 1.0, [0, 1, 2, 3])
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a data set is a string, one of {sorted(_LOADERS)}: got {name!r}")
    if name not in _LOADERS:
        near = difflib.get_close_matches(name.lower(), _LOADERS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown data set {name!r}: known are {', '.join(sorted(_LOADERS))}{hint}")
    if split not in ("standard", "all"):
        raise ValueError(f"split must be 'standard' or 'all': got {split!r}")
    if n is not None:
        integer("n", n, 1)
    if seed is not None:
        integer("seed", seed, 0)
    return _LOADERS[name](split, n, seed)


def fingerprint(x: Array, t: Array) -> str:
    """Hash of training samples and their targets, by which a run knows them again."""
    digest = hashlib.sha256(repr((x.shape, t.shape)).encode())
    digest.update(x.tobytes())
    digest.update(t.tobytes())
    return digest.hexdigest()[:16]


def _numbers(name: str, value: Any) -> Array:
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{name} must be an array of numbers: {error}") from error
    if array.dtype.kind not in "iubf":
        raise TypeError(f"{name} must be an array of real numbers: got dtype {array.dtype}")
    return array


def _joined(first: Array, second: Array) -> Array:
    """One array behind the other; a view where one of them is empty, as the images of MNIST take 0.4 GB."""
    return second if not len(first) else first if not len(second) else np.concatenate([first, second])


def _split(x: Array, y: Array, split: str, name: str, **facts: Any) -> Data:
    test = np.arange(len(x)) % 5 == 4 if split == "standard" else np.zeros(len(x), dtype=bool)
    return Data(x[~test], y[~test], x[test], y[test], name, **facts)


def _digits(split: str, n: int | None, seed: int | None) -> Data:
    path = importlib.resources.files("nets") / "digits.csv.gz"
    with path.open("rb") as raw, gzip.open(raw, "rt", encoding="ascii") as text:
        table = np.loadtxt(text, delimiter=",", dtype=np.float64)
    data = _split(
        table[:, :64] / 16.0,
        table[:, 64].astype(np.int64),
        split,
        "digits",
        n_classes=10,
        scaling="pixels / 16",
        source="UCI Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998), CC BY 4.0, via scikit-learn",
    )
    return data if n is None else data.subset(n)


def _mnist(split: str, n: int | None, seed: int | None) -> Data:
    if split == "all":
        raise ValueError(
            "split='all' is not offered for MNIST: its published split into 60 000 training and 10 000 test "
            "images is kept; use split='standard'"
        )
    folder = _mnist_folder()
    arrays = {key: read_idx(_existing(folder, name)) for key, name in MNIST_FILES.items()}
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.ndim != 3 or y.ndim != 1 or len(x) != len(y):
            raise ValueError(
                f"{folder}: images of shape {x.shape} and labels of shape {y.shape} do not belong together "
                f"({MNIST_FILES[f'x_{part}']}, {MNIST_FILES[f'y_{part}']})"
            )
        arrays[f"x_{part}"] = x.reshape(len(x), -1)
    if n is not None:
        if n > len(arrays["x_train"]):
            raise ValueError(f"n must be at most {len(arrays['x_train'])}, the number of training images: got {n}")
        arrays["x_train"], arrays["y_train"] = arrays["x_train"][:n], arrays["y_train"][:n]
    return Data(
        arrays["x_train"] / 255.0,
        arrays["y_train"].astype(np.int64),
        arrays["x_test"] / 255.0,
        arrays["y_test"].astype(np.int64),
        "mnist",
        n_classes=10,
        scaling="pixels / 255",
        source="MNIST (LeCun, Cortes & Burges 1998)",
    )


def _mnist_folder() -> Path:
    """Folder of the four files: ``$FPSOLVE_DATA/mnist``, or the user's cache; what is missing there is downloaded."""
    root = os.environ.get("FPSOLVE_DATA")
    wanted = ", ".join(f"{name}[.gz]" for name in MNIST_FILES.values())
    by_hand = (
        f"put the files {wanted} (from {MNIST_HOME}) into a folder named mnist, and set the environment variable FPSOLVE_DATA to "
        "the folder above it"
    )
    try:
        pooch: Any = importlib.import_module("pooch")
    except ImportError:
        pooch = None
    if not root and pooch is None:
        raise FileNotFoundError(
            f"MNIST is not part of the package: install pooch to have it downloaded (pip install 'fpsolve[data]'), or {by_hand}"
        )
    folder = Path(root) / "mnist" if root else Path(pooch.os_cache("fpsolve")) / "mnist"
    missing = [name for name in MNIST_FILES.values() if not any((folder / (name + end)).is_file() for end in ("", ".gz"))]
    if missing and pooch is None:
        raise FileNotFoundError(
            f"MNIST files missing in {folder} (FPSOLVE_DATA is {root!r}): {', '.join(missing)} (raw, or gzipped as .gz); "
            f"get them from {MNIST_HOME}, or install pooch to have them downloaded (pip install 'fpsolve[data]')"
        )
    if missing:
        source = pooch.create(path=folder, base_url=MNIST_HOME, registry={f"{name}.gz": None for name in missing})
        for name in missing:
            _download(source, name, by_hand)
    return folder


def _download(source: Any, name: str, by_hand: str) -> None:
    """Fetch one gzipped file; what does not unpack to the true one is removed again."""
    try:
        path = Path(source.fetch(f"{name}.gz"))
    except Exception as error:  # requests has a class of its own for each thing that can go wrong on the way
        raise FileNotFoundError(
            f"{name}.gz could not be downloaded from {MNIST_HOME} to {source.path}: {error}; or {by_hand}"
        ) from error
    try:
        found = hashlib.sha256(_unpacked(path)).hexdigest()
        if found != MNIST_SHA256[name]:
            raise ValueError(f"{MNIST_HOME}{name}.gz is not the file of MNIST: SHA-256 unpacked {found}, not {MNIST_SHA256[name]}")
    except ValueError:
        path.unlink()
        raise


def _existing(folder: Path, name: str) -> Path:
    raw = folder / name
    return raw if raw.is_file() else folder / (name + ".gz")


def read_idx(path: str | os.PathLike[str]) -> Array:
    """Read an IDX file (the format of MNIST), raw or gzipped.

    The format: two zero bytes, a type code, the number of axes, the big-endian 32-bit length of each axis, then the
    data in C order.

    Parameters
    ----------
    path : path
        Gzip is recognised by its first two bytes, not by the name.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        If the file is no IDX file, is cut short, or has bytes left over.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels"
    >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    >>> read_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    path = Path(path)
    blob = _unpacked(path)
    if len(blob) < 4 or blob[:2] != b"\0\0" or blob[2] not in _IDX_TYPES or blob[3] == 0:
        raise ValueError(
            f"{path} is not an IDX file: it starts with {blob[:4].hex(' ') or 'nothing'}, expected 00 00, a type "
            "code 08, 09, 0b .. 0e and the number of axes"
        )
    ndim, head = blob[3], 4 + 4 * blob[3]
    if len(blob) < head:
        raise ValueError(f"{path} is cut short inside its header ({len(blob)} of {head} bytes): get a fresh copy")
    shape = struct.unpack(f">{ndim}I", blob[4:head])
    dtype = np.dtype(_IDX_TYPES[blob[2]])
    need = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(blob) - head != need:
        raise ValueError(
            f"{path} announces an array of shape {shape} = {need} bytes but holds {len(blob) - head}: get a fresh copy"
        )
    return np.frombuffer(blob, dtype=dtype, offset=head).reshape(shape)


def _unpacked(path: Path) -> bytes:
    blob = path.read_bytes()
    if blob[:2] == b"\x1f\x8b":
        try:
            blob = gzip.decompress(blob)
        except (OSError, EOFError, ValueError) as err:
            raise ValueError(f"{path} is a damaged gzip file ({err}): get a fresh copy") from err
        except Exception as err:  # zlib.error is not a public base class of the above
            raise ValueError(f"{path} is a damaged gzip file ({err}): get a fresh copy") from err
    return blob


def _spiral(split: str, n: int | None, seed: int | None) -> Data:
    n = 1000 if n is None else n
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    r = np.sqrt(rng.random(n))
    angle = 3.0 * np.pi * r + np.pi * y
    x = r[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.02 * rng.standard_normal((n, 2))
    return _split(x, y, split, "spiral", n_classes=2, source=f"synthetic, seed {seed}")


def _disc(split: str, n: int | None, seed: int | None) -> Data:
    n = 1000 if n is None else n
    x = np.random.default_rng(seed).uniform(-1.6, 1.6, (n, 2))
    inside = (x * x).sum(axis=1) < 1.0
    return _split(x, inside.astype(np.int64), split, "disc", n_classes=2, source=f"synthetic, seed {seed}")


def _teacher(split: str, n: int | None, seed: int | None) -> Data:
    n = 1000 if n is None else n
    rng = np.random.default_rng(seed)
    w1, w2 = rng.standard_normal((8, 4)) / np.sqrt(8.0), rng.standard_normal((4, 1)) / 2.0
    x = rng.standard_normal((n, 8))
    y = np.tanh(x @ w1) @ w2 + 0.1 * rng.standard_normal((n, 1))
    return _split(x, y, split, "teacher", source=f"synthetic, seed {seed}")


_LOADERS = {"digits": _digits, "mnist": _mnist, "spiral": _spiral, "disc": _disc, "teacher": _teacher}
