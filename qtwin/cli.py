"""The command line. Heavy packages are imported when a command needs them, so that help answers at once."""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from qtwin import __version__
from qtwin.core.errors import UserError
from qtwin.core.folders import find_conf, options

EXAMPLES = """examples:
  qtwin benchmark                                        the default comparison
  qtwin benchmark tissue=cortex tissue.thickness=1mm     another medium, another thickness
  qtwin benchmark scene.file=photo.png                   an image of your own
  qtwin benchmark -m tissue.thickness=50um,100um,1mm     a sweep, one run per value
  qtwin benchmark 'tissue.mu_a="0.1 /cm"'                quotes around special characters
  qtwin benchmark --cfg job                              show the configuration, run nothing
  qtwin transport tissue=skin wavelength=810nm photons=1e6
  qtwin source source=ppktp collection=fibre collection.signal_waist=40um
  qtwin source -m source=ppktp,spdc_bbo source.crystal_length=2mm,10mm source.waist=50um,200um
  qtwin correlate record.ptu                             rates, delay, g2, CAR, dead times of measured time tags
  qtwin correlate record.ptu channels=[0,2] window=2ns
  qtwin map x=camera.efficiency y=optics.ambient y_range=[0Hz,50kHz]   where the advantage is 1
  qtwin design design.free=[source.waist,source.crystal_length]   the best set-up at a fixed dose, by gradient
  qtwin calibrate data=bell.csv model=bell               efficiencies, rates, visibilities from measured counts
  qtwin validate --quick                                 the body of evidence, in two minutes
  qtwin info tissue=cortex                               every parameter, with its reference
  qtwin collect multirun/benchmark/2026-01-31_12-00-00   the table, arrays and page of a sweep
"""
COMMANDS = {
    "source": "a source of light: figures of merit, tuning, usable pairs into an aperture or a fibre",
    "benchmark": "compare quantum and classical imaging at the same photon budget",
    "design": "the parameters that make one arm best at a fixed dose, by gradient: how sure, how far they may move",
    "map": "the expected advantage over any two parameters, and where it is 1",
    "calibrate": "fit named parameters of a model to measured numbers: values, intervals, what cannot be told",
    "validate": "recompute the published numbers the twin rests on: what passes, fails, is skipped",
    "transport": "carry light through tissue: fractions, curves, their errors and derivatives",
    "correlate": "what a file of time tags says: rates, delay, correlation, CAR, efficiencies, dead times, drift",
    "info": "print every parameter with its value and reference, and the versions",
    "collect": "one table, one file of arrays and one page of a sweep",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UserError(f"{message} (see {self.prog} --help)")


def _overlays(config_dir: str | None) -> list[Path]:
    """Folders of options before the project's own: `--config-dir`, then `conf` in the current folder."""
    own = Path("conf")
    here = [own] if own.is_dir() and own.resolve() != find_conf().resolve() else []
    return ([Path(config_dir)] if config_dir else []) + here


def _groups(folders: Sequence[Path]) -> str:
    lines = [f"  {group}: {', '.join(names)}" for group, names in options(*folders).items()]
    return "\n".join(["groups and their options (group=option):", *lines])


def _parser(prog: str, description: str) -> _Parser:
    text = f"{_groups([find_conf(), *_overlays(None)])}\n\n{EXAMPLES}"
    kind = argparse.RawDescriptionHelpFormatter
    return _Parser(prog=prog, description=description, epilog=text, formatter_class=kind, allow_abbrev=False)


def _common(prog: str, description: str) -> _Parser:
    parser = _parser(prog, description)
    parser.add_argument("overrides", nargs="*", help="group=option, key=value, +key=value, ~key")
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="folder whose options are added and win")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0, 2 for a mistake of the user (one line on stderr), 130 when interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv or os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        return _command(argv)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:  # the reader of a pipe has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        line = str(error) if isinstance(error, UserError) else _explain(error)
        if debug or line is None:
            raise
        return _complain(f"error: {line}", 2)


def _complain(text: str, code: int) -> int:
    print(f"qtwin: {text}", file=sys.stderr)
    return code


def _explain(error: Exception) -> str | None:
    from qtwin.core.explain import explain

    return explain(error)


def _command(argv: list[str]) -> int:
    parser = _parser("qtwin", "A differentiable digital twin of quantum imaging.")
    parser.add_argument("--version", action="version", version=f"qtwin {__version__}")
    parser.add_argument("command", help="; ".join(f"{name}: {what}" for name, what in COMMANDS.items()))
    if not argv:
        parser.print_help()
        return 0
    command = parser.parse_args(argv[:1]).command
    if command in ("source", "benchmark", "design", "map", "calibrate", "transport", "correlate"):
        return _jobs(command, argv[1:])
    if command == "validate":
        return _validate(argv[1:])
    if command == "info":
        return _info(argv[1:])
    if command == "collect":
        return _collect(argv[1:])
    raise UserError(f"unknown command {command!r}, accepted are {', '.join(COMMANDS)}")


