"""`python -m tests.support.hub FOLDER`: serve `FOLDER/org/name/...` by hand, and print what is asked."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tests.support.hub import Noise, repo, start_hub


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.hub", description=__doc__)
    parser.add_argument("root", type=Path, nargs="?", help="folder with org/name/... below it")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--noise", type=int, metavar="MIB", help="add noise/model with noise-Q4_K_M.gguf of so many MiB")
    parser.add_argument("--throttle", type=float, metavar="MB_PER_S", help="per connection")
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--tls", action="store_true", help="https with a certificate of its own authority")
    chosen = parser.parse_args()
    extra = (
        [repo("noise/model", {"noise-Q4_K_M.gguf": Noise(chosen.noise << 20), "README.md": b"noise\n"})] if chosen.noise else []
    )
    rate = chosen.throttle * 1e6 if chosen.throttle else None
    with start_hub(
        chosen.root, repos=extra, port=chosen.port, throttle_bytes_per_s=rate, latency_s=chosen.latency, tls=chosen.tls
    ) as hub:
        print(f"export HF_ENDPOINT={hub.url}" + (f" SSL_CERT_FILE={hub.ca_file}" if hub.ca_file else ""))
        print(f"# {', '.join(hub.repos)}; ModelScope at {hub.modelscope_url}; Ctrl-C ends it", flush=True)
        shown = 0
        while True:
            time.sleep(0.5)
            requests = hub.log.all()
            for one in requests[shown:]:
                print(
                    f"{one.face:10} {one.status} {one.method} {one.target.partition('?')[0]} {one.headers.get('range', '')}",
                    flush=True,
                )
            shown = len(requests)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print()
