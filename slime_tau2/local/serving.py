"""`slime-tau2 serve`: checks its options, loads a model, says that it listens, and serves it until interrupted."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

from aiohttp import web

from slime_tau2.errors import ConfigError
from slime_tau2.local.engine import Engine
from slime_tau2.local.server import Server


def exit_with_parent(parent: int) -> None:
    """End this process when the one that started it is gone (kill -9 included, and also before this call)."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _check_device(device: str | None) -> None:
    import torch

    try:
        kind = torch.device(device or "cpu").type
    except RuntimeError as error:
        raise ConfigError(f"--device {device}: there are cpu and cuda (cuda:1 for the second GPU)") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"--device {device}: this torch sees no GPU; leave --device out, or install a CUDA build of torch"
        )


def serve(
    model_path: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 30000,
    device: str | None = None,
    threads: int = 1,
    with_parent: int | None = None,
) -> None:
    """Load a model and serve it until interrupted.

    Args:
        threads: torch's.
        with_parent: the id of the process that started this one; the server ends with it.

    Raises:
        ConfigError: there is no such port, device or number of threads, the port is in use, or the directory holds no
            model.
    """
    if not 1 <= port <= 65535:
        raise ConfigError(f"--port {port}: a port is a number from 1 to 65535")
    if threads < 1:
        raise ConfigError(f"--threads {threads}: torch needs at least 1")

    import torch

    from slime_tau2.local.models import load_model, load_weights
    from slime_tau2.tokenizer import load_tokenizer

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another --port or stop what holds it"
            ) from error
    _check_device(device)
    if with_parent is not None:
        exit_with_parent(with_parent)
    torch.set_num_threads(threads)
    tokenizer = load_tokenizer(model_path)
    model = load_model(model_path, device)
    engine = Engine(model, tokenizer.eos_token_id)
    server = Server(engine, tokenizer, str(model_path), lambda path: load_weights(model, Path(path)))
    announcement = (
        f"serving {model_path} at http://{host}:{port}, context length {model.config.max_position_embeddings}; "
        "Ctrl-C stops it"
    )
    web.run_app(
        server.app(),
        host=host,
        port=port,
        print=lambda _: print(announcement, flush=True),
        access_log=None,
        handle_signals=True,
        handler_cancellation=True,
    )
