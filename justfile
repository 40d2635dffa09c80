# `just` lists the recipes. CI and pre-commit call the same ones.

set positional-arguments

default:
    @just --list

# Make .venv with everything that development needs.
devenv:
    python3 -m venv .venv
    .venv/bin/pip install -e '.[dev]'

# Everything a change must pass: format, lint, types, quick tests.
check: lint types test

lint:
    ruff format --check .
    ruff check .

types:
    mypy

# Quick tests; `just test tests/unit/kernel` for a part.
test *args:
    pytest -q "$@"

# Slow tests: many processes, the whole demo, hostile code.
test-slow *args:
    pytest -q -m slow "$@"

fix:
    ruff check --fix .
    ruff format .

# What torch's CUDA builds need: left to torch itself, like torch (docs/adr/0005).
torch_and_its_own := "torch cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx triton"

# Resolve the lock files again: hashes, no index addresses.
lock:
    @just _lock requirements.lock
    @just _lock requirements-dev.lock --extra dev

_lock file *extra:
    @UV_FIND_LINKS="${PIP_FIND_LINKS:-}" uv pip compile pyproject.toml {{extra}} --universal --python-version 3.11 --upgrade \
        --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command 'just lock' \
        $(printf -- '--no-emit-package %s ' {{torch_and_its_own}}) --quiet -o {{file}}

# Make the protobuf modules again from their .proto files.
protos:
    python tools/generate_messages.py

# Make the generated reference pages again.
pages:
    python tools/auction_config_reference.py

demo *args:
    adyton demo "$@"
