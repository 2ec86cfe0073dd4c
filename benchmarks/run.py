"""What framesrv and snapd cost, measured on this machine: ``python benchmarks/run.py all``.

Every figure stands beside another way of doing the same, measured in the same run and in turns with it, so that noise
falls on both. Targets are printed, not enforced: the exit status says only whether the measuring worked.
"""

import importlib
import json
import signal
import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # from a checkout, installed or not

from benchmarks.measures import machine, plot, table
from benchmarks.measures.process import BenchmarkError

# modules of this package, each with a function run(seconds) that gives a table.Report
BENCHMARKS = (
    *("segment", "readers", "decode", "snapshot", "processes", "scale", "idle"),
    *("viewers", "history", "fleet", "inference"),
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", type=click.Choice([*BENCHMARKS, "all"]))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.option(
    "--seconds",
    type=click.FloatRange(1, 600),
    default=10.0,
    show_default=True,
    help="How long each thing is measured.",
)
@click.option(
    "--plot",
    "plots",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Draw charts as PNG files there. Needs framesrv[plot].",
)
def main(name: str, as_json: bool, seconds: float, plots: Path | None) -> None:
    """Measure framesrv and snapd beside other ways of doing the same.

    \b
    segment   taking, waking and writing through shared memory, beside bare system calls and copies
    readers   one to sixteen readers and cameras, in Python and C, beside bare futexes and copies
    decode    CPU time and memory of a camera by policy, beside PyAV, cv2 and ffmpeg on the same stream
    snapshot  from a request to its callback by stage, beside other ways; requests a second
    processes requests a second and the CPU time of each, by one, two and four processes of snapd
    scale     how many cameras this machine carries, by policy
    idle      snapshots of 10 to 250 cameras on demand that nobody watches, beside decoding on for two seconds
    history   keeping the packets of a camera on demand, beside not; a frame of then, beside decoding it by hand
    viewers   requests while twenty watch a stream, beside the same with nobody
    fleet     what a request costs Redis with 1 to 500 hosts, routed, beside a consumer group for each
    inference motion in three cameras, by the example of the documents, beside cv2.VideoCapture in threads

    Needs Linux and the packages of framesrv[test]; ffmpeg stands beside where it is installed. Everything runs on
    this machine, on free ports; all of it takes less than half an hour.

    \b
    Examples:
        python benchmarks/run.py segment --seconds 5
        python benchmarks/run.py all --json --plot plots > figures.json
    """  # noqa: D301  click wants the character
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that everything is cleaned up
    names = BENCHMARKS if name == "all" else (name,)
    try:
        if plots:
            plot.check()
        modules = [importlib.import_module(f"benchmarks.measures.{one}") for one in names]
        reports = [module.run(seconds) for module in modules]
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from error
    if plots:
        for path in plot.draw([chart for report in reports for chart in report.charts], plots):
            click.echo(f"{path} drawn", err=True)
    if as_json:
        click.echo(
            json.dumps(
                {"machine": machine.describe(), "reports": [report.to_json() for report in reports]},
                ensure_ascii=False,
                indent=2,
            )
        )
    else:
        click.echo(machine.sentence() + "\n")
        click.echo(table.render(reports))


if __name__ == "__main__":
    main()
