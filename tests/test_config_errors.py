"""Configurations: every bad input is a clear error before any work."""

import contextlib
import copy

import pytest
from config_cases import CHAIN, COMMIT, ESCAPE, GRID, STAT, TASKS, WELL, asked
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsolve as fps
from fpsolve import _config_tables, read_config
from fpsolve._config_keys import keys_of, nearest

pytestmark = pytest.mark.usefixtures("entry_points")

TRAIN = {"data": {"name": "spiral"}, "network": {"widths": [2, 4, 2]}, "training": {"lr": 0.1, "batch": 10, "steps": 10},
         "task": {"name": "train"}}  # fmt: skip
GONE = object()
#: Config, what is changed in it, and what the error says. `check` is needed for what only the objects know.
WRONG = [
    (ESCAPE, {"potential": GONE}, "the table [potential] is missing, which overdamped [process] needs"),
    (ESCAPE, {"noise": GONE}, "the table [noise] is missing"),
    (ESCAPE, {"region": GONE}, "the table [region] is missing, which the task escape_times needs"),
    (STAT, {"grid": GONE}, "the table [grid] is missing, which the task stationary needs"),
    (COMMIT, {"regions.b": GONE}, "the table [regions.b] is missing, which the task committor needs"),
    (ESCAPE, {"task": GONE}, "the table [task] is missing; say what is asked"),
    (ESCAPE, {"task.name": GONE}, "[task] the key 'name' is missing"),
    (ESCAPE, {"nosie": {"D": 1.0}}, "unknown table [nosie]; did you mean 'noise'?"),
    (ESCAPE, {"Potential": {}}, "unknown table [Potential]; did you mean 'potential'?"),
    (ESCAPE, {"xyzzy": {}}, "unknown table [xyzzy]; known are ensemble, grid"),
    (ESCAPE, {"seed": 3}, "seed stands outside of the tables"),
    (ESCAPE, {"noise": 0.5}, "noise stands outside of the tables"),
    (ESCAPE, {"grid": {"axes": [[0, 1, 3]]}}, "the table [grid] is not used by the task escape_times of this process (overdamped)"),
    (STAT, {"region": {"kind": "ball"}}, "the table [region] is not used by the task stationary"),
    (COMMIT, {"regions.c": {"kind": "ball"}}, "the table [regions.c] is not used by the task committor"),
    (ESCAPE, {"ensemble": {}}, "the table [ensemble] is not used"),
    (ESCAPE, {"data": {"name": "digits"}}, "unknown table [data]"),
    (ESCAPE, {"potential.expresion": "x"}, "[potential] unknown key 'expresion'; did you mean 'expression'?"),
    (ESCAPE, {"potential.expression": GONE}, "[potential] give an expression or the name of a landscape, not neither"),
    (ESCAPE, {"potential.name": "ring"}, "[potential] give an expression or the name of a landscape, not both"),
    (ESCAPE, {"potential": {"name": "dubble_well"}}, "name = 'dubble_well' is not known; did you mean 'double_well'?"),
    (ESCAPE, {"potential": {"name": "CriticalPoint"}}, "name = 'CriticalPoint' is not known"),
    (ESCAPE, {"potential": {"name": "quadratic"}}, "[potential] the key 'H' is missing, which 'quadratic' needs"),
    (ESCAPE, {"potential": {"name": "ring", "radius": -1.0}}, "[potential] radius must be finite and > 0, got -1.0"),
    (ESCAPE, {"potential": {"name": "double_well", "dim": 1.0}}, "[potential] dim must be an integer, got float: 1.0"),
    (ESCAPE, {"potential.expression": 3}, "[potential] expression must be a text, got int: 3"),
    (ESCAPE, {"potential.expression": "(x**2 - 1"}, "[potential] cannot read the expression"),
    (ESCAPE, {"potential.expression": "x^2"}, "write powers as **"),
    (ESCAPE, {"potential.expression": "x**2 + z"}, "undeclared name 'z'"),
    (ESCAPE, {"potential.expression": "__import__('os').system('id')"}, "[potential] a call that is not function(argument, ...)"),
    (ESCAPE, {"potential.expression": "open('x')"}, "[potential] a call of 'open'"),
    (ESCAPE, {"potential.expression": "x.real"}, "attribute access"),
    (ESCAPE, {"potential.params": {"h": "a"}}, "[potential] params must be a table of numbers, got dict"),
    (ESCAPE, {"potential.params": {"x": 1.0}}, "['x'] are both variables and parameters"),
    (ESCAPE, {"potential.variables": 3}, "[potential] variables must be a text or a list of texts, got int: 3"),
    (ESCAPE, {"noise.kind": "isotropc"}, "[noise] kind = 'isotropc' is not known; did you mean 'isotropic'?"),
    (ESCAPE, {"noise.kind": 3}, "[noise] kind = 3 is not known"),
    (ESCAPE, {"noise.kind": "from_function"}, "[noise] kind = 'from_function' is not known"),
    (ESCAPE, {"noise.D": GONE}, "[noise] the key 'D' is missing, which 'isotropic' needs"),
    (ESCAPE, {"noise.D": "0.5"}, "[noise] D must be a number, got str: '0.5'"),
    (ESCAPE, {"noise.D": True}, "[noise] D must be a number, got bool: True"),
    (ESCAPE, {"noise.D": [0.5]}, "[noise] D must be a number, got list: [0.5]"),
    (ESCAPE, {"noise.D": -0.5}, "[noise] D must be"),
    (ESCAPE, {"noise.D": float("nan")}, "config: noise.D is nan; give a number"),
    (ESCAPE, {"noise.d": 0.5}, "[noise] unknown key 'd' of 'isotropic'; did you mean 'D'?"),
    (ESCAPE, {"noise.U": "x"}, "[noise] unknown key 'U' of 'isotropic'"),
    (ESCAPE, {"noise.expression": "x**2"},
     "key 'expression' of 'isotropic'; 'expression' is a kind of its own, with the keys D, variables, params: write kind ="),
    (ESCAPE, {"noise.alpha": 1.5}, "[noise] unknown key 'alpha' of 'isotropic'; it is a key of kind = 'levy'"),
    (ESCAPE, {"noise.D": "0.1*x"}, "[noise] D must be a number, got str: '0.1*x'; 'expression' is a kind of its own"),
    (ESCAPE, {"noise": {"kind": "hessian", "scale": 0.1, "U": "x"}},
     "[noise] U is not a key here: it is made from the table [potential]"),
    (ESCAPE, {"noise": {"kind": "constant", "D": [[1.0, 2.0], [3.0]]}},
     "[noise] D must be a number or a list of numbers, got list"),
    (ESCAPE, {"noise": {"kind": "constant", "D": [[1.0, 0.0], [0.0, -1.0]]}},
     "[noise] the diffusion tensor is not positive semi-definite"),
    (ESCAPE, {"noise": {"kind": "constant", "D": [[1.0, 0.0], [0.0, 1.0]]}}, "[process] "),
    (ESCAPE, {"noise": {"kind": "levy", "alpha": 3.0, "scale": 1.0}}, "[noise] alpha"),
    (ESCAPE, {"noise": {"kind": "expression", "D": "x.__class__"}}, "[noise] attribute access"),
    (ESCAPE, {"process.kind": "chian"}, "[process] kind = 'chian' is not known; did you mean 'chain'?"),
    (ESCAPE, {"process.interpretation": "itoo"}, "[process] interpretation"),
    (ESCAPE, {"process.lr": 0.1}, "[process] unknown key 'lr' of 'overdamped'"),
    (ESCAPE, {"process": {"kind": "underdamped"}}, "[process] the key 'friction' is missing"),
    (ESCAPE, {"process": {"kind": "underdamped", "friction": -1.0}}, "[process] friction must be a finite number > 0, got -1.0"),
    (ESCAPE, {"process": {"kind": "drift", "drift": "-x", "variables": "x"}},
     "the table [potential] is not used by the task escape_times of this process (drift)"),
    (ESCAPE, {"process": {"kind": "chain", "lr": "0.1"}}, "[process] lr must be a number or a list of numbers, got str"),
    (ESCAPE, {"process": {"kind": "chain", "lr": 0.1}},
     "[task] dt = 0.02 was given, but the time of a chain is its iteration count"),
    (STAT, {"grid.axis": [[0, 1, 3]]}, "[grid] unknown key 'axis'; did you mean 'axes'?"),
    (STAT, {"grid.axes": [0, 1, 3]}, "[grid] axes must be a list of lists of values, got list"),
    (STAT, {"grid.axes": [[0, 1]]}, "[grid] axis 0 must be (lo, hi, n)"),
    (STAT, {"grid.axes": [[1.0, 0.0, 10]]}, "[grid] axis 0: lo must be less than hi"),
    (STAT, {"grid.axes": [[0.0, 1.0, 10.0]]}, "[grid] axis 0: the number of cells must be an integer"),
    (STAT, {"grid.axes": [["a", 1.0, 10]]}, "[grid] "),
    (STAT, {"grid.axes": [[0.0, 1.0, 10**13]]}, "more than the memory of this machine"),
    (STAT, {"grid.axes": [[0.0, 1.0, 10, ["sin", 1.0]]]}, "[grid] axis 0: the mapping must be"),
    (STAT, {"grid.boundary": "reflectng"}, "[grid] unknown boundary 'reflectng' of axis 0: did you mean 'reflecting'?"),
    (STAT, {"grid.axes": [[0, 1, 5], [0, 1, 5]]}, "[task] the process is 1-D, the grid is 2-D"),
    (STAT, {"solver": {"schema": "monotone"}}, "[solver] unknown key 'schema'; did you mean 'scheme'?"),
    (STAT, {"solver": {"scheme": "monoton"}}, "[task] scheme must be one of"),
    (STAT, {"solver": {"nodes": 3}}, "[solver] unknown key 'nodes'"),
    (STAT, {"task.scheme": "auto"}, "[task] scheme is not a key here: it belongs to [solver]"),
    (STAT, {"process": {"kind": "chain", "lr": 0.1, "momentum": 0.5}}, "[task] "),
    (ESCAPE, {"region.kind": GONE}, "[region] kind is missing; it is one of ball, box"),
    (ESCAPE, {"region.kind": "bal"}, "[region] kind = 'bal' is not known; did you mean 'ball'?"),
    (ESCAPE, {"region.radius": 1.0}, "[region] unknown key 'radius' of 'halfspace'"),
    (ESCAPE, {"region.n": [0.0]}, "[region] the normal of a half-space must not be zero"),
    (ESCAPE, {"region.n": [1.0, 1.0]}, "[task] [region] is 2-D, the process 1-D"),
    (ESCAPE, {"region": {"kind": "sublevel", "e": 0.5, "containing": [0.0]}},
     "[region] sublevel(0.5): the point [0.0] is not inside"),
    (COMMIT, {"regions": {}}, "the table [regions.a] is missing"),
    (COMMIT, {"regions.a": 3}, "[regions.a] must be a table, got int: 3"),
    (ESCAPE, {"task.name": "escape_time"}, "[task] name = 'escape_time' is not a known task; did you mean 'escape_times'?"),
    (ESCAPE, {"task.name": "os.system"}, "[task] name = 'os.system' is not a known task"),
    (ESCAPE, {"task.name": "freezing_time"}, "is not a known task"),
    (ESCAPE, {"task.name": 3}, "[task] name must be the name of a task, got int: 3"),
    (ESCAPE, {"task.x0": GONE}, "[task] the key 'x0' is missing, which 'escape_times' needs"),
    (ESCAPE, {"task.x0": "left"}, "[task] x0 must be a number or a list of numbers, got str: 'left'"),
    (ESCAPE, {"task.x0": [0.0, 0.0]}, "[task] x0"),
    (ESCAPE, {"task.x0": [0.6]}, "[task] x0 = [0.6] is not inside Region(halfspace([1.0], 0.5)): g = 0.1, must be < 0"),
    (ESCAPE, {"task.walls": [[-0.5, 2.0, "reflecting"]]}, "[task] "),
    (TASKS["mean_exit_time"][0], {"task.at": [0.7]}, "[task] the start [0.7] is not inside Region(halfspace([1.0], 0.5))"),
    (TASKS["mean_exit_time"][0], {"task.at": [-3.0]}, "[task] the point [-3.0] lies outside the grid"),
    (TASKS["mean_exit_time"][0], {"region.c": -4.0}, "[task] halfspace([1.0], -4) contains no cell centre"),
    (TASKS["evolve"][0], {"task.rho0": ["gausian", [0.0], [[1.0]]]}, "[task] rho0 must be a Density"),
    (TASKS["evolve"][0], {"task.rho0": [1.0, 2.0]}, "[task] rho0 must have the shape (40,) of the grid, got (2,)"),
    (ESCAPE, {"task.m": 10}, "[task] unknown key 'm' of 'escape_times'"),
    (ESCAPE, {"task.n": 10.5}, "[task] n must be an integer, got float: 10.5"),
    (ESCAPE, {"task.n": 0}, "[task] n must be >= 1, got 0"),
    (ESCAPE, {"task.n": 2**70}, "is an integer of more than 64 bits"),
    (ESCAPE, {"task.dt": -0.1}, "[task] dt must be a finite number > 0, got -0.1"),
    (ESCAPE, {"task.dt": GONE}, "[task] dt is missing"),
    (ESCAPE, {"task.method": "eular"}, "[task] unknown method 'eular'"),
    (TASKS["multilevel_splitting"][0], {"task.runs": 2}, "[task] runs must be >= 3, got 2"),
    (ESCAPE, {"task.seed": 3}, "[task] seed is not a key here: it belongs to [run]"),
    (ESCAPE, {"task.checkpoint": "a"}, "[task] checkpoint is not a key here: it belongs to [run]"),
    (ESCAPE, {"task.region": "a"}, "[task] region is not a key here: it is made from the table [region]"),
    (ESCAPE, {"task.walls": "grd"}, "[task] walls must be the text 'grid' (the table [grid]) or a list of values, got str: 'grd'"),
    (ESCAPE, {"task.walls": "grid"}, "the table [grid] is missing, which the task escape_times needs"),
    (asked("kramers_rate", WELL, minimum=[-1.0], saddle=[0.0]), {"task.exit": "beyound"},
     "[task] exit = 'beyound' is not known; did you mean 'beyond'?"),
    (asked("current", {**CHAIN, **GRID}), {}, "[task] name = 'current' is not a question to a TransitionKernel"),
    (ESCAPE, {"run.seed": -1}, "[run] seed must be >= 0, got -1"),
    (ESCAPE, {"run.seed": "x"}, "[run] seed must be an integer, got str: 'x'"),
    (ESCAPE, {"run.sed": 1}, "[run] unknown key 'sed'; did you mean 'seed'?"),
    (ESCAPE, {"run.threads": 0}, "[run] threads must be >= 1, got 0"),
    (ESCAPE, {"run.out": "../a.h5"}, "[run] out = '../a.h5' leads out of the folder"),
    (ESCAPE, {"run.out": "/etc/passwd"}, "[run] out = '/etc/passwd' leads out of the folder"),
    (ESCAPE, {"run.out": "~/a.h5"}, "[run] out = '~/a.h5' leads out of the folder"),
    (ESCAPE, {"run.out": "a/../../b"}, "leads out of the folder"),
    (ESCAPE, {"run.out": "C:\\a.h5"}, "leads out of the folder"),
    (ESCAPE, {"run.out": ""}, "[run] out = '' is not the name of an HDF5 file"),
    (ESCAPE, {"run.out": "setup.cfg"}, "[run] out = 'setup.cfg' is not the name of an HDF5 file; give one that ends in .h5"),
    (ESCAPE, {"run.out": "a\0b.h5"}, "is not the name of an HDF5 file"),
    (ESCAPE, {"run.checkpoint": "/tmp/a"}, "[run] checkpoint = '/tmp/a' leads out of the folder"),
    (STAT, {"run": {"checkpoint": "a.h5"}}, "[run] checkpoint: the task stationary keeps none"),
    (ESCAPE, {"run.checkpoint_every": 0.0}, "[run] checkpoint_every must be > 0 seconds"),
    (ESCAPE, {"sweep": {"axes": {}}}, "[sweep.axes] is empty"),
    (ESCAPE, {"sweep": {}}, "[sweep] the key 'axes' is missing"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": []}}}, "[sweep.axes] noise.D has no values"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": 0.5}}},
     "[sweep.axes] noise.D must be a list of values or {start, stop, num}, got float"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": [0.5, "a"]}}}, "[noise] D must be a number, got str: 'a'"),
    (ESCAPE, {"sweep": {"axes": {"task.dt": [0.1, 0.2], "noise.D": [0.5, 1.0, -1.0]}}}, "[noise] D must be"),
    (ESCAPE, {"sweep": {"axes": {"noise.d": [0.5]}}}, "[noise] unknown key 'd' of 'isotropic'; did you mean 'D'?"),
    (ESCAPE, {"sweep": {"axes": {"nose.D": [0.5]}}}, "unknown table [nose]; did you mean 'noise'?"),
    (ESCAPE, {"sweep": {"axes": {"noise.D.x": [0.5]}}}, "noise.D is 0.5, which has no part 'x'"),
    (ESCAPE, {"sweep": {"axes": {"task.x0.3": [0.5]}}}, "task.x0 is a list of 1 values; give 0 ... 0, not '3'"),
    (ESCAPE, {"sweep": {"axes": {"potential.params.k": [0.5]}}}, "unknown key 'params' in potential"),
    (ESCAPE, {"sweep": {"axes": {"sweep.seed": [1]}}}, "an axis is a key of another table, not of [sweep]"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": {"start": 0.1, "stop": 1.0}}}}, "[sweep.axes] noise.D: the key 'num' is missing"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": {"start": 0.1, "stop": 1.0, "num": 0}}}}, "num must be from 1 to 1000000, got 0"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": {"start": 0.0, "stop": 1.0, "num": 3, "scale": "log"}}}},
     "needs start and stop > 0, got 0.0 and 1.0"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": {"start": 0.0, "stop": 1.0, "num": 3, "scale": "lin"}}}},
     "scale = 'lin' is not known; did you mean 'linear'?"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": {"start": 0.0, "stop": 1.0, "nun": 3}}}}, "unknown key 'nun'; did you mean 'num'?"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": [0.1]}, "replicates": 0}}, "[sweep] replicates must be >= 1, got 0"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": [0.1]}, "replicate": 2}},
     "[sweep] unknown key 'replicate'; did you mean 'replicates'?"),
    (ESCAPE, {"sweep": {"axes": {"noise.D": [0.1]}, "out": "/x"}}, "[sweep] out = '/x' leads out of the folder"),
    (TRAIN, {"network.widths": GONE}, "[network] the key 'widths' is missing"),
    (TRAIN, {"network.activation": "reloo"}, "[network] "),
    (TRAIN, {"data.name": "spirl"}, "[data] unknown data set 'spirl'"),
    (TRAIN, {"training.lr": -1.0}, "[training] "),
    (TRAIN, {"training.steps": GONE}, "[training] give exactly one of epochs and steps"),
    (TRAIN, {"training.seed": 1}, "[training] unknown key 'seed'"),
    (TRAIN, {"training.resume": "run.h5"}, "[training] unknown key 'resume'"),
    (TRAIN, {"noise": {"D": 1.0}}, "the table [noise] is not used by the task train"),
    (TRAIN, {"netwok": {}}, "unknown table [netwok]; did you mean 'network'?"),
    (TRAIN, {"record.weights": 3}, "[record] weights must be a text or a list of texts, got int: 3"),
    ({"task": {"name": "claim"}}, {}, "[task] the key 'claim' is missing, which 'claim' needs"),
    ({"task": {"name": "claim", "claim": "brownian-exti"}}, {},
     "[task] claim: no claim or group is called 'brownian-exti'; did you mean 'brownian-exit'?"),
    ({"task": {"name": "claim", "claim": "kramers"}}, {}, "[task] claim = 'kramers' is a group; name one of its claims"),
]  # fmt: skip


