"""Generate the Python of `src/adyton/protocol/messages/*.proto`: `python tools/generate_messages.py [OUTPUT_FOLDER]`.

protoc stamps its own version into what it writes, and the runtime then refuses to be older than that. The stamp is set
to the oldest versions that `pyproject.toml` allows instead: that those work is checked by running the tests with them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"
MESSAGES = Path("adyton/protocol/messages")
OLDEST_PROTOBUF = (6, 33, 0)
OLDEST_GRPCIO = "1.78.0"
SERVICES = ("bidding_auction_servers", "inference", "kv_server_v2")


def generate(output: Path) -> list[Path]:
    """Write the generated modules under `output`, which mirrors `src`, and give back their paths."""
    from grpc_tools import protoc

    protos = sorted((SOURCE / MESSAGES).glob("*.proto"))
    names = [str(MESSAGES / proto.name) for proto in protos]
    wanted = [f"--python_out={output}", f"--pyi_out={output}"]
    _run(protoc, [*wanted, *names])
    _run(protoc, [f"--grpc_python_out={output}", *(name for name in names if Path(name).stem in SERVICES)])
    written = sorted((output / MESSAGES).glob("*_pb2*.py*"))
    for path in written:
        path.write_text(_with_oldest_versions(path.read_text()))
    return written


def _run(protoc: object, arguments: list[str]) -> None:
    code = protoc.main(["protoc", f"-I{SOURCE}", f"-I{_well_known_types()}", *arguments])  # type: ignore[attr-defined]
    if code != 0:
        raise SystemExit(f"protoc failed with exit code {code}")


def _well_known_types() -> Path:
    import grpc_tools

    return Path(grpc_tools.__file__).parent / "_proto"


def _with_oldest_versions(text: str) -> str:
    major, minor, patch = OLDEST_PROTOBUF
    text = re.sub(r"# Protobuf Python Version: .*", f"# Protobuf Python Version: {major}.{minor}.{patch}", text)
    text = re.sub(
        r"(_runtime_version\.Domain\.PUBLIC,\n)    \d+,\n    \d+,\n    \d+,\n",
        rf"\g<1>    {major},\n    {minor},\n    {patch},\n",
        text,
    )
    return re.sub(r"GRPC_GENERATED_VERSION = '.*'", f"GRPC_GENERATED_VERSION = '{OLDEST_GRPCIO}'", text)


if __name__ == "__main__":
    destination = Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE
    sys.stderr.write("\n".join(map(str, generate(destination))) + "\n")