def _info(argv: list[str]) -> int:
    args = _common("qtwin info", COMMANDS["info"]).parse_intermixed_args(argv)
    from qtwin.core.config import overlay
    from qtwin.info import info
    from qtwin.sweep import prepare

    prepare()

    folders = _overlays(args.config_dir)
    with overlay(*folders):
        print(info(args.overrides))
    print(_groups([find_conf(), *folders]))
    return 0


def _validate(argv: list[str]) -> int:
    """Exit code 1 where a case fails."""
    parser = _Parser(prog="qtwin validate", description=COMMANDS["validate"], allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="formulas and small Monte Carlo only, within two minutes")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="cases whose name or file holds a word")
    parser.add_argument("--out", metavar="DIR", help="where result.json and report.html go (outputs/validate/<time>)")
    parser.add_argument("--cases", metavar="DIR", help="a folder of cases of your own, instead of the project's")
    parser.add_argument("--data", metavar="DIR", help="folder of measured data (QTWIN_REFERENCE_DATA)")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    args = parser.parse_args(argv)
    from qtwin.sweep import prepare

    prepare()
    from qtwin.report.validation import validate  # makes arrays of the precision that is now set

    return validate(not args.quick, args.only, args.out, args.cases, args.data)


def _collect(argv: list[str]) -> int:
    parser = _Parser(prog="qtwin collect", description=COMMANDS["collect"], allow_abbrev=False)
    parser.add_argument("folder", help="of a sweep: multirun/<command>/<time>")
    parser.add_argument("--out", metavar="DIR", help="where table.csv, arrays.h5 and report.html go (that folder)")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    args = parser.parse_args(argv)
    from qtwin.sweep import prepare

    prepare()
    from qtwin.report.collect import collect

    return collect(args.folder, args.out)


def _jobs(command: str, argv: list[str]) -> int:
    """A command that Hydra runs, once or for every point of a sweep."""
    parser = _common(f"qtwin {command}", COMMANDS[command])
    parser.add_argument("--multirun", "-m", action="store_true", help="sweep over values separated by commas")
    parser.add_argument("--cfg", choices=["job", "hydra", "all"], help="print the configuration, run nothing")
    parser.add_argument("--resolve", action="store_true", help="with --cfg: interpolations resolved")
    parser.add_argument("--package", "-p", help="with --cfg: only this part")
    args = parser.parse_intermixed_args(argv)
    import hydra

    from qtwin import sweep
    from qtwin.core.config import VERSION_BASE, overlay
    from qtwin.sweep import Failures

    flags = [f"--{name}" for name in ("multirun", "resolve") if getattr(args, name)]
    flags += [f"--{name}={value}" for name in ("cfg", "package") if (value := getattr(args, name))]
    folders = _overlays(args.config_dir)
    with overlay(*folders):
        overrides = _files(command, args.overrides)
    Failures.forget()
    run = hydra.main(version_base=VERSION_BASE, config_path=str(find_conf()), config_name=command)(
        getattr(sweep, command)
    )
    try:
        with (
            overlay(*folders),
            _hydra_reads(["qtwin", *flags, "--", *overrides, *sweep.arguments(overrides)]),
        ):
            run()
        lines = Failures.report()
    except OSError as error:
        if error.errno is None or isinstance(error, BrokenPipeError):  # Hydra's own errors have no number
            raise
        # what is read has errors of its own: this is about what is written
        what = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        key = "hydra.sweep.dir" if args.multirun else "hydra.run.dir"
        raise UserError(f"{key}: {what}; accepted is a folder that can be written and has room") from error
    for line in lines:
        _complain(f"error: {line}", 2)
    return 2 if lines else 0


def _files(command: str, overrides: Sequence[str]) -> list[str]:
    """A file by its name alone: `scene.file=photo.png` chooses its scene, and a record is `file=...`."""
    from qtwin.core.config import completed

    if command != "correlate":
        return completed(overrides, command)
    first, rest = (list(overrides) or [""])[0], list(overrides[1:])
    if not first or (re.match(r"[+~]*[a-z_./@]+=", first) and not Path(first).exists()):
        return list(overrides)
    quoted = first.replace("\\", "\\\\").replace('"', '\\"')
    return [f'file="{quoted}"', *rest]


@contextmanager
def _hydra_reads(argv: list[str]) -> Iterator[None]:
    """Hydra reads its arguments from the process; it raises its errors instead of printing them."""
    full, before = os.environ.get("HYDRA_FULL_ERROR"), sys.argv
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = argv, "1"
    try:
        yield
    finally:
        sys.argv = before
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


if __name__ == "__main__":
    sys.exit(main())