def changed(tables, changes):
    tables = copy.deepcopy(tables)
    for key, value in changes.items():
        *way, last = key.split(".")
        at = tables
        for part in way:
            at = at.setdefault(part, {})
        at[last] = value
        if value is GONE:
            del at[last]
    return tables


def test_there_are_many_wrong_configs():
    assert len(WRONG) >= 60


@pytest.mark.parametrize("i", range(len(WRONG)), ids=lambda i: f"{i}-{'-'.join(WRONG[i][1]) or 'whole'}")
def test_a_wrong_config_is_a_clear_error(i, validation):
    tables, changes, message = WRONG[i]
    with pytest.raises((ValueError, TypeError)) as caught:
        read_config(changed(tables, changes)).check()
    text = str(caught.value)
    assert message in text
    assert text.startswith("config")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[noise]\nD = \n", r"config.toml is not valid TOML: .*line 2"),
        ("[noise]\nD = 1\nD = 2\n", r"is not valid TOML: .*line 3"),
        ("[noise\nD = 1", r"is not valid TOML: .*line 1"),
        ("[task]\nname = 'x'\n[noise]\nD = 1979-05-27\n", r"config.toml: noise.D must be a number, .*got date"),
        ("", r"config.toml: the table \[task\] is missing"),
        ("a = " + "[" * 2000 + "]" * 2000, r"config.toml"),
    ],
)
def test_errors_of_files_name_the_file_and_the_line(written, text, message):
    with pytest.raises((ValueError, TypeError), match=message):
        read_config(written(text))


