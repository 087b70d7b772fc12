"""Which runs went wrong: the term, stage, rank and step, and what led up to it.

Reads a running service with ``penaltyscope.client``, which needs neither torch nor numpy.

    python examples/first_findings.py http://127.0.0.1:4318
"""

import argparse
from collections.abc import Iterator

from penaltyscope.client import Client, FirstFinding, Run

STEPS_BEFORE = 5


def main() -> None:
    """Prints a paragraph for each run that has a finding."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:4318")
    parser.add_argument("--token", help="with the scope read")
    parser.add_argument("--ca-file", help="authorities of the service's certificate (PEM)")
    arguments = parser.parse_args()
    with Client(arguments.url, token=arguments.token, ca_file=arguments.ca_file) as client:
        for run in client.runs():
            if run.first_nonfinite is not None:
                print("\n".join(told(client, run, run.first_nonfinite)))


def told(client: Client, run: Run, first: FirstFinding) -> Iterator[str]:
    """The finding, and the term's last values before it."""
    yield (
        f"{run.run} ({run.state}): {first.kind} in the {first.stage} of {first.term}, "
        f"step {first.step}, rank {first.rank}; {run.nonfinite_steps} of {run.steps} evaluations"
    )
    series = client.series(
        run.run,
        pipeline=first.pipeline,
        rank=first.rank,
        term=first.term,
        quantity="value",
        to_step=first.step,
        points=100_000,
    )
    for line in series.series:
        for step, value in list(zip(line.step, line.value, strict=True))[-STEPS_BEFORE:]:
            yield f"    step {step}: {value:g}"


if __name__ == "__main__":
    main()
