"""Writes the dashboards that Grafana loads: ``python -m dashboards.build [FOLDER]``."""

import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import runs


def main(folder: Path) -> None:
    """Writes them all."""
    encoder = JSONEncoder(sort_keys=True, indent=2)
    path = folder / f"{runs.UID}.json"
    path.write_text(encoder.encode(runs.build()) + "\n", encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