def test_files_that_are_no_configs(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the config absent.toml does not exist"):
        read_config("absent.toml")
    with pytest.raises(ValueError, match="is not a file"):
        read_config(tmp_path)
    with pytest.raises(TypeError, match="a config is the path of a TOML file or a dict"):
        read_config(3)
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"a.toml is not a text file in UTF-8"):
        read_config(tmp_path / "a.toml")
    fps.save(tmp_path / "a.h5", fps.Estimate(1.0))
    with pytest.raises(ValueError, match=r"a.h5 stores no config"):
        read_config(tmp_path / "a.h5")
    (tmp_path / "c.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ValueError, match=r"the config stored in .*c.h5 cannot be read"):
        read_config(tmp_path / "c.h5")
    for text, message in (
        ("{", "cannot be read"),
        ("[1]", "it is no table"),
        (3, "it is no table"),
        ({"a": 1}, "stores no config"),
    ):
        fps.io.save_tree(tmp_path / "b.h5", {"config": text})
        with pytest.raises(ValueError, match=message):
            read_config(tmp_path / "b.h5")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"noise": 3}, "noise stands outside of the tables"),
        ({"": 3}, "'' is not a dotted key"),
        ({"noise.": 3}, "'noise.' is not a dotted key"),
        ({3: 3}, "3 is not a dotted key"),
        ({"regions.a.r": 3}, r"the table \[regions\] is not used"),
        ({"noise.D": object()}, "must be a number, a text"),
        ({"noise.D.e": 3}, "has no part 'e'"),
        ({"nois.D": 3}, r"unknown table \[nois\]; did you mean 'noise'"),
        ({"task.x0.x": 3}, "task.x0 is a list of 1 values"),
        ([("noise.D", 3)], "values must be a dict of dotted keys"),
    ],
)
def test_what_cannot_be_replaced(values, message):
    with pytest.raises((ValueError, TypeError), match=message):
        read_config(ESCAPE).replaced(values)


def test_nothing_is_executed(tmp_path):
    trap = tmp_path / "trap"
    for place in ("potential.expression", "noise.kind", "task.name", "region.kind", "task.method", "process.kind"):
        with pytest.raises((ValueError, TypeError)):
            read_config(changed(ESCAPE, {place: f"open({str(trap)!r}, 'w')"})).check()
    assert not trap.exists()


def test_no_key_takes_a_path():
    """Files stand in [run] and [sweep] only, where they are confined."""
    for name in _config_tables.known_tasks():
        task = _config_tables.find_task(name, "")
        for function, hidden in task.plugin.tables.values() if task.plugin is not None else [(task.form.function, frozenset())]:
            paths = {n for n, text in getattr(function, "__annotations__", {}).items() if "PathLike" in str(text)}
            assert not paths & set(keys_of(function, frozenset(hidden)))


WORDS = st.sampled_from(["potential", "noise", "grid", "task", "run", "sweep", "axes", "kind", "name", "D", "x0", "n", "expression",
                         "params", "region", "regions", "process", "a", "", "0", "é"])  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), WORDS,
    st.sampled_from(["chain", "drift", "isotropic", "stationary", "escape_times", "x**2", "grid", 1e300, 2**63, -1, 0]),
)  # fmt: skip
TREES = st.recursive(
    LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=4)), max_leaves=12
)


@settings(max_examples=150)
@given(tables=st.dictionaries(WORDS, TREES, max_size=5))
def test_any_dict_is_read_or_refused(tables):
    with contextlib.suppress(ValueError, TypeError):
        read_config(tables)


@settings(max_examples=150)
@given(
    base=st.sampled_from([ESCAPE, STAT, COMMIT, {**CHAIN, **GRID, "task": {"name": "stationary"}}]),
    place=st.sampled_from(["potential.expression", "potential.params", "noise.kind", "noise.D", "region", "region.c", "region.n",
                           "grid.axes", "grid.boundary", "task.x0", "task.n", "task.dt", "task.walls", "run.seed", "run.out",
                           "solver.scheme", "solver.order", "process", "process.kind", "sweep.axes", "regions.a.c", "task"]),
    value=TREES,
)  # fmt: skip
def test_one_wrong_place_is_refused_or_in_order(base, place, value):
    message = "config"
    try:
        config = read_config(changed(base, {place: value}))
        config.check()
    except (ValueError, TypeError) as error:
        message = str(error)
    else:
        assert read_config(config.as_dict()) == config
    assert message.startswith("config")


@pytest.mark.parametrize(("word", "known", "text"), [("d", ["D"], "; did you mean 'D'?"), ("q", [], "; known are none")])
def test_nearest(word, known, text):
    assert nearest(word, known) == text
